//! From the log into empty tables: PostgreSQL beside COPY, ClickHouse beside a plain insert of the same rows, and both
//! beside reading the log and doing nothing with it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_log::Topic;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::{
    Bench,
    load::{self, Shape},
    report::{Report, count},
    writes,
};
use crate::installation::{Installation, LogKind, Role};

/// Runs the phase.
///
/// # Errors
/// Something does not start, or a projection does not arrive.
pub async fn run(bench: &Bench, report: &mut Report, (events, visits): (u64, u64)) -> anyhow::Result<()> {
    report.section(
        "Catch-up from zero",
        "Commands (or visits in batches) fill a log on Kafka while no projector runs; then `serve --role projector` starts on \
         empty tables. Beside it, when nothing else runs: the same rows with COPY into tables of the same shape, whose indexes \
         are made when the rows are there, or with one plain insert into ClickHouse tables of the same shape; and reading the \
         same partitions of the log and doing nothing with them.",
    );
    report.table(&[
        "into",
        "events",
        "seconds",
        "events/s",
        "plain seconds",
        "of plain",
        "read alone, seconds",
        "of reading",
    ]);
    postgres(bench, report, events).await?;
    clickhouse(bench, report, visits).await
}

/// How long is asked before it is counted again.
const STRETCH: Duration = Duration::from_secs(5);
/// So long a projection may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A log with so many events, or visits, at least.
async fn filled(bench: &Bench, visits: bool, count: u64) -> anyhow::Result<Installation> {
    let mut installation = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Kafka).await?;
    installation.spawn(Role::Command)?;
    installation.ready(Role::Command).await?;
    let key = installation.tenant("bench", "bench.example").await?;
    let shape = Shape {
        connections: if visits { 16 } else { 64 },
        duration: STRETCH,
        refusals: None,
    };
    let mut written = 0;
    while written < count {
        let (requests, of_each) = if visits {
            (writes::visit_batches(&key), writes::BATCH)
        } else {
            (writes::drafts(&key), 1)
        };
        let measured = load::run(&installation.command_address(), shape, requests).await?;
        writes::expect_none_refused(&measured)?;
        written += measured.answers * of_each;
    }
    installation.stop().await?;
    Ok(installation)
}

async fn postgres(bench: &Bench, report: &mut Report, count: u64) -> anyhow::Result<()> {
    let mut installation = filled(bench, false, count).await?;
    let seconds = caught_up(&mut installation, "content").await?;
    let mut database = PgConnection::connect(&installation.database()).await?;
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM content_1.content_versions")
        .fetch_one(&mut database)
        .await?;
    installation.stop().await?;
    let copy = copy_seconds(&mut database, "content_1").await?;
    let (_, read) = read_log(&installation, Topic::Ledger).await?;
    row(
        report,
        "PostgreSQL (`content`)",
        events as f64,
        seconds,
        [copy, read],
    );
    let wanted = (events as f64 / copy / 2.0).min(50_000.0);
    report.at_least(
        "catch-up into PostgreSQL, events/s (50,000, or half of COPY)",
        events as f64 / seconds,
        wanted,
    );
    report.at_least("catch-up into PostgreSQL, of COPY", copy / seconds, 0.5);
    installation.erase().await
}

async fn clickhouse(bench: &Bench, report: &mut Report, count: u64) -> anyhow::Result<()> {
    let mut installation = filled(bench, true, count).await?;
    let seconds = caught_up(&mut installation, "visits").await?;
    let listed = bench.engines.clickhouse("SHOW DATABASES").await?;
    let database = listed
        .lines()
        .find(|name| name.starts_with(installation.name()) && name.ends_with("visits_1"));
    let database = database
        .context("no ClickHouse database holds visits")?
        .to_owned();
    let events: f64 = bench
        .engines
        .clickhouse(&format!("SELECT count() FROM `{database}`.events"))
        .await?
        .trim()
        .parse()?;
    installation.stop().await?;
    let plain = insert_seconds(bench, &database).await?;
    let (_, read) = read_log(&installation, Topic::Visits).await?;
    row(report, "ClickHouse (`visits`)", events, seconds, [plain, read]);
    let wanted = (events / plain / 2.0).min(150_000.0);
    report.at_least(
        "catch-up into ClickHouse, events/s (150,000, or half of a plain insert)",
        events / seconds,
        wanted,
    );
    report.at_least(
        "catch-up into ClickHouse, of a plain insert",
        plain / seconds,
        0.7,
    );
    installation.erase().await
}

fn row(report: &mut Report, into: &str, events: f64, seconds: f64, [plain, read]: [f64; 2]) {
    report.row(&[
        into.to_owned(),
        count(events),
        format!("{seconds:.2}"),
        count(events / seconds),
        format!("{plain:.2}"),
        format!("{:.2}", plain / seconds),
        format!("{read:.2}"),
        format!("{:.2}", read / seconds),
    ]);
}

