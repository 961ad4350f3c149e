//! Tables that have never had all of the log.

use std::time::Instant;

use crate::stage::{Stage, by_slug, post, saw_ends};

/// What they lack looks like what never was.
#[tokio::test]
async fn nothing_is_answered_from_tables_before_they_had_all_of_the_log_once() {
    let mut stage = Stage::unfilled().await;
    let tables = async |stage: &Stage| stage.get("/readyz", None).await.json()["checks"]["tables"].clone();
    let list = "/api/v1/content?site=a.example";
    let answer = stage.get(list, None).await;
    answer.problem(503, "starting");
    assert_eq!(answer.header("retry-after"), "1");
    let check = tables(&stage).await;
    assert_eq!(check["state"], "degraded", "{check}");
    assert!(
        check["detail"].to_string().contains("directory (0 of 0 records)"),
        "{check}"
    );

    // The directory comes to its end; of content one partition of four.
    let tenant = stage.tenant("a").await;
    stage.draft(post(&tenant, "first")).await;
    let by_slug = by_slug(&tenant, "first");
    stage
        .until("the directory answers", async |stage| {
            let answer = stage.get(list, None).await;
            answer
                .text
                .contains("the tables of content are still being filled")
        })
        .await;
    let read = stage.read(list, None).await;
    read.problem(503, "starting");
    stage.get(&by_slug, None).await.problem(503, "starting");
    stage.directory_is_complete().await;
    stage
        .until("keys count", async |stage| {
            stage.get("/api/v1/sites", Some(&tenant.key)).await.status == 200
        })
        .await;
    stage
        .get("/api/v1/downloads", Some(&tenant.key))
        .await
        .problem(503, "starting");
    let check = tables(&stage).await;
    let detail = check["detail"].to_string();
    assert!(detail.contains("content (1 of 1 records)"), "{check}");
    assert!(!detail.contains("directory"), "{check}");

    // All partitions.
    saw_ends(&stage.writer, &stage.content.at).await;
    stage
        .until("content answers", async |stage| {
            stage.get(list, None).await.status == 200
        })
        .await;
    assert_eq!(stage.get(list, None).await.ok()["total"], 1);
    // Being behind later is ordinary.
    let (at, now) = (&stage.content.at, Instant::now());
    stage.writer.saw_end(at, now, at.next_offset + 5).await.unwrap();
    stage.read(list, None).await.ok();
    let check = tables(&stage).await;
    assert!(!check["detail"].to_string().contains("content ("), "{check}");
    stage.end().await;
}
