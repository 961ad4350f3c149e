//! Whether a process is alive and can serve, and what of it is degraded.

use std::{
    any::Any,
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    task::Poll,
    time::Duration,
};

use axum::{Router, response::IntoResponse, routing::get};
use http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
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
pub struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    checks: RwLock<BTreeMap<String, Check>>,
    /// Which task that the process cannot do without has panicked, and what it said.
    failure: watch::Sender<Option<String>>,
}

/// How long the rest of a process has to end in order after a task of it has panicked.
const FAREWELL: Duration = Duration::from_secs(30);

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

    /// A part that is heard of only while something is wrong with it; [`Self::forget`] says that nothing is.
    pub fn degraded(&self, name: &str, why: impl Into<String>) {
        let detail = Some(why.into());
        let state = State::Degraded;
        self.set(name, Check { state, detail });
    }

    /// A part is no longer of this process.
    pub fn forget(&self, name: &str) {
        self.0
            .checks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// How all is now.
    pub fn readiness(&self) -> Readiness {
        let checks = self
            .0
            .checks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
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
            .checks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), check);
    }

    /// Runs a task that the process cannot do without. When it panics, that is logged with what it said, readiness is
    /// down for good, and [`Self::failure`] says so: crippled, a process would only look alive. Gives none then.
    pub async fn vital<T>(self, name: impl Into<String>, task: impl Future<Output = T>) -> Option<T> {
        let name = name.into();
        let mut task = pin!(task);
        poll_fn(
            |context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
                Ok(done) => done.map(Some),
                Err(panic) => {
                    self.fail(&name, said(panic.as_ref()));
                    Poll::Ready(None)
                }
            },
        )
        .await
    }

    /// Which vital task has panicked first, and what it said.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    /// Asks everything to end when a vital task has panicked; ends the process itself when that takes too long.
    pub async fn end_after_failure(self, shutdown: CancellationToken) {
        let mut failure = self.0.failure.subscribe();
        let failed = failure.wait_for(Option::is_some);
        if shutdown
            .run_until_cancelled(failed)
            .await
            .is_some_and(|it| it.is_ok())
        {
            shutdown.cancel();
            tokio::time::sleep(FAREWELL).await;
            tracing::error!("the process does not end in order: ending it at once");
            std::process::exit(1);
        }
    }

    fn fail(&self, name: &str, said: &str) {
        tracing::error!(task = name, panic = said, "a task has panicked: the process ends");
        self.end(name, format!("{name} has panicked: {said}"));
    }

    /// Something that the process cannot do without does not work any more and will not by itself: readiness is down for
    /// good, and the process ends.
    pub fn give_up(&self, name: &str, why: &str) {
        tracing::error!(what = name, why, "the process ends");
        self.end(name, format!("{name}: {why}"));
    }

    fn end(&self, name: &str, why: String) {
        self.set(
            "process",
            Check {
                state: State::Down,
                detail: Some(format!("{name} has failed: the process ends")),
            },
        );
        self.0.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
    }
}

/// What a panic said, when it said a text.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
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

    #[tokio::test]
    async fn a_vital_task_that_panics_takes_the_process_down() {
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        assert_eq!(health.clone().vital("calm", async { 7 }).await, Some(7));
        assert_eq!(health.failure(), None);
        let ending = tokio::spawn(health.clone().end_after_failure(shutdown.clone()));
        let broken = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "on purpose");
        };
        assert_eq!(health.clone().vital("broken", broken).await, None);
        assert_eq!(health.failure().unwrap(), "broken has panicked: on purpose");
        assert_eq!(health.readiness().state, State::Down);
        tokio::time::timeout(Duration::from_secs(10), shutdown.cancelled())
            .await
            .expect("everything is asked to end");
        ending.abort();
    }

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
