//! The embedded adapter: an LSM store (fjall) in a folder of this process alone.
//!
//! Each partition is a keyspace: keys are offsets, so tables never overlap and compaction moves them instead of
//! rewriting. One thread commits: what arrives while an fsync is under way becomes the next batch, so throughput
//! comes from grouping and a lonely record waits for one fsync only. Offsets are given by that thread, in the order
//! of its queue. A record becomes readable when it is on the disk, never earlier.

mod committer;
mod ends;
mod layout;
mod reader;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
};

use events::Timestamp;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions,
    config::{BlockSizePolicy, CompressionPolicy, FilterPolicy},
};
use tokio::sync::{mpsc, watch};

pub(crate) use self::reader::Reader;
use self::{committer::Item, ends::Ends, layout::offset_of_key};
use crate::{
    gate::Gate,
    log::{Appending, OpenError, ReadError},
    metrics,
    partition::{Offset, Partition},
    record::Record,
};

/// Records that may wait for the committer, of all partitions together.
const QUEUE: usize = 65_536;
/// Blocks of the LSM that are kept in memory: readers go forward, so few are read twice.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// A partition's records in memory before they become a table.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// Journals on disk. They are read at every start, so few.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;
/// Large blocks, because reads are long and lz4 finds more to shorten.
const BLOCK_BYTES: u32 = 32 * 1024;

/// An open folder.
pub(crate) struct Embedded {
    store: RwLock<Option<Arc<Store>>>,
    queue: RwLock<Option<mpsc::Sender<Item>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Why it has stopped for good.
    stopped: watch::Sender<Option<String>>,
}

/// The database and what is known of its partitions.
struct Store {
    db: Database,
    ends: Ends,
    shards: RwLock<HashMap<Partition, Arc<Shard>>>,
}

/// One partition.
struct Shard {
    partition: Partition,
    keyspace: Keyspace,
    /// The next offset, of records that are on the disk.
    end: watch::Sender<Offset>,
    gate: Arc<Gate>,
}

impl Embedded {
    pub(crate) async fn open(dir: &Path) -> Result<Arc<Self>, OpenError> {
        let path = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
        let panicked = |error| {
            let dir = dir.display();
            OpenError::Unavailable(format!(
                "cannot open the log in {dir}: a file there is damaged ({error}); restore the folder from a copy"
            ))
        };
        let store = Arc::new(opened.map_err(panicked)??);
        let stopped = watch::Sender::new(None);
        let (queue, items) = mpsc::channel(QUEUE);
        let committer = committer::spawn(store.clone(), items, stopped.clone())
            .map_err(|error| OpenError::Unavailable(format!("cannot start the log's committer: {error}")))?;
        Ok(Arc::new(Self {
            store: RwLock::new(Some(store)),
            queue: RwLock::new(Some(queue)),
            committer: Mutex::new(Some(committer)),
            stopped,
        }))
    }

    pub(crate) fn append(&self, partition: Partition, record: Record) -> Appending {
        self.append_taken(partition, record, None)
    }

    /// One that another log took before, at this time.
    pub(crate) fn append_taken(
        &self,
        partition: Partition,
        record: Record,
        taken: Option<Timestamp>,
    ) -> Appending {
        if let Some(reason) = self.stopped.borrow().as_ref() {
            return Appending::not(format!("the log has stopped: {reason}"));
        }
        let shard = match self.shard(partition) {
            Ok(shard) => shard,
            Err(error) => return Appending::not(error.to_string()),
        };
        let full = || {
            metrics::full(partition.topic);
            Appending::not(format!("too many records of {partition} wait for the disk"))
        };
        let Some((ticket, answer)) = shard.gate.enter(partition.topic.short(), record.size()) else {
            return full();
        };
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else {
            return Appending::not("the log is closed");
        };
        match queue.try_send(Item {
            shard,
            record,
            taken,
            ticket,
        }) {
            Ok(()) => Appending::pending(answer),
            Err(mpsc::error::TrySendError::Full(_)) => full(),
            Err(mpsc::error::TrySendError::Closed(_)) => Appending::not("the log has stopped"),
        }
    }

    pub(crate) fn reader(self: &Arc<Self>, partition: Partition, from: Offset) -> Result<Reader, ReadError> {
        let shard = self.shard(partition)?;
        let end = shard.end.subscribe();
        let known = *end.borrow();
        if from > known {
            return Err(ReadError::OutOfRange {
                partition,
                offset: from,
                first: 0,
                end: known,
            });
        }
        Ok(Reader::new(Arc::downgrade(self), partition, from, end))
    }

    pub(crate) fn end(&self, partition: Partition) -> Result<Offset, ReadError> {
        let shard = self.shard(partition)?;
        let end = *shard.end.borrow();
        Ok(end)
    }

