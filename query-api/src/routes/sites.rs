//! `GET /api/v1/sites`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use read_models::{Projection, directory};
use serde::Serialize;
use service::{Json, Path, Problem, Query, extract::NoParams};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{App, ask::Ask, caller::Right, error::Error, list::List, site::no_site};

/// A site of the tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Site {
    pub id: Uuid,
    /// Unique in the whole installation.
    pub domain: String,
    pub name: Option<String>,
    /// IANA name; days of its statistics are days there.
    pub timezone: String,
    pub created_at: DateTime<Utc>,
    pub version: i64,
}

/// Every site of the tenant.
#[utoipa::path(
    get, path = "/api/v1/sites", tag = "sites", operation_id = "list_sites", security(("key" = [])),
    params(
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = List<Site>),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    ask: Ask,
    Query(NoParams {}): Query<NoParams>,
) -> Result<(HeaderMap, Json<List<Site>>), Error> {
    let caller = ask.caller(Right::Read)?;
    ask.wait(app.progress(), Projection::Directory, Some(caller.tenant), None)
        .await?;
    let headers = ask.headers(app.progress(), &[Projection::Directory]);
    let tables = app.0.tables.live(Projection::Directory)?;
    let rows = directory::sites(&tables, caller.tenant).await?;
    Ok((
        headers,
        Json(List::whole(rows.into_iter().map(Site::from).collect())),
    ))
}

/// A site of the tenant.
#[utoipa::path(
    get, path = "/api/v1/sites/{domain}", tag = "sites", operation_id = "get_site", security(("key" = [])),
    params(
        ("domain" = String, Path),
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Site),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn by_domain(
    State(app): State<App>,
    ask: Ask,
    Path(domain): Path<String>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<(HeaderMap, Json<Site>), Error> {
    let caller = ask.caller(Right::Read)?;
    let known = app.site(&ask, &domain).await?;
    ask.wait(app.progress(), Projection::Directory, Some(caller.tenant), None)
        .await?;
    let headers = ask.headers(app.progress(), &[Projection::Directory]);
    let tables = app.0.tables.live(Projection::Directory)?;
    let row = directory::site_by_domain(&tables, &known.domain).await?;
    let row = row.ok_or_else(no_site)?;
    Ok((headers, Json(Site::from(row))))
}

impl From<directory::Site> for Site {
    fn from(row: directory::Site) -> Self {
        Self {
            id: row.site,
            domain: row.domain,
            name: row.name,
            timezone: row.timezone,
            created_at: row.created_at,
            version: row.version,
        }
    }
}
