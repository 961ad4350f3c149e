//! What readers see while everything runs: how soon after its acknowledgement a write is visible, what a rebuild
//! beside the live generation does to that, what a thousand waiting readers cost, and how fast the log is verified.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use event_log::Topic;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Bench, catch_up, footprint,
    load::{self, Measured, Shape},
    report::{Report, count},
    writes::{SITE, drafts, expect_none_refused, visit_batches},
};
use crate::{
    installation::{Installation, LogKind, Role},
    wait,
};

/// Pause between two writes: what is measured is a moderate load.
const PAUSE: Duration = Duration::from_millis(20);
/// Readers that wait for one write.
const READERS: usize = 1_000;
/// Events a second of the rebuild beside the live generation: less than one core's worth.
const RATE: u32 = 5_000;
/// Records of the ledger, and of visits with 500 events or more in each, that are rebuilt and verified.
const COMMITS: u64 = 100_000;
const BATCHES: u64 = 2_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the phase.
///
/// # Errors
/// A process does not start, or a write does not become visible.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut annals = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Kafka).await?;
    annals.start().await?;
    let key = annals.tenant("bench", SITE).await?;
    let annals = Arc::new(annals);
    fill(&annals, &key).await?;
    visible(bench, &annals, &key, report).await?;
    readers(&annals, &key, report).await?;
    verify(&annals, report).await?;
    let mut annals = Arc::into_inner(annals).context("somebody still asks")?;
    annals.stop().await?;
    annals.erase().await
}

/// A history to rebuild, for longer than is measured, and to verify: what is the same for every length does not count.
async fn fill(annals: &Installation, key: &str) -> anyhow::Result<()> {
    let shape = |connections| Shape {
        connections,
        duration: Duration::from_secs(2),
        refusals: None,
    };
    let address = annals.command_address();
    let log = annals.open_log().await?;
    for (topic, records, connections) in [(Topic::Ledger, COMMITS, 64), (Topic::Visits, BATCHES, 4)] {
        while ends(&log, topic).await? < records {
            let requests = match topic {
                Topic::Visits => visit_batches(key),
                Topic::Directory | Topic::Ledger => drafts(key),
            };
            expect_none_refused(&load::run(&address, shape(connections), requests).await?)?;
        }
    }
    log.close().await;
    settle(annals).await
}

/// Records of a topic.
async fn ends(log: &event_log::Log, topic: Topic) -> anyhow::Result<u64> {
    let mut records = 0;
    for partition in log.all(topic) {
        records += log.end(partition).await?;
    }
    Ok(records)
}

/// All of it is in the tables before anything is measured.
async fn settle(annals: &Installation) -> anyhow::Result<()> {
    for projection in ["content", "visits"] {
        wait::until("the tables to have what was written", PATIENCE, async || {
            let projections = annals
                .query("/api/v1/projections", annals.operator_key(), None)
                .await
                .ok()?;
            behind(&projections.body, projection).filter(|lag| *lag == 0)
        })
        .await?;
    }
    Ok(())
}

/// Events of a projection that are not in its tables yet.
fn behind(projections: &Value, name: &str) -> Option<i64> {
    let items = projections["items"].as_array()?;
    let projection = items.iter().find(|item| item["projection"] == name)?;
    let partitions = projection["partitions"].as_array()?;
    partitions
        .iter()
        .map(|partition| partition["lag_events"].as_i64())
        .sum()
}

async fn visible(
    bench: &Bench,
    annals: &Arc<Installation>,
    key: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section(
        "From acknowledged to visible, Kafka",
        &format!(
            "One write at a time, with a pause of {} ms; the time from its acknowledgement to the answer of a query that \
             carries its position. First alone, then while `content` (or `visits`) is rebuilt beside the live generation at \
             {} events/s at most.",
            PAUSE.as_millis(),
            count(f64::from(RATE)),
        ),
    );
    report.table(&[
        "what",
        "p50 ms",
        "p99 ms",
        "during a rebuild, p50 ms",
        "p99 ms",
        "p99, times",
    ]);
    for (store, projection, most) in [
        ("PostgreSQL", "content", 100.0),
        ("ClickHouse", "visits", 1_000.0),
    ] {
        let alone = latency(bench.duration * 2, annals, key, projection).await?;
        let path = format!("/api/v1/projections/{projection}/rebuild");
        let address = annals.projector_address();
        let begun = annals
            .command_at(
                &address,
                Method::POST,
                &path,
                annals.operator_key(),
                json!({"rate": RATE}),
            )
            .await?;
        anyhow::ensure!(begun.status == StatusCode::ACCEPTED, "no rebuild: {begun:?}");
        let during = latency(bench.duration * 2, annals, key, projection).await?;
        let ended = annals
            .command_at(
                &address,
                Method::DELETE,
                &path,
                annals.operator_key(),
                Value::Null,
            )
            .await?;
        anyhow::ensure!(
            ended.status == StatusCode::NO_CONTENT,
            "the rebuild of {projection} ended while it was measured: {ended:?}"
        );
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let times = millis(during.p99) / millis(alone.p99);
        report.row(&[
            format!("{store} (`{projection}`)"),
            format!("{:.1}", millis(alone.p50)),
            format!("{:.1}", millis(alone.p99)),
            format!("{:.1}", millis(during.p50)),
            format!("{:.1}", millis(during.p99)),
            format!("{times:.2}"),
        ]);
        report.at_most(&format!("visible in {store}, p99, ms"), millis(alone.p99), most);
        report.at_most(
            &format!("visible in {store} during a rebuild, p99, times"),
            times,
            2.0,
        );
    }
    Ok(())
}

