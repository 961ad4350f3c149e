//! `GET /api/v1/content/{id}/history`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use read_models::{
    Projection,
    content::history::{self, AsOf, Entry, Part},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::{FieldError, Json, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::pieces::nothing;
use crate::{
    App,
    ask::Ask,
    caller::Right,
    error::Error,
    list::{List, NO_CURSOR, Paging, checked},
};

/// How far a clock of ours may be behind another.
const AHEAD: chrono::Duration = chrono::Duration::seconds(5);

/// Which part of a history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// Gives the piece as it was at this version instead of the list.
    version: Option<i64>,
    /// Gives the piece as it was at this time instead of the list: a time of RFC 3339 that has passed.
    at: Option<String>,
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 20 unless said.
    size: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

/// One version of a piece.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    /// From 1.
    version: i64,
    /// What happened, such as `content.revised.v1`.
    event: String,
    at: DateTime<Utc>,
    /// The principal that did it; of a scheduled publication, who scheduled it.
    actor: Option<Uuid>,
    /// Names of the fields that it set.
    changed: Vec<String>,
    /// Status from this version on.
    status: String,
}

/// A piece as it was at one version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PastPiece {
    id: Uuid,
    /// The domain of its site.
    site: String,
    kind: String,
    #[serde(flatten)]
    change: Change,
    title: String,
    slug: String,
    summary: Option<String>,
    tags: Vec<String>,
    featured: bool,
    language: Option<String>,
    #[schema(value_type = Object)]
    metadata: Value,
    /// Markdown.
    body: String,
    /// The body as HTML that may stand in any page.
    html: String,
    published_at: Option<DateTime<Utc>>,
    scheduled_at: Option<DateTime<Utc>>,
}

/// The versions of a piece, or the piece as it was at one of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described: the two answers are written apart")]
pub(crate) enum History {
    /// Without `version` and `at`.
    Versions(List<Change>),
    /// With one of them.
    Version(Box<PastPiece>),
}

/// Every version of a piece: when, who, what changed. With `version` or `at`, the piece as it was then.
#[utoipa::path(
    get, path = "/api/v1/content/{id}/history", tag = "content", operation_id = "get_content_history",
    security(("key" = [])),
    params(
        ("id" = Uuid, Path),
        Params,
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = History),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn history(
    State(app): State<App>,
    ask: Ask,
    Path(id): Path<Uuid>,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let tenant = ask.caller(Right::Read)?.tenant;
    let mut faults = Vec::new();
    let paging = Paging::checked(params.page, params.size, &mut faults);
    let after = after(&params, &mut faults);
    let time = time(&params, &mut faults);
    checked(faults)?;
    ask.wait(
        app.progress(),
        Projection::Content,
        Some(tenant),
        Some(&id.to_string()),
    )
    .await?;
    let headers = ask.headers(app.progress(), &[Projection::Content]);
    let tables = app.0.tables.live(Projection::Content)?;
    let version = match time {
        Some(time) => Some(
            history::version_at(&tables, tenant, id, time)
                .await?
                .ok_or_else(nothing)?,
        ),
        None => params.version,
    };
    if let Some(version) = version {
        let row = history::version(&tables, tenant, id, version).await?;
        let row = row.ok_or_else(|| Problem::not_found(format!("there is no version {version} of it")))?;
        let site = app.domain(tenant, row.site).await?;
        let html = app.html(tenant, row.body.clone()).await?;
        return Ok((headers, Json(PastPiece::new(row, site, html))).into_response());
    }
    let part = Part {
        after: after.unwrap_or(0),
        skip: paging.skipped() as u64,
        // One more than asked for tells whether there is more.
        size: paging.size + 1,
    };
    let mut rows = history::history(&tables, tenant, id, part).await?;
    let with_total = params.total.unwrap_or(true);
    // A page beyond the end is empty; a piece that is not there is another matter.
    let mut total = None;
    if with_total || rows.is_empty() {
        let count = u64::try_from(history::count(&tables, tenant, id).await?).unwrap_or_default();
        if count == 0 {
            return Err(nothing());
        }
        total = Some(count).filter(|_| with_total);
    }
    let more = rows.len() > paging.size as usize;
    rows.truncate(paging.size as usize);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|row| format!("v{}", row.version));
    let page = after.is_none().then_some(paging.page);
    let items = rows.into_iter().map(Change::from).collect();
    let list = List::new(items, total, page, paging.size, next);
    Ok((headers, Json(list)).into_response())
}

/// The time that is asked for. A client's clock, or that of the process that took its command, may go before ours.
fn time(params: &Params, faults: &mut Vec<FieldError>) -> Option<DateTime<Utc>> {
    let text = params.at.as_deref()?;
    if params.version.is_some() {
        faults.push(FieldError::new("/at", "does not go with version"));
    }
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc));
    match time {
        Err(_) => faults.push(FieldError::new(
            "/at",
            "is a time of RFC 3339, as in 2026-11-21T16:03:00Z",
        )),
        Ok(time) if time > Utc::now() + AHEAD => {
            faults.push(FieldError::new("/at", "is in the future: nobody knows yet"));
        }
        Ok(_) => {}
    }
    time.ok()
}

/// The version that a cursor stands behind: a history only grows at its end.
fn after(params: &Params, faults: &mut Vec<FieldError>) -> Option<i64> {
    let text = params.after.as_deref()?;
    let version = text.strip_prefix('v').and_then(|version| version.parse().ok());
    if version.is_none() {
        faults.push(FieldError::new("/after", NO_CURSOR));
    } else if params.page.is_some() {
        faults.push(FieldError::new("/page", "does not go with after"));
    }
    version
}

impl From<Entry> for Change {
    fn from(row: Entry) -> Self {
        let Entry {
            version,
            event,
            at,
            actor,
            changed,
            status,
        } = row;
        Self {
            version,
            event,
            at,
            actor,
            changed,
            status,
        }
    }
}

impl PastPiece {
    fn new(row: AsOf, site: String, html: String) -> Self {
        let change = Change {
            version: row.version,
            event: row.event,
            at: row.at,
            actor: row.actor,
            changed: row.changed,
            status: row.status,
        };
        Self {
            id: row.content,
            site,
            kind: row.kind,
            change,
            title: row.title,
            slug: row.slug,
            summary: row.summary,
            tags: row.tags,
            featured: row.featured,
            language: row.language,
            metadata: row.metadata,
            body: row.body,
            html,
            published_at: row.published_at,
            scheduled_at: row.scheduled_at,
        }
    }
}
