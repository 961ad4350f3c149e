//! Verification on real engines: what the log made is equal, and what somebody changed is named.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use event_log::Partition;
use events::{Whole, content, download};
use projectors::{
    runner::Until,
    verify::{Difference, Error, Wanted, What},
};
use read_models::Projection;
use tokio_util::sync::CancellationToken;
use world::{Numbers, World, verified};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_made_is_equal_in_one_slice_and_in_many() {
    for seed in [3, 8] {
        let mut world = World::make().await;
        world.live(seed).await;
        world.fold().await;
        let verifier = world.verifier().await;
        for projection in Projection::ALL {
            let (whole, differences) = verified(&verifier, projection, None).await;
            assert!(whole.equal, "{projection}, seed {seed}: {differences:#?}");
            assert!(whole.rows > 0, "{projection} was compared with nothing");
            let budget = match projection {
                Projection::Content => 20_000,
                Projection::Visits => 2_000,
                Projection::Directory | Projection::Downloads => 10_000,
                Projection::ContentFacts => 4_000,
            };
            let (sliced, differences) = verified(&verifier.clone().within(budget), projection, None).await;
            assert!(sliced.equal, "{projection}, seed {seed}: {differences:#?}");
            assert_eq!(sliced.rows, whole.rows, "{projection}");
            let small = projection == Projection::Directory;
            assert!(sliced.slices > 1 || small, "{projection} was not sliced");
        }
        world.erase().await;
    }
}

/// As older releases let into the log: no column holds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_no_column_holds_is_the_same_on_both_sides() {
    let mut world = World::make().await;
    let id = kit::piece(1).to_string();
    let queued = download::Queued {
        title: "endless".into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    };
    let completed = download::Completed {
        size: Some(Whole(u64::MAX)),
        sha256: None,
    };
    let events = [queued.into(), download::Started {}.into(), completed.into()];
    let commit = (1..)
        .zip(events)
        .map(|(version, event)| (id.clone(), version, event));
    world.log.ledger.commit(kit::tenant(0), commit.collect()).await;
    world.fold().await;
    let (outcome, differences) = world.verify(Projection::Downloads).await;
    assert!(outcome.equal && outcome.rows == 1, "{outcome:?} {differences:#?}");
    world.erase().await;
}

/// Texts over 512 bytes are kept by their hashes; and an alias may be the path itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_is_the_same_on_both_sides() {
    let mut world = World::make().await;
    let path = format!("/{}", "long-".repeat(200));
    let mut drafted = kit::drafted(1, "long");
    drafted.metadata = serde_json::json!({"path": path, "aliases": [format!("{path}/"), "/other", "/%e3%81%82/", "/あ", "/%00"]})
        .as_object()
        .unwrap()
        .clone();
    let commit = vec![(kit::piece(1).to_string(), 1, drafted.into())];
    world.log.ledger.commit(kit::tenant(0), commit).await;
    world.fold().await;
    for projection in [Projection::Content, Projection::ContentFacts] {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.rows > 0,
            "{projection}: {outcome:?} {differences:#?}"
        );
    }
    world.erase().await;
}

/// What ClickHouse is asked for at a time has a length that it takes.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_pieces_in_one_range_are_folded() {
    let mut world = World::make().await;
    let count = 4_000_u64;
    for event in [
        None,
        Some(content::Published {
            at: world.log.ledger.now(),
        }),
    ] {
        for from in (0..count).step_by(500) {
            let version = if event.is_some() { 2 } else { 1 };
            let change = |number: u64| -> events::Event {
                event.clone().map_or_else(
                    || {
                        let mut drafted = kit::drafted(number.into(), &format!("s{number}"));
                        drafted.body = String::new();
                        drafted.into()
                    },
                    Into::into,
                )
            };
            let commit = (from..from + 500)
                .map(|number| (kit::piece(number.into()).to_string(), version, change(number)));
            world.log.ledger.commit(kit::tenant(0), commit.collect()).await;
        }
    }
    let folding = tokio::time::timeout(std::time::Duration::from_secs(120), world.fold());
    folding.await.expect("it is folded, and not begun again for ever");
    let (outcome, differences) = world.verify(Projection::ContentFacts).await;
    assert!(
        outcome.equal && outcome.rows == count,
        "{outcome:?} {differences:#?}"
    );
    world.erase().await;
}

