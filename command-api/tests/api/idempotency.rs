//! A retry is not a second command, also after a restart.

use std::time::{Duration, Instant};

use command_api::command::{Context, Expected, Principal};
use events::{
    CommandId, PrincipalId, Sha256,
    directory::{self, Scope, Scopes},
};
use reqwest::Method;
use serde_json::json;

use crate::world::{OPERATOR, Tenant, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_first_answer_again_also_after_a_restart() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "Once"});
    let draft = |world: &World, key: &str| {
        world
            .process
            .post("/api/v1/content", &tenant.key, &body)
            .header("idempotency-key", key)
    };
    let first = draft(&world, "k1").send().await.expect(201);
    let count = world.commits().await;
    let second = draft(&world, "k1").send().await.expect(201);
    let world = world.restart().await;
    let third = draft(&world, "k1").send().await.expect(201);
    for again in [&second, &third] {
        assert_eq!(again.text, first.text);
        for header in ["etag", "location", "annals-position", "content-type"] {
            assert_eq!(again.header(header), first.header(header), "{header}");
        }
    }
    draft(&world, "k2").send().await.problem(409, "slug-taken");
    let claims = 1 + 4; // of the restart
    assert_eq!(world.commits().await, count + claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_request_is_refused() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let other = api.tenant().await;
    let draft = |key: &str, domain: &str, title: &str| {
        let body = json!({"site": domain, "kind": "post", "title": title});
        api.post("/api/v1/content", key, &body)
            .header("idempotency-key", "same")
    };
    let first = draft(&tenant.key, &tenant.domain, "a").send().await.expect(201);
    draft(&tenant.key, &tenant.domain, "b")
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    let id = first.body["id"].as_str().unwrap();
    let publish = api
        .call(Method::POST, &format!("/api/v1/content/{id}/publish"))
        .key(&tenant.key);
    publish
        .header("idempotency-key", "same")
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    // Another principal's keys are its own, within the tenant and outside.
    draft(&other.key, &other.domain, "a").send().await.expect(201);
    let colleague = api.issue(&tenant.id, &["content:write"]).await;
    draft(&colleague, &tenant.domain, "c").send().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_and_the_ledger_know_each_others_keys() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let site = |world: &World, key: &str| {
        world
            .process
            .post(
                "/api/v1/sites",
                &tenant.key,
                &json!({"domain": format!("{key}.example")}),
            )
            .header("idempotency-key", key)
    };
    let draft = |world: &World, key: &str| {
        let body = json!({"site": tenant.domain, "kind": "post", "title": key});
        world
            .process
            .post("/api/v1/content", &tenant.key, &body)
            .header("idempotency-key", key)
    };
    let made = site(&world, "first-a-site").send().await.expect(201);
    let drafted = draft(&world, "first-a-draft").send().await.expect(201);
    let count = world.commits().await;
    let world = world.restart().await;
    draft(&world, "first-a-site")
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    site(&world, "first-a-draft")
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    // Retries are answered as ever, and nothing was written.
    assert_eq!(
        site(&world, "first-a-site").send().await.expect(201).text,
        made.text
    );
    assert_eq!(
        draft(&world, "first-a-draft").send().await.expect(201).text,
        drafted.text
    );
    let claims = 1 + 4; // of the restart
    assert_eq!(world.commits().await, count + claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_no_record_and_is_decided_anew() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let holder = api.draft(&tenant, "Wanted").await;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "Wanted"});
    let draft = || {
        api.post("/api/v1/content", &tenant.key, &body)
            .header("idempotency-key", "again")
    };
    draft().send().await.problem(409, "slug-taken");
    api.call(Method::POST, &format!("/api/v1/content/{holder}/archive"))
        .key(&tenant.key)
        .send()
        .await
        .expect(200);
    draft().send().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_again_to_who_repeats_the_request() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let body = json!({"tenant": tenant.id, "scopes": ["read"]});
    let issue = |world: &World| {
        world
            .process
            .post("/api/v1/keys", OPERATOR, &body)
            .header("idempotency-key", "k")
    };
    let first = issue(&world).send().await.expect(201);
    let world = world.restart().await;
    let again = issue(&world).send().await.expect(201);
    assert_eq!(first.text, again.text);
    assert!(first.body["key"].is_string());
    let other = world
        .process
        .post("/api/v1/keys", OPERATOR, &body)
        .send()
        .await
        .expect(201);
    assert_ne!(other.body["key"], first.body["key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_are_refused() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    for key in ["", &"x".repeat(256)] {
        let draft = api
            .post("/api/v1/content", &tenant.key, &body)
            .header("idempotency-key", key);
        draft.send().await.problem(400, "invalid-header");
    }
    let longest = "x".repeat(255);
    let draft = api
        .post("/api/v1/content", &tenant.key, &body)
        .header("idempotency-key", &longest);
    draft.send().await.expect(201);
}

