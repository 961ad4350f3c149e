//! Visits from the log into the tables, on real engines: what is asked is what happened, each event once,
//! whenever the projector is stopped.
//!
//! Longer than a file should be: all of it needs the same log and databases.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_log::{Log, LogConfig, Store};
use events::{
    Envelope, EventId, Recorded, SiteId, TenantId, Timestamp, VisitorId,
    visit::{CustomEventRecorded, PageViewed, Visit},
};
use projectors::runner::{
    Gather, Plan, Throttle, Until, Windows,
    clickhouse::{Engines, Failure, Stops, one_run},
};
use read_models::{
    Projection, Writer,
    clickhouse::scratch::Scratch as Rows,
    scratch::Scratch as Control,
    visits::{Site, StatsQuery, stats::stats, store::InsertError},
};
use serde_json::json;
use service::health::Health;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const NOON: i64 = 1_431_864_000_000_000;
const PARTITIONS: u32 = 2;

fn tenant() -> TenantId {
    TenantId::new(Uuid::from_u128(1))
}

fn site() -> SiteId {
    SiteId::new(Uuid::from_u128(2))
}

/// A log of one's own, and databases of one's own for one generation.
struct World {
    _folder: tempfile::TempDir,
    log: Log,
    control: Control,
    rows: Rows,
    engines: Engines,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(LogConfig {
            store: Store::Embedded {
                dir: folder.path().to_owned(),
            },
            ledger_partitions: Some(1),
            visits_partitions: Some(PARTITIONS),
            development: true,
        });
        let log = log.await.unwrap();
        let (control, rows, engines) = tables(&log).await;
        Self {
            _folder: folder,
            log,
            control,
            rows,
            engines,
        }
    }

    /// Appends a record of these events to the partition that their visitor belongs to.
    async fn append(&self, visitor: u64, events: &[Recorded]) {
        let partition = self.log.visits_partition(tenant(), VisitorId::new(visitor));
        self.log
            .append(partition, event_log::visits::encode(tenant(), events))
            .await
            .unwrap();
    }

    /// So many visitors with three page views and one custom event each, in records of their own.
    async fn append_visits(&self, first: u64, count: u64) {
        for visitor in first..first + count {
            let event = |index: u64| {
                let minute = i64::try_from(visitor + index).unwrap();
                recorded(
                    u128::from(visitor) * 10 + u128::from(index),
                    visitor,
                    minute,
                    index == 3,
                )
            };
            self.append(visitor, &[event(0), event(1)]).await;
            self.append(visitor, &[event(2), event(3)]).await;
        }
    }

    async fn catch_up(&self, stops: Option<Stops>) -> Result<(), Failure> {
        one_run(&self.engines, &plan(&self.log), stops).await
    }

    /// Rows, distinct rows, and what they say, of events and of sessions.
    async fn dump(&self) -> [u64; 5] {
        let client = self.rows.reader().visits(1);
        let number = async |sql: &str| client.query_raw(sql).fetch_one::<u64>().await.unwrap();
        [
            number("SELECT count() FROM events").await,
            number("SELECT uniqExact(log_partition, log_offset, log_index) FROM events").await,
            number(
                "SELECT cityHash64(arraySort(groupArray((log_partition, log_offset, log_index, toString(id), session, \
                 toString(name), pathname, visitor)))) FROM events",
            )
            .await,
            number("SELECT count() FROM sessions FINAL").await,
            number(
                "SELECT cityHash64(arraySort(groupArray((session, toUnixTimestamp64Micro(start), \
                 toUnixTimestamp64Micro(last), pageviews, events, is_bounce, entry_page, exit_page, log_partition, \
                 log_offset)))) FROM sessions FINAL",
            )
            .await,
        ]
    }

    async fn erase(self) {
        self.engines.control.close().await;
        self.rows.erase().await.unwrap();
        self.control.erase().await.unwrap();
        self.log.close().await;
    }
}

/// Empty databases for a log.
async fn tables(log: &Log) -> (Control, Rows, Engines) {
    let control = Control::for_test().await;
    let rows = Rows::for_test();
    let writer = Writer::connect(&control.url()).await.unwrap();
    writer.adopt_log(log.id().0).await.unwrap();
    writer
        .prepare(Projection::Visits, PARTITIONS, "test")
        .await
        .unwrap();
    let engines = Engines {
        log: log.clone(),
        control: writer,
        rows: rows.writer(),
        generation: 1,
        owner: "test".to_owned(),
        parking_limit: 10,
        keep_every: Engines::KEEP_EVERY,
    };
    (control, rows, engines)
}

