//! Every error of the read side, and the one place where each becomes a status.

use read_models::{clickhouse, export::ExportError, progress::WaitError, visits::stats::StatsError};
use service::{FieldError, Problem, position::InvalidPosition};

use http::StatusCode;

/// Why the read side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("the read models cannot be reached as configured")]
    ReadModels(#[from] read_models::Error),
    /// The operator's key is too easily guessed.
    #[error("ANNALS_OPERATOR_KEY has {0} characters: expected at least 16")]
    OperatorKey(usize),
    /// The server ended.
    #[error("the server ended")]
    Serve(#[from] std::io::Error),
    /// A task that the read side cannot do without has panicked.
    #[error("{0}")]
    Failed(String),
}

/// What can go wrong while a question is answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Said to the caller as it is.
    #[error("{}", .0.detail())]
    Problem(Problem),
    /// The tables in PostgreSQL cannot be read.
    #[error("the tables cannot be read")]
    Tables(#[from] read_models::Error),
    /// A position is not there.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A question about visits.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// ClickHouse does not answer.
    #[error("ClickHouse does not answer")]
    ClickHouse(#[from] read_models::clickhouse::Error),
    /// An export.
    #[error("an export took too long")]
    Export(#[source] ExportError),
    /// A projection has no tables yet, or they have never had all of the log.
    #[error("{0} has no live generation that was filled yet")]
    NotLive(read_models::Projection),
    /// A task that renders was cancelled or panicked.
    #[error("a task did not end")]
    Task(#[from] tokio::task::JoinError),
    /// An answer could not be written.
    #[error("an answer could not be written")]
    Written(#[from] std::io::Error),
}

impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Tables(error) => error.into(),
            ExportError::Rows(error) => error.into(),
            late @ ExportError::TookTooLong(_) => Self::Export(late),
        }
    }
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
            Error::Wait(error) => waited(&error),
            Error::Stats(StatsError::Invalid(faults)) => Self::invalid(
                faults
                    .into_iter()
                    .map(|fault| FieldError::new(fault.pointer, fault.detail))
                    .collect(),
            ),
            Error::Tables(read_models::Error::NotLive(projection)) | Error::NotLive(projection) => {
                starting(projection)
            }
            Error::Stats(StatsError::Engine(ref engine)) | Error::ClickHouse(ref engine)
                if clickhouse::is_too_large(engine) =>
            {
                let most = clickhouse::RESULT_BYTES >> 20;
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "answer-too-large",
                    format!(
                        "the answer would have more than {most} MiB: ask for fewer days, dimensions or rows"
                    ),
                )
            }
            Error::Tables(ref tables) if !tables.may_pass() => Self::internal(&error),
            Error::Stats(StatsError::Unreadable(_)) | Error::Task(_) | Error::Written(_) => {
                Self::internal(&error)
            }
            Error::Tables(_)
            | Error::Stats(StatsError::Engine(_))
            | Error::ClickHouse(_)
            | Error::Export(_) => Self::unavailable(&error),
        }
    }
}

impl axum::response::IntoResponse for Error {
    fn into_response(self) -> axum::response::Response {
        Problem::from(self).into_response()
    }
}

fn waited(error: &WaitError) -> Problem {
    match error {
        WaitError::Behind { projection } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "projection-behind",
            format!("{projection} has not come to the position yet; try again, or wait longer with Prefer: wait=10"),
        )
        .retry_after(1),
        WaitError::Parked { projection } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "parked",
            format!("{projection} has set an event aside that this answer needs; an operator has to see to it"),
        )
        .retry_after(60),
        WaitError::BeyondEnd { .. } | WaitError::NoPartition { .. } => InvalidPosition::BeyondEnd.into(),
    }
}

fn starting(projection: read_models::Projection) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting",
        format!("the tables of {projection} are still being filled from the log; try again"),
    )
    .retry_after(1)
}
