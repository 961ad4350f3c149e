//! The suite on the embedded adapter, and what only a folder can do.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::Duration,
};

use event_log::{AppendError, EMBEDDED_PARTITIONS, Log, OpenError, Partition, Record, Store, Topic};
use futures::future::join_all;

use crate::suite::{self, Bench, config, open, record};

pub(crate) struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Bench for Folder {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    fn store(&self) -> Store {
        Store::Embedded { dir: self.path() }
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn plant(&self, partition: Partition, record: Record) {
        event_log::log::plant(&self.path(), partition, record)
            .await
            .expect("planted");
    }
}

crate::on_adapter!(folder, super::Folder);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_refused_in_words() {
    let bench = Folder::new();
    let log = open(&bench).await;
    let Err(error) = Log::open(config(bench.store())).await else {
        panic!("opened twice")
    };
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(error.to_string().contains("in use by another process"), "{error}");
    log.close().await;
    open(&bench).await.close().await;
}

/// As many as may be: each has a table on the disk, so each has the store's worker look at it when the log opens again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_partitions_as_may_be_open_again_and_more_are_refused() {
    let bench = Folder::new();
    let mut config = config(bench.store());
    config.ledger_partitions = Some(EMBEDDED_PARTITIONS - 1);
    config.visits_partitions = Some(2);
    let error = Log::open(config.clone()).await.expect_err("too many");
    assert!(
        matches!(&error, OpenError::Foreign(why) if why.contains("at most 400 partitions")),
        "{error}"
    );
    assert!(!bench.path().exists(), "nothing was made");
    config.visits_partitions = Some(1);
    let log = Log::open(config.clone()).await.expect("opens");
    // More than the journals take, so tables are written.
    let value = "v".repeat(400_000);
    let appends = log
        .all(Topic::Ledger)
        .map(|partition| log.append(partition, record(value.clone())));
    for offset in join_all(appends.collect::<Vec<_>>()).await {
        offset.expect("appended");
    }
    log.close().await;
    let opening = tokio::time::timeout(Duration::from_secs(60), Log::open(config));
    let log = opening.await.expect("it opens in time").expect("opens again");
    for partition in log.all(Topic::Ledger) {
        assert_eq!(log.end(partition).await, Ok(2), "{partition}");
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_the_place_of_the_folder_is_told() {
    let bench = Folder::new();
    std::fs::write(bench.path(), "x").expect("written");
    let error = Log::open(config(bench.store())).await.expect_err("a file");
    assert!(error.to_string().contains("is a file"), "{error}");
}

/// The newest journal of the folder.
fn journal(bench: &Folder) -> PathBuf {
    let files = std::fs::read_dir(bench.path())
        .expect("listed")
        .map(|entry| entry.expect("entry").path());
    let mut journals: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "jnl"))
        .collect();
    journals.sort();
    journals.pop().expect("a journal")
}

/// What the folder says to have acknowledged.
fn acknowledged(bench: &Folder) -> PathBuf {
    bench.path().join("acknowledged")
}

/// Where the written part of a preallocated journal ends.
fn written(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Every way in which the last write may be torn: the folder opens, what was acknowledged before is there, and
/// the log goes on without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_off() {
    for tear in [1_usize, 2, 7, 20, 50] {
        let bench = Folder::new();
        let log = open(&bench).await;
        for n in 0..10 {
            log.append(Partition::ledger(0), record(format!("whole {n}")))
                .await
                .expect("appended");
        }
        log.close().await;
        let path = journal(&bench);
        let before = std::fs::read(&path).expect("read");
        let noted = std::fs::read(acknowledged(&bench)).expect("read");
        let log = open(&bench).await;
        log.append(Partition::ledger(0), record("torn"))
            .await
            .expect("appended");
        log.close().await;
        // The crash came before anybody was answered.
        std::fs::write(acknowledged(&bench), &noted).expect("written");
        let mut bytes = std::fs::read(&path).expect("read");
        let end = written(&bytes);
        assert!(end > written(&before), "the last record is in this journal");
        bytes.truncate(end - tear);
        let mut file = std::fs::File::create(&path).expect("made");
        file.write_all(&bytes).expect("written");
        drop(file);
        let log = open(&bench).await;
        assert_eq!(log.end(Partition::ledger(0)).await, Ok(11), "torn by {tear}");
        assert_eq!(log.append(Partition::ledger(0), record("next")).await, Ok(11));
        let read = suite::read(&mut log.reader(Partition::ledger(0), 1).expect("reader"), 11).await;
        assert_eq!(read[9].record, record("whole 9"));
        assert_eq!(read[10].record, record("next"));
        log.close().await;
    }
}

