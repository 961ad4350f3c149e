//! Events in, answers out: every query of the content and downloads tables, on the real tables.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;

use events::{Event, TenantId, Timestamp, content, download};
use kit::{TestLog, TestTables, drafted, piece, site, tenant};
use projectors::{content::ContentFold, downloads::DownloadsFold};
use read_models::{
    Projection, Reader, Snapshot,
    content::{
        history::{Part, history, version},
        list::{Filter, Listed, Page, Sort, count, list},
        read::{Found, by_id, by_slug},
    },
    downloads,
};

async fn snapshot(reader: &Reader, projection: Projection) -> Snapshot {
    reader.progress().until_live(projection).await;
    reader.live(projection).unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

struct History {
    log: TestLog,
    versions: std::collections::BTreeMap<String, u64>,
}

impl History {
    async fn happen(&mut self, owner: TenantId, n: u128, event: impl Into<Event>) {
        let subject = piece(n).to_string();
        let version = self.versions.entry(subject.clone()).or_default();
        *version += 1;
        self.log
            .ledger
            .commit(owner, vec![(subject, *version, event.into())])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_listed_searched_and_read_as_it_is_and_as_it_was() {
    let tables = TestTables::<ContentFold>::make().await;
    let mut past = History {
        log: TestLog::make().await,
        versions: Default::default(),
    };
    let owner = tenant(0);
    for n in 0..7 {
        let piece = content::Drafted {
            title: format!("Piece {}", 9 - n),
            ..drafted(n, &format!("slug-{n}"))
        };
        past.happen(owner, n, piece).await;
    }
    past.happen(owner, 1, content::Published { at: at(3_000_000) })
        .await;
    past.happen(owner, 2, content::Published { at: at(2_000_000) })
        .await;
    let summary = Some(content::Optional {
        is: Some("Häuser und Gärten".into()),
    });
    let language = Some(content::Optional {
        is: Some("de-AT".into()),
    });
    past.happen(
        owner,
        2,
        content::Revised {
            summary,
            language,
            ..Default::default()
        },
    )
    .await;
    past.happen(
        owner,
        3,
        content::SlugChanged {
            from: "slug-3".into(),
            to: "slug-33".into(),
        },
    )
    .await;
    past.happen(owner, 4, content::Archived {}).await;
    past.happen(
        owner,
        5,
        content::Revised {
            tags: Some(vec!["x".into()]),
            ..Default::default()
        },
    )
    .await;
    past.happen(tenant(1), 20, drafted(20, "slug-1")).await;
    tables.catch_up(&past.log.log, 3).await;
    let reader = Reader::connect(&tables.scratch.reader_url(), 2).unwrap();
    let live = snapshot(&reader, Projection::Content).await;
    let own = Filter {
        tenant: owner.uuid(),
        ..Filter::default()
    };
    let titles = |rows: Vec<Listed>| rows.into_iter().map(|row| row.title).collect::<Vec<_>>();

    // Every order, by pages and by cursors, gives every row once.
    for text in [
        "published_at",
        "-published_at",
        "updated_at",
        "-updated_at",
        "created_at",
        "-title",
        "title",
    ] {
        let sort = Sort::parse(text).unwrap();
        let all = list(&live, &own, sort, &Page::Skip(0), 100).await.unwrap();
        assert_eq!(all.len(), 7);
        let (mut paged, mut walked) = (Vec::new(), Vec::new());
        for page in 1..=4 {
            paged.extend(
                list(&live, &own, sort, &Page::Skip(2 * (page - 1)), 2)
                    .await
                    .unwrap(),
            );
        }
        let mut page = Page::Skip(0);
        while let Some(last) = {
            let rows = list(&live, &own, sort, &page, 3).await.unwrap();
            let last = rows.last().map(|row| row.cursor(sort));
            walked.extend(rows);
            last
        } {
            page = Page::After(last.to_string().parse().unwrap());
        }
        assert_eq!((&paged, &walked), (&all, &all), "{text}");
    }
    let by_title = list(&live, &own, Sort::parse("title").unwrap(), &Page::Skip(0), 3)
        .await
        .unwrap();
    assert_eq!(titles(by_title), ["Piece 3", "Piece 4", "Piece 5"]);

    // Every filter.
    let found = async |filter: Filter| {
        let rows = list(&live, &filter, Sort::default(), &Page::Skip(0), 100)
            .await
            .unwrap();
        assert_eq!(rows.len() as i64, count(&live, &filter).await.unwrap());
        titles(rows)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        found(Filter {
            status: text("published"),
            ..own.clone()
        })
        .await,
        ["Piece 8", "Piece 7"]
    );
    assert_eq!(
        found(Filter {
            tag: text("x"),
            ..own.clone()
        })
        .await,
        ["Piece 4"]
    );
    assert_eq!(
        found(Filter {
            language: text("DE"),
            ..own.clone()
        })
        .await,
        ["Piece 7"]
    );
    assert_eq!(
        found(Filter {
            search: text("garten"),
            ..own.clone()
        })
        .await,
        ["Piece 7"]
    );
    assert_eq!(
        found(Filter {
            search: text("\"piece 8\""),
            ..own.clone()
        })
        .await,
        ["Piece 8"]
    );
    assert_eq!(
        found(Filter {
            search: text("word -gärten"),
            ..own.clone()
        })
        .await
        .len(),
        6
    );
    assert_eq!(
        found(Filter {
            search: text("' OR ; -- \\ :* & !"),
            ..own.clone()
        })
        .await
        .len(),
        0
    );
    assert_eq!(
        found(Filter {
            featured: Some(true),
            ..own.clone()
        })
        .await
        .len(),
        4
    );
    assert_eq!(
        found(Filter {
            kind: text("page"),
            ..own.clone()
        })
        .await
        .len(),
        0
    );
    assert_eq!(
        found(Filter {
            site: Some(site(1).uuid()),
            ..own.clone()
        })
        .await
        .len(),
        0
    );
    assert_eq!(
        found(Filter {
            tenant: tenant(1).uuid(),
            ..own.clone()
        })
        .await
        .len(),
        1
    );

    // By id and by slug; never another tenant's.
    let id = piece(2).uuid();
    assert!(by_id(&live, tenant(1).uuid(), id).await.unwrap().is_none());
    let row = by_id(&live, owner.uuid(), id).await.unwrap().unwrap();
    assert_eq!(
        (row.version, row.status.as_str(), row.tags.len()),
        (3, "published", 2)
    );
    assert_eq!(row.tags, ["a, b", "c\"d\\"]);
    assert_eq!(row.metadata, serde_json::json!({"n": 1}));
    let slug = async |slug: &str| {
        by_slug(&live, owner.uuid(), site(0).uuid(), "post", slug)
            .await
            .unwrap()
    };
    assert!(matches!(slug("slug-33").await, Some(Found::Here(row)) if row.title == "Piece 6"));
    assert!(matches!(slug("slug-3").await, Some(Found::Moved { slug, .. }) if slug == "slug-33"));
    assert!(matches!(slug("slug-4").await, Some(Found::Here(row)) if row.status == "archived"));
    assert!(slug("slug-9").await.is_none());

    // As it was.
    let part = Part {
        after: 0,
        skip: 0,
        size: 10,
    };
    let entries = history(&live, owner.uuid(), id, part).await.unwrap();
    let what: Vec<_> = entries.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(
        what,
        ["content.drafted.v1", "content.published.v1", "content.revised.v1"]
    );
    assert_eq!(entries[2].changed, ["summary", "language"]);
    assert!(
        history(&live, tenant(1).uuid(), id, part)
            .await
            .unwrap()
            .is_empty()
    );
    let part = |after, skip, size| Part { after, skip, size };
    for (part, versions) in [
        (part(0, 0, 2), vec![1, 2]),
        (part(0, 2, 2), vec![3]),
        (part(1, 0, 1), vec![2]),
        (part(3, 0, 1), vec![]),
    ] {
        let entries = history(&live, owner.uuid(), id, part).await.unwrap();
        let found: Vec<_> = entries.iter().map(|entry| entry.version).collect();
        assert_eq!(found, versions, "{part:?}");
    }
    let before = version(&live, owner.uuid(), id, 1).await.unwrap().unwrap();
    assert_eq!(
        (before.status.as_str(), before.summary, before.published_at),
        ("draft", None, None)
    );
    let then = version(&live, owner.uuid(), id, 3).await.unwrap().unwrap();
    assert_eq!((then.title, then.language.as_deref()), (row.title, Some("de-AT")));
    assert_eq!(
        (then.body, then.published_at),
        (row.body, Some(at(2_000_000).to_utc()))
    );
    assert!(version(&live, owner.uuid(), id, 4).await.unwrap().is_none());
    tables.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_runs_by_priority_and_then_in_the_order_of_queueing() {
    let tables = TestTables::<DownloadsFold>::make().await;
    let mut past = History {
        log: TestLog::make().await,
        versions: Default::default(),
    };
    let owner = tenant(0);
    let queued = |title: &str, priority| download::Queued {
        title: title.into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority,
    };
    for (n, (title, priority)) in (0..).zip([
        ("c", 100),
        ("d", 100),
        ("b", 100),
        ("a", 5),
        ("e", 100),
        ("f", 100),
    ]) {
        past.happen(owner, n, queued(title, priority)).await;
    }
    past.happen(owner, 2, download::Reprioritised { priority: 50 })
        .await;
    // What comes back to its priority has its place among equals again.
    for priority in [7, 100] {
        past.happen(owner, 4, download::Reprioritised { priority }).await;
    }
    past.happen(owner, 0, download::Cancelled {}).await;
    past.happen(owner, 1, download::Started {}).await;
    past.happen(owner, 1, download::Failed { reason: "x".into() })
        .await;
    past.happen(owner, 1, download::Retried {}).await;
    tables.catch_up(&past.log.log, 2).await;
    let reader = Reader::connect(&tables.scratch.reader_url(), 1).unwrap();
    let live = snapshot(&reader, Projection::Downloads).await;
    let queue = downloads::queue(&live, owner.uuid(), &downloads::Part::Skip(0), 10)
        .await
        .unwrap();
    let titles: Vec<_> = queue.iter().map(|row| row.title.as_str()).collect();
    assert_eq!(titles, ["a", "b", "e", "f", "d"]);
    let cancelled = downloads::Filter {
        tenant: owner.uuid(),
        status: Some("cancelled".into()),
    };
    assert_eq!(downloads::count(&live, &cancelled).await.unwrap(), 1);
    assert_eq!(
        downloads::list(&live, &cancelled, &downloads::Part::Skip(0), 10)
            .await
            .unwrap()[0]
            .title,
        "c"
    );
    let id = queue[4].download;
    assert_eq!(
        downloads::by_id(&live, owner.uuid(), id)
            .await
            .unwrap()
            .unwrap()
            .attempts,
        1
    );
    assert!(
        downloads::by_id(&live, tenant(1).uuid(), id)
            .await
            .unwrap()
            .is_none()
    );
    tables.scratch.erase().await.unwrap();
}
