//! A download in a tenant's queue.
//!
//! In order: events, state and what they make of it, commands and what it answers, rejections, tests.
//! A little long, because all rules of a download stand on this one page; `reorder` is about several.

pub mod address;
mod reorder;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{DownloadUrl, PrivateAddresses};
pub use reorder::{REORDER_MAX, reorder};

use crate::{
    Aggregate, DownloadId, Sha256, Timestamp, Whole,
    aggregate::{Invalid, line, rejections},
    event::DownloadEvent,
};

/// It waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// At most 300 characters.
    #[schemars(length(min = 1, max = 300))]
    pub title: String,
    /// http or https, without user or password, at most 2,048 characters.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// Of the work, as a catalogue has it; at most 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub author: Option<String>,
    /// Such as `epub`; at most 50 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub format: Option<String>,
    /// What the file must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// A lower number goes first; equal ones in the order of queueing.
    pub priority: i32,
}

/// Its place in the queue changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reprioritised {
    /// The new priority.
    pub priority: i32,
}

/// A worker took it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {}

/// The file is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Whole>,
    /// What the file hashes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// The worker gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// For people, at most 1,000 characters.
    #[schemars(length(max = 1000))]
    pub reason: String,
}

/// Nobody wants it any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancelled {}

/// It is back in the queue, behind its equals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retried {}

/// What the past makes of a download.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Download {
    /// There is nothing yet.
    #[default]
    Nothing,
    /// There is a download.
    Entry(Entry),
}

/// A download as its rules see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the events")]
pub struct Entry {
    pub version: u64,
    pub status: Status,
    pub priority: i32,
    /// What the file must hash to.
    pub sha256: Option<Sha256>,
}

/// Where a download stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Status {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    /// Its name, as the API and the read models say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What can be asked of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put it into the queue.
    Queue(Box<Request>),
    /// Give it another place.
    Reprioritise {
        /// A lower number goes first.
        priority: i32,
    },
    /// A worker takes it.
    Start,
    /// The worker has the file.
    Complete {
        /// In bytes.
        size: Option<u64>,
        /// What the file hashes to.
        sha256: Option<Sha256>,
    },
    /// The worker gives up.
    Fail {
        /// Why.
        reason: Reason,
    },
    /// Nobody wants it any more.
    Cancel,
    /// Try again.
    Retry,
}

/// The priority of those that ask for none.
pub const DEFAULT_PRIORITY: i32 = 100;

/// What is to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Queued")]
pub struct Request {
    pub title: Label,
    pub url: DownloadUrl,
    pub author: Option<Label>,
    pub format: Option<Format>,
    pub sha256: Option<Sha256>,
    pub priority: i32,
}

/// One line, 1 to 300 characters: a title or an author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

/// One line, 1 to 50 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(String);

/// Why a worker gave up: one line, 1 to 1,000 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

