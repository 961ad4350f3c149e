//! What operators see of parked events, and what they do about them: under the lock of a checkpoint, in place of
//! its holder, who looks again when it finds that something was changed.
//!
//! A little longer than a file should be: list, retry and skip keep the same rows.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Aggregate, Parked};
use crate::{
    Checkpoint, Error, Projection, Reader, Tables, Write, Writer, checkpoint::index, transaction::Transaction,
};

/// A parked aggregate as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Name of the projection.
    pub projection: String,
    /// The generation, which is live.
    pub generation: i32,
    /// Whose it is; nil where nobody can tell.
    pub tenant: Uuid,
    /// Its id as text.
    pub subject: String,
    /// Topic of its events.
    pub topic: String,
    /// Partition of its events.
    pub partition: i32,
    /// Offset of the event that cannot be projected.
    pub since: i64,
    /// Why it cannot.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was parked.
    pub parked_at: DateTime<Utc>,
    /// When it was tried last.
    pub tried_at: DateTime<Utc>,
    /// Events that wait, that one included.
    pub events: i64,
    /// Place in its record of the event that cannot be projected.
    pub event_index: i32,
    /// Its name on the wire.
    pub event_type: String,
}

/// Of which aggregates it is shown what is parked, or was passed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    /// Of this tenant only.
    pub tenant: Option<Uuid>,
    /// Of this projection only.
    pub projection: Option<Projection>,
    /// This aggregate only.
    pub subject: Option<&'a str>,
}

/// A generation in which an aggregate is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedIn {
    /// Which generation.
    pub generation: i32,
    /// Which fold fills it.
    pub fold_hash: String,
    /// Whose aggregate it is.
    pub tenant: Uuid,
    /// Partition of its events.
    pub partition: i32,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Offset of its record.
    pub offset: i64,
    /// Place in its record, from 0.
    pub event_index: i32,
    /// Its name on the wire.
    pub event_type: String,
}

/// Who lets an event be passed over.
#[derive(Debug, Clone, Copy)]
pub struct Skip<'a> {
    /// The public half of a key.
    pub by: &'a str,
    /// In that person's words.
    pub why: &'a str,
    /// The event that person looked at, which is to be the first that waits: offset and place in its record.
    pub event: Option<(u64, u32)>,
}

/// What is parked in live generations, the latest first.
///
/// # Errors
/// A database that cannot be reached.
pub async fn list(reader: &Reader, which: Which<'_>, size: u32, skip: i64) -> Result<Vec<Shown>, Error> {
    let rows = sqlx::query_file_as!(
        Shown,
        "src/parking/list.sql",
        which.tenant,
        which.projection.map(Projection::name),
        which.subject,
        i64::from(size),
        skip
    )
    .fetch_all(reader.control())
    .await?;
    Ok(rows)
}

/// How many aggregates that are.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count(reader: &Reader, which: Which<'_>) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM annals.parked_aggregates a JOIN annals.live l USING (projection, generation)
           WHERE ($1::uuid IS NULL OR a.tenant = $1) AND ($2::text IS NULL OR a.projection = $2)
             AND ($3::text IS NULL OR a.subject = $3)"#,
        which.tenant,
        which.projection.map(Projection::name),
        which.subject
    )
    .fetch_one(reader.control())
    .await?;
    Ok(count)
}

/// The first events of an aggregate that wait, in the order of the log.
///
/// # Errors
/// A database that cannot be reached.
pub async fn waiting(reader: &Reader, of: &Shown, most: i64) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query_as!(
        Waiting,
        r#"SELECT "offset", event_index, event_type FROM annals.parked
           WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4
           ORDER BY "offset", event_index LIMIT $5"#,
        of.projection,
        of.generation,
        of.tenant,
        of.subject,
        most
    )
    .fetch_all(reader.control())
    .await?;
    Ok(rows)
}

