//! Every error of these routes, and the one place where each becomes a status.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use service::Problem;

use crate::{runner::retry, verify};

/// Why a request is not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Said to the caller as it is.
    #[error("{}", .0.detail())]
    Problem(Problem),
    /// PostgreSQL.
    #[error("the tables cannot be used")]
    Tables(#[from] read_models::Error),
    /// A verification that came to no result.
    #[error("the tables could not be compared with the log")]
    Verification(#[from] verify::Error),
    /// ClickHouse.
    #[error("ClickHouse cannot be used")]
    Rows(#[from] read_models::clickhouse::Error),
    /// What was parked could not be seen to.
    #[error("what is parked could not be seen to")]
    Retry(#[from] retry::Error),
    /// A task that did not end as it should.
    #[error("a task did not end")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Problem(problem) => problem,
            Error::Tables(tables) => of_tables(&tables),
            Error::Verification(verify::Error::Tables(tables)) => of_tables(&tables),
            Error::Verification(
                ref found @ (verify::Error::AheadOfLog { .. }
                | verify::Error::OtherRelease { .. }
                | verify::Error::TooLarge(_)),
            ) => Self::new(StatusCode::CONFLICT, "cannot-verify", found.to_string()),
            // What the engine says is for operators, and they alone may ask.
            Error::Verification(verify::Error::Rows(ref rows)) | Error::Rows(ref rows) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                format!("ClickHouse cannot be asked: {rows}"),
            )
            .retry_after(5),
            Error::Retry(retry::Error::Tables(tables)) => of_tables(&tables),
            Error::Retry(ref found @ retry::Error::NotParked(..)) => Self::not_found(found.to_string()),
            Error::Retry(
                ref found @ (retry::Error::Ambiguous(_)
                | retry::Error::NotFirst(_)
                | retry::Error::Visits
                | retry::Error::OtherRelease(_)
                | retry::Error::Fold(_)),
            ) => Self::new(
                StatusCode::CONFLICT,
                "cannot-retry",
                service::problem::chain(found),
            ),
            Error::Retry(retry::Error::Log(_) | retry::Error::Rows(_))
            | Error::Verification(verify::Error::Log(_)) => Self::unavailable(&error),
            Error::Verification(verify::Error::Unheard | verify::Error::Panicked) | Error::Task(_) => {
                Self::internal(&error)
            }
        }
    }
}

fn of_tables(error: &read_models::Error) -> Problem {
    match error {
        read_models::Error::NotLive(_)
        | read_models::Error::NoGeneration { .. }
        | read_models::Error::NotBuilding(_) => Problem::not_found(error.to_string()),
        read_models::Error::Building { .. } => {
            Problem::new(StatusCode::CONFLICT, "rebuild-running", error.to_string())
        }
        read_models::Error::IsLive { .. } => {
            Problem::new(StatusCode::CONFLICT, "generation-live", error.to_string())
        }
        read_models::Error::IsShown { .. } => {
            Problem::new(StatusCode::CONFLICT, "generation-shown", error.to_string())
        }
        read_models::Error::Frozen { .. } => {
            Problem::new(StatusCode::CONFLICT, "generation-frozen", error.to_string())
        }
        read_models::Error::Behind { .. } => {
            Problem::new(StatusCode::CONFLICT, "generation-behind", error.to_string())
        }
        read_models::Error::ParkedMore { .. } => {
            Problem::new(StatusCode::CONFLICT, "parked-more", error.to_string())
        }
        read_models::Error::NameTaken(_) => {
            Problem::new(StatusCode::CONFLICT, "name-taken", error.to_string())
        }
        read_models::Error::Configuration(text) => {
            Problem::new(StatusCode::CONFLICT, "conflict", text.clone())
        }
        read_models::Error::Unavailable(_) => Problem::unavailable(error),
        read_models::Error::Refused { .. }
        | read_models::Error::Migration(_)
        | read_models::Error::Newer(_)
        | read_models::Error::Fenced { .. }
        | read_models::Error::WentBack { .. }
        | read_models::Error::OtherLog { .. } => Problem::internal(error),
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
