//! A log that stands in the repository gives the same tables for ever, whatever the code that folds it becomes.
//!
//! `golden/*.ndjson` is an export of a log, as `annals log export` writes it: who exists, what was written and queued,
//! who came by, events that cannot be projected, records that do not count. It is never changed: its hashes stand
//! here. `golden/tables.ndjson` is every row of every table that it was folded into. A change of a fold or a table
//! that is meant shows there as a difference that somebody reads; `UPDATE=1` writes it anew, the log never. A fold that
//! makes other rows has another version: `golden/folds.txt`.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/rows.rs"]
mod rows;
#[path = "kit/world.rs"]
mod world;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use event_log::{Log, LogConfig, Partition, Store, export, restore::Target};
use kit::TestLog;
use projectors::run;
use read_models::Projection;
use sha2::{Digest as _, Sha256};
use world::World;

/// The partitions of the log, their files, and the SHA-256 of each.
const LOG: [(Partition, &str, &str); 3] = [
    (
        Partition::DIRECTORY,
        "directory-0.ndjson",
        "fbae612b66640b19365bceff8f5a82ccb45eda39cc7f41c60a9c9813391784ce",
    ),
    (
        Partition::ledger(0),
        "ledger-0.ndjson",
        "e292cacfd90869cabf4899792b42bf8a56fe41c5de4e85872a19e1bc2860c78c",
    ),
    (
        Partition::visits(0),
        "visits-0.ndjson",
        "f7ef72c29fc8cb2f492f3d15152f88ddb780791381c4e9466b8f538615b57f49",
    ),
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The log of the repository, put into a folder.
async fn golden(folder: &Path) -> Log {
    let config = LogConfig {
        store: Store::Embedded {
            dir: folder.to_owned(),
        },
        ledger_partitions: Some(1),
        visits_partitions: Some(1),
        development: true,
    };
    let target = Target::open(&config).await.unwrap();
    // The directory last: without it nobody takes the rest for a log.
    for (partition, name, hash) in LOG.iter().rev() {
        let text = fs::read(file(name)).unwrap();
        assert_eq!(
            &hex::encode(Sha256::digest(&text)),
            hash,
            "{name} was changed: what was in the log stays as it is"
        );
        let lines = text.split_inclusive(|byte| *byte == b'\n').map(export::from_line);
        target.restore(*partition, lines, None, |_| ()).await.unwrap();
    }
    target.close().await;
    Log::open(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_log_gives_the_same_tables_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let log = golden(folder.path()).await;
    let world = World::on(TestLog::of(log, folder)).await;
    world.fold().await;
    let (mut text, mut counts) = (String::new(), String::new());
    let mut all = Projection::ALL;
    all.sort_by_key(|projection| projection.name());
    for projection in all {
        for (table, rows) in rows::rows(&world, projection).await {
            writeln!(counts, "{projection}.{table}: {} rows", rows.len()).unwrap();
            for row in rows.values().map(|row| serde_json::to_string(row).unwrap()) {
                writeln!(text, "{projection}.{table} {row}").unwrap();
            }
        }
    }
    same_fold_same_rows(&world, &text).await;
    let expected = file("tables.ndjson");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&expected, &text).unwrap();
    }
    let before = fs::read_to_string(&expected).unwrap();
    let differing = text
        .lines()
        .zip(before.lines())
        .find(|(ours, theirs)| ours != theirs);
    if let Some((ours, theirs)) = differing {
        panic!("the golden log was folded into\n{ours}\nwhere it gave\n{theirs}\n{counts}");
    }
    assert_eq!(text.lines().count(), before.lines().count(), "{counts}");
    // And the small folds that share nothing with these say so too.
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.rows > 0,
            "{projection}: {differences:#?}"
        );
    }
    world.erase().await;
}

/// A fold that makes other rows is another fold: without its version, installations would keep the rows that they have.
/// `folds.txt` holds the rows of each fold there ever was; nothing is taken out of it.
async fn same_fold_same_rows(world: &World, text: &str) {
    let writer = world.writer().await;
    let mut known = fs::read_to_string(file("folds.txt")).unwrap();
    for projection in Projection::ALL {
        let fold = run::fold(projection);
        let fold = writer.fold_hash(projection, &fold).await.unwrap();
        let mut rows = Sha256::new();
        for line in text
            .lines()
            .filter(|line| line.starts_with(&format!("{projection}.")))
        {
            rows.update(line);
        }
        let (fold, rows) = (format!("{projection} {fold}"), hex::encode(rows.finalize()));
        match known.lines().find_map(|line| line.strip_prefix(&fold)) {
            Some(before) => assert_eq!(
                before.trim(),
                rows,
                "the rows of {projection} are others, its fold is not: raise its VERSION (projectors/src/run.rs, fold)"
            ),
            None if std::env::var_os("UPDATE").is_some() => {
                writeln!(known, "{fold} {rows}").unwrap();
                fs::write(file("folds.txt"), &known).unwrap();
            }
            None => panic!("the fold of {projection} is new: UPDATE=1 writes its rows down"),
        }
    }
}

/// Wrote the log that stands in the repository. Another format of the log, if there ever is one, gets another folder.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the log is written once"]
async fn write_the_golden_log() {
    let mut world = World::make().await;
    world.live(1).await;
    // A record that does not count, and one after it that does.
    world.log.ledger.garbage().await;
    let piece = kit::piece(500).to_string();
    let drafted = kit::drafted(500, "after").into();
    world
        .log
        .ledger
        .commit(kit::tenant(1), vec![(piece, 1, drafted)])
        .await;
    fs::create_dir_all(file("")).unwrap();
    for (partition, name, _) in LOG {
        assert!(!file(name).exists(), "{name} stays as it is");
        let end = world.log.log.end(partition).await.unwrap();
        let mut reader = world.log.log.reader(partition, 0).unwrap();
        let mut text = Vec::new();
        let mut next = 0;
        while next < end {
            let batch = reader.next().await.unwrap();
            next = batch.next;
            batch
                .records
                .iter()
                .for_each(|record| text.extend(export::to_line(record)));
        }
        fs::write(file(name), text).unwrap();
    }
    world.erase().await;
}
