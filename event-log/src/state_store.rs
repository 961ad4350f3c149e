//! Where a process keeps what it has folded out of the log, on a disk of its own: a key-value store for each
//! partition, with the place in the log that it stands at.
//!
//! It holds admitted history only, and rows move together with that place, so whatever a crash leaves behind is what
//! the log said at some moment. It shortens a start and bounds memory, and no more: lost, of another log, of another
//! fold or damaged, it is made anew from the log. Nothing in it is fsynced.
//!
//! A little longer than a file should be: what may be in a store, and every way in which it comes to be there.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use events::EventId;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable as _, compaction::Leveled,
    config::CompressionPolicy,
};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    admission::State,
    commit::Commit,
    embedded::told,
    genesis::LogId,
    log::{Log, OpenError, ReadError},
    partition::{Offset, Partition},
    record::Stated,
};

/// Blocks of all partitions together that are kept in memory; rows that are used often are the fold's to keep.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A partition's rows in memory before they become a table.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// Tables of the first level before they go into the second one, which is about as large.
const FIRST_LEVEL: u8 = 8;
/// Journals on disk; they are read at every start.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// How the folders are named that last as long as their process.
const OWN_FOLDER: &str = "annals-state-";
/// The file of a folder that its process holds locked (fjall's).
const LOCK: &str = "lock";
/// How long a folder may exist before its process has locked it.
const BEING_MADE: Duration = Duration::from_mins(1);
/// Where the standing is; rows begin with other bytes than 0.
const STANDING: [u8; 1] = [0];
/// What rows that came together, from a snapshot, are marked with.
const FILLING: [u8; 2] = [0, 1];

/// Key and value, as they lie on the disk.
pub type Row = (Vec<u8>, Vec<u8>);

/// The stores of a process. Cheap to clone.
#[derive(Clone)]
pub struct StateStores(Arc<Opened>);

struct Opened {
    db: Database,
    folder: PathBuf,
    /// A folder that is nobody's after this process.
    _own: Option<tempfile::TempDir>,
}

/// The store of one partition.
#[derive(Clone)]
pub struct StateStore {
    db: Database,
    keyspace: Keyspace,
    identity: Identity,
}

/// What a store was folded out of, and by which fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The log.
    pub log: LogId,
    /// The partition, as text.
    pub partition: String,
    /// The fold: another one makes other rows of the same events.
    pub fold: String,
}

/// The admitted commit that was folded last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Where its record stands.
    pub at: Offset,
    /// The id of its last event: the record there must have it.
    pub event: EventId,
}

/// The row under [`STANDING`].
#[derive(Serialize, Deserialize)]
struct Stands {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    standing: Standing,
    /// Where it stood before that, as long as it is known.
    #[serde(default)]
    before: Option<Standing>,
    /// The mark of the rows that came together: without them nothing here counts.
    #[serde(default)]
    filling: Option<Uuid>,
}

/// What a store held at one moment, while it goes on.
pub(crate) struct View {
    pub(crate) identity: Identity,
    pub(crate) standing: Standing,
    /// Where it stood some way before that.
    pub(crate) before: Option<Standing>,
    snapshot: fjall::Snapshot,
    keyspace: Keyspace,
}

/// The disk cannot be read or written, or holds what nobody wrote.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the decision state on this process' disk: {0}")]
pub struct StateError(String);

impl From<fjall::Error> for StateError {
    fn from(error: fjall::Error) -> Self {
        Self(told(&error))
    }
}

impl StateError {
    /// What is there cannot be understood.
    pub fn damaged(what: impl std::fmt::Display) -> Self {
        Self(format!("damaged: {what}"))
    }
}

/// Removes the folders of processes that were killed: nobody reads them again, and each may be as large as a ledger.
/// Those without a lock file, and those of this minute, are being made.
fn remove_left_behind(dir: &Path) {
    let named = |entry: &fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(OWN_FOLDER)
            && entry.file_type().is_ok_and(|it| it.is_dir())
    };
    // Anyone may put anything there: opening must not wait for another end, or lead elsewhere.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let open = |lock: PathBuf| OpenOptions::new().read(true).custom_flags(flags).open(lock);
    let left_behind = |lock: &File| {
        let age = lock
            .metadata()
            .and_then(|lock| lock.modified())
            .map(|made| made.elapsed());
        matches!(age, Ok(Ok(age)) if age > BEING_MADE) && lock.try_lock().is_ok()
    };
    for folder in fs::read_dir(dir).into_iter().flatten().flatten().filter(named) {
        let path = folder.path();
        // Held until it is gone: two who start at the same time do not both remove it.
        let Some(_lock) = open(path.join(LOCK)).ok().filter(left_behind) else {
            continue;
        };
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(folder = %path.display(), "removed: its process was killed"),
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "its process was killed; it could not be removed");
            }
        }
    }
}

