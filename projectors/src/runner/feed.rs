//! Reads one partition ahead of the writing, in ranges. Reading order: [`decode`] (what becomes of a record),
//! [`windows`] (who reads it, for all who go along), this file (one who goes along).

use std::sync::Arc;

use event_log::{Offset, Partition, State, Topic};
use read_models::Checkpoint;
use tokio::sync::mpsc;

pub(super) mod decode;
#[cfg(test)]
mod tests;
mod windows;

pub use self::windows::Windows;
use self::windows::{Seat, Taken};
use super::{Batch, Decoded, Gather, Throttle};

/// What a feed gives.
#[derive(Debug)]
pub enum Fed {
    /// The next range.
    Batch(Batch),
    /// The end, for a reason that a person must look at.
    Stopped {
        /// Which partition.
        partition: Partition,
        /// Why, naming the offset.
        reason: String,
    },
}

/// Reads one partition from a checkpoint on, together with whoever is at the same place.
#[derive(Debug)]
pub struct Feed {
    seat: Seat,
    partition: Partition,
    next: Offset,
    state: State,
    gather: Gather,
    throttle: Throttle,
    /// The first offset that it leaves out for ever.
    cut: Option<Offset>,
}

/// The partition of the log that a checkpoint is of.
pub fn partition(checkpoint: &Checkpoint) -> Partition {
    let topic = match checkpoint.topic() {
        read_models::Topic::Directory => Topic::Directory,
        read_models::Topic::Ledger => Topic::Ledger,
        read_models::Topic::Visits => Topic::Visits,
    };
    Partition {
        topic,
        index: checkpoint.partition,
    }
}

impl Feed {
    /// A feed that goes on where a checkpoint stands, in ranges of about so many events and bytes.
    pub fn new(windows: &Windows, checkpoint: &Checkpoint, gather: Gather) -> Self {
        let state = State {
            epoch: checkpoint.epoch,
            seq: checkpoint.seq,
            hash: event_log::Hash(checkpoint.hash),
        };
        let (partition, next) = (partition(checkpoint), checkpoint.next_offset);
        Self {
            seat: windows.seat(partition, next, &state),
            partition,
            next,
            state,
            gather,
            throttle: Throttle::default(),
            cut: checkpoint.cut,
        }
    }

    /// The same, in ranges of no more than is written at once under this bound, whatever it is by then.
    #[must_use]
    pub fn bound(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// What it reads.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Reads until nobody takes what it gives, until its cut, or until it must stop.
    pub(super) async fn run(mut self, to: mpsc::Sender<Fed>) {
        while self.next < self.within(Offset::MAX) {
            let fed = tokio::select! {
                () = to.closed() => return,
                fed = self.next() => fed,
            };
            let is_over = matches!(fed, Fed::Stopped { .. });
            if to.send(fed).await.is_err() || is_over {
                return;
            }
        }
    }

    /// As much of an offset as is before its cut.
    fn within(&self, offset: Offset) -> Offset {
        self.cut.map_or(offset, |cut| cut.min(offset))
    }

    /// Waits for the next range. Cancelling it loses nothing, and holds up nobody else.
    pub async fn next(&mut self) -> Fed {
        loop {
            // The bound may be another one than a moment ago.
            let events = self.gather.events.min(self.throttle.most(self.gather.stretch));
            match self.seat.take(self.next, &self.state, events, self.gather.bytes) {
                Taken::Records { records, end } => return Fed::Batch(self.range(records, end)),
                Taken::Stopped(reason) => {
                    return Fed::Stopped {
                        partition: self.partition,
                        reason,
                    };
                }
                Taken::AtEnd => self.seat.read(self.next, self.state).await,
            }
        }
    }

    fn range(&mut self, records: Vec<Arc<Decoded>>, end: Offset) -> Batch {
        let mut batch = Batch {
            partition: self.partition,
            from: self.next,
            next: self.next,
            state: self.state,
            end: self.within(end),
            bytes: 0,
            time: None,
            events: 0,
            records: Vec::with_capacity(records.len()),
        };
        for record in records {
            if record.next > self.within(Offset::MAX) {
                batch.next = self.within(Offset::MAX);
                break;
            }
            batch.push(record);
        }
        (self.next, self.state) = (batch.next, batch.state);
        batch
    }
}

/// An error and what it came from, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
