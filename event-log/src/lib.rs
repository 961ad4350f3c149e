//! The log: few verbs, one admission rule, two adapters. The only crate that speaks Kafka or opens the embedded
//! store.
//!
//! Reading order: [`partition`] and [`slot`] (where things go), [`record`], [`hash`], [`genesis`], [`commit`] and
//! [`visits`] (what stands there), [`admission`] (what of it counts), [`writer`] (how one appends so that it counts;
//! a state machine without I/O), [`driver`] (the same with I/O, for a task), [`log`] (the port), [`audit`] (whether a
//! partition is in order), [`ownership`] (which process is to serve what, and where others are), [`export`] (a partition as text) and [`restore`] (back into
//! a store), [`state_store`] and [`snapshot`] (where a fold is kept, so that the next start is short).
//! `schemas/LEDGER.md` says the same to other languages.

#![forbid(unsafe_code)]

pub mod admission;
pub mod audit;
pub mod before;
mod clock;
pub mod commit;
pub mod driver;
mod embedded;
pub mod export;
mod gate;
pub mod genesis;
pub mod hash;
mod kafka;
pub mod log;
pub mod metrics;
mod open;
pub mod ownership;
pub mod partition;
pub mod record;
pub mod restore;
pub mod slot;
pub mod snapshot;
pub mod state_store;
pub mod view;
pub mod visits;
pub mod writer;

pub use admission::{State, Verdict, Why};
pub use commit::{Commit, CommitError, EncodeError, MAX_COMMIT, Prepared};
pub use genesis::{Claim, Genesis, LogId};
pub use hash::Hash;
pub use log::{
    AppendError, Appending, Batch, DEFAULT_PARTITIONS, EMBEDDED_PARTITIONS, KafkaConfig, Log, LogConfig,
    OpenError, ReadError, Reader, Store, Stored,
};
pub use ownership::{Assignment, Hint, Hints, Known, Membership, Owners, Process};
pub use partition::{Offset, Partition, Topic};
pub use record::{CommandHashes, CommandName, CommitHeaders, Headers, Record};
pub use snapshot::Snapshots;
pub use state_store::{StateError, StateStore, StateStores};
