//! A PostgreSQL database for one test or one benchmark: made, migrated, and dropped again.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::{Error, connect, migrate};

/// A database of one's own. Drop it with [`Scratch::erase`]; a test that fails leaves it for a look.
#[derive(Debug)]
pub struct Scratch {
    server: String,
    name: String,
}

impl Scratch {
    /// Makes a database on the server of this URL (a superuser's) and migrates it.
    ///
    /// # Errors
    /// A server that cannot be reached.
    pub async fn make(server_url: &str) -> Result<Self, Error> {
        let name = format!("annals_scratch_{}", Uuid::now_v7().simple());
        let mut server = PgConnection::connect_with(&connect::parse(server_url)?).await?;
        server
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        server.close().await?;
        let scratch = Self {
            server: server_url.to_owned(),
            name,
        };
        migrate(&scratch.url(), Some(&scratch.reader_url())).await?;
        Ok(scratch)
    }

    /// The one that tests use: on the server that `ANNALS_TEST_POSTGRES` names.
    ///
    /// # Panics
    /// Without that variable, and when the server cannot be reached.
    pub async fn for_test() -> Self {
        let Ok(url) = std::env::var("ANNALS_TEST_POSTGRES") else {
            panic!("ANNALS_TEST_POSTGRES is not set: run ./dev test, which starts the engines")
        };
        match Self::make(&url).await {
            Ok(scratch) => scratch,
            Err(error) => panic!("no database for this test: {error}: {error:?}"),
        }
    }

    /// As the owner.
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }

    /// As a role that may only SELECT.
    pub fn reader_url(&self) -> String {
        let (scheme, rest) = self
            .server
            .split_once("://")
            .unwrap_or(("postgres", &self.server));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        with_database(
            &format!("{scheme}://annals_scratch_reader:reader@{host}"),
            &self.name,
        )
    }

    /// Sends statements as the owner, as someone might by hand.
    ///
    /// # Errors
    /// A server that cannot be reached, or that refuses.
    pub async fn execute(&self, statements: &str) -> Result<(), Error> {
        let mut owner = PgConnection::connect_with(&connect::parse(&self.url())?).await?;
        owner.execute(AssertSqlSafe(statements.to_owned())).await?;
        Ok(())
    }

    /// How many connections projectors have to it.
    ///
    /// # Errors
    /// A server that cannot be reached.
    pub async fn connections(&self) -> Result<i64, Error> {
        let mut owner = PgConnection::connect_with(&connect::parse(&self.url())?).await?;
        let count = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'annals projectors%'";
        Ok(sqlx::query_scalar(count).fetch_one(&mut owner).await?)
    }

    /// Ends every connection to it, as a restart of the server would.
    ///
    /// # Errors
    /// A server that cannot be reached.
    pub async fn disconnect_all(&self) -> Result<(), Error> {
        let mut server = PgConnection::connect_with(&connect::parse(&self.server)?).await?;
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
            .bind(&self.name)
            .execute(&mut server)
            .await?;
        Ok(())
    }

    /// Drops it, whoever is connected.
    ///
    /// # Errors
    /// A server that cannot be reached.
    pub async fn erase(self) -> Result<(), Error> {
        let mut server = PgConnection::connect_with(&connect::parse(&self.server)?).await?;
        server
            .execute(AssertSqlSafe(format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                self.name
            )))
            .await?;
        Ok(())
    }
}

/// The URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..]
        .find('/')
        .map_or(base.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_url_is_led_to_another_database() {
        assert_eq!(
            with_database("postgres://a:b@h:1/x?k=v", "y"),
            "postgres://a:b@h:1/y?k=v"
        );
        assert_eq!(with_database("postgres://a:b@h:1", "y"), "postgres://a:b@h:1/y");
    }
}
