//! Random bytes, and random JSON, never make a 5xx.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{OPERATOR, World};

const ROUTES: &[(&str, &str)] = &[
    ("POST", "/api/v1/tenants"),
    ("POST", "/api/v1/keys"),
    ("POST", "/api/v1/sites"),
    ("POST", "/api/v1/content"),
    ("PATCH", "/api/v1/content/{id}"),
    ("POST", "/api/v1/content/{id}/publish"),
    ("POST", "/api/v1/content/{id}/view"),
    ("POST", "/api/v1/downloads"),
    ("POST", "/api/v1/downloads/reorder"),
    ("PUT", "/api/v1/downloads/{id}/priority"),
    ("POST", "/api/v1/imports"),
    ("POST", "/api/v1/visits"),
    ("POST", "/api/event"),
];

const FIELDS: &[&str] = &[
    "site",
    "kind",
    "title",
    "slug",
    "body",
    "tags",
    "metadata",
    "url",
    "domain",
    "name",
    "at",
    "priorities",
    "priority",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("post")),
        Just(json!("https://example.org/")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(FIELDS), inner), 0..8).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        json_value().prop_map(|value| value.to_string().into_bytes()),
        json_value().prop_map(|value| format!("[{value}]").into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_never_make_a_5xx() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let id = api.draft(&tenant, "a piece").await;
    let mut runner = TestRunner::new(Config::default());
    let http = reqwest::Client::new();
    for round in 0..400 {
        let (method, path) = ROUTES[round % ROUTES.len()];
        let bytes = body().new_tree(&mut runner).unwrap().current();
        let key = if path.ends_with("tenants") {
            OPERATOR
        } else {
            &tenant.key
        };
        let url = format!("{}{}", api.base, path.replace("{id}", &id));
        let request = http
            .request(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .bearer_auth(key);
        let response = request
            .header("content-type", "application/json")
            .body(bytes.clone())
            .send()
            .await
            .unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(
            !status.is_server_error(),
            "{method} {path} {:?}: {text}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
