//! What ANALYSTS.md says can be asked, asked by an analyst of the real engine.

use read_models::clickhouse::scratch::Scratch;

/// The SQL of the page.
fn questions() -> Vec<&'static str> {
    let page = include_str!("../ANALYSTS.md");
    page.split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[tokio::test]
async fn every_question_of_the_page_can_be_asked_by_an_analyst() {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_visits(1).await.unwrap();
    writer.create_facts(1).await.unwrap();
    writer.show_visits(1).await.unwrap();
    writer.show_facts(1).await.unwrap();
    let live = scratch.live();
    let questions = questions();
    assert!(questions.len() > 5, "{} questions found", questions.len());
    for question in questions {
        let question = question.replace("live.", "");
        if let Err(error) = live.query_raw(&question).execute().await {
            panic!("{question}\n{error}");
        }
    }
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn views_carry_the_comments_of_their_tables_and_follow_a_switch() {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    for generation in [1, 2] {
        writer.create_visits(generation).await.unwrap();
        writer.show_visits(generation).await.unwrap();
    }
    let live = scratch.live();
    let without_comment: u64 = live
        .query("SELECT countIf(comment = '') FROM system.columns WHERE database = currentDatabase()")
        .fetch_one()
        .await
        .unwrap_or(0);
    assert_eq!(without_comment, 0);
    let definition: String = live
        .query("SHOW CREATE TABLE sessions")
        .fetch_one()
        .await
        .unwrap();
    assert!(definition.contains("visits_2.sessions"), "{definition}");
    assert!(definition.contains("Fewer than two page views"), "{definition}");
    let tables = live.query("SELECT count() FROM events").fetch_one::<u64>().await;
    assert_eq!(tables.unwrap(), 0);
    let behind = format!("SELECT count() FROM {}visits_2.events", scratch.writer.prefix);
    assert!(
        live.query_raw(&behind).fetch_one::<u64>().await.is_err(),
        "an analyst sees what is behind the views"
    );
    scratch.erase().await.unwrap();
}
