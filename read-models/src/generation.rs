//! Generations: tables of a projection, made from one template; one generation is live.
//!
//! [`Writer::prepare`] finds or makes the generation that this release fills: the live one when this release's fold
//! made it, else one beside it. A generation whose tables or checkpoints are incomplete is filled anew from the log
//! in its place, so whatever was deleted comes back at the next start. [`switch`] makes another one live.
//!
//! Longer than a file should be: finding and making are steps under one lock, and each relies on the others.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Executor, Postgres, Transaction};
use uuid::Uuid;

use crate::{Error, Projection, Writer, migrate::LOCK};

pub mod frozen;
pub mod indexes;
pub mod switch;

/// What was found, or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: i32,
    /// Whether it was made just now and is empty.
    pub fresh: bool,
}

/// A generation, as the control tables know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Of which projection.
    pub projection: String,
    /// Its number, from 1.
    pub generation: i32,
    /// `building`, `live`, `kept`, `freezing` or `frozen`.
    pub state: String,
    /// Which fold and tables made it.
    pub fold_hash: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when another one answers.
    pub kept_since: Option<DateTime<Utc>>,
    /// Whether the analysts' views lead to it.
    pub shown: bool,
    /// The first offsets that are not in the tables, summed over its partitions.
    pub position: i64,
    /// The log's ends as last seen, or its cuts, summed likewise.
    pub log_end: i64,
    /// Whether its tables have ever had all of the log.
    pub filled: bool,
    /// Events that are parked.
    pub parked: i64,
    /// Of one that is being built: who asked for it, or what has changed.
    pub why: Option<String>,
    /// Events a second at most.
    pub rate: Option<i32>,
    /// Whether it stays where it is.
    pub paused: bool,
    /// Why it may not become live, or be called frozen.
    pub failure: Option<String>,
    /// Of one that stays at a place in the log: what it is called.
    pub name: Option<String>,
    /// Likewise: the position or time that was asked for.
    pub until: Option<String>,
    /// That time, while its places in the log are still to be found.
    pub until_time: Option<DateTime<Utc>>,
    /// Likewise: for each partition the first offset that is left out.
    pub cuts: Vec<i64>,
    /// Rows that verification in the background has compared in its present round.
    pub compared: i64,
    /// Rows that were not what the log says, in this round or in the last one, whichever are more.
    pub differing: i64,
    /// When a slice of it was last verified.
    pub looked_at: Option<DateTime<Utc>>,
    /// Rows that were compared when it was last verified whole.
    pub whole_compared: Option<i64>,
    /// When that was.
    pub whole_at: Option<DateTime<Utc>>,
}

impl Known {
    /// Whether it is being built, to be live or to be frozen.
    pub fn is_built(&self) -> bool {
        self.state == "building" || self.state == "freezing"
    }
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

    /// What generations that this release fills are made by: its fold (`fold` names its version), and the template of
    /// the tables where they are in PostgreSQL.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn fold_hash(&self, projection: Projection, fold: &str) -> Result<String, Error> {
        let Some(template) = template(projection) else {
            return Ok(fold.to_owned());
        };
        let hash = sqlx::query_scalar!(r#"SELECT md5($1::text || $2::text) AS "hash!""#, template, fold)
            .fetch_one(self.control())
            .await?;
        Ok(hash)
    }

