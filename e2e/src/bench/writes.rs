//! Commands and page views: how many are acknowledged, beside a server that only reads the same body, and beside
//! what the log itself could take.
//!
//! A little longer than a file should be: both logs and both kinds of writes are measured alike.

use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::Topic;
use serde_json::json;

use super::{
    broker, footprint,
    load::{self, MakeRequest, Measured, Shape},
    report::{Report, cells, count},
    spent::Spent,
};
use crate::{
    bench::Bench,
    installation::{Installation, LogKind, Role},
};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
pub(super) const SITE: &str = "bench.example";
/// How long everything works before it is measured, at least.
const WARM_UP: Duration = Duration::from_secs(8);
/// Events in a request of the batch form.
pub(super) const BATCH: u64 = 500;

/// What a log was measured at, for the figures that compare logs.
struct Case<'a> {
    bench: &'a Bench,
    log: LogKind,
    name: &'static str,
    bare: String,
}

impl Case<'_> {
    fn spent(&self, installation: &Installation) -> Spent {
        Spent {
            annals: installation.pid(Role::Command),
            broker: broker::pid().filter(|_| self.log == LogKind::Kafka),
        }
    }
}

/// Runs the phase on both logs.
///
/// # Errors
/// Something does not start, or refuses what it should take.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (_process, bare) = bench.bare().await?;
    let logs = [(LogKind::Embedded, "embedded log"), (LogKind::Kafka, "Kafka")];
    for (log, name) in logs
        .into_iter()
        .filter(|(log, _)| bench.log.is_none_or(|only| only == *log))
    {
        let case = Case {
            bench,
            log,
            name,
            bare: bare.clone(),
        };
        let mut installation = Installation::new(&bench.engines, bench.binary.clone(), log).await?;
        installation.spawn(Role::Command)?;
        installation.ready(Role::Command).await?;
        let key = installation.tenant("bench", SITE).await?;
        // A broker that has just started compiles itself for some seconds: that is no figure of ours or of its own.
        let warm_up = Shape {
            connections: 64,
            duration: bench.duration.max(WARM_UP),
            refusals: None,
        };
        expect_none_refused(&load::run(&installation.command_address(), warm_up, drafts(&key)).await?)?;
        commands(&case, &installation, &key, report).await?;
        visits(&case, &installation, &key, report).await?;
        if let Some(memory) = installation
            .pid(Role::Command)
            .and_then(footprint::peak_megabytes)
        {
            report.line(&format!(
                "\nMemory of command-api under this load, at most: {memory:.0} MB."
            ));
            report.at_most(
                &format!("memory of command-api under load, {name}, MB"),
                memory,
                100.0,
            );
        }
        installation.stop().await?;
        installation.erase().await?;
    }
    Ok(())
}

/// A body as an editor sends it: 600 bytes or so.
fn draft(number: u64) -> Vec<u8> {
    let text = "Whoever measures should say what, on which machine, and beside what. ".repeat(5);
    let body = json!({
        "site": SITE, "kind": "post", "title": format!("Measured {number}"), "slug": format!("measured-{number}"),
        "body": text, "tags": ["bench", "load"], "metadata": {"authors": ["A. Writer"]},
    });
    body.to_string().into_bytes()
}

/// Numbers are unique in a run; the run's own number keeps slugs of different runs apart.
pub(super) fn drafts(key: &str) -> MakeRequest {
    let run = u64::from(uuid::Uuid::new_v4().as_fields().0) << 8;
    let headers = format!("authorization: Bearer {key}\r\n");
    Arc::new(move |number, into| {
        load::post(
            "/api/v1/content",
            &headers,
            &draft(run.wrapping_add(number)),
            into,
        )
    })
}

fn page_views() -> MakeRequest {
    Arc::new(|number, into| {
        let body = format!(
            r#"{{"name":"pageview","url":"https://{SITE}/posts/{}","domain":"{SITE}","referrer":"https://www.google.com/"}}"#,
            number % 100
        );
        load::post(
            "/api/event",
            &format!("user-agent: {}\r\n", browser(number)),
            body.as_bytes(),
            into,
        );
    })
}

