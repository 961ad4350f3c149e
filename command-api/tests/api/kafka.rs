//! Several processes on a real Kafka, each with a log and a listener of its own.

use std::{collections::BTreeSet, num::NonZeroU32};

use command_api::{Config, partition::Standing};
use event_log::{Hint, KafkaConfig, Log, LogConfig, Partition, Store, driver::Status};
use futures::future::join_all;
use key_store::KeyStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::snapshots::{Kept, Once, told};
use crate::world::{Process, Tenant, config, key_store, until, within};

/// The processes of one installation.
pub(crate) struct Fleet {
    prefix: String,
    keys: KeyStore,
    pub(crate) processes: Vec<Process>,
}

impl Fleet {
    /// So many processes that share the partitions.
    pub(crate) async fn new(count: usize) -> Self {
        let mut fleet = Self {
            prefix: format!("command-{}", uuid::Uuid::new_v4().simple()),
            keys: key_store().await,
            processes: Vec::new(),
        };
        for _ in 0..count {
            fleet.grow().await;
        }
        fleet
    }

    /// A log that knows nothing of the others'.
    pub(crate) async fn log(&self) -> Log {
        let brokers = std::env::var("ANNALS_TEST_KAFKA").expect("no ANNALS_TEST_KAFKA: run ./dev test");
        let kafka = KafkaConfig {
            brokers,
            prefix: self.prefix.clone(),
            replication: None,
        };
        let config = LogConfig {
            store: Store::Kafka(kafka),
            ledger_partitions: Some(2),
            visits_partitions: Some(2),
            development: true,
        };
        within("Kafka opens", Log::open(config)).await.unwrap()
    }

    /// One process more, which gets its share.
    pub(crate) async fn grow(&mut self) {
        let process = Process::start(self.log().await, self.keys.clone(), &config()).await;
        self.processes.push(process);
        self.settled().await;
    }

    /// Waits until each partition has one owner, each process something to do (as far as three partitions go), and
    /// all know of it.
    pub(crate) async fn settled(&self) {
        until("the processes share the partitions", async || {
            let owners: Vec<_> = all().map(|partition| self.owners(partition)).collect();
            let busy: BTreeSet<_> = owners.iter().flatten().collect();
            (owners.iter().all(|owners| owners.len() == 1) && busy.len() == self.processes.len().min(3))
                .then_some(())
        })
        .await;
    }

    /// Which processes serve a partition.
    pub(crate) fn owners(&self, partition: Partition) -> Vec<usize> {
        let serves = |process: &Process| {
            let standing = process.app.standing(partition);
            matches!(standing, Some(Standing::Here(Status::Serving { .. })))
        };
        (0..self.processes.len())
            .filter(|index| serves(&self.processes[*index]))
            .collect()
    }

    /// The only process that serves a partition, and one that does not.
    pub(crate) fn owner_and_other(&self, partition: Partition) -> (&Process, &Process) {
        let owners = self.owners(partition);
        assert_eq!(owners.len(), 1, "{partition} has one owner");
        let other = (0..self.processes.len())
            .find(|index| *index != owners[0])
            .unwrap();
        (&self.processes[owners[0]], &self.processes[other])
    }

    /// A tenant in each partition of the ledger.
    pub(crate) async fn tenants(&self) -> [(Tenant, Partition); 2] {
        let log = self.log().await;
        let mut found: [Option<(Tenant, Partition)>; 2] = [None, None];
        while found.iter().any(Option::is_none) {
            let tenant = self.processes[0].tenant().await;
            let partition = log.ledger_partition(tenant.id.parse().unwrap());
            found[partition.index as usize] = Some((tenant, partition));
        }
        found.map(Option::unwrap)
    }

    pub(crate) async fn stop(self) {
        for process in self.processes {
            process.stop().await;
        }
    }
}

pub(crate) fn all() -> impl Iterator<Item = Partition> {
    [Partition::DIRECTORY, Partition::ledger(0), Partition::ledger(1)].into_iter()
}

pub(crate) fn piece(tenant: &Tenant, title: &str) -> Value {
    json!({"site": tenant.domain, "kind": "post", "title": title})
}

