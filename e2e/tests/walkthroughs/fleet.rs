//! Two command-apis share the partitions; one of them is killed, or stopped for longer than its session and let go on.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    installation::{Answer, Installation, LogKind, Role},
    wait,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::PATIENCE;

const BOTH: [Role; 2] = [Role::Command, Role::AnotherCommand];
/// The directory and four of the ledger.
const PARTITIONS: usize = 5;

/// Tenants with what they were told.
struct Writers {
    tenants: Vec<(String, String)>,
    acknowledged: Vec<BTreeSet<String>>,
    number: usize,
}

impl Writers {
    async fn new(annals: &Installation) -> Self {
        let mut tenants = Vec::new();
        for number in 0..6 {
            let site = format!("site{number}.example");
            let key = annals.tenant(&format!("tenant {number}"), &site).await.unwrap();
            tenants.push((key, site));
        }
        Self {
            acknowledged: vec![BTreeSet::new(); tenants.len()],
            tenants,
            number: 0,
        }
    }

    /// A new piece of every tenant at this process; how many were acknowledged.
    async fn write(&mut self, annals: &Installation, role: Role) -> usize {
        self.number += 1;
        let slug = format!("piece-{}", self.number);
        let mut count = 0;
        for ((key, site), acknowledged) in self.tenants.iter().zip(&mut self.acknowledged) {
            let Some(answer) = draft(annals, role, key, site, &slug).await else {
                continue;
            };
            match answer.status {
                StatusCode::CREATED => {
                    assert!(acknowledged.insert(slug.clone()));
                    count += 1;
                }
                StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("{other}: {answer:?}"),
            }
        }
        count
    }

    /// Writes until all of it is acknowledged.
    async fn write_all(&mut self, annals: &Installation, role: Role) {
        let all = self.tenants.len();
        wait::until("every tenant to be served", PATIENCE, async || {
            (self.write(annals, role).await == all).then_some(())
        })
        .await
        .unwrap();
    }

    /// Every slug that was acknowledged is taken, whoever is asked.
    async fn check(&self, annals: &Installation, roles: &[Role]) {
        for role in roles {
            for ((key, site), acknowledged) in self.tenants.iter().zip(&self.acknowledged) {
                for slug in acknowledged {
                    let answer = draft(annals, *role, key, site, slug).await.unwrap();
                    assert_eq!(answer.status, StatusCode::CONFLICT, "{slug}: {answer:?}");
                    assert_eq!(answer.body["type"], "/problems/slug-taken");
                }
            }
        }
    }
}

/// Nothing, when there is no answer.
async fn draft(annals: &Installation, role: Role, key: &str, site: &str, slug: &str) -> Option<Answer> {
    let body = json!({"site": site, "kind": "post", "title": "A piece", "slug": slug});
    let address = annals.address(&[role]);
    annals
        .command_at(&address, Method::POST, "/api/v1/content", key, body)
        .await
        .ok()
}

/// Which partitions a process serves, as its metrics say; none, when it does not answer.
pub(crate) async fn served(annals: &Installation, role: Role) -> BTreeSet<String> {
    let address = annals.address(&[role]);
    let asked = annals.command_at(&address, Method::GET, "/metrics", "", json!(null));
    let Ok(Ok(metrics)) = tokio::time::timeout(Duration::from_secs(2), asked).await else {
        return BTreeSet::new();
    };
    let text = metrics.body.as_str().unwrap_or_default();
    let serving = text.lines().filter_map(|line| {
        let line = line.strip_prefix("annals_partition_serving{partition=\"")?;
        line.strip_suffix("\"} 1").map(str::to_owned)
    });
    serving.collect()
}

async fn serves(annals: &Installation, role: Role) -> usize {
    served(annals, role).await.len()
}

pub(crate) async fn shared(annals: &Installation) {
    wait::until("both to serve their share", PATIENCE, async || {
        let (one, two) = (
            serves(annals, Role::Command).await,
            serves(annals, Role::AnotherCommand).await,
        );
        (one > 0 && two > 0 && one + two == PARTITIONS).then_some(())
    })
    .await
    .unwrap();
}

pub(crate) async fn alone(annals: &Installation, role: Role) {
    wait::until("one to serve everything", PATIENCE, async || {
        (serves(annals, role).await == PARTITIONS).then_some(())
    })
    .await
    .unwrap();
}

async fn fleet() -> (Installation, Writers) {
    let mut annals = crate::prepared(LogKind::Kafka).await;
    annals.spawn(Role::Command).unwrap();
    annals.ready(Role::Command).await.unwrap();
    let mut writers = Writers::new(&annals).await;
    writers.write_all(&annals, Role::Command).await;
    annals.spawn(Role::AnotherCommand).unwrap();
    annals.ready(Role::AnotherCommand).await.unwrap();
    shared(&annals).await;
    for role in BOTH {
        writers.write_all(&annals, role).await;
    }
    (annals, writers)
}

/// The log itself, read to its end.
async fn verify(annals: &Installation) {
    let output = annals
        .annals(annals.operator_key(), &["log", "verify"])
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_process_that_is_killed_is_replaced_by_the_other_and_comes_back() {
    let (mut annals, mut writers) = fleet().await;
    annals.kill(Role::Command).await.unwrap();
    writers.write(&annals, Role::AnotherCommand).await;
    alone(&annals, Role::AnotherCommand).await;
    writers.write_all(&annals, Role::AnotherCommand).await;
    writers.check(&annals, &[Role::AnotherCommand]).await;
    annals.spawn(Role::Command).unwrap();
    annals.ready(Role::Command).await.unwrap();
    shared(&annals).await;
    for role in BOTH {
        writers.write_all(&annals, role).await;
    }
    writers.check(&annals, &BOTH).await;
    verify(&annals).await;
    crate::finish(annals).await;
}

#[tokio::test]
async fn a_process_that_is_frozen_loses_its_partitions_and_knows_it_when_it_wakes() {
    let (annals, mut writers) = fleet().await;
    annals.signal(Role::Command, "-STOP").await.unwrap();
    writers.write(&annals, Role::AnotherCommand).await;
    alone(&annals, Role::AnotherCommand).await;
    writers.write_all(&annals, Role::AnotherCommand).await;
    annals.signal(Role::Command, "-CONT").await.unwrap();
    // At once: it still believes that it serves what others have claimed.
    writers.write(&annals, Role::Command).await;
    shared(&annals).await;
    for role in BOTH {
        writers.write_all(&annals, role).await;
    }
    writers.check(&annals, &BOTH).await;
    verify(&annals).await;
    crate::finish(annals).await;
}
