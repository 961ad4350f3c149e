//! Generations: what there is, rebuilding beside the live one, the way back, dropping.
//!
//! A little longer than a file should be: each route with its description for the OpenAPI document.

use std::time::{Duration, Instant};

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use read_models::{
    Projection, Writer,
    generation::{Known, frozen},
};
use serde::{Deserialize, Serialize};
use service::{FieldError, Json, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use super::{App, caller::Operator, error::Error, until::Until};
use crate::{generations::drop_generation, run};

/// How often the way back is tried again while the live generation runs ahead.
const AGAIN: usize = 3;

/// How long it is waited, holding nobody up, until a generation is where the live one was, and how often that is
/// looked at.
const COMING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// A generation of a projection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    /// directory, content, downloads, visits or content_facts.
    projection: String,
    generation: i32,
    /// building, live, kept, freezing or frozen.
    state: String,
    created_at: DateTime<Utc>,
    /// Since when another one answers.
    kept_since: Option<DateTime<Utc>>,
    /// Offsets that are in the tables, summed over its partitions.
    position: i64,
    /// The log's ends as last seen, summed likewise; of one that is cut, its cuts.
    end: i64,
    /// Events that are parked.
    parked: i64,
    /// Of one that is being built.
    rebuild: Option<Rebuild>,
    /// Of one that stays at a place in the log.
    frozen: Option<Frozen>,
}

/// What is known of a generation that stays at a place in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Frozen {
    /// The schema (in ClickHouse the database) of the views in which analysts find it when it is frozen.
    name: String,
    /// The position or time that was asked for.
    until: String,
    /// For each partition the first offset that is left out; none while a time's places are still to be found.
    cut: Option<Vec<i64>>,
}

/// What is known of a generation that is being built.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rebuild {
    /// Who asked for it, or what has changed.
    why: String,
    /// Events a second at most; none: as fast as it goes.
    rate: Option<i32>,
    paused: bool,
    /// Why it may not answer, or be frozen; none as long as nothing speaks against it.
    failure: Option<String>,
}

/// How a rebuild is begun.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Begin {
    /// Events a second at most; absent: as fast as it goes.
    #[schema(minimum = 1)]
    rate: Option<u32>,
    /// Builds it as it was then, beside the live one for good: an `Annals-Position`, or a time of RFC 3339. What was
    /// committed later is left out; of visits, what was recorded later, whenever it happened. A position says how far
    /// in the partitions that it names; the others are left out (join several with commas).
    until: Option<String>,
    /// With until: what it is called, such as `content_at` or `content_at_2026_11`.
    into: Option<String>,
}

/// Which of those that are being built.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The name of one that was begun with until; absent: the one that is to be live.
    into: Option<String>,
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
        let (cuts, found) = (row.cuts, row.until_time.is_none());
        let frozen = row.name.zip(row.until).map(|(name, until)| Frozen {
            name,
            until,
            cut: found.then_some(cuts),
        });
        Self {
            frozen,
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
        Problem::invalid(vec![FieldError::new("/rate", text)])
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
/// With `until` and `into` it is built as of a position or a time: it never answers and never follows the log, is
/// checked likewise, and then stands in views of that name until it is dropped.
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
        let wrong = FieldError::new("/rate", "at least 1; leave it out for no bound");
        return Err(Problem::invalid(vec![wrong]).into());
    }
    let until = Until::read(
        &app.0.log,
        projection,
        begin.until.as_deref(),
        begin.into.as_deref(),
    )
    .await?;
    let number = app.begin(projection, until, rate).await?;
    tracing::warn!(%projection, generation = number, "a rebuild was asked for");
    let built = app.generation(projection, number).await?;
    Ok((StatusCode::ACCEPTED, Json(built)))
}

