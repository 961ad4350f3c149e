//! Pieces of content, by id, by address, and as they were.

use read_models::content::{Changes, Redirect, Slug, Version};
use uuid::Uuid;

use crate::stage::{Stage, by_slug, post, time};

#[tokio::test]
async fn a_piece_is_shown_as_markdown_and_as_safe_html() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut piece = post(&tenant, "first");
    piece.body = "# Hi\n\n<script>alert(1)</script>\n\n**bold** [x](javascript:alert(1))\n".to_owned();
    let piece = stage.draft(piece).await;
    let path = format!("/api/v1/content/{}", piece.content);
    let answer = stage.read(&path, Some(&tenant.key)).await;
    let shown = answer.ok();
    assert_eq!(answer.header("etag"), "\"2\"");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    assert!(!answer.header("annals-position").is_empty());
    assert_eq!(
        (&shown["site"], &shown["slug"]),
        (&"a.example".into(), &"first".into())
    );
    assert_eq!(shown["body"], piece.body);
    assert_eq!(shown["metadata"]["from"], "a test");
    let html = shown["html"].as_str().unwrap();
    assert!(
        html.contains("<strong>bold</strong>") && !html.contains("script"),
        "{html}"
    );
    assert!(shown.get("created_by").is_none());

    let known = stage
        .request(reqwest::Method::GET, &path)
        .bearer_auth(&tenant.key)
        .header("if-none-match", "W/\"2\"");
    let known = stage.send(known).await;
    assert_eq!(
        (known.status.as_u16(), known.text.as_str(), known.header("etag")),
        (304, "", "\"2\"")
    );

    // The same through its site, without a key, for pages of other origins too.
    let public = stage.read(&by_slug(&tenant, "first"), None).await;
    assert_eq!(public.ok(), shown);
    assert_eq!(public.header("access-control-allow-origin"), "*");
    assert_eq!(public.header("cache-control"), "public, no-cache");
    stage.read(&path, None).await.problem(401, "unauthorized");
    stage.end().await;
}

#[tokio::test]
async fn what_is_not_published_is_for_its_tenant_only() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    for status in ["draft", "scheduled", "unpublished", "archived"] {
        let mut piece = post(&tenant, status);
        status.clone_into(&mut piece.status);
        stage.draft(piece).await;
        let path = by_slug(&tenant, status);
        stage.read(&path, None).await.problem(404, "not-found");
        assert_eq!(stage.read(&path, Some(&tenant.key)).await.ok()["status"], status);
        // Memory has it now, and still shows it to nobody else.
        stage.get(&path, None).await.problem(404, "not-found");
    }
    let list = format!("/api/v1/content?site={}", tenant.domain);
    assert_eq!(stage.read(&list, None).await.ok()["total"], 0);
    assert_eq!(stage.read(&list, Some(&tenant.key)).await.ok()["total"], 4);
    stage.end().await;
}

#[tokio::test]
async fn another_piece_under_the_same_slug_is_not_what_the_asker_has() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut first = stage.draft(post(&tenant, "first")).await;
    let path = by_slug(&tenant, "first");
    let known = stage.read(&path, None).await.header("etag").to_owned();
    let ask = async |stage: &Stage| {
        let request = stage.request(reqwest::Method::GET, &path);
        stage.send(request.header("if-none-match", &known)).await
    };
    assert_eq!(ask(&stage).await.status.as_u16(), 304);
    // It gives its slug up, and another piece takes it, at the same version.
    "gone".clone_into(&mut first.slug);
    stage.update(&first).await;
    let mut second = post(&tenant, "first");
    second.version = first.version;
    let second = stage.draft(second).await;
    stage
        .until("the other piece is there", async |stage| {
            let now = stage.read(&path, None).await;
            now.ok()["id"] == second.content.to_string()
        })
        .await;
    let answer = ask(&stage).await;
    assert_eq!(answer.ok()["id"], second.content.to_string());
    stage.end().await;
}