impl Writer {
    /// In which generations an aggregate is parked, the live one first. The tenant may be left out: ids are unique.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn parked_in(
        &self,
        projection: Projection,
        subject: &str,
        tenant: Option<Uuid>,
    ) -> Result<Vec<ParkedIn>, Error> {
        let rows = sqlx::query_as!(
            ParkedIn,
            r#"SELECT a.generation, g.fold_hash, a.tenant, a."partition"
               FROM annals.parked_aggregates a JOIN annals.generations g USING (projection, generation)
               WHERE a.projection = $1 AND a.subject = $2 AND ($3::uuid IS NULL OR a.tenant = $3)
               ORDER BY g.state = 'live' DESC, a.generation"#,
            projection.name(),
            subject,
            tenant
        )
        .fetch_all(self.control())
        .await?;
        Ok(rows)
    }

    /// Events of a partition that a projection passes over: offset and place in the record.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn skipped(&self, at: &Checkpoint) -> Result<HashSet<(u64, u32)>, Error> {
        let mut connection = self.control().acquire().await?;
        skipped(&mut connection, at).await
    }
}

impl Tables {
    /// Begins a write in place of the holder of a partition, who waits meanwhile and keeps its fence.
    ///
    /// # Errors
    /// [`Error::NotLive`] when the generation has no such checkpoint.
    pub async fn begin_beside(&self, partition: u32) -> Result<Write, Error> {
        let mut tx = Transaction::begin(&self.pool).await?;
        // Who is told that it is done has decided something that stands nowhere else.
        sqlx::query("SET LOCAL synchronous_commit = on")
            .execute(&mut *tx)
            .await?;
        // What is done here is told to all generations in the end: two who do it never wait for each other.
        sqlx::query!(
            r#"SELECT FROM annals.checkpoints WHERE projection = $1 AND topic = $2 AND "partition" = $3
               ORDER BY generation FOR UPDATE"#,
            self.projection.name(),
            self.projection.topic().name(),
            index(partition)
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query!(
            r#"SELECT c.next_offset, c.epoch, c.seq, c.hash, c.fence, c.parking,
                      coalesce(c.last_time, g.created_at) AS "since!", c.cut
               FROM annals.checkpoints c JOIN annals.generations g USING (projection, generation)
               WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 FOR UPDATE OF c"#,
            self.projection.name(),
            self.generation,
            self.projection.topic().name(),
            index(partition)
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(Error::NotLive(self.projection))?;
        let checkpoint = Checkpoint {
            projection: self.projection,
            generation: self.generation,
            partition,
            next_offset: row.next_offset.cast_unsigned(),
            epoch: row.epoch.cast_unsigned(),
            seq: row.seq.cast_unsigned(),
            hash: row.hash.try_into().unwrap_or_default(),
            fence: row.fence,
            parking: row.parking,
            since: row.since,
            cut: row.cut.map(i64::cast_unsigned),
        };
        Ok(Write::new(tx, checkpoint))
    }
}

impl Write {
    /// The aggregates of the partition that are parked, and how many are in the generation.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn parked(&mut self) -> Result<(Vec<Aggregate>, u64), Error> {
        let at = *self.checkpoint();
        let rows = sqlx::query_file_as!(
            Aggregate,
            "src/parking/of_partition.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition)
        )
        .fetch_all(self.connection())
        .await?;
        let all = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM annals.parked_aggregates WHERE projection = $1 AND generation = $2"#,
            at.projection.name(),
            at.generation
        )
        .fetch_one(self.connection())
        .await?;
        Ok((rows, all.cast_unsigned()))
    }

