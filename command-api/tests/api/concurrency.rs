//! Many at once: one wins, nothing acknowledged is lost, and a queue that is full says so.

use std::{collections::BTreeSet, num::NonZeroUsize};

use command_api::Config;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::world::{Answer, World, config, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn of_64_who_want_a_slug_exactly_one_gets_it() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"site": tenant.domain, "kind": "post", "title": "Wanted"});
    let answers = join_all((0..64).map(|_| api.post("/api/v1/content", &tenant.key, &body).send())).await;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    let lost = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((won, lost), (1, 63));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_with_one_idempotency_key_all_hear_of_one_command() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"site": tenant.domain, "kind": "post", "title": "Once"});
    let draft = || {
        api.post("/api/v1/content", &tenant.key, &body)
            .header("idempotency-key", "k")
            .send()
    };
    let answers = join_all((0..64).map(|_| draft())).await;
    let ids: BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(|answer| answer.body["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    for answer in answers {
        assert!(
            answer.status == 201 || answer.body["type"] == "/problems/still-running",
            "{}",
            answer.text
        );
    }
    draft().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_takes_over_and_nothing_acknowledged_is_lost() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let first = &world.process;
    let body =
        |number: usize| json!({"site": tenant.domain, "kind": "post", "title": format!("piece {number}")});
    let mut acknowledged = BTreeSet::new();
    let certain = (200..220).map(|number| first.post("/api/v1/content", &tenant.key, &body(number)).send());
    for answer in join_all(certain).await {
        acknowledged.insert(answer.expect(201).body["slug"].as_str().unwrap().to_owned());
    }
    let mut writes = Vec::new();
    for number in 0..200 {
        writes.push(first.post("/api/v1/content", &tenant.key, &body(number)).send());
    }
    let (answers, second) = tokio::join!(join_all(writes), async {
        let second = world.second().await;
        within("the second process serves", second.app.ready())
            .await
            .unwrap();
        second
    });
    for answer in answers {
        match answer.status.as_u16() {
            201 => assert!(acknowledged.insert(answer.body["slug"].as_str().unwrap().to_owned())),
            503 => assert!(!answer.header("retry-after").is_empty(), "{}", answer.text),
            other => panic!("{other}: {}", answer.text),
        }
    }
    // The old one notices at its next command, says 503 and does nothing.
    let late = first
        .post("/api/v1/content", &tenant.key, &body(1000))
        .send()
        .await;
    late.problem(503, "not-served");
    // The new one knows everything that was acknowledged: each slug is taken.
    let known = acknowledged.iter().map(|slug| {
        let body = json!({"site": tenant.domain, "kind": "post", "title": slug});
        second.post("/api/v1/content", &tenant.key, &body).send()
    });
    for answer in join_all(known).await {
        answer.problem(409, "slug-taken");
    }
    second
        .post("/api/v1/content", &tenant.key, &body(1000))
        .send()
        .await
        .expect(201);
    // What was decided in the end is one history: no slug was taken twice.
    let mut slugs = BTreeSet::new();
    for partition in 0..4 {
        for record in world.records("ledger", partition).await {
            if record["admitted"] == true && record["value"][0]["type"] == "content.drafted.v1" {
                assert!(slugs.insert(record["value"][0]["data"]["slug"].as_str().unwrap().to_owned()));
            }
        }
    }
    // When the second is gone, the first claims again after a while.
    second.stop().await;
    until("the first process serves again", async || {
        let again = json!({"site": tenant.domain, "kind": "page", "title": "again"});
        (first
            .post("/api/v1/content", &tenant.key, &again)
            .send()
            .await
            .status
            == 201)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_wait_further_ones_are_turned_away() {
    let world = World::with(Config {
        waiting_commands: NonZeroUsize::MIN,
        ..config()
    })
    .await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let revise = |number: usize| {
        let title = json!({"title": format!("title {number}")});
        api.call(Method::PATCH, &path)
            .key(&tenant.key)
            .json(&title)
            .send()
    };
    let answers = join_all((0..300).map(revise)).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.is_turned_away();
    }
    // With nothing served, 256 wait in the partition and one before it; for the rest there is no room.
    world.log.clone().close().await;
    let answers = join_all((300..600).map(revise)).await;
    assert!(
        answers
            .iter()
            .any(|answer| answer.body["type"] == "/problems/busy")
    );
    answers.iter().for_each(Answer::is_turned_away);
}

impl Answer {
    /// Nothing was done, and trying again makes sense.
    fn is_turned_away(&self) {
        assert_eq!(self.status, 503, "{}", self.text);
        assert!(matches!(self.header("retry-after"), "1" | "2"), "{}", self.text);
    }
}
