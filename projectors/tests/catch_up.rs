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
    runner::{Plan, Until, Windows, drive, postgres::Fold},
};
use service::health::Health;
use tokio_util::sync::CancellationToken;

const COMMITS: u128 = 100_000;

async fn speed<F: Fold>(of: fn(u128) -> Made) {
    let tables = TestTables::<F>::make().await;
    let mut log = TestLog::make().await;
    log.ledger.commits((0..COMMITS).map(of).collect()).await;
    let plan = Plan {
        windows: Windows::new(log.log.clone()),
        gather: projectors::runner::Gather::SIDE_BY_SIDE,
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
