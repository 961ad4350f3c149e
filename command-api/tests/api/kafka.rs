//! The same on a real Kafka: commands and visits, and a second process that takes over.

use std::{collections::BTreeSet, num::NonZeroU32};

use command_api::Config;
use event_log::{KafkaConfig, Log, LogConfig, Store};
use futures::future::join_all;
use serde_json::json;

use crate::world::{Process, config, key_store, within};

async fn log(prefix: &str) -> Log {
    let brokers = std::env::var("ANNALS_TEST_KAFKA").expect("no ANNALS_TEST_KAFKA: run ./dev test");
    let kafka = KafkaConfig {
        brokers,
        prefix: prefix.to_owned(),
        replication: None,
    };
    let config = LogConfig {
        store: Store::Kafka(kafka),
        ledger_partitions: Some(2),
        visits_partitions: Some(2),
        development: true,
    };
    within("Kafka opens", Log::open(config)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_a_log_of_its_own_takes_over_and_nothing_is_lost() {
    let prefix = format!("command-{}", uuid::Uuid::new_v4().simple());
    let keys = key_store().await;
    // Long enough that the first does not claim again while this goes on.
    let config = Config {
        reclaim_seconds: NonZeroU32::new(600).unwrap(),
        ..config()
    };
    let first = Process::start(log(&prefix).await, keys.clone(), &config).await;
    within("the first serves", first.app.ready()).await.unwrap();
    let tenant = first.tenant().await;
    let body =
        |number: usize| json!({"site": tenant.domain, "kind": "post", "title": format!("piece {number}")});
    let mut acknowledged = BTreeSet::new();
    let certain = (200..220).map(|number| first.post("/api/v1/content", &tenant.key, &body(number)).send());
    for answer in join_all(certain).await {
        acknowledged.insert(answer.expect(201).body["slug"].as_str().unwrap().to_owned());
    }
    let writes = (0..200).map(|number| first.post("/api/v1/content", &tenant.key, &body(number)).send());
    let (answers, second) = tokio::join!(join_all(writes), async {
        let second = Process::start(log(&prefix).await, keys.clone(), &config).await;
        within("the second serves", second.app.ready()).await.unwrap();
        second
    });
    for answer in answers {
        match answer.status.as_u16() {
            201 => assert!(acknowledged.insert(answer.body["slug"].as_str().unwrap().to_owned())),
            503 => {}
            other => panic!("{other}: {}", answer.text),
        }
    }
    first
        .post("/api/v1/content", &tenant.key, &body(1000))
        .send()
        .await
        .problem(503, "not-served");
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
    let visit = json!([{"name": "pageview", "url": "https://a.example/", "domain": tenant.domain}]);
    // Visits need no owner: either process takes them.
    for process in [&first, &second] {
        let taken = process
            .post("/api/v1/visits", &tenant.key, &visit)
            .send()
            .await
            .expect(202);
        assert_eq!(taken.body["accepted"], 1);
    }
    first.stop().await;
    second.stop().await;
}