    /// Events of the partition that the projection passes over.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn skipped(&mut self) -> Result<HashSet<(u64, u32)>, Error> {
        let at = *self.checkpoint();
        skipped(self.connection(), &at).await
    }

    /// The first events of an aggregate that wait, in the order of the log, and how many there are in all.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn waiting(&mut self, aggregate: &Aggregate, most: i64) -> Result<(Vec<Waiting>, i64), Error> {
        let at = *self.checkpoint();
        let rows = sqlx::query_as!(
            Waiting,
            r#"SELECT "offset", event_index, event_type FROM annals.parked
               WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4
               ORDER BY "offset", event_index LIMIT $5"#,
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject,
            most
        )
        .fetch_all(self.connection())
        .await?;
        let all = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM annals.parked
               WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4"#,
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject
        )
        .fetch_one(self.connection())
        .await?;
        Ok((rows, all))
    }

    /// The events of an aggregate that wait behind the first so many.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn rest(&mut self, aggregate: &Aggregate, first: i64) -> Result<Vec<Parked>, Error> {
        let at = *self.checkpoint();
        let rows = sqlx::query_as!(
            Waiting,
            r#"SELECT "offset", event_index, event_type FROM annals.parked
               WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4
               ORDER BY "offset", event_index OFFSET $5"#,
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject,
            first
        )
        .fetch_all(self.connection())
        .await?;
        let parked = |row: Waiting| Parked {
            aggregate: aggregate.clone(),
            offset: row.offset.cast_unsigned(),
            index: row.event_index.cast_unsigned(),
            event_type: row.event_type,
            reason: None,
        };
        Ok(rows.into_iter().map(parked).collect())
    }

    /// Lets the first parked event of an aggregate be passed over from now on, in every generation.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn skip(&mut self, aggregate: &Aggregate, skip: Skip<'_>) -> Result<(), Error> {
        let at = *self.checkpoint();
        sqlx::query_file!(
            "src/parking/skip.sql",
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject,
            skip.by,
            skip.why
        )
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// An aggregate and what waits for it are parked no longer. How often it was tried.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn unpark(&mut self, aggregate: &Aggregate) -> Result<i32, Error> {
        let at = *self.checkpoint();
        let attempts = sqlx::query_scalar!(
            "DELETE FROM annals.parked_aggregates
             WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4 RETURNING attempts",
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject
        )
        .fetch_optional(self.connection())
        .await?;
        Ok(attempts.unwrap_or_default())
    }

    /// Says how often an aggregate that is parked again was tried.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn tried(&mut self, aggregate: &Aggregate, attempts: i32) -> Result<(), Error> {
        let at = *self.checkpoint();
        sqlx::query!(
            "UPDATE annals.parked_aggregates SET attempts = $5, tried_at = now()
             WHERE projection = $1 AND generation = $2 AND tenant = $3 AND subject = $4",
            at.projection.name(),
            at.generation,
            aggregate.tenant,
            aggregate.subject,
            attempts
        )
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Commits without moving the checkpoint, and lets the holders of this partition, in any generation, look again
    /// at what is parked and skipped.
    ///
    /// # Errors
    /// A database that cannot be reached; then nothing was written, or all of it.
    pub async fn commit_beside(mut self) -> Result<(), Error> {
        let at = *self.checkpoint();
        sqlx::query!(
            r#"UPDATE annals.checkpoints SET parking = parking + 1
               WHERE projection = $1 AND topic = $2 AND "partition" = $3"#,
            at.projection.name(),
            at.topic().name(),
            index(at.partition)
        )
        .execute(self.connection())
        .await?;
        sqlx::query!("SELECT pg_notify('annals_parked', $1)", at.projection.name())
            .execute(self.connection())
            .await?;
        self.end().await
    }
}

async fn skipped(connection: &mut sqlx::PgConnection, at: &Checkpoint) -> Result<HashSet<(u64, u32)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT "offset", event_index FROM annals.skipped WHERE projection = $1 AND topic = $2 AND "partition" = $3"#,
        at.projection.name(),
        at.topic().name(),
        index(at.partition)
    )
    .fetch_all(connection)
    .await?;
    let places = rows
        .iter()
        .map(|row| (row.offset.cast_unsigned(), row.event_index.cast_unsigned()));
    Ok(places.collect())
}
