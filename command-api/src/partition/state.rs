//! What the owner of a partition must know to decide: small, and never a body.
//!
//! The same state serves the directory's partition and the ledger's. Aggregates are rows ([`super::layers`]), seen as
//! admitted or as they will be when everything under way is admitted; decisions are taken on the second. The
//! directory is one thing in memory, kept twice; when an append fails, the second becomes a copy of the first again.
//!
//! Longer than a file should be: what a command looks up and what its commit makes of the same rows are read side by
//! side.

use std::time::{Duration, Instant};

use event_log::{Commit, Offset, StateError, StateStore, state_store::Standing};
use events::{
    Aggregate, ContentId, DownloadId, Event, ImportId, Sha256, SiteId, TenantId, Timestamp,
    content::{self, Content, Kind, Piece, Slugs},
    directory::{self, Directory, Happened},
    download::{self, Download},
    id::InvalidId,
    import::{self, Fingerprints, Import},
    tenant::{self, Repository},
};
use serde_json::{Value, json};

use super::{
    Command,
    idempotency::{Hash, Kept, Used},
    layers::{Layers, Seen},
    row::{Key, Row},
    timers::{Timer, Timers},
};
use crate::{aggregate, command::Expected, error::Error};

/// The fold, by name: it changes with the rows that it makes of the same events, and then every process makes its
/// state anew from the log.
const FOLD: &str = "1";

/// What the rows on disk depend on beside the log: which fold made them, and how long it keeps keys. As a folder's name.
pub fn fold(kept: Kept) -> String {
    format!("{FOLD} keys {kept}").replace(' ', "-")
}

/// Commits that the disk is behind at most, also when they changed few rows: so many are judged again when a snapshot
/// is loaded.
const BEHIND: usize = 4_096;

/// How long a disk that has failed is left alone.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Everything that a partition's decisions depend on.
pub struct State {
    rows: Layers,
    timers: Timers,
    directory: Twice<Directory>,
    time: Twice<Option<Timestamp>>,
    /// The last admitted commit that was folded.
    standing: Option<Standing>,
    /// Commits that were folded since the last was written to the disk.
    unwritten: usize,
    /// A commit was folded in part only: nothing of this may be kept.
    broken: bool,
    /// What the disk said when it did not take what is admitted, and when.
    failed: Option<(Instant, StateError)>,
    /// What the disk said when it did not tell what rings when: nothing may be decided on this any more.
    untold: Option<StateError>,
    kept: Kept,
}

/// As admitted, and as it will be when everything under way is admitted.
#[derive(Debug, Default)]
struct Twice<T> {
    admitted: T,
    decided: T,
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

/// Why a commit cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A subject that is no id of what its event is about: this release cannot serve the partition.
    #[error(transparent)]
    Subject(#[from] InvalidId),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] StateError),
}

/// A tenant's aggregates in the rows.
struct Here<'a> {
    rows: &'a Layers,
    tenant: TenantId,
    seen: Seen,
}

impl State {
    /// What a store of this [`fold`] holds, with so many bytes for what is used often. Empty, it is what there is before
    /// any record.
    ///
    /// # Errors
    /// The disk failed.
    pub fn new(store: StateStore, recent_bytes: u64, kept: Kept) -> Result<Self, StateError> {
        let standing = store.standing()?;
        let rows = Layers::new(store, recent_bytes);
        let mut timers = Timers::default();
        for entry in rows.stored(&Key::TIMERS) {
            let (key, row) = entry?;
            let (tenant, content) =
                Key::of_timer(&key).ok_or_else(|| StateError::damaged("the key of a timer"))?;
            if let Row::Timer(timer) = row {
                timers.set(tenant, content, Some(timer.at));
            }
        }
        let time = rows.get(&Key::Time, Seen::Admitted).and_then(Row::time);
        rows.check()?;
        Ok(Self {
            rows,
            timers,
            directory: Twice::default(),
            time: Twice {
                admitted: time,
                decided: time,
            },
            standing,
            unwritten: 0,
            broken: false,
            failed: None,
            untold: None,
            kept,
        })
    }

    /// How long keys count.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// When a commit that is made now is made: the clock's time, unless a commit bears a later one.
    pub fn commit_time(&self, now: Timestamp) -> Timestamp {
        self.time.decided.map_or(now, |last| last.max(now))
    }

