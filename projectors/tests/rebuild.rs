//! Rebuilds on real engines: beside the live generation, under load, killed again and again, proved before they
//! answer, and back again.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::time::{Duration, Instant};

use kit::{Running, fold, until};
use projectors::{
    content::ContentFold,
    runner::{Gather, Plan, Throttle, Until, Windows, drive, postgres::PostgresSink},
};
use read_models::{
    Error, Projection, Reader, Writer,
    content::list::{Filter, Page, Sort, list},
    progress::{Part, WaitError, Wanted},
};
use service::health::Health;
use tokio_util::sync::CancellationToken;
use world::{Numbers, World, verified};

async fn rebuild(writer: &Writer, projection: Projection, rate: Option<i32>) -> Result<i32, Error> {
    let fold = fold(writer, projection).await;
    writer.begin_rebuild(projection, 1, &fold, "a test", rate).await
}

async fn live(writer: &Writer, projection: Projection, generation: i32) {
    let what = format!("generation {generation} of {projection} to answer");
    until(&what, async || {
        (writer.live(projection).await.ok()? == generation).then_some(())
    })
    .await;
}

/// Pieces of the first tenant, as a query sees them that waits for this position.
async fn pieces(reader: &Reader, next_offset: u64) -> usize {
    let parts = [Part {
        topic: Projection::Content.topic(),
        partition: 0,
        next_offset,
    }];
    let wanted = Wanted {
        parts: &parts,
        ..Wanted::default()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    reader
        .progress()
        .wait(Projection::Content, &wanted, deadline)
        .await
        .unwrap();
    let filter = Filter {
        tenant: kit::tenant(0).uuid(),
        ..Filter::default()
    };
    let at = reader.live(Projection::Content).unwrap();
    let rows = list(
        &at,
        &filter,
        Sort::parse("title").unwrap(),
        &Page::Skip(0),
        10_000,
    )
    .await;
    rows.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_load_is_never_seen_and_can_be_taken_back() {
    let mut world = World::make().await;
    world.live(11).await;
    world.fold().await;
    let writer = world.writer().await;
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    let reader = Reader::connect(&world.control.reader_url(), 2).unwrap();
    reader.progress().until_live(Projection::Content).await;
    let begun = pieces(&reader, 1).await;
    for projection in Projection::ALL {
        assert_eq!(rebuild(&writer, projection, None).await.unwrap(), 2);
        let again = rebuild(&writer, projection, None).await;
        assert!(
            matches!(again, Err(Error::Building { generation: 2, .. })),
            "{again:?}"
        );
    }
    let (mut numbers, mut made) = (Numbers(4), 0);
    let mut waiting = Projection::ALL.to_vec();
    let deadline = Instant::now() + Duration::from_secs(60);
    // What was written is read at its position, whichever generation answers.
    while !waiting.is_empty() {
        assert!(Instant::now() < deadline, "{waiting:?} do not answer");
        made += 1;
        let (piece, slug) = (kit::piece(5_000 + made), format!("s{made}"));
        let drafted = kit::drafted(made, &slug).into();
        let at = world
            .log
            .ledger
            .commit(kit::tenant(0), vec![(piece.to_string(), 1, drafted)])
            .await;
        assert_eq!(pieces(&reader, at).await, begun + made as usize);
        world.visits(&mut numbers, 6).await;
        let mut still = Vec::new();
        for projection in waiting {
            if writer.live(projection).await.unwrap() != 2 {
                still.push(projection);
            }
        }
        waiting = still;
    }
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.generation == 2,
            "{projection}: {differences:#?}"
        );
        let shown = async || {
            let known = writer.generations(Some(projection)).await.ok()?;
            known
                .iter()
                .any(|it| it.generation == 2 && it.shown)
                .then_some(())
        };
        until("the analysts' views to follow", shown).await;
    }
    let definition: String = world
        .rows
        .live()
        .query_raw("SHOW CREATE TABLE sessions")
        .fetch_one()
        .await
        .unwrap();
    assert!(definition.contains("visits_2.sessions"), "{definition}");

    // The one before is kept up to date, so the way back is open.
    let at = world
        .log
        .ledger
        .commit(
            kit::tenant(0),
            vec![(kit::piece(9_999).to_string(), 1, kit::drafted(1, "z").into())],
        )
        .await;
    world.visits(&mut numbers, 6).await;
    for projection in Projection::ALL {
        let before = writer.before(projection).await.unwrap().unwrap().generation;
        // It says when it is behind; then one tries again.
        let back = until("the one before to come up", async || {
            match writer.switch(projection, before).await {
                Err(read_models::Error::Behind { .. }) => None,
                switched => Some(switched.unwrap()),
            }
        });
        assert_eq!((before, back.await), (1, 2));
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.generation == 1,
            "{projection}: {differences:#?}"
        );
        let refused = writer.erase_generation(projection, 1).await;
        assert!(matches!(refused, Err(Error::IsLive { .. })), "{refused:?}");
        let dropped = async || match writer.erase_generation(projection, 2).await {
            Err(Error::IsShown { .. }) => None,
            dropped => dropped.map(Some).unwrap(),
        };
        until("the analysts' views to lead away from it", dropped).await;
    }
    assert_eq!(pieces(&reader, at).await, begun + made as usize + 1);
    running.stop().await;
    world.erase().await;
}