    /// The generation that this release fills, made when there is none. `fold` names the version of the fold: another
    /// one means that the rows would be others, and then a generation is built beside the live one, which goes on
    /// answering. Of projections in ClickHouse only what PostgreSQL holds of them is made; the caller makes the
    /// tables of a fresh one.
    ///
    /// # Errors
    /// A database that cannot be reached, or an owner that may not create schemas.
    pub async fn prepare(
        &self,
        projection: Projection,
        partitions: u32,
        fold: &str,
    ) -> Result<Generation, Error> {
        let hash = self.fold_hash(projection, fold).await?;
        let mut tx = self.begin_making().await?;
        // No switch goes on beside this: what is being built, and is erased below, might be what answers by then.
        let live = sqlx::query!(
            "SELECT generation FROM annals.live WHERE projection = $1 FOR UPDATE",
            projection.name()
        );
        live.fetch_optional(&mut *tx).await?;
        let found = find(&mut tx, projection, partitions).await?;
        frozen::mend(&mut tx, projection, &found, partitions, &hash).await?;
        let live = found.first().filter(|it| it.state == "live");
        let ours = found.iter().find(|it| it.fold_hash == hash && !it.is_cut());
        let number = match (live, ours) {
            (_, Some(ours)) if ours.is_whole() => {
                tx.commit().await?;
                return Ok(Generation {
                    number: ours.number,
                    fresh: false,
                });
            }
            (_, Some(ours)) => {
                tracing::warn!(%projection, generation = ours.number, "tables are missing or incomplete: filling them from the log");
                refill(&mut tx, projection, ours.number, partitions).await?;
                if ours.state == "live" {
                    show(&mut tx, projection, ours.number).await?;
                }
                ours.number
            }
            (None, None) => {
                let new = Making::new(&mut tx, projection, partitions, &hash).await?;
                new.make(&mut tx, "live").await?;
                new.number
            }
            (Some(live), None) => {
                let new = Making::new(&mut tx, projection, partitions, &hash).await?;
                tracing::warn!(%projection, live = live.number, generation = new.number,
                    "this release has another fold or other tables: building a generation beside the live one");
                // What another release has begun to build is of no use any more.
                for building in found.iter().filter(|it| it.state == "building") {
                    erase(&mut tx, projection, building.number).await?;
                }
                new.make(&mut tx, "building").await?;
                let why = "this release has another fold or other tables";
                new.announce(&mut tx, why, None).await?;
                new.number
            }
        };
        tx.commit().await?;
        Ok(Generation { number, fresh: true })
    }

    /// Begins to build a generation beside the live one: empty tables (of projections in ClickHouse only what
    /// PostgreSQL holds of them), checkpoints at zero. `rate` is in events a second.
    ///
    /// # Errors
    /// [`Error::Building`] when one is being built already, [`Error::NotLive`] when there is nothing to be beside.
    pub async fn begin_rebuild(
        &self,
        projection: Projection,
        partitions: u32,
        fold: &str,
        why: &str,
        rate: Option<i32>,
    ) -> Result<i32, Error> {
        let hash = self.fold_hash(projection, fold).await?;
        let mut tx = self.begin_making().await?;
        let found = find(&mut tx, projection, partitions).await?;
        if let Some(building) = found.iter().find(|it| it.state == "building") {
            return Err(Error::Building {
                projection,
                generation: building.number,
            });
        }
        if !found.iter().any(|it| it.state == "live") {
            return Err(Error::NotLive(projection));
        }
        let new = Making::new(&mut tx, projection, partitions, &hash).await?;
        new.make(&mut tx, "building").await?;
        new.announce(&mut tx, why, rate).await?;
        tx.commit().await?;
        Ok(new.number)
    }

