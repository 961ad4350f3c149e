//! Whole views as files: what comes out is what is there, of the caller's tenant, and cut off is not whole.

use read_models::export::{Store, VIEWS};
use serde_json::Value;
use uuid::Uuid;

use crate::stage::{OPERATOR, Stage, Tenant, post};

/// Two tenants with rows in both stores.
async fn two_tenants(stage: &mut Stage) -> [Tenant; 2] {
    stage.with_visits().await;
    let tenants = [stage.tenant("a").await, stage.tenant("b").await];
    for tenant in &tenants {
        for slug in ["one", "two"] {
            let mut piece = post(tenant, slug);
            piece.title = "quoted \"so\", \\ with\na line \u{2} \u{1}".to_owned();
            stage.draft(piece).await;
        }
        let (id, site) = (tenant.id, tenant.site);
        let queued = format!(
            "INSERT INTO downloads_1.downloads (tenant, download, title, url, priority, status, queue_seq, queue_index, attempts, queued_at, updated_at, version)
             SELECT '{id}', gen_random_uuid(), 't', 'https://example.org/' || n, 1, 'queued', 0, 0, 0, now(), now(), 1 FROM generate_series(1, 3) n"
        );
        stage.sql(&queued).await;
        let events = format!("{}visits_1.events", stage.prefix);
        let rows = format!(
            "INSERT INTO {events} (tenant, site, time, name, visitor, session, hostname, pathname, props, log_offset)
             SELECT '{id}', '{site}', toDateTime64('2026-01-10 10:00:00.123456', 6, 'UTC') + number, 'pageview', number, 18446744073709551615 - number,
                    'a.example', concat('/p/', toString(number)), map('plan', 'x\\'y'), number FROM numbers(2500)"
        );
        stage.clickhouse(rows).await;
        let sessions = format!("{}visits_1.sessions", stage.prefix);
        let rows = format!(
            "INSERT INTO {sessions} (tenant, site, opened, session, visitor, log_offset) VALUES
             ('{id}', '{site}', '2026-01-10 10:00:00', 7, 1, 1), ('{id}', '{site}', '2026-01-10 10:00:00', 7, 1, 2)"
        );
        stage.clickhouse(rows).await;
        let facts = format!("{}content_facts_1.facts", stage.prefix);
        let rows = format!(
            "INSERT INTO {facts} (tenant, site, content, paths) VALUES ('{id}', '{site}', generateUUIDv4(), ['/a', '/b'])"
        );
        stage.clickhouse(rows).await;
    }
    stage
        .until("the tables of visits are heard of", async |stage| {
            stage
                .get("/api/v1/export/events?format=csv", Some(OPERATOR))
                .await
                .status
                == 200
                && stage
                    .get("/api/v1/export/content?format=csv", Some(OPERATOR))
                    .await
                    .status
                    == 200
        })
        .await;
    tenants
}

/// The rows of an export in lines.
async fn rows(stage: &Stage, path: &str, key: &str) -> Vec<Value> {
    let answer = stage.get(path, Some(key)).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let lines = answer.text.lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_tenant_exports_its_own_rows_and_an_operator_all() {
    let mut stage = Stage::start().await;
    let [one, other] = two_tenants(&mut stage).await;
    let admin = stage.key(one.id, &["admin"]).await;
    // Before what is wrong with the question.
    let unsaid = stage.get("/api/v1/export/nothing", None).await;
    unsaid.problem(401, "unauthorized");
    for view in &VIEWS {
        let store = match view.store {
            Store::ClickHouse => "clickhouse",
            Store::Postgres => "postgres",
        };
        let path = format!("/api/v1/export/{}?format=ndjson&store={store}", view.name);
        stage.get(&path, None).await.problem(401, "unauthorized");
        let all = rows(&stage, &path, OPERATOR).await;
        let of = |rows: &[Value], tenant: &Tenant| -> usize {
            let own = |row: &&Value| row["tenant"] == tenant.id.to_string();
            rows.iter().filter(own).count()
        };
        let own = rows(&stage, &path, &admin).await;
        assert_eq!(own.len(), of(&all, &one), "{path}: {all:?}");
        assert_eq!(own.len(), of(&own, &one), "{path}");
        let narrowed = format!("{path}&tenant={}", other.id);
        let narrow = rows(&stage, &narrowed, OPERATOR).await;
        assert_eq!(narrow.len(), of(&all, &other), "{path}");
        assert_eq!(all.len(), own.len() + narrow.len(), "{path}");
        stage
            .read(&narrowed, Some(&admin))
            .await
            .problem(403, "forbidden");
        let is_empty = matches!(view.name, "principals" | "content_redirects" | "content_versions");
        assert_eq!(all.is_empty(), is_empty, "{path}: {all:?}");
        // Who reads does not see who else there is.
        let directory = matches!(view.name, "tenants" | "sites" | "principals" | "keys");
        if directory {
            stage.get(&path, Some(&one.key)).await.problem(403, "forbidden");
        } else {
            assert_eq!(rows(&stage, &path, &one.key).await.len(), own.len(), "{path}");
        }
        assert!(all.iter().all(|row| row.get("secret_hash").is_none()), "{path}");
    }
    let path = "/api/v1/export/content?format=ndjson&store=postgres";
    let pieces = rows(&stage, path, &one.key).await;
    assert_eq!(pieces[0]["title"], "quoted \"so\", \\ with\na line \u{2} \u{1}");
    let csv = stage
        .read("/api/v1/export/downloads?format=csv", Some(&one.key))
        .await;
    assert!(csv.text.starts_with("tenant,download,title,"), "{}", csv.text);
    assert_eq!(csv.text.lines().count(), 4);
    assert!(csv.header("content-type").starts_with("text/csv"));
    // Of versions of a row the last one.
    let sessions = rows(&stage, "/api/v1/export/sessions?format=ndjson", &one.key).await;
    assert_eq!((sessions.len(), &sessions[0]["log_offset"]), (1, &2.into()));
    stage.end().await;
}

#[tokio::test]
async fn parquet_that_is_read_back_is_the_view() {
    let mut stage = Stage::start().await;
    let [one, _] = two_tenants(&mut stage).await;
    for (view, behind, modifier) in [
        ("events", "visits_1.events", ""),
        ("sessions", "visits_1.sessions", " FINAL"),
        ("content", "content_facts_1.facts", " FINAL"),
    ] {
        let path = format!("/api/v1/export/{view}?format=parquet");
        let request = stage.request(reqwest::Method::GET, &path).bearer_auth(&one.key);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/vnd.apache.parquet");
        let file = answer.bytes().await.unwrap();
        assert!(
            file.starts_with(b"PAR1") && file.ends_with(b"PAR1"),
            "{view}: {} bytes",
            file.len()
        );
        let (table, back) = (
            format!("{}{behind}", stage.prefix),
            format!("{}visits_1.back_{view}", stage.prefix),
        );
        stage.clickhouse(format!("CREATE TABLE {back} AS {table}")).await;
        stage
            .clickhouse_takes(&format!("INSERT INTO {back} FORMAT Parquet"), &file)
            .await;
        let sum = "count(), sum(cityHash64(toString(tuple(*))))";
        let there = format!("SELECT {sum} FROM {table}{modifier} WHERE tenant = '{}'", one.id);
        let there = stage.clickhouse_takes(&there, &[]).await;
        let read_back = stage
            .clickhouse_takes(&format!("SELECT {sum} FROM {back}{modifier}"), &[])
            .await;
        assert_eq!(there, read_back, "{view}");
        assert!(!there.starts_with("0\t"), "{view} has no rows");
    }
    stage.end().await;
}

/// Of PostgreSQL, too: ClickHouse reads the file, and finds the rows that are written as lines.
#[tokio::test]
async fn parquet_of_every_postgres_view_is_the_view() {
    let mut stage = Stage::start().await;
    let [_, two] = two_tenants(&mut stage).await;
    // Nulls, empty lists, and more than a row group holds.
    let more = format!(
        "INSERT INTO content_1.content_versions
         SELECT '{}'::uuid, gen_random_uuid(), n, 'content.revised.v1', now(), NULL, CASE WHEN n % 2 = 0 THEN '{{}}'::text[] ELSE ARRAY['title', 'tä\"gs'] END,
                'draft', 'Title ' || n, NULL, NULL, NULL, CASE WHEN n % 3 = 0 THEN ARRAY['a', '', 'b'] END, n % 2 = 0, NULL,
                CASE WHEN n % 5 = 0 THEN jsonb_build_object('n', n) END, NULL, now(), n
         FROM generate_series(1, 120000) n",
        two.id
    );
    stage.sql(&more).await;
    for (view, types) in [
        (
            "tenants",
            "tenant UUID, name String, created_at DateTime64(6, 'UTC'), version Int64",
        ),
        (
            "sites",
            "tenant UUID, site UUID, domain String, name Nullable(String), timezone String, created_at DateTime64(6, 'UTC'), version Int64",
        ),
        (
            "principals",
            "tenant UUID, principal UUID, name Nullable(String), created_at DateTime64(6, 'UTC'), version Int64",
        ),
        (
            "content",
            "tenant UUID, content UUID, title String, aliases Array(String), tags Array(String), featured Bool, language Nullable(String), metadata String, published_at Nullable(DateTime64(6, 'UTC')), version Int64",
        ),
        (
            "content_versions",
            "tenant UUID, content UUID, version Int64, event String, at DateTime64(6, 'UTC'), actor Nullable(UUID), changed Array(String), title Nullable(String), tags Array(String), featured Nullable(Bool), metadata Nullable(String), tenant_seq Int64",
        ),
        (
            "content_redirects",
            "tenant UUID, kind String, slug String, content UUID",
        ),
        (
            "downloads",
            "tenant UUID, download UUID, title Nullable(String), version Int64",
        ),
    ] {
        let path = format!("/api/v1/export/{view}?store=postgres&format=");
        let request = stage.request(reqwest::Method::GET, &format!("{path}parquet"));
        let answer = request.bearer_auth(OPERATOR).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{view}");
        let file = answer.bytes().await.unwrap();
        let back = format!("{}visits_1.back_{view}", stage.prefix);
        stage
            .clickhouse(format!("CREATE TABLE {back} ({types}) ENGINE = Memory"))
            .await;
        stage
            .clickhouse_takes(&format!("INSERT INTO {back} FORMAT Parquet"), &file)
            .await;
        let lines = stage.read(&format!("{path}ndjson"), Some(OPERATOR)).await.text;
        let is_empty = matches!(view, "principals" | "content_redirects");
        assert_eq!(lines.is_empty(), is_empty, "{view}");
        let lines_back = format!("{back}_lines");
        stage
            .clickhouse(format!("CREATE TABLE {lines_back} ({types}) ENGINE = Memory"))
            .await;
        let insert = format!(
            "INSERT INTO {lines_back} SETTINGS input_format_skip_unknown_fields = 1, date_time_input_format = 'best_effort', \
             input_format_json_read_objects_as_strings = 1 FORMAT JSONEachRow"
        );
        stage.clickhouse_takes(&insert, lines.as_bytes()).await;
        let sum = "SELECT count(), sum(cityHash64(toString(tuple(*)))) FROM";
        let file = stage.clickhouse_takes(&format!("{sum} {back}"), &[]).await;
        let lines = stage.clickhouse_takes(&format!("{sum} {lines_back}"), &[]).await;
        assert_eq!(file, lines, "{view}");
    }
    stage.end().await;
}

#[tokio::test]
async fn what_cannot_be_exported_is_named() {
    let mut stage = Stage::start().await;
    let [one, _] = two_tenants(&mut stage).await;
    for name in [
        "nothing",
        "events;%20DROP%20TABLE%20x",
        "visits_1.events",
        "fences",
        "checkpoints",
    ] {
        let answer = stage
            .read(&format!("/api/v1/export/{name}?format=csv"), Some(&one.key))
            .await;
        answer.problem(404, "not-found");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("there are content, content_redirects, content_versions, downloads, events"),
            "{detail}"
        );
    }
    for query in ["", "?format=xls", "?format=csv&tables=1", "?format=csv&tenant=me"] {
        let answer = stage
            .read(&format!("/api/v1/export/events{query}"), Some(&one.key))
            .await;
        assert!(answer.status.is_client_error(), "{query}: {}", answer.text);
    }
    stage.end().await;
}

/// A file that ends too early must not look whole: the connection breaks.
#[tokio::test]
async fn an_export_that_fails_in_the_middle_is_cut_off() {
    let mut stage = Stage::start().await;
    let [one, _] = two_tenants(&mut stage).await;
    // Behind these names something now fails at its last row.
    let many = format!(
        "ALTER TABLE downloads_1.downloads RENAME TO behind;
         CREATE VIEW downloads_1.downloads AS
         SELECT '{}'::uuid AS tenant, repeat('long', 100 / (2000 - n)) AS title FROM generate_series(1, 2000) n, generate_series(1, 50);
         SELECT annals.grant_readers('downloads_1')",
        one.id
    );
    stage.sql(&many).await;
    let prefix = &stage.prefix;
    for statement in [
        format!("RENAME TABLE {prefix}visits_1.events TO {prefix}visits_1.behind"),
        format!(
            "CREATE VIEW {prefix}visits_1.events AS SELECT toUUID('{}') AS tenant, number, throwIf(number = 2999999) AS last FROM numbers(3000000)",
            one.id
        ),
    ] {
        stage.clickhouse(statement).await;
    }
    for view in ["downloads", "events"] {
        let path = format!("/api/v1/export/{view}?format=csv");
        let request = stage.request(reqwest::Method::GET, &path);
        let reading = async {
            let mut answer = request.bearer_auth(&one.key).send().await?;
            assert_eq!(answer.status(), 200);
            while answer.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        };
        // Whether its beginning arrives before the connection breaks is a race.
        assert!(reading.await.is_err(), "{view} ended as if it were whole");
    }
    stage.end().await;
}

/// Two who ask and do not read: nobody has two, operators have a place of their own, and after the time for an export
/// the two hold nothing, in neither format, and keep nobody away.
#[tokio::test]
async fn who_does_not_take_an_export_holds_no_transaction() {
    let mut stage = Stage::exporting_within(2).await;
    let (tenant, other, third) = (
        stage.tenant("a").await,
        stage.tenant("b").await,
        stage.tenant("c").await,
    );
    // More than sockets and queues take.
    let endless = format!(
        "ALTER TABLE downloads_1.downloads RENAME TO behind;
         CREATE VIEW downloads_1.downloads AS
         SELECT whose::uuid AS tenant, repeat(n::text, 1000) AS title
         FROM generate_series(1, 30000) n, generate_series(1, 1000), (VALUES ('{}'), ('{}')) AS two (whose);
         SELECT annals.grant_readers('downloads_1')",
        tenant.id, other.id
    );
    stage.sql(&endless).await;
    let pieces = "/api/v1/export/content?format=csv&store=postgres";
    let mut idle = Vec::new();
    for (tenant, format) in [(&tenant, "csv"), (&other, "parquet")] {
        let path = format!("/api/v1/export/downloads?format={format}");
        let request = stage
            .request(reqwest::Method::GET, &path)
            .bearer_auth(&tenant.key);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{format}");
        idle.push(answer);
        stage.get(pieces, Some(&tenant.key)).await.problem(503, "busy");
    }
    stage.get(pieces, Some(&third.key)).await.problem(503, "busy");
    assert_eq!(stage.get(pieces, Some(OPERATOR)).await.status, 200);
    stage
        .until("nobody reads the view", async |stage| {
            !stage.is_being_read("downloads_1.downloads").await
        })
        .await;
    // They are still there, and others have their places.
    assert_eq!(stage.get(pieces, Some(&tenant.key)).await.status, 200);
    for mut answer in idle {
        let reading = async {
            while answer.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        };
        assert!(reading.await.is_err(), "it ended as if it were whole");
    }
    stage.end().await;
}

/// An id that nobody has: no rows, and the file is whole.
#[tokio::test]
async fn an_export_without_rows_is_a_file_too() {
    let mut stage = Stage::start().await;
    two_tenants(&mut stage).await;
    let nobody = Uuid::now_v7();
    let path = |format: &str| format!("/api/v1/export/events?format={format}&tenant={nobody}");
    let csv = stage.read(&path("csv"), Some(OPERATOR)).await;
    assert_eq!(
        (csv.status.as_u16(), csv.text.lines().count()),
        (200, 1),
        "{}",
        csv.text
    );
    let path = format!("/api/v1/export/downloads?format=ndjson&tenant={nobody}");
    let ndjson = stage.read(&path, Some(OPERATOR)).await;
    assert_eq!((ndjson.status.as_u16(), ndjson.text.as_str()), (200, ""));
    stage.end().await;
}