#[tokio::test]
async fn an_old_slug_leads_to_the_new_one() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let mut piece = stage.draft(post(&tenant, "before")).await;
    stage.read(&by_slug(&tenant, "before"), None).await.ok();
    "after".clone_into(&mut piece.slug);
    piece.version = 3;
    let from = Slug {
        tenant: tenant.id,
        site: tenant.site,
        kind: "post".into(),
        slug: "before".into(),
    };
    let redirect = Redirect {
        from: from.clone(),
        content: piece.content,
        since: time(2),
        tenant_seq: 2,
    };
    let changes = Changes {
        updated: vec![piece.clone()],
        redirects: vec![redirect],
        ..Changes::default()
    };
    stage.write(&changes).await;
    for key in [None, Some(tenant.key.as_str())] {
        let moved = stage.read(&by_slug(&tenant, "before"), key).await;
        assert_eq!(
            (moved.status.as_u16(), moved.header("location")),
            (301, by_slug(&tenant, "after").as_str())
        );
    }
    assert_eq!(
        stage.read(&by_slug(&tenant, "after"), None).await.ok()["id"],
        piece.content.to_string()
    );
    // A piece that is not shown is not pointed at either.
    "unpublished".clone_into(&mut piece.status);
    stage.update(&piece).await;
    stage
        .read(&by_slug(&tenant, "before"), None)
        .await
        .problem(404, "not-found");
    stage.end().await;
}

#[tokio::test]
async fn a_long_history_is_walked_by_number_and_by_cursor() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let piece = post(&tenant, "a");
    let versions = (1..=25).map(|number| Version {
        tenant: tenant.id,
        content: piece.content,
        version: number,
        event: "content.revised.v1".to_owned(),
        status: "draft".to_owned(),
        ..Version::default()
    });
    stage
        .write(&Changes {
            inserted: vec![piece.clone()],
            versions: versions.collect(),
            ..Changes::default()
        })
        .await;
    let numbers = |list: &serde_json::Value| -> Vec<i64> {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["version"].as_i64().unwrap())
            .collect()
    };
    let path = format!("/api/v1/content/{}/history", piece.content);
    let ask = async |query: &str| stage.read(&format!("{path}?{query}"), Some(&tenant.key)).await;
    let list = ask("").await.ok();
    assert_eq!(numbers(&list), (1..=20).collect::<Vec<_>>());
    assert_eq!((&list["total"], &list["total_pages"]), (&25.into(), &2.into()));
    for (query, found, more) in [
        ("page=2", 21..=25, false),
        ("page=2&size=10", 11..=20, true),
        ("page=3&size=10&total=false", 21..=25, false),
        ("page=5&size=5&total=false", 21..=25, false),
    ] {
        let list = ask(query).await.ok();
        assert_eq!(numbers(&list), found.collect::<Vec<_>>(), "{query}");
        assert_eq!(list["next"].is_string(), more, "{query}");
    }
    let (mut walked, mut after) = (Vec::new(), String::new());
    loop {
        let list = ask(&format!("size=6&total=false{after}")).await.ok();
        assert!(list.get("total").is_none());
        walked.extend(numbers(&list));
        let Some(next) = list["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(walked, (1..=25).collect::<Vec<_>>());
    let far = ask("page=9&total=false").await.ok();
    assert_eq!((numbers(&far).len(), far.get("total")), (0, None));
    for (query, pointer) in [
        ("after=x", "/after"),
        ("after=v1&page=2", "/page"),
        ("size=101", "/size"),
    ] {
        assert_eq!(ask(query).await.problem(422, "invalid"), [pointer], "{query}");
    }
    let nobodys = format!("/api/v1/content/{}/history?total=false", Uuid::now_v7());
    stage
        .read(&nobodys, Some(&tenant.key))
        .await
        .problem(404, "not-found");
    stage.end().await;
}

#[tokio::test]
async fn every_version_is_told_and_shown() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let piece = post(&tenant, "a");
    let actor = Uuid::now_v7();
    let version = |number, event: &str, changed: &[&str], title: Option<&str>, body: Option<&str>| Version {
        tenant: tenant.id,
        content: piece.content,
        version: number,
        event: event.to_owned(),
        at: time(u32::try_from(number).unwrap()),
        actor: Some(actor),
        changed: changed.iter().map(|name| (*name).to_owned()).collect(),
        status: "draft".to_owned(),
        title: title.map(str::to_owned),
        slug: (number == 1).then(|| "a".to_owned()),
        body: body.map(str::to_owned),
        tags: (number == 1).then(Vec::new),
        featured: (number == 1).then_some(false),
        metadata: (number == 1).then(|| serde_json::json!({})),
        ..Version::default()
    };
    let all = [
        "title", "slug", "body", "tags", "featured", "metadata", "summary", "language",
    ];
    let versions = vec![
        version(1, "content.drafted.v1", &all, Some("One"), Some("*one*")),
        version(2, "content.revised.v1", &["title"], Some("Two"), None),
        version(3, "content.revised.v1", &["body"], None, Some("three")),
    ];
    stage
        .write(&Changes {
            inserted: vec![piece.clone()],
            versions,
            ..Changes::default()
        })
        .await;
    let path = format!("/api/v1/content/{}/history", piece.content);
    let history = stage.read(&path, Some(&tenant.key)).await.ok();
    assert_eq!(history["total"], 3);
    assert_eq!(history["items"][1]["changed"], serde_json::json!(["title"]));
    assert_eq!(history["items"][1]["actor"], actor.to_string());
    let second = stage
        .read(&format!("{path}?version=2"), Some(&tenant.key))
        .await
        .ok();
    assert_eq!(
        (&second["title"], &second["body"]),
        (&"Two".into(), &"*one*".into())
    );
    assert!(second["html"].as_str().unwrap().contains("<em>one</em>"));
    assert_eq!(
        (&second["event"], &second["version"]),
        (&"content.revised.v1".into(), &2.into())
    );
    for absent in [
        "?version=4",
        "?version=0",
        "?version=-1",
        "?version=9223372036854775807",
    ] {
        stage
            .read(&format!("{path}{absent}"), Some(&tenant.key))
            .await
            .problem(404, "not-found");
    }
    // Versions are of days 1 to 3, at noon.
    for (at, held) in [
        ("2026-01-02T12:00:00Z", 1),
        ("2026-01-03T11:59:59.999999Z", 1),
        ("2026-01-03T13:00:00%2B01:00", 2),
        ("2026-01-03T12:00:00Z", 2),
        ("2026-01-31T00:00:00Z", 3),
    ] {
        let then = stage
            .read(&format!("{path}?at={at}"), Some(&tenant.key))
            .await
            .ok();
        let same = stage
            .read(&format!("{path}?version={held}"), Some(&tenant.key))
            .await;
        assert_eq!(then, same.ok(), "{at}");
    }
    stage
        .read(&format!("{path}?at=2026-01-02T11:59:59Z"), Some(&tenant.key))
        .await
        .problem(404, "not-found");
    for wrong in [
        "at=2099-01-01T00:00:00Z",
        "at=yesterday",
        "at=2026-01-31T00:00:00Z&version=1",
    ] {
        let answer = stage.read(&format!("{path}?{wrong}"), Some(&tenant.key)).await;
        assert_eq!(answer.problem(422, "invalid"), ["/at"], "{wrong}");
    }
    let wrong = stage
        .read(&format!("{path}?version=x&a=b"), Some(&tenant.key))
        .await;
    assert_eq!(wrong.problem(422, "invalid"), ["/version"]);
    stage.read(&path, None).await.problem(401, "unauthorized");
    stage.end().await;
}

