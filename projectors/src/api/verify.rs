//! `GET /api/v1/projections/{projection}/verify`: the tables compared with the log, told line by line.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use service::{Path, Problem, Query};
use tokio::{sync::mpsc, task::JoinHandle};
use utoipa::IntoParams;

use super::{App, caller::Operator, error::Error, generations::named};
use crate::verify::{self, Outcome, Told, Wanted};

/// What is compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The generation; the live one when absent.
    generation: Option<i32>,
    /// Only one of so many parts of the rows, another each time.
    #[param(minimum = 1, maximum = 65536)]
    sample: Option<u32>,
}

/// Lines that wait for a slow listener; the verification waits with them.
const WAITING: usize = 16;

/// The tables of a projection, compared with a fold of the log that is done again, at one position, while events
/// arrive. Answers with JSON lines: `{"progress": …}`, `{"difference": …}` (the first hundred), and in the end
/// `{"result": …}`, or `{"problem": …}` when it came to no result. One at a time: a second one is 409.
#[utoipa::path(
    get, path = "/api/v1/projections/{projection}/verify", tag = "operation", operation_id = "verify_projection",
    security(("key" = [])),
    params(("projection" = String, Path, description = "directory, content, downloads, visits or content_facts"), Which),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn verify(
    State(app): State<App>,
    _: Operator,
    Path(projection): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Error> {
    let projection = named(&projection)?;
    let permit = app.0.verifying.clone().try_acquire_owned().map_err(|_| {
        let text = "another verification is running here; wait until it has ended";
        Problem::new(StatusCode::CONFLICT, "verification-running", text)
    })?;
    let verifier = app.verifier().await?;
    let wanted = Wanted {
        projection,
        generation: which.generation,
        sample: which.sample,
    };
    let (tell, mut told) = mpsc::channel(WAITING);
    let task = tokio::spawn(async move {
        let _permit = permit;
        verifier.verify(wanted, &tell).await
    });
    // What fails at once has a status of its own.
    let Some(first) = told.recv().await else {
        task.await??;
        return Err(Problem::not_found("there was nothing to compare").into());
    };
    let first = stream::once(async move { line(&first) });
    let lines = first.chain(stream::unfold(Telling::Lines(told, task), Telling::next));
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The lines that are still to come.
enum Telling {
    Lines(mpsc::Receiver<Told>, JoinHandle<Result<Outcome, verify::Error>>),
    Over,
}

impl Telling {
    async fn next(self) -> Option<(Bytes, Self)> {
        let Self::Lines(mut told, task) = self else {
            return None;
        };
        if let Some(next) = told.recv().await {
            return Some((line(&next), Self::Lines(told, task)));
        }
        let error = match task.await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => Error::from(error),
            Err(error) => Error::from(error),
        };
        /// The last line of a verification that came to no result.
        #[derive(Serialize)]
        struct Failed {
            problem: Problem,
        }
        let problem = Problem::from(error);
        Some((line(&Failed { problem }), Self::Over))
    }
}

fn line(told: &impl Serialize) -> Bytes {
    // Texts and numbers: this cannot fail, and an empty line would say nothing wrong.
    let mut line = serde_json::to_vec(told).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
