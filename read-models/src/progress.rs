//! How far every live projection has come, kept in memory by one task that listens to the database.
//!
//! A query that carries a position waits here. A waiter is woken once, when its offset is reached, by its
//! place in an ordered set: a thousand of them cost a thousand entries, not a thousand polls.
//!
//! A little longer than a file should be: what is known and who waits for it are one state.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{Projection, Topic};

mod follow;
#[cfg(test)]
mod tests;

/// A log end counts against a position only when it was asked for this long after the request came: clocks are set
/// now and then.
const SETTLED: Duration = Duration::from_millis(300);

/// What a position says about one partition: everything before this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The topic.
    pub topic: Topic,
    /// Its partition, from 0.
    pub partition: u32,
    /// The first offset that need not be in the tables.
    pub next_offset: u64,
}

/// What a query needs to be in the tables before it is answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The position; parts of topics that a projection does not follow are passed over.
    pub parts: &'a [Part],
    /// Whose rows are read: a parked event of this tenant, within the position, ends the wait.
    pub tenant: Option<Uuid>,
    /// The only aggregate that is read, if it is one; then other parked aggregates do not matter.
    pub subject: Option<&'a str>,
}

/// Why a position is not in the tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Not yet: the deadline came first.
    #[error("{projection} is not there yet")]
    Behind {
        /// Which projection.
        projection: Projection,
    },
    /// The log has no such offset.
    #[error("the position is beyond the end of {topic}/{partition}")]
    BeyondEnd {
        /// Of which topic.
        topic: Topic,
        /// Of which partition.
        partition: u32,
    },
    /// The topic has no such partition.
    #[error("{topic} has no partition {partition}")]
    NoPartition {
        /// Of which topic.
        topic: Topic,
        /// Which partition.
        partition: u32,
    },
    /// An event that the answer needs is parked.
    #[error("{projection} has parked an event that this answer needs")]
    Parked {
        /// Which projection.
        projection: Projection,
    },
}

/// Where a projection stands in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The first offset that is not in the tables.
    pub next_offset: u64,
    /// The log's end, as last heard.
    pub log_end: u64,
    /// When the log's end was last asked of the log itself, or earlier; none when that was long ago.
    pub end_read_at: Option<Instant>,
    /// Whether it was ever at the log's end.
    pub filled: bool,
    /// How often somebody has seen to what is parked there: that changes rows without moving anything.
    pub parking: i64,
}

/// How far tables are that have never had all of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// Records that are in them, summed over the partitions.
    pub records: u64,
    /// Records of the log, as last heard.
    pub of: u64,
}

type Place = (Projection, i32, u32);

/// Follows the checkpoints. Cheap to clone; its task ends with the last clone.
#[derive(Debug, Clone)]
pub struct Progress {
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<Task>>>,
    _stop: Arc<DropGuard>,
}

type Task = tokio::task::JoinHandle<Option<()>>;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    next_waiter: AtomicU64,
    connected: AtomicBool,
    /// Asks the task to read the checkpoints now.
    reload: Notify,
    /// Woken after each reload.
    reloaded: Notify,
}

#[derive(Debug, Default)]
struct State {
    log: Option<Uuid>,
    live: HashMap<Projection, i32>,
    reached: HashMap<Place, Reached>,
    /// When a checkpoint was last known to be at the log's end, as the log itself told it.
    at_end: HashMap<Place, Instant>,
    /// Checkpoints that were never at the log's end: seldom any.
    filling: HashSet<Place>,
    parked: HashMap<(Projection, i32), Vec<ParkedSince>>,
    waiters: HashMap<Place, BTreeMap<(u64, u64), oneshot::Sender<()>>>,
    /// Counts changes of each projection: checkpoints moved, generations switched.
    changes: HashMap<Projection, u64>,
}

#[derive(Debug)]
struct ParkedSince {
    tenant: Uuid,
    subject: String,
    partition: u32,
    since: u64,
}