/// It stops its own aggregate in its own projection.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_nothing_to_other_projections() {
    let mut world = World::make().await;
    let commit = vec![(kit::piece(1).to_string(), 1, kit::drafted(1, "good").into())];
    world.log.ledger.commit(kit::tenant(0), commit).await;
    let id = kit::piece(2).to_string();
    let bad = kit::text(kit::tenant(0), &id, "download.started.v1", 1, "3");
    world.log.ledger.raw(kit::tenant(0), &bad).await;
    world.fold().await;
    for (projection, parked) in [
        (Projection::Content, 0),
        (Projection::ContentFacts, 0),
        (Projection::Downloads, 1),
    ] {
        let (outcome, differences) = world.verify(projection).await;
        assert!(outcome.equal, "{projection}: {outcome:?} {differences:#?}");
        assert_eq!(outcome.parked, parked, "{projection}");
    }
    world.erase().await;
}

/// This release's folds say nothing about the rows of another.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_release_made_is_not_compared() {
    let mut world = World::make().await;
    world.live(4).await;
    world.fold().await;
    world
        .control
        .execute("UPDATE annals.generations SET fold_hash = 'another' WHERE projection = 'content'")
        .await
        .unwrap();
    let (tell, _told) = tokio::sync::mpsc::channel(16);
    let wanted = Wanted {
        projection: Projection::Content,
        generation: None,
        sample: None,
    };
    let refused = world.verifier().await.verify(wanted, &tell).await;
    assert!(
        matches!(refused, Err(Error::OtherRelease { generation: 1, .. })),
        "{refused:?}"
    );
    world.erase().await;
}

/// Whoever sends visits chooses their length, so sessions are let go by that, too: on both sides alike.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_long_texts_are_let_go_alike() {
    let world = World::make().await;
    let path = format!("/{}", "x".repeat(1_999));
    let viewed = |id: u64, visitor: u64, minute: i64| kit::viewed(id.into(), visitor, minute, &path);
    // Of the first ones nothing is open any more when they come again.
    let first = (0..10_000_u64).map(|visitor| viewed(visitor, visitor + 1, 0));
    let again = (0..1_000_u64).map(|visitor| viewed(20_000 + visitor, visitor + 1, 1));
    for events in first.chain(again).collect::<Vec<_>>().chunks(50) {
        let record = event_log::visits::encode(kit::tenant(0), events);
        let appending = world.log.log.append(Partition::visits(0), record);
        appending.await.unwrap();
    }
    world.fold().await;
    let (outcome, differences) = world.verify(Projection::Visits).await;
    assert!(outcome.equal, "{outcome:?} {differences:#?}");
    // Events, and sessions: some of those who came again have two.
    assert!((21_900..=22_000).contains(&outcome.rows), "{outcome:?}");
    world.erase().await;
}