    /// Puts a generation back before its first event, in its place. Its writers are fenced off.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] when it was dropped meanwhile.
    pub async fn refill(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        let mut tx = self.begin_making().await?;
        let partitions = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM annals.checkpoints WHERE projection = $1 AND generation = $2"#,
            projection.name(),
            generation
        )
        .fetch_one(&mut *tx)
        .await?;
        if partitions == 0 {
            return Err(Error::NoGeneration {
                projection,
                generation,
            });
        }
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        refill(&mut tx, projection, generation, partitions).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whether nothing of a generation was ever written: checkpoints at zero, nothing recorded.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn is_untouched(&self, projection: Projection, generation: i32) -> Result<bool, Error> {
        let untouched = sqlx::query_scalar!(
            r#"SELECT NOT EXISTS (SELECT 1 FROM annals.checkpoints
                                  WHERE projection = $1 AND generation = $2 AND next_offset > 0)
                  AND NOT EXISTS (SELECT 1 FROM annals.ranges WHERE projection = $1 AND generation = $2) AS "it!""#,
            projection.name(),
            generation
        )
        .fetch_one(self.control())
        .await?;
        Ok(untouched)
    }

    /// Where the partitions of a generation stand; empty when there is none.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn positions(&self, projection: Projection, generation: i32) -> Result<Vec<u64>, Error> {
        let positions = sqlx::query_scalar!(
            r#"SELECT next_offset FROM annals.checkpoints WHERE projection = $1 AND generation = $2 ORDER BY "partition""#,
            projection.name(),
            generation
        )
        .fetch_all(self.control())
        .await?;
        Ok(positions.into_iter().map(i64::cast_unsigned).collect())
    }

    /// Every generation of a projection, or of all, in order.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn generations(&self, projection: Option<Projection>) -> Result<Vec<Known>, Error> {
        let name = projection.map(Projection::name);
        let rows = sqlx::query_file_as!(Known, "src/generation/list.sql", name)
            .fetch_all(self.control())
            .await?;
        Ok(rows)
    }

    /// Pauses or goes on, bounds or unbounds what is being built. Going on forgets why it failed, so that it is checked again.
    /// Absent: as it was; a rate of 0: no bound.
    ///
    /// # Errors
    /// [`Error::NotBuilding`] when none is being built.
    pub async fn steer_rebuild(
        &self,
        projection: Projection,
        generation: i32,
        paused: Option<bool>,
        rate: Option<i32>,
    ) -> Result<(), Error> {
        let done = sqlx::query!(
            "UPDATE annals.rebuilds
             SET paused = coalesce($2, paused), rate = nullif(coalesce($3, rate), 0),
                 failure = CASE WHEN $2 = false THEN NULL ELSE failure END
             WHERE projection = $1 AND generation = $4",
            projection.name(),
            paused,
            rate,
            generation
        )
        .execute(self.control())
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::NotBuilding(projection));
        }
        Ok(())
    }

    /// Says why a generation that is being built may not become live, or be called frozen.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn rebuild_failed(
        &self,
        projection: Projection,
        generation: i32,
        why: &str,
    ) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE annals.rebuilds SET failure = $3 WHERE projection = $1 AND generation = $2",
            projection.name(),
            generation,
            why
        )
        .execute(self.control())
        .await?;
        Ok(())
    }

    /// Drops a generation that is not live: what PostgreSQL holds of it. Its writers are fenced off by that.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::IsLive`], or [`Error::IsShown`].
    pub async fn erase_generation(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        let mut tx = self.begin_making().await?;
        let state = sqlx::query_scalar!(
            "SELECT state FROM annals.generations WHERE projection = $1 AND generation = $2 FOR UPDATE",
            projection.name(),
            generation
        )
        .fetch_optional(&mut *tx)
        .await?;
        let shown = sqlx::query_scalar!(
            "SELECT shown FROM annals.live WHERE projection = $1",
            projection.name()
        );
        let is_shown = shown.fetch_optional(&mut *tx).await?.flatten() == Some(generation);
        match state.as_deref() {
            None => {
                return Err(Error::NoGeneration {
                    projection,
                    generation,
                });
            }
            Some("live") => {
                return Err(Error::IsLive {
                    projection,
                    generation,
                });
            }
            Some(_) if is_shown => {
                return Err(Error::IsShown {
                    projection,
                    generation,
                });
            }
            Some(_) => erase(&mut tx, projection, generation).await?,
        }
        tx.commit().await?;
        Ok(())
    }

    /// Generations that are gone here and may still have tables in ClickHouse.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn leftovers(&self) -> Result<Vec<(Projection, i32)>, Error> {
        // (A release that does not know annals.numbers may have taken the number again.)
        let rows = sqlx::query!(
            "SELECT projection, generation FROM annals.leftovers
             WHERE (projection, generation) NOT IN (SELECT projection, generation FROM annals.generations)"
        )
        .fetch_all(self.control())
        .await?;
        let known = |row: &str| row.parse::<Projection>().ok();
        let known = rows
            .iter()
            .filter_map(|row| Some((known(&row.projection)?, row.generation)));
        Ok(known.collect())
    }

    /// Forgets one that has no tables any more.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn forget_leftover(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        sqlx::query!(
            "DELETE FROM annals.leftovers WHERE projection = $1 AND generation = $2",
            projection.name(),
            generation
        )
        .execute(self.control())
        .await?;
        Ok(())
    }

    /// Has PostgreSQL look at a generation's tables. Of tables that were filled a moment ago it knows nothing until it
    /// comes by itself, a minute later, and takes an index that leads to all rows of a site for the one of a slug.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn analyze(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        let tables = sqlx::query_scalar!(
            r#"SELECT format('%I.%I', schemaname, tablename) AS "table!" FROM pg_catalog.pg_tables WHERE schemaname = $1"#,
            projection.schema(generation)
        )
        .fetch_all(self.control())
        .await?;
        for table in tables {
            self.control()
                .execute(AssertSqlSafe(format!("ANALYZE {table}")))
                .await?;
        }
        Ok(())
    }

    /// A transaction that alone makes or drops generations.
    async fn begin_making(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let mut tx = self.control().begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK)
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }
}