    /// Commits what is queued, ends the committer, and lets go of the folder.
    pub(crate) async fn close(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(committer) = committer {
                let _ = committer.join();
            }
            drop(store);
        });
        let _ = ended.await;
    }

    /// Completes when an error has stopped it for good, and says which.
    pub(crate) async fn stopped(&self) -> String {
        let mut stopped = self.stopped.subscribe();
        let reason = stopped
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    fn shard(&self, partition: Partition) -> Result<Arc<Shard>, ReadError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        let closed = || ReadError::Failed {
            partition,
            reason: "the log is closed".to_owned(),
        };
        store.ok_or_else(closed)?.shard(partition)
    }
}

impl Store {
    fn open(dir: &Path) -> Result<Self, OpenError> {
        let db = open_database(dir)?;
        let unavailable =
            |why: String| OpenError::Unavailable(format!("cannot open the log in {}: {why}", dir.display()));
        let ends = Ends::open(dir).map_err(|error| unavailable(error.to_string()))?;
        let known = ends.known().map_err(|error| unavailable(error.to_string()))?;
        let store = Self {
            db,
            ends,
            shards: RwLock::default(),
        };
        for (partition, acknowledged) in known {
            let shard = store
                .shard(partition)
                .map_err(|error| unavailable(error.to_string()))?;
            let end = *shard.end.borrow();
            if end < acknowledged {
                return Err(OpenError::Damaged(format!(
                    "the log in {} has lost what it acknowledged: {partition} ends at offset {end}, and ended at \
                     {acknowledged}. A file there was damaged or replaced: restore the folder from a copy. To go on without \
                     what is lost, delete {}",
                    dir.display(),
                    store.ends.path().display(),
                )));
            }
        }
        Ok(store)
    }

    /// The partition's shard; its keyspace is made when it is first asked for.
    fn shard(&self, partition: Partition) -> Result<Arc<Shard>, ReadError> {
        if let Some(shard) = self
            .shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&partition)
        {
            return Ok(shard.clone());
        }
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shards.get(&partition) {
            return Ok(shard.clone());
        }
        let failed = |reason: String| ReadError::Failed { partition, reason };
        let name = format!("{}-{}", partition.topic, partition.index);
        let keyspace = self
            .db
            .keyspace(&name, keyspace_options)
            .map_err(|error| failed(told(&error)))?;
        let end = match keyspace.last_key_value() {
            None => 0,
            Some(last) => {
                let key = last.key().map_err(|error| failed(told(&error)))?;
                offset_of_key(&key).ok_or_else(|| failed("its last key is no offset".to_owned()))? + 1
            }
        };
        let shard = Arc::new(Shard {
            partition,
            keyspace,
            end: watch::Sender::new(end),
            gate: Arc::default(),
        });
        shards.insert(partition, shard.clone());
        Ok(shard)
    }

    /// Bytes in memory with which no more is taken. A table of each partition may be nearly full, and take one batch
    /// more.
    fn most_buffered(&self) -> u64 {
        (2 * self.db.keyspace_count() + 4) as u64 * MEMTABLE_BYTES
    }

    /// How many tables in memory wait to be written.
    fn sealed_memtables(&self) -> usize {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = shards
            .values()
            .map(|shard| shard.keyspace.sealed_memtable_count());
        sealed.sum()
    }
}

fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        // Nothing is looked up by a key that may be absent.
        .filter_policy(FilterPolicy::disabled())
}

fn open_database(dir: &Path) -> Result<Database, OpenError> {
    let shown = dir.display().to_string();
    if dir.exists() && !dir.is_dir() {
        return Err(OpenError::Unavailable(format!(
            "{shown} is a file; the log needs a folder"
        )));
    }
    Database::builder(dir)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        // The committer says when to persist.
        .manual_journal_persist(true)
        // Of several, the first one hands compactions on, to itself too, without a rest while the others are busy: a core
        // that does nothing.
        .worker_threads(1)
        .open()
        .map_err(|error| {
            if matches!(error, fjall::Error::Locked) {
                OpenError::InUse(shown)
            } else {
                OpenError::Unavailable(format!("cannot open the log in {shown}: {}", told(&error)))
            }
        })
}

/// What the store said, in words that help.
pub(crate) fn told(error: &fjall::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>() {
            return if io.kind() == std::io::ErrorKind::StorageFull {
                format!("the disk is full ({io}); make room and start again")
            } else if io.kind() == std::io::ErrorKind::PermissionDenied {
                format!("this user may not write there ({io})")
            } else {
                io.to_string()
            };
        }
        cause = this.source();
    }
    if let fjall::Error::JournalRecovery(what) = error {
        return format!("a journal there is damaged ({what:?}); restore the folder from a copy");
    }
    if matches!(error, fjall::Error::Poisoned) {
        return "a write failed, as on a full disk: see to that disk, then start this process again"
            .to_owned();
    }
    error.to_string()
}
