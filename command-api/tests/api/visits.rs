//! Page views at the door: from trackers, in batches, from files.

use std::time::Duration;

use events::SiteId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, BROWSER, Process, Tenant, World, within};

/// Every visit in the log.
async fn visits(world: &World) -> Vec<Value> {
    let mut all = Vec::new();
    for partition in 0..4 {
        for record in world.records("visits", partition).await {
            if record["kind"] == "visits" {
                all.extend(record["value"].as_array().unwrap().clone());
            }
        }
    }
    all
}

async fn hit(api: &Process, body: &Value) -> Answer {
    api.call(Method::POST, "/api/event")
        .body("text/plain", body.to_string())
        .header("user-agent", BROWSER)
        .send()
        .await
}

async fn batch(api: &Process, tenant: &Tenant, body: &Value) -> Answer {
    api.post("/api/v1/visits", &tenant.key, body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_of_a_tracker_is_in_the_log_when_it_is_answered() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"n": "pageview", "u": "https://www.a.example/p?utm_source=hn", "d": tenant.domain, "r": "https://news.ycombinator.com/"});
    let answer = hit(api, &body).await.expect(202);
    assert_eq!(answer.text, "ok");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.headers.get("x-plausible-dropped").is_none());
    let visits = visits(&world).await;
    assert_eq!(visits.len(), 1);
    assert_eq!(visits[0]["type"], "visit.page-viewed.v1");
    assert_eq!(visits[0]["tenant"], tenant.id.as_str());
    let visit = &visits[0]["data"]["visit"];
    assert_eq!(
        (&visit["hostname"], &visit["pathname"]),
        (&json!("www.a.example"), &json!("/p"))
    );
    assert_eq!(visit["browser"], "Firefox");
    assert_eq!(visit["site"], visits[0]["subject"]);
    let text = format!("{visits:?}");
    assert!(!text.contains("127.0.0.1") && !text.contains("Gecko"), "{text}");

    let preflight = api
        .call(Method::OPTIONS, "/api/event")
        .header("origin", "https://x.example")
        .send()
        .await
        .expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_found_by_every_way_to_write_its_domain() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let site = json!({"domain": "B\u{fc}cher.Example."});
    let made = api
        .post("/api/v1/sites", &tenant.key, &site)
        .send()
        .await
        .expect(201);
    assert_eq!(made.body["domain"], "xn--bcher-kva.example");
    let names = [
        "b\u{fc}cher.example",
        "XN--bcher-kva.example.",
        " B\u{dc}CHER.example",
    ];
    for name in names {
        let body = json!({"n": "pageview", "u": "https://x.example/", "d": name});
        let answer = hit(api, &body).await.expect(202);
        assert!(answer.headers.get("x-plausible-dropped").is_none(), "{name}");
        let visit = json!([{"name": "pageview", "url": "https://x.example/", "domain": name}]);
        assert_eq!(
            batch(api, &tenant, &visit).await.expect(202).body["accepted"],
            1,
            "{name}"
        );
    }
    // Two names of one site are one site.
    let body = json!({"n": "pageview", "u": "https://x.example/", "d": names.join(",")});
    hit(api, &body).await.expect(202);
    let visits = visits(&world).await;
    assert_eq!(visits.len(), 7);
    assert!(visits.iter().all(|visit| visit["subject"] == made.body["id"]));
}

