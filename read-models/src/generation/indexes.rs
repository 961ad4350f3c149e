//! The indexes that only readers need. Who fills empty tables from a long log drops them first and makes them when it is
//! nearly through: then PostgreSQL sorts each once, with several processes.
//!
//! The template names them, so whoever comes next finds out which are missing, whatever happened in between.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::template;
use crate::{Error, Projection, Writer};

/// Names those who make indexes to each other.
const LOCK: i32 = 0x696e_6478;

/// What making an index may take, in PostgreSQL's words: GIN wants 32 MB for each process that takes part.
const MEMORY: &str = "256MB";

/// Indexes that who fills the tables asks, too (`content/redirect.sql`): they are there from the beginning.
const NEEDED: [&str; 1] = ["content_by_slug"];

/// Names and definitions; each has a line of its own.
fn indexes(projection: Projection) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = template(projection).unwrap_or_default().lines();
    lines
        .filter_map(|line| {
            let definition = line.strip_prefix("CREATE INDEX ")?.strip_suffix(';')?;
            Some((definition.split_whitespace().next()?, definition))
        })
        .filter(|(name, _)| !NEEDED.contains(name))
}

/// How many indexes a generation of a projection has beside those of its keys.
pub fn count(projection: Projection) -> usize {
    indexes(projection).count()
}

impl Writer {
    /// Drops the indexes of a generation, if it holds nothing yet: another projector may be filling it.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn index_later(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        let mut tx = self.control().begin().await?;
        // Nobody writes meanwhile.
        let reached = sqlx::query_scalar!(
            r#"SELECT next_offset FROM annals.checkpoints WHERE projection = $1 AND generation = $2
               ORDER BY "partition" FOR UPDATE"#,
            projection.name(),
            generation
        )
        .fetch_all(&mut *tx)
        .await?;
        if reached.iter().all(|offset| *offset == 0) {
            drop_all(&mut tx, projection, generation).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Drops the indexes of a generation.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn drop_indexes(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        let mut connection = self.control().acquire().await?;
        drop_all(&mut connection, projection, generation).await
    }

    /// Whether a generation has all its indexes.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn is_indexed(&self, projection: Projection, generation: i32) -> Result<bool, Error> {
        let names: Vec<&str> = indexes(projection).map(|(name, _)| name).collect();
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_indexes WHERE schemaname = $1 AND indexname = ANY($2)",
        )
        .bind(projection.schema(generation))
        .bind(&names)
        .fetch_one(self.control())
        .await?;
        Ok(usize::try_from(found).is_ok_and(|found| found == names.len()))
    }

    /// Makes the indexes that a generation lacks, each with up to so many processes of PostgreSQL; writers of the
    /// generation wait meanwhile. Does nothing where somebody else is at it.
    ///
    /// # Errors
    /// A database that cannot be reached, or that stops it.
    pub async fn make_indexes(
        &self,
        projection: Projection,
        generation: i32,
        processes: u8,
    ) -> Result<(), Error> {
        let schema = projection.schema(generation);
        // A connection of its own: its settings are no others', and it may take a while.
        let options = self.options().clone().options([
            ("search_path", schema.as_str()),
            ("maintenance_work_mem", MEMORY),
            (
                "max_parallel_maintenance_workers",
                &processes.saturating_sub(1).to_string(),
            ),
            ("statement_timeout", "0"),
        ]);
        let mut connection = options.connect().await?;
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(LOCK)
            .bind(&schema)
            .fetch_one(&mut connection)
            .await?;
        if free {
            for (_, definition) in indexes(projection) {
                let statement = format!("CREATE INDEX IF NOT EXISTS {definition}");
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await?;
            }
        }
        connection.close().await?;
        Ok(())
    }
}

async fn drop_all(
    connection: &mut PgConnection,
    projection: Projection,
    generation: i32,
) -> Result<(), Error> {
    let schema = projection.schema(generation);
    for (name, _) in indexes(projection) {
        let statement = format!("DROP INDEX IF EXISTS {schema}.{name}");
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_of_a_template_is_found() {
        for projection in Projection::ALL {
            let text = template(projection).unwrap_or_default();
            let needed = NEEDED.iter().filter(|name| text.contains(**name)).count();
            assert_eq!(
                count(projection) + needed,
                text.matches("INDEX ").count(),
                "{projection}"
            );
        }
        let names: Vec<_> = indexes(Projection::Downloads).map(|(name, _)| name).collect();
        assert_eq!(names, ["downloads_in_queue", "downloads_by_queueing"]);
    }
}
