//! Reads: a piece by its slug and a list, out of the cache and past it, beside a handler that gives as many bytes.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;

use super::{
    Bench,
    load::{self, MakeRequest, Shape},
    report::{Report, cells, count},
};
use crate::{
    installation::{Installation, LogKind},
    wait,
};

const SITE: &str = "bench.example";
/// So many pieces that a small cache holds few of them.
const PIECES: usize = 3_000;
const CONNECTIONS: usize = 64;

/// Runs the phase.
///
/// # Errors
/// Something does not start, or does not answer.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "Reads",
        "64 connections on `annals serve`, 3,000 published pieces. Cached: the same address without a key, again and again. \
         Uncached: with a key, another piece or page each time, and a cache of 1 MiB, which holds few of them. Beside it: a bare axum handler that gives as many bytes.",
    );
    report.table(&[
        "what",
        "bytes",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "bare/s",
        "of bare",
    ]);
    let (_process, bare) = bench.bare().await?;
    let mut installation = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Embedded).await?;
    installation.start().await?;
    let key = installation.tenant("bench", SITE).await?;
    fill(&installation, &key).await?;
    let one = format!("/api/v1/sites/{SITE}/content/post/piece-7");
    let list = format!("/api/v1/content?site={SITE}&size=20");
    let keyed = format!("authorization: Bearer {key}\r\n");
    let cases: [(&str, &str, MakeRequest); 4] = [
        ("by slug, cached", &one, same(one.clone())),
        ("list, cached", &list, same(list.clone())),
        ("by slug, uncached", &one, {
            let keyed = keyed.clone();
            Arc::new(move |number, into| {
                let piece = spread(number) % PIECES as u64;
                load::get(
                    &format!("/api/v1/sites/{SITE}/content/post/piece-{piece}"),
                    &keyed,
                    into,
                );
            })
        }),
        ("list, uncached", &list, {
            Arc::new(move |number, into| {
                let page = spread(number) % (PIECES as u64 / 20) + 1;
                load::get(
                    &format!("/api/v1/content?site={SITE}&size=20&page={page}"),
                    &keyed,
                    into,
                );
            })
        }),
    ];
    for (what, path, make) in cases {
        if what.ends_with("uncached") {
            installation.set("ANNALS_QUERY_CACHE_MIB", "1");
            installation.stop().await?;
            installation.start().await?;
        }
        let answer = reqwest::get(format!("http://{}{path}", installation.query_address())).await?;
        let bytes = answer.bytes().await?.len();
        let shape = Shape {
            connections: CONNECTIONS,
            duration: bench.duration,
            refusals: None,
        };
        let ours = load::run(&installation.query_address(), shape, make).await?;
        super::writes::expect_none_refused(&ours)?;
        let bare = load::run(&bare, shape, same(format!("/bytes?bytes={bytes}"))).await?;
        let [rate, p50, p99, p999] = cells(&ours);
        let of_bare = ours.rate / bare.rate;
        report.row(&[
            what.to_owned(),
            count(bytes as f64),
            rate,
            p50,
            p99,
            p999,
            count(bare.rate),
            format!("{of_bare:.2}"),
        ]);
        if what.ends_with(", cached") {
            report.at_least(&format!("reads {what}, of bare"), of_bare, 0.8);
        }
    }
    installation.stop().await?;
    installation.erase().await
}

fn same(path: String) -> MakeRequest {
    Arc::new(move |_, into| load::get(&path, "", into))
}

/// Numbers of one connection follow each other; connections should not ask for the same.
const fn spread(number: u64) -> u64 {
    number
        .wrapping_add(number >> 32)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        >> 24
}

/// Drafts and publishes the pieces, and waits until the read model has them.
async fn fill(installation: &Installation, key: &str) -> anyhow::Result<()> {
    let text =
        "A paragraph of *Markdown* with a [link](https://example.com/), as posts have them. ".repeat(20);
    let mut position = None;
    for chunk in (0..PIECES).collect::<Vec<_>>().chunks(64) {
        let pieces = chunk.iter().map(async |piece| {
            let body = json!({"site": SITE, "kind": "post", "title": format!("Piece {piece}"), "slug": format!("piece-{piece}"), "body": text});
            let drafted = installation.command(Method::POST, "/api/v1/content", key, body).await?;
            let id = drafted.body["id"].as_str().with_context(|| format!("no draft: {drafted:?}"))?.to_owned();
            installation.command(Method::POST, &format!("/api/v1/content/{id}/publish"), key, json!({})).await
        });
        for published in futures::future::try_join_all(pieces).await? {
            anyhow::ensure!(published.status.is_success(), "not published: {published:?}");
            position = published.position;
        }
    }
    wait::until(
        "the read model to have every piece",
        Duration::from_secs(60),
        async || {
            let path = format!("/api/v1/content?site={SITE}&size=1");
            let answer = installation.query(&path, key, position.as_deref()).await.ok()?;
            (answer.body["total"] == PIECES).then_some(())
        },
    )
    .await
}
