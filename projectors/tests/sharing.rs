//! Several projectors on one set of tables: each fills its share, whoever comes, ends, is gone or is silent.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
#[expect(dead_code, reason = "the log is another one: of several partitions")]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use event_log::{Log, LogConfig, Partition, Store};
use events::download;
use kit::{Appender, TestLog, TestTables, tenant, until};
use projectors::{
    content::ContentFold,
    runner::{
        Gather, Plan, Sink as _, Throttle, Until, Windows,
        clickhouse::{Engines, run_visits},
        drive,
        postgres::PostgresSink,
    },
};
use read_models::{Projection, Topic, Writer, members::Member, scratch::Scratch};
use service::health::{Health, State};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use world::{Numbers, World};

/// Of the ledger.
const PARTITIONS: u32 = 8;
/// The directory's one, each of the ledger's for content and downloads, visits and the facts as wholes.
const UNITS: usize = 1 + 2 * PARTITIONS as usize + 2;

/// Whoever waits for the silence of a holder waits for ever.
const NEVER_SILENT: &str = "UPDATE annals.checkpoints SET updated_at = now() + interval '1 hour'";

/// A log of several partitions, and the tables that several projectors fill from it.
struct Shared {
    world: World,
    writer: Writer,
    ledger: Vec<Appender>,
    written: u32,
}

/// One of the projectors.
struct One {
    health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), projectors::Error>>,
}

impl One {
    fn start(shared: &Shared) -> Self {
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let mut dependencies = shared.world.dependencies(Until::Shutdown);
        dependencies.health = health.clone();
        let run = projectors::run(dependencies, shared.world.config(), shutdown.clone());
        Self {
            health,
            shutdown,
            task: tokio::spawn(run),
        }
    }

    /// What it fills, or is about to, by the names under which it tells how that goes.
    fn units(&self) -> BTreeSet<String> {
        let checks = self.health.readiness().checks;
        checks
            .into_keys()
            .filter(|name| name.contains(" generation "))
            .collect()
    }

    fn is_well(&self) -> bool {
        let checks = self.health.readiness().checks;
        checks.values().all(|check| check.state == State::Ok)
    }

