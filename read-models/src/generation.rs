//! Generations: tables of a projection, made from one template; one generation is live.
//!
//! A generation whose tables, checkpoints or definition are not what this release expects is made anew and
//! filled from the log. So whatever was deleted, on either side, comes back at the next start.

use sqlx::{AssertSqlSafe, Executor, Postgres, Transaction};
use uuid::Uuid;

use crate::{Error, Projection, Writer, migrate::LOCK};

/// What was found, or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: i32,
    /// Whether it was made just now and is empty.
    pub fresh: bool,
}

/// The tables of a generation in PostgreSQL; a change of this text makes a new generation.
const fn template(projection: Projection) -> Option<&'static str> {
    match projection {
        Projection::Directory => Some(include_str!("../migrations/postgres/directory.sql")),
        Projection::Content => Some(include_str!("../migrations/postgres/content.sql")),
        Projection::Downloads => Some(include_str!("../migrations/postgres/downloads.sql")),
        Projection::Visits | Projection::ContentFacts => None,
    }
}

impl Writer {
    /// Makes these read models the log's own, or finds that they are.
    ///
    /// # Errors
    /// [`Error::OtherLog`], when they were made from another log.
    pub async fn adopt_log(&self, log: Uuid) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO annals.log (log_id) VALUES ($1) ON CONFLICT DO NOTHING",
            log
        )
        .execute(self.control())
        .await?;
        let found = sqlx::query_scalar!("SELECT log_id FROM annals.log")
            .fetch_one(self.control())
            .await?;
        if found == log {
            Ok(())
        } else {
            Err(Error::OtherLog { found, expected: log })
        }
    }

    /// The live generation of a PostgreSQL projection, made when it is missing or not what it should be.
    /// `fold` names the version of the fold: another one means that the rows would be others.
    ///
    /// # Errors
    /// A database that cannot be reached, or an owner that may not create schemas.
    pub async fn prepare(
        &self,
        projection: Projection,
        partitions: u32,
        fold: &str,
    ) -> Result<Generation, Error> {
        let Some(template) = template(projection) else {
            return Err(Error::Configuration(format!(
                "{projection} has no tables in PostgreSQL"
            )));
        };
        let mut tx = self.control().begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK)
            .execute(&mut *tx)
            .await?;
        let hash = sqlx::query_scalar!(r#"SELECT md5($1::text || $2::text) AS "hash!""#, template, fold)
            .fetch_one(&mut *tx)
            .await?;
        let found = find(&mut tx, projection, partitions, &hash).await?;
        let number = match found {
            Found::Intact(number) => return Ok(Generation { number, fresh: false }),
            Found::Nothing => 1,
            Found::Broken(number) => {
                tracing::warn!(%projection, generation = number, "tables are missing, incomplete or of another release: filling them from the log");
                number
            }
        };
        let schema = projection.schema(number);
        let make = format!(
            "SET LOCAL client_min_messages = warning;
             DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};
             SET LOCAL search_path = {schema};
             {template}
             SET LOCAL search_path = annals;"
        );
        (&mut *tx).execute(AssertSqlSafe(make)).await?;
        sqlx::query!("SELECT annals.grant_readers($1)", schema)
            .execute(&mut *tx)
            .await?;
        sqlx::query!("SELECT annals.show_live($1)", schema)
            .execute(&mut *tx)
            .await?;
        reset(&mut tx, projection, number, partitions, &hash).await?;
        tx.commit().await?;
        Ok(Generation { number, fresh: true })
    }

    /// The live generation of a projection whose tables are elsewhere (ClickHouse), when its control rows are
    /// complete and it was made for this fold. The caller knows whether its tables are still there.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn generation(
        &self,
        projection: Projection,
        partitions: u32,
        fold: &str,
    ) -> Result<Option<i32>, Error> {
        let mut tx = self.control().begin().await?;
        match find(&mut tx, projection, partitions, fold).await? {
            Found::Intact(number) => Ok(Some(number)),
            Found::Nothing | Found::Broken(_) => Ok(None),
        }
    }

    /// The control rows of a projection's generation as they are before its first event: live, checkpoints at
    /// zero, nothing parked, no ranges. For a projection whose (empty) tables are elsewhere.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn begin_generation(
        &self,
        projection: Projection,
        number: i32,
        partitions: u32,
        fold: &str,
    ) -> Result<(), Error> {
        let mut tx = self.control().begin().await?;
        reset(&mut tx, projection, number, partitions, fold).await?;
        tx.commit().await?;
        Ok(())
    }
}

enum Found {
    Nothing,
    Intact(i32),
    Broken(i32),
}

/// Looks for the live generation, its checkpoints and, in PostgreSQL, its tables.
async fn find(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    partitions: u32,
    hash: &str,
) -> Result<Found, Error> {
    let expected: Vec<String> = template(projection)
        .into_iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let row = sqlx::query_file!("src/generation/find.sql", projection.name(), &expected)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(match row {
        None => Found::Nothing,
        Some(row) => {
            let intact =
                row.fold_hash == hash && row.checkpoints == i64::from(partitions) && row.missing == 0;
            if intact {
                Found::Intact(row.generation)
            } else {
                Found::Broken(row.generation)
            }
        }
    })
}

/// Control rows of an empty, live generation.
async fn reset(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    number: i32,
    partitions: u32,
    hash: &str,
) -> Result<(), Error> {
    let name = projection.name();
    sqlx::query!("DELETE FROM annals.live WHERE projection = $1", name)
        .execute(&mut **tx)
        .await?;
    // Checkpoints, parked events and ranges go with it.
    sqlx::query!(
        "DELETE FROM annals.generations WHERE projection = $1 AND generation = $2",
        name,
        number
    )
    .execute(&mut **tx)
    .await?;
    let topic = projection.topic().name();
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    sqlx::query_file!("src/generation/begin.sql", name, number, hash, topic, partitions)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
