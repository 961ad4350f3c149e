//! A tenant sees its own data only, on every route that takes or gives any.

use e2e::installation::{Installation, LogKind};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let annals = crate::running(LogKind::Embedded).await;
    let mine = annals.tenant("mine", "mine.example").await.unwrap();
    let theirs = annals.tenant("theirs", "theirs.example").await.unwrap();
    let content = created(
        &annals,
        &mine,
        "/api/v1/content",
        json!({"site": "mine.example", "kind": "post", "title": "Secret", "body": "hidden words"}),
    )
    .await;
    let download = created(
        &annals,
        &mine,
        "/api/v1/downloads",
        json!({"title": "Secret", "url": "https://example.com/a.epub"}),
    )
    .await;
    let import = created(
        &annals,
        &mine,
        "/api/v1/imports",
        json!({"site": "mine.example", "source": "secret.log", "fingerprint": "ab".repeat(32)}),
    )
    .await;
    let seen = annals
        .query(
            &format!("/api/v1/content/{}", content.0),
            &mine,
            content.1.as_deref(),
        )
        .await
        .unwrap();
    assert_eq!(seen.status, 200, "its own: {seen:?}");
    annals
        .query(
            &format!("/api/v1/downloads/{}", download.0),
            &mine,
            download.1.as_deref(),
        )
        .await
        .unwrap();

    // What is refused to others is there for its own tenant: else a missing route would pass for a refusal.
    for path in own_paths(&content.0, &download.0) {
        let answer = annals.query(&path, &mine, import.1.as_deref()).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let query = json!({"site_id": "mine.example", "metrics": ["pageviews"], "date_range": "all"});
    assert_eq!(annals.stats(&mine, query, None).await.unwrap().status, 200);

    commands(&annals, &theirs, &content.0, &download.0, &import.0).await;
    queries(&annals, &theirs, &content.0, &download.0).await;
    statistics(&annals, &theirs).await;
    without_a_key(&annals, &content.0).await;

    // And nothing of it changed.
    let seen = annals
        .query(&format!("/api/v1/content/{}", content.0), &mine, None)
        .await
        .unwrap();
    assert_eq!(
        (&seen.body["title"], &seen.body["version"]),
        (&json!("Secret"), &json!(1)),
        "{seen:?}"
    );
    crate::finish(annals).await;
}

async fn created(annals: &Installation, key: &str, path: &str, body: Value) -> (String, Option<String>) {
    let answer = annals.command(Method::POST, path, key, body).await.unwrap();
    assert_eq!(answer.status, 201, "{path}: {answer:?}");
    (answer.body["id"].as_str().unwrap().to_owned(), answer.position)
}

async fn commands(annals: &Installation, key: &str, content: &str, download: &str, import: &str) {
    let nothing = Value::Null;
    let refused = [
        (
            Method::PATCH,
            format!("/api/v1/content/{content}"),
            json!({"title": "Taken"}),
        ),
        (
            Method::POST,
            format!("/api/v1/content/{content}/publish"),
            json!({}),
        ),
        (
            Method::POST,
            format!("/api/v1/content/{content}/unpublish"),
            nothing.clone(),
        ),
        (
            Method::POST,
            format!("/api/v1/content/{content}/archive"),
            nothing.clone(),
        ),
        (Method::POST, format!("/api/v1/content/{content}/view"), json!({})),
        (
            Method::PUT,
            format!("/api/v1/downloads/{download}/priority"),
            json!({"priority": 1}),
        ),
        (
            Method::POST,
            format!("/api/v1/downloads/{download}/cancel"),
            nothing.clone(),
        ),
        (
            Method::POST,
            format!("/api/v1/downloads/{download}/retry"),
            nothing.clone(),
        ),
        (
            Method::POST,
            format!("/api/v1/downloads/{download}/start"),
            nothing.clone(),
        ),
        (
            Method::POST,
            format!("/api/v1/downloads/{download}/complete"),
            json!({"size": 1}),
        ),
        (
            Method::POST,
            format!("/api/v1/downloads/{download}/fail"),
            json!({"error": "x"}),
        ),
        (
            Method::POST,
            "/api/v1/downloads/reorder".to_owned(),
            json!({"priorities": {download: 1}}),
        ),
        (
            Method::POST,
            format!("/api/v1/imports/{import}/complete"),
            nothing,
        ),
        (
            Method::POST,
            "/api/v1/content".to_owned(),
            json!({"site": "mine.example", "kind": "post", "title": "x"}),
        ),
        (
            Method::POST,
            "/api/v1/imports".to_owned(),
            json!({"site": "mine.example", "source": "s", "fingerprint": "cd".repeat(32)}),
        ),
        (
            Method::POST,
            "/api/v1/tenants".to_owned(),
            json!({"name": "more"}),
        ),
        (
            Method::POST,
            "/api/v1/keys".to_owned(),
            json!({"tenant": "mine", "scopes": ["read"]}),
        ),
    ];
    for (method, path, body) in refused {
        let answer = annals.command(method, &path, key, body).await.unwrap();
        let status = answer.status.as_u16();
        assert!(matches!(status, 403 | 404 | 422), "{path}: {answer:?}");
        assert!(!answer.body.to_string().contains("Secret"), "{path}: {answer:?}");
    }
    let taken = annals
        .command(
            Method::POST,
            "/api/v1/sites",
            key,
            json!({"domain": "mine.example"}),
        )
        .await
        .unwrap();
    assert_eq!(taken.status, 409, "{taken:?}");
    let visit = json!([{"name": "pageview", "url": "https://mine.example/", "domain": "mine.example", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "ip": "203.0.113.9"}]);
    let mut line = visit.clone();
    line[0]["url"] = json!("https://theirs.example/");
    line[0]["domain"] = json!("theirs.example");
    (line[0]["import"], line[0]["line"]) = (json!(import), json!(0));
    line[0]["timestamp"] = json!("2020-01-01T00:00:00Z");
    for (what, body) in [
        ("a visit of another's site", visit),
        ("a line of another's import", line),
    ] {
        let visits = annals.command(Method::POST, "/api/v1/visits", key, body);
        let visits = visits.await.unwrap();
        assert_ne!(visits.body["accepted"], 1, "{what}: {visits:?}");
        assert!(
            visits.status != 401 && !visits.body.to_string().contains("secret.log"),
            "{what}: {visits:?}"
        );
    }
}