#[tokio::test]
async fn hostile_addresses_lead_nowhere() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    stage.draft(post(&tenant, "first")).await;
    let long = "x".repeat(5_000);
    for path in [
        "/api/v1/content/not-an-id".to_owned(),
        "/api/v1/content/%00".to_owned(),
        format!("/api/v1/content/{long}"),
        format!("/api/v1/content/{}", Uuid::nil()),
        by_slug(&tenant, "a%00b"),
        by_slug(&tenant, "a%2F..%2Fb"),
        by_slug(&tenant, "'%3B%20DROP%20TABLE%20content%3B--"),
        by_slug(&tenant, &long),
        format!("/api/v1/sites/{long}/content/post/a"),
        "/api/v1/sites/a%00.example/content/post/first".to_owned(),
        "/api/v1/sites/nobody.example/content/post/first".to_owned(),
        format!("/api/v1/sites/{}/content/poem/first", tenant.domain),
        "/api/v1/downloads/none".to_owned(),
    ] {
        stage
            .read(&path, Some(&tenant.key))
            .await
            .problem(404, "not-found");
    }
    for path in [by_slug(&tenant, "%ff%fe"), "/api/v1/content/%ff".to_owned()] {
        let answer = stage.read(&path, Some(&tenant.key)).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text);
    }
    assert_eq!(
        stage
            .read(&by_slug(&tenant, "first").replace("a.example", "A.Example"), None)
            .await
            .status,
        200
    );
    stage.end().await;
}
