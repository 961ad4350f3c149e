//! Answers kept in memory, and the rule by which they may be served.
//!
//! **The rule.** The tables tell each change: whenever a checkpoint of a projection moves or another generation
//! goes live, its change counter ([`read_models::Progress::changes`]) moves. An entry carries the counters of
//! `directory` and `content` as they were *before* it was read, its mark. A request looks at the counters once it
//! has waited for its position, and takes an entry only when the entry's mark is not older than that. So
//! nothing is served that is older than a position asked for, nor than what this process has heard of. When a
//! mark is too old, one caller reads again (and reuses the rendered page when the version is the same) while
//! others wait for it, and they take what it read only if its mark was taken after they arrived.
//!
//! **The bound.** Should notifications fail without anyone noticing, [`MAX_AGE`] still holds: an entry that was
//! not confirmed by the tables for that long is read again. So a revoked key stops within a second. Half-way
//! there one caller confirms the entry while the others are still served, so that nobody waits for the tables
//! as long as nothing changes.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use read_models::{Progress, Projection};
use tokio::sync::Mutex;

use crate::metrics;

/// Entries that the tables have not confirmed for this long are not served.
pub(crate) const MAX_AGE: Duration = Duration::from_millis(800);

/// After this long one caller confirms an entry with the tables.
const CONFIRM: Duration = Duration::from_millis(400);

/// How long one who wants the same waits for another one to read it: as long as a pool gives no connection. Were they to
/// fail one after the other while the tables are away, the last would wait for hours.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who reads at the same time for different keys seldom meets at one lock.
const LOCKS: usize = 128;

/// What is known of changes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    directory: u64,
    content: u64,
}

impl Mark {
    /// As it is now.
    pub(crate) fn now(progress: &Progress) -> Self {
        Self {
            directory: progress.changes(Projection::Directory),
            content: progress.changes(Projection::Content),
        }
    }

    /// What the directory was told of by now: the rest is nothing to a key or a site.
    pub(crate) fn of_directory(progress: &Progress) -> Self {
        Self {
            directory: progress.changes(Projection::Directory),
            content: 0,
        }
    }

    const fn covers(self, needed: Self) -> bool {
        self.directory >= needed.directory && self.content >= needed.content
    }
}

#[derive(Debug)]
struct Entry<V> {
    mark: Mark,
    read: Instant,
    /// Someone is on the way to the tables.
    confirming: AtomicBool,
    value: V,
}

impl<V> Entry<V> {
    /// Whether it may be served, and whether it is time that someone confirms it.
    fn serves(&self, needed: Mark) -> Option<Age> {
        let age = self.read.elapsed();
        let may = self.mark.covers(needed) && age < MAX_AGE;
        may.then_some(if age < CONFIRM { Age::Young } else { Age::ToConfirm })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Young,
    ToConfirm,
}

/// A cache of one kind of answer. `V` is cheap to clone.
pub(crate) struct Cache<K, V> {
    entries: moka::sync::Cache<K, Arc<Entry<V>>>,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
    hits: IntCounter,
    reads: IntCounter,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most about `bytes` of values, as `weigh` tells their sizes.
    pub(crate) fn new(name: &'static str, bytes: u64, weigh: fn(&K, &V) -> usize) -> Self {
        let entries = moka::sync::Cache::builder()
            .name(name)
            .max_capacity(bytes)
            .weigher(move |key, entry: &Arc<Entry<V>>| {
                u32::try_from(weigh(key, &entry.value).saturating_add(200)).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            entries,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
            hits: metrics::CACHE.with_label_values(&[name, "hit"]),
            reads: metrics::CACHE.with_label_values(&[name, "read"]),
        }
    }

    /// The value, if memory has one that is fresh enough.
    pub(crate) fn get<Q>(&self, key: &Q, needed: Mark) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.entries.get(key)?;
        let served = match entry.serves(needed)? {
            Age::Young => true,
            Age::ToConfirm => entry.confirming.load(Ordering::Relaxed),
        };
        served.then(|| self.hit(&entry))
    }

    /// The value from memory if it is fresh enough, else from the tables. `read` is given what was known before.
    pub(crate) async fn get_or_read<E>(
        &self,
        key: K,
        progress: &Progress,
        needed: Mark,
        read: impl AsyncFnOnce(Option<V>) -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(entry) = self.entries.get(&key) {
            let served = match entry.serves(needed) {
                Some(Age::Young) => true,
                Some(Age::ToConfirm) => entry.confirming.swap(true, Ordering::Relaxed),
                None => false,
            };
            if served {
                return Ok(self.hit(&entry));
            }
        }
        let place = usize::try_from(self.hasher.hash_one(&key)).unwrap_or_default() % LOCKS;
        let _reading = tokio::time::timeout(PATIENCE, self.locks[place].lock()).await;
        let known = self.entries.get(&key);
        if let Some(entry) = &known
            && entry.serves(needed) == Some(Age::Young)
        {
            return Ok(self.hit(entry));
        }
        self.reads.inc();
        // Before the tables are asked: what changes meanwhile makes the entry too old, never too young.
        let (mark, now) = (Mark::now(progress), Instant::now());
        let value = read(known.map(|entry| entry.value.clone())).await?;
        self.entries.insert(
            key,
            Arc::new(Entry {
                mark,
                read: now,
                confirming: AtomicBool::new(false),
                value: value.clone(),
            }),
        );
        Ok(value)
    }

    fn hit(&self, entry: &Entry<V>) -> V {
        self.hits.inc();
        entry.value.clone()
    }
}
