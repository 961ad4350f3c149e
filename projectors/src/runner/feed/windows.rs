//! What is read of a partition, once for all who go along together.
//!
//! A window is one reading of a partition: a reader, and the records that it gave last, judged and decoded. Each feed
//! has a seat in the window that holds its place. It takes what is there; the first to come to the window's end reads
//! on, for all. So projections that keep up with the log, whose places are near each other, share one window.
//!
//! None waits for another one. A window keeps what it gave while there is room, and a feed that is so slow that its
//! place is gone goes on in a window of its own: that of a projection whose database is away, or that is being rebuilt.
//! When it has come to where another window is, it takes a seat there, and its own is closed.
//!
//! What all have had is kept too, while there is room: a feed that begins a moment later, at a first start or after an
//! error, finds it here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_log::{Log, Offset, Partition, ReadError, Reader, State, before};

use tokio::sync::watch;

use super::decode::{Digested, digest};
use crate::runner::{Decoded, Entry};

/// Bytes that are kept over all partitions, beside what each window read last.
const KEPT: usize = 32 << 20;

/// How long to wait before reading again what could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// The windows of a process. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Windows {
    log: Log,
    most: usize,
    open: Arc<Mutex<Vec<Window>>>,
}

/// What those who have a seat in a window share.
#[derive(Debug)]
struct Reading {
    /// Locked by whoever reads on. It stays here when that one is cancelled: the next one goes on with it.
    reader: tokio::sync::Mutex<Option<Reader>>,
    /// The first offset that was not read; the last of all when none will be any more. Whoever comes to the lock late
    /// waits for what is there already no longer than until it sees this, for the one who has the lock may wait for what
    /// comes next.
    come: watch::Sender<Offset>,
}

/// One reading of a partition. Open as long as somebody has a seat in it.
#[derive(Debug)]
struct Window {
    partition: Partition,
    reading: Arc<Reading>,
    seats: usize,
    /// The first offset that it holds.
    from: Offset,
    /// Admission there.
    before: State,
    /// Without a gap.
    records: VecDeque<Arc<Decoded>>,
    /// Bytes of those that may be dropped, and of those that were read last, which may not.
    old: usize,
    new: usize,
    /// The log's end, as far as it is known.
    end: Offset,
    /// Why it cannot be read on, naming the offset.
    stopped: Option<String>,
}

/// A feed's place in a window. Given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    windows: Windows,
    partition: Partition,
    reading: Arc<Reading>,
}

/// What a window has for a feed.
pub(super) enum Taken {
    /// What follows its place, at least one, and the log's end, as far as it is known.
    Records { records: Vec<Arc<Decoded>>, end: Offset },
    /// Why nothing ever will.
    Stopped(String),
    /// It must be read first.
    AtEnd,
}

impl Windows {
    /// The windows of a process that follows this log.
    pub fn new(log: Log) -> Self {
        Self::keeping(log, KEPT)
    }

    /// The same, keeping so many bytes.
    pub(super) fn keeping(log: Log, most: usize) -> Self {
        Self {
            log,
            most,
            open: Arc::default(),
        }
    }

