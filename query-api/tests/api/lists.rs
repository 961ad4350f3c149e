//! Lists: filters, pages, cursors, and what is refused.

use crate::stage::{OPERATOR, Stage, Tenant, by_slug, post, time};

async fn twelve(stage: &mut Stage) -> Tenant {
    let tenant = stage.tenant("a").await;
    let mut inserted = Vec::new();
    for n in 0..12_u32 {
        let mut piece = post(&tenant, &format!("piece-{n:02}"));
        piece.published_at = Some(time(n));
        piece.featured = n % 3 == 0;
        if n % 2 == 1 {
            "project".clone_into(&mut piece.kind);
        }
        if n == 7 {
            "Vom Übersetzen der Bücher".clone_into(&mut piece.body);
            piece.language = Some("de-AT".to_owned());
        }
        inserted.push(piece);
    }
    stage
        .write(&read_models::content::Changes {
            inserted,
            ..Default::default()
        })
        .await;
    tenant
}

fn slugs(list: &serde_json::Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["slug"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_is_walked_by_number_and_by_cursor() {
    let mut stage = Stage::start().await;
    let tenant = twelve(&mut stage).await;
    let key = Some(tenant.key.as_str());
    let first = stage.read("/api/v1/content?size=5", key).await.ok();
    assert_eq!(
        (&first["total"], &first["page"], &first["total_pages"]),
        (&12.into(), &1.into(), &3.into())
    );
    assert_eq!(slugs(&first)[0], "piece-11");
    assert!(first["items"][0].get("body").is_none());
    for (page, count, more) in [(2, 5, true), (3, 2, false), (4, 0, false)] {
        let list = stage
            .read(&format!("/api/v1/content?size=5&page={page}"), key)
            .await
            .ok();
        assert_eq!(
            (slugs(&list).len(), list["next"].is_string()),
            (count, more),
            "page {page}"
        );
    }
    let last = stage
        .read("/api/v1/content?size=6&page=2&total=false", key)
        .await
        .ok();
    assert_eq!((slugs(&last).len(), last["next"].is_string()), (6, false));
    for (query, sort) in [
        ("", ""),
        ("&sort=title", "&sort=title"),
        ("&sort=-updated_at", ""),
    ] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let list = stage
                .read(&format!("/api/v1/content?size=5&total=false{query}{after}"), key)
                .await
                .ok();
            assert!(list.get("total").is_none() && list.get("total_pages").is_none());
            seen.extend(slugs(&list).into_iter().map(str::to_owned));
            let Some(next) = list["next"].as_str() else { break };
            after = format!("&after={}", next.replace('~', "%7E"));
        }
        assert_eq!(seen.len(), 12, "{query}");
        if !sort.is_empty() {
            assert!(seen.is_sorted());
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 12);
    }
    stage.end().await;
}