impl StateStores {
    /// Opens the folder; without one, a folder for this run alone, which starts empty.
    ///
    /// # Errors
    /// It is in use by another process, or cannot be written.
    pub fn open(dir: Option<&Path>) -> Result<Self, OpenError> {
        let unavailable = |shown: String, error: String| {
            OpenError::Unavailable(format!("cannot keep decision state in {shown}: {error}"))
        };
        let own = match dir {
            Some(_) => None,
            None => {
                remove_left_behind(&std::env::temp_dir());
                let made = tempfile::Builder::new().prefix(OWN_FOLDER).tempdir();
                Some(made.map_err(|error| {
                    unavailable(
                        "the system's folder for temporary files".to_owned(),
                        error.to_string(),
                    )
                })?)
            }
        };
        let path = dir
            .or(own.as_ref().map(|own| own.path()))
            .unwrap_or(Path::new("."));
        let shown = path.display().to_string();
        let opened = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open();
        let db = opened.map_err(|error| {
            if matches!(error, fjall::Error::Locked) {
                let each = "in use by another process; each needs a folder of its own";
                unavailable(shown, each.to_owned())
            } else {
                unavailable(shown, told(&error))
            }
        })?;
        let folder = path.to_owned();
        Ok(Self(Arc::new(Opened {
            db,
            folder,
            _own: own,
        })))
    }

    /// A file beside the stores that is gone with its last handle, or with this process.
    pub(crate) fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.0.folder)
    }

    /// The store of a partition. What was folded out of another log, or by another fold, is thrown away.
    ///
    /// # Errors
    /// The disk.
    pub fn store(&self, log: LogId, partition: Partition, fold: &str) -> Result<StateStore, StateError> {
        let store = StateStore {
            db: self.0.db.clone(),
            keyspace: self
                .0
                .db
                .keyspace(&format!("{}-{}", partition.topic, partition.index), options)?,
            identity: Identity {
                log,
                partition: partition.to_string(),
                fold: fold.to_owned(),
            },
        };
        if !store.keyspace.is_empty()? && store.standing()?.is_none() {
            tracing::info!(%partition, "decision state of another log or release: folding the log anew");
            store.clear()?;
        }
        Ok(store)
    }
}

impl StateStore {
    /// Where it stands; none, when it holds nothing of this log and fold.
    ///
    /// # Errors
    /// The disk.
    pub fn standing(&self) -> Result<Option<Standing>, StateError> {
        Ok(self.stands()?.map(|stands| stands.standing))
    }

    fn stands(&self) -> Result<Option<Stands>, StateError> {
        let Some(row) = self.keyspace.get(STANDING)? else {
            return Ok(None);
        };
        let stands: Option<Stands> = serde_json::from_slice(&row).ok();
        let Some(stands) = stands.filter(|stands| stands.identity == self.identity) else {
            return Ok(None);
        };
        if let Some(mark) = stands.filling
            && self.keyspace.get(FILLING)?.as_deref() != Some(mark.as_bytes())
        {
            return Ok(None);
        }
        Ok(Some(stands))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it holds now; none, when that is nothing.
    pub(crate) fn view(&self) -> Result<Option<View>, StateError> {
        let snapshot = self.db.snapshot();
        let Some(row) = snapshot.get(&self.keyspace, STANDING)? else {
            return Ok(None);
        };
        let stands: Stands = serde_json::from_slice(&row).map_err(StateError::damaged)?;
        Ok(Some(View {
            identity: stands.identity,
            standing: stands.standing,
            before: stands.before,
            snapshot,
            keyspace: self.keyspace.clone(),
        }))
    }

    /// The row of this key.
    ///
    /// # Errors
    /// The disk.
    pub fn get(&self, key: &[u8]) -> Result<Option<impl AsRef<[u8]> + use<>>, StateError> {
        Ok(self.keyspace.get(key)?)
    }

    /// Rows whose keys begin so, in the order of their keys.
    pub fn prefix(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Row, StateError>> + use<> {
        self.keyspace.prefix(prefix).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        })
    }