macro_rules! lines {
    ($($name:ident: $what:literal, $max:literal;)+) => {$(
        impl $name {
            /// Trims, and checks.
            ///
            /// # Errors
            /// Empty, too long, or of several lines.
            pub fn new(text: &str) -> Result<Self, Invalid> {
                line($what, text, 1, $max).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(line: $name) -> Self {
                line.0
            }
        }
    )+};
}

lines! {
    Label: "a title or author", 300;
    Format: "a format", 50;
    Reason: "a reason", 1000;
}

impl Aggregate for Download {
    type Event = DownloadEvent;
    type Command = Command;
    type Rejection = Rejection;
    type Lookup<'a> = ();

    fn evolve(self, event: &DownloadEvent) -> Self {
        let Self::Entry(mut entry) = self else {
            return match event {
                DownloadEvent::Queued(Queued { priority, sha256, .. }) => Self::Entry(Entry {
                    version: 1,
                    status: Status::Queued,
                    priority: *priority,
                    sha256: *sha256,
                }),
                DownloadEvent::Reprioritised(_)
                | DownloadEvent::Started(_)
                | DownloadEvent::Completed(_)
                | DownloadEvent::Failed(_)
                | DownloadEvent::Cancelled(_)
                | DownloadEvent::Retried(_) => Self::Nothing,
            };
        };
        entry.version += 1;
        match event {
            DownloadEvent::Queued(_) => {}
            DownloadEvent::Reprioritised(event) => entry.priority = event.priority,
            DownloadEvent::Started(_) => entry.status = Status::Running,
            DownloadEvent::Completed(_) => entry.status = Status::Completed,
            DownloadEvent::Failed(_) => entry.status = Status::Failed,
            DownloadEvent::Cancelled(_) => entry.status = Status::Cancelled,
            DownloadEvent::Retried(_) => entry.status = Status::Queued,
        }
        Self::Entry(entry)
    }

    fn decide(&self, command: Command, (): &(), _: Timestamp) -> Result<Vec<DownloadEvent>, Rejection> {
        let entry = match self {
            Self::Nothing => {
                let Command::Queue(request) = command else {
                    return Err(Rejection::NotThere);
                };
                return Ok(vec![Queued::from(*request).into()]);
            }
            Self::Entry(entry) => entry,
        };
        let status = entry.status;
        match command {
            Command::Queue(_) => Err(Rejection::AlreadyThere),
            Command::Reprioritise { .. } | Command::Start if status != Status::Queued => {
                Err(Rejection::NotQueued {
                    status: status.name(),
                })
            }
            Command::Reprioritise { priority } if priority == entry.priority => Ok(vec![]),
            Command::Reprioritise { priority } => Ok(vec![Reprioritised { priority }.into()]),
            Command::Start => Ok(vec![Started {}.into()]),
            Command::Complete { .. } | Command::Fail { .. } if status != Status::Running => {
                Err(Rejection::NotRunning {
                    status: status.name(),
                })
            }
            Command::Complete { size, sha256 } => match (entry.sha256, sha256) {
                (Some(expected), Some(found)) if expected != found => {
                    Err(Rejection::OtherFile { expected, found })
                }
                _ => Ok(vec![
                    Completed {
                        size: size.map(Whole),
                        sha256,
                    }
                    .into(),
                ]),
            },
            Command::Fail { reason } => Ok(vec![
                Failed {
                    reason: reason.into(),
                }
                .into(),
            ]),
            Command::Cancel => match status {
                Status::Queued | Status::Running => Ok(vec![Cancelled {}.into()]),
                Status::Completed | Status::Failed | Status::Cancelled => Err(Rejection::Over {
                    status: status.name(),
                }),
            },
            Command::Retry => match status {
                Status::Failed | Status::Cancelled => Ok(vec![Retried {}.into()]),
                Status::Queued | Status::Running | Status::Completed => Err(Rejection::NotFailed {
                    status: status.name(),
                }),
            },
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Entry(entry) => entry.version,
        }
    }
}

impl From<Request> for Queued {
    fn from(request: Request) -> Self {
        let Request {
            title,
            url,
            author,
            format,
            sha256,
            priority,
        } = request;
        Self {
            title: title.into(),
            url: url.to_string(),
            author: author.map(String::from),
            format: format.map(String::from),
            sha256,
            priority,
        }
    }
}

impl Download {
    /// Its priority, while it is queued.
    fn queued_with(&self) -> Option<i32> {
        match self {
            Self::Entry(entry) if entry.status == Status::Queued => Some(entry.priority),
            Self::Entry(_) | Self::Nothing => None,
        }
    }

    fn status_name(&self) -> &'static str {
        match self {
            Self::Nothing => "unknown",
            Self::Entry(entry) => entry.status.name(),
        }
    }
}

rejections! {
    /// Why a download, or the queue, refuses.
    pub enum Rejection {
        "download-exists" =>
        /// The id is in use.
        #[error("there is a download with this id already")]
        AlreadyThere,
        "download-not-found" =>
        /// Nothing has this id.
        #[error("there is no download with this id")]
        NotThere,
        "not-queued" =>
        /// Only what waits can be moved or started.
        #[error("the download is {status}; only a queued one can be moved or started")]
        NotQueued {
            /// Where it stands.
            status: &'static str,
        },
        "not-running" =>
        /// Only what runs can end.
        #[error("the download is {status}, not running")]
        NotRunning {
            /// Where it stands.
            status: &'static str,
        },
        "other-file" =>
        /// Not the file that was asked for.
        #[error("the file hashes to {found}, expected {expected}")]
        OtherFile {
            /// What it must hash to.
            expected: Sha256,
            /// What it hashes to.
            found: Sha256,
        },
        "download-over" =>
        /// Nothing is left to cancel.
        #[error("the download is {status} already")]
        Over {
            /// Where it stands.
            status: &'static str,
        },
        "not-failed" =>
        /// Nothing to try again.
        #[error("the download is {status}; only a failed or cancelled one is tried again")]
        NotFailed {
            /// Where it stands.
            status: &'static str,
        },
        "reorder-not-queued" =>
        /// One of a reorder is not in the queue, so none moves.
        #[error("the download {id} is {status}, so nothing was reordered")]
        ReorderNotQueued {
            /// Which.
            id: DownloadId,
            /// Where it stands; `unknown` for none.
            status: &'static str,
        },
        "reorder-twice" =>
        /// One of a reorder stands there twice, so none moves.
        #[error("the download {id} is named twice, so nothing was reordered")]
        ReorderTwice {
            /// Which.
            id: DownloadId,
        },
        "reorder-too-long" =>
        /// More than a commit takes.
        #[error("{count} downloads are to be reordered, at most {REORDER_MAX} can be at once")]
        ReorderTooLong {
            /// How many.
            count: usize,
        },
    }
}
