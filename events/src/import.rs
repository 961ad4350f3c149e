//! An import of visits from a file: known by the fingerprint of its source, so that no file is taken twice.
//!
//! In order: events, state and what they make of it, commands and what it answers, rejections, tests.
//!
//! Lines come in order. A batch is first asked about with [`Import::accept`]: it may begin at or before the
//! next line, never after it, since a fold drops what comes below the import's mark. Then its visits are
//! appended, and when the log has them [`Command::Advance`] is decided. So batches of one import are taken
//! one after the other; after a crash between the two, the same lines come again and the folds drop them.

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Aggregate, ImportId, Sha256, SiteId, Timestamp, Whole,
    aggregate::{Invalid, line, rejections},
    event::ImportEvent,
};

/// The first lines are about to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Whose visits they are.
    pub site: SiteId,
    /// Where they come from, for people: such as the file's name.
    #[schemars(length(max = 300))]
    pub source: String,
    /// What makes the source the same: the hash of its content. Unique within the site.
    pub fingerprint: Sha256,
}

/// Every line before `next` is in the log, or was told to be dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advanced {
    /// The first line that the log may not have, from 0.
    pub next: Whole,
}

/// Every line is in the log; the import's salt is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completed {}

/// What the past makes of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Import {
    /// There is nothing yet.
    #[default]
    Nothing,
    /// Lines are coming.
    Running(Progress),
    /// Every line is there.
    Completed(Progress),
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the events")]
pub struct Progress {
    pub version: u64,
    pub site: SiteId,
    /// The first line that the log may not have.
    pub next: u64,
}

/// What can be asked of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin.
    Start {
        /// Whose visits they are.
        site: SiteId,
        /// Where they come from, for people.
        source: Source,
        /// What makes the source the same.
        fingerprint: Sha256,
    },
    /// The log has every line before `next`.
    Advance {
        /// The first line of the batch that was appended.
        first: u64,
        /// The line after its last one.
        next: u64,
    },
    /// There are no more lines.
    Complete,
}

/// Where an import comes from: one line, 1 to 300 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

impl Source {
    /// Trims, and checks.
    ///
    /// # Errors
    /// Empty, too long, or of several lines.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        line("a source", text, 1, 300).map(Self)
    }
}

impl Import {
    /// How far it is, and whether more lines may come.
    pub fn progress(&self) -> Option<Progress> {
        match self {
            Self::Nothing => None,
            Self::Running(progress) | Self::Completed(progress) => Some(*progress),
        }
    }

    /// Whether a batch of lines that begins with `first` may be appended now.
    ///
    /// # Errors
    /// It is complete or unknown, or lines in between are missing.
    pub fn accept(&self, first: u64) -> Result<(), Rejection> {
        match self {
            Self::Nothing => Err(Rejection::NotThere),
            Self::Completed(_) => Err(Rejection::Completed),
            Self::Running(progress) if first > progress.next => Err(Rejection::LinesMissing {
                next: progress.next,
                first,
            }),
            Self::Running(_) => Ok(()),
        }
    }
}

impl Aggregate for Import {
    type Event = ImportEvent;
    type Command = Command;
    type Rejection = Rejection;
    type Lookup<'a> = dyn Fingerprints + 'a;

    fn evolve(self, event: &ImportEvent) -> Self {
        let Some(mut progress) = self.progress() else {
            return match event {
                ImportEvent::Started(event) => Self::Running(Progress {
                    version: 1,
                    site: event.site,
                    next: 0,
                }),
                ImportEvent::Advanced(_) | ImportEvent::Completed(_) => Self::Nothing,
            };
        };
        progress.version += 1;
        match event {
            ImportEvent::Started(_) => {}
            ImportEvent::Advanced(event) => progress.next = event.next.0,
            ImportEvent::Completed(_) => return Self::Completed(progress),
        }
        match self {
            Self::Completed(_) => Self::Completed(progress),
            Self::Nothing | Self::Running(_) => Self::Running(progress),
        }
    }

    fn decide(
        &self,
        command: Command,
        known: &(dyn Fingerprints + '_),
        _: Timestamp,
    ) -> Result<Vec<ImportEvent>, Rejection> {
        match (self, command) {
            (
                Self::Nothing,
                Command::Start {
                    site,
                    source,
                    fingerprint,
                },
            ) => match known.find(site, fingerprint) {
                Some(id) => Err(Rejection::Known { id }),
                None => Ok(vec![
                    Started {
                        site,
                        source: source.0,
                        fingerprint,
                    }
                    .into(),
                ]),
            },
            (Self::Running(_) | Self::Completed(_), Command::Start { .. }) => Err(Rejection::AlreadyThere),
            (_, Command::Advance { first, next }) => {
                self.accept(first)?;
                let behind = self.progress().is_some_and(|progress| progress.next < next);
                Ok(if behind {
                    vec![Advanced { next: Whole(next) }.into()]
                } else {
                    vec![]
                })
            }
            (Self::Nothing, Command::Complete) => Err(Rejection::NotThere),
            (Self::Running(_), Command::Complete) => Ok(vec![Completed {}.into()]),
            (Self::Completed(_), Command::Complete) => Ok(vec![]),
        }
    }

    fn version(&self) -> u64 {
        self.progress().map_or(0, |progress| progress.version)
    }
}

rejections! {
    /// Why an import refuses.
    pub enum Rejection {
        "import-exists" =>
        /// The id is in use.
        #[error("there is an import with this id already")]
        AlreadyThere,
        "import-not-found" =>
        /// Nothing has this id.
        #[error("there is no import with this id")]
        NotThere,
        "import-known" =>
        /// The same file was taken before, or is being taken: the API answers with that import.
        #[error("the source with this fingerprint is import {id} of this site")]
        Known {
            /// The import that has it.
            id: ImportId,
        },
        "import-completed" =>
        /// No line may come any more.
        #[error("the import is complete and takes no more lines")]
        Completed,
        "import-lines-missing" =>
        /// A batch further on than it should be.
        #[error("the batch begins with line {first}, but the log has only what is before line {next}")]
        LinesMissing {
            /// The first line that the log may not have.
            next: u64,
            /// The first line of the batch.
            first: u64,
        },
    }
}

/// Which import has which fingerprint, of one tenant.
pub trait Fingerprints {
    /// The import of this site that has this fingerprint.
    fn find(&self, site: SiteId, fingerprint: Sha256) -> Option<ImportId>;
}
