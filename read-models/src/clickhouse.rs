//! ClickHouse: who connects, and which database holds which generation.
//!
//! Reading order: this file, `live.rs` (what analysts see), [`native`] (rows as they are sent), then the tables: [`crate::visits`] (its
//! writer is `visits/store.rs`) and [`crate::facts`].
//!
//! A little longer than a file should be: every way to ClickHouse has its limits here.

mod live;
pub mod native;
pub mod scratch;

use std::{future::Future, time::Duration};

use clickhouse::{Client, Compression};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};

/// What a statement of ours could come back with.
pub type Error = clickhouse::error::Error;

/// A database is dropped again so many times when a table appears in it meanwhile (code 219, "Try again"): of a
/// predecessor that died while it made them, whose last statement was still on its way.
const DROPS: usize = 5;

/// One generation of a projection has a database of its own, named after both.
pub type Generation = i32;

/// The tables of one generation of `visits`; a change of this text makes a new generation.
pub const VISITS_TABLES: &str = include_str!("../migrations/clickhouse/visits/0001_tables.sql");

/// The table of one generation of `content_facts`, likewise.
pub const FACTS_TABLES: &str = include_str!("../migrations/clickhouse/content_facts/0001_tables.sql");

/// Where ClickHouse listens and who we are there.
#[derive(Clone)]
pub struct Config {
    /// HTTP interface, such as `http://127.0.0.1:8123`.
    pub url: String,
    /// The writer may create databases and insert; the reader may only SELECT.
    pub user: String,
    /// Of that user.
    pub password: String,
    /// Goes before every database's name (and behind `live`); empty unless installations share a server.
    pub prefix: String,
    /// How long it may take.
    pub limits: Limits,
}

/// How long ClickHouse may take: whoever gives up asks again, and a request or a projection never hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A question, until its last row is read.
    pub query: Duration,
    /// An insert, a deletion, the making or dropping of tables.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(30),
            write: Duration::from_secs(120),
        }
    }
}

/// A question takes at most so much of the engine's memory, and sorts and groups on its disk beyond the second.
const QUERY_BYTES: u64 = 1 << 30;
const SPILLED_BYTES: u64 = 256 << 20;

/// An answer has at most so many bytes in the engine's memory: who asked keeps all of it.
pub const RESULT_BYTES: u64 = 64 << 20;

/// Whether an answer would have had more than [`RESULT_BYTES`].
pub fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::BadResponse(text) if text.contains("TOO_MANY_ROWS_OR_BYTES"))
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// After so long an idle connection is probed; after so long it is closed (ClickHouse closes its own after 3 s).
const KEEPALIVE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(2);

/// A call that was given up. What it asked for may have been done, or may be done yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ClickHouse did not answer {what} within {} s", limit.as_secs_f64())]
pub struct TookTooLong {
    what: String,
    limit: Duration,
}

/// Waits for the answer to a call, at most this long.
pub(crate) async fn within<T>(
    limit: Duration,
    what: impl FnOnce() -> String,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Other(Box::new(TookTooLong { what: what(), limit }))),
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A connection that may create, insert, delete: projectors only.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    prefix: String,
    limits: Limits,
}

/// A connection that may only SELECT: query-api only.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    prefix: String,
    limits: Limits,
}

/// Rows travel on the loopback or a fast network, and compressing them costs more than sending them.
fn client(config: &Config) -> Client {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    let http = Http::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    Client::with_http_client(http)
        .with_url(&config.url)
        .with_user(&config.user)
        .with_password(&config.password)
        .with_compression(Compression::None)
        .with_validation(false)
}

