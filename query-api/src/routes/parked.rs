//! `GET /api/v1/parked`, one of it, and `GET /api/v1/skipped`: events that cannot be projected, and those that somebody
//! let be passed over, for operators and, of their tenant, for admins. Trying again and passing over is the projectors'
//! business.

use axum::extract::State;
use chrono::{DateTime, Utc};
use read_models::{
    Projection,
    parking::{
        seen_to::{self, Shown, Which},
        skipped,
    },
};
use serde::{Deserialize, Serialize};
use service::{FieldError, Json, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    ask::Ask,
    caller::Right,
    error::Error,
    list::{List, Paging},
};

/// Events of one aggregate that are shown at most.
const MOST: i64 = 1_000;

/// An aggregate with an event that cannot be projected.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Parked {
    /// directory, content, downloads, visits or content_facts.
    projection: String,
    generation: i32,
    /// Whose it is; nil where nobody can tell.
    tenant: Uuid,
    /// The aggregate: its id as text.
    subject: String,
    /// Where the event stands: `<topic>/<partition>`.
    partition: String,
    offset: i64,
    /// Place in its record, from 0.
    index: i32,
    /// Its name on the wire.
    event: String,
    /// Why it cannot be projected.
    reason: String,
    /// How often it was tried.
    attempts: i32,
    parked_at: DateTime<Utc>,
    tried_at: DateTime<Utc>,
    /// Events that wait, that one included.
    events: i64,
}

/// An aggregate with every event that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParkedEvents {
    #[serde(flatten)]
    parked: Parked,
    /// In the order of the log; at most 1,000.
    waiting: Vec<Waiting>,
}

/// An event that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Waiting {
    offset: i64,
    index: i32,
    event: String,
}

/// An event that is passed over, in every generation, because somebody said so.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Skipped {
    /// directory, content, downloads, visits or content_facts.
    projection: String,
    /// Whose it is; nil where nobody can tell.
    tenant: Uuid,
    /// The aggregate: its id as text.
    subject: String,
    /// Where the event stands: `<topic>/<partition>`.
    partition: String,
    offset: i64,
    /// Place in its record, from 0.
    index: i32,
    /// Its name on the wire.
    event: String,
    /// Why it could not be projected.
    reason: String,
    /// The public half of the key of who said so.
    by: String,
    /// Why, in that person's words.
    why: String,
    skipped_at: DateTime<Utc>,
}

/// Which are shown.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// directory, content, downloads, visits or content_facts; all when absent.
    projection: Option<String>,
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 20 unless said.
    size: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

/// Of which of several.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTenant {
    /// Whose; for operators, where several tenants have an aggregate of that name.
    tenant: Option<Uuid>,
}

impl From<Shown> for Parked {
    fn from(row: Shown) -> Self {
        Self {
            projection: row.projection,
            generation: row.generation,
            tenant: row.tenant,
            subject: row.subject,
            partition: format!("{}/{}", row.topic, row.partition),
            offset: row.since,
            index: row.event_index,
            event: row.event_type,
            reason: row.reason,
            attempts: row.attempts,
            parked_at: row.parked_at,
            tried_at: row.tried_at,
            events: row.events,
        }
    }
}

impl From<skipped::Skipped> for Skipped {
    fn from(row: skipped::Skipped) -> Self {
        Self {
            projection: row.projection,
            tenant: row.tenant,
            subject: row.subject,
            partition: format!("{}/{}", row.topic, row.partition),
            offset: row.offset,
            index: row.event_index,
            event: row.event_type,
            reason: row.reason,
            by: row.skipped_by,
            why: row.why,
            skipped_at: row.skipped_at,
        }
    }
}

