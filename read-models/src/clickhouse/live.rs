//! What analysts see: views of the live generation, or of one that is frozen, of the tenants that were given to
//! whoever asks.

use clickhouse::Row;
use serde::Deserialize;

use super::{Error, Generation, Writer, database};
use crate::Projection;

impl Writer {
    /// Points the analysts' views `live.events` and `live.sessions` at this generation, with the comments of
    /// its tables. A view is replaced in one step, so an analyst never finds it missing.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn show_visits(&self, generation: Generation) -> Result<(), Error> {
        self.show_all(&live_database(&self.prefix), Projection::Visits, generation)
            .await
    }

    /// Points the analysts' view `live.content` at this generation, as above.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn show_facts(&self, generation: Generation) -> Result<(), Error> {
        self.show_all(&live_database(&self.prefix), Projection::ContentFacts, generation)
            .await
    }

    /// The same views of a frozen generation, in the database that is called as it is.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn show_frozen(
        &self,
        projection: Projection,
        generation: Generation,
        name: &str,
    ) -> Result<(), Error> {
        self.show_all(&frozen_database(&self.prefix, name), projection, generation)
            .await
    }

    /// Removes the views of a frozen generation. Before its tables are dropped: another generation may get its number.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub async fn hide_frozen(&self, name: &str) -> Result<(), Error> {
        let database = frozen_database(&self.prefix, name);
        self.change(&self.client, &format!("DROP DATABASE IF EXISTS {database} SYNC"))
            .await
    }

    /// Whether there is a database that is called so already.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn has_frozen(&self, name: &str) -> Result<bool, Error> {
        let asking = self
            .client
            .query_raw("SELECT count() FROM system.databases WHERE name = {name:String}")
            .param("name", frozen_database(&self.prefix, name))
            .fetch_one();
        let found: u64 = self.question("which databases there are", asking).await?;
        Ok(found > 0)
    }

    async fn show_all(
        &self,
        into: &str,
        projection: Projection,
        generation: Generation,
    ) -> Result<(), Error> {
        let views: &[(&str, &str, &str)] = match projection {
            Projection::Visits => &[("events", "events", ""), ("sessions", "sessions", " FINAL")],
            Projection::ContentFacts => &[("content", "facts", " FINAL")],
            Projection::Directory | Projection::Content | Projection::Downloads => &[],
        };
        let from = database(&self.prefix, projection.name(), generation);
        for (view, table, modifier) in views {
            self.show(into, view, &format!("{from}.{table}"), modifier)
                .await?;
        }
        Ok(())
    }

    /// The view has the rights of its definer, so that an analyst needs none on the table behind it, and shows the
    /// rows of the asker's tenants: `currentUser()` is who asks, also under a definer's rights.
    ///
    /// PREWHERE, because the engine moves what is asked of a view into its WHERE, and in front: `throwIf(…)`, or an
    /// error that quotes a value, would then see the rows of others. Nothing comes before a PREWHERE that is written out,
    /// unless settings allow it; those are no analyst's to change (`enable_analyzer`, `additional_table_filters`).
    async fn show(&self, into: &str, view: &str, table: &str, modifier: &str) -> Result<(), Error> {
        self.change(&self.client, &format!("CREATE DATABASE IF NOT EXISTS {into}"))
            .await?;
        let analysts = self.analysts().await?;
        let before = self.definition(into, view).await?;
        if let Some((engine, _)) = before.as_ref().filter(|(engine, _)| engine != "View") {
            let text = format!(
                "{into}.{view} is a table ({engine}) that somebody made there: rename it, so that the view of this name can be made"
            );
            return Err(Error::Custom(text));
        }
        let (database, name) = table.split_once('.').unwrap_or(("", table));
        let columns = self.commented_columns(database, name).await?;
        let comment = self.table_comment(database, name).await?;
        let statement = format!(
            "CREATE OR REPLACE VIEW {into}.{view} ({columns})\n\
             DEFINER = CURRENT_USER SQL SECURITY DEFINER\n\
             AS SELECT * FROM {table}{modifier}\n\
             PREWHERE tenant IN (SELECT assumeNotNull(tenant) FROM {analysts} WHERE user = currentUser() AND tenant IS NOT NULL)\n\
             OR (SELECT count() FROM {analysts} WHERE user = currentUser() AND tenant IS NULL) > 0\n\
             COMMENT {}",
            quoted(comment.trim_end_matches("; read with FINAL")),
        );
        self.change(&self.client, &statement).await?;
        let after = self.definition(into, view).await?;
        if before.is_some() && before != after {
            tracing::info!(
                view = format!("{into}.{view}"),
                "a view of another generation, or one that somebody had replaced, was made anew"
            );
        }
        Ok(())
    }

    /// What stands under a name: its engine and how it is made.
    async fn definition(&self, database: &str, name: &str) -> Result<Option<(String, String)>, Error> {
        let asking = self
            .client
            .query_raw(
                "SELECT engine, create_table_query FROM system.tables \
                 WHERE database = {database:String} AND name = {name:String}",
            )
            .param("database", database)
            .param("name", name)
            .fetch_optional();
        self.question("the definition of a view", asking).await
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

/// `visits_at`; with the prefix `test_`, `visits_at_test`, since analysts may read databases whose name begins so.
pub(crate) fn frozen_database(prefix: &str, name: &str) -> String {
    let prefix = prefix.trim_end_matches('_');
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{name}_{prefix}")
    }
}

/// A text of our own (never a caller's) as a literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
