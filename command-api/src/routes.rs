//! The contents page of the write side's API.

pub mod content;
mod describe;
pub mod downloads;
pub mod event;
pub mod fields;
pub mod imports;
pub mod installation;
pub mod keys;
pub mod log;
pub mod look;
pub mod paths;
pub mod sites;
pub mod subjects;
pub mod subscription;
pub mod tenants;
pub mod view;
pub mod visits;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{options, post},
};
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, forward, visit};

/// The largest body of a command without content, in bytes.
const SMALL: usize = 256 * 1024;
/// The largest body of a command with content: 512 KiB of text may take a few times as much in JSON.
const LARGE: usize = 4 * 1024 * 1024;

/// Every route of the write side, to be finished by [`service::finish`], alone or merged with others.
pub fn router(app: App) -> Router {
    described().split_for_parts().0.with_state(app)
}

/// The write side's API as OpenAPI 3.1. The same lines make the routes, so the two cannot differ.
pub fn openapi() -> OpenApi {
    describe::describe(described().split_for_parts().1)
}

/// What stands in no route.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(service::Problem, service::FieldError)))]
struct Shared;

fn described() -> OpenApiRouter<App> {
    let with_content = OpenApiRouter::new()
        .routes(routes!(content::draft))
        .routes(routes!(content::revise))
        .layer(DefaultBodyLimit::max(LARGE));
    let batches = OpenApiRouter::new()
        .routes(routes!(visits::visits))
        .layer(DefaultBodyLimit::max(visit::batch::BODY_MAX));
    let trackers = OpenApiRouter::new()
        .routes(routes!(event::event))
        .layer(DefaultBodyLimit::max(visit::tracker::BODY_MAX));
    OpenApiRouter::with_openapi(Shared::openapi())
        .routes(routes!(tenants::create))
        .routes(routes!(keys::issue))
        .routes(routes!(keys::revoke, look::key))
        .routes(routes!(look::tenant))
        .routes(routes!(look::import))
        .routes(routes!(subjects::erase))
        .routes(routes!(sites::create))
        .routes(routes!(content::publish))
        .routes(routes!(content::unpublish))
        .routes(routes!(content::archive))
        .routes(routes!(downloads::queue))
        .routes(routes!(downloads::reprioritise))
        .routes(routes!(downloads::reorder))
        .routes(routes!(downloads::cancel))
        .routes(routes!(downloads::retry))
        .routes(routes!(downloads::start))
        .routes(routes!(downloads::complete))
        .routes(routes!(downloads::fail))
        .routes(routes!(imports::start))
        .routes(routes!(imports::complete))
        .routes(routes!(installation::feature_level, installation::raise))
        .routes(routes!(subscription::events))
        .routes(routes!(log::show))
        .routes(routes!(log::verify))
        .routes(routes!(log::records))
        .routes(routes!(view::view))
        .route("/api/event", options(event::preflight))
        .route(forward::USED, post(forward::used))
        .layer(DefaultBodyLimit::max(SMALL))
        .merge(trackers)
        .merge(with_content)
        .merge(batches)
}
