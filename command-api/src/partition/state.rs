//! What the owner of a partition must know to decide: small, and never a body.
//!
//! The same state serves the directory's partition and the ledger's. It is kept twice: as admitted, and as it
//! will be when everything under way is admitted. Decisions are taken on the second; when an append fails,
//! the second becomes a copy of the first again.

use std::collections::HashMap;

use event_log::Commit;
use events::{
    Aggregate, ContentId, DownloadId, Event, ImportId, TenantId, Timestamp, content,
    directory::{self, Directory, Happened},
    download::{self, Download},
    id::InvalidId,
    import::{self, Import},
    tenant,
};
use serde_json::{Value, json};

use super::{Command, timers::Timers};
use crate::{aggregate, command::Expected, error::Error};

/// Everything that a partition's decisions depend on.
#[derive(Debug, Clone, Default)]
pub struct State {
    tenants: HashMap<TenantId, Tenant>,
    directory: Directory,
    timers: Timers,
    /// The time of the last commit: commit times never go backwards.
    time: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct Tenant {
    /// The number of its last commit.
    seq: u64,
    aggregates: events::Tenant,
}

/// An event to be, and where it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose.
    pub tenant: TenantId,
    /// The aggregate's id as text.
    pub subject: String,
    /// Its version after the event.
    pub version: u64,
    /// What happens.
    pub event: Event,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// This happens; at least one event, all of one tenant.
    Commit(Vec<Change>),
    /// Everything is as asked for already.
    Unchanged(Unchanged),
}

/// How something stands that a command left as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Unchanged {
    /// Its version, when it is about one thing.
    pub version: Option<u64>,
    /// What the client is told.
    pub body: Value,
}

impl State {
    /// When a commit that is made now is made: the clock's time, unless a commit bears a later one.
    pub fn commit_time(&self, now: Timestamp) -> Timestamp {
        self.time.map_or(now, |last| last.max(now))
    }

    /// The number of the tenant's next commit.
    pub fn next_seq(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |tenant| tenant.seq) + 1
    }

    /// A tenant's aggregates, when it has any here.
    pub fn tenant(&self, tenant: TenantId) -> Option<&events::Tenant> {
        self.tenants.get(&tenant).map(|tenant| &tenant.aggregates)
    }

    /// Forgets a timer.
    pub fn stop_timer(&mut self, content: ContentId) {
        self.timers.stop(content);
    }

    /// What is to be published when.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// What a command brings about, given all this.
    ///
    /// # Errors
    /// The rule, the version or the absence that stands in the way.
    pub fn decide(
        &self,
        tenant: TenantId,
        command: Command,
        expected: &Expected,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let nothing = Tenant::default();
        let here = self.tenants.get(&tenant).unwrap_or(&nothing);
        match command {
            Command::Tenant(tenant::Command::Content(id, command)) => {
                here.content(tenant, id, command, expected, at)
            }
            Command::Tenant(tenant::Command::Download(id, command)) => {
                here.download(tenant, id, command, expected, at)
            }
            Command::Tenant(tenant::Command::Reorder(priorities)) => {
                here.reorder(tenant, &priorities, expected)
            }
            Command::Tenant(tenant::Command::Import(id, command)) => {
                here.import(tenant, id, command, expected, at)
            }
            Command::Directory(command) => self.decide_directory(command, expected),
        }
    }

    fn decide_directory(&self, command: directory::Command, expected: &Expected) -> Result<Decision, Error> {
        let asked = match &command {
            directory::Command::RevokeKey { key, .. } => Some(directory::Subject::Key(key.clone())),
            directory::Command::CreateTenant { .. }
            | directory::Command::CreateSite { .. }
            | directory::Command::IssueKey { .. } => None,
        };
        let version = asked.as_ref().map(|subject| self.directory.version(subject));
        let happened = self.directory.decide(command)?;
        expect(version.unwrap_or(0), expected)?;
        if happened.is_empty() {
            return Ok(Decision::Unchanged(Unchanged {
                version,
                body: json!({}),
            }));
        }
        let changes = happened.into_iter().map(|happened| Change {
            tenant: happened.tenant,
            version: self.directory.version(&happened.subject) + 1,
            subject: happened.subject.to_string(),
            event: happened.event.into(),
        });
        Ok(Decision::Commit(changes.collect()))
    }

    /// What a commit that is admitted, or will be, makes of all this.
    ///
    /// # Errors
    /// A subject that is no id of what its event is about: this release cannot serve the partition.
    pub fn evolve(&mut self, commit: &Commit) -> Result<(), InvalidId> {
        let tenant = self.tenants.entry(commit.tenant).or_default();
        tenant.seq = commit.tenant_seq;
        for recorded in &commit.events {
            if let Some(happened) = Happened::read(recorded)? {
                self.directory.evolve(&happened);
            }
            if let Some(subject) = tenant::Subject::of(recorded)? {
                tenant.aggregates.evolve(subject, &recorded.event);
                if let (tenant::Subject::Content(id), Event::Content(event)) = (subject, &recorded.event) {
                    self.timers.follow(id, event, &recorded.envelope);
                }
            }
            self.time = self.time.max(Some(recorded.envelope.time));
        }
        Ok(())
    }
}

