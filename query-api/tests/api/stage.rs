//! What every test begins with: databases of its own, the router on port 0, and hands to write rows.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeZone, Utc};
use query_api::{App, Config, Dependencies};
use read_models::{
    Projection, Tables, Writer,
    checkpoint::{Advance, Checkpoint},
    clickhouse,
    content::{self, Content},
    directory, downloads,
    scratch::Scratch,
};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use service::{Position, Topic, key::Key};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const OPERATOR: &str = "an operator's key of the tests";

pub(crate) struct Stage {
    pub url: String,
    pub client: reqwest::Client,
    pub writer: Writer,
    /// Where everything that was written is.
    pub position: Position,
    pub prefix: String,
    directory: Fold,
    pub content: Fold,
    downloads: Fold,
    scratch: Option<Scratch>,
    shutdown: CancellationToken,
}

/// A projection's tables, and where its fold stands in partition 0.
pub(crate) struct Fold {
    pub tables: Tables,
    pub at: Checkpoint,
}

#[derive(Clone)]
pub(crate) struct Tenant {
    pub id: Uuid,
    /// With the scope `read`.
    pub key: String,
    pub domain: String,
    pub site: Uuid,
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Checks that it is a problem of this kind; the pointers of its errors.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Vec<String> {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.json();
        assert_eq!(body["type"], format!("/problems/{kind}"), "{body}");
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn time(day: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 1, 12, 0, 0).unwrap() + chrono::Duration::days(i64::from(day))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./dev test"))
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::begin(&Projection::ALL, (600, 60)).await
    }

    /// An export may take so many seconds.
    pub(crate) async fn exporting_within(seconds: u64) -> Self {
        Self::begin(&Projection::ALL, (600, seconds)).await
    }

    /// Keys count for so many seconds after the directory was complete.
    pub(crate) async fn doubting_after(seconds: u64) -> Self {
        Self::begin(&Projection::ALL, (seconds, 60)).await
    }

    /// Nobody has read anything to its end.
    pub(crate) async fn unfilled() -> Self {
        Self::begin(&[], (600, 60)).await
    }

    /// Only these have ever had all of the log.
    async fn begin(filled: &[Projection], (keys_unconfirmed_seconds, export_seconds): (u64, u64)) -> Self {
        let scratch = Scratch::for_test().await;
        let writer = Writer::connect(&scratch.url()).await.unwrap();
        let log = Uuid::now_v7();
        writer.adopt_log(log).await.unwrap();
        let directory = Fold::prepare(&writer, Projection::Directory, 1).await;
        let content = Fold::prepare(&writer, Projection::Content, 4).await;
        let downloads = Fold::prepare(&writer, Projection::Downloads, 4).await;
        for fold in [&directory, &content, &downloads] {
            if filled.contains(&fold.at.projection) {
                saw_ends(&writer, &fold.at).await;
            }
        }
        let prefix = format!("q{}_", Uuid::new_v4().simple());
        let config = Config {
            postgres_reader_url: scratch.reader_url(),
            reader_connections: 4,
            clickhouse_reader_user: variable("ANNALS_TEST_CLICKHOUSE_READER_USER"),
            clickhouse_reader_password: variable("ANNALS_TEST_CLICKHOUSE_READER_PASSWORD"),
            query_cache_mib: 8,
            keys_unconfirmed_seconds,
            clickhouse_query_seconds: 20,
            export_seconds,
        };
        let dependencies = Dependencies {
            operator_key: Some(OPERATOR.to_owned()),
            clickhouse_url: variable("ANNALS_TEST_CLICKHOUSE"),
            clickhouse_prefix: prefix.clone(),
        };
        let app = App::new(&config, dependencies).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let health = service::Health::new();
        tokio::spawn(app.clone().watch(health.clone(), shutdown.clone()));
        let routes = query_api::router(app)
            .merge(query_api::docs(Vec::new()))
            .merge(health.routes());
        tokio::spawn(service::serve(
            listener,
            service::finish(routes),
            shutdown.clone(),
        ));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let position = Position::new(log);
        let stage = Self {
            url,
            client,
            writer,
            position,
            prefix,
            directory,
            content,
            downloads,
            scratch: Some(scratch),
            shutdown,
        };
        stage
            .until("the tables are heard of", async |stage| {
                stage.get("/readyz", None).await.status == 200
            })
            .await;
        stage
    }

