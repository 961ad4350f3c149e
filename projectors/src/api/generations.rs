//! Generations: what there is, rebuilding beside the live one, the way back, dropping.

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use read_models::{Projection, generation::Known};
use serde::{Deserialize, Serialize};
use service::{Json, Path, Problem};
use utoipa::ToSchema;

use super::{App, caller::Operator, error::Error};
use crate::{generations::drop_generation, run};

/// A generation of a projection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    /// directory, content, downloads, visits or content_facts.
    projection: String,
    generation: i32,
    /// building, live or kept.
    state: String,
    created_at: DateTime<Utc>,
    /// Since when another one answers.
    kept_since: Option<DateTime<Utc>>,
    /// Offsets that are in the tables, summed over its partitions.
    position: i64,
    /// The log's ends as last seen, summed likewise.
    end: i64,
    /// Events that are parked.
    parked: i64,
    /// Of one that is being built.
    rebuild: Option<Rebuild>,
}

/// What is known of a generation that is being built.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rebuild {
    /// Who asked for it, or what has changed.
    why: String,
    /// Events a second at most; none: as fast as it goes.
    rate: Option<i32>,
    paused: bool,
    /// Why it may not answer; none as long as nothing speaks against it.
    failure: Option<String>,
}

/// How a rebuild is begun.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Begin {
    /// Events a second at most; absent: as fast as it goes.
    #[schema(minimum = 1)]
    rate: Option<u32>,
}

/// What is to be changed of a rebuild; absent: as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Steer {
    /// Going on also forgets why it failed, so that it is checked again.
    paused: Option<bool>,
    /// Events a second at most; 0: as fast as it goes.
    rate: Option<u32>,
}

/// What a switch did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Switched {
    /// The generation that answered before.
    from: i32,
    /// The one that answers now.
    to: i32,
}

/// Generations of a projection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generations {
    items: Vec<Generation>,
}

impl From<Known> for Generation {
    fn from(row: Known) -> Self {
        let rebuild = row.why.map(|why| Rebuild {
            why,
            rate: row.rate,
            paused: row.paused,
            failure: row.failure,
        });
        Self {
            projection: row.projection,
            generation: row.generation,
            state: row.state,
            created_at: row.created_at,
            kept_since: row.kept_since,
            position: row.position,
            end: row.log_end,
            parked: row.parked,
            rebuild,
        }
    }
}

pub(super) fn named(projection: &str) -> Result<Projection, Error> {
    let known: Result<Projection, _> = projection.parse();
    known.map_err(|error| Problem::not_found(error.to_string()).into())
}

fn rate(asked: Option<u32>) -> Result<Option<i32>, Error> {
    let wrong = |_| {
        let text = format!("at most {}", i32::MAX);
        Problem::invalid(vec![service::FieldError::new("/rate", text)])
    };
    Ok(asked.map(i32::try_from).transpose().map_err(wrong)?)
}

/// Every generation of a projection: state, position, and how far a rebuild is.
#[utoipa::path(
    get, path = "/api/v1/projections/{projection}/generations", tag = "operation",
    operation_id = "list_generations", security(("key" = [])),
    params(("projection" = String, Path)),
    responses(
        (status = 200, body = Generations),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
) -> Result<Json<Generations>, Error> {
    let projection = named(&projection)?;
    let known = app.control().await?.generations(Some(projection)).await?;
    let items = known.into_iter().map(Generation::from).collect();
    Ok(Json(Generations { items }))
}