impl Tenant {
    fn content(
        &self,
        tenant: TenantId,
        id: ContentId,
        command: content::Command,
        expected: &Expected,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let contents = self.aggregates.content();
        let piece = contents.content(id);
        if !matches!(command, content::Command::Draft(_)) && piece.version() == 0 {
            return Err(Error::NotFound("content"));
        }
        expect(piece.version(), expected)?;
        let events = aggregate::decide(piece, command, contents.slugs(), at)?;
        let changes = changes(tenant, &id, piece.version(), events);
        let unchanged = || {
            let piece = contents.piece(id);
            let status = piece.map(|piece| piece.status.name());
            let slug = piece.map(|piece| piece.slug.as_str());
            json!({"id": id, "slug": slug, "status": status, "version": piece.map(|piece| piece.version)})
        };
        Ok(committed(changes, piece.version(), unchanged))
    }

    fn download(
        &self,
        tenant: TenantId,
        id: DownloadId,
        command: download::Command,
        expected: &Expected,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let download = self.aggregates.downloads().download(id);
        let new = matches!(command, download::Command::Queue(_));
        if !new && download.version() == 0 {
            return Err(Error::NotFound("download"));
        }
        expect(download.version(), expected)?;
        let events = aggregate::decide(download, command, &(), at)?;
        let changes = changes(tenant, &id, download.version(), events);
        let unchanged = || {
            let status = match download {
                Download::Nothing => None,
                Download::Entry(entry) => Some(entry.status.name()),
            };
            json!({"id": id, "status": status, "version": download.version()})
        };
        Ok(committed(changes, download.version(), unchanged))
    }

    fn reorder(
        &self,
        tenant: TenantId,
        priorities: &[(DownloadId, i32)],
        expected: &Expected,
    ) -> Result<Decision, Error> {
        if *expected != Expected::Any {
            return Err(Error::NoVersion);
        }
        let downloads = self.aggregates.downloads();
        let changes: Vec<_> = downloads
            .reorder(priorities)?
            .into_iter()
            .flat_map(|(id, event)| changes(tenant, &id, downloads.download(id).version(), vec![event]))
            .collect();
        if changes.is_empty() {
            return Ok(Decision::Unchanged(Unchanged {
                version: None,
                body: json!({"changed": []}),
            }));
        }
        Ok(Decision::Commit(changes))
    }

    fn import(
        &self,
        tenant: TenantId,
        id: ImportId,
        command: import::Command,
        expected: &Expected,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let imports = self.aggregates.imports();
        let import = imports.import(id);
        expect(import.version(), expected)?;
        match aggregate::decide(import, command, imports.fingerprints(), at) {
            Ok(events) => {
                let changes = changes(tenant, &id, import.version(), events);
                Ok(committed(changes, import.version(), || import_body(id, import)))
            }
            // The same file again is no mistake: whoever brings it learns how far it is.
            Err(import::Rejection::Known { id }) => {
                let import = imports.import(id);
                Ok(committed(Vec::new(), import.version(), || {
                    import_body(id, import)
                }))
            }
            Err(rejection) => Err(rejection.into()),
        }
    }
}

fn import_body(id: ImportId, import: &Import) -> Value {
    let status = match import {
        Import::Nothing => "unknown",
        Import::Running(_) => "running",
        Import::Completed(_) => "completed",
    };
    let next = import.progress().map_or(0, |progress| progress.next);
    json!({"id": id, "status": status, "next": next, "version": import.version()})
}

fn expect(version: u64, expected: &Expected) -> Result<(), Error> {
    match expected {
        Expected::Any => Ok(()),
        // Something new has no version yet.
        Expected::OneOf(_) if version == 0 => Err(Error::NoVersion),
        Expected::OneOf(_) if expected.allows(version) => Ok(()),
        Expected::OneOf(_) => Err(Error::Version(version)),
    }
}

fn changes<E: Into<Event>>(
    tenant: TenantId,
    subject: &impl ToString,
    version: u64,
    events: Vec<E>,
) -> Vec<Change> {
    let numbered = events.into_iter().zip(version + 1..);
    numbered
        .map(|(event, version)| Change {
            tenant,
            subject: subject.to_string(),
            version,
            event: event.into(),
        })
        .collect()
}

fn committed(changes: Vec<Change>, version: u64, unchanged: impl FnOnce() -> Value) -> Decision {
    if changes.is_empty() {
        Decision::Unchanged(Unchanged {
            version: Some(version),
            body: unchanged(),
        })
    } else {
        Decision::Commit(changes)
    }
}
