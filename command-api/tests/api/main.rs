//! The write side through its public door: the real router on port 0, the embedded log, a real PostgreSQL.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod bodies;
mod commands;
mod concurrency;
mod described;
mod erasure;
mod fuzz;
mod idempotency;
mod installation;
mod kafka;
mod refusals;
mod sharing;
mod snapshots;
mod state;
mod stopped;
mod strange;
mod subscription;
mod visits;
mod world;
mod writer;
