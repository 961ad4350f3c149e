//! Drives a [`crate::writer::Writer`] against a [`Log`] for one partition, from one task.
//!
//! The task that calls [`drive`] owns the decision state; a [`Decider`] is all that it has to give. Everything that
//! must be right about claims, sequence numbers, unknown outcomes and the order of answers happens here and in
//! [`crate::writer`].
//!
//! ```ignore
//! struct Ledger { state: TenantStates, undo: Vec<Undo> }
//!
//! impl Decider for Ledger {
//!     type Request = (Command, oneshot::Sender<Outcome<Receipt>>);
//!     type Answer = Receipt;
//!     fn apply(&mut self, at, commit, record) -> Result<(), Unapplied> { /* Commit::decode, then fold */ }
//!     fn forget(&mut self) -> Rewound { self.state = default(); Rewound::To(0, State::default()) }
//!     fn decide(&mut self, request) -> Decision<Receipt> { /* rules on self.state, speculated events included */ }
//!     fn answer(&mut self, (_, reply), outcome) { let _ = reply.send(outcome); }
//! }
//!
//! let (commands, requests) = mpsc::channel(1024); // bounded: `try_send` fails when too many wait → 503
//! tokio::spawn(drive(log, Partition::ledger(0), Start::default(), ledger, requests, status, Options::new("host/uuid")));
//! ```

mod flights;
mod queues;
mod reading;
mod task;

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use self::task::{ARRIVALS, Task, only, until};

use crate::{
    admission::{MOST_IN_FLIGHT, State},
    commit::Prepared,
    log::Log,
    partition::{Offset, Partition},
    record::{CommitHeaders, Record},
};

/// The fold of a partition and the rules over it.
pub trait Decider: Send + 'static {
    /// What arrives; kept until it is answered, because it may have to be decided again. It carries its reply.
    type Request: Send + 'static;
    /// What a decision answers when all that it rests on is admitted.
    type Answer: Send + 'static;

    /// Who of those that share the partition sent a request: while they have to wait, they take turns.
    fn sharer(request: &Self::Request) -> u128 {
        let _ = request;
        0
    }

    /// Folds an admitted commit that did not come from this decider's own (remembered) decisions. Called in the
    /// order of the log, and only when nothing is speculated.
    ///
    /// # Errors
    /// An event type or version that this release does not know: the partition is given up (rule 7).
    fn apply(&mut self, at: Offset, commit: &CommitHeaders, record: &Record) -> Result<(), Unapplied>;

    /// Goes back to a state that holds admitted commits only: whatever [`Self::decide`] added and
    /// [`Self::admitted`] did not confirm never happened. Says where the state now stands; the driver folds from
    /// there. Rare: an append failed or another writer took over.
    fn forget(&mut self) -> Rewound;

    /// Why nothing more can be decided here, when that is so: what is under way is answered, then the partition is
    /// given up.
    fn broken(&mut self) -> Option<String> {
        None
    }

    /// Decides on the state as it is, decisions not yet admitted included. With [`Decision::Append`] the events
    /// must have been folded into the state on return. Called again for the same request after [`Self::forget`].
    fn decide(&mut self, request: &mut Self::Request) -> Decision<Self::Answer>;

    /// The oldest decision not yet confirmed is admitted, at this offset. Called before its answer.
    fn admitted(&mut self, at: Offset) {
        let _ = at;
    }

    /// Gives the answer, in the order of decisions.
    fn answer(&mut self, request: Self::Request, outcome: Outcome<Self::Answer>);
}

/// What a decider makes of a request.
#[derive(Debug)]
pub enum Decision<A> {
    /// Events to append, and the answer for when they are admitted.
    Append(Prepared, A),
    /// An answer that appends nothing: a refusal, or the stored answer of an earlier command.
    Answer(A),
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// Its events are in the log and admitted, at this offset. Readers have it when they are at `offset + 1`.
    Admitted {
        /// As decided.
        answer: A,
        /// Where its record stands.
        offset: Offset,
    },
    /// It appended nothing, and all that it was decided on is admitted, below this offset.
    Settled {
        /// As decided.
        answer: A,
        /// The next offset after what it rests on.
        next: Offset,
    },
    /// Nothing was done and nothing will be: this process does not serve the partition now.
    NotServing(String),
    /// The process gives up before the log said what happened. The same Idempotency-Key will find out.
    Unknown(String),
}

