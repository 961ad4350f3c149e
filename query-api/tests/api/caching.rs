//! Memory never answers with something older than what was asked for, or than what was heard of.

use std::time::{Duration, Instant};

use crate::stage::{Stage, by_slug, post};

#[tokio::test]
async fn nothing_older_than_the_position_is_served() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut piece = stage.draft(post(&tenant, "first")).await;
    let by_id = format!("/api/v1/content/{}", piece.content);
    let (slug, list) = (
        by_slug(&tenant, "first"),
        format!("/api/v1/content?site={}", tenant.domain),
    );
    for version in 3..60 {
        piece.version = version;
        piece.title = format!("Version {version}");
        stage.update(&piece).await;
        for path in [&by_id, &slug, &list] {
            let read = stage.read(path, Some(&tenant.key)).await;
            read.ok();
            assert!(read.text.contains(&piece.title), "{path} shows {}", read.text);
            // And once from memory.
            assert!(
                stage
                    .get(path, Some(&tenant.key))
                    .await
                    .text
                    .contains(&piece.title)
            );
        }
        assert!(stage.read(&slug, None).await.text.contains(&piece.title));
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_time_run_back() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut piece = stage.draft(post(&tenant, "first")).await;
    let url = format!("{}{}", stage.url, by_slug(&tenant, "first"));
    let stop = tokio_util::sync::CancellationToken::new();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (client, url, stop) = (stage.client.clone(), url.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut last, mut reads) = (0, 0_u64);
                while !stop.is_cancelled() {
                    let body: serde_json::Value =
                        client.get(&url).send().await.unwrap().json().await.unwrap();
                    let version = body["version"].as_i64().unwrap();
                    assert!(version >= last, "{version} after {last}");
                    (last, reads) = (version, reads + 1);
                }
                reads
            })
        })
        .collect();
    for version in 3..80 {
        piece.version = version;
        stage.update(&piece).await;
        // One who asks with the position sees it, whatever the others did to the memory meanwhile.
        let seen = stage.read(&by_slug(&tenant, "first"), None).await.ok();
        assert_eq!(seen["version"], version);
    }
    stop.cancel();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    stage.end().await;
}

#[tokio::test]
async fn a_change_is_seen_soon_without_a_position() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut piece = stage.draft(post(&tenant, "first")).await;
    stage.read(&by_slug(&tenant, "first"), None).await.ok();
    "unpublished".clone_into(&mut piece.status);
    piece.version = 3;
    stage.update(&piece).await;
    let changed = Instant::now();
    let path = by_slug(&tenant, "first");
    stage
        .until("it is gone", async |stage| {
            stage.get(&path, None).await.status == 404
        })
        .await;
    assert!(
        changed.elapsed() < Duration::from_secs(1),
        "{:?}",
        changed.elapsed()
    );
    stage.end().await;
}

#[tokio::test]
async fn another_generation_answers_as_soon_as_it_is_live() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let piece = stage.draft(post(&tenant, "first")).await;
    stage.read(&by_slug(&tenant, "first"), None).await.ok();
    // Tables of another fold, empty, beside these: the answer follows the switch.
    let content = read_models::Projection::Content;
    let made = stage.writer.prepare(content, 4, "another fold").await.unwrap();
    for partition in 0..4 {
        let mut at = stage
            .writer
            .take_over(content, made.number, partition)
            .await
            .unwrap();
        let tables = stage.writer.tables(content, made.number, 1);
        let far = read_models::Advance {
            next_offset: 1_000,
            epoch: 1,
            seq: 1,
            hash: [0; 32],
            log_end: 1_000,
            last_time: None,
        };
        at = tables.begin(&at).await.unwrap().commit(&far).await.unwrap();
        assert_eq!(at.next_offset, 1_000);
    }
    stage.writer.switch(content, made.number).await.unwrap();
    let path = by_slug(&tenant, "first");
    stage
        .until("the new tables answer", async |stage| {
            stage.get(&path, None).await.status == 404
        })
        .await;
    let by_id = format!("/api/v1/content/{}", piece.content);
    stage
        .get(&by_id, Some(&tenant.key))
        .await
        .problem(404, "not-found");
    stage.end().await;
}
