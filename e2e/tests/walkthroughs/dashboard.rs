//! An event reaching a dashboard.

use e2e::installation::{Installation, LogKind};
use serde_json::{Value, json};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";

#[tokio::test]
async fn a_page_view_reaches_the_dashboard_on_the_embedded_log() {
    a_page_view_reaches_the_dashboard(LogKind::Embedded).await;
}

#[tokio::test]
async fn a_page_view_reaches_the_dashboard_on_kafka() {
    a_page_view_reaches_the_dashboard(LogKind::Kafka).await;
}

async fn a_page_view_reaches_the_dashboard(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("watchers", "seen.example").await.unwrap();

    for (path, referrer) in [
        ("/", "https://www.google.com/"),
        ("/about", "https://seen.example/"),
        ("/", ""),
    ] {
        let url = format!("https://seen.example{path}");
        let answer = page_view(
            &annals,
            BROWSER,
            json!({"n": "pageview", "u": url, "d": "seen.example", "r": referrer}),
        )
        .await;
        assert_eq!((answer.0, answer.1.as_deref()), (202, None));
    }
    let bot = page_view(
        &annals,
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        json!({"name": "pageview", "url": "https://seen.example/", "domain": "seen.example"}),
    )
    .await;
    assert_eq!((bot.0, bot.1.as_deref()), (202, Some("1")), "a bot is told apart");
    let stranger = page_view(
        &annals,
        BROWSER,
        json!({"name": "pageview", "url": "https://x.example/", "domain": "x.example"}),
    )
    .await;
    assert_eq!(
        (stranger.0, stranger.1.as_deref()),
        (202, Some("1")),
        "an unknown site is not counted"
    );

    let metrics = [
        "visitors",
        "visits",
        "pageviews",
        "views_per_visit",
        "bounce_rate",
    ];
    let query = json!({"site_id": "seen.example", "metrics": metrics, "date_range": "all"});
    crate::sample::pageviews_shown(&annals, &key, "seen.example", 3).await;
    let answer = annals.stats(&key, query, None).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        numbers(&answer.body["results"][0]["metrics"]),
        [1.0, 1.0, 3.0, 3.0, 0.0],
        "{answer:?}"
    );

    let by_page = json!({
        "site_id": "seen.example", "metrics": ["pageviews"], "date_range": "all", "dimensions": ["event:page"],
    });
    let answer = annals.stats(&key, by_page, None).await.unwrap();
    let rows: Vec<_> = answer.body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["dimensions"][0].clone(), row["metrics"][0].clone()))
        .collect();
    assert_eq!(rows, [(json!("/"), json!(2)), (json!("/about"), json!(1))]);

    let by_source = json!({
        "site_id": "seen.example", "metrics": ["visitors"], "date_range": "all", "dimensions": ["visit:source"],
    });
    let answer = annals.stats(&key, by_source, None).await.unwrap();
    assert_eq!(
        answer.body["results"],
        json!([{"dimensions": ["Google"], "metrics": [1]}]),
        "{answer:?}"
    );
    crate::finish(annals).await;
}

/// Sends an event as a browser does: status, whether it was dropped.
async fn page_view(annals: &Installation, agent: &str, body: Value) -> (u16, Option<String>) {
    let url = format!("http://{}/api/event", annals.command_address());
    let request = reqwest::Client::new()
        .post(url)
        .header("user-agent", agent)
        .header("content-type", "text/plain");
    let answer = request.body(body.to_string()).send().await.unwrap();
    let dropped = answer
        .headers()
        .get("x-plausible-dropped")
        .and_then(|value| value.to_str().ok());
    (answer.status().as_u16(), dropped.map(str::to_owned))
}

fn numbers(values: &Value) -> Vec<f64> {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}
