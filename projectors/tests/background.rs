//! Verification that nobody asks for, on real engines: damage is found, and nothing else is taken for damage.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::{
    collections::HashMap,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use projectors::{Config, run::Dependencies, runner::Until, verify::background::Background};
use read_models::{Projection, generation::Known};
use service::health::State;
use tokio_util::sync::CancellationToken;
use world::{Numbers, World};

/// What was logged, over all tests of this file.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The live generations, by projection.
async fn live(world: &World) -> HashMap<Projection, Known> {
    let writer = world.writer().await;
    let known = writer.generations(None).await.unwrap();
    writer.close().await;
    let live = known.into_iter().filter(|it| it.state == "live");
    live.map(|it| (it.projection.parse().unwrap(), it)).collect()
}

/// Looks until what is known of the live generations is so.
async fn until(world: &World, what: &str, is_so: impl Fn(&HashMap<Projection, Known>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let live = live(world).await;
        if is_so(&live) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not within a minute: {what}; {live:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Verification by itself, with little memory.
async fn background(world: &World, bytes: usize, rate: u32) -> Background {
    let hashes = live(world)
        .await
        .into_iter()
        .map(|(name, it)| (name, it.fold_hash));
    let on = (world.log.log.clone(), world.writer().await, world.rows.writer());
    Background::new(on, hashes.collect(), rate, Duration::from_millis(100)).within(bytes)
}

/// Runs it as long as something is done.
async fn while_it_runs(background: Background, work: impl Future<Output = ()>) {
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(background.run(shutdown.clone()));
    work.await;
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_found_and_told_without_anyone_asking() {
    let lines = Lines::default();
    let told = lines.clone();
    tracing_subscriber::fmt()
        .json()
        .with_writer(move || told.clone())
        .init();
    let mut world = World::make().await;
    world.live(21).await;
    world.fold().await;
    let config = Config {
        verify_rate: 1_000_000,
        verify_every_seconds: 1,
        ..world.config()
    };
    let shutdown = CancellationToken::new();
    let dependencies: Dependencies = world.dependencies(Until::Shutdown);
    let running = tokio::spawn(projectors::run(dependencies, config, shutdown.clone()));
    until(&world, "everything was verified whole", |live| {
        live.values().all(|it| it.whole_at.is_some())
    })
    .await;
    for (projection, known) in live(&world).await {
        assert_eq!(known.differing, 0, "{projection} is not damaged");
        assert!(
            known.whole_compared > Some(0),
            "{projection} was compared with nothing"
        );
    }

    world
        .control
        .execute("CREATE TABLE public.kept AS SELECT content, title FROM content_1.content; UPDATE content_1.content SET title = 'by hand' WHERE content = (SELECT min(content::text)::uuid FROM content_1.content)")
        .await
        .unwrap();
    let events = format!("{}visits_1.events", world.rows.writer.prefix);
    let damage = format!(
        "ALTER TABLE {events} UPDATE pathname = '/by-hand' WHERE log_offset = 7 AND log_index = 1 SETTINGS mutations_sync = 1"
    );
    world.rows.execute(&damage).await.unwrap();
    until(&world, "both damaged rows were found", |live| {
        live[&Projection::Content].differing == 1 && live[&Projection::Visits].differing == 1
    })
    .await;
    until(&world, "readiness is degraded", |_| {
        let readiness = world.health.readiness();
        let named = |name: &str| readiness.degraded.iter().any(|it| it == name);
        readiness.state == State::Degraded
            && named("verification of content")
            && named("verification of visits")
            && !named("verification of downloads")
    })
    .await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let row = |table: &str| -> serde_json::Value {
        let mut rows = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let found = rows.find(|it| {
            it["level"] == "ERROR"
                && it["fields"]["message"] == "a row is not what the log says"
                && it["fields"]["table"] == table
        });
        found.unwrap_or_else(|| panic!("no line about {table}: {text}"))["fields"].clone()
    };
    let title = row("content");
    assert_eq!(title["store"], r#"{"title":"by hand"}"#);
    assert_ne!(title["log"], title["store"]);
    let tenant = title["tenant"].as_str().unwrap();
    assert!(title["row"].as_str().unwrap().starts_with(tenant), "{title}");
    let path = row("events");
    assert_eq!(
        (&path["row"], &path["store"]),
        (&"0/7/1".into(), &r#"{"pathname":"/by-hand"}"#.into())
    );
    assert!(path["tenant"].is_string(), "{path}");

    // What is put in order again is no difference in the round after.
    world
        .control
        .execute("UPDATE content_1.content c SET title = kept.title FROM public.kept WHERE kept.content = c.content AND c.title = 'by hand'")
        .await
        .unwrap();
    until(&world, "the row that was put in order is not told of", |live| {
        live[&Projection::Content].differing == 0
    })
    .await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_that_fit_are_found_and_events_that_arrive_meanwhile_are_no_difference() {
    let mut world = World::make().await;
    world.live(22).await;
    world.fold().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(projectors::run(
        world.dependencies(Until::Shutdown),
        world.config(),
        shutdown.clone(),
    ));
    // So slowly that much arrives while a slice is read.
    let verifying = CancellationToken::new();
    let verified = tokio::spawn(background(&world, 400_000, 1_500).await.run(verifying.clone()));
    let mut numbers = Numbers(2);
    let mut number = 1_000;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        world.visits(&mut numbers, 12).await;
        number += 1;
        let piece = kit::piece(number).to_string();
        let drafted = kit::drafted(number, &format!("s{number}"));
        world
            .log
            .ledger
            .commit(kit::tenant(0), vec![(piece, 1, drafted.into())])
            .await;
        let live = live(&world).await;
        for (projection, known) in &live {
            assert_eq!(known.differing, 0, "{projection}: {known:?}");
        }
        if live.values().all(|it| it.whole_at.is_some()) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "not verified whole within two minutes: {live:#?}"
        );
    }
    verifying.cancel();
    verified.await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_slices_that_are_small_enough() {
    let mut world = World::make().await;
    world.live(23).await;
    world.fold().await;
    let (one, other) = (
        background(&world, 20_000, 1_000_000).await,
        background(&world, 20_000, 1_000_000).await,
    );
    let whole = async {
        until(&world, "everything was verified whole", |live| {
            live.values().all(|it| it.whole_at.is_some())
        })
        .await;
    };
    while_it_runs(one, while_it_runs(other, whole)).await;
    for projection in Projection::ALL {
        let rows = world.verify(projection).await.0.rows;
        let known = &live(&world).await[&projection];
        assert_eq!(known.differing, 0, "{projection}");
        // Each slice counts once, whoever compared it.
        assert_eq!(known.whole_compared.unwrap().unsigned_abs(), rows, "{projection}");
    }
    let sliced = "DO $$ BEGIN ASSERT (SELECT min(slices) > 1 FROM annals.verified WHERE projection IN ('content', 'downloads')); END $$";
    world.control.execute(sliced).await.unwrap();
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_difference() {
    let mut world = World::make().await;
    world.live(24).await;
    world.fold().await;
    let there = world.rows.writer.url.clone();
    // Nobody listens on this port.
    world.rows.writer.url = "http://127.0.0.1:1".to_owned();
    let without_clickhouse = background(&world, 1 << 20, 1_000).await;
    let cut = async {
        let deadline = Instant::now() + Duration::from_secs(60);
        let verified = |live: &HashMap<Projection, Known>| {
            [Projection::Directory, Projection::Content, Projection::Downloads]
                .iter()
                .all(|it| live[it].whole_at.is_some())
        };
        // PostgreSQL ends every session again and again, ever more seldom.
        for pause in (10..).map(|n: u64| Duration::from_millis(n * n)) {
            world.control.disconnect_all().await.unwrap();
            tokio::time::sleep(pause).await;
            if verified(&live(&world).await) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not verified whole between two outages"
            );
        }
    };
    while_it_runs(without_clickhouse, cut).await;
    let known = live(&world).await;
    for (projection, known) in &known {
        assert_eq!(known.differing, 0, "{projection}: {known:?}");
    }
    assert!(
        known[&Projection::Visits].looked_at.is_none(),
        "nothing was compared"
    );
    world.rows.writer.url = there;
    let whole = until(&world, "visits were verified whole", |live| {
        live[&Projection::Visits].whole_at.is_some()
    });
    while_it_runs(background(&world, 1 << 20, 1_000_000).await, whole).await;
    assert_eq!(live(&world).await[&Projection::Visits].differing, 0);
    world.erase().await;
}
