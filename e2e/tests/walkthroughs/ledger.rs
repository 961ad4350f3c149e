//! The log itself, of a running installation: verified, exported, read by a program of another language, and put
//! into a store of the other kind.

use std::{collections::BTreeMap, path::Path};

use e2e::{
    engines::Engines,
    installation::{Installation, LogKind},
};
use event_log::{KafkaConfig, Log, LogConfig, Partition, Store};
use serde_json::Value;
use tokio::process::Command;

use crate::sample::{self, SITE, run};

#[tokio::test]
async fn the_log_is_in_order_and_can_be_taken_elsewhere_from_the_embedded_log() {
    the_log_is_in_order_and_can_be_taken_elsewhere(LogKind::Embedded).await;
}

#[tokio::test]
async fn the_log_is_in_order_and_can_be_taken_elsewhere_from_kafka() {
    the_log_is_in_order_and_can_be_taken_elsewhere(LogKind::Kafka).await;
}

async fn the_log_is_in_order_and_can_be_taken_elsewhere(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let (posts, access_log) = (sample::posts(), sample::log_file());
    for import in [
        ["posts", posts.to_str().unwrap()],
        ["access-log", access_log.to_str().unwrap()],
    ] {
        let (code, text) = run(&annals, &key, &["import", import[0], import[1], "--site", SITE]).await;
        assert_eq!(code, Some(0), "{text}");
    }
    let operator = annals.operator_key().to_owned();
    let (code, said) = run(&annals, &operator, &["log", "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, text) = run(&annals, &key, &["log", "verify"]).await;
    assert_eq!(code, Some(1), "only operators may: {text}");

    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let shown = export.to_str().unwrap();
    let (code, text) = run(&annals, &operator, &["log", "export", shown]).await;
    assert_eq!(code, Some(0), "{text}");
    let first = files(&export);
    interrupt(&export);
    let (code, text) = run(&annals, &operator, &["log", "export", shown]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        files(&export) == first,
        "it went on where it had stopped, to the same end"
    );

    let read = history(&["--commits", shown]).await;
    if log == LogKind::Kafka {
        let (servers, prefix) = (Engines::from_environment().unwrap().kafka, annals.name());
        let topics = history(&["--commits", "--kafka", &servers, "--prefix", prefix]).await;
        assert!(topics == read, "the topics are told apart from their export");
    }
    let read = summaries(&read);
    assert!(read.len() >= 3, "{read:?}");
    for (partition, summary) in &read {
        assert!(said.contains(&format!("{partition}: in order")), "{said}");
        if let Some(hash) = summary["hash"].as_str() {
            assert!(said.contains(hash), "{partition} {hash}: {said}");
        }
    }
    elsewhere(&annals, log, &export, &read).await;
    if log == LogKind::Embedded {
        changed_by_hand(&annals, &export).await;
    }
    crate::finish(annals).await;
}

/// One letter of one record: whoever reads it says so, and where.
async fn changed_by_hand(annals: &Installation, export: &Path) {
    let path = export.join("directory-0.ndjson");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text
        .lines()
        .position(|line| line.contains("site.created.v1"))
        .unwrap();
    std::fs::write(&path, text.replacen(SITE, &SITE.to_uppercase(), 1)).unwrap();
    let read = history_of(&[export.to_str().unwrap()]).await;
    assert_eq!(read.status.code(), Some(1), "{read:?}");
    let wrong = format!("\"wrong\": [{line}");
    assert!(String::from_utf8_lossy(&read.stdout).contains(&wrong), "{read:?}");
    let (folder, export) = (tempfile::tempdir().unwrap(), export.to_str().unwrap());
    let into = folder.path().join("into");
    let import = ["log", "import", export, "--into-folder", into.to_str().unwrap()];
    let (code, text) = run(annals, "", &import).await;
    assert_eq!(code, Some(3), "{text}");
    let wrong = format!("directory/0: WRONG from offset {line} on");
    assert!(text.contains(&wrong), "{text}");
}

/// Kafka stamps what is put in, and visits still say when the first log took them: `rebuild visits --until` asks that.
async fn taken_when_they_were(brokers: &str, prefix: String, export: &Path) {
    let text = std::fs::read(export.join("visits-0.ndjson")).unwrap();
    let first = text.split(|byte| *byte == b'\n').next().unwrap();
    let first = event_log::export::from_line(first).unwrap();
    let store = Store::Kafka(KafkaConfig {
        brokers: brokers.to_owned(),
        prefix,
        replication: None,
    });
    let log = Log::open_existing(LogConfig {
        store,
        ledger_partitions: None,
        visits_partitions: None,
        development: true,
    });
    let log = log.await.unwrap();
    let mut reader = log.reader(Partition::visits(0), first.offset).unwrap();
    let batch = reader.next().await.unwrap();
    let found = batch.records.first().unwrap();
    assert!(first.time.is_some());
    assert_eq!((found.time, &found.record), (first.time, &first.record));
    drop(reader);
    log.close().await;
}

/// Cuts a file in the middle of a line.
fn interrupt(export: &Path) {
    let path = export.join("visits-0.ndjson");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length / 2).unwrap();
}

fn files(export: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = std::fs::read_dir(export).unwrap().map(|file| file.unwrap());
    all.map(|file| {
        (
            file.file_name().into_string().unwrap(),
            std::fs::read(file.path()).unwrap(),
        )
    })
    .collect()
}

/// What `schemas/history.py` says, line by line.
async fn history(arguments: &[&str]) -> Vec<Value> {
    let read = history_of(arguments).await;
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let said = String::from_utf8(read.stdout).unwrap();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn history_of(arguments: &[&str]) -> std::process::Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/history.py");
    let python = std::env::var_os("ANNALS_TEST_PYTHON").unwrap();
    let mut reading = Command::new(python);
    reading.arg(program).args(arguments).output().await.unwrap()
}

/// What it says of each partition.
fn summaries(said: &[Value]) -> BTreeMap<String, Value> {
    said.iter()
        .filter_map(|line| Some((line["partition"].as_str()?.to_owned(), line.clone())))
        .collect()
}

/// Into a store of the other kind, and from a folder under another id.
async fn elsewhere(annals: &Installation, log: LogKind, export: &Path, read: &BTreeMap<String, Value>) {
    let (folder, shown) = (tempfile::tempdir().unwrap(), export.to_str().unwrap());
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let engines = Engines::from_environment().unwrap();
    let prefix = format!("{}copy", annals.name());
    let into = match log {
        LogKind::Embedded => vec![
            "--into-kafka",
            &engines.kafka,
            "--prefix",
            &prefix,
            "--development",
        ],
        LogKind::Kafka => vec!["--into-folder", copy],
    };
    // The second time everything is there.
    for _ in 0..2 {
        let (code, text) = run(annals, "", &[&["log", "import", shown], &into[..]].concat()).await;
        assert_eq!(code, Some(0), "{text}");
        for hash in read.values().filter_map(|summary| summary["hash"].as_str()) {
            assert!(text.contains(hash), "{hash}: {text}");
        }
    }
    if log == LogKind::Embedded {
        taken_when_they_were(&engines.kafka, prefix, export).await;
    }
    if log == LogKind::Kafka {
        let (code, text) = run(annals, "", &["log", "verify", "--offline", copy]).await;
        assert_eq!(code, Some(0), "{text}");
        let other = folder.path().join("other");
        let other = other.to_str().unwrap();
        let id = "0190b8a0-7a2e-7000-8000-0000000000ff";
        let renamed = ["log", "import", shown, "--into-folder", other, "--new-id", id];
        let (code, text) = run(annals, "", &renamed).await;
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = run(annals, "", &["log", "verify", "--offline", other]).await;
        assert_eq!(code, Some(0), "{text}");
    }
}
