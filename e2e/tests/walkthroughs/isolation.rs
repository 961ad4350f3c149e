//! A tenant sees its own data only, on every route that the OpenAPI document has; whoever has no key, or one without
//! the scope, gets nothing. A new route fails here until it is said what a stranger asks of it.

use e2e::installation::{Answer, Installation, LogKind};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// What a route may say to a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// That there is no such thing, or that it is not the stranger's to ask or do.
    No,
    /// What is the stranger's own, with nothing of anybody else's in it.
    Own,
}

/// What one tenant has.
struct Mine {
    key: String,
    key_id: String,
    tenant: String,
    principal: String,
    content: String,
    download: String,
    import: String,
    /// After all of it.
    position: Option<String>,
}

impl Mine {
    async fn make(annals: &Installation) -> Self {
        let key = annals.tenant("mine", "mine.example").await.unwrap();
        let (operator, site) = (annals.operator_key(), "mine.example");
        let key_id = key.split('_').nth(1).unwrap_or_default().to_owned();
        let path = format!("/api/v1/keys/{key_id}");
        let known = request(annals, Method::GET, &path, operator, Value::Null).await;
        assert_eq!(known.status, 200, "{path}: {known:?}");
        let created = async |path: &str, body: Value| {
            let answer = annals.command(Method::POST, path, &key, body).await.unwrap();
            assert_eq!(answer.status, 201, "{path}: {answer:?}");
            (answer.body["id"].as_str().unwrap().to_owned(), answer.position)
        };
        let secret = json!({"site": site, "kind": "post", "title": "Secret", "body": "hidden words"});
        let (content, _) = created("/api/v1/content", secret).await;
        let secret = json!({"title": "Secret", "url": "https://example.com/a.epub"});
        let (download, position) = created("/api/v1/downloads", secret).await;
        let secret = json!({"site": site, "source": "secret.log", "fingerprint": "ab".repeat(32)});
        let (import, _) = created("/api/v1/imports", secret).await;
        let text = |name: &str| known.body[name].as_str().unwrap().to_owned();
        Self {
            key_id,
            tenant: text("tenant"),
            principal: text("principal"),
            content,
            download,
            import,
            position,
            key,
        }
    }

