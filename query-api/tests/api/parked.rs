//! What is parked, as operators and a tenant's admins see it.

use read_models::parking::{Aggregate, Parked};

use crate::stage::{Stage, Tenant};

async fn park(stage: &mut Stage, tenant: &Tenant, subject: &str) {
    let offset = stage.content.at.next_offset;
    let parked = |index, reason: Option<&str>| Parked {
        aggregate: Aggregate {
            tenant: tenant.id,
            subject: subject.to_owned(),
        },
        offset,
        index,
        event_type: "content.revised.v1".to_owned(),
        reason: reason.map(str::to_owned),
    };
    let mut write = stage.content.tables.begin(&stage.content.at).await.unwrap();
    write
        .park(&[parked(0, Some("it does not fit")), parked(1, None)])
        .await
        .unwrap();
    stage.content.at = write.commit(&stage.content.further(1)).await.unwrap();
}

#[tokio::test]
async fn an_operator_sees_all_that_is_parked_and_an_admin_the_tenants_own() {
    let mut stage = Stage::start().await;
    let (one, other) = (stage.tenant("a").await, stage.tenant("b").await);
    park(&mut stage, &one, "mine").await;
    park(&mut stage, &other, "theirs").await;
    let admin = stage.key(one.id, &["admin"]).await;
    let reader = stage.key(one.id, &["read"]).await;
    let operator = stage.key(other.id, &["operator"]).await;

    let subjects = |answer: &serde_json::Value| -> Vec<String> {
        let items = answer["items"].as_array().unwrap();
        items
            .iter()
            .map(|it| it["subject"].as_str().unwrap().to_owned())
            .collect()
    };
    let own = stage.read("/api/v1/parked", Some(&admin)).await.ok();
    assert_eq!(
        (subjects(&own), &own["total"]),
        (vec!["mine".to_owned()], &1.into())
    );
    let parked = &own["items"][0];
    assert_eq!(parked["reason"], "it does not fit");
    assert_eq!((&parked["events"], &parked["attempts"]), (&2.into(), &1.into()));
    let all = stage
        .read("/api/v1/parked?projection=content", Some(&operator))
        .await
        .ok();
    assert_eq!(subjects(&all), ["theirs", "mine"]);
    let page = stage
        .read("/api/v1/parked?size=1&page=2", Some(&operator))
        .await
        .ok();
    assert_eq!(
        (subjects(&page), &page["total_pages"]),
        (vec!["mine".to_owned()], &2.into())
    );
    let (mut walked, mut after) = (Vec::new(), String::new());
    while walked.len() < 10 {
        let path = format!("/api/v1/parked?size=1&total=false{after}");
        let page = stage.read(&path, Some(&operator)).await.ok();
        assert!(page.get("total").is_none());
        walked.extend(subjects(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(walked, ["theirs", "mine"]);
    let none = stage
        .read("/api/v1/parked?projection=downloads", Some(&operator))
        .await
        .ok();
    assert_eq!(none["total"], 0);

    let shown = stage.read("/api/v1/parked/content/mine", Some(&admin)).await.ok();
    assert_eq!(shown["waiting"].as_array().unwrap().len(), 2, "{shown}");
    stage
        .read("/api/v1/parked/content/theirs", Some(&admin))
        .await
        .problem(404, "not-found");
    stage
        .read("/api/v1/parked/nothing/mine", Some(&admin))
        .await
        .problem(404, "not-found");
    for path in ["/api/v1/parked", "/api/v1/parked/content/mine"] {
        stage.read(path, Some(&reader)).await.problem(403, "forbidden");
        stage.read(path, None).await.problem(401, "unauthorized");
    }
    let wrong = stage.read("/api/v1/parked?projection=x", Some(&operator)).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/projection"]);
    let wrong = stage.read("/api/v1/parked?after=x", Some(&operator)).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/after"]);
    stage.end().await;
}

#[tokio::test]
async fn what_was_passed_over_is_shown_with_who_did_it_and_why() {
    let mut stage = Stage::start().await;
    let (one, other) = (stage.tenant("a").await, stage.tenant("b").await);
    let admin = stage.key(one.id, &["admin"]).await;
    let reader = stage.key(one.id, &["read"]).await;
    let operator = stage.key(other.id, &["operator"]).await;
    for (offset, tenant) in [(7, &one), (9, &other)] {
        let id = tenant.id;
        stage
            .sql(&format!(
                "INSERT INTO annals.skipped
                 VALUES ('content', 'ledger', 0, {offset}, 1, '{id}', 'piece {offset}', 'content.revised.v1', 'it does not fit',
                         'k7Qm2ZxA', 'a test', now() + interval '{offset} seconds')"
            ))
            .await;
    }
    let own = stage.read("/api/v1/skipped", Some(&admin)).await.ok();
    assert_eq!(own["total"], 1);
    let skipped = &own["items"][0];
    for (name, value) in [
        ("projection", "content"),
        ("partition", "ledger/0"),
        ("subject", "piece 7"),
        ("event", "content.revised.v1"),
        ("reason", "it does not fit"),
        ("by", "k7Qm2ZxA"),
        ("why", "a test"),
    ] {
        assert_eq!(skipped[name], value, "{skipped}");
    }
    assert_eq!((&skipped["offset"], &skipped["index"]), (&7.into(), &1.into()));
    let all = stage.read("/api/v1/skipped?size=1", Some(&operator)).await.ok();
    assert_eq!(
        (&all["total"], &all["items"][0]["offset"]),
        (&2.into(), &9.into())
    );
    let none = stage
        .read("/api/v1/skipped?projection=visits", Some(&operator))
        .await
        .ok();
    assert_eq!(none["items"], serde_json::json!([]));
    stage
        .read("/api/v1/skipped", Some(&reader))
        .await
        .problem(403, "forbidden");
    stage
        .read("/api/v1/skipped", None)
        .await
        .problem(401, "unauthorized");
    stage.end().await;
}
