//! What bodies and headers may not hold: the answer names the field in words for people, and nothing is written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, BROWSER, OPERATOR, Tenant, World};

/// How many visits the log holds.
async fn visits(world: &World) -> usize {
    let mut count = 0;
    for partition in 0..4 {
        for record in world.records("visits", partition).await {
            count += record["value"].as_array().map_or(0, Vec::len);
        }
    }
    count
}

async fn hit(world: &World, body: impl Into<String>) -> Answer {
    let call = world.process.call(Method::POST, "/api/event");
    call.body("text/plain", body.into())
        .header("user-agent", BROWSER)
        .send()
        .await
}

async fn send(world: &World, tenant: &Tenant, body: impl Into<String>) -> Answer {
    let call = world.process.call(Method::POST, "/api/v1/content");
    call.key(&tenant.key)
        .body("application/json", body.into())
        .send()
        .await
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

fn said(answer: &Answer, pointer: &str) -> String {
    let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
    let error = errors.iter().find(|error| error["pointer"] == pointer);
    error.map_or_else(
        || panic!("{pointer}: {}", answer.text),
        |error| error["detail"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_nested_a_thousand_deep_is_refused_wherever_it_is_deep() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    for field in ["p", "props", "m", "h", "unknown", "e"] {
        let body = format!(
            r#"{{"n":"pageview","u":"https://a.example/","d":"{}","{field}":{{"a":{}}}}}"#,
            tenant.domain,
            nested(1000)
        );
        let answer = hit(&world, body).await.problem(400, "unreadable");
        let detail = said(&answer, &format!("/{field}"));
        assert!(field == "e" || detail.contains("deeper than 127"), "{detail}");
    }
    // A text that holds JSON is no way around it.
    let text = json!({"n": "pageview", "u": "https://a.example/", "d": tenant.domain, "p": format!("{{\"a\":{}}}", nested(1000))});
    hit(&world, text.to_string())
        .await
        .problem(400, "unreadable")
        .names("/p");
    assert_eq!(visits(&world).await, 0);
    let shallow =
        json!({"n": "pageview", "u": "https://a.example/", "d": tenant.domain, "p": {"a": [[[1]]]}});
    hit(&world, shallow.to_string()).await.expect(202);
    assert_eq!(visits(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_no_event() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let fields = |count: usize| {
        let mut fields = vec![Value::Null; count];
        fields[0] = json!("pageview");
        fields[1] = json!("https://a.example/");
        fields[2] = json!(tenant.domain);
        fields
    };
    let answer = hit(&world, json!(fields(13)).to_string())
        .await
        .problem(400, "unreadable");
    assert_eq!(said(&answer, ""), "must be an object");
    let mut item = fields(14);
    item.insert(0, Value::Null);
    let revenue = |money: Value| json!({"name": "Buy", "url": "https://a.example/", "domain": tenant.domain, "revenue": money});
    let answer = hit(&world, revenue(json!(["19.99", "EUR"])).to_string()).await;
    answer.problem(400, "unreadable").names("/revenue");
    let batch = json!([item, revenue(json!(["19.99", "EUR"])), 5]);
    let answer = api
        .post("/api/v1/visits", &tenant.key, &batch)
        .send()
        .await
        .expect(202);
    let rejected = &answer.body["rejected"];
    assert_eq!(
        rejected[0],
        json!({"index": 0, "detail": "must be an object"}),
        "{}",
        answer.text
    );
    assert_eq!(
        rejected[1],
        json!({"index": 1, "detail": "/revenue must be an object of amount and currency"})
    );
    assert_eq!(rejected[2], json!({"index": 2, "detail": "must be an object"}));
    assert_eq!(visits(&world).await, 0);
    let answer = hit(
        &world,
        revenue(json!(r#"{"amount": 1, "currency": "EUR"}"#)).to_string(),
    )
    .await;
    answer.expect(202);
    assert_eq!(visits(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn visits_heed_the_headers_of_every_command() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let piece = api.draft(&tenant, "Read me").await;
    let visit = json!([{"name": "pageview", "url": "https://a.example/", "domain": tenant.domain}]);
    let foreign = service::Position::new(uuid::Uuid::new_v4()).to_string();
    let ours = service::Position::new(world.log.id().0);
    let beyond = ours.clone().at(service::Topic::Visits, 0, 1_000_000).to_string();
    let refused = [
        ("annals-position", "garbage", 400, "position"),
        ("annals-position", &foreign, 400, "position"),
        ("annals-position", &beyond, 400, "position"),
        ("if-match", "\"1\"", 412, "version"),
        ("if-match", "1", 400, "invalid-header"),
    ];
    for (path, body) in [
        ("/api/v1/visits".to_owned(), &visit),
        (format!("/api/v1/content/{piece}/view"), &json!({})),
    ] {
        let call = || api.post(&path, &tenant.key, body).header("user-agent", BROWSER);
        for (name, value, status, kind) in refused {
            call().header(name, value).send().await.problem(status, kind);
        }
        let latin = api.call(Method::POST, &path).key(&tenant.key);
        latin
            .body("application/json; charset=iso-8859-1", body.to_string())
            .send()
            .await
            .problem(415, "unsupported-media-type");
        assert_eq!(visits(&world).await, 0, "{path}");
    }
    for kind in ["application/json", "application/x-ndjson"] {
        let empty = api.call(Method::POST, "/api/v1/visits").key(&tenant.key);
        let empty = empty.body(kind, "").send().await.problem(400, "unreadable");
        assert!(empty.text.contains("is empty"), "{}", empty.text);
    }
    let here = ours.at(service::Topic::Directory, 0, 1).to_string();
    api.call(Method::POST, "/api/v1/visits")
        .key(&tenant.key)
        .body("application/json; charset=\"UTF-8\"", visit.to_string())
        .header("annals-position", &here)
        .header("if-match", "*")
        .send()
        .await
        .expect(202);
    assert_eq!(visits(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_takes_nothing_away_that_a_piece_must_have() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let before = world.commits().await;
    let patch = |body: Value| api.call(Method::PATCH, &path).key(&tenant.key).json(&body).send();
    for field in ["title", "slug", "body", "tags", "featured", "metadata"] {
        let answer = patch(json!({field: null})).await.problem(422, "invalid");
        assert!(
            said(&answer, &format!("/{field}")).starts_with("must be "),
            "{}",
            answer.text
        );
    }
    assert_eq!(world.commits().await, before);
    patch(json!({"summary": "s", "language": "en"})).await.expect(200);
    patch(json!({"summary": null, "language": null}))
        .await
        .expect(200);
    assert_eq!(world.commits().await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_comes_back_as_it_was_sent_or_is_refused() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let draft = |metadata: &str| {
        format!(
            r#"{{"site":"{}","kind":"post","title":"a","slug":"s{}","metadata":{metadata}}}"#,
            tenant.domain,
            uuid::Uuid::now_v7()
        )
    };
    let before = world.commits().await;
    for (metadata, pointer) in [
        (r#"{"n":123456789012345678901234567890}"#, "/metadata/n"),
        (r#"{"n":[1,{"m":-9223372036854775809}]}"#, "/metadata/n/1/m"),
        (r#"{"n":0.12345678901234567890123}"#, "/metadata/n"),
        (r#"{"n":1e400}"#, "/metadata/n"),
        (r#"{"n":1e-400}"#, "/metadata/n"),
        (r#"{"a":1,"a":2}"#, "/metadata/a"),
        (r#"{"x":[{"a/b":1,"c":2,"a\u002fb":2}]}"#, "/metadata/x/0/a~1b"),
    ] {
        let answer = send(&world, &tenant, draft(metadata))
            .await
            .problem(422, "invalid");
        said(&answer, pointer);
    }
    let id = uuid::Uuid::now_v7();
    let reorder = world
        .process
        .call(Method::POST, "/api/v1/downloads/reorder")
        .key(&tenant.key);
    let twice = format!(r#"{{"priorities":{{"{id}":1,"{id}":2}}}}"#);
    let twice = reorder.body("application/json", twice).send().await;
    twice.problem(422, "invalid").names(&format!("/priorities/{id}"));
    // As values these take a hundred times as much, so they are not made values.
    let empty = vec![r#"{"":0}"#; 40_000].join(",");
    for metadata in [format!(r#"{{"a":[{empty}]}}"#), "[1]".to_owned()] {
        let answer = send(&world, &tenant, draft(&metadata)).await;
        said(&answer.problem(422, "invalid"), "/metadata");
    }
    assert_eq!(world.commits().await, before);
    for metadata in [
        r#"{"n":18446744073709551615,"m":-9223372036854775808,"f":0.1,"g":1.50,"e":1e21,"E":1.5E+3,"z":-0,"y":0.0e7}"#,
        r#"{"a":{"b":1},"b":[{"b":1},{"b":2}],"":{"":1},"c":"\"a\":1,\"a\":2"}"#,
    ] {
        send(&world, &tenant, draft(metadata)).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_character_that_cannot_be_stored_is_found_where_it_is() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let before = world.commits().await;
    for (field, pointer) in [
        (r#""title":"a\u0000""#, "/title"),
        (r#""title":"a","tags":["b","\u0000"]"#, "/tags/1"),
        (
            r#""title":"a","metadata":{"x":[{"y":"\\\u0000"}]}"#,
            "/metadata/x/0/y",
        ),
        (r#""title":"a","metadata":{"x":{"y\u0000":1}}"#, "/metadata/x"),
    ] {
        let body = format!(r#"{{"site":"{}","kind":"post",{field}}}"#, tenant.domain);
        let answer = send(&world, &tenant, body).await.problem(422, "invalid");
        assert!(said(&answer, pointer).contains("U+0000"), "{}", answer.text);
    }
    assert_eq!(world.commits().await, before);
    let body = format!(
        r#"{{"site":"{}","kind":"post","title":"a \\u0000"}}"#,
        tenant.domain
    );
    send(&world, &tenant, body).await.expect(201);
    let query = world
        .process
        .call(Method::GET, "/api/v1/events?limit=3&types=a%00b");
    let query = query.key(&tenant.key).send().await.problem(422, "invalid");
    assert!(said(&query, "/types").contains("U+0000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nested_too_deeply_is_told_so() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let body = format!(r#"{{"metadata":{{"a":{}}}}}"#, nested(1000));
    let answer = send(&world, &tenant, body).await.problem(400, "unreadable");
    assert_eq!(answer.body["detail"], "the body is nested deeper than 127 levels");
    answer.names("/metadata");
}

/// Words of the language that this is written in, and of its libraries.
const OURS: &[&str] = &[
    "struct",
    "enum",
    "variant",
    "i32",
    "u64",
    "f64",
    "u16",
    "u8",
    "sequence",
    "target type",
    "parsing failed",
    "in string",
    "borrowed",
    "boolean",
    "tuple",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_right_is_said_in_words_for_people() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let mut told = Vec::new();
    let mut tell = |answer: Answer, pointer: &str, words: &str| {
        let detail = said(&answer, pointer);
        assert_eq!(detail, words, "{}", answer.text);
        told.push(answer.text);
    };
    let draft = |field: &str, value: Value| {
        let mut body = json!({"site": tenant.domain, "kind": "post", "title": "a"});
        body[field] = value;
        api.post("/api/v1/content", &tenant.key, &body).send()
    };
    tell(
        draft("title", json!(5)).await.problem(422, "invalid"),
        "/title",
        "must be a text",
    );
    tell(
        draft("featured", json!("yes")).await.problem(422, "invalid"),
        "/featured",
        "must be true or false",
    );
    tell(
        draft("tags", json!({})).await.problem(422, "invalid"),
        "/tags",
        "must be a list",
    );
    tell(
        draft("metadata", json!([])).await.problem(422, "invalid"),
        "/metadata",
        "must be an object",
    );
    tell(
        draft("kind", json!("novel")).await.problem(422, "invalid"),
        "/kind",
        "must be one of post, project, idea, page, resume",
    );
    tell(
        draft("titel", json!(1)).await.problem(422, "invalid"),
        "/titel",
        "is not a field here; expected one of site, kind, title, slug, body, summary, tags, featured, language, metadata",
    );
    for body in ["[]", "5", "\"a\""] {
        tell(
            send(&world, &tenant, body).await.problem(422, "invalid"),
            "",
            "must be an object",
        );
    }
    let queue = |field: &str, value: Value| {
        let mut body = json!({"title": "a", "url": "https://example.org/"});
        body[field] = value;
        api.post("/api/v1/downloads", &tenant.key, &body).send()
    };
    for wrong in [json!(3_000_000_000_u64), json!(1.5), json!("1")] {
        tell(
            queue("priority", wrong).await.problem(422, "invalid"),
            "/priority",
            "must be a whole number from -2147483648 to 2147483647",
        );
    }
    let key = json!({"scopes": ["read"], "principal": "nobody"});
    tell(
        api.post("/api/v1/keys", &tenant.key, &key)
            .send()
            .await
            .problem(422, "invalid"),
        "/principal",
        "must be a UUID, as in 019aa000-0000-7000-8000-000000000001",
    );
    let get = |path: &str| api.call(Method::GET, path).key(&tenant.key).send();
    tell(
        get("/api/v1/events?limit=x").await.problem(422, "invalid"),
        "/limit",
        "must be a whole number",
    );
    tell(
        get("/api/v1/events?limit=99999999999999999999999")
            .await
            .problem(422, "invalid"),
        "/limit",
        "is a larger number than is taken here",
    );
    let event = |field: &str, value: Value| {
        let mut body = json!({"name": "a", "url": "https://a.example/", "domain": tenant.domain});
        body[field] = value;
        body
    };
    for (field, value, words) in [
        ("revenue", json!(5), "must be an object of amount and currency"),
        ("revenue", json!("5"), "must be an object of amount and currency"),
        (
            "props",
            json!([1]),
            "must be an object of texts, numbers and truth values",
        ),
        ("interactive", json!("no"), "must be true or false"),
    ] {
        let answer = hit(&world, event(field, value).to_string())
            .await
            .problem(400, "unreadable");
        tell(answer, &format!("/{field}"), words);
    }
    told.push(hit(&world, "5").await.problem(400, "unreadable").text);
    let items = json!([
        event("id", json!("x")),
        event("ip", json!("here")),
        event("line", json!(-1)),
        event("scroll_depth", json!(300)),
        7
    ]);
    let answer = api
        .post("/api/v1/visits", &tenant.key, &items)
        .send()
        .await
        .expect(202);
    let details: Vec<_> = answer.body["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["detail"].as_str().unwrap())
        .collect();
    assert_eq!(
        details,
        [
            "/id must be a UUID, as in 019aa000-0000-7000-8000-000000000001",
            "/ip must be an IP address, as in 203.0.113.7 or 2001:db8::7",
            "/line must be a whole number from 0 to 18446744073709551615",
            "/scroll_depth must be a whole number from 0 to 255",
            "must be an object",
        ]
    );
    told.push(answer.text);
    for text in told {
        for word in OURS {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    // The first field stands in the detail, too.
    let answer = draft("slug", json!("a b")).await.problem(422, "invalid");
    assert!(
        answer.body["detail"].as_str().unwrap().starts_with("/slug: "),
        "{}",
        answer.text
    );
    let two = json!({"site": tenant.domain, "kind": "post", "title": "", "slug": "a b"});
    let answer = api
        .post("/api/v1/content", &tenant.key, &two)
        .send()
        .await
        .problem(422, "invalid");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("/title: ") && detail.ends_with("; and 1 more, see errors"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_in_metadata_is_one_of_a_page() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let before = world.commits().await;
    let draft = |metadata: &Value| {
        let body = json!({"site": tenant.domain, "kind": "post", "title": "b", "metadata": metadata});
        api.post("/api/v1/content", &tenant.key, &body).send()
    };
    let long = format!("/{}", "x".repeat(2000));
    for wrong in [
        json!("/../../etc"),
        json!("a/./b"),
        json!("a/%2e%2E/b"),
        json!("http://evil/"),
        json!("//evil/x"),
        json!("javascript:1"),
        json!(5),
        json!("\n"),
        json!("a\u{7}"),
        json!(""),
        json!("a\\b"),
        json!("/a?b"),
        json!("/a#b"),
        json!(long),
    ] {
        let metadata = json!({"path": wrong});
        draft(&metadata)
            .await
            .problem(422, "invalid")
            .names("/metadata/path");
        let patch = api
            .call(Method::PATCH, &path)
            .key(&tenant.key)
            .json(&json!({"metadata": metadata}));
        patch.send().await.problem(422, "invalid").names("/metadata/path");
        let answer = draft(&json!({"aliases": ["/good", wrong]}))
            .await
            .problem(422, "invalid");
        answer.names("/metadata/aliases/1");
    }
    draft(&json!({"aliases": ["/good", null]}))
        .await
        .problem(422, "invalid")
        .names("/metadata/aliases/1");
    draft(&json!({"aliases": {"a": 1}}))
        .await
        .problem(422, "invalid")
        .names("/metadata/aliases");
    draft(&json!({"aliases": "../x"}))
        .await
        .problem(422, "invalid")
        .names("/metadata/aliases");
    assert_eq!(world.commits().await, before);
    for (number, right) in [
        "/",
        "2015/05/15/x/",
        "/über/a b.html",
        "/a:b",
        "/%C3%BC/",
        "/a..b/.well-known",
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"site": tenant.domain, "kind": "post", "title": format!("right {number}"), "metadata": {"path": right, "aliases": [right]}});
        api.post("/api/v1/content", &tenant.key, &body)
            .send()
            .await
            .expect(201);
    }
    draft(&json!({"path": null, "aliases": null})).await.expect(201);
    let one = json!({"metadata": {"aliases": "/one"}});
    api.call(Method::PATCH, &path)
        .key(&tenant.key)
        .json(&one)
        .send()
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_piece_is_viewed_no_more() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let path = format!("/api/v1/content/{}", api.draft(&tenant, "a").await);
    let call = || {
        let call = api.call(Method::POST, &format!("{path}/view")).key(&tenant.key);
        call.header("user-agent", BROWSER)
    };
    let view = || call().send();
    let keyed = || call().header("idempotency-key", "once").send();
    view().await.expect(202);
    keyed().await.expect(202);
    let archive = api
        .call(Method::POST, &format!("{path}/archive"))
        .key(&tenant.key);
    archive.send().await.expect(200);
    view().await.problem(409, "content-archived");
    assert_eq!(visits(&world).await, 2);
    // One that was taken before is told so again.
    keyed().await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_of_what_is_dropped_begin_at_zero() {
    let _world = World::new().await;
    let families = prometheus::gather();
    let dropped = families
        .iter()
        .find(|family| family.name() == "annals_visits_dropped_total");
    let series: Vec<(String, String)> = dropped
        .into_iter()
        .flat_map(|family| family.get_metric())
        .map(|metric| {
            let label = |name| {
                metric
                    .get_label()
                    .iter()
                    .find(|pair| pair.name() == name)
                    .unwrap()
                    .value()
                    .to_owned()
            };
            (label("door"), label("reason"))
        })
        .collect();
    for door in ["event", "batch", "view"] {
        for reason in ["unknown-site", "bot", "no-user-agent", "unavailable"] {
            // No hit of a piece's site can come for an unknown one, and only a tracker's is kept in part.
            let possible = match reason {
                "unknown-site" => door != "view",
                "unavailable" => door == "event",
                _ => true,
            };
            assert_eq!(
                series.contains(&(door.to_owned(), reason.to_owned())),
                possible,
                "{door} {reason}: {series:?}"
            );
        }
    }
    for reason in ["already-imported", "other-site"] {
        assert!(
            series.contains(&("batch".to_owned(), reason.to_owned())),
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_is_where_its_location_says() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let stranger = api.tenant().await;
    let import = json!({"site": tenant.domain, "source": "access.log", "fingerprint": "ab".repeat(32)});
    let key = json!({"scopes": ["read"]});
    let name = json!({"name": format!("tenant {}", uuid::Uuid::now_v7())});
    for (path, body, caller, scope) in [
        ("/api/v1/imports", &import, tenant.key.as_str(), 404),
        ("/api/v1/keys", &key, &tenant.key, 404),
        ("/api/v1/tenants", &name, OPERATOR, 403),
    ] {
        let made = api.post(path, caller, body).send().await.expect(201);
        let location = made.header("location");
        let seen = api
            .call(Method::GET, location)
            .key(caller)
            .send()
            .await
            .expect(200);
        assert_eq!(seen.body["id"], made.body["id"]);
        for (field, value) in seen.body.as_object().unwrap() {
            assert_eq!(value, &made.body[field], "{path} {field}");
        }
        let theirs = api.call(Method::GET, location).key(&stranger.key).send().await;
        assert_eq!(theirs.status, scope, "{}", theirs.text);
        let unknown = api.call(Method::GET, &format!("{path}/{}", uuid::Uuid::now_v7()));
        unknown.key(caller).send().await.problem(404, "not-found");
        let odd = api.call(Method::GET, &format!("{location}?odd=1"));
        odd.key(caller).send().await.problem(422, "invalid").names("/odd");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_after_the_position_of_the_header() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    api.draft(&tenant, "first").await;
    let events = |query: &str| {
        let path = format!("/api/v1/events{query}");
        api.call(Method::GET, &path).key(&tenant.key)
    };
    let all = events("").send().await.expect(200);
    assert_eq!(all.body.as_array().unwrap().len(), 1);
    let here = all.header("annals-position").to_owned();
    api.draft(&tenant, "second").await;
    let titles = |answer: Answer| {
        let events = answer.expect(200).body.as_array().unwrap().clone();
        let title = |event: &Value| event["data"]["title"].as_str().unwrap().to_owned();
        events.iter().map(title).collect::<Vec<_>>()
    };
    assert_eq!(
        titles(events("").header("annals-position", &here).send().await),
        ["second"]
    );
    let both = events(&format!("?after={here}")).header("annals-position", &here);
    assert_eq!(titles(both.send().await), ["second"]);
    let other = service::Position::new(world.log.id().0).to_string();
    let both = events(&format!("?after={here}")).header("annals-position", &other);
    both.send().await.problem(400, "invalid-header");
    let foreign = service::Position::new(uuid::Uuid::new_v4()).to_string();
    for wrong in ["garbage", "", &foreign] {
        let answer = events("").header("annals-position", wrong).send().await;
        answer.problem(400, "position");
        let streamed = events("").header("accept", "text/event-stream");
        streamed
            .header("annals-position", wrong)
            .send()
            .await
            .problem(400, "position");
    }
}