impl Progress {
    pub(crate) fn follow(pool: PgPool) -> Self {
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        // Without a runtime (a test of something else) there is nothing to follow with.
        let task = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let task = follow::follow(pool, Arc::clone(&shared));
            runtime.spawn(stop.clone().run_until_cancelled_owned(task))
        });
        Self {
            shared,
            task: Arc::new(Mutex::new(task)),
            _stop: Arc::new(stop.drop_guard()),
        }
    }

    /// Completes only by a panic: that of the task that follows, so that whoever watches this one hears of it. For
    /// one caller; another waits for ever.
    pub async fn watch(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(ended) = task.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        std::future::pending().await
    }

    /// Whether the database was heard of lately; for readiness.
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// The log that the tables are made from; none before the first contact.
    pub fn log(&self) -> Option<Uuid> {
        self.shared.lock().log
    }

    /// The generation of a projection that answers now; none before its projector started, and none before the tables
    /// had all of the log once: what they lack looks like what never was.
    pub fn live(&self, projection: Projection) -> Option<i32> {
        let state = self.shared.lock();
        let generation = *state.live.get(&projection)?;
        (!state.is_filling(projection, generation)).then_some(generation)
    }

    /// How far the tables are that will answer once they had all of the log.
    pub fn filling(&self, projection: Projection) -> Option<Filling> {
        let state = self.shared.lock();
        let generation = *state.live.get(&projection)?;
        if !state.is_filling(projection, generation) {
            return None;
        }
        let places = state.reached.iter();
        let ours = places.filter(|(place, _)| (place.0, place.1) == (projection, generation));
        let (mut records, mut of) = (0, 0);
        for (_, reached) in ours {
            records += reached.next_offset;
            of += reached.log_end.max(reached.next_offset);
        }
        Some(Filling { records, of })
    }

    /// Waits until a generation of a projection answers.
    pub async fn until_live(&self, projection: Projection) {
        loop {
            let reloaded = self.shared.reloaded.notified();
            if self.live(projection).is_some() {
                return;
            }
            reloaded.await;
        }
    }

    /// Where the live generation stands in a partition.
    pub fn reached(&self, projection: Projection, partition: u32) -> Option<Reached> {
        let state = self.shared.lock();
        let generation = *state.live.get(&projection)?;
        state.reached.get(&(projection, generation, partition)).copied()
    }

    /// When the live generation was last known to have everything of a partition: it was at the end that the log
    /// itself told then. None when nobody knows of such a time.
    pub fn at_end(&self, projection: Projection, partition: u32) -> Option<Instant> {
        let state = self.shared.lock();
        let generation = *state.live.get(&projection)?;
        state.at_end.get(&(projection, generation, partition)).copied()
    }

    /// Has the tables asked at once, instead of at the next refresh, and waits for that at most so long.
    pub async fn ask_again(&self, within: Duration) {
        let reloaded = self.shared.reloaded.notified();
        self.shared.reload.notify_one();
        // Whether or not it came in time, what is known then is what is known.
        let _ = tokio::time::timeout(within, reloaded).await;
    }

    /// A number that changes whenever rows of the projection may have changed, or another generation answers.
    /// What was read from the tables after asking this is valid as long as the number is the same.
    pub fn changes(&self, projection: Projection) -> u64 {
        self.shared
            .lock()
            .changes
            .get(&projection)
            .copied()
            .unwrap_or_default()
    }

    /// Waits until everything that is wanted is in the projection's live tables.
    ///
    /// # Errors
    /// See [`WaitError`]; [`WaitError::Behind`] at the deadline.
    pub async fn wait(
        &self,
        projection: Projection,
        wanted: &Wanted<'_>,
        deadline: Instant,
    ) -> Result<(), WaitError> {
        let asked = Instant::now();
        for part in wanted
            .parts
            .iter()
            .filter(|part| part.topic == projection.topic())
        {
            loop {
                let woken = match self.shared.look(projection, part, asked)? {
                    Look::Reached => break,
                    Look::Wait(woken) => woken,
                };
                // Woken when it is reached or the generation was switched; now and then the log's end is asked
                // for, so that a position from nowhere does not wait to the deadline.
                let nudge = (asked + SETTLED)
                    .max(Instant::now() + Duration::from_millis(300))
                    .min(deadline);
                let waited = tokio::time::timeout_at(nudge.into(), woken.wait()).await;
                if waited.is_err() {
                    if Instant::now() >= deadline {
                        self.shared
                            .look(projection, part, asked)
                            .and_then(|look| match look {
                                Look::Reached => Ok(()),
                                Look::Wait(_) => Err(WaitError::Behind { projection }),
                            })?;
                        break;
                    }
                    let reloaded = self.shared.reloaded.notified();
                    self.shared.reload.notify_one();
                    // Whether or not it came in time, the next look tells.
                    let _ = tokio::time::timeout_at(deadline.into(), reloaded).await;
                }
            }
        }
        if self.shared.lock().parked(projection, wanted) {
            return Err(WaitError::Parked { projection });
        }
        Ok(())
    }
}