    /// What a stranger asks of a route: path, body, and what it may say.
    fn asked(&self, method: &str, template: &str) -> Vec<(String, Value, Says)> {
        let id = match template.split('/').nth(3) {
            Some("content") => &self.content,
            Some("downloads") => &self.download,
            Some("imports") => &self.import,
            Some("tenants") => &self.tenant,
            Some("subjects") => &self.principal,
            _ => "",
        };
        let mut path = template.to_owned();
        for (name, value) in [
            ("{id}", id),
            ("{keyid}", self.key_id.as_str()),
            ("{domain}", "mine.example"),
            ("{kind}", "post"),
            ("{slug}", "secret"),
            ("{view}", "content"),
            ("{topic}", "ledger"),
            ("{partition}", "0"),
            ("{projection}", "content"),
            ("{subject}", self.content.as_str()),
            ("{generation}", "1"),
        ] {
            path = path.replace(name, value);
        }
        let site = "mine.example";
        let nothing = Value::Null;
        let stats = json!({"site_id": site, "metrics": ["pageviews"], "date_range": "all"});
        let with = |query: &str| format!("{path}?{query}");
        let (path, body, says) = match (method, template) {
            // Whoever comes by has no key.
            ("post", "/api/event") => return Vec::new(),
            ("get", "/api/v1/content") => {
                return vec![
                    (path.clone(), nothing.clone(), Says::Own),
                    (with("site=mine.example"), nothing.clone(), Says::Own),
                    (with("search=hidden"), nothing, Says::Own),
                ];
            }
            ("get", "/api/v1/content/{id}/history") => {
                return vec![
                    (path.clone(), nothing.clone(), Says::No),
                    (with("version=1"), nothing, Says::No),
                ];
            }
            ("post", "/api/v1/visits") => {
                const BROWSER: &str =
                    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
                let visit = json!({"name": "pageview", "url": "https://mine.example/", "domain": site, "user_agent": BROWSER, "ip": "203.0.113.9"});
                let line = json!({"name": "pageview", "url": "https://theirs.example/", "domain": "theirs.example", "user_agent": BROWSER, "ip": "203.0.113.9",
                    "import": self.import, "line": 0, "timestamp": "2020-01-01T00:00:00Z"});
                return vec![
                    (path.clone(), json!([visit]), Says::Own),
                    (path, json!([line]), Says::Own),
                ];
            }
            ("get", "/api/v1/stats/realtime") => (with("site=mine.example"), nothing, Says::No),
            ("get", "/api/v1/reports/content") => (
                with("site=mine.example&from=2020-01-01&to=2020-01-31"),
                nothing,
                Says::No,
            ),
            ("get", "/api/v1/export/{view}") => (with("format=csv"), nothing, Says::Own),
            (
                "get",
                "/api/v1/downloads"
                | "/api/v1/downloads/queue"
                | "/api/v1/events"
                | "/api/v1/parked"
                | "/api/v1/skipped"
                | "/api/v1/sites",
            ) => (path, nothing, Says::Own),
            ("post", "/api/v1/stats/query" | "/api/v2/query") => (path, stats, Says::No),
            ("post", "/api/v1/content") => (
                path,
                json!({"site": site, "kind": "post", "title": "x"}),
                Says::No,
            ),
            ("post", "/api/v1/downloads") => (
                path,
                json!({"title": "x", "url": "https://example.com/b.epub"}),
                Says::Own,
            ),
            ("post", "/api/v1/imports") => {
                let body = json!({"site": site, "source": "s", "fingerprint": "cd".repeat(32)});
                (path, body, Says::No)
            }
            ("post", "/api/v1/sites") => (path, json!({"domain": site}), Says::No),
            ("post", "/api/v1/tenants") => (path, json!({"name": "more"}), Says::No),
            ("post", "/api/v1/keys") => (path, json!({"tenant": self.tenant, "scopes": ["read"]}), Says::No),
            ("post", "/api/v1/installation/feature-level") => (path, json!({"level": 1}), Says::No),
            ("patch", "/api/v1/content/{id}") => (path, json!({"title": "Taken"}), Says::No),
            ("post", "/api/v1/content/{id}/publish" | "/api/v1/content/{id}/view") => {
                (path, json!({}), Says::No)
            }
            ("post", "/api/v1/downloads/reorder") => {
                (path, json!({"priorities": {&self.download: 1}}), Says::No)
            }
            ("put", "/api/v1/downloads/{id}/priority") => (path, json!({"priority": 1}), Says::No),
            ("post", "/api/v1/downloads/{id}/complete") => (path, json!({"size": 1}), Says::No),
            ("post", "/api/v1/downloads/{id}/fail") => (path, json!({"error": "x"}), Says::No),
            ("post", "/api/v1/parked/{projection}/{subject}/skip") => {
                (path, json!({"why": "a test"}), Says::No)
            }
            ("patch", "/api/v1/projections/{projection}/rebuild") => {
                (path, json!({"paused": true}), Says::No)
            }
            (
                _,
                "/api/v1/content/{id}"
                | "/api/v1/content/{id}/archive"
                | "/api/v1/content/{id}/unpublish"
                | "/api/v1/downloads/{id}"
                | "/api/v1/downloads/{id}/cancel"
                | "/api/v1/downloads/{id}/retry"
                | "/api/v1/downloads/{id}/start"
                | "/api/v1/imports/{id}"
                | "/api/v1/imports/{id}/complete"
                | "/api/v1/installation/feature-level"
                | "/api/v1/keys/{keyid}"
                | "/api/v1/log/{topic}/{partition}"
                | "/api/v1/log/{topic}/{partition}/records"
                | "/api/v1/log/{topic}/{partition}/verify"
                | "/api/v1/parked/{projection}/{subject}"
                | "/api/v1/parked/{projection}/{subject}/retry"
                | "/api/v1/projections"
                | "/api/v1/projections/{projection}/generations"
                | "/api/v1/projections/{projection}/generations/{generation}"
                | "/api/v1/projections/{projection}/rebuild"
                | "/api/v1/projections/{projection}/rollback"
                | "/api/v1/projections/{projection}/verify"
                | "/api/v1/sites/{domain}"
                | "/api/v1/sites/{domain}/content/{kind}/{slug}"
                | "/api/v1/subjects/{id}/erase"
                | "/api/v1/tenants/{id}",
            ) => (path, nothing, Says::No),
            _ => panic!("{method} {template} is new: what does a stranger ask of it, and what may it say?"),
        };
        vec![(path, body, says)]
    }

    /// Whether a text says what only this tenant may know. (What a stranger asks by, answers may repeat.)
    fn is_in(&self, text: &str) -> bool {
        ["Secret", "hidden words", "secret.log", &self.principal, &self.key]
            .iter()
            .any(|secret| text.contains(secret))
    }
}

/// Every route of the document: its method and path, and whether it is there for everybody.
fn routes() -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(include_str!("../../../schemas/openapi.json")).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let open = operation["security"]
                .as_array()
                .is_none_or(|ways| ways.contains(&json!({})));
            routes.push((method.clone(), path.clone(), open));
        }
    }
    routes
}

/// Every role listens at one address here.
async fn request(annals: &Installation, method: Method, path: &str, key: &str, body: Value) -> Answer {
    annals.command(method, path, key, body).await.unwrap()
}