/// The hint of a partition that a process which has just come would find.
pub(crate) async fn hint(log: &Log, partition: Partition) -> Hint {
    let mut known = log.owners().known();
    let found = known.wait_for(|hints| hints.complete && hints.of(partition).is_some());
    let found = within("a hint", found).await.unwrap();
    found.of(partition).unwrap().hint.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_alone_serves_everything_and_is_found_in_the_hints() {
    let fleet = Fleet::new(1).await;
    let process = &fleet.processes[0];
    within("it is ready", process.app.ready()).await.unwrap();
    let tenant = process.tenant().await;
    process.draft(&tenant, "alone").await;
    let log = fleet.log().await;
    for partition in all() {
        let hint = hint(&log, partition).await;
        assert_eq!(hint.url.as_deref(), Some(process.base.as_str()));
    }
    fleet.stop().await;
    // In order: whoever comes next need not wait for it.
    for partition in all() {
        assert!(hint(&log, partition).await.released);
    }
}

/// The answer to a request whose target is sent as it stands.
async fn sent_raw(process: &Process, target: &str, key: &str, body: &Value) -> String {
    let address = process.base.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn any_process_takes_any_command_and_says_what_its_owner_would() {
    let fleet = Fleet::new(3).await;
    for (tenant, partition) in fleet.tenants().await {
        let (owner, other) = fleet.owner_and_other(partition);
        for process in &fleet.processes {
            let id = process.draft(&tenant, &format!("by {}", process.base)).await;
            for asked in &fleet.processes {
                let path = format!("/api/v1/content/{id}/view");
                let seen = asked
                    .post(&path, &tenant.key, &json!({}))
                    .header("user-agent", "Mozilla/5.0 (X11; Linux) Firefox/128.0");
                seen.send().await.expect(202);
            }
        }
        // The same in every respect: body, status, version, place, position, and what is refused.
        let twice = async |process: &Process, key: &str, title: &str| {
            let call = process.post("/api/v1/content", &tenant.key, &piece(&tenant, title));
            call.header("idempotency-key", key).send().await
        };
        let at_other = twice(other, "one", "twice").await.expect(201);
        let at_owner = twice(owner, "one", "twice").await.expect(201);
        assert_eq!(at_other.body, at_owner.body);
        for header in ["location", "etag", "content-type"] {
            assert!(!at_owner.header(header).is_empty());
            assert_eq!(at_other.header(header), at_owner.header(header), "{header}");
        }
        assert!(!at_other.header("annals-position").is_empty());
        // Also what a URL writes otherwise than it was sent; clients that read URLs do not send it so.
        let answer = sent_raw(
            other,
            "/api/v1/content?from='cli'",
            &tenant.key,
            &piece(&tenant, "strange"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        let at_other = twice(other, "two", "twice").await.problem(409, "slug-taken");
        let at_owner = twice(owner, "two", "twice").await.problem(409, "slug-taken");
        assert_eq!(at_other.body, at_owner.body);
        twice(other, "one", "another")
            .await
            .problem(422, "idempotency-key-reused");
        let id = other.draft(&tenant, "to be revised").await;
        let revise = |version: &'static str| {
            let call = other.call(reqwest::Method::PATCH, &format!("/api/v1/content/{id}"));
            call.key(&tenant.key)
                .header("if-match", version)
                .json(&json!({"title": "revised"}))
                .send()
        };
        revise("\"7\"").await.problem(412, "version");
        assert_eq!(revise("\"1\"").await.expect(200).header("etag"), "\"2\"");
        // A key that a command of one kind had is no key for one of another kind, wherever each is decided.
        for process in &fleet.processes {
            let site = process.post("/api/v1/sites", &tenant.key, &json!({"domain": "other.example"}));
            site.header("idempotency-key", "one")
                .send()
                .await
                .problem(422, "idempotency-key-reused");
        }
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_whichever_process_its_lines_come_to() {
    let fleet = Fleet::new(2).await;
    for (tenant, _) in fleet.tenants().await {
        let start = json!({"site": tenant.domain, "source": "a.log", "fingerprint": "5a".repeat(32)});
        let started = fleet.processes[0]
            .post("/api/v1/imports", &tenant.key, &start)
            .send()
            .await
            .expect(201);
        let id = started.body["id"].as_str().unwrap().to_owned();
        for line in 0..6_usize {
            let process = &fleet.processes[line % 2];
            let visit = json!([{
                "name": "pageview", "url": format!("https://{}/", tenant.domain), "domain": tenant.domain,
                "timestamp": "2026-01-01T00:00:00Z", "import": id, "line": line,
            }]);
            let taken = process
                .post("/api/v1/visits", &tenant.key, &visit)
                .send()
                .await
                .expect(202);
            assert_eq!(taken.body["accepted"], 1, "{}", taken.text);
            let again = process
                .post("/api/v1/visits", &tenant.key, &visit)
                .send()
                .await
                .expect(202);
            assert_eq!(
                again.body["dropped"][0]["reason"], "already-imported",
                "{}",
                again.text
            );
        }
        let complete = format!("/api/v1/imports/{id}/complete");
        for process in &fleet.processes {
            process.post(&complete, &tenant.key, &json!({})).send().await;
        }
        let again = fleet.processes[0]
            .post("/api/v1/imports", &tenant.key, &start)
            .send()
            .await
            .expect(200);
        assert_eq!(again.body["status"], "completed", "{}", again.text);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slug_wanted_at_every_process_at_once_is_given_once() {
    let fleet = Fleet::new(3).await;
    for (tenant, _) in fleet.tenants().await {
        let wants = (0..30).map(|number| {
            let process = &fleet.processes[number % 3];
            let mut body = piece(&tenant, &format!("title {number}"));
            body["slug"] = json!("wanted");
            process.post("/api/v1/content", &tenant.key, &body).send()
        });
        let answers = join_all(wants).await;
        let given = answers.iter().filter(|answer| answer.status == 201).count();
        let refused = answers.iter().filter(|answer| answer.status == 409).count();
        assert_eq!((given, refused), (1, 29));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_hands_over_and_nobody_is_refused_or_forgotten() {
    let mut fleet = Fleet::new(1).await;
    let tenants = fleet.tenants().await;
    fleet.grow().await;
    let mut acknowledged: [BTreeSet<String>; 2] = Default::default();
    let first = fleet.processes.remove(0);
    let (first_base, second) = (first.base.clone(), &fleet.processes[0]);
    let mut number = 0;
    let mut write = async || {
        number += 1;
        for ((tenant, _), acknowledged) in tenants.iter().zip(&mut acknowledged) {
            let body = piece(tenant, &format!("piece {number}"));
            let answer = second.post("/api/v1/content", &tenant.key, &body).send().await;
            match answer.status.as_u16() {
                201 => assert!(acknowledged.insert(answer.body["slug"].as_str().unwrap().to_owned())),
                other => panic!("{other}: {}", answer.text),
            }
        }
    };
    for _ in 0..20 {
        write().await;
    }
    // The first stops in order while the second takes its commands and more. What it has is served until it is taken.
    let mut given = Box::pin(first.app.hand_over());
    loop {
        tokio::select! {
            () = &mut given => break,
            () = write() => {}
        }
    }
    drop(given);
    for partition in all() {
        assert_eq!(fleet.owners(partition), [0], "{partition} was handed over");
    }
    write().await;
    within("the first stops", first.stop()).await;
    write().await;
    for ((tenant, _), slugs) in tenants.iter().zip(&acknowledged) {
        let known = slugs.iter().map(|slug| {
            let mut body = piece(tenant, "again");
            body["slug"] = json!(slug);
            second.post("/api/v1/content", &tenant.key, &body).send()
        });
        for answer in join_all(known).await {
            answer.problem(409, "slug-taken");
        }
    }
    let log = fleet.log().await;
    for partition in all() {
        assert_ne!(hint(&log, partition).await.url, Some(first_base.clone()));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_over_goes_on_from_the_snapshot_of_whoever_leaves() {
    let fleet = Fleet::new(0).await;
    let kept = Kept::new();
    let start = async || {
        let process = Process::start(fleet.log().await, fleet.keys.clone(), &kept.config()).await;
        within("it serves", process.app.ready()).await.unwrap();
        process
    };
    let first = start().await;
    let written = [Once::new(&first, "One").await, Once::new(&first, "Two").await];
    let log = fleet.log().await.id();
    within("the first stops", first.stop()).await;
    let second = start().await;
    for once in &written {
        once.is_known(&second).await;
        let partition = fleet
            .log()
            .await
            .ledger_partition(once.tenant.id.parse().unwrap());
        let loaded = told(&[&log.to_string(), &partition.to_string(), "loaded a snapshot"]);
        assert!(loaded > 0, "{partition} was loaded");
    }
    second.stop().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_what_counts_of_a_takeover() {
    let fleet = Fleet::new(0).await;
    let log = fleet.log().await;
    // Long enough that it does not claim again while this goes on.
    let config = Config {
        reclaim_seconds: NonZeroU32::new(600).unwrap(),
        ..config()
    };
    let process = Process::start(log.clone(), fleet.keys.clone(), &config).await;
    within("it serves", process.app.ready()).await.unwrap();
    let ours = process.tenant().await;
    let place = |tenant: &Tenant| log.ledger_partition(tenant.id.parse().unwrap());
    let theirs = loop {
        let theirs = process.tenant().await;
        if place(&theirs) == place(&ours) {
            break theirs;
        }
    };
    crate::subscription::takeover(&process, &log, &ours, &theirs).await;
    process.stop().await;
}
