//! Where a process keeps what it has folded out of the log, on a disk of its own: a key-value store for each
//! partition, with the place in the log that it stands at.
//!
//! It holds admitted history only, and rows move together with that place, so whatever a crash leaves behind is what
//! the log said at some moment. It shortens a start and bounds memory, and no more: lost, of another log, of another
//! fold or damaged, it is made anew from the log. Nothing in it is fsynced.

use std::{path::Path, sync::Arc};

use events::EventId;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, config::CompressionPolicy};
use serde::{Deserialize, Serialize};

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
/// Journals on disk; they are read at every start.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Where the standing is; rows begin with other bytes.
const STANDING: [u8; 1] = [0];

/// The stores of a process. Cheap to clone.
#[derive(Clone)]
pub struct StateStores(Arc<Opened>);

struct Opened {
    db: Database,
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
}

/// The disk cannot be read or written, or holds what nobody wrote.
#[derive(Debug, thiserror::Error)]
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
                let made = tempfile::Builder::new().prefix("annals-state-").tempdir();
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
        Ok(Self(Arc::new(Opened { db, _own: own })))
    }

    /// The store of a partition. What was folded out of another log, or by another fold, is thrown away.
    ///
    /// # Errors
    /// The disk.
    pub fn store(&self, log: LogId, partition: Partition, fold: &str) -> Result<StateStore, StateError> {
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        };
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
        let Some(row) = self.keyspace.get(STANDING)? else {
            return Ok(None);
        };
        let stands: Option<Stands> = serde_json::from_slice(&row).ok();
        Ok(stands
            .filter(|stands| stands.identity == self.identity)
            .map(|stands| stands.standing))
    }

    /// The row of this key.
    ///
    /// # Errors
    /// The disk.
    pub fn get(&self, key: &[u8]) -> Result<Option<impl AsRef<[u8]> + use<>>, StateError> {
        Ok(self.keyspace.get(key)?)
    }

    /// Rows whose keys begin so, in the order of their keys.
    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StateError>> + use<> {
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
        let stands = Stands {
            identity: self.identity.clone(),
            standing,
        };
        let stands = serde_json::to_vec(&stands).map_err(StateError::damaged)?;
        batch.insert(&self.keyspace, STANDING, stands);
        Ok(batch.commit()?)
    }

    /// Throws everything away.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&self) -> Result<(), StateError> {
        Ok(self.keyspace.clear()?)
    }

    /// About how many bytes it takes on the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.keyspace.disk_space()
    }
}

impl Standing {
    /// The state of admission after the commit, as its record says; none, when another record stands there.
    ///
    /// # Errors
    /// The log cannot be read, or ends before it ([`ReadError::OutOfRange`]).
    pub async fn confirm(self, log: &Log, partition: Partition) -> Result<Option<State>, ReadError> {
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
