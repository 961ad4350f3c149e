//! Questions about visits, asked of the real engine.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use chrono::{DateTime, Utc};
use read_models::{
    clickhouse::{Reader, scratch::Scratch},
    facts::{Fact, FactColumns},
    visits::{
        Site, StatsQuery, StatsResult,
        query::{Dimension, Metric},
        range::Resolved,
        realtime::realtime,
        report::content_report,
        rows::{EventColumns, EventRow, Place, SessionColumns, SessionRow, mark},
        stats::stats,
        store::{Insert, Store},
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

const HOUR: i64 = 3_600_000_000;

fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

fn site() -> Site {
    Site {
        tenant: Uuid::from_u128(1),
        id: Uuid::from_u128(2),
        domain: "example.org".to_owned(),
        timezone: chrono_tz::Tz::UTC,
    }
}

/// One visit: who, when, from where, which pages one minute apart, and custom events behind them.
struct Visit {
    visitor: u64,
    start: &'static str,
    source: &'static str,
    pages: &'static [&'static str],
    actions: &'static [&'static str],
}

const VISITS: [Visit; 5] = [
    Visit {
        visitor: 1,
        start: "2026-03-01T10:00:00Z",
        source: "Google",
        pages: &["/", "/a", "/b"],
        actions: &["Signup"],
    },
    Visit {
        visitor: 1,
        start: "2026-03-01T15:00:00Z",
        source: "",
        pages: &["/a"],
        actions: &[],
    },
    Visit {
        visitor: 2,
        start: "2026-03-01T10:30:00Z",
        source: "Google",
        pages: &["/"],
        actions: &[],
    },
    Visit {
        visitor: 1,
        start: "2026-03-02T09:00:00Z",
        source: "News",
        pages: &["/b", "/a"],
        actions: &["Signup", "Buy"],
    },
    Visit {
        visitor: 3,
        start: "2026-04-10T09:00:00Z",
        source: "",
        pages: &["/"],
        actions: &[],
    },
];

fn insert(token: &str, fence: u64) -> Insert {
    Insert {
        token: token.to_owned(),
        fences: vec![(0, fence)],
    }
}

async fn write(store: &Store, tenant: Uuid, site: Uuid, token: &str) {
    let (mut events, mut sessions) = (EventColumns::default(), SessionColumns::default());
    for (offset, visit) in (1..).zip(&VISITS) {
        let start = at(visit.start);
        let names = visit.pages.iter().map(|page| ("pageview", *page));
        let last_page = visit.pages[visit.pages.len() - 1];
        let names = names.chain(visit.actions.iter().map(|action| (*action, last_page)));
        let mut last = start;
        for (index, (name, pathname)) in (0..).zip(names) {
            last = start + i64::from(index) * HOUR / 60;
            let row = EventRow {
                tenant,
                site,
                time: last,
                name,
                visitor: visit.visitor,
                session: offset,
                hostname: "example.org",
                pathname,
                referrer: if visit.source.is_empty() {
                    ""
                } else {
                    "elsewhere.example/x"
                },
                source: visit.source,
                device: "Desktop",
                browser: "Firefox",
                os: "",
                utm: [""; 5],
                content: None,
                revenue: (name == "Buy").then_some(5_500_000_000),
                currency: if name == "Buy" { "EUR" } else { "" },
                interactive: true,
                engaged_ms: 0,
                scroll_depth: None,
                import: None,
                id: Uuid::from_u128(u128::from(offset) * 100 + u128::from(index)),
                place: Place {
                    partition: 0,
                    offset,
                    index,
                },
            };
            let props: &[(&str, &str)] = if name == "Buy" {
                &[("plan", "pro 'x'")]
            } else {
                &[]
            };
            events.push(&row, props.iter().copied());
        }
        sessions.push(&SessionRow {
            tenant,
            site,
            opened: start,
            session: offset,
            visitor: visit.visitor,
            start,
            last,
            pageviews: u32::try_from(visit.pages.len()).unwrap(),
            events: u32::try_from(visit.pages.len() + visit.actions.len()).unwrap(),
            is_bounce: visit.pages.len() + visit.actions.len() < 2,
            hostname: "example.org",
            entry_page: visit.pages[0],
            exit_page: last_page,
            referrer: "",
            source: visit.source,
            device: "Desktop",
            browser: "Firefox",
            os: "",
            utm: [""; 5],
            import: None,
            partition: 0,
            offset,
        });
    }
    store
        .insert_sessions(&insert(token, 1), vec![sessions.block()])
        .await
        .unwrap();
    store
        .insert_events(&insert(token, 1), vec![events.block()])
        .await
        .unwrap();
}

