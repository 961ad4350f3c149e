//! `GET /api/v1/projections`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use read_models::status::{self, PartitionStatus};
use serde::Serialize;
use service::{Json, Problem, Query, extract::NoParams};
use utoipa::ToSchema;

use crate::{App, ask::Ask, caller::Right, error::Error, list::List};

/// A generation of a projection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Generation {
    /// directory, content, downloads, visits or content_facts.
    projection: String,
    generation: i32,
    /// building, live, kept, freezing or frozen.
    state: String,
    /// What verification in the background has found; none before it has looked.
    verified: Option<Verified>,
    partitions: Vec<Partition>,
}

/// What came of comparing a generation with the log, slice by slice.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verified {
    /// Rows that were not what the log says when last looked at: `annals verify` names them.
    differing: i64,
    /// When a slice was last compared.
    looked_at: DateTime<Utc>,
    /// When the last round over all slices ended.
    whole_at: Option<DateTime<Utc>>,
    /// Rows that were compared in that round.
    rows: Option<i64>,
}

/// How far it has come in one partition of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Partition {
    /// directory, ledger or visits.
    topic: String,
    partition: i32,
    /// The first offset that is not in the tables.
    position: i64,
    /// The log's end, as last seen.
    end: i64,
    /// Records that are not in the tables yet.
    lag_events: i64,
    /// Seconds since the last event in the tables, while there are later ones; at least `silent_seconds`, when those are
    /// more than 5, for what the log has got meanwhile is not known; else 0.
    lag_seconds: f64,
    /// Seconds since the projector was last heard of: it says something every second. 0 of what is frozen or paused.
    silent_seconds: f64,
    /// Time of the last event in the tables.
    last_time: Option<DateTime<Utc>>,
    /// Events that wait because an earlier one of their aggregate cannot be projected.
    parked: i64,
    /// When the projector was last heard of here.
    updated_at: DateTime<Utc>,
    /// Why it does not go on.
    stopped: Option<String>,
}

/// Every projection: generation, state, and how far each partition has come.
#[utoipa::path(
    get, path = "/api/v1/projections", tag = "operation", operation_id = "list_projections", security(("key" = [])),
    responses(
        (status = 200, body = List<Generation>),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    ask: Ask,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<List<Generation>>, Error> {
    ask.caller(Right::Operate)?;
    let mut generations: Vec<Generation> = Vec::new();
    for row in status::projections(&app.0.tables).await? {
        let same = generations
            .last_mut()
            .filter(|last| last.projection == row.projection && last.generation == row.generation);
        match same {
            Some(generation) => generation.partitions.push(Partition::from(row)),
            None => generations.push(Generation {
                projection: row.projection.clone(),
                generation: row.generation,
                state: row.state.clone(),
                verified: row.looked_at.map(|looked_at| Verified {
                    differing: row.differing,
                    looked_at,
                    whole_at: row.whole_at,
                    rows: row.whole_compared,
                }),
                partitions: vec![Partition::from(row)],
            }),
        }
    }
    Ok(Json(List::whole(generations)))
}

impl From<PartitionStatus> for Partition {
    fn from(row: PartitionStatus) -> Self {
        Self {
            topic: row.topic,
            partition: row.partition,
            position: row.next_offset,
            end: row.log_end,
            lag_events: row.lag_events,
            lag_seconds: row.lag_seconds,
            silent_seconds: row.silent_seconds,
            last_time: row.last_time,
            parked: row.parked,
            updated_at: row.updated_at,
            stopped: row.stopped,
        }
    }
}