    /// What is read.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// A seat for a feed that goes on from an offset, where admission is this.
    pub(super) fn seat(&self, partition: Partition, at: Offset, state: &State) -> Seat {
        let mut open = self.lock();
        let held = open
            .iter()
            .position(|it| it.partition == partition && it.goes_on() && it.holds(at, state).is_some());
        let reading = sit_down(&mut open, held, partition, at, *state);
        drop(open);
        Seat {
            windows: self.clone(),
            partition,
            reading,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Window>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are kept, and beside them, and how many windows there are.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let open = self.lock();
        let sum = |of: fn(&Window) -> usize| open.iter().map(of).sum();
        (sum(|it| it.old), sum(|it| it.new), open.len())
    }
}

impl Seat {
    /// Takes what follows an offset, where admission is this: at least a record, and about so many events and bytes at
    /// most. Goes over to another window when that holds what would have to be read here.
    pub(super) fn take(&mut self, at: Offset, state: &State, events: usize, bytes: usize) -> Taken {
        // Freed when the lock is.
        let _closed;
        let mut open = self.windows.lock();
        _closed = go_over(&mut open, &mut self.reading, self.partition, at, state);
        let Some(window) = window(&mut open, &self.reading) else {
            return Taken::AtEnd;
        };
        let first = window.holds(at, state).unwrap_or(window.records.len());
        let (mut records, mut taken) = (Vec::new(), (0, 0));
        for record in window.records.range(first..) {
            taken.0 += record.entries.len();
            taken.1 += record.bytes;
            records.push(Arc::clone(record));
            if taken.0 >= events || taken.1 >= bytes {
                break;
            }
        }
        match &window.stopped {
            _ if !records.is_empty() => Taken::Records {
                records,
                end: window.end,
            },
            Some(reason) => Taken::Stopped(reason.clone()),
            None => Taken::AtEnd,
        }
    }