/// Whoever reads which generation answers and then where it stands must not read of two moments.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_while_somebody_looks_makes_no_position_unknown() {
    let mut world = World::make().await;
    world.live(5).await;
    world.fold().await;
    let writer = world.writer().await;
    rebuild(&writer, Projection::Content, None).await.unwrap();
    world.fold().await;
    assert_eq!(writer.live(Projection::Content).await.unwrap(), 2);
    let end = writer.positions(Projection::Content, 2).await.unwrap()[0];
    let reader = Reader::connect(&world.control.reader_url(), 2).unwrap();
    let live = reader.progress().until_live(Projection::Content);
    tokio::time::timeout(Duration::from_secs(30), live)
        .await
        .expect("tables that answer");
    assert!(pieces(&reader, end).await > 0);
    // Held between the two, until the switch is done.
    let switch = "BEGIN;
        LOCK TABLE annals.checkpoints IN ACCESS EXCLUSIVE MODE;
        DO $$ BEGIN
            WHILE NOT EXISTS (
                SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'annals.checkpoints'::regclass
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) LOOP
                PERFORM pg_sleep(0.01);
            END LOOP;
        END $$;
        UPDATE annals.live SET generation = 1 WHERE projection = 'content';
        COMMIT";
    let parts = [Part {
        topic: Projection::Content.topic(),
        partition: 0,
        next_offset: end + 1,
    }];
    let wanted = Wanted {
        parts: &parts,
        ..Wanted::default()
    };
    let deadline = Instant::now() + Duration::from_secs(3);
    let waiting = reader.progress().wait(Projection::Content, &wanted, deadline);
    let (waited, ()) = tokio::join!(waiting, async { world.control.execute(switch).await.unwrap() });
    let projection = Projection::Content;
    assert_eq!(waited, Err(WaitError::Behind { projection }));
    assert_eq!(writer.live(projection).await.unwrap(), 1);
    world.erase().await;
}

