//! The range protocol as a state machine without I/O: what happened in, what to do next out.
//!
//! PostgreSQL holds checkpoints and what is about to be written, ClickHouse holds rows; nothing is atomic
//! over both. So: record, insert, advance. A process may end between any two steps, or in the middle of one,
//! and its last insert may still be running; therefore whoever begins takes the partitions over first: it
//! raises the fences (from then on no older owner moves a checkpoint), writes them to ClickHouse (no insert
//! that begins later with an older fence takes effect), ends the inserts that had begun before, and only
//! then compares what is there with what was recorded. A range that is all there is settled; of any other
//! the rows are deleted and it is folded and inserted again, as a new attempt with a token of its own.
//!
//! PostgreSQL may come back at an older state, in which fences were not taken that ClickHouse has: a new fence is
//! above both, and one that PostgreSQL has forgotten ends its holder's run before it touches a row.
//!
//! Any error, and any outcome that is unknown, ends a run of this machine; the next one takes over again, from
//! itself as from anyone else. `model.rs` explores every interleaving of this with crashes and late inserts.

use std::collections::BTreeMap;

/// A partition that we hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) partition: u32,
    /// The first offset that the checkpoint does not have.
    pub(crate) next: u64,
    pub(crate) fence: u64,
}

/// A range of a partition's offsets, with what its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) partition: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) rows: u64,
    pub(crate) fingerprint: u64,
    pub(crate) sessions: u64,
}

/// What stands in ClickHouse of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) fingerprint: u64,
    pub(crate) sessions: u64,
}

/// An insert that was recorded and not settled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Unsettled {
    pub(crate) insert: i64,
    pub(crate) attempt: i32,
    pub(crate) ranges: Vec<Range>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// The fences in PostgreSQL are ours; this was found there.
    TakenOver {
        held: Vec<Held>,
        unsettled: Vec<Unsettled>,
    },
    /// The fences stand in ClickHouse.
    FencesWritten,
    /// No insert of a predecessor runs any more.
    InsertsStopped,
    /// What is there of each range that was asked about, in that order.
    Compared(Vec<Found>),
    /// Checkpoints are at the ends of the ranges that were settled.
    Settled,
    /// Nothing stands in ClickHouse beyond the checkpoints.
    Trimmed,
    /// The next records are folded; each range begins at its partition's checkpoint.
    Folded(Vec<Range>),
    /// The insert is recorded under this number.
    Recorded(i64),
    /// The sessions are there.
    SessionsInserted,
    /// The events are there.
    EventsInserted,
    /// The checkpoints have moved.
    Advanced,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Raise the fences in PostgreSQL above the highest in ClickHouse; read checkpoints and unsettled inserts.
    TakeOver,
    /// Write the fences to ClickHouse: partition and fence.
    WriteFences(Vec<(u32, u64)>),
    /// End a predecessor's inserts and wait until they have ended.
    StopInserts,
    /// Count what is there of these ranges.
    Compare(Vec<Range>),
    /// See that all checkpoints are still ours, move them to the ends of these ranges and forget these inserts, in one
    /// transaction.
    Settle { inserts: Vec<i64>, ranges: Vec<Range> },
    /// Delete events of these partitions from these offsets on.
    Trim(Vec<(u32, u64)>),
    /// Fold what comes next.
    Fold,
    /// Record what is about to be written.
    Record { attempt: i32, ranges: Vec<Range> },
    /// Insert the sessions of what was folded.
    InsertSessions { insert: i64, attempt: i32 },
    /// Insert the events of what was folded.
    InsertEvents { insert: i64, attempt: i32 },
    /// Move the checkpoints to the ends of these ranges and forget this insert, in one transaction.
    Advance { insert: Option<i64>, ranges: Vec<Range> },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    TakingOver,
    Fencing { unsettled: Vec<Unsettled> },
    Stopping { unsettled: Vec<Unsettled> },
    Comparing { unsettled: Vec<Unsettled> },
    Settling { settled: Vec<Range> },
    Trimming,
    Folding,
    Recording { ranges: Vec<Range> },
    InsertingSessions { insert: i64, ranges: Vec<Range> },
    InsertingEvents { insert: i64, ranges: Vec<Range> },
    Advancing { ranges: Vec<Range> },
}

/// One run, from taking over to the first error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    state: State,
    held: BTreeMap<u32, Held>,
    attempt: i32,
}

/// An answer to something that was not asked: a fault of the driver. The run ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input} does not follow {state}")]
pub(crate) struct OutOfOrder {
    input: String,
    state: String,
}