    /// Reads what follows this offset, where admission is this, unless another one has done so meanwhile. Cancelling it
    /// loses nothing.
    pub(super) async fn read(&self, at: Offset, state: State) {
        let mut come = self.reading.come.subscribe();
        let mut reader = tokio::select! {
            reader = self.reading.reader.lock() => reader,
            _ = come.wait_for(|come| *come != at) => return,
        };
        if !self.is_at_end(at) {
            return;
        }
        let read = match &mut *reader {
            Some(reader) => reader.next().await,
            none => match self.open(at, &state).await {
                Ok(Some(reader)) => none.insert(reader).next().await,
                Ok(None) => {
                    let before = format!(
                        "before offset {at} of {} stands another record than the last one that these tables were made of",
                        self.partition
                    );
                    return self.stop(at, &before);
                }
                Err(error) => Err(error),
            },
        };
        match read {
            Ok(read) => self.add(digest(self.partition, at, state, read)),
            Err(error @ (ReadError::OutOfRange { .. } | ReadError::NoPartition(_))) => {
                self.stop(at, &error.to_string());
            }
            Err(error @ ReadError::Failed { .. }) => {
                tracing::warn!(partition = %self.partition, offset = at, %error, "reading again");
                *reader = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// A reader from there on, if the log is the one of which admission is this.
    async fn open(&self, at: Offset, state: &State) -> Result<Option<Reader>, ReadError> {
        let log = &self.windows.log;
        let is_the_same = before::holds(log, self.partition, at, state).await?;
        is_the_same.then(|| log.reader(self.partition, at)).transpose()
    }

    fn stop(&self, at: Offset, what: &str) {
        let reason = format!(
            "{what}: the tables know more than the log has, which was replaced or cut off; bring the whole log back, or give this one tables of its own"
        );
        self.add(Digested {
            records: Vec::new(),
            end: at,
            stopped: Some(reason),
        });
    }

    fn is_at_end(&self, at: Offset) -> bool {
        let mut open = self.windows.lock();
        window(&mut open, &self.reading).is_some_and(|it| it.next() == at && it.goes_on())
    }

    /// Adds what was read; of what is older, the oldest goes where most is kept.
    pub(super) fn add(&self, read: Digested) {
        // Freed when the lock is.
        let mut gone = Vec::new();
        let mut open = self.windows.lock();
        if let Some(window) = window(&mut open, &self.reading) {
            window.old += window.new;
            window.new = read.records.iter().map(|it| weight(it)).sum();
            window.records.extend(read.records);
            window.end = window.end.max(read.end);
            window.stopped = read.stopped;
            let come = if window.goes_on() {
                window.next()
            } else {
                Offset::MAX
            };
            window.reading.come.send_replace(come);
        }
        let mut kept: usize = open.iter().map(|it| it.old).sum();
        while kept > self.windows.most {
            let Some(most) = open.iter_mut().max_by_key(|it| it.old) else {
                break;
            };
            let Some(oldest) = most.records.pop_front() else {
                break;
            };
            kept -= weight(&oldest);
            most.old -= weight(&oldest);
            (most.from, most.before) = (oldest.next, oldest.state);
            gone.push(oldest);
        }
        drop(open);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let closed = stand_up(&mut self.windows.lock(), &self.reading);
        // Freed when the lock is.
        drop(closed);
    }
}

impl Window {
    /// The place among its records of what follows an offset, if it is held, and if admission there is this. (If it is
    /// not, the log or a checkpoint is damaged; nobody else is to hear of it.)
    fn holds(&self, at: Offset, state: &State) -> Option<usize> {
        if at < self.from || at > self.next() {
            return None;
        }
        let place = self.records.partition_point(|it| it.next <= at);
        let before = place
            .checked_sub(1)
            .map_or(self.before, |last| self.records[last].state);
        (before == *state).then_some(place)
    }

    /// The first offset that it has not read.
    fn next(&self) -> Offset {
        self.records.back().map_or(self.from, |last| last.next)
    }

    const fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }
}

/// What a record takes: its text, decoded, is about as long.
fn weight(record: &Decoded) -> usize {
    size_of::<Decoded>() + record.entries.len() * size_of::<Entry>() + record.bytes
}

fn window<'a>(open: &'a mut [Window], reading: &Arc<Reading>) -> Option<&'a mut Window> {
    open.iter_mut().find(|it| Arc::ptr_eq(&it.reading, reading))
}

/// Takes a seat where what follows is held, or will be read for more; in a new window if the place is gone. Gives the
/// window that was left, if nobody has a seat there any more.
fn go_over(
    open: &mut Vec<Window>,
    reading: &mut Arc<Reading>,
    partition: Partition,
    at: Offset,
    state: &State,
) -> Option<Window> {
    let own = window(open, reading)?;
    let (holds, seats) = (own.holds(at, state).is_some(), own.seats);
    if holds && (own.next() > at || !own.goes_on()) {
        return None;
    }
    let better = open.iter().position(|it| {
        it.partition == partition
            && !Arc::ptr_eq(&it.reading, reading)
            && it.goes_on()
            // Not where it would soon be gone again: one that is a little slower would come and go.
            && it.holds(at, state).is_some_and(|place| place >= it.records.len() / 2)
            // Where two wait for the same, the fewer go to the more: so all come together.
            && (!holds || it.next() > at || it.seats >= seats)
    });
    if holds && better.is_none() {
        return None;
    }
    let left = std::mem::replace(reading, sit_down(open, better, partition, at, *state));
    stand_up(open, &left)
}

/// Takes a seat in this window, or in a new one.
fn sit_down(
    open: &mut Vec<Window>,
    held: Option<usize>,
    partition: Partition,
    from: Offset,
    before: State,
) -> Arc<Reading> {
    if let Some(window) = held.and_then(|held| open.get_mut(held)) {
        window.seats += 1;
        return Arc::clone(&window.reading);
    }
    tracing::debug!(%partition, from, "reading");
    let reading = Arc::new(Reading {
        reader: tokio::sync::Mutex::default(),
        come: watch::Sender::new(from),
    });
    open.push(Window {
        partition,
        reading: Arc::clone(&reading),
        seats: 1,
        from,
        before,
        records: VecDeque::new(),
        old: 0,
        new: 0,
        end: from,
        stopped: None,
    });
    reading
}

/// Gives a seat up; gives the window when it was the last one.
fn stand_up(open: &mut Vec<Window>, reading: &Arc<Reading>) -> Option<Window> {
    let place = open.iter().position(|it| Arc::ptr_eq(&it.reading, reading))?;
    open[place].seats -= 1;
    (open[place].seats == 0).then(|| open.swap_remove(place))
}
