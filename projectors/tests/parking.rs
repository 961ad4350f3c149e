//! Parked events seen to on real engines, beside a runner that goes on: tried again in order, passed over for ever.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::time::{Duration, Instant};

use event_log::Partition;
use events::{Event, content, download};
use projectors::{
    Config,
    runner::{
        Until,
        retry::{Error, Outcome, Request, Retrier},
    },
};
use read_models::{
    Projection, Reader, Writer,
    parking::seen_to::{self, Shown, Skip, Which},
    status::PartitionStatus,
};
use tokio_util::sync::CancellationToken;
use world::{Numbers, World};

async fn hash(writer: &Writer, projection: Projection) -> String {
    let known = writer.generations(Some(projection)).await.unwrap();
    known.into_iter().find(|it| it.state == "live").unwrap().fold_hash
}

async fn see_to(
    world: &World,
    projection: Projection,
    subject: &str,
    why: Option<&str>,
) -> Result<Outcome, Error> {
    let skip = why.map(|why| Skip {
        by: "somebody",
        why,
        event: None,
    });
    see_to_first(world, projection, subject, skip).await
}

async fn see_to_first(
    world: &World,
    projection: Projection,
    subject: &str,
    skip: Option<Skip<'_>>,
) -> Result<Outcome, Error> {
    let control = world.writer().await;
    let hash = hash(&control, projection).await;
    let retrier = Retrier {
        log: world.log.log.clone(),
        control,
        rows: world.rows.writer(),
    };
    let request = Request {
        projection,
        subject,
        tenant: None,
        skip,
    };
    retrier.retry(request, &hash).await
}

async fn shown(world: &World, projection: Projection, subject: &str) -> Option<Shown> {
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    let which = Which {
        projection: Some(projection),
        subject: Some(subject),
        ..Which::default()
    };
    // Two questions, beside a runner that goes on: they agree when nothing changed between them.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = seen_to::list(&reader, which, 10, 0).await.unwrap();
        if seen_to::count(&reader, which).await.unwrap() == found.len() as i64 {
            return found.into_iter().next();
        }
        assert!(
            Instant::now() < deadline,
            "list and count do not agree: {found:?}"
        );
    }
}

async fn equal(world: &World, projection: Projection) {
    let (outcome, differences) = world.verify(projection).await;
    assert!(outcome.equal, "{projection}: {differences:#?}");
}

fn queued(title: &str) -> Event {
    download::Queued {
        title: title.into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    }
    .into()
}

