//! Whether a process is alive and can serve, and what of it is degraded.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use axum::{Router, response::IntoResponse, routing::get};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Json;

/// How one part of a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    Ok,
    /// Requests are served, but something is missing or late.
    Degraded,
    /// Requests cannot be served.
    Down,
}

/// One line of `/readyz`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Check {
    /// How it does.
    pub state: State,
    /// Why it is not ok, in words that may be shown to anyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Readiness {
    /// The worst of all checks.
    pub state: State,
    /// The names of those that are not ok.
    pub degraded: Vec<String>,
    /// Every check by its name.
    pub checks: BTreeMap<String, Check>,
}

/// The checks of a process. Whoever owns a connection or a task registers it and reports as things change; the
/// routes only read, so that asking for health costs nothing and cannot hang.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<String, Check>>>);

/// Where the owner of a part reports how it does.
#[derive(Debug, Clone)]
pub struct Reporter {
    name: String,
    health: Health,
}

impl Health {
    /// No checks yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that is down until its owner reports otherwise.
    pub fn register(&self, name: impl Into<String>) -> Reporter {
        let reporter = Reporter {
            name: name.into(),
            health: self.clone(),
        };
        reporter.down("has not reported yet");
        reporter
    }

    /// How all is now.
    pub fn readiness(&self) -> Readiness {
        let checks = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let degraded = checks
            .iter()
            .filter(|(_, check)| check.state != State::Ok)
            .map(|(name, _)| name.clone());
        Readiness {
            state: checks
                .values()
                .map(|check| check.state)
                .max()
                .unwrap_or(State::Ok),
            degraded: degraded.collect(),
            checks,
        }
    }

    /// `/healthz`, `/readyz` and `/metrics`, to be merged into a process's routes once.
    pub fn routes(&self) -> Router {
        let health = self.clone();
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route(
                "/readyz",
                get(move || async move {
                    let readiness = health.readiness();
                    let serving = readiness.state != State::Down;
                    let status = if serving {
                        StatusCode::OK
                    } else {
                        StatusCode::SERVICE_UNAVAILABLE
                    };
                    (status, Json(readiness)).into_response()
                }),
            )
            .route("/metrics", get(crate::metrics::text))
    }

    fn set(&self, name: &str, check: Check) {
        self.0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(name.to_owned(), check);
    }
}

impl Reporter {
    /// All is as it should be.
    pub fn ok(&self) {
        self.health.set(
            &self.name,
            Check {
                state: State::Ok,
                detail: None,
            },
        );
    }

    /// Requests are served, but something is missing or late. `why` is shown to anyone who asks.
    pub fn degraded(&self, why: impl Into<String>) {
        self.health.set(
            &self.name,
            Check {
                state: State::Degraded,
                detail: Some(why.into()),
            },
        );
    }

    /// Requests cannot be served. `why` is shown to anyone who asks.
    pub fn down(&self, why: impl Into<String>) {
        self.health.set(
            &self.name,
            Check {
                state: State::Down,
                detail: Some(why.into()),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_worst_of_all_and_names_what_is_degraded() {
        let health = Health::new();
        assert_eq!(health.readiness().state, State::Ok);
        let (log, tables) = (health.register("log"), health.register("tables"));
        assert_eq!(health.readiness().state, State::Down);
        log.ok();
        tables.degraded("12 s behind");
        let readiness = health.readiness();
        assert_eq!(
            (readiness.state, readiness.degraded),
            (State::Degraded, vec!["tables".to_owned()])
        );
    }
}
