//! Load and faults on real engines, and a checker that compares what clients were told with the log.
//!
//! `./dev test faults` runs it for longer; `--minutes N`, `--seed N`, `--brokers 3` and
//! `--processes 4` say how.

use std::{path::PathBuf, time::Duration};

use e2e::{
    engines::Engines,
    faults::{Plan, run},
};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_were_told_is_so_whatever_went_wrong() {
    let plan = Plan {
        seed: number("ANNALS_FAULTS_SEED").unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0)),
        duration: Duration::from_secs(number("ANNALS_FAULTS_SECONDS").unwrap_or(30)),
        processes: number("ANNALS_FAULTS_PROCESSES")
            .map_or(2, |processes| usize::try_from(processes).unwrap()),
    };
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_annals-under-test"));
    let looked = run(&Engines::from_environment().unwrap(), &binary, plan)
        .await
        .unwrap();
    // A run in which nothing happens shows nothing.
    assert!(
        looked.acknowledged > 20
            && looked.refused > 0
            && looked.repeated > 0
            && looked.reads > 0
            && looked.beside > 0,
        "{looked:?}"
    );
}
