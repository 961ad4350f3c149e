//! Two command-apis on one Kafka: what forwarding costs, what a refusal costs, and how long a tenant waits when the
//! owner of its partition stops or dies.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_log::{State, Topic, Verdict};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    Bench,
    load::{self, MakeRequest, Measured, Shape},
    report::{Report, cells},
    writes::{SITE, drafts, expect_none_refused},
};
use crate::{
    installation::{Installation, LogKind, Role},
    wait,
};

const BOTH: [Role; 2] = [Role::Command, Role::AnotherCommand];
const PATIENCE: Duration = Duration::from_secs(60);
/// `ANNALS_SESSION_SECONDS` as it comes.
const SESSION: f64 = 6.0;
/// Times that the owner stops, and times that it dies.
const TIMES: usize = 3;
const CONNECTIONS: usize = 64;

/// Runs the phase.
///
/// # Errors
/// A process does not start, or a partition is not served any more.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut annals = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Kafka).await?;
    annals.spawn(Role::Command)?;
    annals.ready(Role::Command).await?;
    let key = annals.tenant("bench", SITE).await?;
    annals.spawn(Role::AnotherCommand)?;
    annals.ready(Role::AnotherCommand).await?;
    costs(bench, &annals, &key, report).await?;
    takeovers(&mut annals, &key, report).await?;
    annals.stop().await?;
    annals.erase().await
}

async fn costs(bench: &Bench, annals: &Installation, key: &str, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "Forwarding and refusals, Kafka",
        "Two command-apis; drafts of one tenant from 64 connections, sent to the owner of its partition, and to the other \
         process, which sends them on; and drafts whose slug is taken, which are refused when a read of the log's end has \
         shown that nobody else wrote.",
    );
    report.table(&[
        "what",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "of the owner's",
    ]);
    let owner = owner(annals, key).await?;
    let (here, there) = (annals.address(&[owner]), annals.address(&[other(owner)]));
    let shape = Shape {
        connections: CONNECTIONS,
        duration: bench.duration,
        refusals: None,
    };
    let at_owner = load::run(&here, shape, drafts(key)).await?;
    expect_none_refused(&at_owner)?;
    let forwarded = load::run(&there, shape, drafts(key)).await?;
    expect_none_refused(&forwarded)?;
    let draft = json!({"site": SITE, "kind": "post", "title": "Taken", "slug": "taken"});
    let first = annals
        .command_at(&here, Method::POST, "/api/v1/content", key, draft)
        .await?;
    anyhow::ensure!(
        first.status == StatusCode::CREATED,
        "the slug is not taken: {first:?}"
    );
    let refused = load::run(
        &here,
        Shape {
            refusals: Some(StatusCode::CONFLICT.as_u16()),
            ..shape
        },
        taken(key),
    )
    .await?;
    expect_none_refused(&refused)?;
    for (what, measured) in [
        ("at the owner", &at_owner),
        ("forwarded", &forwarded),
        ("refused", &refused),
    ] {
        row(report, what, measured, &at_owner);
    }
    Ok(())
}

fn row(report: &mut Report, what: &str, measured: &Measured, owner: &Measured) {
    let [rate, p50, p99, p999] = cells(measured);
    let of_owner = format!("{:.2}", measured.rate / owner.rate);
    report.row(&[what.to_owned(), rate, p50, p99, p999, of_owner]);
}

fn taken(key: &str) -> MakeRequest {
    let headers = format!("authorization: Bearer {key}\r\n");
    let body = json!({"site": SITE, "kind": "post", "title": "Taken", "slug": "taken"}).to_string();
    std::sync::Arc::new(move |_, into| load::post("/api/v1/content", &headers, body.as_bytes(), into))
}

async fn takeovers(annals: &mut Installation, key: &str, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "Takeover, Kafka",
        "A client sends drafts one after the other to the process that does not own its tenant's partition, and asks again \
         when it hears 503. Away: from the last acknowledgement before the owner stopped (SIGTERM) or died (SIGKILL) to \
         the first one after. From its claim: what the new owner needed from its claim to the first commit, by the log's times.",
    );
    report.table(&[
        "how",
        "away, seconds, middle and worst",
        "from its claim, ms, worst",
    ]);
    for (how, dies, most) in [("stops in order", false, 1.0), ("killed", true, SESSION + 1.0)] {
        let (mut away, mut claimed) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            away.push(takeover(annals, key, dies).await?);
            claimed.push(from_claim(annals).await?);
        }
        away.sort_by(f64::total_cmp);
        claimed.sort_by(f64::total_cmp);
        let worst = away[TIMES - 1];
        let slowest = claimed[TIMES - 1];
        report.row(&[
            how.to_owned(),
            format!("{:.2}, {worst:.2}", away[TIMES / 2]),
            format!("{slowest:.0}"),
        ]);
        report.at_most(
            &format!("takeover, owner {how}, seconds, worst of {TIMES}"),
            worst,
            most,
        );
        let what = format!("first acknowledgement after the claim, owner {how}, ms, worst of {TIMES}");
        report.at_most(&what, slowest, 100.0);
    }
    Ok(())
}

