//! ClickHouse databases for one test or one measurement: a prefix of their own on an engine that others share.

use uuid::Uuid;

use super::{
    Config, Error, Limits, Reader, Writer,
    live::{frozen_database, live_database},
};

/// Databases of one's own. Drop them with [`Scratch::erase`]; a test that fails leaves them for a look.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// As the writer.
    pub writer: Config,
    /// As the user that may only SELECT.
    pub reader: Config,
    /// As an analyst, who sees `live` only.
    pub analyst: Config,
}

impl Scratch {
    /// On the engine, and as the users, that `ANNALS_TEST_CLICKHOUSE` and its companions name.
    ///
    /// # Panics
    /// Without those variables.
    pub fn for_test() -> Self {
        let variable = |name: &str| match std::env::var(name) {
            Ok(value) => value,
            Err(_) => panic!("{name} is not set: run ./dev test, which starts the engines"),
        };
        let prefix = format!("scratch_{}_", Uuid::now_v7().simple());
        let user = |role: &str| Config {
            url: variable("ANNALS_TEST_CLICKHOUSE"),
            user: variable(&format!("ANNALS_TEST_CLICKHOUSE{role}_USER")),
            password: variable(&format!("ANNALS_TEST_CLICKHOUSE{role}_PASSWORD")),
            prefix: prefix.clone(),
            limits: Limits::default(),
        };
        Self {
            writer: user(""),
            reader: user("_READER"),
            analyst: user("_ANALYST"),
        }
    }

    /// As the writer.
    pub fn writer(&self) -> Writer {
        Writer::new(&self.writer)
    }

    /// As the reader.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.reader)
    }

    /// What analysts see, for asking as one.
    pub fn live(&self) -> clickhouse::Client {
        super::client(&self.analyst).with_database(live_database(&self.analyst.prefix))
    }

    /// What analysts see of a frozen generation, likewise.
    pub fn frozen(&self, name: &str) -> clickhouse::Client {
        super::client(&self.analyst).with_database(frozen_database(&self.analyst.prefix, name))
    }

    /// Sends a statement as the writer, as someone might by hand.
    ///
    /// # Errors
    /// When the engine does not answer or refuses.
    pub async fn execute(&self, statement: &str) -> Result<(), Error> {
        super::client(&self.writer).query_raw(statement).execute().await
    }

    /// Drops every database with this prefix.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn erase(&self) -> Result<(), Error> {
        let client = super::client(&self.writer);
        let names: Vec<String> = client
            .query_raw("SELECT name FROM system.databases WHERE startsWith(name, {prefix:String}) OR endsWith(name, {suffix:String})")
            .param("prefix", &self.writer.prefix)
            .param("suffix", frozen_database(&self.writer.prefix, ""))
            .fetch_all()
            .await?;
        for name in names {
            client
                .query_raw(&format!("DROP DATABASE IF EXISTS {name} SYNC"))
                .execute()
                .await?;
        }
        Ok(())
    }
}
