//! A tenant's events in order: whatever position one goes on from, nothing is missing and nothing comes twice.

mod cuts;
mod stream;

use std::num::NonZeroU32;

use command_api::Config;
use event_log::Partition;
use events::TenantId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    world::{Answer, OPERATOR, Process, Tenant, World, config},
    writer::{Writer, fold, garbage, some_events},
};

impl Process {
    async fn events(&self, key: &str, query: &str) -> Answer {
        let answer = self
            .call(Method::GET, &format!("/api/v1/events?{query}"))
            .key(key)
            .send()
            .await;
        if answer.status == StatusCode::OK {
            assert_eq!(
                answer.header("content-type"),
                "application/cloudevents-batch+json"
            );
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(!answer.header("annals-position").is_empty());
        }
        answer
    }

    /// All that there is after a position, a batch at a time; and where it ends.
    async fn all_events(&self, key: &str, query: &str, after: &str) -> (Vec<String>, String) {
        let (mut all, mut after) = (Vec::new(), after.to_owned());
        loop {
            let from = if after.is_empty() {
                String::new()
            } else {
                format!("&after={after}")
            };
            let answer = self.events(key, &format!("{query}{from}")).await.expect(200);
            let events: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&answer.text).unwrap();
            let position = answer.header("annals-position").to_owned();
            // Empty, it may still have moved on.
            if position == after {
                assert!(events.is_empty());
                return (all, position);
            }
            all.extend(events.iter().map(|event| event.get().to_owned()));
            assert!(all.len() < 1000, "it goes round in a circle");
            after = position;
        }
    }
}

impl Tenant {
    pub(super) fn tenant(&self) -> TenantId {
        self.id.parse().unwrap()
    }
}

/// Two tenants whose commits share a partition.
async fn neighbours(world: &World) -> (Tenant, Tenant, Partition) {
    let place = |tenant: &Tenant| world.log.ledger_partition(tenant.tenant());
    let one = world.process.tenant().await;
    loop {
        let other = world.process.tenant().await;
        if place(&other) == place(&one) {
            let partition = place(&one);
            return (one, other, partition);
        }
    }
}