/// Builds another generation beside the live one, which goes on answering. When it has come to the log's end and is
/// what the log says, row by row, it answers, and the other is kept for the way back. 409 while one is being built.
#[utoipa::path(
    post, path = "/api/v1/projections/{projection}/rebuild", tag = "operation", operation_id = "begin_rebuild",
    security(("key" = [])), params(("projection" = String, Path)), request_body = Begin,
    responses(
        (status = 202, body = Generation),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn begin(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
    Json(begin): Json<Begin>,
) -> Result<(StatusCode, Json<Generation>), Error> {
    let projection = named(&projection)?;
    let rate = rate(begin.rate)?;
    if rate == Some(0) {
        let wrong = service::FieldError::new("/rate", "at least 1; leave it out for no bound");
        return Err(Problem::invalid(vec![wrong]).into());
    }
    let control = app.control().await?;
    let partitions = app.0.log.partitions(run::topic(projection));
    let fold = run::fold(projection);
    let why = "asked for by an operator";
    let number = control
        .begin_rebuild(projection, partitions, &fold, why, rate)
        .await?;
    tracing::warn!(%projection, generation = number, "a rebuild was asked for");
    let built = app.generation(projection, number).await?;
    Ok((StatusCode::ACCEPTED, Json(built)))
}

/// Pauses a rebuild or goes on with it, or bounds what it may cost.
#[utoipa::path(
    patch, path = "/api/v1/projections/{projection}/rebuild", tag = "operation", operation_id = "steer_rebuild",
    security(("key" = [])), params(("projection" = String, Path)), request_body = Steer,
    responses(
        (status = 200, body = Generation),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn steer(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
    Json(steer): Json<Steer>,
) -> Result<Json<Generation>, Error> {
    let projection = named(&projection)?;
    let rate = rate(steer.rate)?;
    app.control()
        .await?
        .steer_rebuild(projection, steer.paused, rate)
        .await?;
    let number = app.building(projection).await?;
    Ok(Json(app.generation(projection, number).await?))
}

/// Gives a rebuild up: what was built is dropped.
#[utoipa::path(
    delete, path = "/api/v1/projections/{projection}/rebuild", tag = "operation", operation_id = "cancel_rebuild",
    security(("key" = [])), params(("projection" = String, Path)),
    responses(
        (status = 204),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
) -> Result<StatusCode, Error> {
    let projection = named(&projection)?;
    let number = app.building(projection).await?;
    tracing::warn!(%projection, generation = number, "a rebuild is given up");
    drop_generation(app.control().await?, &app.0.rows, projection, number).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Goes back to the generation that answered before. 409 when there is none, or when it is not up to date.
#[utoipa::path(
    post, path = "/api/v1/projections/{projection}/rollback", tag = "operation", operation_id = "rollback",
    security(("key" = [])), params(("projection" = String, Path)),
    responses(
        (status = 200, body = Switched),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn rollback(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
) -> Result<Json<Switched>, Error> {
    let projection = named(&projection)?;
    let control = app.control().await?;
    let Some(before) = control.before(projection).await? else {
        let text = format!("no earlier generation of {projection} is kept");
        return Err(Problem::new(StatusCode::CONFLICT, "nothing-kept", text).into());
    };
    let to = before.generation;
    let from = control.switch(projection, to).await?;
    tracing::warn!(%projection, from, to, "went back to an earlier generation");
    Ok(Json(Switched { from, to }))
}

/// Drops a generation that is kept (one that is being built is given up instead).
#[utoipa::path(
    delete, path = "/api/v1/projections/{projection}/generations/{generation}", tag = "operation",
    operation_id = "drop_generation", security(("key" = [])),
    params(("projection" = String, Path), ("generation" = i32, Path)),
    responses(
        (status = 204),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    _: Operator,
    Path((projection, number)): Path<(String, i32)>,
) -> Result<StatusCode, Error> {
    let projection = named(&projection)?;
    tracing::warn!(%projection, generation = number, "a generation is dropped");
    drop_generation(app.control().await?, &app.0.rows, projection, number).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl App {
    async fn generation(&self, projection: Projection, number: i32) -> Result<Generation, Error> {
        let known = self.control().await?.generations(Some(projection)).await?;
        let found = known.into_iter().find(|it| it.generation == number);
        let gone = read_models::Error::NoGeneration {
            projection,
            generation: number,
        };
        Ok(found.map(Generation::from).ok_or(gone)?)
    }

    /// The generation that is being built.
    async fn building(&self, projection: Projection) -> Result<i32, Error> {
        let known = self.control().await?.generations(Some(projection)).await?;
        let building = known.into_iter().find(|it| it.state == "building");
        let none = read_models::Error::NotBuilding(projection);
        Ok(building.map(|it| it.generation).ok_or(none)?)
    }
}