#[tokio::test]
async fn a_list_is_filtered() {
    let mut stage = Stage::start().await;
    let tenant = twelve(&mut stage).await;
    let site = format!("/api/v1/content?site={}", tenant.domain);
    for (filter, count) in [
        ("", 12),
        ("&kind=project", 6),
        ("&featured=true", 4),
        ("&featured=false", 8),
        ("&tag=all", 12),
        ("&tag=piece-03", 1),
        ("&tag=none", 0),
        ("&language=de", 1),
        ("&language=en", 11),
        ("&search=bucher", 1),
        ("&search=B%C3%BCcher", 1),
        ("&search=words", 11),
        ("&search=%22piece-04%22", 1),
        ("&search=%20", 12),
        ("&search=%27%29%3B--%20%5C%20%3A%2A%20%26%20%7C", 0),
        ("&status=published", 12),
    ] {
        for key in [None, Some(tenant.key.as_str())] {
            let list = stage.read(&format!("{site}{filter}"), key).await.ok();
            assert_eq!(list["total"], count, "{filter}");
        }
    }
    stage.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_pointed_at() {
    let mut stage = Stage::start().await;
    let tenant = twelve(&mut stage).await;
    let key = Some(tenant.key.as_str());
    let cursor = stage.read("/api/v1/content?size=5", key).await.ok()["next"]
        .as_str()
        .unwrap()
        .to_owned();
    for (query, pointers) in [
        ("size=101", vec!["/size"]),
        ("size=0", vec!["/size"]),
        (
            "page=0&size=1000&kind=poem&status=lost&sort=shape",
            vec!["/page", "/size", "/kind", "/status", "/sort"],
        ),
        ("page=-1", vec!["/page"]),
        ("page=99999999999", vec!["/page"]),
        ("featured=perhaps", vec!["/featured"]),
        ("colour=red", vec!["/colour"]),
        ("after=nonsense", vec!["/after"]),
        ("search=a%00b", vec!["/search"]),
        (&format!("after={cursor}&sort=title"), vec!["/sort"]),
        (&format!("after={cursor}&page=2"), vec!["/page"]),
        (&format!("search={}", "x".repeat(400)), vec!["/search"]),
        (&format!("tag={}", "x".repeat(101)), vec!["/tag"]),
    ] {
        let answer = stage.read(&format!("/api/v1/content?{query}"), key).await;
        assert_eq!(answer.problem(422, "invalid"), pointers, "{query}");
    }
    assert_eq!(
        stage.read("/api/v1/content", None).await.problem(422, "invalid"),
        ["/site"]
    );
    let draft = format!("/api/v1/content?site={}&status=draft", tenant.domain);
    assert_eq!(
        stage.read(&draft, None).await.problem(422, "invalid"),
        ["/status"]
    );
    stage
        .read("/api/v1/content?site=nobody.example", key)
        .await
        .problem(404, "not-found");
    // Far beyond the end is an empty page.
    let far = stage
        .read("/api/v1/content?page=4294967295&size=100", key)
        .await
        .ok();
    assert_eq!(
        (far["items"].as_array().unwrap().len(), &far["next"]),
        (0, &serde_json::Value::Null)
    );
    stage.end().await;
}

#[tokio::test]
async fn what_has_no_parameters_refuses_them() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let piece = stage.draft(post(&tenant, "first")).await.content;
    let (key, operator) = (Some(tenant.key.as_str()), Some(OPERATOR));
    for (path, key) in [
        (format!("/api/v1/content/{piece}"), key),
        (by_slug(&tenant, "first"), key),
        (by_slug(&tenant, "first"), None),
        ("/api/v1/projections".to_owned(), operator),
    ] {
        stage.read(&path, key).await.ok();
        for query in ["size=200", "size=20", "bogus=1"] {
            let (name, _) = query.split_once('=').unwrap();
            let answer = stage.read(&format!("{path}?{query}"), key).await;
            assert_eq!(
                answer.problem(422, "invalid"),
                [format!("/{name}")],
                "{path}?{query}"
            );
            // What memory has is no way around it.
            let answer = stage.get(&format!("{path}?{query}"), key).await;
            assert_eq!(
                answer.problem(422, "invalid"),
                [format!("/{name}")],
                "{path}?{query}"
            );
        }
    }
    let download = format!("/api/v1/downloads/{}?bogus=1", uuid::Uuid::now_v7());
    assert_eq!(
        stage.read(&download, key).await.problem(422, "invalid"),
        ["/bogus"]
    );
    stage.end().await;
}

