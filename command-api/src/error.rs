//! Every way a request can fail, and the one place that says which status that is.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use events::{content, directory, directory::Scope, download, feature::NotYet, import};
use http::StatusCode;
use service::{FieldError, Problem};

use crate::forward::Told;

/// The kind of [`Error::Running`].
pub(crate) const STILL_RUNNING: &str = "still-running";

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, or one that says nothing to us. One text for all, so that guessing learns nothing.
    #[error("a key is missing, wrong or revoked")]
    Unauthenticated,
    /// The key lacks a scope.
    #[error("the key lacks the scope {}", .0.name())]
    ScopeMissing(Scope),
    /// There is no such thing, or it is another tenant's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// There is no such thing, or it is another tenant's; the request's field that named it.
    #[error("there is no such {what}")]
    UnknownReference {
        /// Such as `site`.
        what: &'static str,
        /// JSON pointer to the field.
        pointer: Cow<'static, str>,
        /// What would help.
        detail: String,
    },
    /// A header that says nothing to us.
    #[error("the header {name} cannot be read: {detail}")]
    Header {
        /// Its name.
        name: &'static str,
        /// What would be right.
        detail: Cow<'static, str>,
    },
    /// Readable, but some field breaks a limit.
    #[error("the request is invalid")]
    Invalid(Vec<FieldError>),
    /// A field is larger than the log takes.
    #[error("{pointer} is larger than {max} bytes")]
    TooLarge {
        /// JSON pointer to the field.
        pointer: &'static str,
        /// How many it may have.
        max: usize,
    },
    /// A rule of the domain stands in the way.
    #[error("{detail}")]
    Refused {
        /// Stable, for programs.
        kind: &'static str,
        /// For people.
        detail: String,
        /// What would be accepted instead, where the rule knows it: a free slug.
        suggestion: Option<String>,
    },
    /// `If-Match` names another version.
    #[error("the version is {0}, which If-Match does not name")]
    Version(u64),
    /// `If-Match` came with a command that makes something new or is about many things.
    #[error("this command has no version that If-Match could name")]
    NoVersion,
    /// The same Idempotency-Key came with another request.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The same Idempotency-Key is still running.
    #[error("a command with this Idempotency-Key is still running")]
    Running,
    /// One commit would be larger than the log takes.
    #[error("the command makes {0} bytes, more than one commit may have")]
    CommitTooLarge(usize),
    /// Too many wait already.
    #[error("too many requests are waiting")]
    Busy,
    /// The partition is not served by this process; nothing was done.
    #[error(
        "not served at the moment: another process serves this, or it is being recovered; nothing was done"
    )]
    NotHere,
    /// Another process forwarded it to this one, which does not serve it; nothing was done.
    #[error("this process does not serve that partition")]
    Misdirected,
    /// The process that serves it has answered.
    #[error("answered by another process")]
    Answered(Box<Told>),
    /// It cannot be done, or its outcome told, at the moment.
    #[error("not served at the moment: {0}")]
    NotServed(&'static str),
    /// Something outside failed; told in the log, never to the client.
    #[error("{what} failed")]
    Outside {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Said already by an extractor.
    #[error("the request was refused at the door")]
    Problem(Problem),
}

impl Error {
    /// One invalid field.
    pub fn field(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail.to_string())])
    }

    /// A failure of what we depend on.
    pub fn outside(what: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Outside {
            what,
            source: source.into(),
        }
    }

    /// What the client hears.
    pub(crate) fn problem(self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Unauthenticated => Problem::unauthorized(
                "no key, or one that is wrong or revoked: send `Authorization: Bearer ann_…`",
            ),
            Self::ScopeMissing(_) => Problem::forbidden(detail),
            Self::NotFound(_) => Problem::not_found(detail),
            Self::UnknownReference {
                pointer,
                detail: field,
                ..
            } => Problem::not_found(detail).with_errors(vec![FieldError::new(pointer, field)]),
            Self::Header { .. } => Problem::new(StatusCode::BAD_REQUEST, "invalid-header", detail),
            Self::Invalid(errors) => Problem::invalid(errors),
            Self::TooLarge { pointer, max } => {
                let field = FieldError::new(pointer, format!("at most {max} bytes are allowed"));
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).with_errors(vec![field])
            }
            Self::Refused { kind, suggestion, .. } => {
                let problem = Problem::new(StatusCode::CONFLICT, kind, detail);
                match suggestion {
                    Some(suggestion) => problem.with("suggestion", suggestion),
                    None => problem,
                }
            }
            Self::Version(_) | Self::NoVersion => {
                Problem::new(StatusCode::PRECONDITION_FAILED, "version", detail)
            }
            Self::KeyReused => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
            }
            Self::Running => Problem::new(StatusCode::CONFLICT, STILL_RUNNING, detail).retry_after(1),
            Self::CommitTooLarge(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "commit-too-large", detail)
            }
            Self::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1),
            Self::Misdirected => Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", detail),
            // Its own response is given instead: see below.
            Self::Answered(told) => Problem::new(told.status, "answered", detail),
            Self::NotHere | Self::NotServed(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-served", detail).retry_after(2)
            }
            Self::Outside { what, source } => {
                let mut causes = source.to_string();
                let mut next = source.source();
                while let Some(cause) = next {
                    causes.push_str(": ");
                    causes.push_str(&cause.to_string());
                    next = cause.source();
                }
                tracing::error!(what, causes, "request failed");
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "not possible at the moment",
                )
                .retry_after(2)
            }
            Self::Problem(problem) => problem,
        }
    }
}

