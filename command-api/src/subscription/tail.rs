//! One follower for each partition that somebody listens to: the last commits, for all who listen.
//!
//! It keeps a bounded number of commits; nobody has a buffer of his own. A listener is woken by commits of its
//! tenant only, and takes them from here when it likes; when they are gone by then, it reads the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_log::{Log, Offset, Partition, State, Stored, Verdict};
use events::TenantId;
use service::Health;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cursor::Cursor,
    entry::{Entry, Piece, Room},
    types::Types,
};

/// Commits that are kept of a partition.
const COMMITS: usize = 4096;
/// Bytes of their events, beyond the last one.
const BYTES: usize = 8 * 1024 * 1024;
/// A follower ends when nobody has asked for so long.
const IDLE: Duration = Duration::from_secs(60);

/// Every follower of this process.
pub(super) struct Tails {
    log: Log,
    health: Health,
    tasks: TaskTracker,
    stop: CancellationToken,
    running: Running,
}

type Running = Arc<Mutex<HashMap<Partition, Arc<Tail>>>>;

/// The end of a partition, followed.
pub(super) struct Tail {
    recent: Mutex<Recent>,
    reached: watch::Sender<Offset>,
}

/// What is kept.
struct Recent {
    /// Every admitted commit from here on is kept.
    from: Offset,
    /// Nothing from here on was read yet.
    next: Offset,
    /// What admission knows there.
    state: State,
    commits: VecDeque<Entry>,
    bytes: usize,
    listened: HashMap<TenantId, Listened>,
    asked: Instant,
}

/// A tenant that somebody listens to.
struct Listened {
    listeners: usize,
    /// Every commit of the tenant from here on is kept.
    from: Offset,
    wake: watch::Sender<()>,
}

/// Somebody who listens.
pub(super) struct Listener {
    tail: Arc<Tail>,
    tenant: TenantId,
    wake: watch::Receiver<()>,
}

/// What somebody got.
pub(super) struct Taken {
    pub(super) events: Vec<Piece>,
    pub(super) cursor: Cursor,
    /// Whether there was no room for the next event.
    pub(super) more: bool,
    /// Where the follower stood.
    pub(super) reached: Offset,
}

impl Tails {
    pub(super) fn new(log: Log, health: Health, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let running = Running::default();
        Self {
            log,
            health,
            tasks,
            stop,
            running,
        }
    }

    /// The partition's follower, when it has one.
    pub(super) fn get(&self, partition: Partition) -> Option<Arc<Tail>> {
        lock(&self.running).get(&partition).cloned()
    }

    /// Starts a follower here, unless there is one.
    pub(super) fn start(&self, partition: Partition, (next, state): (Offset, State)) {
        let mut running = lock(&self.running);
        running.entry(partition).or_insert_with(|| {
            let tail = Arc::new(Tail::at(next, state));
            let following = follow(self.log.clone(), partition, tail.clone(), self.running.clone());
            let stop = self.stop.clone();
            let task = async move { stop.run_until_cancelled(following).await };
            let name = format!("the following of {partition} for subscribers");
            self.tasks.spawn(self.health.clone().vital(name, task));
            tail
        });
    }

    /// Listens to a tenant; none when nobody follows the partition.
    pub(super) fn listen(&self, partition: Partition, tenant: TenantId) -> Option<Listener> {
        // Held until it is counted: a follower ends only under this lock.
        let running = lock(&self.running);
        let tail = running.get(&partition)?.clone();
        let wake = lock(&tail.recent).listen(tenant);
        Some(Listener { tail, tenant, wake })
    }
}

/// What there was of a tenant at one moment; commits share their bytes with those that are kept.
struct Kept {
    entries: Vec<Entry>,
    next: Offset,
    state: State,
}

impl Kept {
    /// The events of these types, as many as there is room for.
    fn give(self, cursor: &Cursor, types: &Types, room: &mut Room) -> Taken {
        let mut events = Vec::new();
        for entry in self.entries {
            let skip = if entry.offset == cursor.next {
                cursor.skip
            } else {
                0
            };
            if let Some(cursor) = entry.give(types, skip, room, &mut events) {
                return Taken {
                    events,
                    cursor,
                    more: true,
                    reached: self.next,
                };
            }
        }
        let ahead = cursor.next > self.next || (cursor.next == self.next && cursor.skip > 0);
        Taken {
            events,
            cursor: if ahead {
                cursor.clone()
            } else {
                Cursor::before(self.next, self.state)
            },
            more: false,
            reached: self.next,
        }
    }
}

impl Tail {
    fn at(next: Offset, state: State) -> Self {
        Self {
            recent: Mutex::new(Recent::at(next, state)),
            reached: watch::Sender::new(next),
        }
    }

