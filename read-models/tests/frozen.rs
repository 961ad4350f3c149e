//! A writer that is frozen in the midst of COPY holds its checkpoint, or rows, and no limit of the server's ends it; one that
//! waits for another store has a long one.

use std::time::{Duration, Instant};

use read_models::{Projection, Writer, scratch::Scratch};
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};

#[tokio::test]
async fn one_that_is_frozen_in_the_midst_of_copy_does_not_hold_the_partition_for_ever() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let made = writer.prepare(Projection::Downloads, 1, "a fold").await.unwrap();
    let before = writer
        .take_over(Projection::Downloads, made.number, 0)
        .await
        .unwrap();
    let options: PgConnectOptions = scratch.url().parse().unwrap();
    let mut frozen = options
        .application_name("annals projectors")
        .connect()
        .await
        .unwrap();
    frozen
        .execute("BEGIN; SELECT fence FROM annals.checkpoints WHERE projection = 'downloads' FOR UPDATE")
        .await
        .unwrap();
    let copying = frozen
        .copy_in_raw("COPY downloads_1.downloads FROM STDIN (FORMAT binary)")
        .await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let after = loop {
        // Each attempt waits two seconds for the lock.
        match writer.take_over(Projection::Downloads, made.number, 0).await {
            Ok(after) => break after,
            Err(error) => assert!(Instant::now() < deadline && error.may_pass(), "{error:?}"),
        }
    };
    assert_eq!(after.fence, before.fence + 1);
    copying.unwrap().finish().await.unwrap_err();
    writer.close().await;
    scratch.erase().await.unwrap();
}

/// It has no checkpoint's lock, but rows that whoever comes next writes too.
#[tokio::test]
async fn one_that_is_frozen_ahead_of_its_turn_is_ended_by_whoever_takes_over() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let made = writer.prepare(Projection::Downloads, 1, "a fold").await.unwrap();
    let options: PgConnectOptions = scratch.url().parse().unwrap();
    let mut looking = options.clone().connect().await.unwrap();
    let mut frozen = options
        .application_name("annals projectors")
        .connect()
        .await
        .unwrap();
    frozen.execute("BEGIN").await.unwrap();
    let copying = frozen
        .copy_in_raw("COPY downloads_1.downloads FROM STDIN (FORMAT binary)")
        .await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        writer
            .take_over(Projection::Downloads, made.number, 0)
            .await
            .unwrap();
        let copies: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'downloads_1.downloads'::regclass",
        )
        .fetch_one(&mut looking)
        .await
        .unwrap();
        if copies == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "it is still there");
    }
    copying.unwrap().finish().await.unwrap_err();
    writer.close().await;
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn one_that_is_frozen_while_another_store_writes_is_ended_by_whoever_takes_over() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let projection = Projection::ContentFacts;
    let made = writer.prepare(projection, 1, "a fold").await.unwrap();
    let before = writer.take_over(projection, made.number, 0).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let tables = writer.waiting_tables(projection, made.number, 1, hour);
    let frozen = tables.begin(&before).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let after = loop {
        match writer.take_over(projection, made.number, 0).await {
            Ok(after) => break after,
            Err(error) => assert!(Instant::now() < deadline && error.may_pass(), "{error:?}"),
        }
    };
    assert!(after.fence > before.fence);
    drop(frozen);
    writer.close().await;
    scratch.erase().await.unwrap();
}