#[tokio::test]
async fn a_site_is_found_by_every_way_to_write_its_domain() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("xn--bcher-kva").await;
    stage.draft(post(&tenant, "a")).await;
    for domain in [
        "xn--bcher-kva.example",
        "b%C3%BCcher.example",
        "B%C3%BCcher.EXAMPLE.",
    ] {
        let path = format!("/api/v1/content?site={domain}");
        assert_eq!(stage.read(&path, None).await.ok()["total"], 1, "{domain}");
        let path = format!("/api/v1/sites/{domain}/content/post/a");
        assert_eq!(stage.read(&path, None).await.ok()["slug"], "a", "{domain}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_site_is_where_its_location_says() {
    let mut stage = Stage::start().await;
    let (tenant, other) = (stage.tenant("a").await, stage.tenant("b").await);
    let list = stage.read("/api/v1/sites", Some(&tenant.key)).await.ok();
    let path = format!("/api/v1/sites/{}", tenant.domain);
    assert_eq!(stage.read(&path, Some(&tenant.key)).await.ok(), list["items"][0]);
    stage
        .read(&path, Some(&other.key))
        .await
        .problem(404, "not-found");
    stage.read(&path, None).await.problem(401, "unauthorized");
    let nowhere = "/api/v1/sites/nowhere.example";
    stage
        .read(nowhere, Some(&tenant.key))
        .await
        .problem(404, "not-found");
    stage.end().await;
}

/// More than any page holds: nobody gets all of them at once, and everybody gets all of them.
#[tokio::test]
async fn sites_come_in_pages() {
    let mut stage = Stage::start().await;
    let (tenant, other) = (stage.tenant("a").await, stage.tenant("b").await);
    let many = format!(
        "INSERT INTO directory_1.sites (tenant, site, domain, timezone, created_at, version)
         SELECT '{}', gen_random_uuid(), 'site-' || lpad(n::text, 4, '0') || '.example', 'UTC', now(), 1 FROM generate_series(1, 1202) n",
        tenant.id
    );
    stage.sql(&many).await;
    let key = Some(tenant.key.as_str());
    let domains = |list: &serde_json::Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["domain"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut expected = vec![tenant.domain.clone()];
    expected.extend((1..=1202).map(|n| format!("site-{n:04}.example")));

    for (size, pages) in [("", 2), ("&size=100", 13), ("&size=100&total=false", 13)] {
        let (mut seen, mut after, mut count) = (Vec::new(), String::new(), 0);
        loop {
            let list = stage
                .read(&format!("/api/v1/sites?{after}{size}"), key)
                .await
                .ok();
            if size.contains("total") {
                assert!(list.get("total").is_none() && list.get("total_pages").is_none());
            } else {
                assert_eq!(
                    (&list["total"], &list["total_pages"]),
                    (&1203.into(), &pages.into())
                );
            }
            seen.extend(domains(&list));
            count += 1;
            let Some(next) = list["next"].as_str() else { break };
            after = format!("after={next}");
        }
        assert_eq!((&seen, count), (&expected, pages), "{size}");
    }
    // As it was asked for before there were pages.
    let whole = stage.read("/api/v1/sites", key).await.ok();
    assert_eq!(
        (domains(&whole).len(), &whole["page"], &whole["size"]),
        (1_000, &1.into(), &1_000.into())
    );
    for (page, from, to) in [(1, 0, 100), (3, 200, 300), (13, 1200, 1203), (14, 1203, 1203)] {
        let list = stage
            .read(&format!("/api/v1/sites?size=100&page={page}"), key)
            .await
            .ok();
        assert_eq!(domains(&list), expected[from..to], "page {page}");
        assert_eq!(
            (&list["page"], list["next"].is_string()),
            (&page.into(), page < 13)
        );
    }
    let others = stage.read("/api/v1/sites", Some(&other.key)).await.ok();
    assert_eq!(domains(&others), [other.domain.as_str()]);
    for (query, faults) in [
        ("size=101", vec!["/size"]),
        ("size=0", vec!["/size"]),
        ("page=0", vec!["/page"]),
        ("page=2&after=a.example", vec!["/page"]),
        ("bogus=1", vec!["/bogus"]),
    ] {
        let answer = stage.read(&format!("/api/v1/sites?{query}"), key).await;
        assert_eq!(answer.problem(422, "invalid"), faults, "{query}");
    }
    let long = "a".repeat(1_001);
    for after in [long.as_str(), "%00"] {
        let answer = stage.read(&format!("/api/v1/sites?after={after}"), key).await;
        assert!(answer.status.is_client_error(), "{after}: {}", answer.text);
    }
    stage.end().await;
}
