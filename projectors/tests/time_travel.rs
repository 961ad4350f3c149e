//! Projections as they were at a position or a time, on real engines: exactly the fold of that prefix while commands go
//! on, killed again and again, proved before they are frozen, and never in the way of the live ones.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use events::directory;
use kit::{Running, fold, until};
use projectors::{
    content::ContentFold,
    runner::{Gather, Plan, Throttle, Until, Windows, drive, postgres::PostgresSink},
};
use read_models::{
    Error, Projection, Reader, Writer,
    generation::frozen::{Cut, Freeze, Name},
    standing::{Slice, tables},
};
use service::health::Health;
use tokio_util::sync::CancellationToken;
use world::{Numbers, World, verified};

/// A projection at one moment.
struct Was {
    rows: BTreeMap<&'static str, Vec<String>>,
    places: Vec<u64>,
    time: DateTime<Utc>,
}

/// Every row of a generation, in order, whichever store has it.
async fn holds(
    world: &World,
    projection: Projection,
    generation: i32,
) -> BTreeMap<&'static str, Vec<String>> {
    let writer = world.writer().await;
    let mut standing = writer.standing(projection, Some(generation)).await.unwrap();
    let mut found = BTreeMap::new();
    for table in tables(projection) {
        let rows = match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => {
                standing.rows(table, Slice::WHOLE).await.unwrap()
            }
            Projection::Visits | Projection::ContentFacts => {
                let rows = world.rows.writer();
                let asked = rows.rows(projection, generation, table, Slice::WHOLE, "1");
                asked.await.unwrap()
            }
        };
        let rows = rows.all().await.unwrap().into_iter();
        let mut rows: Vec<String> = rows.map(|row| serde_json::Value::from(row).to_string()).collect();
        rows.sort();
        found.insert(table.name, rows);
    }
    standing.end().await.unwrap();
    found
}

/// Every projection as it is now, and when that is.
async fn now(world: &World) -> BTreeMap<Projection, Was> {
    let writer = world.writer().await;
    let mut then = BTreeMap::new();
    for projection in Projection::ALL {
        let time = match projection {
            Projection::Directory => world.log.directory.now().to_utc(),
            Projection::Content | Projection::Downloads | Projection::ContentFacts => {
                world.log.ledger.now().to_utc()
            }
            // These are recorded by the log's own clock.
            Projection::Visits => Utc::now(),
        };
        let was = Was {
            rows: holds(world, projection, 1).await,
            places: writer.positions(projection, 1).await.unwrap(),
            time,
        };
        assert!(was.rows.values().all(|rows| !rows.is_empty()), "{projection}");
        then.insert(projection, was);
    }
    then
}

fn name(projection: Projection, rest: &str) -> Name {
    Name::parse(projection, &format!("{projection}_{rest}")).unwrap()
}

async fn freeze(
    writer: &Writer,
    projection: Projection,
    rest: &str,
    cut: &Cut,
    rate: Option<i32>,
) -> Result<i32, Error> {
    let freeze = Freeze {
        projection,
        partitions: 1,
        fold: &fold(writer, projection).await,
        name: &name(projection, rest),
        until: "as a test has it",
        cut,
        why: "a test",
        rate,
    };
    writer.begin_freeze(&freeze).await
}

async fn state(writer: &Writer, projection: Projection, generation: i32) -> Option<String> {
    let known = writer.generations(Some(projection)).await.unwrap();
    known
        .into_iter()
        .find(|it| it.generation == generation)
        .map(|it| it.state)
}

async fn frozen(writer: &Writer, projection: Projection, generation: i32) {
    let what = format!("generation {generation} of {projection} to be frozen");
    until(&what, async || {
        (state(writer, projection, generation).await? == "frozen").then_some(())
    })
    .await;
}

