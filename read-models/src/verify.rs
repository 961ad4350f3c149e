//! What the tables hold, to compare it: of two generations, or of a generation and a fold done again.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use crate::{Error, Tables, Writer};

/// What one table holds: rows, and a sum over the hashes of their texts. Equal tables have equal fingerprints,
/// in whatever order their rows came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many rows.
    pub rows: i64,
    /// A decimal number.
    pub sum: String,
}

/// The fingerprint of every table of a generation, by name.
///
/// # Errors
/// A database that cannot be reached.
pub async fn fingerprints(tables: &Tables) -> Result<BTreeMap<String, Fingerprint>, Error> {
    let mut found = BTreeMap::new();
    for table in names(tables).await? {
        let text = format!(
            "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} t"
        );
        let (rows, sum): (i64, String) = sqlx::query_as(AssertSqlSafe(text))
            .fetch_one(&tables.pool)
            .await?;
        found.insert(table, Fingerprint { rows, sum });
    }
    Ok(found)
}

/// Every row of every table of a generation as text, sorted: for a look at what differs.
///
/// # Errors
/// A database that cannot be reached.
pub async fn rows(tables: &Tables) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut found = BTreeMap::new();
    for table in names(tables).await? {
        let text = format!(r#"SELECT t::text COLLATE "C" AS line FROM {table} t ORDER BY line"#);
        let lines = sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_all(&tables.pool)
            .await?;
        found.insert(table, lines);
    }
    Ok(found)
}

/// Table names of our own templates: plain words, so they may stand in a statement.
async fn names(tables: &Tables) -> Result<Vec<String>, Error> {
    let schema = tables.projection.schema(tables.generation);
    let names =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename")
            .bind(schema)
            .fetch_all(&tables.pool)
            .await?;
    Ok(names)
}

impl Writer {
    /// Drops the control tables, as someone might by hand: what is known of generations and checkpoints.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn forget(&self) -> Result<(), Error> {
        sqlx::query("DROP SCHEMA IF EXISTS annals CASCADE")
            .execute(self.control())
            .await?;
        Ok(())
    }
}

impl Tables {
    /// Drops the generation's tables, as someone might by hand; the next start makes and fills them again.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn drop_all(&self) -> Result<(), Error> {
        let statement = format!(
            "DROP SCHEMA IF EXISTS {} CASCADE",
            self.projection.schema(self.generation)
        );
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await?;
        Ok(())
    }
}
