//! What processes believe of each other: hints that are wrong or late, and headers that are forged.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request};
use event_log::Hint;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    kafka::{Fleet, hint, piece},
    world::{OPERATOR, Tenant, World, until},
};

fn count(outcome: &str) -> u64 {
    command_api::metrics::FORWARDED
        .with_label_values(&[outcome])
        .get()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_hint_of_a_zombie_is_answered_by_the_owner() {
    let fleet = Fleet::new(2).await;
    let [(tenant, partition), _] = fleet.tenants().await;
    let (owner, other) = fleet.owner_and_other(partition);
    let log = fleet.log().await;
    let right = hint(&log, partition).await;
    assert_eq!(right.url.as_deref(), Some(owner.base.as_str()));
    let late = Hint {
        epoch: right.epoch - 1,
        owner: "a zombie".to_owned(),
        url: Some("http://127.0.0.1:1".to_owned()),
        ..right.clone()
    };
    log.owners().tell(partition, &late).await.unwrap();
    other.draft(&tenant, "meanwhile").await;
    // Whoever comes later, and finds what compaction leaves, finds the owner.
    until("the owner says again who it is", async || {
        let mut known = log.owners().known();
        let all = known.wait_for(|hints| hints.complete).await.unwrap();
        let known = all.of(partition).unwrap();
        assert_eq!(known.hint, right);
        (!known.buried).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_guess_is_told_so_and_the_owner_is_looked_up_once_more() {
    let fleet = Fleet::new(3).await;
    let [(tenant, partition), _] = fleet.tenants().await;
    let (owner, other) = fleet.owner_and_other(partition);
    let third = fleet
        .processes
        .iter()
        .find(|it| it.base != owner.base && it.base != other.base)
        .unwrap();
    let log = fleet.log().await;
    let owners = log.owners();
    let right = hint(&log, partition).await;
    let wrong = Hint {
        url: Some(third.base.clone()),
        ..right
    };
    let before = count("misdirected");
    let mut number = 0;
    until("a command goes to the wrong process first", async || {
        number += 1;
        owners.tell(partition, &wrong).await.unwrap();
        other.draft(&tenant, &format!("piece {number}")).await;
        (count("misdirected") > before).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_of_an_owner_that_never_was_is_overcome() {
    let fleet = Fleet::new(2).await;
    let [(tenant, partition), _] = fleet.tenants().await;
    let (_, other) = fleet.owner_and_other(partition);
    let log = fleet.log().await;
    let right = hint(&log, partition).await;
    let lie = Hint {
        epoch: right.epoch + 1,
        owner: "nobody".to_owned(),
        url: Some("http://127.0.0.1:1".to_owned()),
        ..right
    };
    log.owners().tell(partition, &lie).await.unwrap();
    let body = piece(&tenant, "all the same");
    until("the owner has claimed again", async || {
        let answer = other.post("/api/v1/content", &tenant.key, &body).send().await;
        match answer.status.as_u16() {
            201 => Some(()),
            503 => None,
            status => panic!("{status}: {}", answer.text),
        }
    })
    .await;
    assert!(hint(&log, partition).await.epoch > lie.epoch - 1);
    fleet.stop().await;
}

/// What a process of the installation whose clock is so far from the right time says of a request. It has the secret.
fn stamp(world: &World, tenant: &Tenant, body: &str, seconds: i64) -> String {
    let keys = world.process.app.keys();
    let (method, target) = (b"POST".as_slice(), b"/api/v1/content".as_slice());
    let request = keys.keyed_hash("request", &[method, target, body.as_bytes()]);
    let at = chrono::Utc::now() + chrono::Duration::seconds(seconds);
    let json = json!({
        "tenant": tenant.id, "principal": uuid::Uuid::now_v7(), "scopes": ["content:write"], "address": "127.0.0.1",
        "command": uuid::Uuid::now_v7(), "request": uuid::Uuid::from_bytes(request), "wait": 5_000,
        "at": at.timestamp_micros(),
    })
    .to_string();
    // Of the headers that are passed on, one was sent: the first.
    let mut passed_on = Vec::new();
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("content-encoding", None),
        ("if-match", None),
        ("user-agent", None),
        ("annals-position", None),
        ("idempotency-key", None),
        ("prefer", None),
        ("x-correlation-id", None),
        ("traceparent", None),
    ] {
        let count = usize::from(value.is_some()).to_be_bytes();
        for part in [name.as_bytes(), &count]
            .into_iter()
            .chain(value.map(str::as_bytes))
        {
            passed_on.extend_from_slice(&(part.len() as u64).to_be_bytes());
            passed_on.extend_from_slice(part);
        }
    }
    let mac = keys.keyed_hash(
        "forwarded request",
        &[method, target, &passed_on, json.as_bytes()],
    );
    format!("{json}.{}", uuid::Uuid::from_bytes(mac).simple())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_that_is_too_old_is_no_fault_of_its_client() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let say = async |slug: &str, seconds: i64, forge: &dyn Fn(String) -> String| {
        let body = json!({"site": tenant.domain, "kind": "post", "title": slug, "slug": slug}).to_string();
        let stamp = forge(stamp(&world, &tenant, &body, seconds));
        let call = world.process.call(Method::POST, "/api/v1/content");
        let call = call.header("annals-forwarded", &stamp);
        call.body("application/json", body).send().await
    };
    let (as_it_is, forged) = (
        |stamp: String| stamp,
        |stamp: String| stamp.replace("content:write", "admin"),
    );
    say("now", 0, &as_it_is).await.expect(201);
    for seconds in [-310, 310] {
        // Its key was good where it came to: it may try again, and is not told to bring another key.
        say("old", seconds, &as_it_is).await.problem(503, "not-served");
        say("old", seconds, &forged).await.problem(401, "unauthorized");
    }
    // Nothing was done.
    say("old", 0, &as_it_is).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_the_secret_can_say_who_called() {
    let fleet = Fleet::new(2).await;
    let [(tenant, partition), _] = fleet.tenants().await;
    let (owner, other) = fleet.owner_and_other(partition);
    // Someone who listens between two processes.
    let heard: Arc<Mutex<Option<HeaderMap>>> = Arc::default();
    let ear = heard.clone();
    let spy = Router::new().fallback(async move |request: Request| {
        *ear.lock().unwrap() = Some(request.headers().clone());
        StatusCode::MISDIRECTED_REQUEST
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, spy).await });
    let log = fleet.log().await;
    let owners = log.owners();
    let wrong = Hint {
        url: Some(url),
        ..hint(&log, partition).await
    };
    let body = piece(&tenant, "overheard");
    let mut number = 0;
    let (heard, id) = until("a request is overheard", async || {
        number += 1;
        owners.tell(partition, &wrong).await.unwrap();
        let mut body = body.clone();
        body["slug"] = json!(format!("overheard-{number}"));
        let answer = other.post("/api/v1/content", &tenant.key, &body).send().await;
        let answer = answer.expect(201);
        let headers = heard.lock().unwrap().take()?;
        let key = headers.get("authorization");
        assert!(key.is_none(), "the client's key is told to others");
        Some((headers, answer.body["id"].clone()))
    })
    .await;
    let (stamp, trace) = (&heard["annals-forwarded"], &heard["traceparent"]);
    let (stamp, trace) = (stamp.to_str().unwrap(), trace.to_str().unwrap());
    let mut said = body.clone();
    said["slug"] = json!(format!("overheard-{number}"));
    let send = |path: &str, stamp: &str, body: &Value| {
        let call = owner.call(Method::POST, path).json(body);
        call.header("annals-forwarded", stamp)
            .header("traceparent", trace)
    };
    let say = |stamp: &str, body: &Value| send("/api/v1/content", stamp, body);
    // Said again it is the same command, though it had no key; it cannot be turned into another one.
    let again = say(stamp, &said).send().await.expect(201);
    assert_eq!(again.body["id"], id);
    // Once is enough: whoever it is sent to and does not serve the partition says so.
    let call = other.call(Method::POST, "/api/v1/content").json(&said);
    let call = call
        .header("annals-forwarded", stamp)
        .header("traceparent", trace);
    call.send().await.problem(421, "misdirected");
    let mut other_body = said.clone();
    other_body["title"] = json!("forged");
    let (json, mac) = stamp.rsplit_once('.').unwrap();
    let mut forged: Value = serde_json::from_str(json).unwrap();
    forged["scopes"] = json!(["operator"]);
    let forged = format!("{forged}.{mac}");
    let forgeries = [
        say(stamp, &other_body),
        say(stamp, &said).header("idempotency-key", "another"),
        say(stamp, &said).header("if-match", "\"1\""),
        say(stamp, &said).header("annals-forwarded", stamp),
        say(&forged, &said),
        say("{}.00", &said),
        // Nor may one's own key with it.
        say("{}.00", &said).key(&tenant.key),
        send("/api/v1/downloads", stamp, &said),
        send("/api/v1/content?x", stamp, &said),
        send("/api/v1/tenants", &forged, &json!({"name": "a tenant of my own"})),
    ];
    for forgery in forgeries {
        forgery.send().await.problem(401, "unauthorized");
    }
    let question = json!({"key": uuid::Uuid::nil()});
    owner
        .post("/internal/keys/used", OPERATOR, &question)
        .send()
        .await
        .problem(404, "not-found");
    server.abort();
    fleet.stop().await;
}