/// A rule said no: what is not there is 404, what can never be right is 422, the rest is 409.
fn refused(kind: &'static str, rejection: &impl std::fmt::Display) -> Error {
    Error::Refused {
        kind,
        detail: rejection.to_string(),
        suggestion: None,
    }
}

impl From<content::Rejection> for Error {
    fn from(rejection: content::Rejection) -> Self {
        use content::Rejection;
        match &rejection {
            Rejection::NotThere => Self::NotFound("content"),
            Rejection::DateOutOfRange { .. } => Self::field("/at", &rejection),
            Rejection::SlugTaken { free, .. } => Self::Refused {
                kind: rejection.kind(),
                detail: rejection.to_string(),
                suggestion: Some(free.to_string()),
            },
            Rejection::AlreadyThere
            | Rejection::Archived
            | Rejection::AlreadyPublished
            | Rejection::NotPublished { .. }
            | Rejection::NotScheduled { .. }
            | Rejection::NotDue { .. } => refused(rejection.kind(), &rejection),
        }
    }
}

impl From<download::Rejection> for Error {
    fn from(rejection: download::Rejection) -> Self {
        use download::Rejection;
        match &rejection {
            Rejection::NotThere => Self::NotFound("download"),
            Rejection::ReorderNotQueued {
                id,
                status: "unknown",
            } => Self::UnknownReference {
                what: "download",
                pointer: format!("/priorities/{id}").into(),
                detail: format!("this tenant has no download {id}, so nothing was reordered"),
            },
            Rejection::ReorderTwice { id } => Self::field(format!("/priorities/{id}"), &rejection),
            Rejection::ReorderTooLong { .. } => Self::field("/priorities", &rejection),
            Rejection::AlreadyThere
            | Rejection::NotQueued { .. }
            | Rejection::NotRunning { .. }
            | Rejection::OtherFile { .. }
            | Rejection::Over { .. }
            | Rejection::NotFailed { .. }
            | Rejection::ReorderNotQueued { .. } => refused(rejection.kind(), &rejection),
        }
    }
}

impl From<import::Rejection> for Error {
    fn from(rejection: import::Rejection) -> Self {
        use import::Rejection;
        match &rejection {
            Rejection::NotThere => Self::NotFound("import"),
            Rejection::AlreadyThere
            | Rejection::Known { .. }
            | Rejection::Completed
            | Rejection::LinesMissing { .. } => refused(rejection.kind(), &rejection),
        }
    }
}

impl From<directory::Rejection> for Error {
    fn from(rejection: directory::Rejection) -> Self {
        use directory::Rejection;
        match &rejection {
            Rejection::UnknownTenant => Self::NotFound("tenant"),
            Rejection::UnknownKey => Self::NotFound("key"),
            Rejection::UnknownSubject => Self::NotFound("subject"),
            Rejection::UnknownPrincipal => Self::UnknownReference {
                what: "principal",
                pointer: "/principal".into(),
                detail: rejection.to_string(),
            },
            Rejection::NoScope | Rejection::OperatorScope => Self::field("/scopes", &rejection),
            Rejection::LevelUnknown { .. } | Rejection::LevelNotLowered { .. } => {
                refused(rejection.kind(), &rejection)
            }
            Rejection::IdInUse
            | Rejection::NameTaken { .. }
            | Rejection::DomainTaken { .. }
            | Rejection::TooManySites
            | Rejection::TooManyKeys
            | Rejection::PrincipalErased => refused(rejection.kind(), &rejection),
        }
    }
}

impl From<NotYet> for Error {
    fn from(error: NotYet) -> Self {
        refused("feature-level-too-low", &error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Answered(told) = self {
            return (told.status, told.headers, told.body).into_response();
        }
        self.problem().into_response()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}