/// Two hundred versions of a browser: so many visitors, for all of them have one address.
fn browser(number: u64) -> String {
    let version = 100 + number % 200;
    format!("Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0")
}

pub(super) fn visit_batches(key: &str) -> MakeRequest {
    let headers = format!("authorization: Bearer {key}\r\n");
    let events: Vec<_> = (0..BATCH)
        .map(|index| {
            json!({
                "name": "pageview", "url": format!("https://{SITE}/posts/{}", index % 100), "domain": SITE,
                "referrer": "https://www.google.com/", "user_agent": browser(index % 20),
                "ip": format!("203.0.{}.{}", index % 8, index % 250),
            })
        })
        .collect();
    let body = serde_json::Value::Array(events).to_string().into_bytes();
    Arc::new(move |_, into| load::post("/api/v1/visits", &headers, &body, into))
}

fn connections(bench: &Bench) -> impl Iterator<Item = usize> {
    let only = bench.connections;
    CONNECTIONS
        .into_iter()
        .filter(move |connections| only.is_none_or(|only| only == *connections))
}

fn shape(bench: &Bench, connections: usize) -> Shape {
    Shape {
        connections,
        duration: bench.duration,
        refusals: None,
    }
}

async fn commands(
    case: &Case<'_>,
    installation: &Installation,
    key: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = case.name;
    report.section(
        &format!("Commands, {name}"),
        "`POST /api/v1/content` (a draft of 600 bytes), acknowledged by command-api alone, for so many connections. \
         Beside it: a bare axum handler that reads the same body; and the log by itself (Kafka: the raw producer with \
         as many records of the same size on their way; embedded: connections divided by the time of one fsync). \
         Last, the processor time for each command, in microseconds, of annals and of the broker.",
    );
    report.table(&[
        "connections",
        "commands/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "bare/s",
        "of bare",
        "log alone/s",
        "of log",
        "annals µs",
        "broker µs",
    ]);
    let mut raw = None;
    let spent = case.spent(installation);
    for connections in connections(case.bench) {
        let before = spent.now();
        let ours = load::run(
            &installation.command_address(),
            shape(case.bench, connections),
            drafts(key),
        )
        .await?;
        expect_none_refused(&ours)?;
        let [annals, broker] = spent.since(before, ours.answers);
        let bare = load::run(&case.bare, shape(case.bench, connections), drafts(key)).await?;
        let size = match raw {
            Some(size) => size,
            None => *raw.insert(record_size(case, installation).await?),
        };
        let bound = match case.log {
            LogKind::Embedded => connections as f64 / fsync_seconds(&installation.log_folder(), size)?,
            LogKind::Kafka => {
                let load = broker::Load {
                    topic: format!("{}.raw", installation.name()),
                    partitions: 1,
                    clients: connections,
                    size,
                    duration: case.bench.duration,
                };
                broker::raw_producer(&case.bench.engines, &load).await?.rate
            }
        };
        let [rate, p50, p99, p999] = cells(&ours);
        let (of_bare, of_bound) = (ours.rate / bare.rate, ours.rate / bound);
        report.row(&[
            connections.to_string(),
            rate,
            p50,
            p99,
            p999,
            count(bare.rate),
            format!("{of_bare:.2}"),
            count(bound),
            format!("{of_bound:.2}"),
            annals,
            broker,
        ]);
        match (case.log, connections) {
            (LogKind::Kafka, 1) => {
                report.at_most(
                    "p50 of a command at 1 connection, Kafka, ms",
                    ours.p50.as_secs_f64() * 1_000.0,
                    0.6,
                );
            }
            (LogKind::Kafka, 64) => {
                report.at_least("commands at 64 connections, Kafka, of bare", of_bare, 0.4)
            }
            (LogKind::Embedded, 64) => {
                let what = "commands at 64 connections, embedded log, of bare or of the fsync bound, whichever is lower";
                report.at_least(what, of_bare.max(of_bound), 0.6);
            }
            _ => {}
        }
    }
    if let Some(size) = raw {
        report.line(&format!("\nA commit's record has {size} bytes here."));
    }
    Ok(())
}

