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
