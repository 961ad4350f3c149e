//! A command: decided, kept, answered, read back, and answered the same when it is repeated.

use e2e::installation::{Installation, LogKind};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_command_is_read_back_at_its_position_on_the_embedded_log() {
    a_command_is_read_back_at_its_position(LogKind::Embedded).await;
}

#[tokio::test]
async fn a_command_is_read_back_at_its_position_on_kafka() {
    a_command_is_read_back_at_its_position(LogKind::Kafka).await;
}

/// Through everything: the names that commands answer with are those that queries are asked with.
#[tokio::test]
async fn a_download_is_found_by_the_status_that_its_commands_told() {
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("readers", "books.example").await.unwrap();
    let book = json!({"title": "Birds", "url": "https://books.example/birds.epub"});
    let queued = annals
        .command(Method::POST, "/api/v1/downloads", &key, book)
        .await
        .unwrap();
    let path = format!("/api/v1/downloads/{}", queued.body["id"].as_str().unwrap());
    for verb in ["", "start", "fail", "retry", "start", "complete"] {
        let answer = match verb {
            "" => queued.clone(),
            verb => {
                let body = if verb == "fail" {
                    json!({"reason": "gone"})
                } else {
                    json!({})
                };
                let path = format!("{path}/{verb}");
                annals.command(Method::POST, &path, &key, body).await.unwrap()
            }
        };
        assert!(answer.status.is_success(), "{verb}: {answer:?}");
        let status = answer.body["status"].as_str().unwrap();
        let list = format!("/api/v1/downloads?status={status}");
        let list = annals
            .query(&list, &key, answer.position.as_deref())
            .await
            .unwrap();
        assert_eq!(list.body["items"][0]["status"], status, "{verb}: {list:?}");
    }
    crate::finish(annals).await;
}

async fn a_command_is_read_back_at_its_position(log: LogKind) {
    let mut annals = crate::running(log).await;
    let key = annals.tenant("writers", "words.example").await.unwrap();

    let draft = json!({
        "site": "words.example", "kind": "post", "title": "On Birds", "body": "# Birds\n\nThey *fly*. <script>x</script>",
        "tags": ["nature"], "metadata": {"authors": ["A. Writer"]},
    });
    let drafted = annals
        .command(Method::POST, "/api/v1/content", &key, draft.clone())
        .await
        .unwrap();
    assert_eq!(drafted.status, 201, "{drafted:?}");
    assert_eq!(drafted.body["slug"], "on-birds");
    assert_eq!(drafted.body["status"], "draft");
    let id = drafted.body["id"].as_str().unwrap().to_owned();

    let taken = annals.command(Method::POST, "/api/v1/content", &key, draft).await;
    let taken = taken.unwrap();
    assert!(
        taken.status == 201 || taken.status == 409,
        "a title may be used again, its slug not: {taken:?}"
    );

    let at = "2020-02-02T00:00:00Z";
    let path = format!("/api/v1/content/{id}/publish");
    let published = annals
        .command(Method::POST, &path, &key, json!({ "at": at }))
        .await
        .unwrap();
    assert_eq!(published.status, 200, "{published:?}");
    let again = annals
        .command(Method::POST, &path, &key, json!({ "at": at }))
        .await
        .unwrap();
    assert_eq!(
        again.status, 409,
        "what is published is not published again: {again:?}"
    );

    // Without a key, as readers see it, and with the position, so that it must be there.
    let position = published.position.as_deref();
    assert!(position.is_some(), "a command answers with a position");
    let read = annals
        .query("/api/v1/sites/words.example/content/post/on-birds", "", position)
        .await
        .unwrap();
    assert_eq!(read.status, 200, "{read:?}");
    let text = read.body.to_string();
    assert!(
        text.contains("<em>fly</em>") && !read.body["html"].to_string().contains("<script>"),
        "{text}"
    );

    let history = annals
        .query(&format!("/api/v1/content/{id}/history"), &key, position)
        .await
        .unwrap();
    assert_eq!(history.status, 200, "{history:?}");
    assert_eq!(
        history.body["items"].as_array().map(Vec::len),
        Some(2),
        "{history:?}"
    );

    // Whoever keeps a position gets what happened, each event once.
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("position");
    let subscriber = ["events", "--types", "content.*", "--keep", kept.to_str().unwrap()];
    let heard = async |annals: &Installation| {
        let output = annals.annals(&key, &subscriber).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        let types: Vec<String> = events
            .map(|event: Value| event["type"].as_str().unwrap().to_owned())
            .collect();
        types
    };
    let first = heard(&annals).await;
    assert_eq!(first.last().unwrap(), "content.published.v1");
    assert!(heard(&annals).await.is_empty());

    // It outlives a restart.
    annals.stop().await.unwrap();
    annals.start().await.unwrap();
    let read = annals
        .query("/api/v1/sites/words.example/content/post/on-birds", "", position)
        .await
        .unwrap();
    assert_eq!(read.status, 200, "{read:?}");
    let revised = annals
        .command(
            Method::PATCH,
            &format!("/api/v1/content/{id}"),
            &key,
            json!({"title": "Of Birds"}),
        )
        .await
        .unwrap();
    assert_eq!(revised.status, 200, "{revised:?}");
    assert_eq!(revised.body["version"], 3);
    assert_eq!(heard(&annals).await, ["content.revised.v1"]);
    crate::finish(annals).await;
}
