//! What all decisions within one tenant are taken on: its content, its downloads, its imports.
//!
//! One tenant, one partition, one order: so a rule over several aggregates needs no saga.

use crate::{
    Aggregate, ContentId, DownloadId, Event, ImportId, Recorded, Timestamp,
    content::{self, Contents},
    download::{self, Downloads},
    id::InvalidId,
    import::{self, Imports},
};

/// The decision state of a tenant: small, and never a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tenant {
    content: Contents,
    downloads: Downloads,
    imports: Imports,
}

/// An aggregate of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject {
    Content(ContentId),
    Download(DownloadId),
    Import(ImportId),
}

impl std::fmt::Display for Subject {
    /// As it stands in an event's `subject`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(id) => id.fmt(f),
            Self::Download(id) => id.fmt(f),
            Self::Import(id) => id.fmt(f),
        }
    }
}

impl Subject {
    /// Which aggregate of a tenant an event of the ledger is about; none for the directory's and for visits.
    ///
    /// # Errors
    /// A subject that is no id.
    pub fn of(recorded: &Recorded) -> Result<Option<Self>, InvalidId> {
        let subject = &recorded.envelope.subject;
        Ok(match recorded.event {
            Event::Content(_) => Some(Self::Content(subject.parse()?)),
            Event::Download(_) => Some(Self::Download(subject.parse()?)),
            Event::Import(_) => Some(Self::Import(subject.parse()?)),
            Event::Directory(_) | Event::Visit(_) => None,
        })
    }
}

/// What can be asked of a tenant's aggregates.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Of a piece of content.
    Content(ContentId, content::Command),
    /// Of a download.
    Download(DownloadId, download::Command),
    /// Of several downloads at once: all, or none.
    Reorder(Vec<(DownloadId, i32)>),
    /// Of an import.
    Import(ImportId, import::Command),
}

/// Why one of a tenant's aggregates refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A rule of content.
    #[error(transparent)]
    Content(#[from] content::Rejection),
    /// A rule of downloads.
    #[error(transparent)]
    Download(#[from] download::Rejection),
    /// A rule of imports.
    #[error(transparent)]
    Import(#[from] import::Rejection),
}

impl Rejection {
    /// What kind of rejection it is: stable, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Content(rejection) => rejection.kind(),
            Self::Download(rejection) => rejection.kind(),
            Self::Import(rejection) => rejection.kind(),
        }
    }

    /// Whether what was asked of is not there: the API says 404 instead of 409.
    pub const fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Content(content::Rejection::NotThere)
                | Self::Download(download::Rejection::NotThere)
                | Self::Import(import::Rejection::NotThere)
        )
    }
}

impl Tenant {
    /// What the past makes of it. What is not about content, downloads or imports changes nothing.
    pub fn evolve(&mut self, subject: Subject, event: &Event) {
        match (subject, event) {
            (Subject::Content(id), Event::Content(event)) => self.content.evolve(id, event),
            (Subject::Download(id), Event::Download(event)) => self.downloads.evolve(id, event),
            (Subject::Import(id), Event::Import(event)) => self.imports.evolve(id, event),
            (
                Subject::Content(_) | Subject::Download(_) | Subject::Import(_),
                Event::Content(_)
                | Event::Download(_)
                | Event::Import(_)
                | Event::Directory(_)
                | Event::Visit(_),
            ) => {}
        }
    }

    /// What it answers: every event with the aggregate that it happens to. All of them are one commit.
    /// No events: everything is as asked for already.
    ///
    /// # Errors
    /// The rule that stands in the way.
    pub fn decide(&self, command: Command, at: Timestamp) -> Result<Vec<(Subject, Event)>, Rejection> {
        fn about<E: Into<Event>>(subject: Subject, events: Vec<E>) -> Vec<(Subject, Event)> {
            events.into_iter().map(|event| (subject, event.into())).collect()
        }
        Ok(match command {
            Command::Content(id, command) => {
                about(Subject::Content(id), self.content.decide(id, command, at)?)
            }
            Command::Download(id, command) => {
                about(Subject::Download(id), self.downloads.decide(id, command, at)?)
            }
            Command::Reorder(priorities) => {
                let events = self.downloads.reorder(&priorities)?;
                events
                    .into_iter()
                    .map(|(id, event)| (Subject::Download(id), event.into()))
                    .collect()
            }
            Command::Import(id, command) => about(Subject::Import(id), self.imports.decide(id, command, at)?),
        })
    }

    /// How many events an aggregate has behind it; 0 when there is none.
    pub fn version(&self, subject: Subject) -> u64 {
        match subject {
            Subject::Content(id) => self.content.content(id).version(),
            Subject::Download(id) => self.downloads.download(id).version(),
            Subject::Import(id) => self.imports.import(id).version(),
        }
    }

    /// Its content.
    pub fn content(&self) -> &Contents {
        &self.content
    }

    /// Its downloads.
    pub fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    /// Its imports.
    pub fn imports(&self) -> &Imports {
        &self.imports
    }
}