    fn says(&self, of: &str, what: &str) -> bool {
        let checks = self.health.readiness().checks;
        let told = checks.get(of).and_then(|check| check.detail.as_deref());
        told.is_some_and(|told| told.contains(what))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a process that is killed.
    async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

impl Shared {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig {
            store: Store::Embedded {
                dir: folder.path().to_owned(),
            },
            ledger_partitions: Some(PARTITIONS),
            visits_partitions: Some(3),
            development: true,
        };
        let log = Log::open(config).await.unwrap();
        let mut ledger = Vec::new();
        for index in 0..PARTITIONS {
            ledger.push(Appender::claim(log.clone(), Partition::ledger(index)).await);
        }
        let world = World::on(TestLog::of(log, folder)).await;
        Self {
            writer: world.writer().await,
            world,
            ledger,
            written: 0,
        }
    }

    /// A piece and a download in each partition of the ledger, and some visits.
    async fn write(&mut self) {
        self.written += 1;
        for (index, appender) in (0..).zip(&mut self.ledger) {
            let number = u128::from(index * 1_000 + self.written);
            let slug = format!("s{number}");
            let queued = download::Queued {
                title: slug.clone(),
                url: "https://example.org".into(),
                author: None,
                format: None,
                sha256: None,
                priority: 1,
            };
            let (owner, subject) = (tenant(100 + u128::from(index)), kit::piece(number).to_string());
            let drafted = (subject.clone(), 1, kit::drafted(number, &slug).into());
            appender.commit(owner, vec![drafted]).await;
            appender.commit(owner, vec![(subject, 1, queued.into())]).await;
        }
        self.world.visits(&mut Numbers(self.written.into()), 9).await;
    }

    /// Writes, and waits until it is in the tables.
    async fn show(&mut self) {
        self.write().await;
        let log = self.world.log.log.clone();
        for projection in Projection::ALL {
            let partitions: Vec<_> = match projection.topic() {
                Topic::Directory => vec![Partition::DIRECTORY],
                Topic::Ledger => (0..PARTITIONS).map(Partition::ledger).collect(),
                Topic::Visits => (0..3).map(Partition::visits).collect(),
            };
            let mut ends = Vec::new();
            for partition in partitions {
                ends.push(log.end(partition).await.unwrap());
            }
            let live = self.writer.live(projection).await.unwrap();
            until(&format!("{projection} to have all"), async || {
                let reached = self.writer.positions(projection, live).await.unwrap();
                (reached == ends).then_some(())
            })
            .await;
        }
    }

    async fn verify(&self) {
        for projection in Projection::ALL {
            let (outcome, differences) = self.world.verify(projection).await;
            assert!(outcome.equal, "{projection}: {differences:#?}");
        }
    }

    async fn execute(&self, statements: &str) {
        self.world.control.execute(statements).await.unwrap();
    }

    /// Whether this is so.
    async fn is(&self, condition: &str) -> bool {
        let asked = format!("DO $$ BEGIN ASSERT (SELECT {condition}); END $$");
        self.world.control.execute(&asked).await.is_ok()
    }
}

/// Waits until each has its share, and each unit is filled by one.
async fn dealt(what: &str, all: &[&One]) {
    until(what, async || {
        let units: Vec<_> = all.iter().map(|one| one.units()).collect();
        let count: usize = units.iter().map(BTreeSet::len).sum();
        let different: BTreeSet<_> = units.iter().flatten().collect();
        let each = units.iter().all(|it| !it.is_empty()) && all.iter().all(|one| one.is_well());
        (each && count == UNITS && different.len() == UNITS).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fills_its_share_and_whoever_remains_fills_all() {
    let mut shared = Shared::new().await;
    let first = One::start(&shared);
    dealt("one to fill all", &[&first]).await;
    shared.show().await;
    let second = One::start(&shared);
    dealt("two to share", &[&first, &second]).await;
    shared.show().await;
    // In order: nobody waits for its silence.
    first.stop().await;
    assert!(shared.is("count(*) = 1 FROM annals.projectors").await);
    dealt("the other to fill all", &[&second]).await;
    shared.show().await;
    let third = One::start(&shared);
    dealt("two to share again", &[&second, &third]).await;
    second.kill().await;
    shared.write().await;
    dealt("the third to fill all", &[&third]).await;
    shared.show().await;
    shared.verify().await;
    third.stop().await;
    // Of the one that was killed.
    assert!(shared.is("count(*) = 1 FROM annals.projectors").await);
    shared.world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_that_is_silent_is_left_to_it_and_then_filled_by_others() {
    let mut shared = Shared::new().await;
    let one = One::start(&shared);
    dealt("one to fill all", &[&one]).await;
    // Its connection lives and it says nothing more, as a process that is frozen.
    shared
        .execute(
            "INSERT INTO annals.projectors (id, fills, backend, seen_at)
             SELECT gen_random_uuid(), fills, backend, clock_timestamp() FROM annals.projectors",
        )
        .await;
    until("the one to leave it its share", async || {
        (one.units().len() < UNITS).then_some(())
    })
    .await;
    dealt("the one to fill all again", &[&one]).await;
    // One of another release, whose tables are not these, is left nothing.
    shared
        .execute(
            "INSERT INTO annals.projectors (id, fills, backend, seen_at)
             SELECT gen_random_uuid(), '{\"content\": \"another fold\"}', backend, clock_timestamp() FROM annals.projectors
             WHERE seen_at > now() - interval '3 seconds'",
        )
        .await;
    shared.show().await;
    assert_eq!(one.units().len(), UNITS);
    shared.verify().await;
    one.stop().await;
    shared.world.erase().await;
}

/// Whatever two believe, the fence lets one write, and the other does not take it back while that one is at work.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_believe_the_same_do_not_fence_each_other_to_and_fro() {
    const UNIT: &str = "projection content generation 1 of ledger/0";
    let fence = |fence: i64| {
        format!("fence = {fence} FROM annals.checkpoints WHERE projection = 'content' AND \"partition\" = 0")
    };
    let mut shared = Shared::new().await;
    let one = One::start(&shared);
    dealt("one to fill all", &[&one]).await;
    assert!(shared.is(&fence(1)).await);
    // It believes what no hint says.
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let tables = shared.writer.tables(Projection::Content, 1, 2);
    let sink = PostgresSink::<ContentFold>::new(shared.writer.clone(), tables, 0, kit::LIMIT);
    let plan = Plan {
        windows: Windows::new(shared.world.log.log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::Shutdown,
        health: health.register("another"),
        shutdown: shutdown.clone(),
    };
    let other = tokio::spawn(drive(sink, plan));
    until(
        "the other one to take over, and the first to notice without writing",
        async || one.says(UNIT, "standing by").then_some(()),
    )
    .await;
    for _ in 0..20 {
        shared.show().await;
    }
    assert!(shared.is(&fence(2)).await && one.says(UNIT, "standing by"));
    shutdown.cancel();
    other.await.unwrap();
    shared.execute(NEVER_SILENT).await;
    dealt("the first to go on", &[&one]).await;
    shared.show().await;
    assert!(shared.is(&fence(3)).await);
    shared.verify().await;
    one.stop().await;
    shared.world.erase().await;
}

/// In ClickHouse a takeover ends the insert of whoever had it, which must not look like an outage to that one.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_believe_the_same_of_visits_do_not_fence_each_other_to_and_fro() {
    const UNIT: &str = "projection visits generation 1";
    let mut shared = Shared::new().await;
    let one = One::start(&shared);
    dealt("one to fill all", &[&one]).await;
    shared.show().await;
    let (reader, rows) = (shared.world.rows.reader(), shared.world.rows.writer());
    let fences = async || {
        let visits = reader.visits(1);
        let asked =
            visits.query_raw("SELECT count() FROM fences WHERE log_partition = 0 AND owner != 'another'");
        asked.fetch_one::<u64>().await.unwrap()
    };
    assert_eq!(fences().await, 1);
    let engines = Engines {
        log: shared.world.log.log.clone(),
        control: shared.writer.clone(),
        rows,
        generation: 1,
        owner: "another".to_owned(),
        parking_limit: kit::LIMIT,
        keep_every: Engines::KEEP_EVERY,
    };
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let plan = Plan {
        windows: Windows::new(engines.log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::Shutdown,
        health: health.register("another"),
        shutdown: shutdown.clone(),
    };
    let other = tokio::spawn(run_visits(engines, plan));
    until(
        "the other one to take over, and the first to notice",
        async || one.says(UNIT, "standing by").then_some(()),
    )
    .await;
    for _ in 0..5 {
        shared.show().await;
    }
    assert_eq!(fences().await, 1);
    shutdown.cancel();
    other.await.unwrap();
    shared.execute(NEVER_SILENT).await;
    dealt("the first to go on", &[&one]).await;
    shared.show().await;
    assert!(fences().await > 1);
    shared.verify().await;
    one.stop().await;
    shared.world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_let_go_of_is_free_at_once() {
    let tables = TestTables::<ContentFold>::make().await;
    let (mut late, _) = tables.taken_over().await;
    let (mut holder, _) = tables.taken_over().await;
    assert!(!late.is_abandoned().await.unwrap());
    late.release().await.unwrap();
    assert!(
        !late.is_abandoned().await.unwrap(),
        "only its holder lets go of it"
    );
    holder.release().await.unwrap();
    assert!(late.is_abandoned().await.unwrap());
    late.take_over().await.unwrap();
    assert!(!holder.is_abandoned().await.unwrap());
    tables.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_heard_of_lately_is_there() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let member = |id| Member {
        id: Uuid::from_u128(id),
        fills: BTreeMap::from([("content".to_owned(), "a fold".to_owned())]),
    };
    let (mut one, mut other) = (writer.presence(member(1)), writer.presence(member(2)));
    let (session, cut_off) = (Duration::from_secs(600), Duration::from_secs(60));
    assert_eq!(one.tell(session, cut_off).await.unwrap(), []);
    assert_eq!(other.tell(session, cut_off).await.unwrap(), [member(1)]);
    assert_eq!(one.tell(session, cut_off).await.unwrap(), [member(2)]);
    other.leave().await.unwrap();
    // Of the first half of each pair the connection is there, of the second it is gone.
    let ghosts = "INSERT INTO annals.projectors (id, fills, backend, seen_at)
         SELECT uuid(lpad(ghost.id::text, 32, '0')), fills, CASE ghost.id % 2 WHEN 0 THEN backend ELSE 0 END,
                clock_timestamp() - ago::interval
         FROM annals.projectors, (VALUES (10, '1 second'), (11, '1 second'), (20, '5 minutes'), (21, '5 minutes'),
             (30, '1 hour'), (31, '1 hour'), (40, '-1 hour'), (41, '-1 hour'), (50, '2 days')) AS ghost (id, ago)";
    scratch.execute(ghosts).await.unwrap();
    let there = one.tell(session, cut_off).await.unwrap();
    let expected = [0x10, 0x11, 0x20].map(member);
    assert_eq!(there, expected);
    assert!(there[0].fills(Projection::Content, "a fold") && !there[0].fills(Projection::Content, "another"));
    let cleared = "DO $$ BEGIN ASSERT (SELECT count(*) = 9 FROM annals.projectors); END $$";
    scratch.execute(cleared).await.unwrap();
    one.leave().await.unwrap();
    scratch.erase().await.unwrap();
}

/// After an outage every other projector looks as if it were gone.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_all_are_seen_before_anything_moves() {
    const HEARD: &str = "other projectors";
    let mut shared = Shared::new().await;
    let both = [One::start(&shared), One::start(&shared)];
    dealt("two to share", &[&both[0], &both[1]]).await;
    let before = [both[0].units(), both[1].units()];
    shared
        .execute("ALTER TABLE annals.projectors RENAME TO away")
        .await;
    until("both to be unheard", async || {
        both.iter().all(|one| one.says(HEARD, "not told")).then_some(())
    })
    .await;
    shared
        .execute(
            "UPDATE annals.away SET seen_at = seen_at - interval '1 hour'; CREATE TABLE since AS SELECT now() AS at;
             ALTER TABLE annals.away RENAME TO projectors",
        )
        .await;
    until(
        "both to be heard of for longer than it takes to settle",
        async || {
            assert_eq!([both[0].units(), both[1].units()], before);
            let heard = "min(seen_at) > (SELECT at FROM since) + interval '5 seconds' FROM annals.projectors";
            shared.is(heard).await.then_some(())
        },
    )
    .await;
    dealt("both to be well", &[&both[0], &both[1]]).await;
    shared.show().await;
    shared.verify().await;
    for one in both {
        one.stop().await;
    }
    shared.world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_bound_is_filled_by_one_and_what_has_none_by_all() {
    let mut shared = Shared::new().await;
    let (first, second) = (One::start(&shared), One::start(&shared));
    dealt("two to share", &[&first, &second]).await;
    for _ in 0..5 {
        shared.show().await;
    }
    let content = Projection::Content;
    let fold = kit::fold(&shared.writer, content).await;
    let made = shared
        .writer
        .begin_rebuild(content, PARTITIONS, &fold, "a test", Some(1));
    assert_eq!(made.await.unwrap(), 2);
    let built = |one: &One| {
        one.units()
            .iter()
            .filter(|it| it.contains("content generation 2"))
            .count()
    };
    until("one to build all of it", async || {
        let built = [built(&first), built(&second)];
        assert!(built.contains(&0), "{built:?}");
        (built.iter().sum::<usize>() == PARTITIONS as usize).then_some(())
    })
    .await;
    shared
        .writer
        .steer_rebuild(content, 2, None, Some(0))
        .await
        .unwrap();
    until("it to answer", async || {
        (shared.writer.live(content).await.unwrap() == 2).then_some(())
    })
    .await;
    until("both to fill it", async || {
        let built = [built(&first), built(&second)];
        (built.iter().sum::<usize>() == PARTITIONS as usize).then_some(())
    })
    .await;
    shared.show().await;
    shared.verify().await;
    first.stop().await;
    second.stop().await;
    shared.world.erase().await;
}
