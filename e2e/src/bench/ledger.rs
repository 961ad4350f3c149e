//! The ledger inside a process: commands decided, appended and acknowledged without HTTP, beside the raw producer
//! with records of the same size, and beside what Kafka offers for the same promise, transactions.

use std::time::{Duration, Instant};

use event_log::{
    Commit, CommitHeaders, Hash, KafkaConfig, Log, LogConfig, Offset, Partition, Record, State, Store, Topic,
    driver::{Decider, Decision, Options, Outcome, Rewound, Start, Status, Unapplied, drive},
};
use events::{Envelope, EventId, Recorded, TenantId, Timestamp, directory::TenantCreated};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    Bench,
    broker::{self, Load, Way},
    load::Measured,
    report::{Report, count},
    writes::fsync_seconds,
};
use crate::installation::LogKind;

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const PARTITIONS: [u32; 2] = [1, 8];
/// Characters of the text in an event: a record of 1,000 bytes or so.
const TEXT: usize = 250;
/// What arrives within this shares a transaction.
const TOGETHER: Duration = Duration::from_millis(5);

/// Runs the phase.
///
/// # Errors
/// A log does not open, or an append fails.
pub async fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |log| bench.log.is_none_or(|only| only == log);
    if wanted(LogKind::Kafka) {
        kafka(bench, report).await?;
    }
    if wanted(LogKind::Embedded) {
        embedded(bench, report).await?;
    }
    chain(report);
    Ok(())
}

async fn kafka(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "The ledger in the process, Kafka",
        "Commands of clients in the same process, without HTTP, decided by a rule that needs nothing, acknowledged by the \
         fenced ledger. Beside it the raw producer with as many records of the same size on their way, and Kafka's \
         transactions, one for what arrives within 5 ms, and one for each command.",
    );
    report.table(&[
        "partitions",
        "clients",
        "commands/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "raw producer/s",
        "of raw",
        "transaction per 5 ms/s",
        "transaction per command/s",
    ]);
    for partitions in PARTITIONS {
        for clients in clients(bench) {
            let prefix = format!("bench-{}", Uuid::new_v4().simple());
            let store = Store::Kafka(KafkaConfig {
                brokers: bench.engines.kafka.clone(),
                prefix: prefix.clone(),
                replication: None,
            });
            let (ours, size) = ledger(bench, store, partitions, clients).await?;
            let load = Load {
                topic: format!("{prefix}.raw"),
                partitions,
                clients,
                size,
                duration: bench.duration,
            };
            let raw = broker::raw_producer(&bench.engines, &load).await?;
            let shared = broker::transactions(&bench.engines, &load, Some(TOGETHER)).await?;
            let single = broker::transactions(&bench.engines, &load, None).await?;
            let of_raw = ours.rate / raw.rate;
            let mut row = vec![partitions.to_string(), clients.to_string()];
            row.extend(latencies(&ours));
            row.extend([
                count(raw.rate),
                format!("{of_raw:.2}"),
                count(shared.rate),
                count(single.rate),
            ]);
            report.row(&row);
            if partitions == 1 {
                let what = format!("ledger in the process, Kafka, {clients} clients, of the raw producer");
                report.at_least(&what, of_raw, 0.75);
            }
            if (partitions, clients) == (1, 64) {
                let what = "ledger in the process, Kafka, 64 clients, of a transaction per 5 ms";
                report.at_least(what, ours.rate / shared.rate, 10.0);
            }
        }
    }
    Ok(())
}

async fn embedded(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.section(
        "The ledger in the process, embedded log",
        "As before; beside it clients divided by the time of one fsync, which is what the disk would allow.",
    );
    report.table(&[
        "partitions",
        "clients",
        "commands/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "fsync bound/s",
        "of bound",
    ]);
    for partitions in PARTITIONS {
        for clients in clients(bench) {
            let folder = tempfile::tempdir()?;
            let store = Store::Embedded {
                dir: folder.path().join("log"),
            };
            let (ours, size) = ledger(bench, store, partitions, clients).await?;
            let bound = clients as f64 / fsync_seconds(folder.path(), size)?;
            let mut row = vec![partitions.to_string(), clients.to_string()];
            row.extend(latencies(&ours));
            row.extend([count(bound), format!("{:.2}", ours.rate / bound)]);
            report.row(&row);
        }
    }
    Ok(())
}