fn plan(log: &Log) -> Plan {
    Plan {
        windows: Windows::new(log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::CaughtUp,
        health: Health::default().register("visits"),
        shutdown: CancellationToken::new(),
    }
}

fn recorded(id: u128, visitor: u64, minute: i64, custom: bool) -> Recorded {
    let visit = Visit {
        site: site(),
        visitor: VisitorId::new(visitor),
        hostname: "example.org".to_owned(),
        pathname: format!("/{}", minute % 7),
        referrer: None,
        source: visitor.is_multiple_of(2).then(|| "Google".to_owned()),
        device: Some("Desktop".to_owned()),
        browser: Some("Firefox".to_owned()),
        os: Some("Linux".to_owned()),
        utm: BTreeMap::new(),
        content: None,
        props: BTreeMap::from([("plan".to_owned(), "pro".to_owned())]),
        import: None,
    };
    let event = if custom {
        CustomEventRecorded {
            visit,
            name: "Signup".to_owned(),
            interactive: true,
            revenue: None,
        }
        .into()
    } else {
        PageViewed { visit }.into()
    };
    Recorded {
        envelope: Envelope {
            id: EventId::new(Uuid::from_u128(id)),
            subject: site().to_string(),
            time: Timestamp::from_micros(NOON + minute * 60_000_000).unwrap(),
            tenant: tenant(),
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        },
        event,
    }
}

#[tokio::test]
async fn what_was_appended_is_what_is_answered() {
    let world = World::new().await;
    world.append_visits(1, 10).await;
    // The same again, as a client's retry: it counts once.
    world.append_visits(1, 10).await;
    world.catch_up(None).await.unwrap();
    let query = StatsQuery::parse(&json!({
        "site_id": "example.org", "metrics": ["visitors", "visits", "pageviews", "events", "bounce_rate"],
        "date_range": "all", "dimensions": ["visit:source"]
    }))
    .unwrap();
    let asked = Site {
        tenant: tenant().uuid(),
        id: site().uuid(),
        domain: "example.org".to_owned(),
        timezone: "UTC".parse().unwrap(),
    };
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    let answer = stats(&world.rows.reader(), 1, &asked, &query, now).await.unwrap();
    let rows: Vec<_> = answer
        .results
        .iter()
        .map(|row| json!([row.dimensions, row.metrics]))
        .collect();
    assert_eq!(
        json!(rows),
        json!([
            [["Direct / None"], [5, 5, 15, 20, 0]],
            [["Google"], [5, 5, 15, 20, 0]]
        ])
    );
    world.erase().await;
}

#[tokio::test]
async fn a_run_that_is_stopped_between_any_two_steps_loses_and_doubles_nothing() {
    let world = World::new().await;
    world.append_visits(1, 20).await;
    world.catch_up(None).await.unwrap();
    let mut expected = 80;
    // Each round something new is there to write, and the run is stopped one step later than the last time.
    for round in 0..16_usize {
        world.append_visits(100 + round as u64 * 10, 5).await;
        expected += 20;
        let steps = AtomicUsize::new(0);
        let stops: Stops = Arc::new(move |_| steps.fetch_add(1, Ordering::Relaxed) == round);
        match world.catch_up(Some(stops)).await {
            Ok(()) | Err(Failure::Stopped(_)) => {}
            Err(other) => panic!("round {round}: {other:?}"),
        }
        world.catch_up(None).await.unwrap();
        let [rows, distinct, ..] = world.dump().await;
        assert_eq!((rows, distinct), (expected, expected), "round {round}");
    }
    rebuilt_is_the_same(&world).await;
    world.erase().await;
}

/// What a crash of ClickHouse was seen to do: it knows an insert's token, and has lost its rows.
#[tokio::test]
async fn a_block_that_was_lost_while_its_token_stayed_is_written_again() {
    let world = World::new().await;
    world.append_visits(1, 5).await;
    let stops: Stops = Arc::new(|step| step == "advance");
    let stopped = world.catch_up(Some(stops)).await;
    assert!(matches!(stopped, Err(Failure::Stopped("advance"))), "{stopped:?}");
    assert_eq!(world.dump().await[0], 20);
    let events = format!("{}visits_1.events", world.rows.writer.prefix);
    for statement in [
        format!("ALTER TABLE {events} DELETE WHERE true SETTINGS mutations_sync = 2"),
        // Gone for good, so that nothing but the token is left of it.
        format!("OPTIMIZE TABLE {events} FINAL"),
    ] {
        world.rows.execute(&statement).await.unwrap();
    }
    assert_eq!(world.dump().await[0], 0);
    world.catch_up(None).await.unwrap();
    let [rows, distinct, ..] = world.dump().await;
    assert_eq!((rows, distinct), (20, 20));
    rebuilt_is_the_same(&world).await;
    world.erase().await;
}

#[tokio::test]
async fn a_run_that_is_cut_off_at_any_moment_loses_and_doubles_nothing() {
    let world = World::new().await;
    let mut expected = 0;
    for round in 0..25_u64 {
        world.append_visits(1_000 * (round + 1), 40).await;
        expected += 160;
        // Dropping the future is what a kill looks like from outside: requests that were sent go on.
        let moment = Duration::from_millis(round * 7);
        if let Ok(Err(failure)) = tokio::time::timeout(moment, world.catch_up(None)).await {
            panic!("round {round}: {failure:?}");
        }
    }
    world.catch_up(None).await.unwrap();
    let [rows, distinct, ..] = world.dump().await;
    assert_eq!((rows, distinct), (expected, expected));
    rebuilt_is_the_same(&world).await;
    world.erase().await;
}

/// A predecessor that is stopped when it has decided to write, and goes on when another has written the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_predecessor_sends_late_is_refused() {
    let world = World::new().await;
    world.append_visits(1, 5).await;
    let (stopped, at_insert) = tokio::sync::oneshot::channel();
    let (go_on, told) = std::sync::mpsc::sync_channel(1);
    let once = Mutex::new(Some((stopped, told)));
    let stops: Stops = Arc::new(move |step| {
        let first = (step == "insert events").then(|| once.lock().unwrap().take());
        if let Some((stopped, told)) = first.flatten() {
            stopped.send(()).unwrap();
            tokio::task::block_in_place(|| told.recv()).unwrap();
        }
        false
    });
    let (engines, plan) = (world.engines.clone(), plan(&world.log));
    let late = tokio::spawn(async move { one_run(&engines, &plan, Some(stops)).await });
    at_insert.await.unwrap();
    world.catch_up(None).await.unwrap();
    go_on.send(()).unwrap();
    let late = late.await.unwrap();
    let [rows, distinct, ..] = world.dump().await;
    assert_eq!((rows, distinct), (20, 20));
    assert!(
        matches!(late, Err(Failure::Insert(InsertError::Fenced))),
        "{late:?}"
    );
    world.erase().await;
}