/// Pauses a rebuild or goes on with it, or bounds what it may cost.
#[utoipa::path(
    patch, path = "/api/v1/projections/{projection}/rebuild", tag = "operation", operation_id = "steer_rebuild",
    security(("key" = [])), params(("projection" = String, Path), Which), request_body = Steer,
    responses(
        (status = 200, body = Generation),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn steer(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
    Query(which): Query<Which>,
    Json(steer): Json<Steer>,
) -> Result<Json<Generation>, Error> {
    let projection = named(&projection)?;
    let rate = rate(steer.rate)?;
    let number = app.building(projection, &which).await?;
    app.control()
        .await?
        .steer_rebuild(projection, number, steer.paused, rate)
        .await?;
    Ok(Json(app.generation(projection, number).await?))
}

/// Gives a rebuild up: what was built is dropped.
#[utoipa::path(
    delete, path = "/api/v1/projections/{projection}/rebuild", tag = "operation", operation_id = "cancel_rebuild",
    security(("key" = [])), params(("projection" = String, Path), Which),
    responses(
        (status = 204),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
    Query(which): Query<Which>,
) -> Result<StatusCode, Error> {
    let projection = named(&projection)?;
    let number = app.building(projection, &which).await?;
    tracing::warn!(%projection, generation = number, "a rebuild is given up");
    app.drop(projection, number).await?;
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
    let mut again = AGAIN;
    let from = loop {
        come(control, projection, to).await?;
        match control.switch(projection, to).await {
            // The live one has gone on meanwhile; between two attempts its writer is let go.
            Err(read_models::Error::Behind { .. }) if again > 0 => again -= 1,
            outcome => break outcome?,
        }
    };
    tracing::warn!(%projection, from, to, "went back to an earlier generation");
    Ok(Json(Switched { from, to }))
}

/// Waits until a generation is as far as the live one is now. One that nobody fills any more never is.
async fn come(control: &Writer, projection: Projection, generation: i32) -> Result<(), read_models::Error> {
    let live = control.live(projection).await?;
    let goals = control.positions(projection, live).await?;
    let until = Instant::now() + COMING;
    loop {
        let reached = control.positions(projection, generation).await?;
        if reached.len() == goals.len() && reached.iter().zip(&goals).all(|(reached, goal)| reached >= goal) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(read_models::Error::Behind {
                projection,
                generation,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Drops a generation that is kept or frozen (one that is being built is given up instead).
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
    app.drop(projection, number).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl App {
    /// Begins to build a generation beside the others: one that is to be live, or to be frozen.
    async fn begin(
        &self,
        projection: Projection,
        until: Option<Until>,
        rate: Option<i32>,
    ) -> Result<i32, Error> {
        let control = self.control().await?;
        let partitions = self.0.log.partitions(run::topic(projection));
        let fold = run::fold(projection);
        let why = "asked for by an operator";
        let Some(Until { name, text, cut }) = until else {
            return Ok(control
                .begin_rebuild(projection, partitions, &fold, why, rate)
                .await?);
        };
        match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => {}
            Projection::Visits | Projection::ContentFacts => {
                if self.0.rows.has_frozen(name.as_str()).await? {
                    return Err(read_models::Error::NameTaken(name.to_string()).into());
                }
            }
        }
        let freeze = frozen::Freeze {
            projection,
            partitions,
            fold: &fold,
            name: &name,
            until: &text,
            cut: &cut,
            why,
            rate,
        };
        Ok(control.begin_freeze(&freeze).await?)
    }

    /// Drops a generation in both stores, and the views in which it was shown.
    async fn drop(&self, projection: Projection, number: i32) -> Result<(), Error> {
        let control = self.control().await?;
        match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => {}
            Projection::Visits | Projection::ContentFacts => {
                if let Some(name) = control.name_of(projection, number).await? {
                    self.0.rows.hide_frozen(&name).await?;
                }
            }
        }
        Ok(drop_generation(control, &self.0.rows, projection, number).await?)
    }

    async fn generation(&self, projection: Projection, number: i32) -> Result<Generation, Error> {
        let known = self.control().await?.generations(Some(projection)).await?;
        let found = known.into_iter().find(|it| it.generation == number);
        let gone = read_models::Error::NoGeneration {
            projection,
            generation: number,
        };
        Ok(found.map(Generation::from).ok_or(gone)?)
    }

    /// The generation that is being built: the one of that name, or the one that is to be live.
    async fn building(&self, projection: Projection, which: &Which) -> Result<i32, Error> {
        let known = self.control().await?.generations(Some(projection)).await?;
        let building = known
            .into_iter()
            .find(|it| it.is_built() && it.name == which.into);
        let none = read_models::Error::NotBuilding(projection);
        Ok(building.map(|it| it.generation).ok_or(none)?)
    }
}
