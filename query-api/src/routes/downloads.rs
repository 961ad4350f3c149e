//! `GET /api/v1/downloads`, `/downloads/{id}` and `/downloads/queue`.

use std::str::FromStr;

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use read_models::{
    Projection, Snapshot,
    downloads::{self, Filter, Part},
};
use serde::{Deserialize, Serialize};
use service::{FieldError, Json, Path, Problem, Query, extract::NoParams};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    ask::Ask,
    caller::Right,
    error::Error,
    list::{List, NO_CURSOR, Paging, checked, one_of},
    page::{Audience, Page},
};

/// Which downloads.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// queued, running, completed, failed or cancelled.
    status: Option<String>,
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 20 unless said.
    size: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

/// Which part of the queue.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueParams {
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 20 unless said.
    size: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

/// A download.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Download {
    id: Uuid,
    title: String,
    url: String,
    author: Option<String>,
    format: Option<String>,
    /// What the file must hash to.
    sha256: Option<String>,
    /// A lower number goes first.
    priority: i32,
    /// queued, running, completed, failed or cancelled.
    status: String,
    /// How often a worker took it.
    attempts: i32,
    /// Why the last attempt failed.
    failure: Option<String>,
    /// Bytes of the file that was fetched.
    fetched_size: Option<i64>,
    /// What the fetched file hashes to.
    fetched_sha256: Option<String>,
    queued_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    /// For `If-Match`.
    version: i64,
}

/// Every download of the tenant, the latest queued first.
#[utoipa::path(
    get, path = "/api/v1/downloads", tag = "downloads", operation_id = "list_downloads", security(("key" = [])),
    params(
        Params,
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = List<Download>),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    ask: Ask,
    Query(params): Query<Params>,
) -> Result<(HeaderMap, Json<List<Download>>), Error> {
    let mut faults = Vec::new();
    one_of(
        "status",
        params.status.as_deref(),
        &downloads::STATUSES,
        &mut faults,
    );
    let (part, paging) = part(params.page, params.size, params.after.as_deref(), faults)?;
    let (tenant, headers, tables) = at(&app, &ask, None).await?;
    let filter = Filter {
        tenant,
        status: params.status,
    };
    let rows = downloads::list(&tables, &filter, &part, paging.size + 1).await?;
    let place = |row: &downloads::Download| row.queued().to_string();
    let total = total(&tables, &filter, params.total).await?;
    Ok((headers, page(rows, part, paging, total, place)))
}

/// What waits, in the order in which it will run.
#[utoipa::path(
    get, path = "/api/v1/downloads/queue", tag = "downloads", operation_id = "list_download_queue",
    security(("key" = [])),
    params(
        QueueParams,
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = List<Download>),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn queue(
    State(app): State<App>,
    ask: Ask,
    Query(params): Query<QueueParams>,
) -> Result<(HeaderMap, Json<List<Download>>), Error> {
    let (part, paging) = part(params.page, params.size, params.after.as_deref(), Vec::new())?;
    let (tenant, headers, tables) = at(&app, &ask, None).await?;
    let filter = Filter {
        tenant,
        status: Some("queued".to_owned()),
    };
    let rows = downloads::queue(&tables, tenant, &part, paging.size + 1).await?;
    let place = |row: &downloads::Download| row.turn().to_string();
    let total = total(&tables, &filter, params.total).await?;
    Ok((headers, page(rows, part, paging, total, place)))
}

/// A download of the tenant.
#[utoipa::path(
    get, path = "/api/v1/downloads/{id}", tag = "downloads", operation_id = "get_download", security(("key" = [])),
    params(
        ("id" = Uuid, Path),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that you have"),
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Download, headers(("ETag" = String, description = "The version, as If-Match takes it"))),
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
    let (tenant, _, tables) = at(&app, &ask, Some(&id.to_string())).await?;
    let position = ask.read_at(app.progress(), &[Projection::Downloads]);
    let row = downloads::by_id(&tables, tenant, id).await?;
    let row = row.ok_or_else(|| Problem::not_found("there is no such download"))?;
    let version = row.version;
    let page = Page::versioned(&Download::from(row), version);
    Ok(page.answer(&ask, Audience::Private, position))
}

/// The caller's tenant, where the answer is read, and the tables that have what was asked for.
async fn at(app: &App, ask: &Ask, subject: Option<&str>) -> Result<(Uuid, HeaderMap, Snapshot), Error> {
    let tenant = ask.caller(Right::Read)?.tenant;
    ask.wait(app.progress(), Projection::Downloads, Some(tenant), subject)
        .await?;
    let headers = ask.headers(app.progress(), &[Projection::Downloads]);
    Ok((tenant, headers, app.0.tables.live(Projection::Downloads)?))
}

/// Where the page begins, and how many it has at most.
fn part<P: FromStr>(
    page: Option<u32>,
    size: Option<u32>,
    after: Option<&str>,
    mut faults: Vec<FieldError>,
) -> Result<(Part<P>, Paging), Error> {
    let paging = Paging::checked(page, size, &mut faults);
    let mut part = Part::Skip(paging.skipped() as u64);
    if let Some(text) = after {
        if page.is_some() {
            faults.push(FieldError::new("/page", "does not go with after"));
        }
        match text.parse() {
            Ok(place) => part = Part::After(place),
            Err(_) => faults.push(FieldError::new("/after", NO_CURSOR)),
        }
    }
    checked(faults)?;
    Ok((part, paging))
}

async fn total(tables: &Snapshot, filter: &Filter, wanted: Option<bool>) -> Result<Option<u64>, Error> {
    match wanted {
        Some(false) => Ok(None),
        Some(true) | None => Ok(Some(
            u64::try_from(downloads::count(tables, filter).await?).unwrap_or_default(),
        )),
    }
}

/// A page of rows, of which one more than it has tells that there are more; those follow the last one's place.
fn page<P>(
    mut rows: Vec<downloads::Download>,
    part: Part<P>,
    paging: Paging,
    total: Option<u64>,
    place: impl Fn(&downloads::Download) -> String,
) -> Json<List<Download>> {
    let more = rows.len() > paging.size as usize;
    rows.truncate(paging.size as usize);
    let next = rows.last().filter(|_| more).map(place);
    let number = match part {
        Part::Skip(_) => Some(paging.page),
        Part::After(_) => None,
    };
    let items = rows.into_iter().map(Download::from).collect();
    Json(List::new(items, total, number, paging.size, next))
}

impl From<downloads::Download> for Download {
    fn from(row: downloads::Download) -> Self {
        Self {
            id: row.download,
            title: row.title,
            url: row.url,
            author: row.author,
            format: row.format,
            sha256: row.sha256,
            priority: row.priority,
            status: row.status,
            attempts: row.attempts,
            failure: row.failure,
            fetched_size: row.fetched_size,
            fetched_sha256: row.fetched_sha256,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}
