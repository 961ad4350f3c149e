//! A rebuild: whatever is lost of the read models comes back from the log, and is the same.

use e2e::{
    engines::Engines,
    installation::{Installation, LogKind, Role},
    wait,
};
use sqlx::Connection as _;

use crate::sample::{self, SITE, run, told};

#[tokio::test]
async fn deleted_read_models_come_back_the_same_on_the_embedded_log() {
    deleted_read_models_come_back_the_same(LogKind::Embedded).await;
}

#[tokio::test]
async fn deleted_read_models_come_back_the_same_on_kafka() {
    deleted_read_models_come_back_the_same(LogKind::Kafka).await;
}

async fn deleted_read_models_come_back_the_same(log: LogKind) {
    let mut annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let views = import_all(&annals, &key).await;
    sample::posts_shown(&annals, &key, SITE, sample::POSTS).await;
    sample::pageviews_shown(&annals, &key, SITE, views).await;
    sample::settled(&annals, &key, SITE).await;
    let before = sample::answers(&annals, &key, SITE).await;

    annals.stop().await.unwrap();
    delete_read_models(&annals).await;
    annals.start().await.unwrap();
    shown_again(&annals, &key, views).await;
    compare(&before, &sample::answers(&annals, &key, SITE).await);
    crate::finish(annals).await;
}

/// The projector is a process of its own on Kafka, and may be killed at any moment.
#[tokio::test]
async fn a_projector_killed_while_it_catches_up_gives_the_same_answers() {
    let mut annals = crate::running(LogKind::Kafka).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let views = import_all(&annals, &key).await;
    sample::posts_shown(&annals, &key, SITE, sample::POSTS).await;
    sample::pageviews_shown(&annals, &key, SITE, views).await;
    sample::settled(&annals, &key, SITE).await;
    let before = sample::answers(&annals, &key, SITE).await;
    let whole = checkpoints(&annals).await.unwrap();

    annals.kill(Role::Projector).await.unwrap();
    annals.stop().await.unwrap();
    delete_read_models(&annals).await;
    // Killed as soon as something was written, and again when there is more.
    let (mut written, mut in_the_midst) = (0, 0);
    while written < whole && in_the_midst < 4 {
        annals.spawn(Role::Projector).unwrap();
        let more = wait::until("the projector to write more", crate::PATIENCE, async || {
            let now = checkpoints(&annals).await.unwrap_or(0);
            (now > written).then_some(now)
        });
        written = more.await.unwrap();
        annals.kill(Role::Projector).await.unwrap();
        in_the_midst += usize::from(written < whole);
    }
    assert!(in_the_midst > 0, "it was never killed before its end");
    annals.start().await.unwrap();
    shown_again(&annals, &key, views).await;
    compare(&before, &sample::answers(&annals, &key, SITE).await);
    crate::finish(annals).await;
}

/// Imports posts and the log; how many page views that are.
async fn import_all(annals: &Installation, key: &str) -> u64 {
    let (posts, log) = (sample::posts(), sample::log_file());
    let (code, text) = run(
        annals,
        key,
        &["import", "posts", posts.to_str().unwrap(), "--site", SITE],
    )
    .await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(
        annals,
        key,
        &["import", "access-log", log.to_str().unwrap(), "--site", SITE],
    )
    .await;
    assert_eq!(code, Some(0), "{text}");
    told(&text, "page views imported")
}

/// Every table of every projection, in both stores; keys and the log stay.
async fn delete_read_models(annals: &Installation) {
    let engines = Engines::from_environment().unwrap();
    engines.drop_database(annals.name()).await.unwrap();
    engines.create_database(annals.name()).await.unwrap();
    engines.drop_clickhouse(annals.name()).await.unwrap();
}

/// The sum of all checkpoints; none before there are any.
async fn checkpoints(annals: &Installation) -> Option<i64> {
    let mut database = sqlx::PgConnection::connect(&annals.database()).await.ok()?;
    let sum = "SELECT coalesce(sum(next_offset), 0)::bigint FROM annals.checkpoints";
    sqlx::query_scalar(sum).fetch_one(&mut database).await.ok()
}

/// The query side answers again only when its tables are there: until then it may know neither key nor site.
async fn shown_again(annals: &Installation, key: &str, views: u64) {
    let known = wait::until(
        "the query side to know the key again",
        crate::PATIENCE,
        async || {
            let answer = annals.query("/api/v1/sites", key, None).await.ok()?;
            (answer.body["items"].as_array()?.len() == 1).then_some(())
        },
    );
    known.await.unwrap();
    sample::posts_shown(annals, key, SITE, sample::POSTS).await;
    sample::pageviews_shown(annals, key, SITE, views).await;
    sample::settled(annals, key, SITE).await;
}

fn compare(before: &[serde_json::Value], after: &[serde_json::Value]) {
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after);
    }
}
