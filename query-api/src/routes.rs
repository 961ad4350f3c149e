//! The contents page of the query API: every route, and the document that describes them.

mod content;
mod downloads;
mod export;
mod history;
mod parked;
mod pieces;
mod projections;
mod reports;
mod sites;
mod stats;

use axum::{Router, extract::DefaultBodyLimit, routing::options};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components, OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, cors};

/// Questions about visits are short.
const QUESTION: usize = 256 * 1024;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Annals: query API",
        description = "Read models over HTTP. Every query takes `Annals-Position` (several joined with commas) and \
            `Prefer: wait=SECONDS`, and is then answered from tables that have it. Errors are problem+json (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Key),
    tags(
        (name = "sites"),
        (name = "content", description = "Posts, projects, ideas, pages and résumés"),
        (name = "downloads", description = "A tenant's queue"),
        (name = "statistics", description = "Visits of a site"),
        (name = "operation", description = "For operators")
    )
)]
struct Description;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("ann_<keyid>_<secret>")
            .description(Some("An API key; `annals keys create` makes one."))
            .build();
        let components = document.components.get_or_insert_with(Components::new);
        components
            .security_schemes
            .insert("key".to_owned(), SecurityScheme::Http(scheme).into());
    }
}

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(sites::list))
        .routes(routes!(sites::by_domain))
        .routes(routes!(content::list))
        .routes(routes!(pieces::by_id))
        .routes(routes!(pieces::by_slug))
        .routes(routes!(history::history))
        .routes(routes!(downloads::list))
        .routes(routes!(downloads::queue))
        .routes(routes!(downloads::by_id))
        .routes(routes!(stats::realtime))
        .routes(routes!(reports::content))
        .routes(routes!(projections::list))
        .routes(routes!(export::export))
        .routes(routes!(parked::list))
        .routes(routes!(parked::show))
        .routes(routes!(parked::skipped))
        .merge(
            OpenApiRouter::default()
                .routes(routes!(stats::query))
                .routes(routes!(stats::plausible))
                .layer(DefaultBodyLimit::max(QUESTION)),
        )
}

/// The routes of the query API, without what [`service::finish`] puts around them.
pub fn router(app: App) -> Router {
    described()
        .route("/api/v1/content", options(cors::preflight))
        .route(
            "/api/v1/sites/{domain}/content/{kind}/{slug}",
            options(cors::preflight),
        )
        .split_for_parts()
        .0
        .with_state(app)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> Document {
    described().into_openapi()
}