/// What another release was building may be what answers a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_starts_while_another_one_switches_takes_nothing_away() {
    let mut world = World::make().await;
    world.live(3).await;
    world.fold().await;
    let writer = world.writer().await;
    rebuild(&writer, Projection::Content, None).await.unwrap();
    // As the switch does it, held until the other one has come as far as it gets.
    let switch = "BEGIN;
        SELECT generation FROM annals.live WHERE projection = 'content' FOR UPDATE;
        SELECT state FROM annals.generations WHERE projection = 'content' AND generation = 2 FOR UPDATE;
        DO $$ BEGIN
            WHILE NOT EXISTS (
                SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
            ) LOOP
                PERFORM pg_sleep(0.01);
            END LOOP;
        END $$;
        UPDATE annals.generations SET state = CASE generation WHEN 2 THEN 'live' ELSE 'kept' END,
            kept_since = CASE generation WHEN 2 THEN NULL ELSE now() END
        WHERE projection = 'content';
        UPDATE annals.live SET generation = 2 WHERE projection = 'content';
        DELETE FROM annals.rebuilds WHERE projection = 'content';
        COMMIT";
    let held = "DO $$ BEGIN
        ASSERT EXISTS (
            SELECT 1 FROM pg_locks WHERE granted AND mode = 'RowShareLock' AND pid <> pg_backend_pid()
            AND relation = 'annals.generations'::regclass
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));
        END $$";
    let starting = async {
        until("the switch to have begun", async || {
            world.control.execute(held).await.ok()
        })
        .await;
        writer
            .prepare(Projection::Content, 1, "the fold of another release")
            .await
    };
    let (started, ()) = tokio::join!(starting, async { world.control.execute(switch).await.unwrap() });
    assert_eq!(started.unwrap().number, 3);
    assert_eq!(writer.live(Projection::Content).await.unwrap(), 2);
    let known = writer.generations(Some(Projection::Content)).await.unwrap();
    let states: Vec<_> = known
        .iter()
        .map(|it| (it.generation, it.state.as_str()))
        .collect();
    assert_eq!(states, [(1, "kept"), (2, "live"), (3, "building")]);
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fold_is_built_beside_the_one_that_answers() {
    let mut world = World::make().await;
    world.live(12).await;
    world.fold().await;
    let writer = world.writer().await;
    // As if another release had made them.
    world
        .control
        .execute("UPDATE annals.generations SET fold_hash = 'another release'")
        .await
        .unwrap();
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    reader.progress().until_live(Projection::Content).await;
    let before = pieces(&reader, 1).await;
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    // At every moment there is an answer, and a whole one.
    while writer.live(Projection::Content).await.unwrap() == 1 {
        assert_eq!(pieces(&reader, 1).await, before);
    }
    for projection in Projection::ALL {
        live(&writer, projection, 2).await;
        let (outcome, differences) = world.verify(projection).await;
        assert!(outcome.equal, "{projection}: {differences:#?}");
        let known = writer.generations(Some(projection)).await.unwrap();
        let states: Vec<_> = known.iter().map(|it| it.state.as_str()).collect();
        assert_eq!(states, ["kept", "live"]);
    }
    assert_eq!(pieces(&reader, 1).await, before);
    // What another release made is not filled here, so it falls behind and is no way back.
    let at = world
        .log
        .ledger
        .commit(
            kit::tenant(0),
            vec![(kit::piece(9_998).to_string(), 1, kit::drafted(1, "y").into())],
        )
        .await;
    assert_eq!(pieces(&reader, at).await, before + 1);
    let back = writer.switch(Projection::Content, 1).await;
    assert!(matches!(back, Err(Error::Behind { .. })), "{back:?}");
    running.stop().await;
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_is_not_what_the_log_says_does_not_answer() {
    let mut world = World::make().await;
    world.live(13).await;
    world.fold().await;
    let writer = world.writer().await;
    let content = Projection::Content;
    rebuild(&writer, content, None).await.unwrap();
    writer.steer_rebuild(content, 2, Some(true), None).await.unwrap();
    // Paused: whoever runs leaves it alone.
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    let end = world.log.log.end(event_log::Partition::ledger(0)).await.unwrap();
    until("the live one to be there", async || {
        (writer.positions(content, 1).await.ok()? == [end]).then_some(())
    })
    .await;
    assert_eq!(writer.positions(content, 2).await.unwrap(), [0]);
    running.stop().await;
    // Filled by hand, and damaged.
    let sink = PostgresSink::<ContentFold>::new(writer.clone(), writer.tables(content, 2, 1), 0, 1_000);
    let plan = Plan {
        windows: Windows::new(world.log.log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::CaughtUp,
        health: Health::new().register("by hand"),
        shutdown: CancellationToken::new(),
    };
    drive(sink, plan).await;
    let damage = "UPDATE content_2.content SET title = 'by hand' WHERE content = (SELECT min(content::text)::uuid FROM content_2.content)";
    world.control.execute(damage).await.unwrap();
    writer.steer_rebuild(content, 2, Some(false), None).await.unwrap();
    world.fold().await;
    let failure = async || {
        let known = writer.generations(Some(content)).await.unwrap();
        known[1].failure.clone()
    };
    let why = failure().await.unwrap();
    assert!(
        why.contains("1 rows are not what the log says") && why.contains("Differs"),
        "{why}"
    );
    assert_eq!(writer.live(content).await.unwrap(), 1);
    // Mended, it has parked something that the live one has not.
    world
        .control
        .execute(
            "UPDATE content_2.content n SET title = o.title FROM content_1.content o WHERE o.content = n.content;
             INSERT INTO annals.parked_aggregates (projection, generation, tenant, subject, topic, partition, since, reason)
             VALUES ('content', 2, gen_random_uuid(), 'nobody', 'ledger', 0, 1, 'a test')",
        )
        .await
        .unwrap();
    writer.steer_rebuild(content, 2, Some(false), None).await.unwrap();
    world.fold().await;
    let why = failure().await.unwrap();
    assert!(why.contains("has parked nobody"), "{why}");
    world
        .control
        .execute("DELETE FROM annals.parked_aggregates WHERE subject = 'nobody'")
        .await
        .unwrap();
    writer.steer_rebuild(content, 2, Some(false), None).await.unwrap();
    world.fold().await;
    assert_eq!(writer.live(content).await.unwrap(), 2);
    world.erase().await;
}

/// As after a kill between the filling of tables and the making of their indexes.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_next_makes_the_indexes_that_are_missing() {
    let mut world = World::make().await;
    world.live(15).await;
    world.fold().await;
    let writer = world.writer().await;
    let stored = [Projection::Directory, Projection::Content, Projection::Downloads];
    for projection in stored {
        // Another projector may believe that it is empty, and be late.
        writer.index_later(projection, 1).await.unwrap();
        assert!(writer.is_indexed(projection, 1).await.unwrap(), "{projection}");
        rebuild(&writer, projection, None).await.unwrap();
        writer.index_later(projection, 2).await.unwrap();
        assert!(!writer.is_indexed(projection, 2).await.unwrap(), "{projection}");
        for generation in [1, 2] {
            writer.drop_indexes(projection, generation).await.unwrap();
            assert!(
                !writer.is_indexed(projection, generation).await.unwrap(),
                "{projection}"
            );
        }
    }
    world.fold().await;
    for projection in stored {
        assert_eq!(writer.live(projection).await.unwrap(), 2, "{projection}");
        for generation in [1, 2] {
            assert!(
                writer.is_indexed(projection, generation).await.unwrap(),
                "{projection}"
            );
        }
    }
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_again_and_again_comes_to_its_end() {
    let mut world = World::make().await;
    world.live(14).await;
    world.fold().await;
    let writer = world.writer().await;
    for projection in Projection::ALL {
        rebuild(&writer, projection, Some(400)).await.unwrap();
    }
    // A bound holds it up, a kill ends it in the middle of whatever it does; later each time, so that it ends.
    for round in 0..12_u64 {
        let run = projectors::run(
            world.dependencies(Until::Shutdown),
            world.config(),
            CancellationToken::new(),
        );
        let _ = tokio::time::timeout(Duration::from_millis(120 + 90 * round), run).await;
    }
    for projection in Projection::ALL {
        // It may have become live before the last kill.
        let _ = writer.steer_rebuild(projection, 2, None, Some(0)).await;
    }
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    for projection in Projection::ALL {
        live(&writer, projection, 2).await;
        let verifier = world.verifier().await;
        for generation in [1, 2] {
            let (outcome, differences) = verified(&verifier, projection, Some(generation)).await;
            assert!(outcome.equal, "{projection} {generation}: {differences:#?}");
        }
    }
    running.stop().await;
    world.erase().await;
}

/// A bound is on what others may feel: also at the beginning, and when somebody pauses and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_holds_from_the_first_event_on_and_through_pauses() {
    const RATE: i32 = 10;
    let mut world = World::make().await;
    world.live(15).await;
    world.fold().await;
    let writer = world.writer().await;
    let content = Projection::Content;
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    let began = Instant::now();
    rebuild(&writer, content, Some(RATE)).await.unwrap();
    let position = async || writer.positions(content, 2).await.ok()?.first().copied();
    // As its runner, which ends when it is paused, tells of itself.
    let is_filled = || {
        let checks = world.health.readiness().checks;
        checks.keys().any(|name| name.contains("content generation 2"))
    };
    let mut before = 0;
    for _ in 0..6 {
        let further = until("the next events", async || {
            position().await.filter(|now| *now > before)
        });
        before = further.await;
        // A second's worth is written before it is waited for; a claim and the genesis are no events.
        let bound = (began.elapsed().as_secs_f64() + 1.0) * f64::from(RATE) + 3.0;
        assert!(
            (before as f64) <= bound,
            "{before} records, and at most {bound} may be there"
        );
        writer.steer_rebuild(content, 2, Some(true), None).await.unwrap();
        until("the pause", async || (!is_filled()).then_some(())).await;
        writer.steer_rebuild(content, 2, Some(false), None).await.unwrap();
        until("it to go on", async || is_filled().then_some(())).await;
    }
    running.stop().await;
    world.erase().await;
}
