//! The engines that `./dev test` and `./dev bench` start, as administrators see them.

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Where the engines are, and with which rights.
#[derive(Debug, Clone)]
pub struct Engines {
    /// PostgreSQL, as a superuser, on a database of no interest.
    pub postgres: String,
    /// PostgreSQL, as the owner of read models, without a database.
    pub postgres_owner: String,
    /// The same, as the role that may only SELECT.
    pub postgres_reader: String,
    /// The same, as the owner of key stores.
    pub postgres_keystore: String,
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
            postgres_owner: variable("ANNALS_TEST_POSTGRES_OWNER")?,
            postgres_reader: variable("ANNALS_TEST_POSTGRES_READER")?,
            postgres_keystore: variable("ANNALS_TEST_POSTGRES_KEYSTORE")?,
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

    /// Makes a database for read models, whose schemas and tables, whichever come, the SELECT-only role may read: with
    /// the rights that `deploy/local/engines` and the image give.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.create_database_of(name, "annals").await?;
        let mut database = PgConnection::connect(&self.postgres_database(name)).await?;
        for right in ["USAGE ON SCHEMAS", "SELECT ON TABLES"] {
            let grant = format!("ALTER DEFAULT PRIVILEGES FOR ROLE annals GRANT {right} TO annals_reader");
            database.execute(sqlx::AssertSqlSafe(grant)).await?;
        }
        let admit = format!("GRANT CONNECT ON DATABASE {name} TO annals_reader");
        database.execute(sqlx::AssertSqlSafe(admit)).await?;
        Ok(())
    }

    /// Makes a database for a key store.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub async fn create_key_store(&self, name: &str) -> anyhow::Result<()> {
        self.create_database_of(name, "annals_keystore").await
    }

    async fn create_database_of(&self, name: &str, owner: &str) -> anyhow::Result<()> {
        let mut server = PgConnection::connect(&self.postgres).await?;
        for statement in [
            format!("CREATE DATABASE {name} OWNER {owner}"),
            format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC"),
        ] {
            server.execute(sqlx::AssertSqlSafe(statement)).await?;
        }
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