impl Reader {
    /// A reader; nothing is sent yet. The engine ends what takes too long, or what nobody waits for any more, by itself.
    pub fn new(config: &Config) -> Self {
        let seconds = config.limits.query.as_secs().max(1);
        Self {
            client: client(config)
                .with_setting("max_execution_time", seconds.to_string())
                .with_setting("timeout_overflow_mode", "throw")
                .with_setting("cancel_http_readonly_queries_on_client_close", "1")
                .with_setting("max_memory_usage", QUERY_BYTES.to_string())
                .with_setting("max_result_bytes", RESULT_BYTES.to_string())
                .with_setting("result_overflow_mode", "throw")
                .with_setting("max_bytes_before_external_group_by", SPILLED_BYTES.to_string())
                .with_setting("max_bytes_before_external_sort", SPILLED_BYTES.to_string()),
            prefix: config.prefix.clone(),
            limits: config.limits,
        }
    }

    /// Puts a question, which may take so long as a question may.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.limits.query, || what.to_owned(), call).await
    }

    /// The tables of one generation of `visits`.
    pub fn visits(&self, generation: Generation) -> Client {
        self.client
            .clone()
            .with_database(database(&self.prefix, "visits", generation))
    }

    /// The table of one generation of `content_facts`.
    pub(crate) fn facts(&self, generation: Generation) -> Client {
        self.client.clone().with_database(self.facts_database(generation))
    }

    /// The name of the database of one generation of `content_facts`.
    pub(crate) fn facts_database(&self, generation: Generation) -> String {
        database(&self.prefix, "content_facts", generation)
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.ask("a ping", self.client.query("SELECT 1").execute()).await
    }
}

impl Writer {
    /// A writer; nothing is sent yet.
    pub fn new(config: &Config) -> Self {
        // Asynchronous inserts are on by default since 26.3; a checkpoint needs rows that are in the table.
        let client = client(config).with_setting("async_insert", "0");
        Self {
            client,
            prefix: config.prefix.clone(),
            limits: config.limits,
        }
    }

    /// How long things may take.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// How long it may take at most to read what is there and to write what follows.
    pub fn longest(&self) -> Duration {
        self.limits.query + self.limits.write
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.question("a ping", self.client.query("SELECT 1").execute())
            .await
    }

    async fn question<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.limits.query, || what.to_owned(), call).await
    }

    /// A statement that changes something; the error quotes how it begins.
    async fn change(&self, client: &Client, statement: &str) -> Result<(), Error> {
        let what = || {
            format!(
                "`{}`",
                statement.trim_start().chars().take(80).collect::<String>()
            )
        };
        within(self.limits.write, what, client.query_raw(statement).execute()).await
    }

    /// The tables of one generation of `visits`.
    pub(crate) fn visits(&self, generation: Generation) -> Client {
        self.client
            .clone()
            .with_database(database(&self.prefix, "visits", generation))
    }

    /// The tables of one generation of `content_facts`.
    pub(crate) fn facts(&self, generation: Generation) -> Client {
        self.client
            .clone()
            .with_database(database(&self.prefix, "content_facts", generation))
    }

    /// Makes database and tables of one generation of `visits`; what is there stays.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn create_visits(&self, generation: Generation) -> Result<(), Error> {
        self.create(&database(&self.prefix, "visits", generation), VISITS_TABLES)
            .await
    }

    /// Makes database and tables of one generation of `content_facts`; what is there stays.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn create_facts(&self, generation: Generation) -> Result<(), Error> {
        self.create(&database(&self.prefix, "content_facts", generation), FACTS_TABLES)
            .await
    }

    /// Removes one generation of a projection, as when a rebuild was given up.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn drop_generation(&self, projection: &str, generation: Generation) -> Result<(), Error> {
        let name = database(&self.prefix, projection, generation);
        let statement = format!("DROP DATABASE IF EXISTS {name} SYNC");
        for _ in 0..DROPS {
            match self.change(&self.client, &statement).await {
                Err(error) if error.to_string().contains("Code: 219") => {}
                outcome => return outcome,
            }
        }
        self.change(&self.client, &statement).await
    }

    async fn create(&self, database: &str, tables: &str) -> Result<(), Error> {
        self.change(&self.client, &format!("CREATE DATABASE IF NOT EXISTS {database}"))
            .await?;
        let client = self.client.clone().with_database(database);
        for statement in statements(tables) {
            self.change(&client, statement).await?;
        }
        Ok(())
    }

    /// Whether one generation of `visits` has all its tables.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn has_visits(&self, generation: Generation) -> Result<bool, Error> {
        self.has(
            &database(&self.prefix, "visits", generation),
            &["events", "sessions", "fences"],
        )
        .await
    }

    /// When the events of one generation of `visits` are not protected from an insert that arrives twice: the
    /// statement that protects them again.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn not_deduplicating(&self, generation: Generation) -> Result<Option<String>, Error> {
        let database = database(&self.prefix, "visits", generation);
        let asking = self
            .client
            .query_raw(
                "SELECT extract(engine_full, 'non_replicated_deduplication_window = ([1-9][0-9]*)') \
                 FROM system.tables WHERE database = {database:String} AND name = 'events'",
            )
            .param("database", &database)
            .fetch_one::<String>();
        let window = self.question("the settings of a table", asking).await?;
        Ok(window.is_empty().then(|| {
            format!("ALTER TABLE {database}.events MODIFY SETTING non_replicated_deduplication_window = 1000")
        }))
    }

    /// Whether one generation of `content_facts` has its table.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn has_facts(&self, generation: Generation) -> Result<bool, Error> {
        self.has(&database(&self.prefix, "content_facts", generation), &["facts"])
            .await
    }

    async fn has(&self, database: &str, tables: &[&str]) -> Result<bool, Error> {
        let asking = self
            .client
            .query_raw(
                "SELECT count() FROM system.tables \
                 WHERE database = {database:String} AND has({tables:Array(String)}, name)",
            )
            .param("database", database)
            .param("tables", tables)
            .fetch_one();
        let found: u64 = self.question("which tables there are", asking).await?;
        Ok(found == tables.len() as u64)
    }
}

