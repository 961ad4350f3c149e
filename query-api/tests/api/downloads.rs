//! A tenant's queue.

use read_models::downloads::Download;
use uuid::Uuid;

use crate::stage::{Stage, Tenant, time};

fn download(tenant: &Tenant, n: u32, priority: i32, status: &str) -> Download {
    Download {
        tenant: tenant.id,
        download: Uuid::now_v7(),
        title: format!("Book {n}"),
        url: format!("https://books.example/{n}"),
        author: None,
        format: Some("epub".to_owned()),
        sha256: None,
        priority,
        status: status.to_owned(),
        queue_seq: i64::from(n),
        queue_index: 0,
        attempts: 0,
        failure: None,
        fetched_size: None,
        fetched_sha256: None,
        queued_at: time(n),
        queued_by: None,
        started_at: None,
        finished_at: None,
        updated_at: time(n),
        updated_by: None,
        version: 1,
    }
}

#[tokio::test]
async fn a_queue_is_told_in_its_order() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let rows = vec![
        download(&tenant, 1, 100, "queued"),
        download(&tenant, 2, 50, "queued"),
        download(&tenant, 3, 100, "queued"),
        download(&tenant, 4, 1, "completed"),
        download(&tenant, 5, 1, "running"),
    ];
    let second = rows[1].download;
    stage.queue(rows).await;
    let key = Some(tenant.key.as_str());
    let queue = stage.read("/api/v1/downloads/queue", key).await.ok();
    let titles: Vec<_> = queue["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["title"].clone())
        .collect();
    assert_eq!(titles, ["Book 2", "Book 1", "Book 3"]);
    assert_eq!(queue["total"], 3);
    let all = stage.read("/api/v1/downloads?size=3", key).await.ok();
    assert_eq!(
        (&all["total"], &all["items"][0]["title"]),
        (&5.into(), &"Book 5".into())
    );
    let next = all["next"].as_str().unwrap();
    let rest = stage
        .read(&format!("/api/v1/downloads?size=3&after={next}"), key)
        .await
        .ok();
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["next"]),
        (2, &serde_json::Value::Null)
    );
    assert_eq!(rest.get("page"), None, "{rest}");
    // However the rest changes meanwhile: the next page follows what was seen.
    let first = stage.read("/api/v1/downloads/queue?size=1", key).await.ok();
    let next = first["next"].as_str().unwrap().to_owned();
    stage
        .sql("UPDATE downloads_1.downloads SET status = 'running' WHERE title = 'Book 2'")
        .await;
    let path = format!("/api/v1/downloads/queue?after={next}");
    let rest = stage.read(&path, key).await.ok();
    let titles: Vec<_> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["title"].clone())
        .collect();
    assert_eq!(titles, ["Book 1", "Book 3"]);
    stage
        .sql("UPDATE downloads_1.downloads SET status = 'queued' WHERE title = 'Book 2'")
        .await;
    for (status, count) in [
        ("queued", 3),
        ("running", 1),
        ("completed", 1),
        ("failed", 0),
        ("cancelled", 0),
    ] {
        let path = format!("/api/v1/downloads?status={status}");
        assert_eq!(stage.read(&path, key).await.ok()["total"], count, "{status}");
    }
    let one = stage.read(&format!("/api/v1/downloads/{second}"), key).await;
    assert_eq!((one.header("etag"), &one.ok()["priority"]), ("\"1\"", &50.into()));
    for (query, pointer) in [
        ("status=lost", "/status"),
        ("size=0", "/size"),
        ("after=x", "/after"),
        ("a=b", "/a"),
    ] {
        let answer = stage.read(&format!("/api/v1/downloads?{query}"), key).await;
        assert_eq!(answer.problem(422, "invalid"), [pointer]);
    }
    stage.end().await;
}
