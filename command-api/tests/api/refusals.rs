//! Every way to be refused: status, kind, the field that is named; and nothing is written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Call, OPERATOR, World};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let reader = api.issue(&tenant.id, &["read"]).await;
    let before = world.commits().await;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    let no_key = api
        .call(Method::POST, "/api/v1/content")
        .json(&body)
        .send()
        .await
        .problem(401, "unauthorized");
    assert_eq!(no_key.header("www-authenticate"), "Bearer");
    // Before what is wrong with the address.
    let nowhere = api.call(Method::DELETE, "/api/v1/keys/zz");
    nowhere.send().await.problem(401, "unauthorized");
    for wrong in [
        "",
        "x",
        "ann_abcdefghijkl_",
        &format!("{}x", tenant.key),
        &tenant.key[..tenant.key.len() - 1],
    ] {
        api.post("/api/v1/content", wrong, &body)
            .send()
            .await
            .problem(401, "unauthorized");
    }
    let unknown = service::key::Key::make();
    api.post("/api/v1/content", unknown.reveal(), &body)
        .send()
        .await
        .problem(401, "unauthorized");
    api.post("/api/v1/content", &reader, &body)
        .send()
        .await
        .problem(403, "forbidden");
    api.post("/api/v1/content", OPERATOR, &body)
        .send()
        .await
        .problem(403, "forbidden");
    api.post("/api/v1/tenants", &tenant.key, &json!({"name": "x"}))
        .send()
        .await
        .problem(403, "forbidden");
    assert_eq!(world.commits().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_things_are_as_unknown_as_none() {
    let world = World::new().await;
    let (api, ours, theirs) = (
        &world.process,
        world.process.tenant().await,
        world.process.tenant().await,
    );
    let piece = api.draft(&theirs, "theirs").await;
    let queued = json!({"title": "a", "url": "https://example.org/"});
    let download = api
        .post("/api/v1/downloads", &theirs.key, &queued)
        .send()
        .await
        .expect(201);
    let download = download.body["id"].as_str().unwrap();
    let key = theirs.key.split('_').nth(1).unwrap();
    let before = world.commits().await;
    let nobody = uuid::Uuid::now_v7().to_string();
    for id in [piece.as_str(), nobody.as_str(), "not-an-id"] {
        let at = |verb: &str| format!("/api/v1/content/{id}{verb}");
        for verb in ["/publish", "/unpublish", "/archive", "/view"] {
            api.call(Method::POST, &at(verb))
                .key(&ours.key)
                .send()
                .await
                .problem(404, "not-found");
        }
        let title = json!({"title": "ours"});
        api.call(Method::PATCH, &at(""))
            .key(&ours.key)
            .json(&title)
            .send()
            .await
            .problem(404, "not-found");
    }
    for id in [download, nobody.as_str(), "%00", "../x"] {
        let cancel = format!("/api/v1/downloads/{id}/cancel");
        api.call(Method::POST, &cancel)
            .key(&ours.key)
            .send()
            .await
            .problem(404, "not-found");
    }
    let reorder = json!({"priorities": {download: 1}});
    let refused = api
        .post("/api/v1/downloads/reorder", &ours.key, &reorder)
        .send()
        .await
        .problem(404, "not-found");
    refused.names(&format!("/priorities/{download}"));
    let body = json!({"site": theirs.domain, "kind": "post", "title": "a"});
    api.post("/api/v1/content", &ours.key, &body)
        .send()
        .await
        .problem(404, "not-found")
        .names("/site");
    let body = json!({"site": "nowhere.example", "kind": "post", "title": "a"});
    api.post("/api/v1/content", &ours.key, &body)
        .send()
        .await
        .problem(404, "not-found")
        .names("/site");
    let body = json!({"tenant": theirs.id, "scopes": ["read"]});
    api.post("/api/v1/keys", &ours.key, &body)
        .send()
        .await
        .problem(404, "not-found")
        .names("/tenant");
    api.call(Method::DELETE, &format!("/api/v1/keys/{key}"))
        .key(&ours.key)
        .send()
        .await
        .problem(404, "not-found");
    let body = json!({"domain": theirs.domain});
    api.post("/api/v1/sites", &ours.key, &body)
        .send()
        .await
        .problem(409, "domain-taken");
    assert_eq!(world.commits().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_slug_is_refused_with_a_free_one() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let first = api.draft(&tenant, "Same").await;
    let body = json!({"site": tenant.domain, "kind": "post", "title": "Same"});
    let taken = api
        .post("/api/v1/content", &tenant.key, &body)
        .send()
        .await
        .problem(409, "slug-taken");
    assert_eq!(taken.body["suggestion"], "same-2");
    let body = json!({"site": tenant.domain, "kind": "page", "title": "Same"});
    api.post("/api/v1/content", &tenant.key, &body)
        .send()
        .await
        .expect(201);
    api.call(Method::POST, &format!("/api/v1/content/{first}/archive"))
        .key(&tenant.key)
        .send()
        .await
        .expect(200);
    api.draft(&tenant, "Same").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_must_name_the_version() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let patch = |title: &str, version: &str| {
        api.call(Method::PATCH, &path)
            .key(&tenant.key)
            .json(&json!({"title": title}))
            .header("if-match", version)
    };
    patch("b", "\"2\"").send().await.problem(412, "version");
    patch("b", "W/\"1\"").send().await.problem(412, "version");
    patch("b", "1").send().await.problem(400, "invalid-header");
    assert_eq!(
        patch("b", "\"1\"").send().await.expect(200).header("etag"),
        "\"2\""
    );
    assert_eq!(
        patch("c", "\"7\", \"2\"").send().await.expect(200).header("etag"),
        "\"3\""
    );
    assert_eq!(patch("d", "*").send().await.expect(200).header("etag"), "\"4\"");
    let body = json!({"site": tenant.domain, "kind": "post", "title": "new"});
    api.post("/api/v1/content", &tenant.key, &body)
        .header("if-match", "\"1\"")
        .send()
        .await
        .problem(412, "version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_log_or_beyond_the_end_is_refused() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
    let send = |position: &str| {
        api.post("/api/v1/content", &tenant.key, &body)
            .header("annals-position", position)
    };
    let ours = service::Position::new(world.log.id().0);
    send("garbage").send().await.problem(400, "position");
    send(&service::Position::new(uuid::Uuid::new_v4()).to_string())
        .send()
        .await
        .problem(400, "position");
    let beyond = ours.clone().at(service::Topic::Ledger, 0, 1_000_000).to_string();
    send(&beyond).send().await.problem(400, "position");
    send(&ours.at(service::Topic::Directory, 0, 1).to_string())
        .send()
        .await
        .expect(201);
}

/// Texts that break things elsewhere.
const HOSTILE: &[&str] = &[
    "'; DROP TABLE content; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "%2e%2e%2f",
    "\u{202e}evil",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "a\r\nSet-Cookie: x=y",
    "\u{0}",
    "🙃",
];

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_the_field_named_and_nothing_is_written() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let before = world.commits().await;
    let with = |change: Value| {
        let mut body = json!({"site": tenant.domain, "kind": "post", "title": "a b c"});
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let long = "x".repeat(600 * 1024);
    let tags: Vec<String> = (0..51).map(|number| number.to_string()).collect();
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    let drafts = [
        (with(json!({"titel": "a"})), 422, "/titel"),
        (with(json!({"title": ""})), 422, "/title"),
        (with(json!({"title": "a\nb"})), 422, "/title"),
        (with(json!({"title": 5})), 422, "/title"),
        (with(json!({"title": null})), 422, "/title"),
        (with(json!({"title": "x".repeat(301)})), 422, "/title"),
        (with(json!({"title": "!!!"})), 422, "/slug"),
        (with(json!({"kind": "novel"})), 422, "/kind"),
        (with(json!({"kind": {"post": null}})), 422, "/kind"),
        (with(json!({"slug": "../etc/passwd"})), 422, "/slug"),
        (with(json!({"slug": "Großes"})), 422, "/slug"),
        (with(json!({"slug": "a--b"})), 422, "/slug"),
        (with(json!({"slug": "x".repeat(201)})), 422, "/slug"),
        (with(json!({"body": long})), 413, "/body"),
        (with(json!({"summary": "x".repeat(2001)})), 422, "/summary"),
        (with(json!({"tags": tags})), 422, "/tags"),
        (with(json!({"tags": ["a", 5]})), 422, "/tags/1"),
        (with(json!({"tags": "a"})), 422, "/tags"),
        (with(json!({"language": "english"})), 422, "/language"),
        (with(json!({"featured": "yes"})), 422, "/featured"),
        (with(json!({"metadata": {"a": deep}})), 422, "/metadata"),
        (
            with(json!({"metadata": {"a": "x".repeat(65 * 1024)}})),
            422,
            "/metadata",
        ),
        (with(json!({"site": "http://blog.example/"})), 422, "/site"),
        (with(json!({"site": "127.0.0.1"})), 422, "/site"),
        (json!({"site": tenant.domain, "kind": "post"}), 422, "/title"),
    ];
    for (body, status, pointer) in drafts {
        let answer = api.post("/api/v1/content", &tenant.key, &body).send().await;
        let kind = if status == 413 { "too-large" } else { "invalid" };
        answer.problem(status, kind).names(pointer);
    }
    let revisions = [
        (json!({"kind": "page"}), "/kind"),
        (json!({"title": ""}), "/title"),
        (json!({"slug": "a b"}), "/slug"),
    ];
    for (body, pointer) in revisions {
        let answer = api
            .call(Method::PATCH, &path)
            .key(&tenant.key)
            .json(&body)
            .send()
            .await;
        answer.problem(422, "invalid").names(pointer);
    }
    for at in [
        "yesterday",
        "2026-13-01T00:00:00Z",
        "1815-12-10T00:00:00Z",
        "9999-01-01T00:00:00Z",
    ] {
        let answer = api
            .post(&format!("{path}/publish"), &tenant.key, &json!({"at": at}))
            .send()
            .await;
        answer.problem(422, "invalid").names("/at");
    }
    let urls = [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://localhost/x",
        "http://127.0.0.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data",
        "http://user:password@example.org/",
        "not a url",
        "",
    ];
    for url in urls {
        let body = json!({"title": "a", "url": url});
        api.post("/api/v1/downloads", &tenant.key, &body)
            .send()
            .await
            .problem(422, "invalid")
            .names("/url");
    }
    let downloads = [
        (
            json!({"title": "a", "url": "https://example.org/", "priority": 3_000_000_000_u64}),
            "/priority",
        ),
        (
            json!({"title": "a", "url": "https://example.org/", "sha256": "abc"}),
            "/sha256",
        ),
        (json!({"title": "", "url": "https://example.org/"}), "/title"),
    ];
    for (body, pointer) in downloads {
        api.post("/api/v1/downloads", &tenant.key, &body)
            .send()
            .await
            .problem(422, "invalid")
            .names(pointer);
    }
    let many: serde_json::Map<String, Value> = (0..1001)
        .map(|_| (uuid::Uuid::now_v7().to_string(), json!(1)))
        .collect();
    let reorder = api
        .post(
            "/api/v1/downloads/reorder",
            &tenant.key,
            &json!({"priorities": many}),
        )
        .send()
        .await;
    reorder.problem(422, "invalid").names("/priorities");
    let id = uuid::Uuid::now_v7();
    let twice = format!(r#"{{"priorities": {{"{id}": 1, "{id}": 2}}}}"#);
    let twice = api
        .call(Method::POST, "/api/v1/downloads/reorder")
        .key(&tenant.key)
        .body("application/json", twice);
    assert!(twice.send().await.status.is_client_error());
    let operators = [
        ("/api/v1/tenants", json!({"name": ""}), "/name"),
        ("/api/v1/keys", json!({"scopes": ["read"]}), "/tenant"),
        (
            "/api/v1/keys",
            json!({"tenant": tenant.id, "scopes": []}),
            "/scopes",
        ),
        (
            "/api/v1/keys",
            json!({"tenant": tenant.id, "scopes": ["operator"]}),
            "/scopes",
        ),
        (
            "/api/v1/keys",
            json!({"tenant": tenant.id, "scopes": ["read", "write"]}),
            "/scopes/1",
        ),
        (
            "/api/v1/sites",
            json!({"tenant": tenant.id, "domain": "a b"}),
            "/domain",
        ),
        (
            "/api/v1/sites",
            json!({"tenant": tenant.id, "domain": "10.0.0.1"}),
            "/domain",
        ),
        (
            "/api/v1/sites",
            json!({"tenant": tenant.id, "domain": "ok.example", "timezone": "Mars/Base"}),
            "/timezone",
        ),
    ];
    for (path, body, pointer) in operators {
        api.post(path, OPERATOR, &body)
            .send()
            .await
            .problem(422, "invalid")
            .names(pointer);
    }
    for text in HOSTILE {
        let body = json!({"site": tenant.domain, "kind": "post", "title": "a", "slug": text});
        api.post("/api/v1/content", &tenant.key, &body)
            .send()
            .await
            .problem(422, "invalid");
        let body = json!({"site": text, "kind": "post", "title": "a"});
        assert!(
            api.post("/api/v1/content", &tenant.key, &body)
                .send()
                .await
                .status
                .is_client_error()
        );
        let body = json!({"site": text, "source": text, "fingerprint": text});
        let import = api.post("/api/v1/imports", &tenant.key, &body).send().await;
        assert!(import.status.is_client_error(), "{}", import.text);
    }
    assert_eq!(world.commits().await, before, "something was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_are_refused() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let send = |content_type: &str, body: Vec<u8>| -> Call {
        api.call(Method::POST, "/api/v1/content")
            .key(&tenant.key)
            .body(content_type, body)
    };
    let before = world.commits().await;
    let good = json!({"site": tenant.domain, "kind": "post", "title": "a"})
        .to_string()
        .into_bytes();
    send("text/plain", good.clone())
        .send()
        .await
        .problem(415, "unsupported-media-type");
    send("application/json; charset=utf-16", good.clone())
        .send()
        .await
        .problem(415, "unsupported-media-type");
    let packed = send("application/json", good.clone()).header("content-encoding", "gzip");
    packed.send().await.problem(415, "unsupported-media-type");
    let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
    let bodies: Vec<Vec<u8>> = vec![
        b"".into(),
        b"{".into(),
        b"{\"title\": \"\xff\"}".into(),
        b"nul".into(),
        [&good[..], b"x"].concat(),
    ];
    for body in bodies {
        send("application/json", body)
            .send()
            .await
            .problem(400, "unreadable");
    }
    let metadata = format!(
        r#"{{"metadata": {{"a": {}1{}}}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    send("application/json", metadata.into_bytes())
        .send()
        .await
        .problem(400, "unreadable");
    assert!(
        send("application/json", deep)
            .send()
            .await
            .status
            .is_client_error()
    );
    let positional = json!([
        tenant.domain,
        "post",
        "a",
        null,
        null,
        null,
        null,
        null,
        null,
        null
    ]);
    send("application/json", positional.to_string().into())
        .send()
        .await
        .problem(422, "invalid");
    send("application/json", vec![b' '; 5 * 1024 * 1024])
        .send()
        .await
        .problem(413, "too-large");
    let small = api.call(Method::POST, "/api/v1/downloads").key(&tenant.key);
    small
        .body("application/json", vec![b' '; 300 * 1024])
        .send()
        .await
        .problem(413, "too-large");
    send("application/json", b"[]".into())
        .send()
        .await
        .problem(422, "invalid");
    send("application/json", b"5".into())
        .send()
        .await
        .problem(422, "invalid");
    assert_eq!(world.commits().await, before);
    api.call(Method::GET, "/api/v1/nothing")
        .send()
        .await
        .problem(404, "not-found");
    api.call(Method::GET, "/api/v1/tenants")
        .send()
        .await
        .problem(405, "method-not-allowed");
}