impl Machine {
    /// A run begins by taking over.
    pub(crate) fn begin() -> (Self, Effect) {
        (
            Self {
                state: State::TakingOver,
                held: BTreeMap::new(),
                attempt: 1,
            },
            Effect::TakeOver,
        )
    }

    /// What to do, now that this is done.
    pub(crate) fn on(&mut self, input: Input) -> Result<Effect, OutOfOrder> {
        let state = std::mem::replace(&mut self.state, State::Folding);
        let (next, effect) = match (state, input) {
            (State::TakingOver, Input::TakenOver { held, unsettled }) => {
                self.held = held.into_iter().map(|held| (held.partition, held)).collect();
                let fences = self
                    .held
                    .values()
                    .map(|held| (held.partition, held.fence))
                    .collect();
                (State::Fencing { unsettled }, Effect::WriteFences(fences))
            }
            (State::Fencing { unsettled }, Input::FencesWritten) => {
                (State::Stopping { unsettled }, Effect::StopInserts)
            }
            (State::Stopping { unsettled }, Input::InsertsStopped) => {
                let ranges = unsettled
                    .iter()
                    .flat_map(|insert| insert.ranges.iter().copied())
                    .collect();
                (State::Comparing { unsettled }, Effect::Compare(ranges))
            }
            (State::Comparing { unsettled }, Input::Compared(found)) => self.judge(&unsettled, &found),
            (State::Settling { settled }, Input::Settled) => {
                self.move_on(&settled);
                self.trim()
            }
            (State::Trimming, Input::Trimmed) => (State::Folding, Effect::Fold),
            (State::Folding, Input::Folded(ranges)) => {
                if ranges.iter().all(|range| range.rows == 0) {
                    (
                        State::Advancing {
                            ranges: ranges.clone(),
                        },
                        Effect::Advance { insert: None, ranges },
                    )
                } else {
                    let effect = Effect::Record {
                        attempt: self.attempt,
                        ranges: ranges.clone(),
                    };
                    (State::Recording { ranges }, effect)
                }
            }
            (State::Recording { ranges }, Input::Recorded(insert)) => (
                State::InsertingSessions { insert, ranges },
                Effect::InsertSessions {
                    insert,
                    attempt: self.attempt,
                },
            ),
            (State::InsertingSessions { insert, ranges }, Input::SessionsInserted) => (
                State::InsertingEvents { insert, ranges },
                Effect::InsertEvents {
                    insert,
                    attempt: self.attempt,
                },
            ),
            (State::InsertingEvents { insert, ranges }, Input::EventsInserted) => (
                State::Advancing {
                    ranges: ranges.clone(),
                },
                Effect::Advance {
                    insert: Some(insert),
                    ranges,
                },
            ),
            (State::Advancing { ranges }, Input::Advanced) => {
                self.move_on(&ranges);
                self.attempt = 1;
                (State::Folding, Effect::Fold)
            }
            (state, input) => {
                return Err(OutOfOrder {
                    input: format!("{input:?}"),
                    state: format!("{state:?}"),
                });
            }
        };
        self.state = next;
        Ok(effect)
    }

    /// Ranges that are all there are settled; the others are written again, from their checkpoints on.
    fn judge(&mut self, unsettled: &[Unsettled], found: &[Found]) -> (State, Effect) {
        let ranges = unsettled
            .iter()
            .flat_map(|insert| insert.ranges.iter().map(|range| (insert.attempt, *range)));
        let mut settled = Vec::new();
        for ((attempt, range), found) in ranges.zip(found) {
            let begins_here = self
                .held
                .get(&range.partition)
                .is_some_and(|held| held.next == range.from);
            let there = found.rows == range.rows
                && found.fingerprint == range.fingerprint
                && found.sessions >= range.sessions;
            if there && begins_here {
                settled.push(range);
            } else {
                self.attempt = self.attempt.max(attempt.saturating_add(1));
            }
        }
        // Also when there is none: this looks once more whether the checkpoints are ours, and from here on whoever
        // takes over knows of our fence.
        let inserts = unsettled.iter().map(|insert| insert.insert).collect();
        let effect = Effect::Settle {
            inserts,
            ranges: settled.clone(),
        };
        (State::Settling { settled }, effect)
    }

    fn trim(&self) -> (State, Effect) {
        let places = self
            .held
            .values()
            .map(|held| (held.partition, held.next))
            .collect();
        (State::Trimming, Effect::Trim(places))
    }

    fn move_on(&mut self, ranges: &[Range]) {
        for range in ranges {
            if let Some(held) = self.held.get_mut(&range.partition) {
                held.next = range.to;
            }
        }
    }
}

#[cfg(test)]
#[path = "model.rs"]
mod model;