    /// Waits for a condition, at most 10 s.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self).await {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::task::yield_now().await;
        }
    }

    /// Drops the databases of a test that has passed.
    pub(crate) async fn end(mut self) {
        self.shutdown.cancel();
        for database in ["visits_1", "content_facts_1"] {
            self.clickhouse(format!("DROP DATABASE IF EXISTS {}{database} SYNC", self.prefix))
                .await;
        }
        if let Some(scratch) = self.scratch.take() {
            scratch.erase().await.unwrap();
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            text: response.text().await.unwrap(),
        }
    }

    /// Asks without a position.
    pub(crate) async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let mut request = self.request(Method::GET, path);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        self.send(request).await
    }

    /// Asks for an answer that has everything that was written.
    pub(crate) async fn read(&self, path: &str, key: Option<&str>) -> Answer {
        self.read_at(path, key, &self.position).await
    }

    pub(crate) async fn read_at(&self, path: &str, key: Option<&str>, position: &Position) -> Answer {
        let mut request = self
            .request(Method::GET, path)
            .header("annals-position", position.to_string());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        self.send(request).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        let position = self.position.to_string();
        let request = self
            .request(Method::POST, path)
            .bearer_auth(key)
            .header("annals-position", position);
        self.send(request.json(body)).await
    }

    /// A tenant with a site and a key that may read.
    pub(crate) async fn tenant(&mut self, name: &str) -> Tenant {
        let (id, site, domain) = (Uuid::now_v7(), Uuid::now_v7(), format!("{name}.example"));
        let changes = directory::Changes {
            tenants: vec![directory::Tenant {
                tenant: id,
                name: name.to_owned(),
                created_at: time(0),
                version: 1,
            }],
            sites: vec![directory::Site {
                tenant: id,
                site,
                domain: domain.clone(),
                name: Some(name.to_owned()),
                timezone: "Europe/Berlin".to_owned(),
                created_at: time(0),
                version: 1,
            }],
            ..directory::Changes::default()
        };
        self.apply_directory(&changes).await;
        let key = self.key(id, &["read"]).await;
        Tenant {
            id,
            key,
            domain,
            site,
        }
    }

    pub(crate) async fn key(&mut self, tenant: Uuid, scopes: &[&str]) -> String {
        let key = Key::make();
        self.issue(tenant, &key, scopes).await;
        key.reveal().to_owned()
    }

    pub(crate) async fn issue(&mut self, tenant: Uuid, key: &Key, scopes: &[&str]) {
        let row = directory::Key {
            tenant,
            key: key.id().to_owned(),
            principal: Uuid::now_v7(),
            secret_hash: key.hash().to_string(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            issued_at: time(0),
            revoked_at: None,
            version: 1,
        };
        self.apply_directory(&directory::Changes {
            keys: vec![row],
            ..directory::Changes::default()
        })
        .await;
    }

    /// The directory's projector tells that its tables have everything that the log has.
    pub(crate) async fn directory_is_complete(&self) {
        let at = &self.directory.at;
        self.writer
            .saw_end(at, Instant::now(), at.next_offset)
            .await
            .unwrap();
    }

    pub(crate) async fn revoke(&mut self, tenant: Uuid, key: &str) {
        let key = key.parse::<Key>().unwrap().id().to_owned();
        let row = directory::Revoked {
            tenant,
            key,
            at: time(1),
            version: 2,
        };
        self.apply_directory(&directory::Changes {
            revoked: vec![row],
            ..directory::Changes::default()
        })
        .await;
    }

    async fn apply_directory(&mut self, changes: &directory::Changes) {
        let mut write = self.directory.tables.begin(&self.directory.at).await.unwrap();
        directory::apply(&mut write, changes).await.unwrap();
        self.directory.at = write.commit(&self.directory.further(1)).await.unwrap();
        self.position
            .include(Topic::Directory, 0, self.directory.at.next_offset);
    }

    pub(crate) async fn write(&mut self, changes: &content::Changes) {
        let mut write = self.content.tables.begin(&self.content.at).await.unwrap();
        content::apply(&mut write, changes).await.unwrap();
        self.content.at = write.commit(&self.content.further(1)).await.unwrap();
        self.position
            .include(Topic::Ledger, 0, self.content.at.next_offset);
        // The other fold of the ledger passes over what is not its own.
        let write = self.downloads.tables.begin(&self.downloads.at).await.unwrap();
        self.downloads.at = write.commit(&self.downloads.further(1)).await.unwrap();
    }

    pub(crate) async fn draft(&mut self, piece: Content) -> Content {
        let changes = content::Changes {
            inserted: vec![piece.clone()],
            ..content::Changes::default()
        };
        self.write(&changes).await;
        piece
    }

    pub(crate) async fn update(&mut self, piece: &Content) {
        let changes = content::Changes {
            updated: vec![piece.clone()],
            ..content::Changes::default()
        };
        self.write(&changes).await;
    }

    pub(crate) async fn queue(&mut self, rows: Vec<downloads::Download>) {
        let mut write = self.downloads.tables.begin(&self.downloads.at).await.unwrap();
        let changes = downloads::Changes {
            inserted: rows,
            updated: Vec::new(),
        };
        downloads::apply(&mut write, &changes).await.unwrap();
        self.downloads.at = write.commit(&self.downloads.further(1)).await.unwrap();
        self.position
            .include(Topic::Ledger, 0, self.downloads.at.next_offset);
        let write = self.content.tables.begin(&self.content.at).await.unwrap();
        self.content.at = write.commit(&self.content.further(1)).await.unwrap();
    }

    /// Tables of visits and of facts about content, empty and live.
    pub(crate) async fn with_visits(&self) -> clickhouse::Writer {
        let writer = clickhouse::Writer::new(&clickhouse::Config {
            url: variable("ANNALS_TEST_CLICKHOUSE"),
            user: variable("ANNALS_TEST_CLICKHOUSE_USER"),
            password: variable("ANNALS_TEST_CLICKHOUSE_PASSWORD"),
            prefix: self.prefix.clone(),
            limits: clickhouse::Limits::default(),
        });
        writer.create_visits(1).await.unwrap();
        writer.create_facts(1).await.unwrap();
        for projection in [Projection::Visits, Projection::ContentFacts] {
            let tables = Fold::prepare(&self.writer, projection, 4).await;
            saw_ends(&self.writer, &tables.at).await;
        }
        self.until("they answer", async |stage| {
            let ready = stage.get("/readyz", None).await.json();
            ready["checks"]["tables"]["state"] == "ok"
        })
        .await;
        writer
    }

    /// Runs a statement of ours as ClickHouse's writer.
    pub(crate) async fn clickhouse(&self, statement: String) {
        self.clickhouse_takes(&statement, &[]).await;
    }

    /// The same, with what the statement takes; what it answers.
    pub(crate) async fn clickhouse_takes(&self, statement: &str, input: &[u8]) -> String {
        let request = self
            .client
            .post(variable("ANNALS_TEST_CLICKHOUSE"))
            .header("x-clickhouse-user", variable("ANNALS_TEST_CLICKHOUSE_USER"))
            .header("x-clickhouse-key", variable("ANNALS_TEST_CLICKHOUSE_PASSWORD"))
            .body([statement.as_bytes(), b"\n", input].concat());
        let answer = self.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }

    /// Whether anyone holds a transaction in which this table was read.
    pub(crate) async fn is_being_read(&self, table: &str) -> bool {
        let refused_if_read = format!(
            "DO $$ BEGIN ASSERT NOT EXISTS (
                SELECT FROM pg_locks WHERE relation = '{table}'::regclass AND pid <> pg_backend_pid()
             ); END $$"
        );
        let scratch = self.scratch.as_ref().unwrap();
        scratch.execute(&refused_if_read).await.is_err()
    }

    /// Statements of PostgreSQL's owner, as someone might send by hand.
    pub(crate) async fn sql(&self, statements: &str) {
        self.scratch.as_ref().unwrap().execute(statements).await.unwrap();
    }
}

