//! A projector is killed or stopped between any two steps of a write to PostgreSQL, before and after what it says last
//! has taken place: whoever comes next goes on, nothing is there twice, nothing is missing, and whoever wakes up late
//! changes nothing.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/proxy.rs"]
mod proxy;

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use kit::{LIMIT, TestLog, TestTables, ranges};
use projectors::{
    content::ContentFold,
    runner::{Sink as _, SinkError, postgres::PostgresSink},
};
use proxy::{End, Proxy};
use read_models::Writer;

type Held = BTreeMap<String, Vec<String>>;

/// Several commits that are written side by side, and some that must be parked: these are written in parts.
async fn history() -> TestLog {
    let mut log = TestLog::make().await;
    let steps: Vec<kit::Step> = (0..60_u8)
        .map(|n| (n.wrapping_mul(37) & !1, n.wrapping_mul(101)))
        .chain([(2, 250), (2, 5)])
        .collect();
    log.ledger.commits(kit::history(&steps)).await;
    log
}

/// Everything that a projector does from the moment when it begins.
async fn work(url: &str, log: &TestLog) -> Result<(), SinkError> {
    let writer = Writer::connect(url).await?;
    let tables = writer.tables(read_models::Projection::Content, 1, 2);
    let mut sink = PostgresSink::<ContentFold>::new(writer, tables, 0, LIMIT);
    let checkpoint = sink.take_over().await?[0];
    let all = ranges(&log.log, &checkpoint, 12).await;
    for several in all.chunks(3) {
        sink.write(several.to_vec()).await?;
    }
    sink.release().await
}

/// Whoever comes next; nobody waits for long for one that is gone or frozen.
async fn next(tables: &TestTables<ContentFold>, log: &TestLog) -> Held {
    let mut sink = tables.sink();
    let taken = kit::until("the partition", async || sink.take_over().await.ok());
    let checkpoint = taken.await[0];
    for range in ranges(&log.log, &checkpoint, 7).await {
        sink.write(vec![range]).await.unwrap();
    }
    tables.holds().await
}

async fn killed_between_any_two_steps(end: End) {
    let (tables, log) = (TestTables::<ContentFold>::make().await, history().await);
    let expected = next(&tables, &log).await;
    assert!(!expected["parked"].is_empty() && expected["content"].len() > 3);
    for words in 0.. {
        tables.again().await;
        let proxy = Proxy::start(&tables.scratch.url(), words, end).await;
        let ended = tokio::select! {
            () = proxy.reached() => None,
            // It may hear of its own end first.
            ended = work(&proxy.url, &log) => Some(ended).filter(|_| !proxy.is_reached()),
        };
        assert_eq!(next(&tables, &log).await, expected, "{end:?} after {words}");
        if let Some(ended) = ended {
            ended.unwrap();
            assert!(words > 30, "only {words} words were said");
            break;
        }
    }
    tables.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_before_a_step_leaves_a_whole_or_nothing() {
    killed_between_any_two_steps(End::Unsaid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_before_it_hears_of_a_step_leaves_a_whole_or_nothing() {
    killed_between_any_two_steps(End::Unheard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_frozen_between_two_steps_and_wakes_up_late_changes_nothing() {
    let log = history().await;
    // Each waits until PostgreSQL ends what says nothing more: so together.
    let rounds = (0..8).map(|round| {
        let (words, log) = (
            6 + 3 * round + usize::from(uuid::Uuid::new_v4().as_bytes()[0] % 3),
            &log,
        );
        async move {
            let tables = TestTables::<ContentFold>::make().await;
            let proxy = Proxy::start(&tables.scratch.url(), words, End::Frozen).await;
            let mut late = std::pin::pin!(work(&proxy.url, log));
            tokio::select! {
                () = proxy.reached() => {}
                ended = &mut late => panic!("it ended before {words} words: {ended:?}"),
            }
            let others = next(&tables, log).await;
            proxy.thaw();
            let woken = tokio::time::timeout(Duration::from_secs(60), late).await.unwrap();
            assert!(woken.is_err(), "after {words} words it wrote beside another one");
            assert_eq!(next(&tables, log).await, others, "frozen after {words}");
            tables.scratch.erase().await.unwrap();
            others
        }
    });
    let all = join_all(rounds).await;
    assert!(all.iter().all(|held| held == &all[0]), "{all:#?}");
    assert!(!all[0]["content"].is_empty());
}
