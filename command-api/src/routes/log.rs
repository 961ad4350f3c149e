//! The log, as operators read it.

use std::time::Duration;

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use event_log::{Offset, Partition, ReadError, Topic, audit, export};
use events::directory::Scope;
use futures::stream;
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::{Json, Path, Query};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
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
    let partition = partition(&app, &caller, &topic, index)?;
    let limit = which.limit.unwrap_or(50);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::field("/limit", format!("1 to {MOST}")));
    }
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

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// The first offset; 0 when absent.
    from: Option<Offset>,
}

/// Pieces of an answer that wait for a slow listener; whoever reads the log waits with them.
const WAITING: usize = 16;

/// Verification keeps the version of each aggregate of a partition in memory: one at a time, the others wait.
static VERIFYING: Semaphore = Semaphore::const_new(1);

/// Whether a partition is what the format says, from its genesis to its end now: JSON lines `{"progress": …}`,
/// `{"finding": …}` for what is void, missing, odd or wrong, and in the end `{"result": …}` or `{"problem": …}`.
#[utoipa::path(get, path = "/api/v1/log/{topic}/{partition}/verify", tag = "operators", operation_id = "verify_log",
    params(("topic" = String, Path, description = "directory, ledger or visits"),
           ("partition" = u32, Path, description = "from 0")),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub async fn verify(
    State(app): State<App>,
    caller: Caller,
    Path((topic, index)): Path<(String, u32)>,
) -> Result<Response, Error> {
    let partition = partition(&app, &caller, &topic, index)?;
    let (tell, told) = mpsc::channel(WAITING);
    let log = app.log().clone();
    let task = tokio::spawn(async move {
        let _turn = tokio::select! {
            turn = VERIFYING.acquire() => turn,
            () = tell.closed() => return Ok(None),
        };
        audit::audit(&log, partition, &tell).await.map(|()| None)
    });
    Ok(lines(told, task, |told| line(&told)))
}

/// Everything that a partition holds, from an offset to its end now, void records included: a JSON line for each
/// record (`schemas/LEDGER.md` has the form), and in the end `{"end": …}` or `{"problem": …}`.
#[utoipa::path(get, path = "/api/v1/log/{topic}/{partition}/records", tag = "operators", operation_id = "export_log",
    params(("topic" = String, Path, description = "directory, ledger or visits"),
           ("partition" = u32, Path, description = "from 0"), From),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub async fn records(
    State(app): State<App>,
    caller: Caller,
    Path((topic, index)): Path<(String, u32)>,
    Query(From { from }): Query<From>,
) -> Result<Response, Error> {
    let partition = partition(&app, &caller, &topic, index)?;
    let (tell, told) = mpsc::channel(WAITING);
    let log = app.log().clone();
    let task = tokio::spawn(async move {
        let end = export::export(&log, partition, from.unwrap_or(0), &tell).await?;
        Ok(Some(line(&json!({"end": end}))))
    });
    Ok(lines(told, task, |lines| lines))
}

fn partition(app: &App, caller: &Caller, topic: &str, index: u32) -> Result<Partition, Error> {
    caller.may(Scope::Operator)?;
    let topic: Topic = topic.parse().map_err(|_| Error::NotFound("topic"))?;
    if index >= app.log().partitions(topic) {
        return Err(Error::NotFound("partition"));
    }
    Ok(Partition { topic, index })
}

type Task = JoinHandle<Result<Option<Vec<u8>>, ReadError>>;

/// What a task tells, as it tells it, and then its last line.
fn lines<T: Send + 'static>(
    told: mpsc::Receiver<T>,
    task: Task,
    text: impl Fn(T) -> Vec<u8> + Copy + Send + 'static,
) -> Response {
    let pieces = stream::unfold(Some((told, task)), move |telling| async move {
        let (mut told, task) = telling?;
        if let Some(piece) = told.recv().await {
            return Some((text(piece), Some((told, task))));
        }
        let error = match task.await {
            Ok(Ok(last)) => return last.map(|last| (last, None)),
            Ok(Err(error)) => Error::outside("reading the log", error),
            Err(error) => Error::outside("reading the log", error),
        };
        let problem = error.problem();
        Some((line(&json!({"problem": problem})), None))
    });
    let pieces = futures::StreamExt::map(pieces, Ok::<_, Infallible>);
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(pieces),
    )
        .into_response()
}

fn line(told: &impl Serialize) -> Vec<u8> {
    // Texts and numbers: this cannot fail, and an empty line would say nothing wrong.
    let mut line = serde_json::to_vec(told).unwrap_or_default();
    line.push(b'\n');
    line
}
