//! `annals import …`: what exists elsewhere comes in, once, however often it is asked for.

pub(crate) mod access_log;
pub(crate) mod posts;

use std::{process::ExitCode, time::Duration};

use events::directory::Domain;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded::byte_serialize;

use crate::client::{Client, ClientError, Request};

/// What to import.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Import {
    Posts(posts::Posts),
    AccessLog(access_log::AccessLog),
}

impl Import {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Posts(posts) => posts.run().await,
            Self::AccessLog(log) => log.run().await,
        }
    }
}

/// For how long an import waits for a server that is away or busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an import ended, as the exit code tells.
fn exit_code(interrupted: bool, failed: usize) -> ExitCode {
    match (interrupted, failed) {
        (true, _) => ExitCode::from(130),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(3),
    }
}

/// Cancelled by the first Ctrl-C, so that what is on its way may end; the second one ends the process.
fn interruption() -> CancellationToken {
    let token = CancellationToken::new();
    let ours = token.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("finishing what is on its way; the same command goes on from here");
            ours.cancel();
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        }
    });
    token
}

/// Asks for the site before anything is sent, so that a wrong name is said once: the domain as the site is known by.
/// A site that was just created may not be in the read model yet.
async fn expect_site(client: &Client, named: &str) -> anyhow::Result<String> {
    let domain = Domain::normal(named);
    for pause in [100, 200, 400, 800, 1_600, 0] {
        let path: String = byte_serialize(domain.as_bytes()).collect();
        match client.send(Request::query(format!("api/v1/sites/{path}"))).await {
            Err(ClientError::Problem(problem)) if problem.status == 404 => {}
            answer => {
                answer?;
                return Ok(domain);
            }
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    anyhow::bail!("there is no site {domain:?} for this key; create it: annals sites create {named}")
}

/// A number that may be written as one or, when it is large, as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
