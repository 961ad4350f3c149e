//! Engines that are away while a process starts: it waits for them, but not for ever.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that something is waited for.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Why an engine cannot be used.
#[derive(Debug)]
pub(super) enum Failed {
    /// It is away: that may pass.
    Away(anyhow::Error),
    /// Waiting does not help.
    Final(anyhow::Error),
}

/// For how long a start waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    patience: Duration,
    shutdown: CancellationToken,
}

impl Waiting {
    /// At most so long, and not beyond the shutdown.
    pub(super) fn new(patience: Duration, shutdown: CancellationToken) -> Self {
        Self { patience, shutdown }
    }

    /// What an attempt gives as soon as one succeeds.
    ///
    /// # Errors
    /// Waiting does not help, took too long, or the process is to end.
    pub(super) async fn for_engine<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Failed>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let Some(outcome) = self.shutdown.run_until_cancelled(attempt()).await else {
                anyhow::bail!("told to stop while waiting for {what}");
            };
            let error = match outcome {
                Ok(there) => return Ok(there),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Away(error)) => error,
            };
            let seconds = self.patience.as_secs();
            if start.elapsed() >= self.patience {
                let given_up =
                    format!("{what} was not there within {seconds} s of the start (ANNALS_START_SECONDS)");
                return Err(error.context(given_up));
            }
            if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                let error = format!("{error:#}");
                tracing::warn!(what, seconds, error, "waiting for an engine that is away");
            }
            self.shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Failed {
        Failed::Away(anyhow::anyhow!("connection refused"))
    }

    #[tokio::test]
    async fn it_is_waited_for_until_it_is_there() {
        let waiting = Waiting::new(Duration::from_secs(60), CancellationToken::new());
        let mut attempts = 0;
        let there = waiting.for_engine("the log", async || {
            attempts += 1;
            if attempts < 3 { Err(away()) } else { Ok(attempts) }
        });
        assert_eq!(there.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once_and_what_lasts_too_long_with_the_setting() {
        let waiting = Waiting::new(Duration::from_secs(3600), CancellationToken::new());
        let refused = waiting.for_engine::<()>("the log", async || {
            Err(Failed::Final(anyhow::anyhow!("wrong password")))
        });
        assert_eq!(format!("{:#}", refused.await.unwrap_err()), "wrong password");
        let waiting = Waiting::new(Duration::ZERO, CancellationToken::new());
        let given_up = waiting.for_engine::<()>("the log", async || Err(away()));
        let said = format!("{:#}", given_up.await.unwrap_err());
        assert!(said.contains("ANNALS_START_SECONDS") && said.contains("connection refused"));
    }

    #[tokio::test]
    async fn whoever_is_told_to_stop_waits_no_more() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let waiting = Waiting::new(Duration::from_secs(3600), shutdown);
        let stopped = waiting.for_engine::<()>("the log", async || Err(away()));
        assert!(stopped.await.unwrap_err().to_string().contains("told to stop"));
    }
}
