//! A log taken elsewhere: exported while void records and others' stand in it, put into another store in one go and
//! in pieces, under its id and under another; read by a program that shares no code with this crate.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use event_log::{
    Claim, Commit, Headers, Log, LogConfig, LogId, Partition, Record, State, Store, Stored, Topic, Verdict,
    audit::{self, Summary, Told, What},
    export,
    restore::{RestoreError, Target},
};
use events::{Envelope, EventId, Recorded, TenantId, Timestamp, directory::TenantCreated};
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

fn embedded(dir: &Path) -> LogConfig {
    LogConfig {
        store: Store::Embedded { dir: dir.to_owned() },
        ledger_partitions: Some(2),
        visits_partitions: Some(1),
        development: true,
    }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000).expect("as it should")
}

fn commit(number: u64) -> Commit {
    let tenant = TenantId::new(Uuid::from_u128(7));
    let envelope = Envelope {
        id: EventId::new(Uuid::from_u128(number.into())),
        subject: number.to_string(),
        time: time(number.try_into().expect("as it should")),
        tenant,
        aggregate_version: Some(1),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    let event = TenantCreated { name: "a".to_owned() }.into();
    Commit {
        tenant,
        tenant_seq: number,
        command: None,
        events: vec![Recorded { envelope, event }],
    }
}

/// Writes to one partition as its writers would, the unlucky ones included.
struct Hand {
    log: Log,
    partition: Partition,
    state: State,
    end: u64,
}

impl Hand {
    async fn on(log: &Log, partition: Partition) -> Self {
        let mut hand = Self {
            log: log.clone(),
            partition,
            state: State::default(),
            end: 1,
        };
        let first = log
            .reader(partition, 0)
            .expect("as it should")
            .next()
            .await
            .expect("as it should");
        hand.state.admit(0, &first.records[0].record);
        hand
    }

    async fn land(&mut self, record: Record) -> Verdict {
        let offset = self
            .log
            .append(self.partition, record.clone())
            .await
            .expect("as it should");
        assert_eq!(offset, self.end);
        self.end += 1;
        self.state.admit(offset, &record)
    }

    async fn claim(&mut self, epoch: u64) {
        let claim = Claim {
            owner: "a".to_owned(),
            time: time(0),
        };
        let verdict = self.land(claim.to_record(epoch)).await;
        assert!(matches!(verdict, Verdict::Claimed(_)), "{verdict:?}");
    }

    fn sealed(&self, number: u64) -> Record {
        commit(number)
            .prepare()
            .expect("as it should")
            .seal(&self.state)
            .0
    }
}

/// A log with two epochs, a late commit of the first, and a stranger's record.
async fn history(dir: &Path) -> Log {
    let log = Log::open(embedded(dir)).await.expect("as it should");
    let home = log.ledger_partition(commit(1).tenant);
    let mut hand = Hand::on(&log, home).await;
    hand.claim(1).await;
    for number in 1..=40 {
        hand.land(hand.sealed(number)).await;
    }
    let late = hand.sealed(41);
    hand.claim(2).await;
    assert!(matches!(hand.land(late).await, Verdict::Void(_)));
    let strange = Record {
        key: Some(vec![0xff].into()),
        headers: Headers::new([(b"x".as_slice(), b"\xfe".as_slice())]),
        value: vec![0, 0xff, 10].into(),
    };
    hand.land(strange).await;
    for number in 41..=50 {
        hand.land(hand.sealed(number)).await;
    }
    log
}

async fn lines(log: &Log, partition: Partition, from: u64) -> Vec<u8> {
    let (tell, mut told) = mpsc::channel(4);
    let (log, mut all) = (log.clone(), Vec::new());
    let task = tokio::spawn(async move {
        export::export(&log, partition, from, &tell)
            .await
            .expect("as it should")
    });
    while let Some(piece) = told.recv().await {
        all.extend(piece);
    }
    task.await.expect("as it should");
    all
}

async fn exported(log: &Log) -> HashMap<Partition, Vec<u8>> {
    let mut files = HashMap::new();
    for partition in Topic::ALL.into_iter().flat_map(|topic| log.all(topic)) {
        files.insert(partition, lines(log, partition, 0).await);
    }
    files
}

fn records(text: &[u8]) -> impl Iterator<Item = Result<Stored, String>> {
    text.split_inclusive(|byte| *byte == b'\n').map(export::from_line)
}

async fn audited(log: &Log, partition: Partition) -> (Vec<(u64, What)>, Summary) {
    let (tell, mut told) = mpsc::channel(4);
    let log = log.clone();
    let task = tokio::spawn(async move { audit::audit(&log, partition, &tell).await.expect("as it should") });
    let (mut found, mut result) = (Vec::new(), None);
    while let Some(told) = told.recv().await {
        match told {
            Told::Progress { .. } => {}
            Told::Finding(finding) => found.push((finding.offset, finding.what)),
            Told::Result(summary) => result = Some(summary),
        }
    }
    task.await.expect("as it should");
    (found, result.expect("as it should"))
}

#[tokio::test]
async fn an_export_is_put_in_at_the_same_offsets_also_in_pieces() {
    let (here, there) = (
        tempfile::tempdir().expect("as it should"),
        tempfile::tempdir().expect("as it should"),
    );
    let log = history(here.path()).await;
    let files = exported(&log).await;
    let ledger = log.ledger_partition(commit(1).tenant);
    // Some of the ledger first, as if it had been interrupted, then everything.
    for part in [20, usize::MAX] {
        let target = Target::open(&embedded(there.path())).await.expect("as it should");
        for (partition, text) in &files {
            if part == usize::MAX {
                target
                    .restore(*partition, records(text), None, |_| {})
                    .await
                    .expect("as it should");
            } else if *partition == ledger {
                target
                    .restore(ledger, records(text).take(part), None, |_| {})
                    .await
                    .expect("as it should");
            }
        }
        target.close().await;
    }
    let copy = Log::open_existing(embedded(there.path()))
        .await
        .expect("as it should");
    assert_eq!(copy.id(), log.id());
    for (partition, text) in &files {
        let plain = |text: &[u8]| -> Vec<(u64, Record)> {
            let stored = records(text).map(|stored| stored.expect("as it should"));
            stored.map(|stored| (stored.offset, stored.record)).collect()
        };
        let copied = lines(&copy, *partition, 0).await;
        assert_eq!(plain(&copied), plain(text), "{partition}");
        // Also when the first log took each; what fills a gap was taken by nobody.
        let times = |text: &[u8]| -> Vec<(u64, Option<Timestamp>)> {
            let stored = records(text).map(|stored| stored.expect("as it should"));
            stored.map(|stored| (stored.offset, stored.time)).collect()
        };
        assert_eq!(times(&copied), times(text), "{partition}");
        let (found, summary) = audited(&copy, *partition).await;
        assert_eq!((found, summary), audited(&log, *partition).await);
    }
    let (found, summary) = audited(&copy, ledger).await;
    assert_eq!(found, [(43, What::Void), (44, What::Odd)]);
    assert_eq!(
        (summary.commits, summary.claims, summary.void, summary.wrong),
        (50, 2, 2, 0)
    );
}

#[tokio::test]
async fn another_log_has_the_same_history_under_its_own_id() {
    let (here, there) = (
        tempfile::tempdir().expect("as it should"),
        tempfile::tempdir().expect("as it should"),
    );
    let log = history(here.path()).await;
    let id = LogId(Uuid::from_u128(1));
    let target = Target::open(&embedded(there.path())).await.expect("as it should");
    for (partition, text) in &exported(&log).await {
        target
            .restore(*partition, records(text), Some(id), |_| {})
            .await
            .expect("as it should");
    }
    target.close().await;
    let copy = Log::open_existing(embedded(there.path()))
        .await
        .expect("as it should");
    assert_eq!(copy.id(), id);
    let ledger = log.ledger_partition(commit(1).tenant);
    let ((found, old), (again, new)) = (audited(&log, ledger).await, audited(&copy, ledger).await);
    assert_eq!(found, again);
    assert_eq!(
        (old.commits, old.void, old.epoch, old.seq),
        (new.commits, new.void, new.epoch, new.seq)
    );
    assert_ne!(old.hash, new.hash, "the chain begins with the id");
}

#[tokio::test]
async fn what_holds_something_else_is_left_alone() {
    let (here, there) = (
        tempfile::tempdir().expect("as it should"),
        tempfile::tempdir().expect("as it should"),
    );
    let log = history(here.path()).await;
    let other = Log::open(embedded(there.path())).await.expect("as it should");
    other.close().await;
    let target = Target::open(&embedded(there.path())).await.expect("as it should");
    let text = lines(&log, Partition::DIRECTORY, 0).await;
    let refused = target
        .restore(Partition::DIRECTORY, records(&text), None, |_| {})
        .await;
    assert!(
        matches!(refused, Err(RestoreError::Occupied { offset: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_folder_without_a_log_is_not_made_one_by_looking() {
    let folder = tempfile::tempdir().expect("as it should");
    let none = folder.path().join("nothing");
    assert!(Log::open_existing(embedded(&none)).await.is_err());
    assert!(!none.exists());
}

async fn export_into(log: &Log, folder: &Path) {
    for (partition, text) in &exported(log).await {
        let name = format!("{}-{}.ndjson", partition.topic, partition.index);
        fs::write(folder.join(name), text).expect("as it should");
    }
}

/// What `schemas/history.py` says of an export.
fn derived(folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/history.py");
    let run = Command::new("python3")
        .arg(program)
        .arg(folder)
        .arg("--commits")
        .output();
    run.expect("python3 is needed to read an export with a program of another language")
}

#[tokio::test]
async fn a_program_of_another_language_derives_the_same_history_from_an_export() {
    let (here, folder) = (
        tempfile::tempdir().expect("as it should"),
        tempfile::tempdir().expect("as it should"),
    );
    let log = history(here.path()).await;
    export_into(&log, folder.path()).await;
    let run = derived(folder.path());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8(run.stdout).expect("as it should");
    let said: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("as it should"))
        .collect();
    let summaries: Vec<&Value> = said.iter().filter(|line| line["partition"].is_string()).collect();
    assert_eq!(summaries.len(), 4);
    for summary in summaries {
        let partition: Partition = summary["partition"]
            .as_str()
            .expect("as it should")
            .parse()
            .expect("as it should");
        let (_, ours) = audited(&log, partition).await;
        assert_eq!(summary["log"], log.id().to_string());
        assert_eq!(
            summary["commit"].as_u64().unwrap_or(0),
            ours.commits,
            "{partition}"
        );
        assert_eq!(
            summary["void"].as_array().expect("as it should").len() as u64,
            ours.void,
            "{partition}"
        );
        if partition.topic.is_fenced() {
            let place = (
                summary["epoch"].as_str(),
                summary["seq"].as_str(),
                summary["hash"].as_str(),
            );
            let (epoch, seq) = (ours.epoch.to_string(), ours.seq.to_string());
            assert_eq!(place, (Some(&epoch[..]), Some(&seq[..]), Some(&ours.hash[..])));
        }
    }
    let subjects = said.iter().filter_map(|line| line["subject"].as_str());
    assert_eq!(subjects.count(), 50);
}

#[tokio::test]
async fn that_program_refuses_what_is_no_whole_log_and_names_what_it_cannot_read() {
    let (here, folder) = (
        tempfile::tempdir().expect("as it should"),
        tempfile::tempdir().expect("as it should"),
    );
    let log = Log::open(embedded(here.path())).await.expect("as it should");
    let mut hand = Hand::on(&log, Partition::ledger(0)).await;
    hand.claim(1).await;
    // Its writer sealed it, and it holds no events.
    let mut record = hand.sealed(1);
    record.value = "null".into();
    let hash = hand.state.hash.then(&record).to_string();
    let headers = record.headers.iter().map(|(name, value)| match name {
        b"annals-hash" => (name, hash.as_bytes()),
        _ => (name, value),
    });
    record.headers = Headers::new(headers);
    let verdict = hand.land(record).await;
    assert!(matches!(verdict, Verdict::Commit(_)), "{verdict:?}");
    export_into(&log, folder.path()).await;
    let refused = |wanted: &str| {
        let run = derived(folder.path());
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && !said.contains("Traceback"), "{said}");
        String::from_utf8(run.stdout).expect("as it should")
    };
    let said = refused("annals.ledger/0 offset 2: no events");
    assert!(said.contains(r#""wrong": [2]"#), "{said}");
    // Without the genesis that says what it is.
    let path = folder.path().join("ledger-1.ndjson");
    let whole = fs::read_to_string(&path).expect("as it should");
    fs::write(&path, whole.replace(r#"\"format\":1"#, r#"\"format\":2"#)).expect("as it should");
    refused("the first record is no genesis: a genesis that we do not understand");
    fs::write(&path, "").expect("as it should");
    refused("the first record is no genesis: it is not there");
    fs::remove_file(&path).expect("as it should");
    refused("ledger/1 is missing");
    log.close().await;
}
