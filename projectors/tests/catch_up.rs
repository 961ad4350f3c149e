//! How fast empty tables are filled: `cargo test -p projectors --release --test catch_up -- --ignored --nocapture`.
//! `./dev bench` measures the same beside COPY, with whole processes.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;

use std::time::Instant;

use events::download;
use kit::{Made, TestLog, TestTables, drafted, piece, tenant};
use projectors::{
    content::ContentFold,
    downloads::DownloadsFold,
    runner::{
        Gather, Plan, Until, Windows, drive,
        feed::{Fed, Feed},
        postgres::Fold,
    },
};
use read_models::{Checkpoint, Projection};
use service::health::Health;
use tokio_util::sync::CancellationToken;

const COMMITS: u128 = 100_000;

async fn speed<F: Fold>(of: fn(u128) -> Made) {
    let tables = TestTables::<F>::make().await;
    let mut log = TestLog::make().await;
    log.ledger.commits((0..COMMITS).map(of).collect()).await;
    let plan = Plan {
        windows: Windows::new(log.log.clone()),
        gather: Gather::SIDE_BY_SIDE,
        throttle: projectors::runner::Throttle::default(),
        until: Until::CaughtUp,
        health: Health::new().register("speed"),
        shutdown: CancellationToken::new(),
    };
    let (projection, generation) = (F::PROJECTION, tables.tables.generation());
    tables.writer.drop_indexes(projection, generation).await.unwrap();
    let begun = Instant::now();
    drive(tables.sink(), plan).await;
    let filled = begun.elapsed().as_secs_f64();
    tables
        .writer
        .make_indexes(projection, generation, 3)
        .await
        .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let found = read_models::verify::fingerprints(&tables.tables).await.unwrap();
    println!(
        "{projection}: {COMMITS} events in {seconds:.2} s ({filled:.2} s without indexes), {:.0}/s: {found:?}",
        COMMITS as f64 / seconds
    );
    if std::env::var_os("KEEP").is_none() {
        tables.scratch.erase().await.unwrap();
    } else {
        println!("kept: {}", tables.scratch.url());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn into_content() {
    speed::<ContentFold>(|n| {
        let piece_of = events::content::Drafted {
            body: "Some words of a body, enough of them for a short note. ".repeat(6),
            ..drafted(n, &format!("slug-{n}"))
        };
        (tenant(0), vec![(piece(n).to_string(), 1, piece_of.into())])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn into_downloads() {
    speed::<DownloadsFold>(|n| {
        let queued = download::Queued {
            title: format!("Download {n}"),
            url: format!("https://example.org/files/{n}.epub"),
            author: Some("Somebody".into()),
            format: Some("epub".into()),
            sha256: None,
            priority: 100,
        };
        (tenant(0), vec![(piece(n).to_string(), 1, queued.into())])
    })
    .await;
}

/// Seconds of the processor that this process has had.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|it| it.parse::<f64>().unwrap() / 100.0).sum()
}

/// What reading for three projections costs, when each reads for itself and when they share it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn reading_for_three() {
    const COMMITS: u128 = 20_000;
    let mut log = TestLog::make().await;
    let of = |n| {
        let piece_of = events::content::Drafted {
            body: "Some words of a body, enough of them for an article. ".repeat(95),
            ..drafted(n, &format!("slug-{n}"))
        };
        (tenant(0), vec![(piece(n).to_string(), 1, piece_of.into())])
    };
    let mut end = 0;
    for first in (0..COMMITS).step_by(200) {
        end = log.ledger.commits((first..first + 200).map(of).collect()).await;
    }
    let shared = Windows::new(log.log.clone());
    for (how, windows) in [
        ("each for itself", [(); 3].map(|()| Windows::new(log.log.clone()))),
        ("together", [(); 3].map(|()| shared.clone())),
    ] {
        let (before, begun) = (processor(), Instant::now());
        let reading = windows.map(|windows| {
            let checkpoint = Checkpoint {
                projection: Projection::Content,
                generation: 1,
                partition: 0,
                next_offset: 0,
                epoch: 0,
                seq: 0,
                hash: [0; 32],
                fence: 1,
                parking: 0,
                since: chrono::DateTime::UNIX_EPOCH,
                cut: None,
            };
            let mut feed = Feed::new(&windows, &checkpoint, Gather::SIDE_BY_SIDE);
            tokio::spawn(async move {
                let mut next = 0;
                while next < end {
                    match feed.next().await {
                        Fed::Batch(batch) => next = batch.next,
                        Fed::Stopped { reason, .. } => panic!("{reason}"),
                    }
                }
            })
        });
        for task in reading {
            task.await.unwrap();
        }
        println!(
            "{how}: {:.2} s of the processor, {:.2} s, for three times {COMMITS} records of 5 KB",
            processor() - before,
            begun.elapsed().as_secs_f64()
        );
    }
}
