//! The walkthroughs of ARCHITECTURE.md, and what must stay true around them, on real engines and real processes.
//!
//! Start them with `./dev test`: it brings the engines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it was")]

#[path = "walkthroughs/command.rs"]
mod command;
#[path = "walkthroughs/dashboard.rs"]
mod dashboard;
#[path = "walkthroughs/disk.rs"]
mod disk;
#[path = "walkthroughs/erasure.rs"]
mod erasure;
#[path = "walkthroughs/first_steps.rs"]
mod first_steps;
#[path = "walkthroughs/fleet.rs"]
mod fleet;
#[path = "walkthroughs/forgotten.rs"]
mod forgotten;
#[path = "walkthroughs/imports.rs"]
mod imports;
#[path = "walkthroughs/isolation.rs"]
mod isolation;
#[path = "walkthroughs/ledger.rs"]
mod ledger;
#[path = "walkthroughs/projectors.rs"]
mod projectors;
#[path = "walkthroughs/proof.rs"]
mod proof;
#[path = "walkthroughs/rebuild.rs"]
mod rebuild;
#[path = "walkthroughs/sample.rs"]
mod sample;
#[path = "walkthroughs/start.rs"]
mod start;
#[path = "walkthroughs/state_disk.rs"]
mod state_disk;
#[path = "walkthroughs/time_travel.rs"]
mod time_travel;

use std::{path::PathBuf, time::Duration};

use e2e::{
    engines::Engines,
    installation::{Installation, LogKind},
};
use sqlx::{Connection as _, PgConnection};

/// How long a projection may take to show what the log has; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// An installation with its processes running.
async fn running(log: LogKind) -> Installation {
    let mut installation = prepared(log).await;
    installation.start().await.unwrap();
    answering(&installation).await;
    installation
}

/// Waits until the tables of each projection had all of the log once: before that they do not answer.
async fn answering(installation: &Installation) {
    const FILLED: &str = "SELECT count(DISTINCT projection) = 5 AND bool_and(filled) FROM annals.checkpoints";
    let patience = Duration::from_secs(60);
    e2e::wait::until("the tables to answer", patience, async || {
        let mut database = PgConnection::connect(&installation.database()).await.ok()?;
        let filled: Option<bool> = sqlx::query_scalar(FILLED).fetch_one(&mut database).await.ok()?;
        filled.filter(|filled| *filled)
    })
    .await
    .unwrap();
}

/// An installation of which nothing runs yet.
async fn prepared(log: LogKind) -> Installation {
    let engines = Engines::from_environment().unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_annals-under-test"));
    Installation::new(&engines, binary, log).await.unwrap()
}

/// Stops it in order, which must succeed, and removes it.
async fn finish(mut installation: Installation) {
    installation.stop().await.unwrap();
    installation.erase().await.unwrap();
}
