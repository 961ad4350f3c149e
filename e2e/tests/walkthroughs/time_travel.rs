//! Time travel: tables as they were at a position or a time, under a name of their own, while everything goes on.

use e2e::installation::{Installation, LogKind};
use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use crate::sample::{self, SITE, run};

#[tokio::test]
async fn tables_are_seen_as_they_were_on_the_embedded_log() {
    tables_are_seen_as_they_were(LogKind::Embedded).await;
}

#[tokio::test]
async fn tables_are_seen_as_they_were_on_kafka() {
    tables_are_seen_as_they_were(LogKind::Kafka).await;
}

async fn tables_are_seen_as_they_were(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let draft = json!({"site": SITE, "kind": "post", "title": "As it was", "body": "Words."});
    let drafted = annals.command(Method::POST, "/api/v1/content", &key, draft).await;
    let drafted = drafted.unwrap();
    let (position, id) = (drafted.position.unwrap(), drafted.body["id"].as_str().unwrap());
    let path = format!("/api/v1/content/{id}");
    let history = annals
        .query(&format!("{path}/history"), &key, Some(&position))
        .await;
    let time = history.unwrap().body["items"][0]["at"]
        .as_str()
        .unwrap()
        .to_owned();
    let access_log = sample::log_file();
    let import = [
        "import",
        "access-log",
        access_log.to_str().unwrap(),
        "--site",
        SITE,
    ];
    let (code, text) = run(&annals, &key, &import).await;
    assert_eq!(code, Some(0), "{text}");
    let revised = annals
        .command(Method::PATCH, &path, &key, json!({"title": "As it is"}))
        .await
        .unwrap();
    assert_eq!(revised.status, 200, "{revised:?}");

    let operator = annals.operator_key();
    for (projection, until, name) in [
        ("content", &position, "content_at"),
        ("content", &time, "content_at_a_time"),
        ("content_facts", &time, "content_facts_at"),
        // Its visits had happened long before, and were not recorded yet.
        ("visits", &time, "visits_at"),
    ] {
        let (code, text) = run(
            &annals,
            operator,
            &["rebuild", projection, "--until", until, "--into", name],
        )
        .await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(&format!("is frozen: {name}")), "{text}");
    }
    let mut database = sqlx::PgConnection::connect(&annals.database()).await.unwrap();
    sqlx::query("INSERT INTO annals.analysts (role, tenant) VALUES (session_user, NULL)")
        .execute(&mut database)
        .await
        .unwrap();
    for name in ["content_at", "content_at_a_time"] {
        let titles: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT title FROM {name}.content")))
                .fetch_all(&mut database)
                .await
                .unwrap();
        assert_eq!(titles, ["As it was"], "{name}");
    }
    let at = format!("{path}/history?at={time}");
    let then = annals
        .query(&at, &key, revised.position.as_deref())
        .await
        .unwrap();
    assert_eq!(then.body["title"], "As it was");
    let report = format!("/api/v1/reports/content?site={SITE}&as_of=at");
    let report = annals.query(&report, &key, None).await.unwrap();
    assert_eq!(report.status, 200, "{report:?}");
    assert_eq!(
        report.body["as_of"],
        json!({"visits": time, "content_facts": time})
    );

    let (_, text) = run(&annals, operator, &["generations", "list"]).await;
    assert_eq!(text.matches(" frozen ").count(), 4, "{text}");
    let (code, text) = run(&annals, operator, &["verify", "visits", "--generation", "2"]).await;
    assert_eq!(code, Some(0), "{text}");
    refused(&annals, &position, &time).await;
    for (projection, generation) in [("content", "2"), ("visits", "2")] {
        let drop = ["generations", "drop", projection, generation];
        let (code, text) = run(&annals, operator, &drop).await;
        assert_eq!(code, Some(0), "{text}");
    }
    let (_, text) = run(&annals, operator, &["generations", "list"]).await;
    assert_eq!(text.matches(" frozen ").count(), 2, "{text}");
    crate::finish(annals).await;
}

/// What cannot be is said in words, and nothing is begun.
async fn refused(annals: &Installation, position: &str, time: &str) {
    let operator = annals.operator_key();
    for (args, said) in [
        (
            ["nothing", "--until", time, "--into", "nothing_at"],
            "no topic or projection",
        ),
        (
            ["content", "--until", time, "--into", "content_at"],
            "something called content_at already",
        ),
        (
            ["content", "--until", time, "--into", "mine"],
            "is content_at, or content_at_",
        ),
        (
            [
                "content",
                "--until",
                "2999-01-01T00:00:00Z",
                "--into",
                "content_at_x",
            ],
            "in the future",
        ),
        (
            ["content", "--until", "long ago", "--into", "content_at_x"],
            "neither a time",
        ),
        (
            ["visits", "--until", position, "--into", "visits_at_x"],
            "nothing of the visits",
        ),
    ] {
        let args: Vec<&str> = std::iter::once("rebuild").chain(args).collect();
        let (code, text) = run(annals, operator, &args).await;
        assert!(code != Some(0) && text.contains(said), "{args:?}: {text}");
    }
    let (code, text) = run(annals, operator, &["rebuild", "content", "--until", time]).await;
    assert!(code != Some(0) && text.contains("--into"), "{text}");
    let (_, text) = run(annals, operator, &["generations", "list"]).await;
    assert!(!text.contains("freezing"), "{text}");
}
