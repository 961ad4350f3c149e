//! Two releases side by side on one log: the present one, and a build of the next, which knows one event version more
//! (the feature `next-event` of `events`).
//!
//! The next release is built here, beside the present one and with the same dependencies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it was")]

use std::{path::PathBuf, process::Output, time::Duration};

use e2e::{
    engines::Engines,
    installation::{Answer, Installation, LogKind, Role},
    wait,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

const OLD: Role = Role::Command;
const NEW: Role = Role::AnotherCommand;
const PATIENCE: Duration = Duration::from_secs(120);
/// The directory and four of the ledger.
const PARTITIONS: usize = 5;
const OLD_VERSION: &str = "content.archived.v1";
const NEW_VERSION: &str = "content.archived.v2";

/// The programs of the present release and of the next.
async fn releases() -> (PathBuf, PathBuf) {
    let present = PathBuf::from(env!("CARGO_BIN_EXE_annals-under-test"));
    let next = present.with_file_name("annals-next");
    let built = tokio::process::Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package=e2e",
            "--bin=annals-next",
            "--features=next-event",
        ])
        // Beside the present one, whose dependencies it shares.
        .arg("--target-dir")
        .arg(present.parent().and_then(|profile| profile.parent()).unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await
        .unwrap();
    assert!(
        built.success() && next.exists(),
        "the next release cannot be built"
    );
    (present, next)
}

/// Tenants, and the slugs of which they were told that they have them.
struct Writers {
    tenants: Vec<(String, String)>,
    acknowledged: Vec<String>,
}

impl Writers {
    /// At least one in each partition of the ledger, so that whoever serves one meets what is written there.
    async fn new(annals: &Installation, role: Role) -> Self {
        let mut writers = Self {
            tenants: Vec::new(),
            acknowledged: vec!["first".to_owned()],
        };
        let drafted = "content.drafted.v1";
        while ledger(annals, role)
            .await
            .iter()
            .any(|records| !records.contains(drafted))
        {
            let number = writers.tenants.len();
            let site = format!("site{number}.example");
            let key = annals.tenant(&format!("tenant {number}"), &site).await.unwrap();
            done(annals, role, &key, "/api/v1/content", &piece(&site, "first")).await;
            writers.tenants.push((key, site));
        }
        writers
    }

    /// A piece that stays and one that is archived, of every tenant, at this process.
    async fn write(&mut self, annals: &Installation, role: Role) {
        let slug = format!("piece-{}", self.acknowledged.len());
        for (key, site) in &self.tenants {
            done(annals, role, key, "/api/v1/content", &piece(site, &slug)).await;
            let gone = done(annals, role, key, "/api/v1/content", &piece(site, "gone")).await;
            let archive = format!("/api/v1/content/{}/archive", gone.body["id"].as_str().unwrap());
            done(annals, role, key, &archive, &json!({})).await;
        }
        self.acknowledged.push(slug);
    }

    /// Every slug that was acknowledged is taken.
    async fn check(&self, annals: &Installation, role: Role) {
        let address = annals.address(&[role]);
        for (key, site) in &self.tenants {
            for slug in &self.acknowledged {
                let body = piece(site, slug);
                let taken = annals.command_at(&address, Method::POST, "/api/v1/content", key, body);
                let taken = taken.await.unwrap();
                assert_eq!(taken.status, StatusCode::CONFLICT, "{slug}: {taken:?}");
                assert_eq!(taken.body["type"], "/problems/slug-taken");
            }
        }
    }
}

fn piece(site: &str, slug: &str) -> serde_json::Value {
    json!({"site": site, "kind": "post", "title": "A piece", "slug": slug})
}

/// Asks until it is done. (What is refused with 503 was not done.)
async fn done(annals: &Installation, role: Role, key: &str, path: &str, body: &serde_json::Value) -> Answer {
    let address = annals.address(&[role]);
    wait::until(path, PATIENCE, async || {
        let asked = annals.command_at(&address, Method::POST, path, key, body.clone());
        let answer = asked.await.unwrap();
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        Some(answer)
    })
    .await
    .unwrap()
}

/// What the partitions of the ledger hold.
async fn ledger(annals: &Installation, role: Role) -> Vec<String> {
    let (address, mut partitions) = (annals.address(&[role]), Vec::new());
    for partition in 0..PARTITIONS - 1 {
        let path = format!("/api/v1/log/ledger/{partition}?from=0&limit=200");
        let asked = annals.command_at(&address, Method::GET, &path, annals.operator_key(), json!(null));
        let page = asked.await.unwrap();
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        partitions.push(page.body.to_string());
    }
    partitions
}

/// How many events of this version the ledger holds.
async fn count(annals: &Installation, role: Role, version: &str) -> usize {
    let partitions = ledger(annals, role).await;
    partitions
        .iter()
        .map(|records| records.matches(version).count())
        .sum()
}

/// How many partitions a process serves, as its metrics say; none, when it does not answer.
async fn serves(annals: &Installation, role: Role) -> usize {
    let address = annals.address(&[role]);
    let asked = annals.command_at(&address, Method::GET, "/metrics", "", json!(null));
    let Ok(metrics) = asked.await else { return 0 };
    let text = metrics.body.as_str().unwrap_or_default();
    let serving = |line: &&str| line.starts_with("annals_partition_serving{") && line.ends_with(" 1");
    text.lines().filter(serving).count()
}