enum Look<'a> {
    Reached,
    Wait(Waiter<'a>),
}

/// A place in the queue; leaves it when dropped.
struct Waiter<'a> {
    shared: &'a Shared,
    place: Place,
    key: (u64, u64),
    woken: oneshot::Receiver<()>,
}

impl Waiter<'_> {
    async fn wait(mut self) {
        // An end without a word is a wake as well: the set was cleared.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(queue) = state.waiters.get_mut(&self.place) {
            queue.remove(&self.key);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, projection: Projection, part: &Part, asked: Instant) -> Result<Look<'_>, WaitError> {
        let mut state = self.lock();
        let generation = state.live.get(&projection).copied();
        let place = (projection, generation.unwrap_or_default(), part.partition);
        if generation.is_some() {
            match state.reached.get(&place) {
                Some(reached) if reached.next_offset >= part.next_offset => return Ok(Look::Reached),
                Some(reached)
                    if reached.log_end < part.next_offset
                        && reached.end_read_at.is_some_and(|read| read >= asked + SETTLED) =>
                {
                    return Err(WaitError::BeyondEnd {
                        topic: part.topic,
                        partition: part.partition,
                    });
                }
                Some(_) => {}
                None => {
                    return Err(WaitError::NoPartition {
                        topic: part.topic,
                        partition: part.partition,
                    });
                }
            }
        }
        let (wake, woken) = oneshot::channel();
        let key = (part.next_offset, self.next_waiter.fetch_add(1, Ordering::Relaxed));
        state.waiters.entry(place).or_default().insert(key, wake);
        Ok(Look::Wait(Waiter {
            shared: self,
            place,
            key,
            woken,
        }))
    }
}

impl State {
    fn is_filling(&self, projection: Projection, generation: i32) -> bool {
        let mut filling = self.filling.iter();
        filling.any(|place| (place.0, place.1) == (projection, generation))
    }

    /// Takes in a notification, which may come late: it moves the checkpoint, but it does not make an end that is
    /// known from the table a smaller one, and does not know when it was asked for.
    fn heard(&mut self, place: Place, next_offset: u64, log_end: u64) {
        let before = self.reached.get(&place);
        let reached = Reached {
            next_offset,
            log_end: before.map_or(0, |before| before.log_end).max(log_end),
            end_read_at: before.and_then(|before| before.end_read_at),
            filled: before.is_some_and(|before| before.filled),
            parking: before.map_or(0, |before| before.parking),
        };
        self.saw(place, reached);
    }

    /// Takes in a checkpoint as it is now (also when it went back) and wakes whom it satisfies.
    fn saw(&mut self, place: Place, reached: Reached) {
        if let Some(read) = reached
            .end_read_at
            .filter(|_| reached.next_offset >= reached.log_end)
        {
            let known = self.at_end.entry(place).or_insert(read);
            *known = read.max(*known);
        }
        if reached.filled {
            self.filling.remove(&place);
        } else {
            self.filling.insert(place);
        }
        let before = self.reached.insert(place, reached);
        let rows = |reached: Reached| (reached.next_offset, reached.parking);
        if before.is_none_or(|before| rows(before) != rows(reached)) {
            *self.changes.entry(place.0).or_default() += 1;
        }
        if let Some(queue) = self.waiters.get_mut(&place) {
            let still = queue.split_off(&(reached.next_offset + 1, 0));
            for (_, waiter) in std::mem::replace(queue, still) {
                // Whoever stopped waiting needs no word.
                let _ = waiter.send(());
            }
        }
    }

    /// Another generation answers: everyone looks again.
    fn switched(&mut self, projection: Projection, generation: i32) {
        if self.live.insert(projection, generation) != Some(generation) {
            *self.changes.entry(projection).or_default() += 1;
            self.waiters.retain(|place, _| place.0 != projection);
        }
    }

    fn parked(&self, projection: Projection, wanted: &Wanted<'_>) -> bool {
        let (Some(generation), Some(tenant)) = (self.live.get(&projection), wanted.tenant) else {
            return false;
        };
        let Some(parked) = self.parked.get(&(projection, *generation)) else {
            return false;
        };
        parked
            .iter()
            .filter(|parked| parked.tenant == tenant)
            .any(|parked| {
                wanted.subject.is_none_or(|subject| subject == parked.subject)
                    && wanted.parts.iter().any(|part| {
                        part.topic == projection.topic()
                            && part.partition == parked.partition
                            && part.next_offset > parked.since
                    })
            })
    }
}