    /// The number of the tenant's next commit.
    ///
    /// # Errors
    /// The disk failed.
    pub fn next_seq(&self, tenant: TenantId) -> Result<u64, StateError> {
        let last = self.rows.get(&Key::Tenant(tenant), Seen::Decided);
        self.rows.check()?;
        Ok(last.and_then(Row::tenant).unwrap_or(0) + 1)
    }

    /// How a piece stands in admitted history.
    ///
    /// # Errors
    /// The disk failed.
    pub fn piece(&self, tenant: TenantId, id: ContentId) -> Result<Option<Piece>, StateError> {
        let content = self.here(tenant, Seen::Admitted).content(id);
        self.rows.check()?;
        Ok(match content {
            Content::Piece(piece) => Some(piece),
            Content::Nothing => None,
        })
    }

    /// How an import stands in admitted history.
    ///
    /// # Errors
    /// The disk failed.
    pub fn import(&self, tenant: TenantId, id: ImportId) -> Result<Import, StateError> {
        let import = self.here(tenant, Seen::Admitted).import(id);
        self.rows.check()?;
        Ok(import)
    }

    /// What is remembered of an Idempotency-Key.
    ///
    /// # Errors
    /// The disk failed.
    pub fn used(&self, key: Hash, seen: Seen) -> Result<Option<Used>, StateError> {
        let row = self.rows.get(&Key::Command(key), seen);
        self.rows.check()?;
        Ok(row.and_then(Row::command))
    }

    /// When the next publication is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// The first publication whose time has come.
    ///
    /// # Errors
    /// The disk failed.
    pub fn first_due(&self, now: Timestamp) -> Result<Option<(TenantId, ContentId, Box<Timer>)>, StateError> {
        let Some((tenant, content)) = self.timers.first_due(now) else {
            return Ok(None);
        };
        let row = self.rows.get(&Key::Timer(tenant, content), Seen::Decided);
        self.rows.check()?;
        Ok(row.and_then(Row::timer).map(|timer| (tenant, content, timer)))
    }

    /// Lets a timer that makes no sense ring no more.
    pub fn stop_timer(&mut self, tenant: TenantId, content: ContentId) {
        self.timers.set(tenant, content, None);
    }

    /// What a command brings about, given all this.
    ///
    /// # Errors
    /// The rule, the version or the absence that stands in the way; the disk failed.
    pub fn decide(
        &self,
        tenant: TenantId,
        command: Command,
        expected: &Expected,
        at: Timestamp,
    ) -> Result<Decision, Error> {
        let here = self.here(tenant, Seen::Decided);
        let decided = match command {
            Command::Tenant(tenant::Command::Content(id, command)) => {
                decide_content(&here, id, command, expected, at)
            }
            Command::Tenant(tenant::Command::Download(id, command)) => {
                decide_download(&here, id, command, expected, at)
            }
            Command::Tenant(tenant::Command::Reorder(priorities)) => {
                decide_reorder(&here, &priorities, expected)
            }
            Command::Tenant(tenant::Command::Import(id, command)) => {
                decide_import(&here, id, command, expected, at)
            }
            Command::Directory(command) => self.decide_directory(command, expected),
        };
        self.rows.check().map_err(unreadable)?;
        decided
    }

    fn decide_directory(&self, command: directory::Command, expected: &Expected) -> Result<Decision, Error> {
        let directory = &self.directory.decided;
        let asked = match &command {
            directory::Command::RevokeKey { key, .. } => Some(directory::Subject::Key(key.clone())),
            directory::Command::Erase { principal, .. } => Some(directory::Subject::Principal(*principal)),
            directory::Command::RaiseFeatureLevel { .. } => Some(directory::Subject::Installation),
            directory::Command::CreateTenant { .. }
            | directory::Command::CreateSite { .. }
            | directory::Command::IssueKey { .. } => None,
        };
        let version = asked.as_ref().map(|subject| directory.version(subject));
        let happened = directory.decide(command)?;
        expect(version.unwrap_or(0), expected)?;
        if happened.is_empty() {
            let body = match asked {
                Some(directory::Subject::Installation) => json!({"level": directory.feature_level()}),
                Some(directory::Subject::Key(key)) => {
                    json!({"id": key, "status": "revoked", "version": version})
                }
                Some(directory::Subject::Principal(id)) => {
                    json!({"id": id, "status": "erased", "version": version})
                }
                Some(directory::Subject::Tenant(_) | directory::Subject::Site(_)) | None => json!({}),
            };
            return Ok(Decision::Unchanged(Unchanged { version, body }));
        }
        let changes = happened.into_iter().map(|happened| Change {
            tenant: happened.tenant,
            version: directory.version(&happened.subject) + 1,
            subject: happened.subject.to_string(),
            event: happened.event.into(),
        });
        Ok(Decision::Commit(changes.collect()))
    }