fn types_of(events: &[String]) -> Vec<String> {
    let kind = |event: &String| {
        serde_json::from_str::<Value>(event).unwrap()["type"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    events.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_its_own_events_in_order_each_as_it_stands_in_the_log() {
    let world = World::new().await;
    let api = &world.process;
    let (ours, theirs, partition) = neighbours(&world).await;
    for number in 0..3 {
        let piece = api.draft(&ours, &format!("Ours {number}")).await;
        api.draft(&theirs, &format!("Theirs {number}")).await;
        let publish = api.call(Method::POST, &format!("/api/v1/content/{piece}/publish"));
        publish.key(&ours.key).send().await.expect(200);
        let queued = json!({"title": "a", "url": "https://example.org/"});
        api.post("/api/v1/downloads", &ours.key, &queued)
            .send()
            .await
            .expect(201);
    }
    for tenant in [&ours, &theirs] {
        let (_, whole) = fold(&world.log, partition, Some(tenant.tenant())).await;
        let whole: Vec<_> = whole.into_iter().map(|(_, text)| text).collect();
        assert_eq!(whole.len(), if tenant.id == ours.id { 9 } else { 3 });
        let reader = api.issue(&tenant.id, &["read"]).await;
        for limit in [1, 2, 100] {
            let (events, _) = api.all_events(&reader, &format!("limit={limit}"), "").await;
            assert_eq!(events, whole, "limit {limit}");
        }
        assert!(whole.iter().all(|event| event.contains(&tenant.id)));
    }
    let (published, _) = api
        .all_events(&ours.key, "limit=2&types=content.published.v1,download.*", "")
        .await;
    let expected = ["content.published.v1", "download.queued.v1"].repeat(3);
    assert_eq!(types_of(&published), expected);
    let (none, position) = api.all_events(&ours.key, "types=import.*", "").await;
    assert!(none.is_empty());
    let (none, again) = api.all_events(&ours.key, "", &position.to_string()).await;
    assert!(none.is_empty(), "the filter was passed over, the events are too");
    assert_eq!(again, position);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_of_a_command_is_a_place_to_begin() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = |title: &str| json!({"site": tenant.domain, "kind": "post", "title": title});
    let first = api
        .post("/api/v1/content", &tenant.key, &body("first"))
        .send()
        .await
        .expect(201);
    let second = api
        .post("/api/v1/content", &tenant.key, &body("second"))
        .send()
        .await
        .expect(201);
    let (after_first, end) = api
        .all_events(&tenant.key, "", first.header("annals-position"))
        .await;
    assert_eq!(after_first.len(), 1);
    assert!(after_first[0].contains("second"));
    let (after_second, _) = api
        .all_events(&tenant.key, "", second.header("annals-position"))
        .await;
    assert!(after_second.is_empty());
    // A position of anything else in the log says nothing about where one is in these.
    let site = api
        .post(
            "/api/v1/sites",
            &tenant.key,
            &json!({"domain": "position.example"}),
        )
        .send()
        .await
        .expect(201);
    let directory = site.header("annals-position");
    let (all, _) = api.all_events(&tenant.key, "", directory).await;
    assert_eq!(all.len(), 2);
    // And where a query may go on: it is a position like any other.
    let revise = api.call(
        Method::POST,
        &format!("/api/v1/content/{}/publish", first.body["id"].as_str().unwrap()),
    );
    revise
        .key(&tenant.key)
        .header("annals-position", &end)
        .send()
        .await
        .expect(200);
}

/// The story of a takeover, in a partition that a process serves: what another writer commits is seen, what the dead
/// one still writes is not.
pub(crate) async fn takeover(process: &Process, log: &event_log::Log, ours: &Tenant, theirs: &Tenant) {
    let partition = log.ledger_partition(ours.tenant());
    assert_eq!(log.ledger_partition(theirs.tenant()), partition);
    process.draft(ours, "before").await;
    let (before, mut position) = process.all_events(&ours.key, "", "").await;
    assert_eq!(before.len(), 1);
    let mut dead = Writer::of(log, partition).await;
    let mut living = Writer::of(log, partition).await;
    let mut expected = before;
    let mut heard = expected.clone();
    for round in 0..3 {
        // A race for the same epoch, and a claim from nowhere.
        let epoch = living.state.epoch + 1;
        living.claim(epoch).await;
        dead.append(garbage()).await;
        let lost = dead.state;
        dead.claim(epoch).await;
        dead.state = lost;
        living.claim(epoch + 7).await;
        dead.commit(some_events(ours.tenant(), 2)).await;
        living.commit(some_events(theirs.tenant(), 2)).await;
        let real = some_events(ours.tenant(), 3);
        living.commit(real.clone()).await;
        dead.commit(some_events(ours.tenant(), 1)).await;
        let (_, whole) = fold(log, partition, Some(ours.tenant())).await;
        expected.extend(whole.into_iter().map(|(_, text)| text).skip(expected.len()));
        assert_eq!(expected.len(), 1 + 3 * (round + 1));
        assert!(
            expected
                .last()
                .unwrap()
                .contains(&real[2].envelope.id.to_string())
        );
        // From where one was, in steps that end within a commit.
        let mut more = Vec::new();
        loop {
            let answer = process
                .events(&ours.key, &format!("limit=2&after={position}"))
                .await
                .expect(200);
            let events: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&answer.text).unwrap();
            position = answer.header("annals-position").to_owned();
            if events.is_empty() {
                break;
            }
            more.extend(events.iter().map(|event| event.get().to_owned()));
            assert!(more.len() < 1000, "it goes round in a circle");
        }
        heard.extend(more);
        assert_eq!(heard, expected, "round {round}");
        // And from the beginning.
        assert_eq!(process.all_events(&ours.key, "limit=3", "").await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_shows_nothing_void() {
    // Long enough that it does not claim again while this goes on.
    let world = World::with(Config {
        reclaim_seconds: NonZeroU32::new(600).unwrap(),
        ..config()
    })
    .await;
    let (ours, theirs, _) = neighbours(&world).await;
    takeover(&world.process, &world.log, &ours, &theirs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_as_it_is_asked_to() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let ask = |after: &str, wait: &str| {
        let path = format!("/api/v1/events{after}");
        api.call(Method::GET, &path)
            .key(&tenant.key)
            .header("prefer", wait)
            .send()
    };
    let none = ask("", "wait=0").await.expect(200);
    assert_eq!(
        (none.body, none.headers["preference-applied"].to_str().unwrap()),
        (json!([]), "wait=0")
    );
    let none = ask("", "respond-async").await.expect(200);
    assert!(!none.headers.contains_key("preference-applied"));
    let (waited, _) = tokio::join!(ask("", "wait=9999"), api.draft(&tenant, "it comes"));
    assert_eq!(waited.headers["preference-applied"], "wait=30");
    assert_eq!(waited.body.as_array().unwrap().len(), 1);
    let after = format!("?after={}", waited.headers["annals-position"].to_str().unwrap());
    let (waited, _) = tokio::join!(ask(&after, "wait=30"), async {
        // Another's events, and then one of its own.
        let other = api.tenant().await;
        api.draft(&other, "theirs").await;
        api.draft(&tenant, "ours").await
    });
    assert_eq!(waited.body[0]["data"]["title"], "ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_ends_when_the_key_is_revoked() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let key = api.issue(&tenant.id, &["read"]).await;
    let id = key.split('_').nth(1).unwrap().to_owned();
    let waiting = api
        .call(Method::GET, "/api/v1/events")
        .key(&key)
        .header("prefer", "wait=30");
    let (waited, _) = tokio::join!(waiting.send(), async {
        let revoke = api.call(Method::DELETE, &format!("/api/v1/keys/{id}"));
        revoke.key(OPERATOR).send().await.expect(200)
    });
    waited.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_named() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let (writer, reader) = (
        api.issue(&tenant.id, &["content:write"]).await,
        api.issue(&tenant.id, &["read"]).await,
    );
    api.events("", "").await.problem(401, "unauthorized");
    api.events(&writer, "").await.problem(403, "forbidden");
    api.events(OPERATOR, "").await.problem(403, "forbidden");
    for (query, pointer) in [
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("limit=many", "/limit"),
        ("types=", "/types"),
        ("types=content.invented.v1", "/types"),
        ("types=content.*,visit.*", "/types"),
        ("tenant=other", "/tenant"),
    ] {
        api.events(&reader, query)
            .await
            .problem(422, "invalid")
            .names(pointer);
    }
    let named = api
        .events(&reader, "types=content.invented.v1,content.*,key.issued.v1")
        .await;
    assert!(named.text.contains("content.invented.v1") && named.text.contains("key.issued.v1"));
    for after in ["", "x", "%F0%9F%92%A9", &"A".repeat(9000)] {
        api.events(&reader, &format!("after={after}"))
            .await
            .problem(400, "position");
    }
    let ledger = world.log.ledger_partition(tenant.tenant());
    let here = service::Position::new(world.log.id().0);
    let elsewhere = service::Position::new(uuid::Uuid::now_v7()).at(service::Topic::Ledger, 0, 1);
    api.events(&reader, &format!("after={elsewhere}"))
        .await
        .problem(400, "position");
    let beyond = here.clone().at(service::Topic::Ledger, ledger.index, 1_000_000);
    api.events(&reader, &format!("after={beyond}"))
        .await
        .problem(400, "position");
    let invented = here.at(service::Topic::Ledger, 999, 7);
    api.events(&reader, &format!("after={invented}"))
        .await
        .problem(400, "position");
    let strange = api
        .call(Method::GET, "/api/v1/events")
        .key(&reader)
        .header("accept", "text/event-stream");
    strange
        .header("last-event-id", "made up")
        .send()
        .await
        .problem(400, "position");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_void_record_count_with_a_position_of_his_own() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let partition = world.log.ledger_partition(tenant.tenant());
    api.draft(&tenant, "real").await;
    let mut forger = Writer::of(&world.log, partition).await;
    let end = world.log.end(partition).await.unwrap();
    // A commit that hangs on a state which never was, and a position that says it was.
    forger.state.epoch += 5;
    let wrong = forger.state;
    forger.commit(some_events(tenant.tenant(), 1)).await;
    let mut note = vec![0; 4];
    note.extend_from_slice(&wrong.epoch.to_be_bytes());
    note.extend_from_slice(&wrong.seq.to_be_bytes());
    note.extend_from_slice(&wrong.hash.0);
    // Nobody has asked before: with a follower at hand, what the position says is not even looked at.
    for proof in [&[0; 16][..], &[7; 16], &[], &[0; 40]] {
        let position =
            service::Position::new(world.log.id().0).at(service::Topic::Ledger, partition.index, end);
        let position = position.with_note([&note[..], proof].concat());
        let (none, _) = api.all_events(&tenant.key, "", &position.to_string()).await;
        assert!(none.is_empty(), "{none:?}");
    }
    assert_eq!(api.all_events(&tenant.key, "", "").await.0.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_listens_so_many_times_and_another_is_not_in_its_way() {
    let world = World::new().await;
    let (api, tenant, other) = (
        &world.process,
        world.process.tenant().await,
        world.process.tenant().await,
    );
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(
            api.call(Method::GET, "/api/v1/events")
                .key(&tenant.key)
                .header("accept", "text/event-stream")
                .open()
                .await,
        );
    }
    let refused = api
        .events(&tenant.key, "")
        .await
        .problem(429, "too-many-subscriptions");
    assert_eq!(refused.header("retry-after"), "5");
    api.events(&other.key, "").await.expect(200);
    drop(open);
    crate::world::until("there is a seat again", async || {
        let answer = api.events(&tenant.key, "").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}