/// Everything that names something of one tenant.
fn own_paths(content: &str, download: &str) -> Vec<String> {
    vec![
        format!("/api/v1/content/{content}"),
        format!("/api/v1/content/{content}/history"),
        format!("/api/v1/content/{content}/history?version=1"),
        "/api/v1/sites/mine.example/content/post/secret".to_owned(),
        format!("/api/v1/downloads/{download}"),
        "/api/v1/stats/realtime?site=mine.example".to_owned(),
        "/api/v1/reports/content?site=mine.example&from=2020-01-01&to=2020-01-31".to_owned(),
    ]
}

async fn queries(annals: &Installation, key: &str, content: &str, download: &str) {
    let mut paths = own_paths(content, download);
    paths.push("/api/v1/projections".to_owned());
    for path in paths {
        let answer = annals.query(&path, key, None).await.unwrap();
        assert!(matches!(answer.status.as_u16(), 403 | 404), "{path}: {answer:?}");
    }
    for path in [
        "/api/v1/sites",
        "/api/v1/content",
        "/api/v1/content?site=mine.example",
        "/api/v1/content?search=hidden",
        "/api/v1/downloads",
        "/api/v1/downloads/queue",
    ] {
        let answer = annals.query(path, key, None).await.unwrap();
        let text = answer.body.to_string();
        assert!(
            !text.contains("Secret") && !text.contains("\"mine.example\""),
            "{path}: {answer:?}"
        );
    }
}

async fn statistics(annals: &Installation, key: &str) {
    let query = json!({"site_id": "mine.example", "metrics": ["pageviews"], "date_range": "all"});
    let answer = annals.stats(key, query.clone(), None).await.unwrap();
    assert!(matches!(answer.status.as_u16(), 403 | 404 | 422), "{answer:?}");
    let client = reqwest::Client::new();
    let asked = client
        .post(format!("http://{}/api/v2/query", annals.query_address()))
        .bearer_auth(key)
        .json(&query);
    let status = asked.send().await.unwrap().status();
    assert!(matches!(status.as_u16(), 403 | 404 | 422), "{status}");
}

async fn without_a_key(annals: &Installation, content: &str) {
    for (path, expected) in [
        (format!("/api/v1/content/{content}"), 404),
        ("/api/v1/sites/mine.example/content/post/secret".to_owned(), 404),
        (format!("/api/v1/content/{content}/history"), 401),
        ("/api/v1/downloads".to_owned(), 401),
        ("/api/v1/sites".to_owned(), 401),
        ("/api/v1/stats/realtime?site=mine.example".to_owned(), 401),
    ] {
        let answer = annals.query(&path, "", None).await.unwrap();
        let status = answer.status.as_u16();
        assert!(status == expected || status == 401, "{path}: {answer:?}");
    }
    let list = annals
        .query("/api/v1/content?site=mine.example", "", None)
        .await
        .unwrap();
    assert_eq!(list.body["items"], json!([]), "{list:?}");
}