/// Tables with the visits above, of two tenants: the second must never show.
async fn filled() -> (Scratch, Store, Reader) {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_visits(1).await.unwrap();
    let store = writer.visits_store(1);
    store.write_fences(&[(0, 1)], "test").await.unwrap();
    write(&store, site().tenant, site().id, "ours").await;
    write(&store, Uuid::from_u128(9), site().id, "another tenant's").await;
    write(&store, site().tenant, Uuid::from_u128(9), "another site's").await;
    let reader = scratch.reader();
    (scratch, store, reader)
}

async fn ask(reader: &Reader, body: Value) -> StatsResult {
    let query = StatsQuery::parse(&body).unwrap();
    let now = "2026-04-10T12:00:00Z".parse().unwrap();
    match stats(reader, 1, &site(), &query, now).await {
        Ok(result) => result,
        Err(error) => panic!("{body}: {error:?}"),
    }
}

fn rows(result: &StatsResult) -> Value {
    json!(
        result
            .results
            .iter()
            .map(|row| json!([row.dimensions, row.metrics]))
            .collect::<Vec<_>>()
    )
}

fn all(metrics: &[&str], more: Value) -> Value {
    let mut body = json!({"site_id": "example.org", "metrics": metrics, "date_range": "all"});
    let Value::Object(more) = more else {
        panic!("an object")
    };
    body.as_object_mut().unwrap().extend(more);
    body
}

