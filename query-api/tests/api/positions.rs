//! Reading what was written: positions waited for, refused, and not reached.

use std::time::{Duration, Instant};

use read_models::parking::{Aggregate, Parked};
use reqwest::Method;
use service::{Position, Topic};
use uuid::Uuid;

use crate::stage::{Stage, by_slug, post};

#[tokio::test]
async fn a_read_waits_until_its_position_is_there() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let piece = post(&tenant, "first");
    let later = stage
        .position
        .clone()
        .at(Topic::Ledger, 0, stage.content.at.next_offset + 1);
    let path = format!("/api/v1/content/{}", piece.content);
    let waiting: Vec<_> = [
        path.clone(),
        by_slug(&tenant, "first"),
        format!("/api/v1/content?site={}", tenant.domain),
    ]
    .into_iter()
    .map(|path| {
        let request = stage.request(Method::GET, &path).bearer_auth(&tenant.key);
        tokio::spawn(
            request
                .header("annals-position", later.to_string())
                .header("prefer", "wait=10")
                .send(),
        )
    })
    .collect();
    stage.draft(piece).await;
    for answer in waiting {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let at: Position = answer.headers()["annals-position"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(at.get(Topic::Ledger, 0) >= later.get(Topic::Ledger, 0));
        assert!(answer.text().await.unwrap().contains("About first"));
    }
    stage.end().await;
}