/// What verification must say after a hand was laid on a table.
fn told<'a>(differences: &'a [Difference], table: &str, what: What) -> &'a Difference {
    let mut found = differences
        .iter()
        .filter(|it| it.table == table && it.what == what);
    found
        .next()
        .unwrap_or_else(|| panic!("{table} {what:?} is not told: {differences:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_in_postgresql_is_named() {
    let mut world = World::make().await;
    world.live(5).await;
    world.fold().await;
    world
        .control
        .execute(
            "UPDATE content_1.content SET title = 'by hand' WHERE content = (SELECT min(content::text)::uuid FROM content_1.content);
             DELETE FROM content_1.content_versions WHERE version = 3;
             INSERT INTO content_1.content_redirects SELECT tenant, site, kind, 'nobody', content, now(), 1 FROM content_1.content LIMIT 1;
             UPDATE downloads_1.downloads SET priority = priority + 1;
             UPDATE directory_1.keys SET revoked_at = NULL WHERE revoked_at IS NOT NULL",
        )
        .await
        .unwrap();
    let (outcome, differences) = world.verify(Projection::Content).await;
    assert!(!outcome.equal);
    let title = told(&differences, "content", What::Differs);
    assert_eq!(title.store.as_ref().unwrap()["title"], "by hand");
    assert_ne!(title.log.as_ref().unwrap()["title"], "by hand");
    assert_eq!(
        title.log.as_ref().unwrap().len(),
        1,
        "only what differs: {title:?}"
    );
    let version = told(&differences, "content_versions", What::Missing);
    assert_eq!(version.log.as_ref().unwrap()["version"], 3);
    let redirect = told(&differences, "content_redirects", What::Additional);
    assert!(redirect.row.ends_with("/nobody"), "{redirect:?}");

    let (outcome, differences) = world.verify(Projection::Downloads).await;
    assert_eq!(outcome.differences, outcome.rows);
    told(&differences, "downloads", What::Differs);
    let (_, differences) = world.verify(Projection::Directory).await;
    let key = told(&differences, "keys", What::Differs);
    assert!(key.store.as_ref().unwrap()["revoked_at"].is_null(), "{key:?}");
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_in_clickhouse_is_named() {
    let mut world = World::make().await;
    world.live(6).await;
    world.fold().await;
    let visits = |table: &str| format!("{}visits_1.{table}", world.rows.writer.prefix);
    let facts = format!("{}content_facts_1.facts", world.rows.writer.prefix);
    let (events, sessions) = (visits("events"), visits("sessions"));
    for statement in [
        format!(
            "ALTER TABLE {events} UPDATE pathname = '/by-hand' WHERE log_offset = 7 AND log_index = 1 SETTINGS mutations_sync = 1"
        ),
        format!("ALTER TABLE {events} DELETE WHERE log_offset = 9 SETTINGS mutations_sync = 1"),
        format!(
            "INSERT INTO {events} SELECT * REPLACE (1000 AS log_index) FROM {events} WHERE log_offset = 11 LIMIT 1"
        ),
        // A row that is there twice.
        format!("INSERT INTO {events} SELECT * FROM {events} WHERE log_offset = 12 LIMIT 1"),
        format!(
            "ALTER TABLE {sessions} UPDATE pageviews = pageviews + 1 WHERE visitor = (SELECT max(visitor) FROM {sessions}) SETTINGS mutations_sync = 1"
        ),
        format!(
            "ALTER TABLE {sessions} DELETE WHERE visitor = (SELECT min(visitor) FROM {sessions}) SETTINGS mutations_sync = 1"
        ),
        format!("INSERT INTO {sessions} SELECT * REPLACE (77 AS session) FROM {sessions} LIMIT 1"),
        // Beyond everything that the log has.
        format!(
            "INSERT INTO {sessions} SELECT * REPLACE (78 AS session, 99999999 AS log_offset) FROM {sessions} LIMIT 1"
        ),
        format!("INSERT INTO {events} SELECT * REPLACE (99999999 AS log_offset) FROM {events} LIMIT 1"),
        // In a partition that the log does not have.
        format!(
            "INSERT INTO {events} SELECT * REPLACE (99 AS log_partition) FROM {events} WHERE log_offset = 13 LIMIT 1"
        ),
        format!(
            "INSERT INTO {sessions} SELECT * REPLACE (79 AS session, 99 AS log_partition) FROM {sessions} LIMIT 1"
        ),
        format!(
            "ALTER TABLE {facts} UPDATE title = 'by hand' WHERE content = (SELECT max(content) FROM {facts}) SETTINGS mutations_sync = 1"
        ),
        format!(
            "ALTER TABLE {facts} DELETE WHERE content = (SELECT min(content) FROM {facts}) SETTINGS mutations_sync = 1"
        ),
    ] {
        world.rows.execute(&statement).await.unwrap();
    }
    let (outcome, differences) = world.verify(Projection::Visits).await;
    assert!(!outcome.equal);
    let path = told(&differences, "events", What::Differs);
    assert_eq!(
        (path.row.as_str(), &path.store.as_ref().unwrap()["pathname"]),
        ("0/7/1", &"/by-hand".into())
    );
    assert!(
        told(&differences, "events", What::Missing)
            .row
            .starts_with("0/9/")
    );
    let additional: Vec<_> = differences
        .iter()
        .filter(|it| it.table == "events" && it.what == What::Additional)
        .map(|it| it.row.as_str())
        .collect();
    assert!(additional.contains(&"0/11/1000"), "{additional:?}");
    assert!(
        additional.iter().any(|row| row.starts_with("0/12/")),
        "{additional:?}"
    );
    assert!(
        additional.iter().any(|row| row.starts_with("0/99999999/")),
        "{additional:?}"
    );
    assert!(
        additional.iter().any(|row| row.starts_with("99/13/")),
        "{additional:?}"
    );
    let session = told(&differences, "sessions", What::Differs);
    assert!(
        session.store.as_ref().unwrap().contains_key("pageviews"),
        "{session:?}"
    );
    told(&differences, "sessions", What::Missing);
    let made_up: Vec<_> = differences
        .iter()
        .filter(|it| it.table == "sessions" && it.what == What::Additional)
        .collect();
    for session in ["/77", "/78", "/79"] {
        assert!(
            made_up.iter().any(|it| it.row.ends_with(session)),
            "{session}: {made_up:?}"
        );
    }
    let (_, differences) = world.verify(Projection::ContentFacts).await;
    let title = told(&differences, "facts", What::Differs);
    assert_eq!(title.store.as_ref().unwrap()["title"], "by hand");
    told(&differences, "facts", What::Missing);
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_left_out_without_being_parked_is_named() {
    let mut world = World::make().await;
    world.live(7).await;
    world.fold().await;
    let parked = world.verify(Projection::Downloads).await.0.parked;
    assert!(parked > 0, "the history has events that cannot be projected");
    world
        .control
        .execute("DELETE FROM annals.parked_aggregates WHERE projection = 'downloads'")
        .await
        .unwrap();
    let (outcome, differences) = world.verify(Projection::Downloads).await;
    assert_eq!(outcome.parked, 0);
    let event = told(&differences, "parked", What::NotParked);
    assert!(
        event.reason.as_ref().unwrap().contains("does not follow"),
        "{event:?}"
    );
    world.erase().await;
}

/// The log is read once more to find which rows differ; what cannot be folded is no other one for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_folded_is_counted_once() {
    let mut world = World::make().await;
    world.live(6).await;
    world.fold().await;
    let forget = "DELETE FROM annals.parked_aggregates WHERE projection = 'visits'";
    world.control.execute(forget).await.unwrap();
    let change = format!(
        "ALTER TABLE {}visits_1.events UPDATE pathname = '/by-hand' WHERE log_offset = 7 AND log_index = 1 \
         SETTINGS mutations_sync = 1",
        world.rows.writer.prefix
    );
    world.rows.execute(&change).await.unwrap();
    let (outcome, differences) = world.verify(Projection::Visits).await;
    assert_eq!(
        outcome.differences as usize,
        differences.len(),
        "{differences:#?}"
    );
    told(&differences, "parked", What::NotParked);
    told(&differences, "events", What::Differs);
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_compares_at_one_position_while_events_arrive() {
    let mut world = World::make().await;
    world.live(9).await;
    world.fold().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(projectors::run(
        world.dependencies(Until::Shutdown),
        world.config(),
        shutdown.clone(),
    ));
    let verifier = world.verifier().await;
    let verifying = tokio::spawn(async move {
        for round in 0..3 {
            for projection in Projection::ALL {
                let (outcome, differences) = verified(&verifier, projection, None).await;
                assert!(outcome.equal, "{projection}, round {round}: {differences:#?}");
            }
        }
    });
    let mut numbers = Numbers(1);
    let mut number = 1_000;
    while !verifying.is_finished() {
        world.visits(&mut numbers, 12).await;
        number += 1;
        let piece = kit::piece(number).to_string();
        world
            .log
            .ledger
            .commit(
                kit::tenant(0),
                vec![(piece, 1, kit::drafted(number, &format!("s{number}")).into())],
            )
            .await;
    }
    verifying.await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    world.erase().await;
}