    /// The tenant's events from a cursor on, when every one of them is kept.
    pub(super) fn take(
        &self,
        tenant: TenantId,
        cursor: &Cursor,
        types: &Types,
        room: &mut Room,
    ) -> Option<Taken> {
        // Reading them takes time that others who listen, and the follower, need not wait for.
        let kept = lock(&self.recent).kept(tenant, cursor)?;
        Some(kept.give(cursor, types, room))
    }

    /// Completes when everything before this offset was read.
    pub(super) async fn reach(&self, offset: Offset) {
        // The sender lives as long as this does.
        let _ = self.reached.subscribe().wait_for(|next| *next >= offset).await;
    }
}

impl Recent {
    fn at(next: Offset, state: State) -> Self {
        Self {
            from: next,
            next,
            state,
            commits: VecDeque::new(),
            bytes: 0,
            listened: HashMap::new(),
            asked: Instant::now(),
        }
    }

    /// The tenant's commits from a cursor on, when every one of them is here.
    fn kept(&mut self, tenant: TenantId, cursor: &Cursor) -> Option<Kept> {
        self.asked = Instant::now();
        let from = self
            .listened
            .get(&tenant)
            .map_or(self.from, |listened| listened.from);
        if cursor.next < from {
            return None;
        }
        let first = self.commits.partition_point(|entry| entry.offset < cursor.next);
        let entries = self.commits.range(first..);
        Some(Kept {
            entries: entries.filter(|entry| entry.tenant == tenant).cloned().collect(),
            next: self.next,
            state: self.state,
        })
    }

    fn listen(&mut self, tenant: TenantId) -> watch::Receiver<()> {
        self.asked = Instant::now();
        let from = self.from;
        let listened = self.listened.entry(tenant).or_insert_with(|| Listened {
            listeners: 0,
            from,
            wake: watch::Sender::new(()),
        });
        listened.listeners += 1;
        listened.wake.subscribe()
    }

    fn leave(&mut self, tenant: TenantId) {
        self.asked = Instant::now();
        if let Some(listened) = self.listened.get_mut(&tenant) {
            listened.listeners -= 1;
            if listened.listeners == 0 {
                self.listened.remove(&tenant);
            }
        }
    }

    /// Takes records in, forgets the oldest commits, and wakes who listens.
    fn put(&mut self, records: &[Stored], next: Offset) {
        for stored in records {
            let before = self.state;
            let verdict = self.state.admit(stored.offset, &stored.record);
            if matches!(verdict, Verdict::Commit(_))
                && let Some(entry) = Entry::of(stored, before, self.state)
            {
                self.push(entry);
            }
        }
        self.next = self.next.max(next);
    }

    fn push(&mut self, entry: Entry) {
        if let Some(listened) = self.listened.get(&entry.tenant) {
            listened.wake.send_replace(());
        }
        self.bytes += entry.size();
        self.commits.push_back(entry);
        while (self.commits.len() > COMMITS || (self.bytes > BYTES && self.commits.len() > 1))
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.size();
            self.from = oldest.offset + 1;
            if let Some(listened) = self.listened.get_mut(&oldest.tenant) {
                listened.from = self.from;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.listened.is_empty() && self.asked.elapsed() > IDLE
    }
}

impl Listener {
    /// What comes from now on completes [`Self::changed`]; what came before is about to be looked at.
    pub(super) fn heard(&mut self) {
        self.wake.mark_unchanged();
    }

    /// Completes when a commit of the tenant came.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as somebody listens.
        let _ = self.wake.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.tail.recent).leave(self.tenant);
    }
}

/// Follows until nobody has wanted it for a while.
async fn follow(log: Log, partition: Partition, tail: Arc<Tail>, running: Running) {
    let mut pause = Duration::from_millis(100);
    loop {
        let before = lock(&tail.recent).next;
        let Some(error) = read(&log, partition, &tail, &running).await else {
            return;
        };
        let next = lock(&tail.recent).next;
        if next > before {
            pause = Duration::from_millis(100);
        }
        tracing::warn!(%partition, offset = next, error, "cannot follow the partition for subscribers");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Reads until something fails, and says what; or until it is idle, and is then forgotten.
async fn read(log: &Log, partition: Partition, tail: &Tail, running: &Running) -> Option<String> {
    let next = lock(&tail.recent).next;
    let mut reader = match log.reader(partition, next) {
        Ok(reader) => reader,
        Err(error) => return Some(error.to_string()),
    };
    let mut look = tokio::time::interval(IDLE / 4);
    loop {
        let batch = tokio::select! {
            batch = reader.next() => batch,
            _ = look.tick() => {
                let mut running = lock(running);
                if lock(&tail.recent).is_idle() {
                    running.remove(&partition);
                    return None;
                }
                continue;
            }
        };
        match batch {
            Ok(batch) => {
                lock(&tail.recent).put(&batch.records, batch.next);
                tail.reached.send_replace(batch.next);
            }
            Err(error) => return Some(error.to_string()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
