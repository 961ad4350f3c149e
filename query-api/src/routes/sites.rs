//! `GET /api/v1/sites`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use read_models::{
    Projection,
    directory::{self, Part},
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
    list::{List, NO_CURSOR, Paging, checked},
    site::{LONGEST, no_site},
};

/// So many are on a page when nobody says a size: the list once had no pages, and who asks for it as it was then gets
/// all that a tenant is likely to have.
const UNSAID: u32 = 1_000;

/// Which part of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 1,000 are on a page unless said.
    size: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

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

/// Sites of the tenant, by domain.
#[utoipa::path(
    get, path = "/api/v1/sites", tag = "sites", operation_id = "list_sites", security(("key" = [])),
    params(
        Params,
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
    Query(params): Query<Params>,
) -> Result<(HeaderMap, Json<List<Site>>), Error> {
    let (part, page, size) = part(&params)?;
    let caller = ask.caller(Right::Read)?;
    ask.wait(app.progress(), Projection::Directory, Some(caller.tenant), None)
        .await?;
    let headers = ask.headers(app.progress(), &[Projection::Directory]);
    let tables = app.0.tables.live(Projection::Directory)?;
    // One more than a page has tells whether there is more.
    let mut rows = directory::sites(&tables, caller.tenant, &part, size + 1).await?;
    let total = match params.total {
        Some(false) => None,
        Some(true) | None => {
            Some(u64::try_from(directory::count_sites(&tables, caller.tenant).await?).unwrap_or_default())
        }
    };
    let more = rows.len() > size as usize;
    rows.truncate(size as usize);
    let next = rows.last().filter(|_| more).map(|row| row.domain.clone());
    let items = rows.into_iter().map(Site::from).collect();
    Ok((headers, Json(List::new(items, total, page, size, next))))
}

/// Where the page begins, its number, and how many it has at most. Its cursor is the last domain that was shown.
fn part(params: &Params) -> Result<(Part, Option<u32>, u32), Error> {
    let mut faults = Vec::new();
    let number = Paging::checked(params.page, params.size, &mut faults).page;
    let size = params.size.unwrap_or(UNSAID);
    let skip = u64::from(number.saturating_sub(1)) * u64::from(size);
    let (part, page) = match &params.after {
        None => (Part::Skip(skip), Some(number)),
        Some(domain) => {
            if params.page.is_some() {
                faults.push(FieldError::new("/page", "does not go with after"));
            }
            if domain.len() > LONGEST || domain.contains('\0') {
                faults.push(FieldError::new("/after", NO_CURSOR));
            }
            (Part::After(domain.clone()), None)
        }
    };
    checked(faults)?;
    Ok((part, page, size))
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