/// Each site keeps a copy: what one request may write is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_hit_is_not_kept_for_many_sites() {
    let world = World::new().await;
    let api = &world.process;
    let page = format!("https://x.example/{}", "x".repeat(1_000));
    for (sites, padding, status) in [(20, 1_000, 202), (20, 20_000, 400), (2, 100_000, 202)] {
        let sites: Vec<_> = (0..sites).map(|site| format!("{site}.example")).collect();
        let body = json!({"n": "pageview", "u": page, "d": sites.join(",")}).to_string();
        let call = api.call(Method::POST, "/api/event").header("user-agent", BROWSER);
        let answer = call
            .body("text/plain", body + &" ".repeat(padding))
            .send()
            .await
            .expect(status);
        if status == 400 {
            answer.names("/domain");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_said_and_counted() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"name": "pageview", "url": "https://a.example/", "domain": "nowhere.example"});
    let unknown = hit(api, &body).await.expect(202);
    assert_eq!(
        (
            unknown.header("x-plausible-dropped"),
            unknown.header("x-annals-dropped")
        ),
        ("1", "unknown-site")
    );
    let body = json!({"name": "pageview", "url": "https://a.example/", "domain": tenant.domain});
    let curl = api
        .call(Method::POST, "/api/event")
        .json(&body)
        .header("user-agent", "curl/8.1")
        .send()
        .await
        .expect(202);
    assert_eq!(curl.header("x-annals-dropped"), "bot");
    let both = json!({"name": "pageview", "url": "https://a.example/", "domain": format!("{},nowhere.example", tenant.domain)});
    assert_eq!(
        hit(api, &both).await.expect(202).header("x-annals-dropped"),
        "unknown-site"
    );
    assert_eq!(visits(&world).await.len(), 1);
    for wrong in [
        json!({}),
        json!({"name": "pageview", "domain": tenant.domain, "url": "nonsense"}),
        json!([1]),
    ] {
        let answer = hit(api, &wrong).await.expect(400);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    hit(api, &json!("x".repeat(128 * 1024)))
        .await
        .problem(413, "too-large");
    assert_eq!(visits(&world).await.len(), 1);
    let dropped = command_api::metrics::DROPPED
        .with_label_values(&["event", "bot"])
        .get();
    assert!(dropped >= 1);
}

/// Pages of `www.` belong to the site without it, and a tracker may leave out the site that it is on.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_known_by_the_host_of_its_pages() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let page = format!("https://www.{}/a", tenant.domain);
    for body in [
        json!({"n": "pageview", "u": page, "d": format!("www.{}", tenant.domain)}),
        json!({"n": "pageview", "u": page}),
    ] {
        let answer = hit(api, &body).await.expect(202);
        assert_eq!(answer.header("x-annals-dropped"), "", "{body}");
    }
    let item = json!({"name": "pageview", "url": page, "domain": format!("www.{}", tenant.domain), "user_agent": BROWSER});
    let answer = batch(api, &tenant, &json!([item])).await.expect(202);
    assert_eq!(answer.body["accepted"], 1);
    assert_eq!(visits(&world).await.len(), 3);
    // Both names in one hit are one site.
    let both = json!({"n": "pageview", "u": page, "d": format!("{0},www.{0}", tenant.domain)});
    hit(api, &both).await.expect(202);
    assert_eq!(visits(&world).await.len(), 4);
}

