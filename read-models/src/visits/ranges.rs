//! The PostgreSQL side of an insert into ClickHouse: what is about to be written is recorded, and when it is
//! known to be there the checkpoints move. Each step is one transaction that holds the checkpoints' locks and
//! takes effect only for the holder of their fences.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Advance, Checkpoint, Error, Projection, Writer,
    checkpoint::{advance, index, lock},
    parking::{Aggregate, Parked, park},
};

/// A range of one partition's offsets, with what its rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Topic without its prefix, for people.
    pub topic: String,
    /// Which partition.
    pub partition: u32,
    /// The first offset.
    pub from: u64,
    /// The first offset after it.
    pub to: u64,
    /// Under which fence it is written.
    pub fence: i64,
    /// How many rows of `events` it has.
    pub rows: u64,
    /// Their marks, summed: 16 hex digits.
    pub fingerprint: String,
    /// How many sessions it changed.
    pub sessions: u64,
    /// The log's end as last seen.
    pub log_end: u64,
    /// Time of its last event, microseconds since 1970.
    pub last_time: Option<i64>,
    /// Events in it that cannot be read.
    pub parked: Vec<Unread>,
}

/// An event that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Whose it is; nil in what an older release recorded.
    #[serde(default)]
    pub tenant: Uuid,
    /// Offset of its record.
    pub offset: u64,
    /// Place in its record, from 0; of the tenant's first that cannot be read.
    pub index: u32,
    /// Why, for people.
    pub reason: String,
}

/// An insert that was recorded and is not known to have been completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Which.
    pub insert: i64,
    /// The how manieth attempt at these rows.
    pub attempt: i32,
    /// What it covers.
    pub parts: Vec<Part>,
}

impl Part {
    fn to_advance(&self, at: &Checkpoint) -> Advance {
        Advance {
            next_offset: self.to,
            epoch: at.epoch,
            seq: at.seq,
            hash: at.hash,
            log_end: self.log_end,
            last_time: self.last_time.and_then(DateTime::from_timestamp_micros),
        }
    }

    /// An event that cannot be read says whose it is and no more that could be trusted, so it is an aggregate of its own.
    fn to_park(&self) -> Vec<Parked> {
        let parked = |unread: &Unread| Parked {
            aggregate: Aggregate {
                tenant: unread.tenant,
                subject: format!(
                    "{}/{}@{}.{}",
                    self.topic, self.partition, unread.offset, unread.index
                ),
            },
            offset: unread.offset,
            index: unread.index,
            event_type: "unreadable".to_owned(),
            reason: Some(unread.reason.clone()),
        };
        self.parked.iter().map(parked).collect()
    }
}

impl Writer {
    /// Records what is about to be inserted; gives the insert's number, which no other has.
    ///
    /// # Errors
    /// [`Error::Fenced`] when one of the checkpoints is not ours any more, or not where the range begins.
    pub async fn record_insert(
        &self,
        checkpoints: &[Checkpoint],
        attempt: i32,
        parts: &[Part],
    ) -> Result<i64, Error> {
        let Some(first) = checkpoints.first() else {
            return Err(Error::Configuration(
                "an insert covers at least one partition".to_owned(),
            ));
        };
        let mut tx = self.control().begin().await?;
        lock_all(&mut tx, checkpoints.iter()).await?;
        let rows: u64 = parts.iter().map(|part| part.rows).sum();
        let fingerprints: Vec<&str> = parts.iter().map(|part| part.fingerprint.as_str()).collect();
        let parts = serde_json::to_value(parts).map_err(unreadable)?;
        let insert = sqlx::query_file_scalar!(
            "src/visits/ranges/record.sql",
            first.projection.name(),
            first.generation,
            attempt,
            parts,
            rows.cast_signed(),
            fingerprints.join(" ")
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(insert)
    }

    /// Inserts that a predecessor, or an earlier attempt of ours, left unsettled.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn unsettled(&self, projection: Projection, generation: i32) -> Result<Vec<Unsettled>, Error> {
        let rows = sqlx::query_file!("src/visits/ranges/unsettled.sql", projection.name(), generation)
            .fetch_all(self.control())
            .await?;
        rows.into_iter()
            .map(|row| {
                let parts = serde_json::from_value(row.parts).map_err(unreadable)?;
                Ok(Unsettled {
                    insert: row.insert_id,
                    attempt: row.attempt,
                    parts,
                })
            })
            .collect()
    }

    /// Moves checkpoints to the ends of these ranges, parks what cannot be read, and forgets these inserts,
    /// completed or given up; all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Fenced`] when one of the checkpoints is not ours any more. After any other error the outcome
    /// is unknown: take the partitions over again.
    pub async fn settle(
        &self,
        projection: Projection,
        generation: i32,
        inserts: &[i64],
        moves: &[(Checkpoint, Part)],
        held: &[Checkpoint],
    ) -> Result<Vec<Checkpoint>, Error> {
        let mut tx = self.control().begin().await?;
        let mut moved = Vec::with_capacity(moves.len());
        lock_all(&mut tx, held.iter().chain(moves.iter().map(|(it, _)| it))).await?;
        for (checkpoint, part) in moves {
            let parked = part.to_park();
            if !parked.is_empty() {
                park(&mut tx, checkpoint, &parked).await?;
            }
            moved.push(advance(&mut tx, checkpoint, &part.to_advance(checkpoint)).await?);
        }
        sqlx::query_file!(
            "src/visits/ranges/forget.sql",
            projection.name(),
            generation,
            inserts
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Keeps the state of a fold at an offset that its checkpoint has reached. Nothing happens when the
    /// checkpoint is not ours any more.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn save_fold(&self, at: &Checkpoint, next_offset: u64, state: &[u8]) -> Result<(), Error> {
        sqlx::query_file!(
            "src/visits/ranges/save_fold.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.fence,
            next_offset.cast_signed(),
            state
        )
        .execute(self.control())
        .await?;
        Ok(())
    }

    /// The state of a fold as it was last kept, at an offset that the checkpoint has reached.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn saved_fold(&self, at: &Checkpoint) -> Result<Option<Vec<u8>>, Error> {
        let state = sqlx::query_file_scalar!(
            "src/visits/ranges/saved_fold.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.next_offset.cast_signed()
        )
        .fetch_optional(self.control())
        .await?;
        Ok(state)
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Configuration(format!(
        "annals.ranges holds what this release did not write: {error}"
    ))
}

/// In the order of their partitions, as everybody does: two who lock several never wait for each other.
async fn lock_all(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    checkpoints: impl Iterator<Item = &Checkpoint>,
) -> Result<(), Error> {
    let mut all: Vec<_> = checkpoints.collect();
    all.sort_unstable_by_key(|it| it.partition);
    for checkpoint in all {
        lock(tx, checkpoint).await?;
    }
    Ok(())
}