#[tokio::test]
async fn an_answer_tells_of_no_partition_that_was_not_asked_about() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    stage.draft(post(&tenant, "first")).await;
    let asked = Position::new(stage.position.log()).at(Topic::Ledger, 0, 1);
    for path in [
        "/api/v1/content".to_owned(),
        by_slug(&tenant, "first"),
        "/api/v1/downloads".to_owned(),
        "/api/v1/downloads/queue".to_owned(),
    ] {
        let key = Some(tenant.key.as_str());
        assert_eq!(
            stage.get(&path, key).await.header("annals-position"),
            "",
            "{path}"
        );
        let answer = stage.read_at(&path, key, &asked).await;
        let told: Position = answer.header("annals-position").parse().unwrap();
        let parts: Vec<_> = told.parts().collect();
        assert_eq!(
            parts,
            [(Topic::Ledger, 0, stage.content.at.next_offset)],
            "{path}"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn what_is_late_is_503_and_what_is_not_ours_is_400() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let path = format!("/api/v1/content?site={}", tenant.domain);
    let key = Some(tenant.key.as_str());
    let here = stage.content.at.next_offset;
    // The log has it, as the projector says, but the tables do not.
    let now = Instant::now();
    stage
        .writer
        .saw_end(&stage.content.at, now, here + 5)
        .await
        .unwrap();
    let ahead = stage.position.clone().at(Topic::Ledger, 0, here + 3);
    let began = Instant::now();
    let request = stage
        .request(Method::GET, &path)
        .header("annals-position", ahead.to_string());
    let late = stage.send(request.header("prefer", "wait=1")).await;
    late.problem(503, "projection-behind");
    assert_eq!(late.header("retry-after"), "1");
    assert!(
        (900..5_000).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    // Parts that a query does not use are not waited for.
    stage.read_at("/api/v1/sites", key, &ahead).await.ok();
    let visits = stage.position.clone().at(Topic::Visits, 3, 1_000_000);
    stage.read_at(&path, None, &visits).await.ok();

    let foreign = Position::new(Uuid::now_v7()).at(Topic::Ledger, 0, 1);
    stage
        .read_at(&path, None, &foreign)
        .await
        .problem(400, "position");
    let no_partition = stage.position.clone().at(Topic::Ledger, 99, 1);
    stage
        .read_at(&path, None, &no_partition)
        .await
        .problem(400, "position");
    for text in [
        "nonsense",
        "",
        "AAAA",
        &format!("{},{foreign}", stage.position),
        &"A".repeat(9_000),
    ] {
        let request = stage.request(Method::GET, &path).header("annals-position", text);
        stage.send(request).await.problem(400, "position");
    }
    stage.end().await;
}

#[tokio::test]
async fn an_end_that_was_asked_for_before_the_request_refuses_nothing() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let at = stage.content.at;
    // What a projector has in hand that is stopped between the log and the database.
    let before = Instant::now();
    let ahead = stage.position.clone().at(Topic::Ledger, 0, at.next_offset + 3);
    let path = format!("/api/v1/content?site={}", tenant.domain);
    let request = stage
        .request(Method::GET, &path)
        .header("annals-position", ahead.to_string());
    let asked = tokio::spawn(request.header("prefer", "wait=2").send());
    let mut now_and_then = tokio::time::interval(Duration::from_millis(50));
    let mut other = 1;
    while !asked.is_finished() {
        now_and_then.tick().await;
        // Another end each time, so that listeners are told as well.
        other = 3 - other;
        let end = at.next_offset + other;
        stage.writer.saw_end(&at, before, end).await.unwrap();
    }
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503, "{}", answer.text().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_position_beyond_the_end_is_told_when_the_end_is_known() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let beyond = stage.position.clone().at(Topic::Ledger, 0, 1 << 40);
    let path = format!("/api/v1/content?site={}", tenant.domain);
    let request = stage
        .request(Method::GET, &path)
        .header("annals-position", beyond.to_string());
    let asked = tokio::spawn(request.header("prefer", "wait=10").send());
    // As a projector does now and then.
    let mut now_and_then = tokio::time::interval(Duration::from_millis(100));
    let deadline = Instant::now() + Duration::from_secs(9);
    while !asked.is_finished() && Instant::now() < deadline {
        let at = &stage.content.at;
        stage
            .writer
            .saw_end(at, Instant::now(), at.next_offset)
            .await
            .unwrap();
        now_and_then.tick().await;
    }
    let answer = asked.await.unwrap().unwrap();
    let status = answer.status();
    assert_eq!(status, 400, "{}", answer.text().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_position_beyond_the_end_is_refused_by_what_does_not_read_its_topic() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    for offset in [stage.content.at.next_offset + 7, 1 << 60] {
        let beyond = stage.position.clone().at(Topic::Ledger, 0, offset);
        let request = stage
            .request(Method::GET, "/api/v1/sites")
            .bearer_auth(&tenant.key)
            .header("annals-position", beyond.to_string());
        let asked = tokio::spawn(request.header("prefer", "wait=10").send());
        // As a projector does now and then.
        let mut now_and_then = tokio::time::interval(Duration::from_millis(100));
        while !asked.is_finished() {
            let at = &stage.content.at;
            let end = at.next_offset;
            stage.writer.saw_end(at, Instant::now(), end).await.unwrap();
            now_and_then.tick().await;
        }
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.status(), 400, "{}", answer.text().await.unwrap());
    }
    let nowhere = stage.position.clone().at(Topic::Ledger, 99, 1);
    stage
        .read_at("/api/v1/sites", Some(&tenant.key), &nowhere)
        .await
        .problem(400, "position");
    stage.end().await;
}

#[tokio::test]
async fn what_needs_a_parked_event_says_so_and_the_rest_goes_on() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let other = stage.tenant("b").await;
    let (sick, well) = (
        stage.draft(post(&tenant, "sick")).await,
        stage.draft(post(&tenant, "well")).await,
    );
    let before = stage.position.clone();
    let aggregate = Aggregate {
        tenant: tenant.id,
        subject: sick.content.to_string(),
    };
    let offset = stage.content.at.next_offset;
    let event_type = "content.revised.v1".to_owned();
    let parked = Parked {
        aggregate,
        offset,
        index: 0,
        event_type,
        reason: Some("of a test".to_owned()),
    };
    let mut write = stage.content.tables.begin(&stage.content.at).await.unwrap();
    write.park(&[parked]).await.unwrap();
    stage.content.at = write.commit(&stage.content.further(1)).await.unwrap();
    stage
        .position
        .include(Topic::Ledger, 0, stage.content.at.next_offset);

    let key = Some(tenant.key.as_str());
    let by_id = format!("/api/v1/content/{}", sick.content);
    stage
        .until("the parked event is heard of", async |stage| {
            stage.read(&by_id, key).await.status == 503
        })
        .await;
    stage.read(&by_id, key).await.problem(503, "parked");
    stage
        .read(&by_slug(&tenant, "sick"), None)
        .await
        .problem(503, "parked");
    stage.read("/api/v1/content", key).await.problem(503, "parked");
    stage
        .read(&format!("/api/v1/content/{}", well.content), key)
        .await
        .ok();
    stage.read(&by_slug(&tenant, "well"), None).await.ok();
    stage
        .read(&format!("/api/v1/content?site={}", other.domain), None)
        .await
        .ok();
    // Whoever does not ask for that event is answered.
    stage.read_at(&by_id, key, &before).await.ok();
    stage.get(&by_id, key).await.ok();
    stage.end().await;
}