    /// Writes rows (none: removes them) together with the place that they bring the store to.
    ///
    /// # Errors
    /// The disk.
    pub fn write(
        &self,
        rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
        standing: Standing,
    ) -> Result<(), StateError> {
        let mut batch = self.db.batch();
        for (key, row) in rows {
            match row {
                Some(row) => batch.insert(&self.keyspace, key, row),
                None => batch.remove(&self.keyspace, key),
            }
        }
        let known = self.stands()?;
        let filling = known.as_ref().and_then(|known| known.filling);
        let before = match known {
            Some(known) if known.standing == standing => known.before,
            Some(known) => Some(known.standing),
            None => None,
        };
        let stands = self.row(standing, before, filling)?;
        batch.insert(&self.keyspace, STANDING, stands);
        Ok(batch.commit()?)
    }

    fn row(
        &self,
        standing: Standing,
        before: Option<Standing>,
        filling: Option<Uuid>,
    ) -> Result<Vec<u8>, StateError> {
        let stands = Stands {
            identity: self.identity.clone(),
            standing,
            before,
            filling,
        };
        serde_json::to_vec(&stands).map_err(StateError::damaged)
    }

    /// Throws everything away and puts these rows in, all of them together. They must be in the order of their keys.
    ///
    /// # Errors
    /// The disk, or whatever keeps the rows from coming; then it holds nothing.
    pub(crate) fn refill<E: From<StateError>>(
        &mut self,
        standing: Standing,
        before: Option<Standing>,
        rows: impl Iterator<Item = Result<Row, E>>,
    ) -> Result<(), E> {
        let disk = |error: fjall::Error| E::from(error.into());
        // Rows that are put in together are not in the journal. To clear the keyspace is, and a start that reads the
        // journal would do that again, to them: so it is another keyspace. And since rows are the least that may be
        // missed, they bear a mark that the standing names.
        let name = self.keyspace.name().to_string();
        self.db.delete_keyspace(self.keyspace.clone()).map_err(disk)?;
        self.keyspace = self.db.keyspace(&name, options).map_err(disk)?;
        let mark = Uuid::new_v4();
        let mut filling = self.keyspace.start_ingestion().map_err(disk)?;
        let stands = self.row(standing, before, Some(mark))?;
        filling.write(STANDING, stands).map_err(disk)?;
        filling.write(FILLING, *mark.as_bytes()).map_err(disk)?;
        for row in rows {
            let (key, value) = row?;
            filling.write(key, value).map_err(disk)?;
        }
        filling.finish().map_err(disk)
    }

    /// Throws everything away.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&self) -> Result<(), StateError> {
        Ok(self.keyspace.clear()?)
    }

    /// What a crash would do that the disk forgot something after: rows that came together are not there.
    #[cfg(test)]
    pub(crate) fn lose_filling(&self) -> Result<(), StateError> {
        Ok(self.keyspace.remove(FILLING)?)
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        // Every table of the first level meets all of the second, which is therefore small; what is written over and over
        // again there is not compressed.
        .compaction_strategy(Arc::new(
            Leveled::default()
                .with_l0_threshold(FIRST_LEVEL)
                .with_table_target_size(MEMTABLE_BYTES),
        ))
        .data_block_compression_policy(CompressionPolicy::new([
            CompressionType::None,
            CompressionType::None,
            CompressionType::Lz4,
        ]))
}

impl View {
    /// Its rows, in the order of their keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Row, StateError>> + use<> {
        let all = self.snapshot.iter(&self.keyspace).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        });
        // The store's own are the standing's.
        all.filter(|row| !matches!(row, Ok((key, _)) if key.first() == Some(&0)))
    }
}

impl Standing {
    /// The state of admission after the commit, as its record says; none, when another record stands there.
    ///
    /// # Errors
    /// The log cannot be read, or ends before it ([`ReadError::OutOfRange`]).
    pub async fn confirm(self, log: &Log, partition: Partition) -> Result<Option<State>, ReadError> {
        let end = log.end(partition).await?;
        if self.at >= end {
            // A reader at the end would wait for the next record.
            return Err(ReadError::OutOfRange {
                partition,
                offset: self.at,
                first: 0,
                end,
            });
        }
        let batch = log.reader(partition, self.at)?.next().await?;
        let Some(stored) = batch.records.first().filter(|stored| stored.offset == self.at) else {
            return Ok(None);
        };
        let Ok(Stated::Commit(headers)) = stored.record.stated() else {
            return Ok(None);
        };
        let commit = Commit::decode(&headers, &stored.record).ok();
        let last = commit.and_then(|commit| commit.events.last().map(|last| last.envelope.id));
        Ok((last == Some(self.event)).then_some(State {
            epoch: headers.epoch,
            seq: headers.seq,
            hash: headers.hash,
        }))
    }
}

#[cfg(test)]
mod tests;
