//! What the processes share, and no more: how they answer errors, read requests, name positions and keys,
//! tell what they do, and stop.
//!
//! Reading order: [`problem`] (the one body of every error), [`extract`] (requests parsed at the door),
//! [`position`], [`key`] and [`prefer`] (texts that clients carry), [`http`] (the layers and the server), then
//! [`places`] (nobody takes what is everybody's), [`health`], [`metrics`], [`telemetry`], [`trace`], [`shutdown`].
//!
//! A process builds its routes as a plain [`axum::Router`], merges what stands beside them, and gives the whole
//! to [`http::finish`] once, then to [`http::serve`]. Routers that are merged must spell path parameters alike
//! (`{id}`, `{domain}`, `{kind}`, `{slug}`, `{keyid}`).
#![forbid(unsafe_code)]

pub mod extract;
pub mod health;
pub mod http;
pub mod key;
pub mod metrics;
pub mod places;
pub mod position;
pub mod prefer;
pub mod problem;
pub mod shutdown;
pub mod telemetry;
pub mod trace;

pub use extract::{Json, Path, Query};
pub use health::Health;
pub use http::{Stopping, finish, serve};
pub use position::{Position, Topic};
pub use problem::{FieldError, Problem};
pub use trace::TraceContext;
