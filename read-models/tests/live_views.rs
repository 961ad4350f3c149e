//! What ANALYSTS.md says can be asked, asked by an analyst of the real engine.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use read_models::{Projection, clickhouse::scratch::Scratch};
use uuid::Uuid;

/// The SQL of the page.
fn questions() -> Vec<&'static str> {
    let page = include_str!("../ANALYSTS.md");
    page.split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

/// A database of one's own with tables of both projections, and analysts' views of them.
async fn shown() -> Scratch {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_visits(1).await.unwrap();
    writer.create_facts(1).await.unwrap();
    writer.show_visits(1).await.unwrap();
    writer.show_facts(1).await.unwrap();
    scratch
}

#[tokio::test]
async fn every_question_of_the_page_can_be_asked_by_an_analyst() {
    let scratch = shown().await;
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

#[tokio::test]
async fn an_analyst_sees_the_tenants_that_were_given() {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_facts(1).await.unwrap();
    writer.show_facts(1).await.unwrap();
    let prefix = &scratch.writer.prefix;
    let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let facts = format!(
        "INSERT INTO {prefix}content_facts_1.facts (tenant, content) VALUES ('{one}', '{}'), ('{other}', '{}')",
        Uuid::from_u128(3),
        Uuid::from_u128(4)
    );
    scratch.execute(&facts).await.unwrap();
    let live = scratch.live();
    let seen = async || -> Vec<Uuid> {
        let seen: Vec<String> = live
            .query("SELECT toString(tenant) FROM content ORDER BY tenant")
            .fetch_all()
            .await
            .unwrap();
        seen.iter().map(|tenant| tenant.parse().unwrap()).collect()
    };
    let grant = async |tenant: &str| {
        let user = &scratch.analyst.user;
        let statement =
            format!("INSERT INTO {prefix}annals.analysts (user, tenant) VALUES ('{user}', {tenant})");
        scratch.execute(&statement).await.unwrap();
    };
    assert_eq!(seen().await, Vec::<Uuid>::new());
    scratch
        .execute(&format!(
            "INSERT INTO {prefix}annals.analysts (user) VALUES ('somebody')"
        ))
        .await
        .unwrap();
    assert_eq!(seen().await, Vec::<Uuid>::new());
    grant(&format!("'{other}'")).await;
    assert_eq!(seen().await, [other]);
    grant("NULL").await;
    assert_eq!(seen().await, [one, other]);
    let who = format!("SELECT count() FROM {prefix}annals.analysts");
    assert!(
        live.query_raw(&who).fetch_one::<u64>().await.is_err(),
        "an analyst sees who sees what"
    );
    scratch.erase().await.unwrap();
}

/// What is asked of a view may fail at a row, and the error may quote it: no row of another tenant gets that far, in
/// whatever order the engine evaluates, and whatever an analyst sets.
#[tokio::test]
async fn an_analyst_learns_nothing_of_others_from_errors() {
    let scratch = shown().await;
    let prefix = &scratch.writer.prefix;
    let [others, own] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    // Enough rows that both stand in one granule, and each in others of its own.
    let tenants =
        format!("SELECT if(number % 2 = 0, '{own}', '{others}') AS tenant, number FROM numbers(60000)");
    for statement in [
        format!(
            "INSERT INTO {prefix}annals.analysts (user, tenant) VALUES ('{}', '{own}')",
            scratch.analyst.user
        ),
        format!(
            "INSERT INTO {prefix}visits_1.events (tenant, site, pathname, scroll_depth, log_offset) \
             SELECT toUUID(tenant), toUUID('{own}'), if(tenant = '{own}', '1', 'secret'), if(tenant = '{own}', 1, 7), number FROM ({tenants})"
        ),
        format!(
            "INSERT INTO {prefix}visits_1.sessions (tenant, site, session, entry_page, pageviews) \
             SELECT toUUID(tenant), toUUID('{own}'), number, if(tenant = '{own}', '1', 'secret'), if(tenant = '{own}', 1, 7) FROM ({tenants})"
        ),
        format!(
            "INSERT INTO {prefix}content_facts_1.facts (tenant, content, title, log_partition) \
             SELECT toUUID(tenant), generateUUIDv4(), if(tenant = '{own}', '1', 'secret'), if(tenant = '{own}', 1, 7) FROM ({tenants})"
        ),
    ] {
        scratch.execute(&statement).await.unwrap();
    }
    let live = scratch.live();
    for (view, text, number) in [
        ("events", "pathname", "scroll_depth"),
        ("sessions", "entry_page", "pageviews"),
        ("content", "title", "log_partition"),
    ] {
        for settings in [
            "",
            "SETTINGS short_circuit_function_evaluation = 'disable'",
            "SETTINGS optimize_move_to_prewhere = 0",
            "SETTINGS move_all_conditions_to_prewhere = 1, optimize_move_to_prewhere_if_final = 1",
            "SETTINGS query_plan_enable_optimizations = 0",
            "SETTINGS apply_prewhere_after_final = 1",
        ] {
            for question in [
                format!("SELECT count() FROM {view} WHERE throwIf({number} = 7) = 0"),
                format!("SELECT count() FROM {view} WHERE toUInt64({text}) > 0"),
                format!("SELECT count() FROM (SELECT throwIf({number} = 7) AS x FROM {view}) WHERE x = 0"),
                format!("SELECT sum(toUInt64({text}) > 0) FROM {view}"),
            ] {
                let question = format!("{question} {settings}");
                let counted = live.query_raw(&question).fetch_one::<u64>().await;
                assert_eq!(
                    counted.map_err(|error| error.to_string()),
                    Ok(30_000),
                    "{question}"
                );
            }
        }
        let table = if view == "content" {
            "content_facts_1.facts".to_owned()
        } else {
            format!("visits_1.{view}")
        };
        for setting in [
            "enable_analyzer = 0".to_owned(),
            "allow_experimental_analyzer = 0".to_owned(),
            format!("additional_table_filters = {{'{prefix}{table}': 'throwIf({number} = 7) = 0'}}"),
        ] {
            let question = format!("SELECT count() FROM {view} SETTINGS {setting}");
            let refused = live.query_raw(&question).fetch_one::<u64>().await.unwrap_err();
            assert!(
                refused.to_string().contains("should not be changed"),
                "{question}: {refused}"
            );
        }
    }
    scratch.erase().await.unwrap();
}

/// A projector compares PostgreSQL's views while another one makes them anew.
#[tokio::test]
async fn views_that_are_made_anew_at_the_same_time_are_nobodys_doing() {
    let scratch = read_models::scratch::Scratch::for_test().await;
    let writer = read_models::Writer::connect(&scratch.url()).await.unwrap();
    let made = writer.prepare(Projection::Content, 1, "a fold").await.unwrap();
    writer.show_live(Projection::Content, made.number).await.unwrap();
    let (comparing, making) = (writer.clone(), writer.clone());
    let comparing = async {
        for _ in 0..100 {
            let otherwise = comparing
                .shown_otherwise(Projection::Content, made.number)
                .await
                .unwrap();
            assert!(otherwise.is_empty(), "{otherwise:?}");
        }
    };
    let making = async {
        loop {
            making.show_live(Projection::Content, made.number).await.unwrap();
        }
    };
    tokio::select! {
        () = comparing => {}
        never = making => never,
    }
    writer.close().await;
    scratch.erase().await.unwrap();
}
