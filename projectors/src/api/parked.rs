//! Parked events: trying again and passing over. (What is parked is shown by the query side.)

use axum::extract::State;
use read_models::parking::seen_to::Skip;
use serde::{Deserialize, Serialize};
use service::{FieldError, Json, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{App, caller::Operator, error::Error, generations::named};
use crate::{
    run,
    runner::retry::{Outcome, Request, Retrier},
};

/// Whose aggregate it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The tenant; needed only where several have an aggregate of that id.
    tenant: Option<Uuid>,
}

/// Why an event is passed over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// In your words, 3 to 500 characters; it is kept with who you are.
    #[schema(min_length = 3, max_length = 500)]
    why: String,
    /// The event that you looked at, which must still be the first that waits: offset of its record. With `index`.
    offset: Option<u64>,
    /// Its place in that record, from 0.
    index: Option<u32>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tried {
    /// Events that were folded or passed over.
    done: u64,
    /// Why the first of the others still cannot be projected; none when nothing of it is parked any more.
    parked: Option<String>,
}

impl From<Outcome> for Tried {
    fn from(Outcome { done, parked }: Outcome) -> Self {
        Self { done, parked }
    }
}

/// Tries the parked events of an aggregate again, in order, in every generation of this release.
#[utoipa::path(
    post, path = "/api/v1/parked/{projection}/{subject}/retry", tag = "operation", operation_id = "retry_parked",
    security(("key" = [])),
    params(("projection" = String, Path), ("subject" = String, Path, description = "the aggregate"), Whose),
    responses(
        (status = 200, body = Tried),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn retry(
    State(app): State<App>,
    Operator(by): Operator,
    Path((projection, subject)): Path<(String, String)>,
    Query(whose): Query<Whose>,
) -> Result<Json<Tried>, Error> {
    app.see_to(&projection, &subject, whose.tenant, (&by, None)).await
}

/// Lets the first parked event of an aggregate be passed over, now and in every later generation, and tries those
/// behind it. Who did it, and why, is kept.
#[utoipa::path(
    post, path = "/api/v1/parked/{projection}/{subject}/skip", tag = "operation", operation_id = "skip_parked",
    security(("key" = [])),
    params(("projection" = String, Path), ("subject" = String, Path, description = "the aggregate"), Whose),
    request_body = Why,
    responses(
        (status = 200, body = Tried),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn skip(
    State(app): State<App>,
    Operator(by): Operator,
    Path((projection, subject)): Path<(String, String)>,
    Query(whose): Query<Whose>,
    Json(Why { why, offset, index }): Json<Why>,
) -> Result<Json<Tried>, Error> {
    if !(3..=500).contains(&why.chars().count()) || why.contains('\0') {
        let wrong = FieldError::new("/why", "3 to 500 characters that say why");
        return Err(Problem::invalid(vec![wrong]).into());
    }
    if offset.is_some() != index.is_some() {
        let missing = if offset.is_none() { "/offset" } else { "/index" };
        let wrong = FieldError::new(missing, "is missing: an event is told by both");
        return Err(Problem::invalid(vec![wrong]).into());
    }
    let skip = Skip {
        by: &by,
        why: &why,
        event: offset.zip(index),
    };
    app.see_to(&projection, &subject, whose.tenant, (&by, Some(skip)))
        .await
}

impl App {
    async fn see_to(
        &self,
        projection: &str,
        subject: &str,
        tenant: Option<Uuid>,
        (by, skip): (&str, Option<Skip<'_>>),
    ) -> Result<Json<Tried>, Error> {
        let projection = named(projection)?;
        let control = self.control().await?;
        let hash = control.fold_hash(projection, &run::fold(projection)).await?;
        let retrier = Retrier {
            log: self.0.log.clone(),
            control: control.clone(),
            rows: self.0.rows.clone(),
        };
        let request = Request {
            projection,
            subject,
            tenant,
            skip,
        };
        let outcome = retrier.retry(request, &hash).await?;
        let why = skip.map_or("", |skip| skip.why);
        let skipped = skip.is_some();
        tracing::warn!(%projection, subject, skipped, by, why, done = outcome.done, parked = outcome.parked, "saw to what was parked");
        Ok(Json(outcome.into()))
    }
}