/// What the hash of each record costs, of the time that a record takes.
fn chain(report: &mut Report) {
    const TIMES: u32 = 100_000;
    let commit = commit(1);
    let Ok(prepared) = commit.prepare() else { return };
    let (record, _) = prepared.seal(&State::default());
    let begin = Instant::now();
    let mut hash = Hash::default();
    for _ in 0..TIMES {
        hash = std::hint::black_box(hash.then(&record));
    }
    let micros = begin.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES);
    report.line(&format!(
        "\nThe hash chain costs {micros:.2} µs of processor time for a record of {} bytes.",
        record.size()
    ));
}

fn clients(bench: &Bench) -> impl Iterator<Item = usize> {
    let only = bench.connections;
    CLIENTS
        .into_iter()
        .filter(move |clients| only.is_none_or(|only| only == *clients))
}

fn latencies(measured: &Measured) -> [String; 4] {
    let millis = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1_000.0);
    [
        count(measured.rate),
        millis(measured.p50),
        millis(measured.p99),
        millis(measured.p999),
    ]
}

/// Drives every partition of a new ledger; what so many clients measure, and the size of a record.
async fn ledger(
    bench: &Bench,
    store: Store,
    partitions: u32,
    clients: usize,
) -> anyhow::Result<(Measured, usize)> {
    let log = Log::open(LogConfig {
        store,
        ledger_partitions: Some(partitions),
        visits_partitions: Some(1),
        development: true,
    })
    .await?;
    let (mut ways, mut driven) = (Vec::new(), Vec::new());
    for partition in log.all(Topic::Ledger) {
        let (way, task) = serve(&log, partition).await?;
        ways.push(way);
        driven.push(task);
    }
    let measured = broker::measure(clients, bench.duration, Ways(ways.into())).await?;
    for task in driven {
        task.await?;
    }
    let batch = log.reader(Partition::ledger(0), 2)?.next().await?;
    let size = batch.records.first().map_or(0, |stored| stored.record.size());
    log.close().await;
    Ok((measured, size))
}

type Request = oneshot::Sender<Outcome<()>>;

async fn serve(
    log: &Log,
    partition: Partition,
) -> anyhow::Result<(mpsc::Sender<Request>, JoinHandle<Nothing>)> {
    let (way, requests) = mpsc::channel(1_024);
    let (status, mut served) = watch::channel(Status::Starting);
    let options = Options::new("bench");
    let task = tokio::spawn(drive(
        log.clone(),
        partition,
        Start::default(),
        Nothing(0),
        requests,
        status,
        options,
    ));
    served
        .wait_for(|status| matches!(status, Status::Serving { .. }))
        .await?;
    Ok((way, task))
}

/// The way to each partition; clients take turns.
#[derive(Clone)]
struct Ways(std::sync::Arc<[mpsc::Sender<Request>]>);

impl Way for Ways {
    async fn send(&self, client: usize) -> anyhow::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.0[client % self.0.len()].send(reply).await?;
        match answer.await? {
            Outcome::Admitted { .. } => Ok(()),
            outcome @ (Outcome::Settled { .. } | Outcome::NotServing(_) | Outcome::Unknown(_)) => {
                anyhow::bail!("a command was not admitted: {outcome:?}")
            }
        }
    }
}

/// Decides for every command that it is done; it counts them, and that is its state.
struct Nothing(u64);

impl Decider for Nothing {
    type Request = Request;
    type Answer = ();

    fn apply(&mut self, _: Offset, _: &CommitHeaders, _: &Record) -> Result<(), Unapplied> {
        self.0 += 1;
        Ok(())
    }

    fn forget(&mut self) -> Rewound {
        self.0 = 0;
        Rewound::To(0, State::default())
    }

    fn decide(&mut self, _: &mut Request) -> Decision<()> {
        self.0 += 1;
        match commit(self.0).prepare() {
            Ok(prepared) => Decision::Append(prepared, ()),
            Err(_) => Decision::Answer(()),
        }
    }

    fn answer(&mut self, request: Request, outcome: Outcome<()>) {
        // Whoever asked may have come to its end.
        let _ = request.send(outcome);
    }
}

fn commit(number: u64) -> Commit {
    let tenant = TenantId::new(Uuid::from_u128(7));
    let envelope = Envelope {
        id: EventId::new(Uuid::now_v7()),
        subject: tenant.to_string(),
        time: Timestamp::from(chrono::Utc::now()),
        tenant,
        aggregate_version: Some(number),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    let event = TenantCreated {
        name: "x".repeat(TEXT),
    }
    .into();
    Commit {
        tenant,
        tenant_seq: number,
        command: None,
        events: vec![Recorded { envelope, event }],
    }
}