/// Of a command that is waited for until then.
fn context(tenant: &Tenant, until: Instant) -> Context {
    Context {
        id: CommandId::new(uuid::Uuid::now_v7()),
        principal: Principal {
            tenant: tenant.id.parse().unwrap(),
            id: PrincipalId::new(uuid::Uuid::nil()),
        },
        key: None,
        request: [0; 16],
        expected: Expected::Any,
        traceparent: None,
        correlation: None,
        until,
        arrived: None,
        held: None,
    }
}

/// As one that waited while the partition's state was loaded: whoever sent it has heard 503, and may have sent it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_waits_for_any_more_is_not_decided() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let before = world.commits().await;
    let late = directory::Command::IssueKey {
        tenant: tenant.id.parse().unwrap(),
        key: "k7Qm2ZxA".parse().unwrap(),
        principal: PrincipalId::new(uuid::Uuid::now_v7()),
        name: None,
        secret_hash: Sha256([7; 32]),
        scopes: Scopes::from_iter([Scope::Read]),
    };
    let context = context(&tenant, Instant::now());
    assert!(world.process.app.execute(context, late.into()).await.is_err());
    // Decided after it.
    let body = json!({"tenant": tenant.id, "scopes": ["read"]});
    let another = world.process.post("/api/v1/keys", OPERATOR, &body);
    another.send().await.expect(201);
    assert_eq!(world.commits().await, before + 1);
}

/// As when 24 hours have passed: the first answer is forgotten, and the key that it showed exists.
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_another_key_when_its_first_one_is_there_without_an_answer() {
    let (elsewhere, world) = (World::new().await, World::new().await);
    let issue = async |world: &World, tenant: &str| {
        let body = json!({"tenant": tenant, "scopes": ["read"]});
        let call = world.process.post("/api/v1/keys", OPERATOR, &body);
        call.header("idempotency-key", "a key").send().await
    };
    // The same installation's secret, so the same first key.
    let tenant = elsewhere.process.tenant().await;
    let first = issue(&elsewhere, &tenant.id).await.expect(201);
    let first = first.body["key"]
        .as_str()
        .unwrap()
        .parse::<service::key::Key>()
        .unwrap();
    let tenant = world.process.tenant().await;
    let context = context(&tenant, Instant::now() + Duration::from_secs(10));
    let taken = directory::Command::IssueKey {
        tenant: tenant.id.parse().unwrap(),
        key: first.id().parse().unwrap(),
        principal: PrincipalId::new(uuid::Uuid::now_v7()),
        name: None,
        secret_hash: Sha256(first.hash().bytes()),
        scopes: Scopes::from_iter([Scope::Read]),
    };
    world.process.app.execute(context, taken.into()).await.unwrap();

    let second = issue(&world, &tenant.id).await.expect(201);
    assert_ne!(second.body["id"], first.id());
    assert!(second.body["key"].is_string(), "{}", second.text);
    let again = issue(&world, &tenant.id).await.expect(201);
    assert_eq!(again.text, second.text, "the same request shows the same key");
}

/// It is in no log: the partition's owner remembers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_changed_nothing_is_not_done_later_by_its_retry() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"title": "a", "url": "https://example.org/a.epub", "priority": 5});
    let queued = api.post("/api/v1/downloads", &tenant.key, &body).send().await;
    let queued = queued.expect(201);
    let path = format!(
        "/api/v1/downloads/{}/priority",
        queued.body["id"].as_str().unwrap()
    );
    let put = |priority: i32, key: &str| {
        let put = api.call(Method::PUT, &path).key(&tenant.key);
        put.header("idempotency-key", key)
            .json(&json!({"priority": priority}))
            .send()
    };
    let first = put(5, "k").await.expect(200);
    assert_eq!(
        (&first.body["priority"], &first.body["changed"]),
        (&json!(5), &json!([]))
    );
    put(9, "other").await.expect(200);
    let count = world.commits().await;
    assert_eq!(put(5, "k").await.expect(200).text, first.text);
    put(7, "k").await.problem(422, "idempotency-key-reused");
    assert_eq!(world.commits().await, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_an_import_with_its_key_goes_on_where_it_is() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let start = |fingerprint: &str| {
        let body = json!({"site": tenant.domain, "source": "a.log", "fingerprint": fingerprint});
        let start = api.post("/api/v1/imports", &tenant.key, &body);
        start
            .header("idempotency-key", &fingerprint[..fingerprint.len().min(64)])
            .send()
    };
    let name = "a.log-1048576-1764547200";
    let first = start(name).await.expect(201);
    assert_eq!(
        start(name).await.expect(201).text,
        first.text,
        "it is there still"
    );
    let id = first.body["id"].as_str().unwrap().to_owned();
    let done = api.post(&format!("/api/v1/imports/{id}/complete"), &tenant.key, &json!({}));
    done.send().await.expect(200);
    let again = start(name).await.expect(200);
    assert_eq!(
        (&again.body["id"], &again.body["status"]),
        (&json!(id), &json!("completed"))
    );
    // A hash is one however it is written.
    let small = start(&"ab".repeat(32)).await.expect(201);
    let large = start(&"AB".repeat(32)).await.expect(200);
    assert_eq!(small.body["id"], large.body["id"]);
    start(&"x".repeat(301)).await.problem(422, "invalid");
}
