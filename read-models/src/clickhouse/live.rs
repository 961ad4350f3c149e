//! What analysts see: views of the live generation, of the tenants that were given to whoever asks.

use clickhouse::Row;
use serde::Deserialize;

use super::{Error, Generation, Writer, database};

impl Writer {
    /// Points the analysts' views `live.events` and `live.sessions` at this generation, with the comments of
    /// its tables. A view is replaced in one step, so an analyst never finds it missing.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn show_visits(&self, generation: Generation) -> Result<(), Error> {
        let from = database(&self.prefix, "visits", generation);
        self.show("events", &format!("{from}.events"), "").await?;
        self.show("sessions", &format!("{from}.sessions"), " FINAL").await
    }

    /// Points the analysts' view `live.content` at this generation, as above.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn show_facts(&self, generation: Generation) -> Result<(), Error> {
        let from = database(&self.prefix, "content_facts", generation);
        self.show("content", &format!("{from}.facts"), " FINAL").await
    }

    /// The view has the rights of its definer, so that an analyst needs none on the table behind it, and shows the
    /// rows of the asker's tenants: `currentUser()` is who asks, also under a definer's rights.
    async fn show(&self, view: &str, table: &str, modifier: &str) -> Result<(), Error> {
        let live = live_database(&self.prefix);
        self.change(&self.client, &format!("CREATE DATABASE IF NOT EXISTS {live}"))
            .await?;
        let analysts = self.analysts().await?;
        let (database, name) = table.split_once('.').unwrap_or(("", table));
        let columns = self.commented_columns(database, name).await?;
        let comment = self.table_comment(database, name).await?;
        let statement = format!(
            "CREATE OR REPLACE VIEW {live}.{view} ({columns})\n\
             DEFINER = CURRENT_USER SQL SECURITY DEFINER\n\
             AS SELECT * FROM {table}{modifier}\n\
             WHERE tenant IN (SELECT assumeNotNull(tenant) FROM {analysts} WHERE user = currentUser() AND tenant IS NOT NULL)\n\
             OR (SELECT count() FROM {analysts} WHERE user = currentUser() AND tenant IS NULL) > 0\n\
             COMMENT {}",
            quoted(comment.trim_end_matches("; read with FINAL")),
        );
        self.change(&self.client, &statement).await
    }

    /// The table that says which tenants' rows an analyst sees. It is not a read model: people fill it.
    async fn analysts(&self) -> Result<String, Error> {
        let database = format!("{}annals", self.prefix);
        self.change(&self.client, &format!("CREATE DATABASE IF NOT EXISTS {database}"))
            .await?;
        let table = format!("{database}.analysts");
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n\
             user String COMMENT 'The user who asks.',\n\
             tenant Nullable(UUID) COMMENT 'A tenant whose rows it may see; null: every tenant.'\n\
             ) ENGINE = MergeTree ORDER BY user\n\
             COMMENT 'Which tenants'' rows a user sees through the views of live: without a row here, none.'"
        );
        self.change(&self.client, &statement).await?;
        Ok(table)
    }

    async fn commented_columns(&self, database: &str, table: &str) -> Result<String, Error> {
        #[derive(Row, Deserialize)]
        struct Column {
            name: String,
            kind: String,
            comment: String,
        }
        let asking = self
            .client
            .query_raw(
                "SELECT name, type AS kind, comment FROM system.columns \
                 WHERE database = {database:String} AND table = {table:String} ORDER BY position",
            )
            .param("database", database)
            .param("table", table)
            .fetch_all();
        let columns: Vec<Column> = self.question("the columns of a table", asking).await?;
        let columns: Vec<_> = columns
            .iter()
            .map(|column| {
                format!(
                    "{} {} COMMENT {}",
                    column.name,
                    column.kind,
                    quoted(&column.comment)
                )
            })
            .collect();
        Ok(columns.join(", "))
    }

    async fn table_comment(&self, database: &str, table: &str) -> Result<String, Error> {
        let asking = self
            .client
            .query_raw(
                "SELECT comment FROM system.tables \
                 WHERE database = {database:String} AND name = {table:String}",
            )
            .param("database", database)
            .param("table", table)
            .fetch_one();
        self.question("the comment of a table", asking).await
    }
}

/// `live`; with the prefix `test_`, `live_test`, since analysts may read databases whose name begins so.
pub(crate) fn live_database(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('_');
    if prefix.is_empty() {
        "live".to_owned()
    } else {
        format!("live_{prefix}")
    }
}

/// A text of our own (never a caller's) as a literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
