//! `GET /api/v1/content/{id}` and `GET /api/v1/sites/{domain}/content/{kind}/{slug}`.

use axum::{
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use read_models::Projection;
use service::{Path, Problem, Query, extract::NoParams};
use uuid::Uuid;

use crate::{
    App,
    ask::Ask,
    cache::Mark,
    caller::{Caller, Right},
    content::{Outcome, Piece},
    cors,
    error::Error,
    page::Audience,
};

/// No slug is longer, nor any kind.
const LONGEST: usize = 200;
/// Addresses longer than this lead nowhere and are not remembered.
const LONGEST_PATH: usize = 1_000;

/// A piece of the tenant, in any status.
#[utoipa::path(
    get, path = "/api/v1/content/{id}", tag = "content", operation_id = "get_content", security(("key" = [])),
    params(
        ("id" = Uuid, Path),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that you have"),
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Piece, headers(("ETag" = String, description = "The version, as If-Match takes it"))),
        (status = 304, description = "You have it"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn by_id(
    State(app): State<App>,
    ask: Ask,
    Path(id): Path<Uuid>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Response, Error> {
    let caller = ask.caller(Right::Read)?;
    let needed = ask
        .fresh(
            app.progress(),
            Projection::Content,
            caller.tenant,
            Some(&id.to_string()),
        )
        .await?;
    let position = ask.read_at(app.progress(), &[Projection::Content]);
    let piece = app.piece(caller.tenant, id, needed).await?.ok_or_else(nothing)?;
    Ok(piece.page.answer(&ask, Audience::Private, position))
}

/// A piece by its address. Without a key only what is published; an old slug leads to the new one.
#[utoipa::path(
    get, path = "/api/v1/sites/{domain}/content/{kind}/{slug}", tag = "content",
    operation_id = "get_content_by_slug", security((), ("key" = [])),
    params(
        ("domain" = String, Path),
        ("kind" = String, Path, description = "post, project, idea, page or resume"),
        ("slug" = String, Path),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that you have"),
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Piece, headers(("ETag" = String, description = "The version, as If-Match takes it"))),
        (status = 301, description = "The piece has another slug now", headers(("Location" = String))),
        (status = 304, description = "You have it"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn by_slug(State(app): State<App>, request: Request) -> Response {
    cors::open(at(&app, request.into_parts().0).await)
}

async fn at(app: &App, mut parts: Parts) -> Result<Response, Error> {
    let ask = &Ask::from_request_parts(&mut parts, app).await?;
    if let Some(query) = parts.uri.query() {
        Query::<NoParams>::from_text(query)?;
    }
    let path = parts.uri.path();
    if path.len() > LONGEST_PATH {
        return Err(nothing());
    }
    // What is hot needs no more than this: no position to wait for, and memory has it.
    if !ask.is_positioned()
        && let Some(outcome) = app.0.slugs.get(path, Mark::now(app.progress()))
    {
        return shown(&outcome, ask, None);
    }
    let params = RawPathParams::from_request_parts(&mut parts, app)
        .await
        .map_err(|_| nothing())?;
    let mut given = params.iter().map(|(_, value)| value);
    let (Some(domain), Some(kind), Some(slug)) = (given.next(), given.next(), given.next()) else {
        return Err(nothing());
    };
    if kind.len() > LONGEST || slug.len() > LONGEST || kind.contains('\0') || slug.contains('\0') {
        return Err(nothing());
    }
    let site = app.site(ask, domain).await?;
    let mut needed = ask
        .fresh(app.progress(), Projection::Content, site.tenant, Some(""))
        .await?;
    let position = ask.read_at(app.progress(), &[Projection::Content]);
    let mut outcome = app
        .address((site.tenant, site.id, &site.domain), (kind, slug), needed)
        .await?;
    if let Outcome::Here(piece) = &outcome
        && ask.is_positioned()
    {
        // Only now it is known which piece it is, so whether an event of it is parked.
        needed = ask
            .fresh(
                app.progress(),
                Projection::Content,
                site.tenant,
                Some(&piece.id.to_string()),
            )
            .await?;
        outcome = app
            .address((site.tenant, site.id, &site.domain), (kind, slug), needed)
            .await?;
    } else if ask.is_positioned() {
        // Nothing there: it may be what a parked event would have brought, of any piece.
        ask.wait(app.progress(), Projection::Content, Some(site.tenant), None)
            .await?;
    }
    shown(&outcome, ask, position)
}

/// What this caller may see of it.
fn shown(outcome: &Outcome, ask: &Ask, position: Option<HeaderValue>) -> Result<Response, Error> {
    match outcome {
        Outcome::Absent => {
            if let Some(caller) = ask.caller {
                caller.must(Right::Read)?;
            }
            Err(nothing())
        }
        Outcome::Here(piece) => {
            let audience = audience(ask.caller, piece.tenant, piece.public)?;
            Ok(piece.page.answer(ask, audience, position))
        }
        Outcome::Moved {
            tenant,
            public,
            location,
        } => {
            let audience = audience(ask.caller, *tenant, *public)?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, location.clone());
            // Another piece may take the old slug: the way is asked for each time.
            headers.insert(header::CACHE_CONTROL, audience.cache_control());
            headers.insert(header::VARY, HeaderValue::from_static("authorization"));
            Ok(response)
        }
    }
}

fn audience(caller: Option<Caller>, tenant: Uuid, public: bool) -> Result<Audience, Error> {
    match caller {
        None if public => Ok(Audience::Public),
        None => Err(nothing()),
        Some(caller) => {
            caller.must(Right::Read)?;
            if caller.tenant == tenant {
                Ok(Audience::Private)
            } else {
                Err(nothing())
            }
        }
    }
}

pub(super) fn nothing() -> Error {
    Problem::not_found("there is no such content").into()
}