/// One bit of the journal that differs, wherever: the folder is refused, or has everything that it acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_never_taken_for_a_shorter_log() {
    const RECORDS: usize = 12;
    let bench = Folder::new();
    let ledger = Partition::ledger(0);
    let log = open(&bench).await;
    for n in 0..RECORDS {
        let appended = log.append(ledger, record(format!("record {n}"))).await;
        appended.expect("appended");
    }
    log.close().await;
    let path = journal(&bench);
    let good = std::fs::read(&path).expect("read");
    let of = |value: &[u8]| good.windows(value.len()).position(|bytes| bytes == value);
    let (first, last) = (
        of(b"record 5").expect("it is there"),
        of(b"record 7").expect("it is there"),
    );
    let (mut cut, mut refused) = (0, 0);
    for at in first..last {
        let mut bytes = good[..written(&good)].to_vec();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).expect("written");
        let file = std::fs::File::options().write(true).open(&path).expect("opened");
        file.set_len(good.len() as u64).expect("as long as it was");
        drop(file);
        let noted = std::fs::read(acknowledged(&bench)).expect("read");
        match Log::open(config(bench.store())).await {
            Err(OpenError::Damaged(why)) => {
                assert!(
                    why.contains("has lost what it acknowledged: ledger/0 ends at"),
                    "{why}"
                );
                cut += 1;
            }
            Err(OpenError::Unavailable(why)) => {
                assert!(why.starts_with("cannot open the log in /"), "{why}");
                refused += 1;
            }
            Err(error) => panic!("byte {at}: {error}"),
            Ok(log) => {
                let read = suite::read(&mut log.reader(ledger, 1).expect("reader"), RECORDS).await;
                for (n, stored) in read.iter().enumerate() {
                    assert_eq!(stored.record, record(format!("record {n}")), "byte {at}");
                }
                log.close().await;
            }
        }
        assert_eq!(
            std::fs::read(acknowledged(&bench)).expect("read"),
            noted,
            "byte {at}"
        );
    }
    assert!(cut > 0 && refused > 0, "{cut} cut, {refused} refused");
    // Whoever knows what is lost may go on.
    std::fs::write(&path, &good[..last]).expect("written");
    assert!(matches!(
        Log::open(config(bench.store())).await,
        Err(OpenError::Damaged(_))
    ));
    std::fs::remove_file(acknowledged(&bench)).expect("removed");
    let log = open(&bench).await;
    let end = log.end(ledger).await.expect("an end");
    assert_eq!(end, 8, "after the genesis and seven records");
    assert_eq!(log.append(ledger, record("next")).await, Ok(end));
    log.close().await;
    open(&bench).await.close().await;
}

/// A disk that takes no more, in a process of its own: the first failed write stops the log for good, what was
/// acknowledged is there after it, and the next start goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_stops_the_log_for_good_and_loses_nothing() {
    let bench = Folder::new();
    let child = "embedded::a_process_whose_disk_fills_up";
    let output = std::process::Command::new("sh")
        // The signal that a too long file raises must become an error of the write, as on a full disk.
        .args([
            "-c",
            r#"trap "" XFSZ; exec "$0" --exact "$1" --ignored --nocapture"#,
        ])
        .arg(std::env::current_exe().expect("this test"))
        .arg(child)
        .env("ANNALS_TEST_FOLDER", bench.path())
        .output()
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let acknowledged: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    let log = open(&bench).await;
    let end = log.end(Partition::ledger(0)).await.expect("an end");
    assert!(end > acknowledged, "{acknowledged} acknowledged, {end} there");
    let read = suite::read(
        &mut log.reader(Partition::ledger(0), 1).expect("reader"),
        acknowledged as usize,
    )
    .await;
    for (place, stored) in read.iter().take(acknowledged as usize).enumerate() {
        assert_eq!(stored.record, filler(place as u64), "offset {}", stored.offset);
    }
    assert_eq!(log.append(Partition::ledger(0), record("after")).await, Ok(end));
    log.close().await;
}

