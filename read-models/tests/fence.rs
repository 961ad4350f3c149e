//! Who lost a partition is told so, also when it has nothing to write: it may only tell where the log ends.

use std::time::Instant;

use read_models::{Error, Projection, Writer, scratch::Scratch};
use sqlx::Connection as _;

#[tokio::test]
async fn who_tells_where_the_log_ends_hears_that_another_has_the_partition() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    let made = writer.prepare(Projection::Downloads, 2, "a fold").await.unwrap();
    let take = async || {
        writer
            .take_over(Projection::Downloads, made.number, 0)
            .await
            .unwrap()
    };
    let mut looking = sqlx::PgConnection::connect(&scratch.url()).await.unwrap();
    let mut log_end = async || -> i64 {
        let end =
            r#"SELECT log_end FROM annals.checkpoints WHERE projection = 'downloads' AND "partition" = 0"#;
        sqlx::query_scalar(end).fetch_one(&mut looking).await.unwrap()
    };

    let first = take().await;
    writer.saw_end(&first, Instant::now(), 5).await.unwrap();
    assert_eq!(log_end().await, 5);
    let second = take().await;
    let late = writer.saw_end(&first, Instant::now(), 7).await;
    assert!(
        matches!(
            late,
            Err(Error::Fenced {
                projection: Projection::Downloads,
                partition: 0,
                ..
            })
        ),
        "{late:?}"
    );
    assert_eq!(log_end().await, 5, "what it told counts");
    writer.saw_end(&second, Instant::now(), 9).await.unwrap();
    assert_eq!(log_end().await, 9);

    // Nobody has it: the database is back at an older state.
    let back = "UPDATE annals.checkpoints SET fence = fence - 1 WHERE fence > 1 AND projection = 'downloads'";
    scratch.execute(back).await.unwrap();
    let back = writer.saw_end(&second, Instant::now(), 11).await;
    assert!(
        matches!(back, Err(Error::WentBack { partition: 0, .. })),
        "{back:?}"
    );
    assert_eq!(log_end().await, 9);

    // Its generation is no more.
    scratch
        .execute("DELETE FROM annals.checkpoints WHERE projection = 'downloads'")
        .await
        .unwrap();
    let gone = writer.saw_end(&second, Instant::now(), 11).await;
    assert!(matches!(gone, Err(Error::Fenced { .. })), "{gone:?}");
    writer.close().await;
    scratch.erase().await.unwrap();
}
