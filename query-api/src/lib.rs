//! The read side: read models → HTTP. It sees [`read_models::Reader`] only, with a user that may only SELECT.
//!
//! Reading order: [`routes`] (the contents page, then one file per query), [`ask`] (what every query carries:
//! position, patience, caller), [`cache`] (what is hot, and when it may still be served), [`page`] (an answer
//! that was written once and is sent often), [`error`] (every error, one match).
#![forbid(unsafe_code)]

mod app;
mod ask;
mod cache;
mod caller;
mod config;
mod content;
mod cors;
mod docs;
mod error;
mod list;
mod markdown;
mod metrics;
mod page;
mod routes;
mod site;
mod spreadsheet;
mod turns;

pub use app::{App, Dependencies, run};
pub use config::Config;
pub use docs::{Document, docs};
pub use error::StartError;
pub use routes::{openapi, router};