/// A generation that was found.
struct Found {
    number: i32,
    state: String,
    fold_hash: String,
    /// Whether it has its checkpoints.
    placed: bool,
    /// Whether it has its tables, where they are in PostgreSQL.
    tables: bool,
}

impl Found {
    const fn is_whole(&self) -> bool {
        self.placed && self.tables
    }

    /// Whether it stays at a place in the log.
    fn is_cut(&self) -> bool {
        self.state == "freezing" || self.state == "frozen"
    }
}

/// Looks for the generations of a projection; the live one is first, then the latest.
async fn find(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    partitions: u32,
) -> Result<Vec<Found>, Error> {
    let expected: Vec<String> = template(projection)
        .into_iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let rows = sqlx::query_file!("src/generation/find.sql", projection.name(), &expected)
        .fetch_all(&mut **tx)
        .await?;
    let found = rows.into_iter().map(|row| Found {
        number: row.generation,
        state: row.state,
        fold_hash: row.fold_hash,
        placed: row.checkpoints == i64::from(partitions),
        tables: row.missing == 0,
    });
    Ok(found.collect())
}

/// A generation that is being made.
struct Making<'a> {
    projection: Projection,
    number: i32,
    partitions: u32,
    hash: &'a str,
}

impl<'a> Making<'a> {
    /// Under a number that no other one of the projection ever had.
    async fn new(
        tx: &mut Transaction<'_, Postgres>,
        projection: Projection,
        partitions: u32,
        hash: &'a str,
    ) -> Result<Self, Error> {
        let number = sqlx::query_file_scalar!("src/generation/number.sql", projection.name())
            .fetch_one(&mut **tx)
            .await?;
        Ok(Self {
            projection,
            number,
            partitions,
            hash,
        })
    }

    async fn make(&self, tx: &mut Transaction<'_, Postgres>, state: &str) -> Result<(), Error> {
        let partitions = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        sqlx::query_file!(
            "src/generation/begin.sql",
            self.projection.name(),
            self.number,
            self.hash,
            self.projection.topic().name(),
            partitions,
            state
        )
        .execute(&mut **tx)
        .await?;
        make_tables(tx, self.projection, self.number).await?;
        if state == "live" {
            sqlx::query!(
                "INSERT INTO annals.live (projection, generation) VALUES ($1, $2)",
                self.projection.name(),
                self.number
            )
            .execute(&mut **tx)
            .await?;
            show(tx, self.projection, self.number).await?;
            tell(tx, self.projection, self.number).await?;
        }
        Ok(())
    }

