//! The write side: HTTP → command → decide → append → answer.
//!
//! Reading order: [`routes`] (what can be asked), [`caller`] and [`command`] (who asks, and what every command
//! carries), [`partition`] (where it is decided), [`answer`] and [`error`] (what the client hears);
//! [`forward`] is what becomes of a command that another process must decide, [`directory`] is how every process
//! knows sites and keys, [`visit`] what is made of a page view at the door, [`subscription`] how the log's events go
//! out again.

#![forbid(unsafe_code)]

pub mod aggregate;
pub mod answer;
pub mod app;
pub mod caller;
pub mod command;
pub mod config;
pub mod directory;
pub mod ends;
mod erasures;
pub mod error;
pub mod forward;
pub mod history;
pub mod metrics;
pub mod partition;
pub mod recorder;
pub mod routes;
pub mod subscription;
pub mod visit;

pub use app::{App, Deps, run, serve};
pub use config::Config;
pub use routes::{openapi, router};