async fn until_it_serves(annals: &Installation, role: Role, what: &str, enough: impl Fn(usize) -> bool) {
    wait::until(what, PATIENCE, async || {
        enough(serves(annals, role).await).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}:\n{}", annals.said(role)));
}

/// `annals feature-level …`, asked of this process.
async fn feature_level(annals: &Installation, role: Role, args: &[&str]) -> (bool, String) {
    let mut command = annals.annals(annals.operator_key(), &["feature-level"]);
    command.args(args);
    command.env("ANNALS_URL", format!("http://{}", annals.address(&[role])));
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    (status.success(), said)
}

async fn raise_is_refused(annals: &Installation, role: Role) {
    let (raised, said) = feature_level(annals, role, &["raise", "1"]).await;
    assert!(
        !raised && said.contains("not known to every running process"),
        "{said}"
    );
}

#[tokio::test]
async fn two_releases_run_side_by_side_and_the_new_version_is_written_when_all_can_read_it() {
    let (present, next) = releases().await;
    let engines = Engines::from_environment().unwrap();
    let mut annals = Installation::new(&engines, present, LogKind::Kafka)
        .await
        .unwrap();
    for role in [OLD, Role::Projector] {
        annals.spawn(role).unwrap();
        annals.ready(role).await.unwrap();
    }
    let mut writers = Writers::new(&annals, OLD).await;
    let tenants = writers.tenants.len();
    writers.write(&annals, OLD).await;

    // Both serve their share. What the new one writes, the old one can read.
    annals.release(NEW, next.clone());
    annals.spawn(NEW).unwrap();
    annals.ready(NEW).await.unwrap();
    until_it_serves(&annals, NEW, "the new one to serve its share", |count| count > 1).await;
    for role in [OLD, NEW] {
        writers.write(&annals, role).await;
    }
    assert_eq!(count(&annals, NEW, NEW_VERSION).await, 0);
    assert_eq!(count(&annals, NEW, OLD_VERSION).await, 3 * tenants);
    for role in [OLD, NEW] {
        raise_is_refused(&annals, role).await;
    }

    // The old projector cannot read it either.
    assert!(annals.stop_one(OLD).await.unwrap().success());
    until_it_serves(&annals, NEW, "the new one to serve everything", |count| {
        count == PARTITIONS
    })
    .await;
    raise_is_refused(&annals, NEW).await;
    let (_, said) = feature_level(&annals, NEW, &[]).await;
    let is_told = |role: &str, level: u16| {
        said.lines()
            .any(|line| line.starts_with(role) && line.ends_with(&format!("knows {level}")))
    };
    assert!(is_told("writer", 1) && is_told("projector", 0), "{said}");
    assert!(annals.stop_one(Role::Projector).await.unwrap().success());
    annals.release(Role::Projector, next);
    annals.spawn(Role::Projector).unwrap();
    annals.ready(Role::Projector).await.unwrap();
    writers.write(&annals, NEW).await;
    assert_eq!(count(&annals, NEW, NEW_VERSION).await, 0);

    // All can read it, so it is written.
    wait::until("the level to be raised", PATIENCE, async || {
        let (raised, said) = feature_level(&annals, NEW, &["raise", "1"]).await;
        assert!(raised == said.contains("the feature level is 1"), "{said}");
        raised.then_some(())
    })
    .await
    .unwrap();
    writers.write(&annals, NEW).await;
    assert_eq!(count(&annals, NEW, OLD_VERSION).await, 4 * tenants);
    assert_eq!(count(&annals, NEW, NEW_VERSION).await, tenants);

    // An old one that comes now gives up what it cannot read, says so, and does not come between.
    annals.spawn(OLD).unwrap();
    wait::until("the old one to stand aside", PATIENCE, async || {
        annals.said(OLD).contains("serve all partitions").then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}:\n{}", annals.said(OLD)));
    let said = std::fs::read_to_string(annals.log_file(OLD)).unwrap();
    let names = |line: &&str| {
        ["giving the partition up", "ledger/", "offset ", NEW_VERSION]
            .iter()
            .all(|word| line.contains(word))
    };
    assert!(said.lines().any(|line| names(&line)), "{said}");
    until_it_serves(&annals, NEW, "the new one to serve everything again", |count| {
        count == PARTITIONS
    })
    .await;
    for role in [NEW, OLD] {
        writers.write(&annals, role).await;
        writers.check(&annals, role).await;
    }

    // Alone, it serves what it can read; a new one that comes gets everything.
    annals.kill(NEW).await.unwrap();
    until_it_serves(&annals, OLD, "the old one to serve what it can read", |count| {
        count > 0
    })
    .await;
    annals.spawn(NEW).unwrap();
    until_it_serves(
        &annals,
        NEW,
        "the new one to serve everything once more",
        |count| count == PARTITIONS,
    )
    .await;
    for role in [OLD, NEW] {
        writers.write(&annals, role).await;
        writers.check(&annals, role).await;
    }
    let verified = annals.annals(annals.operator_key(), &["log", "verify"]);
    let verified = { verified }
        .env("ANNALS_URL", format!("http://{}", annals.address(&[NEW])))
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = verified.await.unwrap();
    assert!(
        status.success(),
        "{}",
        String::from_utf8_lossy(&[stdout, stderr].concat())
    );
    annals.stop().await.unwrap();
    annals.erase().await.unwrap();
}
