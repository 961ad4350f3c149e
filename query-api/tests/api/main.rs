//! The query API over a real socket, on real PostgreSQL and ClickHouse, with rows that a projector would write.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caching;
mod callers;
mod content;
mod documents;
mod downloads;
mod export;
mod lists;
mod parked;
mod positions;
mod stage;
mod starting;
mod statistics;