/// The answer as it is: not everything is JSON.
async fn text(annals: &Installation, method: Method, path: &str, key: &str, body: &Value) -> (u16, String) {
    let url = format!("http://{}{path}", annals.command_address());
    let mut request = Client::new().request(method, url);
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    let request = if body.is_null() {
        request
    } else {
        request.json(body)
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another_on_any_route() {
    let annals = crate::running(LogKind::Embedded).await;
    let mine = Mine::make(&annals).await;
    let stranger = annals.tenant("theirs", "theirs.example").await.unwrap();
    let weak = json!({"tenant": mine.tenant, "scopes": ["visits:write"]});
    let weak = request(&annals, Method::POST, "/api/v1/keys", annals.operator_key(), weak).await;
    let weak = weak.body["key"].as_str().unwrap().to_owned();

    // What is refused to others is there for its own tenant: else what is not there yet would pass for a refusal.
    for path in [
        format!("/api/v1/content/{}", mine.content),
        format!("/api/v1/content/{}/history?version=1", mine.content),
        "/api/v1/sites/mine.example/content/post/secret".to_owned(),
        format!("/api/v1/downloads/{}", mine.download),
        "/api/v1/stats/realtime?site=mine.example".to_owned(),
        "/api/v1/reports/content?site=mine.example&from=2020-01-01&to=2020-01-31".to_owned(),
    ] {
        let answer = annals
            .query(&path, &mine.key, mine.position.as_deref())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    for (view, of) in [("content", Method::GET), ("downloads", Method::GET)] {
        let path = format!("/api/v1/export/{view}?format=csv");
        let (status, said) = text(&annals, of, &path, &mine.key, &Value::Null).await;
        assert!(status == 200 && mine.is_in(&said), "{path}: {status} {said}");
    }

    let routes = routes();
    assert!(routes.len() > 50, "{}", routes.len());
    for (method, template, open) in routes {
        for (path, body, says) in mine.asked(&method, &template) {
            let method: Method = method.to_uppercase().parse().unwrap();
            let shown = format!("{method} {path} {body}");
            let (status, said) = text(&annals, method.clone(), &path, &stranger, &body).await;
            assert!(!mine.is_in(&said), "{shown}: {status} {said}");
            let no = matches!(status, 403 | 404 | 409 | 422);
            assert!(
                no || says == Says::Own && matches!(status, 200..=202),
                "{shown}: {status} {said}"
            );
            let counted = serde_json::from_str::<Value>(&said).is_ok_and(|said| said["accepted"] == 1);
            assert!(!counted, "{shown}: {said}");

            let (status, said) = text(&annals, method.clone(), &path, "", &body).await;
            assert!(!mine.is_in(&said), "{shown}, without a key: {status} {said}");
            assert!(
                status == 401 || open && status < 500,
                "{shown}, without a key: {status} {said}"
            );

            // An import is one of visits.
            let visits = ["/api/v1/visits", "/api/v1/imports"]
                .iter()
                .any(|of| template.starts_with(of));
            let visits = visits || template.ends_with("/view");
            let (status, said) = text(&annals, method, &path, &weak, &body).await;
            assert!(
                status == 403 || visits || open && !mine.is_in(&said),
                "{shown}, without the scope: {status} {said}"
            );
        }
    }

    // And nothing of it changed.
    let path = format!("/api/v1/content/{}", mine.content);
    let seen = annals.query(&path, &mine.key, None).await.unwrap();
    assert_eq!(
        (&seen.body["title"], &seen.body["version"]),
        (&json!("Secret"), &json!(1)),
        "{seen:?}"
    );
    crate::finish(annals).await;
}

#[tokio::test]
async fn who_has_no_key_sees_what_is_published_and_nothing_else() {
    let annals = crate::running(LogKind::Embedded).await;
    let mine = Mine::make(&annals).await;
    let path = "/api/v1/sites/mine.example/content/post/secret";
    assert_eq!(annals.query(path, "", None).await.unwrap().status, 404);
    let list = "/api/v1/content?site=mine.example";
    let seen = annals.query(list, "", mine.position.as_deref()).await.unwrap();
    assert_eq!(seen.body["items"], json!([]), "{seen:?}");
    let publish = format!("/api/v1/content/{}/publish", mine.content);
    let published = request(&annals, Method::POST, &publish, &mine.key, json!({})).await;
    assert_eq!(published.status, 200, "{published:?}");
    for path in [path, list] {
        let seen = annals
            .query(path, "", published.position.as_deref())
            .await
            .unwrap();
        assert!(
            seen.status == 200 && seen.body.to_string().contains("Secret"),
            "{seen:?}"
        );
    }
    crate::finish(annals).await;
}