async fn latency(
    duration: Duration,
    annals: &Installation,
    key: &str,
    projection: &str,
) -> anyhow::Result<Measured> {
    let (begin, mut latencies) = (Instant::now(), Vec::new());
    while begin.elapsed() < duration {
        let (position, acknowledged) = write(annals, key, projection).await?;
        read(annals, key, projection, &position).await?;
        latencies.push(u32::try_from(acknowledged.elapsed().as_micros()).unwrap_or(u32::MAX));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Measured::of(latencies, duration))
}

/// Something new: its position, and when it was acknowledged.
async fn write(annals: &Installation, key: &str, projection: &str) -> anyhow::Result<(String, Instant)> {
    let (path, body) = if projection == "content" {
        let title = uuid::Uuid::new_v4().to_string();
        (
            "/api/v1/content",
            json!({"site": SITE, "kind": "post", "title": title}),
        )
    } else {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";
        let visit = json!({"name": "pageview", "url": format!("https://{SITE}/live"), "domain": SITE,
            "user_agent": agent, "ip": "203.0.113.7"});
        ("/api/v1/visits", json!([visit]))
    };
    let answer = annals.command(Method::POST, path, key, body).await?;
    let position = answer.position.clone();
    Ok((
        position.with_context(|| format!("not acknowledged: {answer:?}"))?,
        Instant::now(),
    ))
}

/// Asks for what has it.
async fn read(annals: &Installation, key: &str, projection: &str, position: &str) -> anyhow::Result<()> {
    let answer = if projection == "content" {
        let path = format!("/api/v1/content?site={SITE}&size=1&total=false");
        annals.query(&path, key, Some(position)).await?
    } else {
        let query = json!({"site_id": SITE, "metrics": ["pageviews"], "date_range": "day"});
        annals.stats(key, query, Some(position)).await?
    };
    anyhow::ensure!(answer.status.is_success(), "not visible: {answer:?}");
    Ok(())
}

async fn readers(annals: &Arc<Installation>, key: &str, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "Waiting readers",
        &format!(
            "{} readers ask with the position of a write at the moment that it is acknowledged.",
            count(READERS as f64)
        ),
    );
    let projector = annals.pid(Role::Query);
    let before = projector.and_then(footprint::processor_time);
    let (position, acknowledged) = write(annals, key, "content").await?;
    let mut asking = JoinSet::new();
    for _ in 0..READERS {
        let (annals, key, position) = (Arc::clone(annals), key.to_owned(), position.clone());
        asking.spawn(async move { read(&annals, &key, "content", &position).await });
    }
    for asked in asking.join_all().await {
        asked?;
    }
    let took = acknowledged.elapsed().as_secs_f64() * 1_000.0;
    let cost = projector
        .and_then(footprint::processor_time)
        .zip(before)
        .map(|(after, before)| after - before);
    report.table(&["what", "figure"]);
    report.row(&["all of them answered after".to_owned(), format!("{took:.0} ms")]);
    report.row(&[
        "processor time of query-api".to_owned(),
        format!("{} ms", cost.unwrap_or_default().as_millis()),
    ]);
    Ok(())
}

async fn verify(annals: &Installation, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "Verification",
        "`annals verify` of one projection, beside reading the same partitions of the log and doing nothing with them.",
    );
    report.table(&[
        "projection",
        "records",
        "verified, seconds",
        "records/s",
        "read alone, seconds",
        "of reading",
    ]);
    for (projection, topic) in [("content", Topic::Ledger), ("visits", Topic::Visits)] {
        let begin = Instant::now();
        let verified = annals
            .annals(annals.operator_key(), &["verify", projection])
            .output()
            .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        anyhow::ensure!(
            verified.status.success(),
            "{projection} is not what the log says:\n{said}"
        );
        let (records, alone) = catch_up::read_log(annals, topic).await?;
        report.row(&[
            projection.to_owned(),
            count(records as f64),
            format!("{seconds:.2}"),
            count(records as f64 / seconds),
            format!("{alone:.2}"),
            format!("{:.2}", alone / seconds),
        ]);
        report.at_least(
            &format!("verify of {projection}, of reading the log"),
            alone / seconds,
            0.5,
        );
    }
    Ok(())
}
