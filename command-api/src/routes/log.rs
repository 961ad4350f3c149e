//! The log, as operators read it.

use std::time::Duration;

use axum::extract::State;
use event_log::{Offset, Partition, Topic};
use events::directory::Scope;
use serde::Deserialize;
use service::{Json, Path, Query};
use utoipa::IntoParams;

use crate::{App, caller::Caller, error::Error, history::Page};

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// The first offset; absent: so that the last `limit` records are shown.
    from: Option<Offset>,
    /// How many at most, 1 to 200; 50 when absent.
    limit: Option<usize>,
}

/// The most records that are shown at once.
const MOST: usize = 200;
/// How long reading may take: the first look at a long partition begins at its beginning.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records of a partition: where, whether they count, what they say.
#[utoipa::path(get, path = "/api/v1/log/{topic}/{partition}", tag = "operators",
    params(("topic" = String, Path, description = "directory, ledger or visits"),
           ("partition" = u32, Path, description = "from 0"), Which),
    responses((status = 200, body = Page)))]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((topic, index)): Path<(String, u32)>,
    Query(which): Query<Which>,
) -> Result<Json<Page>, Error> {
    caller.may(Scope::Operator)?;
    let topic: Topic = topic.parse().map_err(|_| Error::NotFound("topic"))?;
    if index >= app.log().partitions(topic) {
        return Err(Error::NotFound("partition"));
    }
    let limit = which.limit.unwrap_or(50);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::field("/limit", format!("1 to {MOST}")));
    }
    let partition = Partition { topic, index };
    let failed = |error| Error::outside("reading the log", error);
    let from = match which.from {
        Some(from) => from,
        None => app
            .log()
            .end(partition)
            .await
            .map_err(failed)?
            .saturating_sub(limit as Offset),
    };
    let page = app.history().page(app.log(), partition, from, limit);
    tokio::time::timeout(PATIENCE, page)
        .await
        .map_err(|_| Error::NotServed("the log cannot be read in time"))?
        .map(Json)
        .map_err(failed)
}