/// Something later in every topic.
async fn later(world: &mut World, numbers: &mut Numbers, made: &mut u128) {
    *made += 1;
    let (piece, tenant) = (kit::piece(5_000 + *made), kit::tenant(100 + *made));
    let drafted = kit::drafted(*made, &format!("s{made}")).into();
    let ledger = &mut world.log.ledger;
    ledger
        .commit(kit::tenant(0), vec![(piece.to_string(), 1, drafted)])
        .await;
    let retitled = events::content::Revised {
        title: Some(format!("Later {made}")),
        ..Default::default()
    };
    ledger
        .commit(kit::tenant(0), vec![(piece.to_string(), 2, retitled.into())])
        .await;
    let created = directory::TenantCreated {
        name: format!("later {made}"),
    };
    let directory = &mut world.log.directory;
    directory
        .commit(tenant, vec![(tenant.to_string(), 1, created.into())])
        .await;
    world.visits(numbers, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_by_position_or_time_is_the_fold_of_that_prefix_while_commands_go_on() {
    let mut world = World::make().await;
    world.live(21).await;
    world.fold().await;
    let then = now(&world).await;
    let (mut numbers, mut made) = (Numbers(7), 0);
    later(&mut world, &mut numbers, &mut made).await;
    let writer = world.writer().await;
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    for (generation, rest) in [(2, "at"), (3, "at_a_time")] {
        for (projection, was) in &then {
            let cut = match rest {
                "at" => Cut::Places(was.places.clone()),
                _ => Cut::Time(was.time),
            };
            let begun = freeze(&writer, *projection, rest, &cut, None).await.unwrap();
            assert_eq!(begun, generation);
        }
        for projection in Projection::ALL {
            while state(&writer, projection, generation).await.as_deref() != Some("frozen") {
                later(&mut world, &mut numbers, &mut made).await;
                let asked = reader.frozen(&name(projection, rest)).await.unwrap().unwrap();
                assert_eq!(asked.generation, generation);
                let why = writer.generations(Some(projection)).await.unwrap();
                assert!(why.iter().all(|it| it.failure.is_none()), "{why:#?}");
            }
        }
    }
    let other = Cut::Places(vec![1]);
    let again = freeze(&writer, Projection::Content, "at", &other, None).await;
    assert!(matches!(again, Err(Error::NameTaken(_))), "{again:?}");
    later(&mut world, &mut numbers, &mut made).await;
    running.stop().await;
    // Nobody goes on with them, now or after a new start.
    world.fold().await;
    let verifier = world.verifier().await;
    for (projection, was) in &then {
        for (generation, rest) in [(2, "at"), (3, "at_a_time")] {
            assert_eq!(
                writer.positions(*projection, generation).await.unwrap(),
                was.places
            );
            assert_eq!(
                holds(&world, *projection, generation).await,
                was.rows,
                "{projection} {rest}"
            );
            let (outcome, differences) = verified(&verifier, *projection, Some(generation)).await;
            assert!(
                outcome.equal && outcome.position == was.places,
                "{differences:#?}"
            );
            let refused = writer.switch(*projection, generation).await;
            assert!(matches!(refused, Err(Error::Frozen { .. })), "{refused:?}");
            assert!(
                reader
                    .frozen(&name(*projection, rest))
                    .await
                    .unwrap()
                    .unwrap()
                    .ready
            );
        }
        // The live one is untouched by all this, and goes on.
        assert_eq!(writer.live(*projection).await.unwrap(), 1);
        assert!(writer.before(*projection).await.unwrap().is_none());
        let (outcome, differences) = verified(&verifier, *projection, None).await;
        assert!(outcome.equal && outcome.generation == 1, "{differences:#?}");
        assert!(outcome.position > was.places, "{projection}");
    }
    analysts_find_visits(&world, then[&Projection::Visits].rows["events"].len()).await;
    for projection in Projection::ALL {
        writer.erase_generation(projection, 2).await.unwrap();
        assert_eq!(reader.frozen(&name(projection, "at")).await.unwrap(), None);
        assert!(
            reader
                .frozen(&name(projection, "at_a_time"))
                .await
                .unwrap()
                .is_some()
        );
    }
    world.erase().await;
}

/// They see the rows of the tenants that they were given.
async fn analysts_find_visits(world: &World, rows: usize) {
    let count = async || -> u64 {
        let asked = world
            .rows
            .frozen("visits_at")
            .query_raw("SELECT count() FROM events");
        asked.fetch_one().await.unwrap()
    };
    assert_eq!(count().await, 0);
    let (prefix, user) = (&world.rows.writer.prefix, &world.rows.analyst.user);
    let admit = format!("INSERT INTO {prefix}annals.analysts (user, tenant) VALUES ('{user}', NULL)");
    world.rows.execute(&admit).await.unwrap();
    assert_eq!(count().await, rows as u64);
    world.rows.writer().hide_frozen("visits_at").await.unwrap();
    assert!(!world.rows.writer().has_frozen("visits_at").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_again_and_again_comes_to_its_cut() {
    let mut world = World::make().await;
    world.live(22).await;
    world.fold().await;
    let then = now(&world).await;
    later(&mut world, &mut Numbers(8), &mut 0).await;
    let writer = world.writer().await;
    for (projection, was) in &then {
        let cut = Cut::Places(was.places.clone());
        freeze(&writer, *projection, "at", &cut, Some(400)).await.unwrap();
        let second = freeze(&writer, *projection, "at_2", &cut, None).await;
        assert!(
            matches!(second, Err(Error::Building { generation: 2, .. })),
            "{second:?}"
        );
    }
    // A bound holds it up, a kill ends it in the middle of whatever it does; later each time, so that it ends.
    for round in 0..10_u64 {
        let run = projectors::run(
            world.dependencies(Until::Shutdown),
            world.config(),
            CancellationToken::new(),
        );
        let _ = tokio::time::timeout(Duration::from_millis(120 + 90 * round), run).await;
    }
    for projection in Projection::ALL {
        // It may have been frozen before the last kill.
        let _ = writer.steer_rebuild(projection, 2, None, Some(0)).await;
    }
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    for (projection, was) in &then {
        frozen(&writer, *projection, 2).await;
        assert_eq!(holds(&world, *projection, 2).await, was.rows, "{projection}");
    }
    running.stop().await;
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(outcome.equal && outcome.generation == 1, "{differences:#?}");
    }
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_what_the_log_says_is_not_frozen_and_damage_is_found_later() {
    let mut world = World::make().await;
    world.live(23).await;
    world.fold().await;
    let then = now(&world).await;
    later(&mut world, &mut Numbers(9), &mut 0).await;
    let (writer, content) = (world.writer().await, Projection::Content);
    let cut = Cut::Places(then[&content].places.clone());
    let damage = "UPDATE content_2.content SET title = 'by hand' WHERE content = (SELECT min(content::text)::uuid FROM content_2.content)";

    freeze(&writer, content, "at", &cut, None).await.unwrap();
    writer.steer_rebuild(content, 2, Some(true), None).await.unwrap();
    // Paused: whoever runs leaves it alone. Filled by hand, up to its cut and no further, and damaged.
    world.fold().await;
    assert_eq!(writer.positions(content, 2).await.unwrap(), [0]);
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
    assert_eq!(holds(&world, content, 2).await, then[&content].rows);
    world.control.execute(damage).await.unwrap();
    writer.steer_rebuild(content, 2, Some(false), None).await.unwrap();
    world.fold().await;
    let known = writer.generations(Some(content)).await.unwrap();
    let why = known[1].failure.clone().unwrap();
    assert!(why.contains("1 rows are not what the log says"), "{why}");
    assert_eq!(known[1].state, "freezing");

    // Given up, and begun again: under a number of its own, so that whoever still works on the first does nothing to it.
    writer.erase_generation(content, 2).await.unwrap();
    freeze(&writer, content, "at", &Cut::Places(vec![0]), None)
        .await
        .unwrap();
    assert_eq!(state(&writer, content, 3).await.unwrap(), "freezing");
    writer.erase_generation(content, 3).await.unwrap();
    freeze(&writer, content, "at", &cut, None).await.unwrap();
    world.fold().await;
    assert_eq!(state(&writer, content, 4).await.unwrap(), "frozen");
    let damage = damage.replace("content_2", "content_4");
    world.control.execute(&damage).await.unwrap();
    let (outcome, differences) = verified(&world.verifier().await, content, Some(4)).await;
    assert_eq!((outcome.differences, differences.len()), (1, 1));
    assert!(
        format!("{:?}", differences[0]).contains("by hand"),
        "{differences:#?}"
    );
    world.erase().await;
}
