//! A broker of three is lost for good.

use std::{path::PathBuf, time::Duration};

use event_log::{KafkaConfig, Log, LogConfig, Partition, Store};
use tokio::time::Instant;

use crate::{
    kafka::Cluster,
    suite::{Bench as _, config, within},
};

const PARTITIONS: u32 = 6;

/// Ends a broker as a machine does that fails.
fn lose(broker: &str) {
    let state = std::env::var("ANNALS_TEST_STATE").expect("ANNALS_TEST_STATE is not set: run ./dev test");
    let run = std::fs::read_to_string(PathBuf::from(state).join("run").join(broker)).expect("it runs");
    let pid = run.split_whitespace().next().expect("its pid").to_owned();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "loses one of three brokers; `./dev test` starts them for it alone: deploy/local/engines run-with kafka3 -- cargo test -p event-log --test conformance -- --ignored lost_broker"]
async fn the_ends_of_a_lost_brokers_partitions_are_told_by_the_others() {
    within(async {
        let bench = Cluster::new();
        let Store::Kafka(kafka) = bench.store() else {
            panic!("a cluster is on Kafka");
        };
        let store = Store::Kafka(KafkaConfig {
            replication: Some(3),
            ..kafka
        });
        let log = Log::open(LogConfig {
            ledger_partitions: Some(PARTITIONS),
            ..config(store)
        });
        let log = log.await.expect("opens");
        let ledger = || (0..PARTITIONS).map(Partition::ledger);
        for partition in ledger() {
            assert_eq!(log.end(partition).await, Ok(1));
        }
        lose("kafka3-2");
        let deadline = Instant::now() + Duration::from_secs(60);
        for partition in ledger() {
            loop {
                let end = log.end(partition).await;
                if end == Ok(1) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "no end of {partition} within a minute: {end:?}"
                );
            }
        }
        log.close().await;
    })
    .await;
}
