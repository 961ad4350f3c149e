//! Every command's happy path: status, headers, body.

use reqwest::Method;
use serde_json::json;

use crate::world::{OPERATOR, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_a_key_and_a_site_are_made_and_used_at_once() {
    let world = World::new().await;
    let api = &world.process;
    let tenant = api
        .post("/api/v1/tenants", OPERATOR, &json!({"name": "Acme"}))
        .send()
        .await
        .expect(201);
    assert_eq!(tenant.body["name"], "Acme");
    assert_eq!(tenant.header("etag"), "\"1\"");
    assert!(!tenant.header("annals-position").is_empty());
    assert_eq!(
        tenant.header("location"),
        format!("/api/v1/tenants/{}", tenant.body["id"].as_str().unwrap())
    );

    let body = json!({"tenant": "Acme", "scopes": ["admin", "read"], "name": "Ada Lovelace"});
    let key = api.post("/api/v1/keys", OPERATOR, &body).send().await.expect(201);
    let text = key.body["key"].as_str().unwrap();
    assert!(
        text.starts_with(&format!("ann_{}_", key.body["id"].as_str().unwrap())),
        "{text}"
    );
    assert_eq!(key.body["scopes"], json!(["read", "admin"]));
    assert_eq!(key.body["tenant"], tenant.body["id"]);

    let body = json!({"domain": "Bücher.Example", "name": "Books", "timezone": "Europe/Berlin"});
    let site = api.post("/api/v1/sites", text, &body).send().await.expect(201);
    assert_eq!(site.body["domain"], "xn--bcher-kva.example");
    assert_eq!(site.body["version"], 1);

    let log = format!("{:?}", world.records("directory", 0).await);
    let secret = text.rsplit('_').next().unwrap();
    assert!(!log.contains(secret), "the secret is in the log");
    assert!(!log.contains("Lovelace"), "a person's name is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_does_nothing_everywhere_within_a_second() {
    let world = World::new().await;
    let second = world.second().await;
    crate::world::within("the second process serves", second.app.ready())
        .await
        .unwrap();
    let tenant = second.tenant().await;
    let key = second.issue(&tenant.id, &["content:write"]).await;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    second
        .post("/api/v1/content", &key, &body)
        .send()
        .await
        .expect(201);
    // The first serves no partition, but it knows the key: what it lacks is not an answer to who calls.
    world
        .process
        .post("/api/v1/content", &key, &body)
        .send()
        .await
        .problem(503, "not-served");
    let id = key.split('_').nth(1).unwrap();
    let revoke = |key: &str| {
        second
            .call(Method::DELETE, &format!("/api/v1/keys/{id}"))
            .key(key)
            .send()
    };
    let revoked = revoke(&tenant.key).await.expect(200);
    let began = std::time::Instant::now();
    assert_eq!(revoked.body["status"], "revoked");
    assert_eq!(revoked.header("etag"), "\"2\"");
    second
        .post("/api/v1/content", &key, &body)
        .send()
        .await
        .problem(401, "unauthorized");
    crate::world::until("the first process knows it too", async || {
        (world
            .process
            .post("/api/v1/content", &key, &body)
            .send()
            .await
            .status
            == 401)
            .then_some(())
    })
    .await;
    assert!(began.elapsed() < std::time::Duration::from_secs(1));
    revoke(&tenant.key).await.expect(200);
    revoke(OPERATOR).await.expect(200);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_is_drafted_revised_published_unpublished_and_archived() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({
        "site": tenant.domain, "kind": "post", "title": "Hello, Wörld!", "body": "# Hi", "summary": "short",
        "tags": ["a", "b"], "featured": true, "language": "EN", "metadata": {"path": "/x"},
    });
    let drafted = api
        .post("/api/v1/content", &tenant.key, &body)
        .send()
        .await
        .expect(201);
    assert_eq!(drafted.body["slug"], "hello-world");
    assert_eq!(drafted.body["status"], "draft");
    assert_eq!(drafted.body["version"], 1);
    let path = format!("/api/v1/content/{}", drafted.body["id"].as_str().unwrap());
    assert_eq!(drafted.header("location"), path);

    let revise = json!({"title": "Hello again", "slug": "again", "summary": null});
    let revised = api
        .call(Method::PATCH, &path)
        .key(&tenant.key)
        .json(&revise)
        .send()
        .await
        .expect(200);
    assert_eq!(revised.body["slug"], "again");
    assert_eq!(revised.body["version"], 3);
    assert_eq!(revised.header("etag"), "\"3\"");
    let again = api
        .call(Method::PATCH, &path)
        .key(&tenant.key)
        .json(&revise)
        .send()
        .await
        .expect(200);
    assert_eq!(again.body["version"], 3, "nothing changed, so nothing happened");
    assert_eq!(again.body["status"], "draft");

    let call = async |verb: &str| {
        api.call(Method::POST, &format!("{path}/{verb}"))
            .key(&tenant.key)
            .send()
            .await
    };
    let published = call("publish").await.expect(200);
    assert_eq!(published.body["status"], "published");
    call("publish").await.problem(409, "already-published");
    assert_eq!(call("unpublish").await.expect(200).body["status"], "unpublished");
    let past = json!({"at": "2015-05-17T10:05:03Z"});
    let dated = api
        .post(&format!("{path}/publish"), &tenant.key, &past)
        .send()
        .await
        .expect(200);
    assert_eq!(dated.body["at"], "2015-05-17T10:05:03.000000Z");
    assert_eq!(call("archive").await.expect(200).body["status"], "archived");
    call("publish").await.problem(409, "content-archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_queued_ordered_run_and_ended() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let queue = async |title: &str| {
        let body = json!({"title": title, "url": "https://example.org/a.epub", "format": "epub"});
        let queued = api
            .post("/api/v1/downloads", &tenant.key, &body)
            .send()
            .await
            .expect(201);
        assert_eq!(queued.body["status"], "queued");
        queued.body["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (queue("first").await, queue("second").await);
    let at = |id: &str, verb: &str| format!("/api/v1/downloads/{id}/{verb}");
    let priority = json!({"priority": 5});
    let moved = api
        .call(Method::PUT, &at(&first, "priority"))
        .key(&tenant.key)
        .json(&priority)
        .send()
        .await
        .expect(200);
    assert_eq!(moved.body["priority"], 5);
    let reorder = json!({"priorities": {&first: 2, &second: 1}});
    let reordered = api
        .post("/api/v1/downloads/reorder", &tenant.key, &reorder)
        .send()
        .await
        .expect(200);
    assert_eq!(reordered.body["changed"].as_array().unwrap().len(), 2);
    // However many change, they are told in one way.
    let reorder = json!({"priorities": {&first: 2, &second: 3}});
    let reordered = api.post("/api/v1/downloads/reorder", &tenant.key, &reorder);
    let reordered = reordered.send().await.expect(200);
    assert_eq!(reordered.body["changed"], json!([{"id": second, "version": 3}]));
    let call = async |id: &str, verb: &str| {
        api.call(Method::POST, &at(id, verb))
            .key(&tenant.key)
            .send()
            .await
    };
    assert_eq!(call(&first, "start").await.expect(200).body["status"], "running");
    // More than a column of the tables holds.
    let endless = json!({"size": 1_u64 << 63});
    api.post(&at(&first, "complete"), &tenant.key, &endless)
        .send()
        .await
        .problem(422, "invalid")
        .names("/size");
    api.call(Method::PUT, &at(&first, "priority"))
        .key(&tenant.key)
        .json(&priority)
        .send()
        .await
        .problem(409, "not-queued");
    let gone = json!({"reason": "gone"});
    api.post(&at(&first, "fail"), &tenant.key, &gone)
        .send()
        .await
        .expect(200);
    assert_eq!(call(&first, "retry").await.expect(200).body["status"], "queued");
    assert_eq!(
        call(&first, "cancel").await.expect(200).body["status"],
        "cancelled"
    );
    call(&first, "cancel").await.problem(409, "download-over");
    call(&second, "start").await.expect(200);
    api.post(&at(&second, "complete"), &tenant.key, &json!({"size": 12}))
        .send()
        .await
        .expect(200);
    call(&second, "retry").await.problem(409, "not-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_begun_once_for_each_fingerprint_and_completed() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"site": tenant.domain, "source": "access.log", "fingerprint": "ab".repeat(32)});
    let begun = api
        .post("/api/v1/imports", &tenant.key, &body)
        .send()
        .await
        .expect(201);
    assert_eq!(
        (&begun.body["status"], &begun.body["next"]),
        (&json!("running"), &json!(0))
    );
    let again = api
        .post("/api/v1/imports", &tenant.key, &body)
        .send()
        .await
        .expect(200);
    assert_eq!(again.body["id"], begun.body["id"]);
    let path = format!("/api/v1/imports/{}/complete", begun.body["id"].as_str().unwrap());
    for _ in 0..2 {
        let done = api
            .call(Method::POST, &path)
            .key(&tenant.key)
            .send()
            .await
            .expect(200);
        assert_eq!(done.body["status"], "completed");
    }
    let known = api
        .post("/api/v1/imports", &tenant.key, &body)
        .send()
        .await
        .expect(200);
    assert_eq!(known.body["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scheduled_is_published_at_its_time_also_after_a_restart() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let soon = world.process.draft(&tenant, "soon").await;
    let later = world.process.draft(&tenant, "later").await;
    let at = |millis: i64| json!({"at": (chrono::Utc::now() + chrono::Duration::milliseconds(millis)).to_rfc3339()});
    let schedule = async |id: &str, millis| {
        let path = format!("/api/v1/content/{id}/publish");
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let call = world
            .process
            .post(&path, &tenant.key, &at(millis))
            .header("traceparent", trace);
        assert_eq!(call.send().await.expect(200).body["status"], "scheduled");
    };
    schedule(&soon, 300).await;
    schedule(&later, 1500).await;
    let world = world.restart().await;
    for id in [&soon, &later] {
        let published = crate::world::until("the piece is published", async || {
            find(&world, id, "content.published.v1").await
        })
        .await;
        let scheduled = find(&world, id, "content.scheduled.v1").await.unwrap();
        assert_eq!(published["data"]["at"], scheduled["data"]["at"]);
        assert_eq!(published["actor"], scheduled["actor"]);
        assert_eq!(published["causationid"], scheduled["causationid"]);
        assert_eq!(published["traceparent"], scheduled["traceparent"]);
        assert!(
            published["traceparent"]
                .as_str()
                .unwrap()
                .contains("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert!(published["time"].as_str() >= published["data"]["at"].as_str());
    }
}

/// An event of this type about this subject.
async fn find(world: &World, subject: &str, name: &str) -> Option<serde_json::Value> {
    for partition in 0..4 {
        for record in world.records("ledger", partition).await {
            let events = record["value"].as_array().cloned().unwrap_or_default();
            let found = events
                .into_iter()
                .find(|event| event["subject"] == subject && event["type"] == name);
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_shown_to_operators_only() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let records = world.records("directory", 0).await;
    assert_eq!(records[0]["kind"], "genesis");
    assert_eq!(records[1]["kind"], "claim");
    assert!(
        records[2..]
            .iter()
            .all(|record| record["kind"] == "commit" && record["admitted"] == true)
    );
    assert_eq!(records[2]["value"][0]["type"], "tenant.created.v1");
    let show = |path: &str, key: &str| world.process.call(Method::GET, path).key(key);
    show("/api/v1/log/ledger/0", &tenant.key)
        .send()
        .await
        .problem(403, "forbidden");
    show("/api/v1/log/ledger/99", OPERATOR)
        .send()
        .await
        .problem(404, "not-found");
    show("/api/v1/log/owners/0", OPERATOR)
        .send()
        .await
        .problem(404, "not-found");
    show("/api/v1/log/ledger/0?limit=0", OPERATOR)
        .send()
        .await
        .problem(422, "invalid")
        .names("/limit");
    let last = show("/api/v1/log/directory/0?limit=1", OPERATOR)
        .send()
        .await
        .expect(200);
    assert_eq!(last.body["records"].as_array().unwrap().len(), 1);
    assert_eq!(last.body["next"], last.body["end"]);
}
