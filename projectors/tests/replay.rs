//! Any cut of the log into batches, with restarts and kills between and within them, gives the same tables.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;

use std::time::Duration;

use kit::{Step, TestLog, TestTables, drafted, history, piece, ranges, tenant, text};
use projectors::{
    content::ContentFold,
    directory::DirectoryFold,
    downloads::DownloadsFold,
    runner::{Sink, SinkError, postgres::Fold},
};
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, TestRunner},
};
use read_models::Projection;

/// What happens between two writes: how many events the next ranges have, and how it ends.
type Cut = (u8, u8);

async fn replayed<F: Fold>(tables: &TestTables<F>, log: &TestLog, cuts: &[Cut]) {
    let end = log.log.end(event_log::Partition::ledger(0)).await.unwrap();
    let mut cuts = cuts.iter().cycle();
    for patience in 0.. {
        // A new holder, who knows nothing but what the tables say.
        let (mut sink, checkpoint) = tables.taken_over().await;
        if checkpoint.next_offset == end {
            return;
        }
        let (events, ending) = *cuts.next().unwrap();
        // One by one, or several at once, which are written side by side.
        let ranges = ranges(&log.log, &checkpoint, usize::from(events % 40) + 1).await;
        let at_once = usize::from(ending / 7 % 5) + 1;
        for (n, batches) in ranges.chunks(at_once).enumerate() {
            let write = sink.write(batches.to_vec());
            if n == usize::from(ending % 7) {
                // Killed in the middle of a write, later each time, so that it comes to an end; whether it was
                // committed, the tables know.
                let patience = Duration::from_micros((u64::from(ending) + patience * patience) * 40);
                let _ = tokio::time::timeout(patience, write).await;
                break;
            }
            write.await.unwrap();
        }
    }
}

async fn any_cut_gives_the_same_tables<F: Fold>() {
    let once = TestTables::<F>::make().await;
    let cut = TestTables::<F>::make().await;
    let mut runner = TestRunner::new(Config {
        cases: 6,
        failure_persistence: None,
        ..Config::default()
    });
    let cases = (vec(any::<Step>(), 50..250), vec(any::<Cut>(), 1..12));
    for _ in 0..6 {
        let tree = proptest::strategy::Strategy::new_tree(&cases, &mut runner).unwrap();
        let (steps, cuts): (Vec<Step>, Vec<Cut>) = proptest::strategy::ValueTree::current(&tree);
        let mut log = TestLog::make().await;
        log.ledger.commits(history(&steps)).await;
        once.again().await;
        cut.again().await;
        once.catch_up(&log.log, usize::MAX).await;
        replayed(&cut, &log, &cuts).await;
        assert_eq!(
            once.holds().await,
            cut.holds().await,
            "steps {steps:?}\ncuts {cuts:?}"
        );
    }
    once.scratch.erase().await.unwrap();
    cut.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_cut_of_the_log_gives_the_same_content() {
    any_cut_gives_the_same_tables::<ContentFold>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_cut_of_the_log_gives_the_same_downloads() {
    any_cut_gives_the_same_tables::<DownloadsFold>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_are_written_side_by_side_and_none_by_whoever_was_fenced_off() {
    let tables = TestTables::<ContentFold>::make().await;
    let mut log = TestLog::make().await;
    let drafts = (0..400).map(|n| {
        let event = drafted(n, &format!("slug-{n}")).into();
        (tenant(0), vec![(piece(n).to_string(), 1, event)])
    });
    log.ledger.commits(drafts.collect()).await;
    let (mut late, checkpoint) = tables.taken_over().await;
    let (mut sink, _) = tables.taken_over().await;
    let four = ranges(&log.log, &checkpoint, 101).await;
    assert_eq!(four.len(), 4);
    assert!(matches!(late.write(four.clone()).await, Err(SinkError::Fenced)));
    assert_eq!(tables.holds().await["content"].len(), 0);
    // `holds` has taken over as well.
    assert!(matches!(sink.write(four.clone()).await, Err(SinkError::Fenced)));
    let (mut sink, _) = tables.taken_over().await;
    let before = tables.scratch.connections().await.unwrap();
    sink.write(four).await.unwrap();
    // One by one takes one connection.
    let after = tables.scratch.connections().await.unwrap();
    assert!(after - before >= 2, "{before}, then {after}: not side by side");
    let holds = tables.holds().await;
    assert_eq!(
        (holds["content"].len(), holds["content_versions"].len()),
        (400, 400)
    );
    tables.scratch.erase().await.unwrap();
}

/// Events of the directory do not count versions, so nothing but the parking keeps the later ones back.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_aggregate_holds_its_later_events_in_whichever_range_they_are() {
    let tables = TestTables::<DirectoryFold>::make().await;
    let mut log = TestLog::make().await;
    let event = |version, name: &str, data| text(tenant(0), "k7Qm2ZxA", name, version, data);
    log.directory
        .raw(tenant(0), &event(1, "key.issued.v1", "{}"))
        .await;
    for version in 2..6 {
        let revoked = event(version, "key.revoked.v1", r#"{"key": "k7Qm2ZxA"}"#);
        log.directory.raw(tenant(0), &revoked).await;
    }
    let (mut sink, checkpoint) = tables.taken_over().await;
    sink.write(ranges(&log.log, &checkpoint, 1).await).await.unwrap();
    let known = tables.writer.generations(Some(Projection::Directory)).await;
    assert_eq!(known.unwrap()[0].parked, 5);
    tables.scratch.erase().await.unwrap();
}
