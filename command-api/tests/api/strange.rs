//! Records in the log that are not ours, or not of this release.

use command_api::Config;
use event_log::{Hash, Headers, Log, Partition, Record, State};
use reqwest::Method;
use serde_json::json;

use crate::world::{OPERATOR, World, config, until, within};

/// What admission knows at the end of a partition.
async fn at_the_end(log: &Log, partition: Partition) -> State {
    let end = log.end(partition).await.unwrap();
    let (mut state, mut next) = (State::default(), 0);
    let mut reader = log.reader(partition, 0).unwrap();
    while next < end {
        for stored in reader.next().await.unwrap().records {
            state.admit(stored.offset, &stored.record);
            next = stored.offset + 1;
        }
    }
    state
}

fn record(headers: &[(&str, String)], value: &str) -> Record {
    let pairs = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Record {
        key: None,
        headers: Headers::new(pairs),
        value: value.to_owned().into(),
    }
}

/// A commit of another writer, who follows the rules and knows an event that this release does not.
async fn commit_from_the_future(log: &Log, partition: Partition) {
    let state = at_the_end(log, partition).await;
    let claim = record(
        &[
            ("content-type", "application/json".into()),
            ("annals-kind", "claim".into()),
            ("annals-epoch", (state.epoch + 1).to_string()),
        ],
        r#"{"owner": "release 9", "time": "2026-11-21T16:03:00.000000Z"}"#,
    );
    log.append(partition, claim).await.unwrap();
    let state = at_the_end(log, partition).await;
    let value = json!([{
        "specversion": "1.0", "id": "019aa000-0000-7000-8000-000000000001", "source": "/annals",
        "type": "content.illuminated.v9", "subject": "019aa000-0000-7000-8000-000000000002",
        "time": "2026-11-21T16:03:00.000000Z", "tenant": "019aa000-0000-7000-8000-000000000003",
        "aggregateversion": "1", "data": {"gold": true},
    }])
    .to_string();
    let mut headers = vec![
        ("content-type", "application/cloudevents-batch+json".to_owned()),
        ("annals-kind", "commit".to_owned()),
        ("annals-epoch", state.epoch.to_string()),
        ("annals-seq", "1".to_owned()),
        ("annals-tenant-seq", "1".to_owned()),
    ];
    let hash: Hash = state.hash.then(&record(&headers, &value));
    headers.push(("annals-hash", hash.to_string()));
    log.append(partition, record(&headers, &value)).await.unwrap();
    assert_eq!(at_the_end(log, partition).await.seq, 1, "it is admitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_log_is_void_and_loses_nothing() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let before = api.draft(&tenant, "before").await;
    let garbage = [
        record(&[], "\u{0}\u{1}garbage"),
        record(
            &[
                ("content-type", "text/html".into()),
                ("annals-kind", "commit".into()),
            ],
            "<html>",
        ),
        record(
            &[
                ("content-type", "application/json".into()),
                ("annals-kind", "claim".into()),
            ],
            "{}",
        ),
        record(&[("annals-kind", "coup".into())], "[]"),
    ];
    let ledger = world.log.ledger_partition(tenant.id.parse().unwrap());
    for partition in [ledger, Partition::DIRECTORY] {
        for record in &garbage {
            world.log.append(partition, record.clone()).await.unwrap();
        }
    }
    let after = api.draft(&tenant, "after").await;
    let new = api.tenant().await;
    api.draft(&new, "new").await;
    let records = world.records("ledger", ledger.index).await;
    let void: Vec<_> = records
        .iter()
        .filter(|record| record["admitted"] == false)
        .collect();
    assert_eq!(void.len(), garbage.len());
    assert!(void.iter().all(|record| record["why"].is_string()));
    let world = world.restart().await;
    for id in [before, after] {
        let publish = world
            .process
            .call(Method::POST, &format!("/api/v1/content/{id}/publish"));
        publish.key(&tenant.key).send().await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_from_the_future_makes_this_release_give_the_partition_up() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let ledger = world.log.ledger_partition(tenant.id.parse().unwrap());
    commit_from_the_future(&world.log, ledger).await;
    let offset = world.log.end(ledger).await.unwrap() - 1;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    api.post("/api/v1/content", &tenant.key, &body)
        .send()
        .await
        .problem(503, "not-served");
    let claims = async || {
        let records = world.records("ledger", ledger.index).await;
        records.iter().filter(|record| record["kind"] == "claim").count()
    };
    let before = claims().await;
    // Another process of this release does not claim it: whoever knows the event owns the partition.
    let second = world.second().await;
    within("the second process serves what it can", second.app.ready())
        .await
        .unwrap();
    assert_eq!(claims().await, before);
    let readiness = second.health.readiness();
    let check = &readiness.checks[&format!("commands {ledger}")];
    let said = check.detail.clone().unwrap();
    assert!(
        said.contains(&format!(
            "{ledger} offset {offset} cannot be read by this release"
        )) && said.contains("content.illuminated.v9"),
        "{said}"
    );
    second
        .post("/api/v1/content", &tenant.key, &body)
        .send()
        .await
        .problem(503, "not-served");
    // Other partitions are served all the same.
    until("a tenant of another partition", async || {
        let other = second.tenant().await;
        let elsewhere = world.log.ledger_partition(other.id.parse().unwrap()) != ledger;
        let body = json!({"site": other.domain, "kind": "post", "title": "a"});
        let answer = second.post("/api/v1/content", &other.key, &body).send().await;
        (elsewhere && answer.status == 201).then_some(())
    })
    .await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_from_the_future_in_the_directory_stops_following_it() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    commit_from_the_future(&world.log, Partition::DIRECTORY).await;
    // What is known goes on; what is not known might be in what cannot be read, so it is 503 and not 404.
    api.draft(&tenant, "known").await;
    let unknown = service::key::Key::make();
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    api.post("/api/v1/content", unknown.reveal(), &body)
        .send()
        .await
        .problem(503, "not-served");
    api.post("/api/v1/tenants", OPERATOR, &json!({"name": "new"}))
        .send()
        .await
        .problem(503, "not-served");
}

/// A revocation may be among what it cannot read: a key that it knows is not believed for long.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_follow_the_directory_does_not_believe_a_key_for_ever() {
    let config = Config {
        keys_confirmed_seconds: 1,
        ..config()
    };
    let world = World::with(config).await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let id = tenant.key.split('_').nth(1).unwrap();
    let path = format!("/api/v1/keys/{id}");
    let call = || api.call(Method::GET, &path).key(&tenant.key).send();
    call().await.expect(200);
    commit_from_the_future(&world.log, Partition::DIRECTORY).await;
    until("the key is doubted", async || {
        let answer = call().await;
        (answer.status != 200).then(|| answer.problem(503, "not-served"))
    })
    .await;
    // The first operator's key is not in the directory.
    world.records("directory", 0).await;
}