    /// A commit is decided: what it will make of all this. On an error nothing has changed.
    ///
    /// # Errors
    /// It cannot be folded.
    pub fn decided(&mut self, commit: &Commit, key: Option<(Hash, Hash)>) -> Result<(), FoldError> {
        self.rows.begin();
        match self.fold(commit, key, Seen::Decided, None) {
            Ok(()) => Ok(()),
            Err(error) => {
                let undone: Vec<_> = self.rows.undo().collect();
                self.ring_as_before(undone.into_iter());
                Err(error)
            }
        }
    }

    /// The oldest commit that was decided is admitted, at this offset.
    ///
    /// # Errors
    /// It cannot be folded, or written.
    pub fn admitted(
        &mut self,
        at: Offset,
        commit: &Commit,
        key: Option<(Hash, Hash)>,
    ) -> Result<(), FoldError> {
        self.rows.admit();
        if let (Some((key, request)), Some(last)) = (key, commit.events.last()) {
            let used = Used {
                request,
                time: last.envelope.time,
                offset: Some(at),
            };
            self.rows
                .put(Key::Command(key), Some(Row::Command(used)), Seen::Admitted);
        }
        for recorded in &commit.events {
            // What was decided here was read here once already, so it is read again.
            if let Some(happened) = Happened::read(recorded).inspect_err(|_| self.broken = true)? {
                self.directory.admitted.evolve(&happened);
            }
        }
        self.stands(at, commit);
        // It is in the log and in memory: a disk that fails costs the next commands, not this one.
        let _ = self.write_when_full();
        Ok(())
    }

    /// A commit that was not decided here is admitted; nothing is under way.
    ///
    /// # Errors
    /// It cannot be folded, or written.
    pub fn apply(&mut self, at: Offset, commit: &Commit, key: Option<(Hash, Hash)>) -> Result<(), FoldError> {
        let folded = self.fold(commit, key, Seen::Admitted, Some(at));
        folded.inspect_err(|_| self.broken = true)?;
        self.stands(at, commit);
        self.write_when_full()?;
        Ok(())
    }

    /// Nothing of what was decided and is not admitted ever was.
    pub fn forget(&mut self) {
        let undone: Vec<_> = self.rows.forget().collect();
        self.ring_as_before(undone.into_iter());
        self.time.decided = self.time.admitted;
        if self.directory.decided != self.directory.admitted {
            self.directory.decided = self.directory.admitted.clone();
        }
    }