impl Asked {
    /// Of what, which page of it, and how many are before that.
    fn read(&self, tenant: Option<Uuid>) -> Result<(Which<'static>, Paging, i64), Error> {
        let mut faults = Vec::new();
        let paging = Paging::of_numbers(self.page, self.size, self.after.as_deref(), &mut faults);
        let projection: Option<Projection> = match self.projection.as_deref().map(str::parse).transpose() {
            Ok(projection) => projection,
            Err(_) => {
                let known: Vec<_> = Projection::ALL.iter().map(|it| it.name()).collect();
                faults.push(FieldError::new(
                    "/projection",
                    format!("one of {}", known.join(", ")),
                ));
                None
            }
        };
        if !faults.is_empty() {
            return Err(Problem::invalid(faults).into());
        }
        let which = Which {
            tenant,
            projection,
            subject: None,
        };
        let skip = i64::try_from(paging.skipped()).unwrap_or(i64::MAX);
        Ok((which, paging, skip))
    }

    /// How many there are, if that is wanted.
    async fn counted(
        &self,
        count: impl Future<Output = Result<i64, read_models::Error>>,
    ) -> Result<Option<u64>, Error> {
        match self.total {
            Some(false) => Ok(None),
            Some(true) | None => Ok(Some(count.await?.unsigned_abs())),
        }
    }
}

/// Events that cannot be projected, by aggregate, the latest first. An operator sees all, an admin the tenant's.
#[utoipa::path(
    get, path = "/api/v1/parked", tag = "operation", operation_id = "list_parked", security(("key" = [])),
    params(Asked),
    responses(
        (status = 200, body = List<Parked>),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    ask: Ask,
    Query(asked): Query<Asked>,
) -> Result<Json<List<Parked>>, Error> {
    let tenant = ask.caller(Right::Administer)?.administers();
    let (which, paging, skip) = asked.read(tenant)?;
    let reader = &app.0.tables;
    let total = asked.counted(seen_to::count(reader, which)).await?;
    let rows = seen_to::list(reader, which, paging.size, skip).await?;
    let items = rows.into_iter().map(Parked::from).collect();
    Ok(Json(List::numbered(items, total, paging)))
}

/// One aggregate with an event that cannot be projected, and what waits behind it.
#[utoipa::path(
    get, path = "/api/v1/parked/{projection}/{subject}", tag = "operation", operation_id = "show_parked",
    security(("key" = [])),
    params(("projection" = String, Path), ("subject" = String, Path, description = "the aggregate"), OfTenant),
    responses(
        (status = 200, body = ParkedEvents),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn show(
    State(app): State<App>,
    ask: Ask,
    Path((projection, subject)): Path<(String, String)>,
    Query(asked): Query<OfTenant>,
) -> Result<Json<ParkedEvents>, Error> {
    let tenant = ask.caller(Right::Administer)?.administers().or(asked.tenant);
    let nothing = || Problem::not_found("nothing of that is parked");
    let projection: Projection = projection.parse().map_err(|_| nothing())?;
    let which = Which {
        tenant,
        projection: Some(projection),
        subject: Some(&subject),
    };
    let reader = &app.0.tables;
    let found = seen_to::list(reader, which, 1, 0).await?;
    let row = found.into_iter().next().ok_or_else(nothing)?;
    let waiting = seen_to::waiting(reader, &row, MOST).await?;
    let waiting = waiting.into_iter().map(|it| Waiting {
        offset: it.offset,
        index: it.event_index,
        event: it.event_type,
    });
    Ok(Json(ParkedEvents {
        waiting: waiting.collect(),
        parked: Parked::from(row),
    }))
}

/// Events that are passed over because somebody said so, the latest first. An operator sees all, an admin the tenant's.
#[utoipa::path(
    get, path = "/api/v1/skipped", tag = "operation", operation_id = "list_skipped", security(("key" = [])),
    params(Asked),
    responses(
        (status = 200, body = List<Skipped>),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn skipped(
    State(app): State<App>,
    ask: Ask,
    Query(asked): Query<Asked>,
) -> Result<Json<List<Skipped>>, Error> {
    let tenant = ask.caller(Right::Administer)?.administers();
    let (which, paging, skip) = asked.read(tenant)?;
    let reader = &app.0.tables;
    let total = asked.counted(skipped::count(reader, which)).await?;
    let rows = skipped::list(reader, which, paging.size, skip).await?;
    let items = rows.into_iter().map(Skipped::from).collect();
    Ok(Json(List::numbered(items, total, paging)))
}