/// The log has no more than is in these tables: this partition, and others that are empty.
pub(crate) async fn saw_ends(writer: &Writer, at: &Checkpoint) {
    let (projection, generation) = (at.projection, at.generation);
    writer.saw_end(at, Instant::now(), at.next_offset).await.unwrap();
    for partition in 1.. {
        match writer.take_over(projection, generation, partition).await {
            Ok(other) => writer.saw_end(&other, Instant::now(), 0).await.unwrap(),
            Err(_) => break,
        }
    }
}

impl Fold {
    async fn prepare(writer: &Writer, projection: Projection, partitions: u32) -> Self {
        let generation = writer
            .prepare(projection, partitions, "test")
            .await
            .unwrap()
            .number;
        let tables = writer.tables(projection, generation, 2);
        let at = writer.take_over(projection, generation, 0).await.unwrap();
        Self { tables, at }
    }

    /// Where the checkpoint moves to after so many records.
    pub(crate) const fn further(&self, records: u64) -> Advance {
        let next_offset = self.at.next_offset + records;
        let (epoch, seq, hash) = (self.at.epoch, self.at.seq + records, self.at.hash);
        Advance {
            next_offset,
            epoch,
            seq,
            hash,
            log_end: next_offset,
            last_time: None,
        }
    }
}

/// A published post.
pub(crate) fn post(tenant: &Tenant, slug: &str) -> Content {
    Content {
        tenant: tenant.id,
        content: Uuid::now_v7(),
        site: tenant.site,
        kind: "post".to_owned(),
        status: "published".to_owned(),
        title: format!("About {slug}"),
        slug: slug.to_owned(),
        path: format!("/post/{slug}"),
        aliases: Vec::new(),
        body: format!("# {slug}\n\nSome *words*.\n"),
        summary: None,
        tags: vec!["all".to_owned(), slug.to_owned()],
        featured: false,
        language: Some("en".to_owned()),
        metadata: serde_json::json!({"from": "a test"}),
        published_at: Some(time(1)),
        scheduled_at: None,
        created_at: time(0),
        created_by: Some(Uuid::now_v7()),
        updated_at: time(1),
        updated_by: None,
        version: 2,
    }
}

pub(crate) fn by_slug(tenant: &Tenant, slug: &str) -> String {
    format!("/api/v1/sites/{}/content/post/{slug}", tenant.domain)
}