/// Devices have names in all scripts, and say them to every site.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_may_have_a_name_in_any_script() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!({"n": "pageview", "u": "https://x.example/", "d": tenant.domain});
    for agent in [
        "Mozilla/5.0 (Linux; Android 9; \u{8363}\u{8000}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36".as_bytes(),
        b"Mozilla/5.0 (Linux; Android 9; \xe9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
    ] {
        let call = api.call(Method::POST, "/api/event").json(&body);
        let answer = call.raw_header("user-agent", agent).send().await.expect(202);
        assert_eq!(answer.header("x-annals-dropped"), "");
    }
    assert_eq!(visits(&world).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_says_what_became_of_each_visit() {
    let world = World::new().await;
    let (api, tenant, other) = (
        &world.process,
        world.process.tenant().await,
        world.process.tenant().await,
    );
    let visit = |domain: &str, agent: &str| json!({"name": "pageview", "url": "https://a.example/x", "domain": domain, "user_agent": agent, "ip": "203.0.113.7"});
    let body = json!([
        visit(&tenant.domain, BROWSER),
        visit("nowhere.example", BROWSER),
        visit(&other.domain, BROWSER),
        visit(&tenant.domain, "Googlebot/2.1 (+http://www.google.com/bot.html)"),
        {"name": "pageview", "domain": tenant.domain},
        visit(&tenant.domain, BROWSER),
    ]);
    let answer = batch(api, &tenant, &body).await.expect(202);
    assert_eq!(answer.body["accepted"], 2);
    let reasons = json!([
        {"index": 1, "reason": "unknown-site"}, {"index": 2, "reason": "unknown-site"}, {"index": 3, "reason": "bot"},
    ]);
    assert_eq!(answer.body["dropped"], reasons);
    assert_eq!(answer.body["rejected"][0]["index"], 4);
    assert!(
        answer.body["rejected"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("/url")
    );
    assert!(!answer.header("annals-position").is_empty());
    let visits = visits(&world).await;
    assert_eq!(visits.len(), 2);
    assert_eq!(
        visits[0]["data"]["visit"]["visitor"],
        visits[1]["data"]["visit"]["visitor"]
    );

    let lines = format!("{}\n{}\n", visit(&tenant.domain, BROWSER), "garbage");
    let answer = api
        .call(Method::POST, "/api/v1/visits")
        .key(&tenant.key)
        .body("application/x-ndjson", lines)
        .send()
        .await
        .expect(202);
    assert_eq!(
        (&answer.body["accepted"], &answer.body["rejected"][0]["index"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        batch(api, &tenant, &json!([])).await.expect(202).body["accepted"],
        0
    );
    batch(api, &tenant, &json!(vec![json!({}); 1001]))
        .await
        .problem(422, "invalid");
    let huge = api
        .call(Method::POST, "/api/v1/visits")
        .key(&tenant.key)
        .body("application/json", vec![b' '; 1024 * 1024 + 1]);
    huge.send().await.problem(413, "too-large");
    let csv = api
        .call(Method::POST, "/api/v1/visits")
        .key(&tenant.key)
        .body("text/csv", "a,b");
    csv.send().await.problem(415, "unsupported-media-type");
    api.call(Method::POST, "/api/v1/visits")
        .json(&body)
        .send()
        .await
        .problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_brings_the_same_ids() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let body = json!([
        {"name": "pageview", "url": "https://a.example/1", "domain": tenant.domain},
        {"name": "pageview", "url": "https://a.example/2", "domain": tenant.domain, "id": "019aa000-0000-7000-8000-00000000000a"},
    ]);
    for _ in 0..2 {
        let send = api
            .post("/api/v1/visits", &tenant.key, &body)
            .header("idempotency-key", "batch 1");
        send.send().await.expect(202);
    }
    let ids: std::collections::BTreeSet<String> = visits(&world)
        .await
        .iter()
        .map(|visit| visit["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains("019aa000-0000-7000-8000-00000000000a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_with_a_key_of_visits_is_refused_while_the_first_is_remembered() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let piece = world.process.draft(&tenant, "Read me").await;
    let view = async |world: &World, key: &str, referrer: &str| {
        let call = world
            .process
            .call(Method::POST, &format!("/api/v1/content/{piece}/view"))
            .key(&tenant.key);
        call.json(&json!({"referrer": referrer}))
            .header("user-agent", BROWSER)
            .header("idempotency-key", key)
            .send()
            .await
    };
    let send = async |world: &World, key: &str, page: &str| {
        let url = format!("https://a.example/{page}");
        let body = json!([{"name": "pageview", "url": url, "domain": tenant.domain, "timestamp": "2015-05-17T10:05:03Z"}]);
        let call = world.process.post("/api/v1/visits", &tenant.key, &body);
        call.header("idempotency-key", key).send().await
    };
    send(&world, "batch", "a").await.expect(202);
    send(&world, "batch", "a").await.expect(202);
    send(&world, "batch", "b")
        .await
        .problem(422, "idempotency-key-reused");
    view(&world, "batch", "https://a.example/")
        .await
        .problem(422, "idempotency-key-reused");
    view(&world, "view", "https://a.example/").await.expect(202);
    view(&world, "view", "https://b.example/")
        .await
        .problem(422, "idempotency-key-reused");
    // What was refused left nothing behind, so it may be put right.
    let nothing = json!([{"name": "pageview", "url": "no", "domain": tenant.domain}]);
    let refused = world.process.post("/api/v1/visits", &tenant.key, &nothing);
    let refused = refused.header("idempotency-key", "mended").send().await;
    assert_eq!(refused.expect(202).body["accepted"], 0);
    send(&world, "mended", "c").await.expect(202);
    // A colleague's key is another one.
    let colleague = world.process.issue(&tenant.id, &["visits:write"]).await;
    let theirs = json!([{"name": "pageview", "url": "https://a.example/d", "domain": tenant.domain}]);
    let theirs = world.process.post("/api/v1/visits", &colleague, &theirs);
    theirs.header("idempotency-key", "batch").send().await.expect(202);
    // Elsewhere it is not known, and so it is other visits; what is the same still counts once.
    let world = world.restart().await;
    send(&world, "batch", "b").await.expect(202);
    let pages = visits(&world).await;
    let of = |path: &str| {
        let ids = pages
            .iter()
            .filter(|visit| visit["data"]["visit"]["pathname"] == path);
        let ids: std::collections::BTreeSet<_> = ids.map(|visit| visit["id"].to_string()).collect();
        ids.len()
    };
    assert_eq!((of("/a"), of("/b"), of("/c"), of("/d")), (1, 1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_where_the_log_ends() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let start = json!({"site": tenant.domain, "source": "access.log", "fingerprint": "cd".repeat(32)});
    let begin = async |world: &World| {
        world
            .process
            .post("/api/v1/imports", &tenant.key, &start)
            .send()
            .await
    };
    let import = begin(&world).await.expect(201).body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let line = |number: u64| {
        json!({
            "name": "pageview", "url": format!("https://a.example/{number}"), "domain": tenant.domain, "import": import,
            "line": number, "timestamp": "2015-05-17T10:05:03Z", "ip": "203.0.113.7", "user_agent": BROWSER,
        })
    };
    let first = batch(&world.process, &tenant, &json!([line(0), line(1), line(4)]))
        .await
        .expect(202);
    assert_eq!(first.body["accepted"], 3);
    assert_eq!(begin(&world).await.expect(200).body["next"], 5);
    let world = world.restart().await;
    assert_eq!(begin(&world).await.expect(200).body["next"], 5);
    let again = batch(&world.process, &tenant, &json!([line(1), line(4), line(7)]))
        .await
        .expect(202);
    assert_eq!(again.body["accepted"], 1);
    assert_eq!(
        again.body["dropped"][0],
        json!({"index": 0, "reason": "already-imported"})
    );
    assert_eq!(begin(&world).await.expect(200).body["next"], 8);
    assert_eq!(visits(&world).await.len(), 4);
    let other = json!({"site": tenant.domain, "source": "b", "fingerprint": "ef".repeat(32)});
    let other = world
        .process
        .post("/api/v1/imports", &tenant.key, &other)
        .send()
        .await
        .expect(201);
    let mut mixed = line(9);
    mixed["import"] = other.body["id"].clone();
    batch(&world.process, &tenant, &json!([line(8), mixed]))
        .await
        .problem(422, "invalid");
    let second = json!({"domain": format!("second.{}", tenant.domain)});
    let second = world.process.post("/api/v1/sites", &tenant.key, &second);
    let second = second.send().await.expect(201);
    let mut elsewhere = line(8);
    elsewhere["domain"] = second.body["domain"].clone();
    let answer = batch(&world.process, &tenant, &json!([elsewhere]))
        .await
        .expect(202);
    assert_eq!(
        answer.body["dropped"][0],
        json!({"index": 0, "reason": "other-site"})
    );
    assert_eq!(visits(&world).await.len(), 4);
    let id = import.parse().unwrap();
    let turn = world.process.app.imports().turn(id).await.unwrap();
    let complete = || {
        let path = format!("/api/v1/imports/{import}/complete");
        world.process.call(Method::POST, &path).key(&tenant.key).send()
    };
    // Not beside a batch of its lines.
    complete().await.problem(503, "busy");
    drop(turn);
    let owner = tenant.id.parse().unwrap();
    let salt = async || {
        let salt = world.process.app.import_salt(owner, id).await.unwrap();
        let time = "2015-05-17T10:05:03Z".parse().unwrap();
        salt.of_day(time)
            .visitor(SiteId::new(uuid::Uuid::nil()), [203, 0, 113, 7].into(), "x")
    };
    let before = salt().await;
    complete().await.expect(200);
    // Asking makes another one, as a process would have left it that died before it destroyed the salt.
    let left = salt().await;
    assert_ne!(left, before);
    assert_eq!(begin(&world).await.expect(200).body["status"], "completed");
    let left = salt().await;
    world.process.app.forget_completed(Duration::ZERO).await.unwrap();
    assert_ne!(salt().await, left, "found by the hourly look, too");
    batch(&world.process, &tenant, &json!([line(9)]))
        .await
        .problem(409, "import-completed");
    let stranger = world.process.tenant().await;
    batch(&world.process, &stranger, &json!([line(9)]))
        .await
        .problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_piece_is_a_page_view_of_it() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let id = api.draft(&tenant, "Read me").await;
    let view = |agent: &str| {
        let call = api
            .call(Method::POST, &format!("/api/v1/content/{id}/view"))
            .key(&tenant.key);
        call.json(&json!({"referrer": "https://example.net/"}))
            .header("user-agent", agent)
            .send()
    };
    assert_eq!(view(BROWSER).await.expect(202).body["accepted"], 1);
    assert_eq!(view("curl/8.1").await.expect(202).body["dropped"], "bot");
    let visits = visits(&world).await;
    assert_eq!(visits.len(), 1);
    let visit = &visits[0]["data"]["visit"];
    assert_eq!(
        (&visit["content"], &visit["pathname"]),
        (&json!(id), &json!("/post/read-me"))
    );
    assert_eq!(visit["hostname"], tenant.domain.as_str());

    // A retry is the same view, whoever it seems to be: what counts views knows them by id and visitor.
    for agent in [
        BROWSER,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    ] {
        let call = api.call(Method::POST, &format!("/api/v1/content/{id}/view"));
        let call = call.key(&tenant.key).header("idempotency-key", "view");
        call.header("user-agent", agent).send().await.expect(202);
    }
    let visits = self::visits(&world).await;
    let [first, again] = &visits[1..] else {
        panic!("{visits:?}")
    };
    assert_eq!(first["id"], again["id"]);
    assert_eq!(
        first["data"]["visit"]["visitor"],
        again["data"]["visit"]["visitor"]
    );
}

/// All of such a request may go on to another process when its visits are in the log already: the ids must be made of the
/// command, which goes along. Sent again it is another command.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_lines_of_an_import_has_ids_of_its_command() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let start = json!({"site": tenant.domain, "source": "a", "fingerprint": "ab".repeat(32)});
    let begun = api.post("/api/v1/imports", &tenant.key, &start).send().await;
    let mut line = json!({
        "name": "pageview", "url": "https://a.example/line", "domain": tenant.domain, "line": 0,
        "timestamp": "2015-05-17T10:05:03Z", "ip": "203.0.113.7", "user_agent": BROWSER,
    });
    line["import"] = begun.expect(201).body["id"].clone();
    let beside = json!({
        "name": "pageview", "url": "https://a.example/beside", "domain": tenant.domain, "ip": "203.0.113.8",
        "user_agent": BROWSER,
    });
    for accepted in [2, 1] {
        let answer = batch(api, &tenant, &json!([line, beside])).await.expect(202);
        assert_eq!(answer.body["accepted"], accepted);
    }
    let all = visits(&world).await;
    let beside = all
        .iter()
        .filter(|it| it["data"]["visit"]["pathname"] == "/beside");
    let ids: Vec<uuid::Uuid> = beside
        .map(|it| it["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{all:#?}");
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.get_version_num() == 5), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_an_import_wait_for_their_turn_but_not_for_ever_and_not_all_of_them() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let import = uuid::Uuid::now_v7();
    let turn = api
        .app
        .imports()
        .turn(import.to_string().parse().unwrap())
        .await
        .unwrap();
    let line = json!([{
        "name": "pageview", "url": "https://a.example/", "domain": tenant.domain, "import": import, "line": 0,
    }]);
    let waiting = (0..20).map(|_| api.post("/api/v1/visits", &tenant.key, &line).send());
    for answer in within("all are answered", futures::future::join_all(waiting)).await {
        answer.problem(503, "busy");
    }
    drop(turn);
    // There is no such import, which is looked at in its turn.
    api.post("/api/v1/visits", &tenant.key, &line)
        .send()
        .await
        .problem(404, "not-found");
}
