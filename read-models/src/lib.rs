//! The tables: every row that a query reads, its migration, its writer and its reader. The only room that
//! names a table.
//!
//! Reading order: [`projection`] (what is folded from what), [`migrate`](mod@migrate), [`generation`]
//! (schemas and databases, one live), [`checkpoint`] (how far a fold has come), [`members`] (who folds), [`parking`], then one file
//! per projection with its rows, its writing and its queries ([`directory`], [`content`], [`downloads`] in
//! PostgreSQL; [`visits`], [`facts`] in ClickHouse), [`progress`], which lets a query wait, and
//! [`standing`], which shows a generation to whoever compares it with the log.

#![forbid(unsafe_code)]
#![cfg(not(feature = "bare"))]

pub mod checkpoint;
pub mod clickhouse;
pub mod connect;
pub mod content;
mod copy;
pub mod directory;
pub mod downloads;
pub mod error;
pub mod export;
pub mod facts;
pub mod generation;
pub mod members;
pub mod migrate;
pub mod parking;
pub mod progress;
pub mod projection;
pub mod scratch;
pub mod standing;
pub mod status;
mod transaction;
pub mod verified;
pub mod verify;
pub mod visits;

pub use checkpoint::{Advance, Ahead, Checkpoint, Write};
pub use connect::{Reader, Snapshot, Tables, Writer};
pub use error::Error;
pub use migrate::migrate;
pub use progress::Progress;
pub use projection::{Projection, Topic};
