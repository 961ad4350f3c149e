//! Visits: the query, realtime, the report, and what is refused.

use chrono::Utc;
use read_models::{
    Projection,
    generation::frozen::{Cut, Freeze, Name},
};
use serde_json::json;

use crate::stage::{Stage, Tenant};

async fn visited(stage: &mut Stage) -> Tenant {
    let tenant = stage.tenant("a").await;
    stage.with_visits().await;
    let database = format!("{}visits_1", stage.prefix);
    let (id, site) = (tenant.id, tenant.site);
    // Three views of two visitors on one day, one a day later, one just now.
    let mut rows = Vec::new();
    for (time, visitor, page) in [
        ("2026-01-10 10:00:00", 1, "/post/first"),
        ("2026-01-10 10:01:00", 1, "/"),
        ("2026-01-10 11:00:00", 2, "/post/first/"),
        ("2026-01-11 10:00:00", 3, "/post/first"),
        (&Utc::now().format("%Y-%m-%d %H:%M:%S").to_string(), 4, "/now"),
    ] {
        rows.push(format!(
            "('{id}','{site}','{time}','pageview',{visitor},{visitor},'a.example','{page}')"
        ));
    }
    let columns = "tenant, site, time, name, visitor, session, hostname, pathname";
    stage
        .clickhouse(format!(
            "INSERT INTO {database}.events ({columns}) VALUES {}",
            rows.join(",")
        ))
        .await;
    let facts = format!("{}content_facts_1", stage.prefix);
    let columns = "tenant, site, content, kind, slug, title, status, paths, published_at, log_offset";
    let fact = |slug: &str, title: &str| {
        format!(
            "('{id}','{site}',generateUUIDv4(),'post','{slug}','{title}','published',['/post/{slug}'],'2026-01-01 00:00:00',1)"
        )
    };
    let facts_rows = [fact("first", "The first"), fact("second", "=SUM(A1)")].join(",");
    stage
        .clickhouse(format!(
            "INSERT INTO {facts}.facts ({columns}) VALUES {facts_rows}"
        ))
        .await;
    stage
        .until("the visits are live", async |stage| {
            stage
                .get("/api/v1/stats/realtime?site=a.example", Some(&tenant.key))
                .await
                .status
                == 200
        })
        .await;
    tenant
}

#[tokio::test]
async fn a_question_that_says_something_twice_is_no_question() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    for (part, pointer) in [
        (r#""metrics":["visitors"],"metrics":["visits"]"#, "/metrics"),
        (
            r#""metrics":["visitors"],"include":{"imports":true,"imports":false}"#,
            "/include/imports",
        ),
    ] {
        let body = format!(r#"{{"site_id":"{}","date_range":"all",{part}}}"#, tenant.domain);
        for path in ["/api/v2/query", "/api/v1/stats/query"] {
            let request = stage
                .request(reqwest::Method::POST, path)
                .bearer_auth(&tenant.key);
            let request = request
                .header("content-type", "application/json")
                .body(body.clone());
            assert_eq!(
                stage.send(request).await.problem(422, "invalid"),
                [pointer],
                "{path}"
            );
        }
    }
    stage.end().await;
}

#[tokio::test]
async fn visits_are_counted() {
    let mut stage = Stage::start().await;
    let tenant = visited(&mut stage).await;
    let question = json!({
        "site_id": "a.example", "metrics": ["visitors", "pageviews"], "date_range": ["2026-01-10", "2026-01-11"],
        "dimensions": ["event:page"],
    });
    let answer = stage
        .post("/api/v1/stats/query", &tenant.key, &question)
        .await
        .ok();
    let views: u64 = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["metrics"][1].as_u64().unwrap())
        .sum();
    assert_eq!(views, 4, "{answer}");
    assert_eq!(
        stage.post("/api/v2/query", &tenant.key, &question).await.ok(),
        answer
    );
    let realtime = stage
        .read("/api/v1/stats/realtime?site=a.example", Some(&tenant.key))
        .await
        .ok();
    assert_eq!(
        (
            &realtime["visitors"],
            realtime["minutes"].as_array().unwrap().len()
        ),
        (&1.into(), 30)
    );

    let path = "/api/v1/reports/content?site=a.example&from=2026-01-11&to=2026-01-11";
    let report = stage.read(path, Some(&tenant.key)).await.ok();
    assert_eq!(report["period"], json!(["2026-01-11", "2026-01-11"]));
    let first = &report["items"][0];
    assert_eq!(
        (&first["slug"], &first["views"], &first["views_before"]),
        (&"first".into(), &1.into(), &2.into())
    );
    assert_eq!(
        (&first["views_change"], report["items"].as_array().unwrap().len()),
        (&json!(-50.0), 2)
    );
    let second = stage
        .read(&format!("{path}&size=1&page=2"), Some(&tenant.key))
        .await
        .ok();
    assert_eq!(second["items"], json!([report["items"][1]]), "a part of it");
    let csv = stage.read(&format!("{path}&format=csv"), Some(&tenant.key)).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(
        csv.text.starts_with("id,kind,slug,title,") && csv.text.contains(",'=SUM(A1),"),
        "{}",
        csv.text
    );
    assert!(
        csv.text.contains("\r\n") && csv.text.lines().count() == 3,
        "{}",
        csv.text
    );
    stage.end().await;
}