    /// Writes what is admitted to the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&mut self) -> Result<(), StateError> {
        let Some(standing) = self.standing.filter(|_| !self.broken) else {
            return Ok(());
        };
        if let Some(time) = self.time.admitted {
            self.rows.put(Key::Time, Some(Row::Time(time)), Seen::Admitted);
        }
        let forgotten = self
            .time
            .admitted
            .map_or(i64::MIN, |time| self.kept.forgotten_before(time).micros());
        self.rows.write(standing, forgotten)?;
        self.unwritten = 0;
        Ok(())
    }

    /// Writes what is admitted when it is enough. A disk that fails is tried again now and then; until it takes what is
    /// there, only so much is kept in memory.
    ///
    /// # Errors
    /// What the disk said, when no more can be kept.
    pub fn write_when_full(&mut self) -> Result<(), StateError> {
        if let Some(error) = &self.untold {
            return Err(error.clone());
        }
        let rests = self
            .failed
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < WRITE_AGAIN);
        if (self.rows.is_full() || self.unwritten >= BEHIND) && !rests {
            match self.write() {
                Ok(()) => self.failed = None,
                Err(error) => {
                    tracing::error!(%error, "what is admitted is kept in memory as long as there is room");
                    self.failed = Some((Instant::now(), error));
                }
            }
        }
        match &self.failed {
            Some((_, error)) if self.rows.is_overfull() => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    fn stands(&mut self, at: Offset, commit: &Commit) {
        if let Some(last) = commit.events.last() {
            self.standing = Some(Standing {
                at,
                event: last.envelope.id,
            });
            self.unwritten += 1;
            self.time.admitted = self.time.admitted.max(Some(last.envelope.time));
            self.time.decided = self.time.decided.max(self.time.admitted);
        }
    }

    fn here(&self, tenant: TenantId, seen: Seen) -> Here<'_> {
        Here {
            rows: &self.rows,
            tenant,
            seen,
        }
    }

    fn fold(
        &mut self,
        commit: &Commit,
        key: Option<(Hash, Hash)>,
        seen: Seen,
        at: Option<Offset>,
    ) -> Result<(), FoldError> {
        let tenant = commit.tenant;
        let mut happened = Vec::new();
        self.rows
            .put(Key::Tenant(tenant), Some(Row::Tenant(commit.tenant_seq)), seen);
        for recorded in &commit.events {
            happened.extend(Happened::read(recorded)?);
            if let Some(subject) = tenant::Subject::of(recorded)? {
                let rows = tenant::evolve(&self.here(tenant, seen), subject, &recorded.event);
                self.rows.check()?;
                for row in rows {
                    let (key, row) = placed(tenant, row);
                    self.rows.put(key, row, seen);
                }
                if let (tenant::Subject::Content(id), Event::Content(event)) = (subject, &recorded.event)
                    && let Some(timer) = Timer::follow(event, &recorded.envelope)
                {
                    self.timers.set(tenant, id, timer.as_ref().map(|timer| timer.at));
                    let row = timer.map(|timer| Row::Timer(Box::new(timer)));
                    self.rows.put(Key::Timer(tenant, id), row, seen);
                }
            }
        }
        if let (Some((key, request)), Some(last)) = (key, commit.events.last()) {
            let used = Used {
                request,
                time: last.envelope.time,
                offset: at,
            };
            self.rows.put(Key::Command(key), Some(Row::Command(used)), seen);
        }
        // After all that may fail.
        for happened in &happened {
            self.directory.decided.evolve(happened);
            if seen == Seen::Admitted {
                self.directory.admitted.evolve(happened);
            }
        }
        if let Some(last) = commit.events.last() {
            self.time.decided = self.time.decided.max(Some(last.envelope.time));
        }
        Ok(())
    }

    fn ring_as_before(&mut self, undone: impl Iterator<Item = Key>) {
        for key in undone {
            if let Key::Timer(tenant, content) = key {
                let timer = self.rows.get(&key, Seen::Decided).and_then(Row::timer);
                self.timers.set(tenant, content, timer.map(|timer| timer.at));
            }
        }
        self.untold = self.untold.take().or(self.rows.check().err());
    }
}

/// What clients hear of a disk that fails: nothing was done, and another process may be able to.
pub fn unreadable(error: StateError) -> Error {
    Error::outside("reading the decision state", error)
}

fn placed(tenant: TenantId, row: tenant::Row) -> (Key, Option<Row>) {
    match row {
        tenant::Row::Content(id, content) => (Key::Content(tenant, id), Some(Row::Content(content))),
        tenant::Row::Slug(site, kind, slug, holder) => {
            (Key::Slug(tenant, site, kind, slug), holder.map(Row::Holder))
        }
        tenant::Row::Download(id, download) => (Key::Download(tenant, id), Some(Row::Download(download))),
        tenant::Row::Import(id, import) => (Key::Import(tenant, id), Some(Row::Import(import))),
        tenant::Row::Fingerprint(site, fingerprint, id) => {
            (Key::Fingerprint(tenant, site, fingerprint), Some(Row::Source(id)))
        }
    }
}

impl Here<'_> {
    fn get(&self, key: &Key) -> Option<Row> {
        self.rows.get(key, self.seen)
    }
}

impl Slugs for Here<'_> {
    fn holder(&self, site: SiteId, kind: Kind, slug: &content::Slug) -> Option<ContentId> {
        self.get(&Key::Slug(self.tenant, site, kind, slug.clone()))?
            .holder()
    }
}