/// A record that lz4 does not shorten.
fn filler(seed: u64) -> Record {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let value: Vec<u8> = (0..8_192).flat_map(|_| next().to_le_bytes()).collect();
    Record {
        value: value.into(),
        ..Record::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_failed_write_stops_the_log_for_good_and_loses_nothing"]
async fn a_process_whose_disk_fills_up() {
    let dir = PathBuf::from(std::env::var_os("ANNALS_TEST_FOLDER").expect("a folder"));
    let log = Log::open(config(Store::Embedded { dir })).await.expect("opens");
    let limited = std::process::Command::new("prlimit")
        .args([
            format!("--pid={}", std::process::id()),
            "--fsize=3000000".to_owned(),
        ])
        .status()
        .expect("prlimit");
    assert!(limited.success());
    let mut acknowledged = 0;
    let failure = loop {
        match log.append(Partition::ledger(0), filler(acknowledged)).await {
            Ok(offset) => assert_eq!(offset, acknowledged + 1),
            Err(error) => break error,
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the limit did nothing");
    };
    assert!(matches!(failure, AppendError::Unknown(_)), "{failure:?}");
    let why = suite::within(log.stopped()).await;
    assert!(!why.is_empty());
    let after = log.append(Partition::ledger(0), record("after")).await;
    assert!(
        matches!(&after, Err(AppendError::Not(why)) if why.contains("has stopped")),
        "{after:?}"
    );
    let read = suite::read(
        &mut log.reader(Partition::ledger(0), 1).expect("reader"),
        acknowledged as usize,
    )
    .await;
    assert_eq!(
        read.len() as u64,
        acknowledged,
        "what was acknowledged can be read, and nothing else"
    );
    println!("acknowledged {acknowledged}");
    log.close().await;
}

/// Killed in the middle of writing: what it had said to be appended is there, in order, and the next start goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let bench = Folder::new();
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "embedded::a_process_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("ANNALS_TEST_FOLDER", bench.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged =
        lines.filter_map(|line| line.ok()?.strip_prefix("acknowledged ")?.parse::<u64>().ok());
    let before = acknowledged
        .by_ref()
        .find(|count| *count >= 2_000)
        .expect("it writes");
    child.kill().expect("killed");
    let last = acknowledged.last().unwrap_or(before);
    child.wait().expect("ended");
    let log = open(&bench).await;
    let end = log.end(Partition::ledger(0)).await.expect("an end");
    assert!(end > last, "{last} acknowledged, the log ends at {end}");
    let read = suite::read(
        &mut log.reader(Partition::ledger(0), 1).expect("reader"),
        end as usize - 1,
    )
    .await;
    for (place, stored) in read.iter().enumerate() {
        assert_eq!(
            (stored.offset, &stored.record),
            (place as u64 + 1, &record(place.to_string()))
        );
    }
    assert_eq!(log.append(Partition::ledger(0), record("after")).await, Ok(end));
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_killed_process_loses_nothing_that_it_acknowledged"]
async fn a_process_that_is_killed() {
    let dir = PathBuf::from(std::env::var_os("ANNALS_TEST_FOLDER").expect("a folder"));
    let log = Log::open(config(Store::Embedded { dir })).await.expect("opens");
    let mut under_way = std::collections::VecDeque::new();
    for n in 0..10_000_000_u64 {
        under_way.push_back(log.append(Partition::ledger(0), record(n.to_string())));
        if under_way.len() >= 100 {
            let offset = under_way.pop_front().expect("some").await.expect("appended");
            println!("acknowledged {offset}");
        }
    }
}