#[tokio::test]
async fn a_report_is_made_from_what_was_frozen() {
    let mut stage = Stage::start().await;
    let tenant = visited(&mut stage).await;
    let path = "/api/v1/reports/content?site=a.example&from=2026-01-10&to=2026-01-11&as_of=at_new_year";
    let get = async |stage: &Stage| stage.get(path, Some(&tenant.key)).await;
    let absent = get(&stage).await;
    absent.problem(404, "not-found");
    assert!(
        absent.text.contains("--into visits_at_new_year"),
        "{}",
        absent.text
    );
    let rows = stage.with_visits().await;
    rows.create_visits(2).await.unwrap();
    rows.create_facts(2).await.unwrap();
    for projection in [Projection::Visits, Projection::ContentFacts] {
        let name = Name::parse(projection, &format!("{projection}_at_new_year")).unwrap();
        let freeze = Freeze {
            projection,
            partitions: 4,
            fold: "test",
            name: &name,
            until: &format!("{projection} then"),
            cut: &Cut::Places(vec![0; 4]),
            why: "a test",
            rate: None,
        };
        assert_eq!(stage.writer.begin_freeze(&freeze).await.unwrap(), 2);
    }
    get(&stage).await.problem(503, "freezing");
    // Of four views then one was recorded, and of two pieces one was there, under another title.
    for statement in [
        "INSERT INTO {p}visits_2.events SELECT * FROM {p}visits_1.events WHERE visitor = 2",
        "INSERT INTO {p}content_facts_2.facts SELECT * REPLACE ('Once' AS title) FROM {p}content_facts_1.facts WHERE slug = 'first'",
    ] {
        stage.clickhouse(statement.replace("{p}", &stage.prefix)).await;
    }
    for projection in [Projection::Visits, Projection::ContentFacts] {
        stage.writer.freeze(projection, 2).await.unwrap();
    }
    let report = get(&stage).await.ok();
    let shown = |item: &serde_json::Value| json!([item["title"], item["views"]]);
    let items: Vec<_> = report["items"].as_array().unwrap().iter().map(shown).collect();
    assert_eq!(items, [json!(["Once", 1])], "{report}");
    let then = json!({"visits": "visits then", "content_facts": "content_facts then"});
    assert_eq!(report["as_of"], then);
    let now = stage
        .get(&path.replace("&as_of=at_new_year", ""), Some(&tenant.key))
        .await
        .ok();
    assert_eq!((&now["items"][0]["views"], now.get("as_of")), (&json!(3), None));

    let positioned = stage.read(path, Some(&tenant.key)).await;
    assert_eq!(positioned.problem(422, "invalid"), ["/as_of"]);
    let wrong = path.replace("at_new_year", "%27%3B--");
    let wrong = stage.get(&wrong, Some(&tenant.key)).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/as_of"]);
    for database in ["visits_2", "content_facts_2"] {
        let drop = format!("DROP DATABASE {}{database} SYNC", stage.prefix);
        stage.clickhouse(drop).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_pointed_at() {
    let mut stage = Stage::start().await;
    let tenant = visited(&mut stage).await;
    let mut nested = json!(["is", "event:page", ["/"]]);
    for _ in 0..100 {
        nested = json!(["not", nested]);
    }
    for (question, pointer) in [
        (
            json!({"site_id": "a.example", "metrics": ["clicks"], "date_range": "day"}),
            "/metrics/0",
        ),
        (
            json!({"site_id": "a.example", "metrics": ["visits"], "date_range": "eon"}),
            "/date_range",
        ),
        (
            json!({"site_id": "a.example", "metrics": ["visits"], "date_range": "day", "dimensions": ["x'; DROP"]}),
            "/dimensions/0",
        ),
        (
            json!({"site_id": "a.example", "metrics": ["visits"], "date_range": "day", "more": 1}),
            "/more",
        ),
        (
            json!({"site_id": "a.example", "metrics": ["visits"], "date_range": "day", "filters": [["like", "event:page", ["a"]]]}),
            "/filters/0/0",
        ),
        (json!([]), ""),
    ] {
        let pointers = stage
            .post("/api/v2/query", &tenant.key, &question)
            .await
            .problem(422, "invalid");
        assert_eq!(pointers, [pointer], "{question}");
    }
    let deep =
        json!({"site_id": "a.example", "metrics": ["visits"], "date_range": "day", "filters": [nested]});
    stage
        .post("/api/v2/query", &tenant.key, &deep)
        .await
        .problem(422, "invalid");
    let hostile = json!({
        "site_id": "a.example", "metrics": ["visitors"], "date_range": "all",
        "filters": [["is", "event:page", ["' OR 1=1 --", "\\'", "{x:String}"]]],
    });
    let nobody = stage.post("/api/v2/query", &tenant.key, &hostile).await.ok();
    assert_eq!(nobody["results"][0]["metrics"], json!([0]));
    // As much as a parameter of ClickHouse's takes, each byte escaped; and more.
    let among = |count: usize| {
        let values: Vec<String> = (0..count)
            .map(|number| format!("{}{number}", "'".repeat(100)))
            .collect();
        json!({"site_id": "a.example", "metrics": ["visitors"], "date_range": "all", "filters": [["is", "event:page", values]]})
    };
    let nobody = stage.post("/api/v2/query", &tenant.key, &among(530)).await.ok();
    assert_eq!(nobody["results"][0]["metrics"], json!([0]));
    let refused = stage.post("/api/v2/query", &tenant.key, &among(600)).await;
    assert_eq!(refused.problem(422, "invalid"), ["/filters/0/2"]);

    let request = |body: &str| {
        stage
            .request(reqwest::Method::POST, "/api/v2/query")
            .bearer_auth(&tenant.key)
            .body(body.to_owned())
    };
    let json_type = "application/json";
    stage
        .send(request("{}"))
        .await
        .problem(415, "unsupported-media-type");
    stage
        .send(request("{").header("content-type", json_type))
        .await
        .problem(400, "unreadable");
    stage
        .send(request(&"[".repeat(5_000)).header("content-type", json_type))
        .await
        .problem(400, "unreadable");
    let large = format!("\"{}\"", "x".repeat(300_000));
    stage
        .send(request(&large).header("content-type", json_type))
        .await
        .problem(413, "too-large");

    for (query, pointer) in [
        ("site=a.example&from=2026-02-30", "/from"),
        ("site=a.example&from=2026-02-02&to=2026-02-01", "/to"),
        ("site=a.example&from=0001-01-01&to=9999-12-31", "/from"),
        ("site=a.example&from=%2B12345-01-01", "/from"),
        ("site=a.example&format=xml", "/format"),
        ("site=a.example&from=2999-01-01", "/from"),
        ("site=a.example&size=10001", "/size"),
        ("site=a.example&page=2", "/page"),
        ("site=a.example&size=2&page=0", "/page"),
        ("from=2026-01-01", "/site"),
    ] {
        let answer = stage
            .read(&format!("/api/v1/reports/content?{query}"), Some(&tenant.key))
            .await;
        assert_eq!(answer.problem(422, "invalid"), [pointer], "{query}");
    }
    stage
        .read("/api/v1/reports/content?site=a.example", None)
        .await
        .problem(401, "unauthorized");
    stage
        .read("/api/v1/stats/realtime?site=nobody.example", Some(&tenant.key))
        .await
        .problem(404, "not-found");
    stage.end().await;
}