impl Fingerprints for Here<'_> {
    fn find(&self, site: SiteId, fingerprint: Sha256) -> Option<ImportId> {
        self.get(&Key::Fingerprint(self.tenant, site, fingerprint))?
            .source()
    }
}

impl Repository for Here<'_> {
    fn content(&self, id: ContentId) -> Content {
        let row = self.get(&Key::Content(self.tenant, id));
        row.and_then(Row::content).unwrap_or_default()
    }

    fn download(&self, id: DownloadId) -> Download {
        let row = self.get(&Key::Download(self.tenant, id));
        row.and_then(Row::download).unwrap_or_default()
    }

    fn import(&self, id: ImportId) -> Import {
        let row = self.get(&Key::Import(self.tenant, id));
        row.and_then(Row::import).unwrap_or_default()
    }
}

fn decide_content(
    here: &Here<'_>,
    id: ContentId,
    command: content::Command,
    expected: &Expected,
    at: Timestamp,
) -> Result<Decision, Error> {
    let content = here.content(id);
    if !matches!(command, content::Command::Draft(_)) && content.version() == 0 {
        return Err(Error::NotFound("content"));
    }
    expect(content.version(), expected)?;
    let events = aggregate::decide(&content, command, here, at)?;
    let changes = changes(here.tenant, &id, content.version(), events);
    let unchanged = || {
        let piece = content.piece();
        let status = piece.map(|piece| piece.status.name());
        let slug = piece.map(|piece| piece.slug.as_str());
        json!({"id": id, "slug": slug, "status": status, "version": piece.map(|piece| piece.version)})
    };
    Ok(committed(changes, content.version(), unchanged))
}

fn decide_download(
    here: &Here<'_>,
    id: DownloadId,
    command: download::Command,
    expected: &Expected,
    at: Timestamp,
) -> Result<Decision, Error> {
    let download = here.download(id);
    let new = matches!(command, download::Command::Queue(_));
    if !new && download.version() == 0 {
        return Err(Error::NotFound("download"));
    }
    expect(download.version(), expected)?;
    let priority = if let download::Command::Reprioritise { priority } = &command {
        Some(*priority)
    } else {
        None
    };
    let events = aggregate::decide(&download, command, &(), at)?;
    let changes = changes(here.tenant, &id, download.version(), events);
    let unchanged = || {
        let status = match &download {
            Download::Nothing => None,
            Download::Entry(entry) => Some(entry.status.name()),
        };
        let mut body = json!({"id": id, "status": status, "version": download.version()});
        if let Some(priority) = priority {
            body["priority"] = json!(priority);
            body["changed"] = json!([]);
        }
        body
    };
    Ok(committed(changes, download.version(), unchanged))
}

fn decide_reorder(
    here: &Here<'_>,
    priorities: &[(DownloadId, i32)],
    expected: &Expected,
) -> Result<Decision, Error> {
    if *expected != Expected::Any {
        return Err(Error::NoVersion);
    }
    let changes: Vec<_> = download::reorder(priorities, |id| here.download(id))?
        .into_iter()
        .flat_map(|(id, event)| changes(here.tenant, &id, here.download(id).version(), vec![event]))
        .collect();
    if changes.is_empty() {
        return Ok(Decision::Unchanged(Unchanged {
            version: None,
            body: json!({"changed": []}),
        }));
    }
    Ok(Decision::Commit(changes))
}

fn decide_import(
    here: &Here<'_>,
    id: ImportId,
    command: import::Command,
    expected: &Expected,
    at: Timestamp,
) -> Result<Decision, Error> {
    let import = here.import(id);
    expect(import.version(), expected)?;
    match aggregate::decide(&import, command, here, at) {
        Ok(events) => {
            let changes = changes(here.tenant, &id, import.version(), events);
            Ok(committed(changes, import.version(), || import_body(id, &import)))
        }
        // The same file again is no mistake: whoever brings it learns how far it is.
        Err(import::Rejection::Known { id }) => {
            let import = here.import(id);
            Ok(committed(Vec::new(), import.version(), || {
                import_body(id, &import)
            }))
        }
        Err(rejection) => Err(rejection.into()),
    }
}

/// What is told of an import.
pub fn import_body(id: ImportId, import: &Import) -> Value {
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

#[cfg(test)]
mod tests;
