//! Parked events: an event that cannot be projected waits, with every later one of its aggregate.

use uuid::Uuid;

pub mod seen_to;
pub mod skipped;

use crate::{Checkpoint, Error, Write, Writer, checkpoint::index};

/// An aggregate whose events wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// Whose it is.
    pub tenant: Uuid,
    /// Its id as text.
    pub subject: String,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Of which aggregate.
    pub aggregate: Aggregate,
    /// Offset of its record.
    pub offset: u64,
    /// Place in its record, from 0.
    pub index: u32,
    /// Its name on the wire.
    pub event_type: String,
    /// Why it cannot be projected, for people; none when it only waits behind one that cannot.
    pub reason: Option<String>,
}

impl Writer {
    /// The aggregates of a partition that are parked.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn parked(&self, at: &Checkpoint) -> Result<Vec<Aggregate>, Error> {
        let rows = sqlx::query_file_as!(
            Aggregate,
            "src/parking/of_partition.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition)
        )
        .fetch_all(self.control())
        .await?;
        Ok(rows)
    }

    /// How many aggregates of a generation are parked.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn parked_aggregates(&self, at: &Checkpoint) -> Result<u64, Error> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM annals.parked_aggregates WHERE projection = $1 AND generation = $2"#,
            at.projection.name(),
            at.generation
        )
        .fetch_one(self.control())
        .await?;
        Ok(count.cast_unsigned())
    }
}

impl Write {
    /// Parks events, in the order of the log, in the transaction of the rows and the checkpoint.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn park(&mut self, events: &[Parked]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let at = *self.checkpoint();
        park(self.connection(), &at, events).await
    }
}

/// Parks events within any transaction that moves this checkpoint.
pub(crate) async fn park(
    connection: &mut sqlx::PgConnection,
    at: &Checkpoint,
    events: &[Parked],
) -> Result<(), Error> {
    let tenants: Vec<Uuid> = events.iter().map(|event| event.aggregate.tenant).collect();
    let subjects: Vec<String> = events
        .iter()
        .map(|event| event.aggregate.subject.clone())
        .collect();
    let offsets: Vec<i64> = events.iter().map(|event| event.offset.cast_signed()).collect();
    let indexes: Vec<i32> = events.iter().map(|event| event.index.cast_signed()).collect();
    let types: Vec<String> = events.iter().map(|event| event.event_type.clone()).collect();
    let reasons: Vec<Option<String>> = events.iter().map(|event| event.reason.clone()).collect();
    sqlx::query_file!(
        "src/parking/park.sql",
        at.projection.name(),
        at.generation,
        at.topic().name(),
        index(at.partition),
        &tenants,
        &subjects,
        &offsets,
        &indexes,
        &types,
        &reasons as &[Option<String>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