async fn visits(
    case: &Case<'_>,
    installation: &Installation,
    key: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = case.name;
    report.section(
        &format!("Page views, {name}"),
        "`POST /api/event` as a browser's tracker sends it, and the batch form `POST /api/v1/visits` with 500 events a \
         request (16 connections), beside the bare handler; and the processor time for each event, as above.",
    );
    report.table(&[
        "form",
        "connections",
        "events/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "bare events/s",
        "of bare",
        "annals µs",
        "broker µs",
    ]);
    let mut single = 0.0;
    let spent = case.spent(installation);
    for connections in connections(case.bench) {
        let before = spent.now();
        let ours = load::run(
            &installation.command_address(),
            shape(case.bench, connections),
            page_views(),
        )
        .await?;
        expect_none_refused(&ours)?;
        let [annals, broker] = spent.since(before, ours.answers);
        let bare = load::run(&case.bare, shape(case.bench, connections), page_views()).await?;
        let [rate, p50, p99, p999] = cells(&ours);
        let of_bare = ours.rate / bare.rate;
        report.row(&[
            "singly".to_owned(),
            connections.to_string(),
            rate,
            p50,
            p99,
            p999,
            count(bare.rate),
            format!("{of_bare:.2}"),
            annals,
            broker,
        ]);
        if connections == 64 {
            single = bare.rate;
            report.at_least(
                &format!("page views singly at 64 connections, {name}, of bare"),
                of_bare,
                0.5,
            );
        }
    }
    let before = spent.now();
    let ours = load::run(
        &installation.command_address(),
        shape(case.bench, 16),
        visit_batches(key),
    )
    .await?;
    expect_none_refused(&ours)?;
    let [annals, broker] = spent.since(before, ours.answers * BATCH);
    let bare = load::run(&case.bare, shape(case.bench, 16), visit_batches(key)).await?;
    let [_, p50, p99, p999] = cells(&ours);
    let (events, bare) = (ours.rate * BATCH as f64, bare.rate * BATCH as f64);
    report.row(&[
        "in batches".to_owned(),
        "16".to_owned(),
        count(events),
        p50,
        p99,
        p999,
        count(bare),
        format!("{:.2}", events / bare),
        annals,
        broker,
    ]);
    if case.log == LogKind::Kafka {
        let what = "events/s in batches, Kafka, of the bare handler's requests/s at 64 connections";
        report.at_least(what, events / single, 3.0);
    }
    Ok(())
}

/// A measurement of answers that are not what is measured would be one of nothing.
pub(super) fn expect_none_refused(measured: &Measured) -> anyhow::Result<()> {
    let Some(example) = &measured.example else {
        return Ok(());
    };
    anyhow::bail!(
        "{} requests had another answer, such as: {example}",
        measured.refused
    )
}

/// Bytes of the newest commit, headers included; the embedded store is in use, so there it is taken to be the same.
async fn record_size(case: &Case<'_>, installation: &Installation) -> anyhow::Result<usize> {
    const TYPICAL: usize = 1_400;
    if case.log == LogKind::Embedded {
        return Ok(TYPICAL);
    }
    let log = installation.open_log().await?;
    let mut size = TYPICAL;
    for partition in log.all(Topic::Ledger) {
        let end = log.end(partition).await?;
        if end > 2 {
            let batch = log.reader(partition, end - 1)?.next().await?;
            size = batch
                .records
                .first()
                .map_or(size, |stored| stored.record.value.len() + 300);
        }
    }
    log.close().await;
    Ok(size)
}

/// How long the disk takes to keep one record, on average.
pub(super) fn fsync_seconds(folder: &Path, size: usize) -> anyhow::Result<f64> {
    const TIMES: u32 = 200;
    let mut file = tempfile::tempfile_in(folder)?;
    let record = vec![b'x'; size];
    let start = Instant::now();
    for _ in 0..TIMES {
        file.write_all(&record)?;
        file.sync_data()?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(TIMES))
}