/// The same log into empty databases gives the same rows.
async fn rebuilt_is_the_same(world: &World) {
    let (control, rows, engines) = tables(&world.log).await;
    one_run(&engines, &plan(&world.log), None).await.unwrap();
    let other = World {
        _folder: tempfile::tempdir().unwrap(),
        log: world.log.clone(),
        control,
        rows,
        engines,
    };
    let (one, again) = (world.dump().await, other.dump().await);
    other.engines.control.close().await;
    other.rows.erase().await.unwrap();
    other.control.erase().await.unwrap();
    assert_eq!(one, again);
}

/// Else it would be refused until it had taken over as often as its predecessors had since then, and then have the
/// fence of one of them.
#[tokio::test]
async fn when_postgres_is_back_at_an_older_state_whoever_takes_over_is_above_every_fence_at_once() {
    let world = World::new().await;
    world.append_visits(1, 10).await;
    world.catch_up(None).await.unwrap();
    let then = "CREATE TABLE checkpoints_then AS TABLE annals.checkpoints";
    world.control.execute(then).await.unwrap();
    for first in [100, 200, 300] {
        world.append_visits(first, 10).await;
        world.catch_up(None).await.unwrap();
    }
    let store = world.engines.rows.visits_store(1);
    let before = store.fences().await.unwrap();
    assert_eq!(before.len(), PARTITIONS as usize);
    let back = "BEGIN; DELETE FROM annals.checkpoints;
                INSERT INTO annals.checkpoints TABLE checkpoints_then; COMMIT";
    world.control.execute(back).await.unwrap();
    world.append_visits(400, 10).await;
    world.catch_up(None).await.unwrap();
    let [rows, distinct, ..] = world.dump().await;
    assert_eq!((rows, distinct), (200, 200));
    for (partition, fence) in store.fences().await.unwrap() {
        assert!(fence > before[&partition], "{fence} after {before:?}");
    }
    rebuilt_is_the_same(&world).await;
    world.erase().await;
}