/// The same token, for two generations that the same range is written to, and for an insert of the same range again.
#[tokio::test]
async fn a_token_counts_within_its_own_generation() {
    let (scratch, store, _) = filled().await;
    let writer = scratch.writer();
    writer.create_visits(2).await.unwrap();
    let next = writer.visits_store(2);
    next.write_fences(&[(0, 1)], "test").await.unwrap();
    let before = store.found(0, 0, u64::MAX).await.unwrap();
    for store in [&next, &next, &store] {
        write(store, site().tenant, site().id, "ours").await;
    }
    assert_eq!(store.found(0, 0, u64::MAX).await.unwrap(), before);
    assert_eq!(next.found(0, 0, u64::MAX).await.unwrap().rows, 11);
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn every_metric_is_what_it_says() {
    let (scratch, _, reader) = filled().await;
    let metrics = Metric::ALL.map(Metric::name);
    let result = ask(&reader, all(&metrics, json!({}))).await;
    // Visitor 1 came on two days and counts on both. Seconds: 180 + 0 + 0 + 180 + 0 over 5 visits.
    assert_eq!(rows(&result), json!([[[], [4, 5, 8, 11, 1.6, 60, 72]]]));
    assert_eq!(result.query["date_range"], json!(["2026-03-01", "2026-04-10"]));
    assert!(result.meta.metric_warnings.contains_key("visitors"));
    let nothing = json!({"site_id": "x", "metrics": metrics, "date_range": ["2020-01-01", "2020-01-02"]});
    assert_eq!(
        rows(&ask(&reader, nothing).await),
        json!([[[], [0, 0, 0, 0, 0, 0, 0]]])
    );
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn groups_are_ordered_filtered_and_paged() {
    let (scratch, _, reader) = filled().await;
    let by = |dimension: &str| json!({"dimensions": [dimension]});
    let result = ask(
        &reader,
        all(&["visitors", "pageviews", "visits"], by("visit:source")),
    )
    .await;
    assert_eq!(
        rows(&result),
        json!([
            [["Direct / None"], [2, 2, 2]],
            [["Google"], [2, 4, 2]],
            [["News"], [1, 2, 1]]
        ])
    );
    let result = ask(&reader, all(&["pageviews", "visits"], by("event:page"))).await;
    assert_eq!(
        rows(&result),
        json!([[["/"], [3, 3]], [["/a"], [3, 3]], [["/b"], [2, 2]]])
    );
    let result = ask(&reader, all(&["visits", "bounce_rate"], by("visit:entry_page"))).await;
    assert_eq!(
        rows(&result),
        json!([[["/"], [3, 66.67]], [["/a"], [1, 100]], [["/b"], [1, 0]]])
    );
    let result = ask(&reader, all(&["events"], by("event:name"))).await;
    assert_eq!(
        rows(&result),
        json!([[["pageview"], [8]], [["Signup"], [2]], [["Buy"], [1]]])
    );
    let result = ask(
        &reader,
        all(
            &["events"],
            json!({
                "dimensions": ["event:props:plan"], "filters": [["is", "event:name", ["Buy"]]]
            }),
        ),
    )
    .await;
    assert_eq!(rows(&result), json!([[["pro 'x'"], [1]]]));
    let paged = json!({
        "dimensions": ["event:page"], "order_by": [["event:page", "desc"]],
        "pagination": {"limit": 1, "offset": 1}, "include": {"total_rows": true}
    });
    let result = ask(&reader, all(&["pageviews"], paged)).await;
    assert_eq!(
        (rows(&result), result.meta.total_rows),
        (json!([[["/a"], [3]]]), Some(3))
    );
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn filters_of_events_and_of_visits_combine() {
    let (scratch, _, reader) = filled().await;
    let cases = [
        (json!([["is", "event:page", ["/a"]]]), json!([2, 3, 3])),
        (json!([["is_not", "event:page", ["/a"]]]), json!([4, 5, 4])),
        (json!([["contains", "event:page", ["a", "b"]]]), json!([2, 5, 3])),
        (
            json!([["contains_not", "event:page", ["a", "b"]]]),
            json!([3, 3, 3]),
        ),
        (
            json!([["is", "visit:source", ["google"], {"case_sensitive": false}]]),
            json!([2, 4, 2]),
        ),
        (json!([["is", "visit:source", ["google"]]]), json!([0, 0, 0])),
        (json!([["is", "visit:source", [""]]]), json!([2, 2, 2])),
        (
            json!([["is", "visit:source", ["Direct / None", "News"]]]),
            json!([3, 4, 3]),
        ),
        (
            json!([[
                "and",
                [["is", "visit:source", ["Google"]], ["is", "event:page", ["/b"]]]
            ]]),
            json!([1, 1, 1]),
        ),
        (
            json!([[
                "or",
                [["is", "visit:source", ["News"]], ["is", "event:page", ["/"]]]
            ]]),
            json!([4, 5, 4]),
        ),
        (
            json!([[
                "not",
                [
                    "or",
                    [["is", "visit:source", ["News"]], ["is", "event:page", ["/"]]]
                ]
            ]]),
            json!([1, 3, 2]),
        ),
        (
            json!([[
                "is",
                "event:page",
                ["/'; DROP TABLE events --", "{tenant:UUID}", "\\"]
            ]]),
            json!([0, 0, 0]),
        ),
    ];
    for (filters, expected) in cases {
        let body = all(&["visitors", "pageviews", "visits"], json!({"filters": filters}));
        assert_eq!(rows(&ask(&reader, body.clone()).await)[0][1], expected, "{body}");
    }
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn time_is_that_of_the_site() {
    let (scratch, _, reader) = filled().await;
    let query = StatsQuery::parse(&json!({
        "site_id": "example.org", "metrics": ["visits", "visitors"], "date_range": ["2026-03-01", "2026-03-02"],
        "dimensions": ["time:day"], "include": {"time_labels": true}
    }))
    .unwrap();
    // In Tokyo the visit of 15:00 UTC is one of the next day.
    let tokyo = Site {
        timezone: chrono_tz::Tz::Asia__Tokyo,
        ..site()
    };
    let now = "2026-04-10T12:00:00Z".parse().unwrap();
    let result = stats(&reader, 1, &tokyo, &query, now).await.unwrap();
    assert_eq!(
        rows(&result),
        json!([[["2026-03-01"], [2, 2]], [["2026-03-02"], [2, 1]]])
    );
    assert_eq!(result.meta.time_labels.unwrap(), ["2026-03-01", "2026-03-02"]);
    assert!(result.meta.metric_warnings.is_empty());
    let hours = json!({
        "site_id": "example.org", "metrics": ["pageviews"], "date_range": ["2026-03-01", "2026-03-01"],
        "dimensions": ["time"]
    });
    let expected = json!([[["2026-03-01 10:00:00"], [4]], [["2026-03-01 15:00:00"], [1]]]);
    assert_eq!(rows(&ask(&reader, hours).await), expected);
    let months = ask(&reader, all(&["visits"], json!({"dimensions": ["time:month"]}))).await;
    assert_eq!(
        rows(&months),
        json!([[["2026-03-01"], [4]], [["2026-04-01"], [1]]])
    );
    let weeks = ask(&reader, all(&["visits"], json!({"dimensions": ["time:week"]}))).await;
    assert_eq!(
        rows(&weeks),
        json!([
            [["2026-02-23"], [3]],
            [["2026-03-02"], [1]],
            [["2026-04-06"], [1]]
        ])
    );
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn every_metric_can_be_asked_by_every_dimension_with_every_filter() {
    let (scratch, _, reader) = filled().await;
    let metrics = Metric::ALL.map(Metric::name);
    let dimensions: Vec<String> = Dimension::names()
        .iter()
        .map(|name| name.replace("<name>", "plan"))
        .collect();
    for dimension in &dimensions {
        for filters in [
            json!([]),
            json!([["contains", "event:page", ["/"]]]),
            json!([["is_not", "visit:browser", ["Opera"]]]),
            json!([[
                "or",
                [["is", "visit:os", ["(not set)"]], ["is", "event:hostname", ["x"]]]
            ]]),
        ] {
            let body = all(&metrics, json!({"dimensions": [dimension], "filters": filters}));
            let result = ask(&reader, body.clone()).await;
            let sum: u64 = result
                .results
                .iter()
                .filter_map(|row| row.metrics[2].as_u64())
                .sum();
            assert_eq!(sum, 8, "page views in all groups of {body}");
        }
    }
    scratch.erase().await.unwrap();
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let faults = |body: Value| StatsQuery::parse(&body).unwrap_err();
    let body = json!({
        "site_id": 7, "metrics": ["visitors", "conversion_rate"], "date_range": "fortnight",
        "dimensions": ["visit:country"], "filters": [["matches", "event:page", ["x"]], ["is", "time:day", ["x"]]],
        "order_by": [["events", "up"]], "include": {"comparisons": true}, "pagination": {"limit": 0}, "extra": 1
    });
    let found = faults(body);
    let pointers: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
    for expected in [
        "/extra",
        "/site_id",
        "/metrics/1",
        "/dimensions/0",
        "/filters/0/0",
        "/filters/1/1",
        "/date_range",
        "/order_by/0/0",
        "/order_by/0/1",
        "/include/comparisons",
        "/pagination/limit",
    ] {
        assert!(pointers.contains(&expected), "{expected} in {pointers:?}");
    }
    let detail = |pointer: &str| {
        found
            .iter()
            .find(|fault| fault.pointer == pointer)
            .unwrap()
            .detail
            .clone()
    };
    assert!(detail("/metrics/1").contains("bounce_rate"));
    assert!(detail("/dimensions/0").contains("visit:entry_page"));
    assert!(detail("/filters/0/0").contains("contains_not"));
    assert!(detail("/date_range").contains("28d"));
    assert!(faults(json!([])).iter().all(|fault| fault.pointer.is_empty()));
    let mut deep = json!(["is", "event:page", ["/"]]);
    for _ in 0..60 {
        deep = json!(["not", deep]);
    }
    let body = json!({"site_id": "x", "metrics": ["visits"], "date_range": "7d", "filters": [deep]});
    assert!(faults(body)[0].detail.contains("deeper"));
    let reversed = json!({"site_id": "x", "metrics": ["visits"], "date_range": ["2026-02-02", "2026-02-01"]});
    assert_eq!(faults(reversed)[0].pointer, "/date_range");
}

#[tokio::test]
async fn realtime_counts_the_last_minutes() {
    let (scratch, _, reader) = filled().await;
    let now = "2026-03-01T10:32:10Z".parse().unwrap();
    let result = realtime(&reader, 1, &site(), now).await.unwrap();
    assert_eq!((result.visitors, result.minutes.len()), (1, 30));
    let views: Vec<(&str, u64)> = result
        .minutes
        .iter()
        .filter(|minute| minute.pageviews > 0)
        .map(|minute| (minute.minute.as_str(), minute.pageviews))
        .collect();
    assert_eq!(views, [("2026-03-01T10:30:00Z", 1)]);
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn the_report_joins_views_with_content_and_the_period_before() {
    let (scratch, _, reader) = filled().await;
    let writer = scratch.writer();
    writer.create_facts(1).await.unwrap();
    let fact = |content: u128, slug: &str, status: &str, paths: &[&str], former: &[&str]| Fact {
        tenant: site().tenant,
        site: site().id,
        content: Uuid::from_u128(content),
        kind: "post".to_owned(),
        slug: slug.to_owned(),
        title: slug.to_uppercase(),
        status: status.to_owned(),
        path: String::new(),
        aliases: Vec::new(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        former: former.iter().map(|path| (*path).to_owned()).collect(),
        published_at: Some(at("2026-01-01T00:00:00Z")),
        log_partition: 0,
        log_offset: 1,
    };
    let mut facts = FactColumns::default();
    // A path is theirs who have it now, else theirs who had it.
    facts.push(&fact(10, "a", "published", &["/a"], &["/old-a"]));
    facts.push(&fact(11, "b", "published", &["/new-b"], &["/a", "/b"]));
    facts.push(&fact(12, "unseen", "published", &["/unseen"], &[]));
    facts.push(&fact(13, "draft", "draft", &["/"], &["/b"]));
    let store = writer.fact_store(1);
    store.write(&facts).await.unwrap();
    let asked = [10, 99].map(|piece| (site().tenant, Uuid::from_u128(piece)));
    let present = store.present(&asked.into()).await.unwrap();
    assert_eq!(present, [fact(10, "a", "published", &["/a"], &["/old-a"])]);

    let day = |text: &str| text.parse().unwrap();
    let period = Resolved::days(day("2026-03-02"), day("2026-03-02"), chrono_tz::Tz::UTC);
    let report = content_report(&reader, 1, 1, &site(), &period, (None, 0))
        .await
        .unwrap();
    assert_eq!(report.before, ["2026-03-01", "2026-03-01"]);
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            (
                row.slug.as_str(),
                row.views,
                row.visitors,
                row.views_before,
                row.visitors_before,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [("a", 1, 1, 2, 1), ("b", 1, 1, 1, 1), ("unseen", 0, 0, 0, 0)]
    );
    assert_eq!(
        (report.rows[0].views_change(), report.rows[2].views_change()),
        (Some(-50.0), None)
    );
    assert_eq!(
        report.rows[0].published_at.as_deref(),
        Some("2026-01-01T00:00:00Z")
    );
    // As one is that an earlier release has frozen.
    let database = format!("{}content_facts_1", scratch.writer.prefix);
    let statement = format!("ALTER TABLE {database}.facts DROP COLUMN former SETTINGS mutations_sync = 1");
    scratch.execute(&statement).await.unwrap();
    let report = content_report(&reader, 1, 1, &site(), &period, (None, 0))
        .await
        .unwrap();
    let views: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.slug.as_str(), row.views))
        .collect();
    assert_eq!(views, [("a", 1), ("b", 0), ("unseen", 0)]);
    scratch.erase().await.unwrap();
}

#[tokio::test]
async fn an_insert_is_one_part_and_takes_place_under_the_highest_fence_only() {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_visits(1).await.unwrap();
    let store = writer.visits_store(1);
    store.write_fences(&[(0, 1), (1, 1)], "first").await.unwrap();
    let (mut events, mut fingerprint) = (EventColumns::default(), 0_u64);
    let count = 150_000_u32;
    for index in 0..count {
        let place = Place {
            partition: 0,
            offset: 5 + u64::from(index / 100),
            index: index % 100,
        };
        let id = Uuid::from_u128(u128::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C21_D5B3_9F1D));
        fingerprint = fingerprint.wrapping_add(mark(id, place));
        let row = EventRow {
            tenant: site().tenant,
            site: site().id,
            time: at("2026-03-01T10:00:00Z") + i64::from(index),
            name: "pageview",
            visitor: u64::from(index / 7),
            session: 1,
            hostname: "example.org",
            pathname: "/a/rather/long/path/as/blogs/have/them",
            referrer: "",
            source: "",
            device: "Desktop",
            browser: "Firefox",
            os: "Linux",
            utm: [""; 5],
            content: None,
            revenue: None,
            currency: "",
            interactive: true,
            engaged_ms: 0,
            scroll_depth: None,
            import: None,
            id,
            place,
        };
        events.push(&row, []);
    }
    // Two blocks, as of two partitions, are one part still.
    let blocks = || vec![events.block(), events.block()];
    store.insert_events(&insert("one", 1), blocks()).await.unwrap();
    let client = scratch.reader().visits(1);
    let parts: u64 = client
        .query("SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(parts, 1);
    let found = store.found(0, 0, u64::MAX).await.unwrap();
    assert_eq!(
        (found.rows, found.fingerprint),
        (2 * u64::from(count), fingerprint.wrapping_mul(2))
    );
    assert_eq!(store.found(0, 5, 6).await.unwrap().rows, 200);
    assert_eq!(store.found(1, 0, u64::MAX).await.unwrap().rows, 0);

    // Another owner: what comes late from the first one does not take place, nor does its deleting.
    store.write_fences(&[(0, 2)], "second").await.unwrap();
    store.stop_predecessors().await.unwrap();
    let late = store.insert_events(&insert("two", 1), vec![events.block()]).await;
    assert!(
        matches!(late, Err(read_models::visits::store::InsertError::Fenced)),
        "{late:?}"
    );
    store.delete_from(0, 6, 1).await.unwrap();
    assert_eq!(
        store.found(0, 0, u64::MAX).await.unwrap().rows,
        2 * u64::from(count)
    );
    store.delete_from(0, 6, 2).await.unwrap();
    assert_eq!(store.found(0, 0, u64::MAX).await.unwrap().rows, 200);
    scratch.erase().await.unwrap();
}

/// Each width of a dictionary's numbers: of one text, of more than a byte can number, of more than two bytes can.
#[tokio::test]
async fn texts_that_stand_once_in_a_block_are_those_of_their_rows() {
    let scratch = Scratch::for_test();
    let writer = scratch.writer();
    writer.create_visits(1).await.unwrap();
    let store = writer.visits_store(1);
    store.write_fences(&[(0, 1)], "first").await.unwrap();
    let mut events = EventColumns::default();
    for (partition, (rows, texts)) in (0..).zip([(3_u32, 1_u32), (1_000, 257), (140_000, 65_537)]) {
        for row in 0..rows {
            // Neighbours differ, and the empty text is one of them.
            let number = row % texts;
            let text = if number == 0 {
                String::new()
            } else {
                format!("t{number}")
            };
            events.push(
                &EventRow {
                    tenant: site().tenant,
                    site: site().id,
                    time: at("2026-03-01T10:00:00Z"),
                    name: &text,
                    visitor: u64::from(number),
                    session: 1,
                    hostname: "example.org",
                    pathname: "/",
                    referrer: "",
                    source: "",
                    device: "",
                    browser: "",
                    os: "",
                    utm: ["", "", "", "", &text],
                    content: None,
                    revenue: None,
                    currency: "",
                    interactive: true,
                    engaged_ms: 0,
                    scroll_depth: None,
                    import: None,
                    id: Uuid::from_u128(row.into()),
                    place: Place {
                        partition,
                        offset: row.into(),
                        index: 0,
                    },
                },
                [],
            );
        }
        let token = format!("p{partition}");
        store
            .insert_events(&insert(&token, 1), vec![events.block()])
            .await
            .unwrap();
        // The next block knows nothing of this one.
        events.clear();
        let query = "SELECT count(), uniqExact(name), \
                     countIf(name != utm_term OR name != if(visitor = 0, '', concat('t', toString(visitor))) \
                     OR hostname != 'example.org' OR currency != '') FROM events WHERE log_partition = ?";
        let client = scratch.reader().visits(1);
        let found: (u64, u64, u64) = client.query(query).bind(partition).fetch_one().await.unwrap();
        assert_eq!(found, (rows.into(), texts.into(), 0));
    }
    scratch.erase().await.unwrap();
}
