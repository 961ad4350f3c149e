//! The engines that `./dev test` and `./dev bench` start, as administrators see them.

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Where the engines are, and with which rights.
#[derive(Debug, Clone)]
pub struct Engines {
    /// PostgreSQL, as a superuser, on a database of no interest.
    pub postgres: String,
    /// PostgreSQL, as the role that may only SELECT, without a database.
    pub postgres_reader: String,
    /// ClickHouse's HTTP interface.
    pub clickhouse: String,
    /// User and password of who may create databases.
    pub clickhouse_writer: (String, String),
    /// User and password of who may only SELECT.
    pub clickhouse_reader: (String, String),
    /// Kafka's bootstrap servers.
    pub kafka: String,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run ./dev test or ./dev bench, which start the engines"))
}

impl Engines {
    /// As the environment says.
    ///
    /// # Errors
    /// A variable is missing.
    pub fn from_environment() -> anyhow::Result<Self> {
        let user = |role: &str| -> anyhow::Result<(String, String)> {
            Ok((
                variable(&format!("ANNALS_TEST_CLICKHOUSE{role}_USER"))?,
                variable(&format!("ANNALS_TEST_CLICKHOUSE{role}_PASSWORD"))?,
            ))
        };
        Ok(Self {
            postgres: variable("ANNALS_TEST_POSTGRES")?,
            postgres_reader: variable("ANNALS_TEST_POSTGRES_READER")?,
            clickhouse: variable("ANNALS_TEST_CLICKHOUSE")?,
            clickhouse_writer: user("")?,
            clickhouse_reader: user("_READER")?,
            kafka: variable("ANNALS_TEST_KAFKA")?,
        })
    }

    /// The superuser's URL of this database.
    pub fn postgres_database(&self, name: &str) -> String {
        let server = self
            .postgres
            .rsplit_once('/')
            .map_or(self.postgres.as_str(), |(server, _)| server);
        format!("{server}/{name}")
    }

    /// The SELECT-only role's URL of this database.
    pub fn postgres_reader_database(&self, name: &str) -> String {
        format!("{}/{name}", self.postgres_reader)
    }

    /// Makes a database whose schemas and tables, whichever come, the SELECT-only role may read.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let mut server = PgConnection::connect(&self.postgres).await?;
        server
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        let mut database = PgConnection::connect(&self.postgres_database(name)).await?;
        database
            .execute("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO annals_reader")
            .await?;
        database
            .execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO annals_reader")
            .await?;
        Ok(())
    }

    /// Removes a database, whoever is connected.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        let mut server = PgConnection::connect(&self.postgres).await?;
        server
            .execute(sqlx::AssertSqlSafe(format!(
                "DROP DATABASE IF EXISTS {name} WITH (FORCE)"
            )))
            .await?;
        Ok(())
    }

    /// Sends ClickHouse a statement as the writer and gives back its answer.
    ///
    /// # Errors
    /// ClickHouse does not answer or refuses; the text is its own.
    pub async fn clickhouse(&self, statement: &str) -> anyhow::Result<String> {
        let (user, password) = &self.clickhouse_writer;
        let request = reqwest::Client::new()
            .post(&self.clickhouse)
            .basic_auth(user, Some(password));
        let response = request.body(statement.to_owned()).send().await?;
        let status = response.status();
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "ClickHouse refused {statement:?}: {text}");
        Ok(text)
    }

    /// Removes every ClickHouse database whose name begins with this, or ends with it behind `live`.
    ///
    /// # Errors
    /// ClickHouse does not answer or refuses.
    pub async fn drop_clickhouse(&self, prefix: &str) -> anyhow::Result<()> {
        let listed = self.clickhouse("SHOW DATABASES").await?;
        for name in listed.lines().filter(|name| name.contains(prefix)) {
            self.clickhouse(&format!("DROP DATABASE IF EXISTS `{name}` SYNC"))
                .await?;
        }
        Ok(())
    }
}