#[tokio::test]
async fn tables_that_were_deleted_come_back_from_the_log() {
    let world = World::new().await;
    world.append_visits(1, 10).await;
    world.catch_up(None).await.unwrap();
    let before = world.dump().await;
    world.rows.writer().drop_generation("visits", 1).await.unwrap();
    world.catch_up(None).await.unwrap();
    assert_eq!(world.dump().await, before);
    world.erase().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_and_too_much_of_it_stops_its_partition_only() {
    let world = World::new().await;
    world.append_visits(1, 1).await;
    let partition = world.log.visits_partition(tenant(), VisitorId::new(1));
    let other = (2..20)
        .find(|visitor| world.log.visits_partition(tenant(), VisitorId::new(*visitor)) != partition)
        .unwrap();
    let garbage = || {
        let mut record = event_log::visits::encode(tenant(), &[recorded(7, 1, 0, false)]);
        record.value = b"[{\"specversion\":\"1.0\"}, nonsense"[..].into();
        record
    };
    let newer = || {
        let mut record = event_log::visits::encode(tenant(), &[recorded(7, 1, 0, false)]);
        let text = String::from_utf8(record.value.to_vec()).unwrap();
        record.value = text.replace(".v1\"", ".v2\"").into();
        record
    };
    // Nobody's, and more of it than may be parked.
    for _ in 0..12 {
        world.log.append(partition, garbage()).await.unwrap();
    }
    world.log.append(partition, newer()).await.unwrap();
    world.append_visits(other, 1).await;
    world.catch_up(None).await.unwrap();
    assert_eq!(world.dump().await[0], 8);
    let checkpoint = world
        .engines
        .control
        .take_over(Projection::Visits, 1, partition.index)
        .await
        .unwrap();
    assert_eq!(
        world
            .engines
            .control
            .parked_aggregates(&checkpoint)
            .await
            .unwrap(),
        1
    );
    for _ in 0..10 {
        world.log.append(partition, newer()).await.unwrap();
    }
    world.append_visits(other + 100, 20).await;
    let after = world.log.end(partition).await.unwrap();
    world.catch_up(None).await.unwrap();
    let checkpoint = async |index| {
        let control = &world.engines.control;
        control.take_over(Projection::Visits, 1, index).await.unwrap()
    };
    assert!(checkpoint(partition.index).await.next_offset < after);
    for other in world
        .log
        .all(event_log::Topic::Visits)
        .filter(|it| *it != partition)
    {
        let end = world.log.end(other).await.unwrap();
        assert_eq!(checkpoint(other.index).await.next_offset, end, "{other}");
    }
    // Also when more and more comes, and within one run.
    let [mut rows, ..] = world.dump().await;
    let (engines, plan) = (
        world.engines.clone(),
        Plan {
            until: Until::Shutdown,
            ..plan(&world.log)
        },
    );
    let running = tokio::spawn(async move { one_run(&engines, &plan, None).await });
    for first in [300, 400, 500] {
        world.append_visits(first, 10).await;
        let others = (first..first + 10)
            .filter(|visitor| world.log.visits_partition(tenant(), VisitorId::new(*visitor)) != partition);
        rows += 4 * others.count() as u64;
        let there = async {
            while world.dump().await[0] != rows && !running.is_finished() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), there)
            .await
            .unwrap();
        assert!(!running.is_finished(), "{:?}", running.await);
    }
    running.abort();
    world.erase().await;
}