/// Ends the owner and starts it again; how long nothing was acknowledged, in seconds.
async fn takeover(annals: &mut Installation, key: &str, dies: bool) -> anyhow::Result<f64> {
    let owner = owner(annals, key).await?;
    let survivor = annals.address(&[other(owner)]);
    let (ended, mut last) = (Instant::now() + Duration::from_millis(500), Instant::now());
    let mut gone = false;
    let mut longest = Duration::ZERO;
    // Goes on for a while after the end: the first gap need not be the longest.
    while ended.elapsed() < Duration::from_secs(2) || longest < Duration::from_millis(1) {
        if !gone && Instant::now() >= ended {
            gone = true;
            if dies {
                annals.kill(owner).await?;
            } else {
                annals.signal(owner, "-TERM").await?;
            }
        }
        if draft(annals, &survivor, key).await {
            if gone {
                longest = longest.max(last.elapsed());
            }
            last = Instant::now();
        }
        anyhow::ensure!(last.elapsed() < PATIENCE, "nobody took the partition over");
    }
    if !dies {
        annals.stop_one(owner).await?;
    }
    annals.spawn(owner)?;
    annals.ready(owner).await?;
    Ok(longest.as_secs_f64())
}

/// Milliseconds from the last claim of each partition of the ledger to the first commit after it: the longest.
async fn from_claim(annals: &Installation) -> anyhow::Result<f64> {
    let log = annals.open_log().await?;
    let mut longest = 0.0_f64;
    for partition in log.all(Topic::Ledger) {
        let end = log.end(partition).await?;
        let (mut reader, mut state) = (log.reader(partition, 0)?, State::default());
        let (mut next, mut claim, mut took) = (0, None, None);
        while next < end {
            let batch = reader.next().await?;
            next = batch.next;
            for stored in batch.records {
                match (state.admit(stored.offset, &stored.record), stored.time) {
                    (Verdict::Claimed(_), time) => (claim, took) = (time, None),
                    (Verdict::Commit(_), Some(time)) => {
                        took = took.or(claim.map(|claim| time.micros() - claim.micros()));
                    }
                    _ => {}
                }
            }
        }
        // One without a commit since its last claim was not asked for anything.
        longest = longest.max(took.unwrap_or_default() as f64 / 1_000.0);
    }
    log.close().await;
    Ok(longest)
}

const fn other(role: Role) -> Role {
    match role {
        Role::Command => Role::AnotherCommand,
        Role::AnotherCommand
        | Role::ThirdCommand
        | Role::FourthCommand
        | Role::All
        | Role::Query
        | Role::Projector
        | Role::AnotherProjector => Role::Command,
    }
}

/// A draft; whether it was acknowledged.
async fn draft(annals: &Installation, address: &str, key: &str) -> bool {
    let title = uuid::Uuid::new_v4().to_string();
    let body = json!({"site": SITE, "kind": "post", "title": title});
    let sent = annals.command_at(address, Method::POST, "/api/v1/content", key, body);
    sent.await.is_ok_and(|answer| answer.status.is_success())
}

/// Who decides for the tenant: the process that passes nothing on. Waits until both share the partitions.
async fn owner(annals: &Installation, key: &str) -> anyhow::Result<Role> {
    wait::until(
        "one of two processes to own the tenant's partition",
        PATIENCE,
        async || {
            for role in BOTH {
                let before = forwarded(annals, role).await?;
                if !draft(annals, &annals.address(&[role]), key).await {
                    return None;
                }
                if forwarded(annals, role).await? == before && serves(annals, other(role)).await? > 0 {
                    return Some(role);
                }
            }
            None
        },
    )
    .await
}

async fn forwarded(annals: &Installation, role: Role) -> Option<f64> {
    Some(sum(&metrics(annals, role).await.ok()?, "annals_forwarded_total{"))
}

async fn serves(annals: &Installation, role: Role) -> Option<u64> {
    Some(sum(&metrics(annals, role).await.ok()?, "annals_partition_serving{") as u64)
}

async fn metrics(annals: &Installation, role: Role) -> anyhow::Result<String> {
    let address = annals.address(&[role]);
    let asked = annals.command_at(&address, Method::GET, "/metrics", "", json!(null));
    let text = asked.await?.body.as_str().map(str::to_owned);
    text.context("metrics are text")
}

fn sum(metrics: &str, series: &str) -> f64 {
    let values = metrics.lines().filter(|line| line.starts_with(series));
    let values = values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}