    async fn announce(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        why: &str,
        rate: Option<i32>,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO annals.rebuilds (projection, generation, why, rate) VALUES ($1, $2, $3, $4)",
            self.projection.name(),
            self.number,
            why,
            rate
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Empty tables in PostgreSQL, whatever was there.
async fn make_tables(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    number: i32,
) -> Result<(), Error> {
    let Some(template) = template(projection) else {
        return Ok(());
    };
    let schema = projection.schema(number);
    let make = format!(
        "SET LOCAL client_min_messages = warning;
         DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};
         SET LOCAL search_path = {schema};
         {template}
         SET LOCAL search_path = annals;"
    );
    (&mut **tx).execute(AssertSqlSafe(make)).await?;
    sqlx::query!("SELECT annals.grant_readers($1)", schema)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Tables and control rows as before the first event; whoever wrote there is fenced off.
async fn refill(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    number: i32,
    partitions: u32,
) -> Result<(), Error> {
    let (name, topic) = (projection.name(), projection.topic().name());
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    sqlx::query!(
        r#"INSERT INTO annals.checkpoints (projection, generation, topic, "partition")
           SELECT $1, $2::integer, $3, n FROM generate_series(0, $4::integer - 1) AS n
           ON CONFLICT (projection, generation, topic, "partition")
           DO UPDATE SET next_offset = 0, epoch = 0, seq = 0, hash = DEFAULT, last_time = NULL, filled = false,
                         fence = annals.checkpoints.fence + 1, updated_at = now()"#,
        name,
        number,
        topic,
        partitions
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"DELETE FROM annals.checkpoints WHERE projection = $1 AND generation = $2 AND "partition" >= $3"#,
        name,
        number,
        partitions
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM annals.parked_aggregates WHERE projection = $1 AND generation = $2",
        name,
        number
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM annals.ranges WHERE projection = $1 AND generation = $2",
        name,
        number
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM annals.fold_snapshots WHERE projection = $1 AND generation = $2",
        name,
        number
    )
    .execute(&mut **tx)
    .await?;
    make_tables(tx, projection, number).await?;
    // Whoever waits for a position looks again: checkpoints went back.
    tell(tx, projection, number).await
}

/// Removes what PostgreSQL holds of a generation.
async fn erase(tx: &mut Transaction<'_, Postgres>, projection: Projection, number: i32) -> Result<(), Error> {
    frozen::hide(tx, projection, number).await?;
    // Checkpoints, parked events and ranges go with it.
    sqlx::query!(
        "DELETE FROM annals.generations WHERE projection = $1 AND generation = $2",
        projection.name(),
        number
    )
    .execute(&mut **tx)
    .await?;
    if template(projection).is_some() {
        let drop = format!(
            "SET LOCAL client_min_messages = warning; DROP SCHEMA IF EXISTS {} CASCADE;",
            projection.schema(number)
        );
        (&mut **tx).execute(AssertSqlSafe(drop)).await?;
    } else {
        sqlx::query!(
            "INSERT INTO annals.leftovers (projection, generation) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            projection.name(),
            number
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Leads the analysts' views in PostgreSQL to a generation.
async fn show(tx: &mut Transaction<'_, Postgres>, projection: Projection, number: i32) -> Result<(), Error> {
    if template(projection).is_none() {
        return Ok(());
    }
    sqlx::query!("SELECT annals.show_live($1)", projection.schema(number))
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "UPDATE annals.live SET shown = $2 WHERE projection = $1",
        projection.name(),
        number
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Tells everyone who listens that another generation may be live.
async fn tell(tx: &mut Transaction<'_, Postgres>, projection: Projection, number: i32) -> Result<(), Error> {
    sqlx::query!(
        "SELECT pg_notify('annals_live', $1 || ' ' || $2::integer)",
        projection.name(),
        number
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