/// `visits_1`; with the prefix `test_`, `test_visits_1`.
pub(crate) fn database(prefix: &str, projection: &str, generation: Generation) -> String {
    format!("{prefix}{projection}_{generation}")
}

/// The statements of a migration: each ends with a semicolon at the end of a line.
fn statements(migration: &str) -> impl Iterator<Item = &str> {
    migration.split(";\n").filter(|statement| {
        statement
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
    })
}

/// Whether the engine refused because a newer owner has written its fence: the insert did not take place.
pub(crate) fn is_fenced(error: &Error) -> bool {
    error.to_string().contains("Code: 395")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever listens and never answers, with a short patience for it.
    async fn silent() -> (tokio::net::TcpListener, Config) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            url: format!("http://{}", listener.local_addr().unwrap()),
            user: String::new(),
            password: String::new(),
            prefix: String::new(),
            limits: Limits {
                query: Duration::from_millis(50),
                write: Duration::from_millis(50),
            },
        };
        (listener, config)
    }

    #[tokio::test]
    async fn what_is_not_answered_is_given_up_and_the_error_says_what() {
        let (_listener, config) = silent().await;
        let asked = Reader::new(&config).ping().await.unwrap_err().to_string();
        assert!(asked.contains("a ping within 0.05 s"), "{asked}");
        let written = Writer::new(&config)
            .create_visits(7)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            written.contains("`CREATE DATABASE IF NOT EXISTS visits_7`"),
            "{written}"
        );
    }

    #[tokio::test]
    async fn an_insert_that_is_not_answered_has_an_unknown_outcome() {
        use crate::visits::store::{Insert, InsertError};
        let (_listener, config) = silent().await;
        let insert = Insert {
            token: "t".to_owned(),
            fences: vec![(0, 1)],
        };
        let store = Writer::new(&config).visits_store(1);
        match store.insert_events(&insert, vec![vec![0; 10]]).await {
            Err(InsertError::Unknown(error)) => {
                assert!(
                    error.to_string().contains("an insert into events of visits_1"),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