/// As while a generation is built: whoever looks at the live one lets an event be passed over that this one comes to later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_skipped_while_a_run_goes_on_is_not_parked_by_it() {
    let world = World::new().await;
    world.append_visits(1, 1).await;
    let partition = world.log.visits_partition(tenant(), VisitorId::new(1));
    let mut newer = event_log::visits::encode(tenant(), &[recorded(7, 1, 0, false)]);
    let text = String::from_utf8(newer.value.to_vec()).unwrap();
    newer.value = text.replace(".v1\"", ".v2\"").into();
    let offset = world.log.append(partition, newer).await.unwrap();
    let (reached, at_fold) = tokio::sync::oneshot::channel();
    let (go_on, told) = std::sync::mpsc::sync_channel(1);
    let once = Mutex::new(Some((reached, told)));
    let stops: Stops = Arc::new(move |step| {
        let first = (step == "fold").then(|| once.lock().unwrap().take());
        if let Some((reached, told)) = first.flatten() {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| told.recv()).unwrap();
        }
        false
    });
    let (engines, plan) = (world.engines.clone(), plan(&world.log));
    let run = tokio::spawn(async move { one_run(&engines, &plan, Some(stops)).await });
    at_fold.await.unwrap();
    let skip = format!(
        "INSERT INTO annals.skipped VALUES ('visits', 'visits', {}, {offset}, 0, '{}', 'x', 'visit.page-viewed.v2', 'new',
                                            'k7Qm2ZxA', 'a test')",
        partition.index,
        tenant()
    );
    world.control.execute(&skip).await.unwrap();
    go_on.send(()).unwrap();
    run.await.unwrap().unwrap();
    let known = world.engines.control.generations(Some(Projection::Visits)).await;
    assert_eq!(known.unwrap()[0].parked, 0);
    assert_eq!(world.dump().await[0], 4);
    world.erase().await;
}

/// Stands between us and ClickHouse: passes everything on, but keeps the answers to inserts of events to itself.
async fn swallowing_answers(to: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
                let mut swallowing = false;
                loop {
                    tokio::select! {
                        count = here.read(&mut asked) => match count {
                            Ok(count @ 1..) => {
                                swallowing |= String::from_utf8_lossy(&asked[..count]).contains("INSERT%20INTO%20events")
                                    || String::from_utf8_lossy(&asked[..count]).contains("INSERT+INTO+events");
                                there.write_all(&asked[..count]).await.unwrap();
                            }
                            // The insert goes on without who asked for it.
                            Ok(0) | Err(_) => return,
                        },
                        count = there.read(&mut answered) => match count {
                            Ok(_) if swallowing => {}
                            Ok(count @ 1..) => drop(here.write_all(&answered[..count]).await),
                            Ok(0) | Err(_) => return,
                        },
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn an_insert_whose_answer_never_comes_is_looked_up_and_counts_once() {
    let world = World::new().await;
    world.append_visits(1, 3).await;
    let mut config = world.rows.writer.clone();
    config.url = swallowing_answers(config.url.trim_start_matches("http://").to_owned()).await;
    config.limits.write = Duration::from_secs(2);
    let engines = Engines {
        rows: read_models::clickhouse::Writer::new(&config),
        ..world.engines.clone()
    };
    match one_run(&engines, &plan(&world.log), None).await {
        Err(Failure::Insert(error)) => {
            let told = std::error::Error::source(&error).unwrap().to_string();
            assert!(told.contains("did not answer an insert into events"), "{told}");
        }
        other => panic!("{other:?}"),
    }
    world.catch_up(None).await.unwrap();
    let [events, distinct, ..] = world.dump().await;
    assert_eq!((events, distinct), (12, 12));
    world.erase().await;
}

/// How long catching up from zero takes:
/// `cargo test -p projectors --release --test visits -- --ignored --nocapture speed`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    const VISITS: u64 = 600_000;
    let world = World::new().await;
    let mut appends = Vec::new();
    for batch in 0..VISITS / 500 {
        // Every visitor of a batch belongs to the partition of the first, which is all the same to the fold.
        let events: Vec<Recorded> = (0..500)
            .map(|index| batch * 500 + index)
            .map(|number| {
                let minute = i64::try_from(number / 10_000).unwrap();
                recorded(
                    u128::from(number) + 1,
                    batch * 1_000 + number % 125,
                    minute,
                    false,
                )
            })
            .collect();
        let partition = world.log.visits_partition(tenant(), VisitorId::new(batch));
        appends.push(
            world
                .log
                .append(partition, event_log::visits::encode(tenant(), &events)),
        );
        if appends.len() == 16 {
            for append in appends.drain(..) {
                append.await.unwrap();
            }
        }
    }
    for append in appends {
        append.await.unwrap();
    }
    let began = std::time::Instant::now();
    world.catch_up(None).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(world.dump().await[0], VISITS);
    println!(
        "{VISITS} visits in {seconds:.1} s: {:.0}/s",
        VISITS as f64 / seconds
    );
    let again = std::time::Instant::now();
    let client = world.rows.reader().visits(1);
    let rows: u64 = client
        .query("SELECT count() FROM sessions FINAL")
        .fetch_one()
        .await
        .unwrap();
    println!("{rows} sessions, counted in {:?}", again.elapsed());
    world.erase().await;
}