/// Seconds from the first to the last checkpoint of a projection, as PostgreSQL shows them, and until its tables there
/// have every index that their template has.
async fn caught_up(installation: &mut Installation, projection: &str) -> anyhow::Result<f64> {
    installation.spawn(Role::Projector)?;
    installation.ready(Role::Projector).await?;
    let mut database = PgConnection::connect(&installation.database()).await?;
    let begin = Instant::now();
    loop {
        let query = "SELECT coalesce(sum(next_offset), 0)::bigint AS done, coalesce(sum(log_end), 0)::bigint AS wanted, \
                     count(*) AS partitions FROM annals.checkpoints WHERE projection = $1";
        let row = match sqlx::query(query).bind(projection).fetch_one(&mut database).await {
            // The projector makes its tables after it is ready to say so.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                anyhow::ensure!(
                    begin.elapsed() < Duration::from_secs(180),
                    "{projection} has no tables after 3 minutes"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            row => row?,
        };
        let (done, wanted, partitions): (i64, i64, i64) =
            (row.get("done"), row.get("wanted"), row.get("partitions"));
        if partitions > 0 && wanted > 1_000 && done >= wanted && indexes(&mut database, projection).await? {
            return Ok(begin.elapsed().as_secs_f64());
        }
        anyhow::ensure!(
            begin.elapsed() < PATIENCE,
            "{projection} is at {done} of {wanted} after 15 minutes:\n{}",
            installation.said(Role::Projector)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the first generation of a projection has its indexes.
async fn indexes(database: &mut PgConnection, projection: &str) -> anyhow::Result<bool> {
    let expected = read_models::generation::indexes::count(projection.parse()?);
    let found: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = $1 || '_1' AND indexname NOT LIKE '%_pkey'",
    )
    .bind(projection)
    .fetch_one(database)
    .await?;
    Ok(usize::try_from(found)? >= expected)
}

/// Seconds that COPY takes for all rows of a schema, into tables of the same shape, and the same indexes after it: as who
/// loads a table does it.
async fn copy_seconds(database: &mut PgConnection, schema: &str) -> anyhow::Result<f64> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1")
            .bind(schema)
            .fetch_all(&mut *database)
            .await?;
    database.execute("CREATE SCHEMA plain").await?;
    for setting in [
        "synchronous_commit = off",
        "maintenance_work_mem = '256MB'",
        "max_parallel_maintenance_workers = 2",
    ] {
        database.execute(AssertSqlSafe(format!("SET {setting}"))).await?;
    }
    let mut seconds = 0.0;
    for table in tables {
        let make =
            format!("CREATE TABLE plain.{table} (LIKE {schema}.{table} INCLUDING ALL EXCLUDING INDEXES)");
        database.execute(AssertSqlSafe(make)).await?;
        let rows: Vec<bytes::Bytes> = database
            .copy_out_raw(&format!("COPY {schema}.{table} TO STDOUT (FORMAT binary)"))
            .await?
            .try_collect()
            .await?;
        let indexes: Vec<String> = sqlx::query_scalar(
            "SELECT replace(indexdef, ' ON ' || schemaname || '.', ' ON plain.') FROM pg_indexes
             WHERE schemaname = $1 AND tablename = $2",
        )
        .bind(schema)
        .bind(&table)
        .fetch_all(&mut *database)
        .await?;
        let begin = Instant::now();
        let mut copy = database
            .copy_in_raw(&format!("COPY plain.{table} FROM STDIN (FORMAT binary)"))
            .await?;
        let mut buffer = Vec::with_capacity(1 << 20);
        for row in rows {
            buffer.extend_from_slice(&row);
            if buffer.len() >= 1 << 16 {
                copy.send(buffer.as_slice()).await?;
                buffer.clear();
            }
        }
        copy.send(buffer.as_slice()).await?;
        copy.finish().await?;
        for index in &indexes {
            database.execute(AssertSqlSafe(index.as_str())).await?;
        }
        seconds += begin.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// Seconds that ClickHouse takes for the same rows in its own format, one insert a table.
async fn insert_seconds(bench: &Bench, database: &str) -> anyhow::Result<f64> {
    let http = reqwest::Client::new();
    let (user, password) = &bench.engines.clickhouse_writer;
    let mut seconds = 0.0;
    for table in ["events", "sessions"] {
        let ask = |query: String| {
            http.post(&bench.engines.clickhouse)
                .query(&[("query", query)])
                .basic_auth(user, Some(password))
        };
        // The question as the body: without one the engine wants to hear that there is none.
        let rows = http
            .post(&bench.engines.clickhouse)
            .basic_auth(user, Some(password))
            .body(format!("SELECT * FROM `{database}`.{table} FORMAT Native"))
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        bench
            .engines
            .clickhouse(&format!(
                "CREATE TABLE `{database}`.plain_{table} AS `{database}`.{table}"
            ))
            .await?;
        let begin = Instant::now();
        let insert =
            format!("INSERT INTO `{database}`.plain_{table} SETTINGS async_insert = 0 FORMAT Native");
        let answer = ask(insert).body(rows).send().await?;
        anyhow::ensure!(
            answer.status().is_success(),
            "a plain insert failed: {}",
            answer.text().await?
        );
        seconds += begin.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// Records of a topic, and the seconds that reading them takes.
pub(super) async fn read_log(annals: &Installation, topic: Topic) -> anyhow::Result<(u64, f64)> {
    let log = annals.open_log().await?;
    let begin = Instant::now();
    let mut records = 0;
    for partition in log.all(topic) {
        let end = log.end(partition).await?;
        let (mut reader, mut next) = (log.reader(partition, 0)?, 0);
        while next < end {
            let batch = reader.next().await?;
            records += batch.records.len() as u64;
            next = batch.next;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    log.close().await;
    Ok((records, seconds))
}