/// Where a decider stands after [`Decider::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewound {
    /// It undid exactly what was not admitted.
    Here,
    /// It went back to this next offset and state of admission: `To(0, State::default())` is always right.
    To(Offset, State),
}

/// Why a commit could not be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unapplied {
    /// It holds an event that this release does not know.
    Unreadable(String),
    /// What becomes of the state cannot be kept here, or be read: another process may be able to.
    Unkept(String),
}

/// Where to begin: the next offset and the state of admission before it. The default is the partition's beginning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// The next offset to fold.
    pub next: Offset,
    /// What admission knows before it.
    pub state: State,
}

/// How a partition is driven.
#[derive(Debug, Clone)]
pub struct Options {
    /// The writer's name in its claims: one that no other run of any process has.
    pub owner: String,
    /// Commits under way at most, and likewise answers that append nothing.
    pub max_in_flight: usize,
    /// How long requests wait for the partition to be served before [`Outcome::NotServing`].
    pub patience: Duration,
    /// Damage of the log that a person has looked at: see [`crate::admission::Why::is_damage`].
    pub accepted: Vec<Offset>,
}

impl Options {
    /// The usual limits.
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            max_in_flight: MOST_IN_FLIGHT,
            patience: Duration::from_secs(5),
            accepted: Vec::new(),
        }
    }
}

/// What the driver is at, for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Folding what is there.
    Starting,
    /// Deciding and appending.
    Serving {
        /// Its epoch.
        epoch: u64,
    },
    /// An append failed: claiming anew and reading what happened.
    Recovering,
    /// Another writer has the partition.
    SteppedDown(String),
    /// The log ends before what was read from it: nobody should write on top of that.
    Lost {
        /// The next offset after what was read.
        next: Offset,
        /// For people.
        why: String,
    },
    /// This release, or this process, cannot read what stands in the partition: which place, and why.
    Unreadable(String),
    /// This process cannot keep what is decided: why.
    Unkept(String),
}

/// Drives the partition until `requests` is closed and all is answered. After stepping down it goes on answering
/// [`Outcome::NotServing`]. It is to be spawned as a task of its own.
pub async fn drive<D: Decider>(
    log: Log,
    partition: Partition,
    start: Start,
    decider: D,
    mut requests: mpsc::Receiver<D::Request>,
    status: watch::Sender<Status>,
    options: Options,
) -> D {
    let mut task = Task::new(log, partition, start, decider, status, options);
    let mut open = true;
    let mut arrived = Vec::new();
    loop {
        task.perform().await;
        if !open && task.is_done() {
            return task.decider;
        }
        let deadline = task.deadline(open);
        tokio::select! {
            biased;
            report = task.flights.first() => task.appended(report),
            (id, outcome) = only(&mut task.claim) => {
                task.claim = None;
                task.writer.appended(id, outcome);
            }
            (query, outcome) = only(&mut task.end) => {
                task.end = None;
                task.writer.ended(query, outcome);
            }
            batch = task.reading.next(&task.log, task.partition, &task.writer) => task.have_read(batch).await,
            count = requests.recv_many(&mut arrived, ARRIVALS), if open && task.takes_requests() => {
                open = count > 0;
                task.arrived(arrived.drain(..));
                if task.company {
                    // What is decided together leaves together.
                    tokio::task::yield_now().await;
                }
                while task.takes_requests() && let Ok(request) = requests.try_recv() {
                    task.arrived(std::iter::once(request));
                }
            }
            () = until(deadline) => task.expire(open),
        }
    }
}