/// Appends events of one download, each in a commit of its own; the position after the last.
async fn happen(world: &mut World, subject: &str, events: Vec<(u64, Event)>) -> u64 {
    let mut at = 0;
    for (version, event) in events {
        at = world
            .log
            .ledger
            .commit(kit::tenant(0), vec![(subject.to_owned(), version, event)])
            .await;
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_is_replayed_in_order_beside_a_runner_that_goes_on() {
    let mut world = World::make().await;
    world.fold().await;
    // A cause that will go away.
    let constraint = "ALTER TABLE downloads_1.downloads ADD CONSTRAINT by_hand CHECK (title <> 'bad')";
    world.control.execute(constraint).await.unwrap();
    let subject = kit::piece(1).to_string();
    let events = vec![
        (1, queued("bad")),
        (2, download::Started {}.into()),
        (
            3,
            download::Completed {
                size: None,
                sha256: None,
            }
            .into(),
        ),
    ];
    happen(&mut world, &subject, events).await;
    let shutdown = CancellationToken::new();
    let run = projectors::run(
        world.dependencies(Until::Shutdown),
        world.config(),
        shutdown.clone(),
    );
    let running = tokio::spawn(run);
    let parked = async |events: i64| loop {
        match shown(&world, Projection::Downloads, &subject).await {
            Some(found) if found.events == events => return found,
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), parked(3))
        .await
        .unwrap();
    assert_eq!(
        (found.attempts, found.event_type.as_str()),
        (1, "download.queued.v1")
    );
    assert!(found.reason.contains("by_hand"), "{found:?}");

    let outcome = see_to(&world, Projection::Downloads, &subject, None)
        .await
        .unwrap();
    assert_eq!(outcome.done, 0);
    assert!(outcome.parked.unwrap().contains("by_hand"));
    let found = shown(&world, Projection::Downloads, &subject).await.unwrap();
    assert_eq!((found.attempts, found.events), (2, 3));
    equal(&world, Projection::Downloads).await;

    let gone = "ALTER TABLE downloads_1.downloads DROP CONSTRAINT by_hand";
    world.control.execute(gone).await.unwrap();
    let outcome = see_to(&world, Projection::Downloads, &subject, None)
        .await
        .unwrap();
    assert_eq!(
        outcome,
        Outcome {
            done: 3,
            parked: None
        }
    );
    assert_eq!(shown(&world, Projection::Downloads, &subject).await, None);
    // The runner knows that the aggregate waits no longer.
    let at = happen(&mut world, &subject, vec![(4, download::Retried {}.into())]).await;
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    reader.progress().until_live(Projection::Downloads).await;
    let parts = [read_models::progress::Part {
        topic: read_models::Topic::Ledger,
        partition: 0,
        next_offset: at,
    }];
    let wanted = read_models::progress::Wanted {
        parts: &parts,
        tenant: Some(kit::tenant(0).uuid()),
        subject: None,
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    reader
        .progress()
        .wait(Projection::Downloads, &wanted, deadline)
        .await
        .unwrap();
    let (outcome, differences) = world.verify(Projection::Downloads).await;
    assert!(outcome.equal && outcome.parked == 0, "{differences:#?}");
    // It knew at once: it did not run into what was parked no longer, and begin again.
    let once = "DO $$ BEGIN IF (SELECT fence FROM annals.checkpoints WHERE projection = 'downloads') <> 2
                THEN RAISE EXCEPTION 'the runner has begun again'; END IF; END $$";
    world.control.execute(once).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let nothing = see_to(&world, Projection::Downloads, &subject, None).await;
    assert!(matches!(nothing, Err(Error::NotParked(..))), "{nothing:?}");
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_has_too_much_parked_goes_on_when_somebody_has_seen_to_it() {
    let mut world = World::make().await;
    let shutdown = CancellationToken::new();
    let config = Config {
        parking_limit: 1,
        ..world.config()
    };
    let run = projectors::run(world.dependencies(Until::Shutdown), config, shutdown.clone());
    let running = tokio::spawn(run);
    let wait = Duration::from_secs(60);
    let [first, second] = [1, 2].map(|number| kit::piece(number).to_string());
    let parked = async |world: &World, subject: &str| {
        while shown(world, Projection::Downloads, subject).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What was never queued cannot start.
    happen(&mut world, &first, vec![(1, download::Started {}.into())]).await;
    tokio::time::timeout(wait, parked(&world, &first)).await.unwrap();
    happen(&mut world, &second, vec![(1, download::Started {}.into())]).await;
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    let stopped = async || loop {
        let found = read_models::status::projections(&reader).await.unwrap();
        let stands = |row: &PartitionStatus| row.projection == "downloads" && row.stopped.is_some();
        if found.iter().any(stands) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    tokio::time::timeout(wait, stopped()).await.unwrap();
    see_to(&world, Projection::Downloads, &first, Some("never mind"))
        .await
        .unwrap();
    tokio::time::timeout(wait, parked(&world, &second)).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    world.erase().await;
}

/// A record of visits of which none can be read, of this tenant; its offset.
async fn unreadable(world: &World, tenant: u128) -> u64 {
    let mut record = event_log::visits::encode(kit::tenant(0), &[]);
    let tenant = kit::tenant(tenant);
    record.value = format!(r#"[{{"type":"visit.page-viewed.v9","tenant":"{tenant}"}}]"#).into();
    let appending = world.log.log.append(Partition::visits(0), record);
    appending.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn visits_that_have_too_much_parked_go_on_when_somebody_has_seen_to_it_and_are_their_tenants() {
    let mut world = World::make().await;
    let shutdown = CancellationToken::new();
    let config = Config {
        parking_limit: 1,
        ..world.config()
    };
    let run = projectors::run(world.dependencies(Until::Shutdown), config, shutdown.clone());
    let running = tokio::spawn(run);
    let named = |offset: u64| format!("visits/0@{offset}.0");
    let first = named(unreadable(&world, 0).await);
    let found = kit::until("the first to be parked", async || {
        shown(&world, Projection::Visits, &first).await
    });
    assert_eq!(found.await.tenant, kit::tenant(0).uuid());
    let second = named(unreadable(&world, 1).await);
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    let stands = async |stopped: bool| {
        kit::until("the partition to stand or to go on", async || {
            let found = read_models::status::projections(&reader).await.unwrap();
            let mut of_visits = found.iter().filter(|row| row.projection == "visits");
            of_visits
                .any(|row| row.stopped.is_some() == stopped && (stopped || row.lag_events == 0))
                .then_some(())
        })
        .await;
    };
    stands(true).await;
    see_to(&world, Projection::Visits, &first, Some("made up"))
        .await
        .unwrap();
    stands(false).await;
    let found = shown(&world, Projection::Visits, &second).await.unwrap();
    assert_eq!(found.tenant, kit::tenant(1).uuid());
    world.visits(&mut Numbers(3), 30).await;
    let end = world.log.log.end(Partition::visits(0)).await.unwrap();
    // Whoever reads at a position learns of what it lacks; another tenant's is none of its business.
    let parts = [read_models::progress::Part {
        topic: read_models::Topic::Visits,
        partition: 0,
        next_offset: end,
    }];
    let wait = async |tenant: u128| {
        let wanted = read_models::progress::Wanted {
            parts: &parts,
            tenant: Some(kit::tenant(tenant).uuid()),
            subject: None,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        reader
            .progress()
            .wait(Projection::Visits, &wanted, deadline)
            .await
    };
    reader.progress().until_live(Projection::Visits).await;
    wait(0).await.unwrap();
    let parked = wait(1).await;
    assert!(
        matches!(parked, Err(read_models::progress::WaitError::Parked { .. })),
        "{parked:?}"
    );
    equal(&world, Projection::Visits).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_skipped_is_passed_over_in_every_later_generation() {
    let mut world = World::make().await;
    let (gap, never) = (kit::piece(1).to_string(), kit::piece(2).to_string());
    let events = vec![
        (1, queued("a")),
        (8, download::Started {}.into()),
        (3, download::Failed { reason: "no".into() }.into()),
        // Another one that cannot follow.
        (9, download::Retried {}.into()),
        (5, download::Cancelled {}.into()),
    ];
    happen(&mut world, &gap, events).await;
    // Never drafted: neither content nor the facts know it.
    let published = content::Unpublished {};
    happen(
        &mut world,
        &never,
        vec![(1, published.into()), (2, content::Archived {}.into())],
    )
    .await;
    let partition = Partition::visits(0);
    let mut numbers = Numbers(2);
    world.visits(&mut numbers, 30).await;
    let mut record = event_log::visits::encode(kit::tenant(0), &[]);
    record.value = format!(
        r#"[{{"type":"visit.page-viewed.v9","tenant":"{}"}}]"#,
        kit::tenant(0)
    )
    .into();
    let offset = world.log.log.append(partition, record).await.unwrap();
    world.visits(&mut numbers, 30).await;
    world.fold().await;
    // Somebody else has seen to what this one looked at.
    let another = Skip {
        by: "somebody",
        why: "a test",
        event: Some((9_999, 0)),
    };
    let refused = see_to_first(&world, Projection::Downloads, &gap, Some(another)).await;
    assert!(matches!(refused, Err(Error::NotFirst(_))), "{refused:?}");
    // Whoever is told that it was skipped must not hear of it again after a crash of the database.
    let lasting = "CREATE FUNCTION annals.lasts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                       IF current_setting('synchronous_commit') = 'off' THEN RAISE EXCEPTION 'it may be lost'; END IF;
                       RETURN NEW; END $$;
                   CREATE TRIGGER lasts BEFORE INSERT ON annals.skipped FOR EACH ROW EXECUTE FUNCTION annals.lasts()";
    world.control.execute(lasting).await.unwrap();

    let outcome = see_to(&world, Projection::Downloads, &gap, Some("it never began"))
        .await
        .unwrap();
    assert_eq!(outcome.done, 2, "{outcome:?}");
    assert!(outcome.parked.unwrap().contains("version"));
    equal(&world, Projection::Downloads).await;
    let outcome = see_to(&world, Projection::Downloads, &gap, Some("nor again"))
        .await
        .unwrap();
    assert_eq!(
        outcome,
        Outcome {
            done: 2,
            parked: None
        }
    );
    for projection in [Projection::Content, Projection::ContentFacts] {
        let outcome = see_to(&world, projection, &never, Some("nobody wrote it"))
            .await
            .unwrap();
        assert!(outcome.done == 1 && outcome.parked.is_some(), "{outcome:?}");
        let outcome = see_to(&world, projection, &never, Some("nobody wrote it"))
            .await
            .unwrap();
        assert_eq!(
            outcome,
            Outcome {
                done: 1,
                parked: None
            }
        );
    }
    let unread = format!("visits/0@{offset}.0");
    let again = see_to(&world, Projection::Visits, &unread, None).await;
    assert!(matches!(again, Err(Error::Visits)), "{again:?}");
    see_to(&world, Projection::Visits, &unread, Some("made up"))
        .await
        .unwrap();

    let writer = world.writer().await;
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.parked == 0,
            "{projection}: {differences:#?}"
        );
        let fold = kit::fold(&writer, projection).await;
        writer
            .begin_rebuild(projection, 1, &fold, "a test", None)
            .await
            .unwrap();
    }
    // Built anew, from the log and what was skipped.
    world.fold().await;
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.parked == 0,
            "{projection}: {differences:#?}"
        );
        assert_eq!(outcome.generation, 2);
    }
    let said = "DO $$ BEGIN IF (SELECT count(*) FROM annals.skipped WHERE skipped_by = 'somebody') <> 7
                THEN RAISE EXCEPTION 'it is not kept who skipped what'; END IF; END $$";
    world.control.execute(said).await.unwrap();
    world.erase().await;
}

/// Whose an old slug is depends on the order of the log, not on the order in which the events were folded.
#[tokio::test(flavor = "multi_thread")]
async fn old_slugs_lead_where_the_log_says_whatever_was_tried_again_late() {
    let mut world = World::make().await;
    world.fold().await;
    let constraint =
        "ALTER TABLE content_1.content_versions ADD CONSTRAINT by_hand CHECK (slug NOT LIKE '%-parked')";
    world.control.execute(constraint).await.unwrap();
    let [late, other, third] = [1, 2, 3].map(|number| kit::piece(number).to_string());
    let moved = |from: &str, to: &str| -> Event {
        let [from, to] = [from.to_owned(), to.to_owned()];
        content::SlugChanged { from, to }.into()
    };
    // What cannot be projected for now: it gives up one slug after another.
    let given_up = ["taken", "given-up-again", "nobodys", "its-own", "last-parked"];
    happen(&mut world, &late, vec![(1, kit::drafted(1, given_up[0]).into())]).await;
    world.fold().await;
    happen(&mut world, &late, vec![(2, moved("taken", "a-parked"))]).await;
    let mut version = 2;
    let mut slug = "a-parked".to_owned();
    for to in &given_up[1..] {
        for next in [*to, "b-parked"] {
            version += 1;
            happen(&mut world, &late, vec![(version, moved(&slug, next))]).await;
            slug = next.to_owned();
        }
    }
    happen(
        &mut world,
        &late,
        vec![(version + 1, moved("b-parked", "its-own"))],
    )
    .await;
    // Meanwhile others take what it gave up, and one gives it up again.
    happen(&mut world, &other, vec![(1, kit::drafted(2, "taken").into())]).await;
    let events = vec![
        (1, kit::drafted(3, "given-up-again").into()),
        (2, moved("given-up-again", "elsewhere")),
    ];
    happen(&mut world, &third, events).await;
    world.fold().await;
    assert!(shown(&world, Projection::Content, &late).await.is_some());
    equal(&world, Projection::Content).await;
    let gone = "ALTER TABLE content_1.content_versions DROP CONSTRAINT by_hand";
    world.control.execute(gone).await.unwrap();
    let outcome = see_to(&world, Projection::Content, &late, None).await.unwrap();
    assert_eq!(outcome.parked, None);
    equal(&world, Projection::Content).await;
    let leads = "DO $$ BEGIN IF (SELECT array_agg(slug ORDER BY slug) FROM content_1.content_redirects
                   WHERE slug IN ('taken', 'given-up-again', 'nobodys', 'its-own')) <> ARRAY['given-up-again', 'nobodys']
                 OR (SELECT count(DISTINCT content) FROM content_1.content_redirects
                     WHERE slug IN ('given-up-again', 'nobodys')) <> 2
                 THEN RAISE EXCEPTION 'old slugs lead elsewhere'; END IF; END $$";
    world.control.execute(leads).await.unwrap();
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_with_more_events_than_are_tried_at_once_is_replayed_to_its_end() {
    let mut world = World::make().await;
    world.live(21).await;
    world.fold().await;
    let constraint = "ALTER TABLE downloads_1.downloads ADD CONSTRAINT by_hand CHECK (title <> 'bad')";
    world.control.execute(constraint).await.unwrap();
    let subject = kit::piece(1).to_string();
    let mut commits = vec![(kit::tenant(0), vec![(subject.clone(), 1, queued("bad"))])];
    for version in 2..=2_500 {
        let event = download::Reprioritised {
            priority: version as i32,
        };
        commits.push((kit::tenant(0), vec![(subject.clone(), version, event.into())]));
    }
    world.log.ledger.commits(commits).await;
    world.fold().await;
    let found = shown(&world, Projection::Downloads, &subject).await.unwrap();
    assert_eq!(found.events, 2_500);
    let gone = "ALTER TABLE downloads_1.downloads DROP CONSTRAINT by_hand";
    world.control.execute(gone).await.unwrap();
    let outcome = see_to(&world, Projection::Downloads, &subject, None)
        .await
        .unwrap();
    assert_eq!(
        outcome,
        Outcome {
            done: 2_500,
            parked: None
        }
    );
    equal(&world, Projection::Downloads).await;
    world.erase().await;
}
