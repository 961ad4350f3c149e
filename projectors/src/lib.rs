//! Log → tables: event → change, pure, one file per projection, and the one runner that moves them.
//!
//! Reading order: [`content`], [`downloads`], [`directory`], [`visits`], [`facts`] (what an event means for the tables), then
//! [`runner`] (read, fold, write with checkpoint), then [`run`] (which projections there are), `generations.rs` (which of their generations are
//! filled, and when another one answers), `share.rs` (which part of them here, where several projectors run) and [`verify`] (whether the tables are what
//! the log says), and [`api`] (what operators ask for).

#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod content;
pub mod directory;
pub mod downloads;
pub mod facts;
mod generations;
mod metrics;
pub mod run;
pub mod runner;
mod share;
pub mod verify;
pub mod visits;

pub use config::Config;
pub use run::{Error, run};
