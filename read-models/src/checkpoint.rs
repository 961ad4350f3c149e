//! How far a fold has come, and who may move it.
//!
//! A write locks the checkpoint's row first and moves it last, in the transaction of its rows, and only when
//! position and fence are still what the writer believes. So a late projector can neither write nor judge. New rows of
//! ranges that follow may be inserted ahead of their turn, in transactions of their own: these take the lock when it
//! is their turn, see that all is as it should be, and only then judge and commit ([`Ahead`]).
//!
//! A little longer than a file should be: every way to hold and to move a checkpoint stands here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::sync::OwnedSemaphorePermit;

use crate::{Error, Projection, Tables, Topic, Writer, connect::waiting, transaction::Transaction};

/// A fence that stands in ClickHouse is above the one before it by at most this.
const REACH: i64 = 1_000_000;

/// The position of a fold in one partition, with the admission state there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of which projection.
    pub projection: Projection,
    /// In which generation.
    pub generation: i32,
    /// Of which partition of the projection's topic.
    pub partition: u32,
    /// The first offset that is not in the tables.
    pub next_offset: u64,
    /// Epoch of the last admitted claim.
    pub epoch: u64,
    /// Sequence number of the last admitted commit in that epoch.
    pub seq: u64,
    /// Hash of the last admitted record.
    pub hash: [u8; 32],
    /// The holder's own; an older one is refused.
    pub fence: i64,
    /// Counts what others than the holder changed of what is parked and skipped, as far as the holder knows.
    pub parking: i64,
    /// Time of the last event in the tables, or when the generation was made: what lag in seconds is counted from.
    pub since: DateTime<Utc>,
    /// The first offset that is left out for ever; none of a generation that follows the log.
    pub cut: Option<u64>,
}

/// Where a checkpoint moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The first offset that is not in the tables then.
    pub next_offset: u64,
    /// Admission state there: epoch.
    pub epoch: u64,
    /// Admission state there: sequence number.
    pub seq: u64,
    /// Admission state there: record hash.
    pub hash: [u8; 32],
    /// The log's end, as last seen.
    pub log_end: u64,
    /// Time of the last event; none leaves it as it was.
    pub last_time: Option<DateTime<Utc>>,
}

/// The database's clock, as far as this process knows it from an answer: everyone who speaks of checkpoints shares it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    said: DateTime<Utc>,
    heard: Instant,
}

impl Clock {
    /// What it showed at that moment, or earlier: the way of the answer is not counted.
    fn at(self, moment: Instant) -> DateTime<Utc> {
        let (later, earlier) = (
            moment.saturating_duration_since(self.heard),
            self.heard.saturating_duration_since(moment),
        );
        self.said + later - earlier
    }
}

/// A transaction that holds a checkpoint's lock: rows are written through it, then it is committed.
/// Dropped without that, nothing was written.
#[derive(Debug)]
pub struct Write {
    tx: Transaction,
    checkpoint: Checkpoint,
    /// Of one that began ahead of its turn.
    place: Option<OwnedSemaphorePermit>,
}

/// A transaction that writes ahead of its turn: it has no lock, so whatever goes wrong in it says nothing, and only rows
/// that are new may be written, for rows of those before it may not be there yet. [`Self::turn`] makes it a [`Write`].
#[derive(Debug)]
pub struct Ahead(Write);

impl Checkpoint {
    /// Where it will be after a write.
    #[must_use]
    pub fn after(&self, to: &Advance) -> Self {
        Self {
            next_offset: to.next_offset,
            epoch: to.epoch,
            seq: to.seq,
            hash: to.hash,
            since: to.last_time.unwrap_or(self.since),
            ..*self
        }
    }

    /// The topic that it is of.
    pub const fn topic(&self) -> Topic {
        self.projection.topic()
    }

    /// As much of an end of the log as is its business.
    pub fn end(&self, log_end: u64) -> u64 {
        self.cut.map_or(log_end, |cut| cut.min(log_end))
    }

    /// The error of one who finds this fence, or no checkpoint at all. Fences only grow, so an older one means that the
    /// database is back at an older state.
    fn lost_to(&self, fence: Option<i64>) -> Error {
        if fence.is_none_or(|fence| fence > self.fence) {
            return self.fenced();
        }
        Error::WentBack {
            projection: self.projection,
            topic: self.projection.topic(),
            partition: self.partition,
        }
    }

    /// The error of one who is no longer the holder.
    pub(crate) const fn fenced(&self) -> Error {
        Error::Fenced {
            projection: self.projection,
            topic: self.projection.topic(),
            partition: self.partition,
        }
    }
}

impl Writer {
    /// Takes a partition over: raises the fence, so that whoever held it cannot write any more.
    ///
    /// # Errors
    /// [`Error::NotLive`] when the generation has no such checkpoint.
    pub async fn take_over(
        &self,
        projection: Projection,
        generation: i32,
        partition: u32,
    ) -> Result<Checkpoint, Error> {
        self.raise(projection, generation, partition, 0, 1).await
    }

    /// Takes a partition over whose fences stand in ClickHouse too: `known` is the highest there. A database that is
    /// back at an older state has forgotten fences, so the new one is above that; and it is none that anybody took who
    /// was stopped before ClickHouse knew of it, so it is above by any number.
    ///
    /// # Errors
    /// [`Error::NotLive`] when the generation has no such checkpoint.
    pub async fn take_over_above(
        &self,
        projection: Projection,
        generation: i32,
        partition: u32,
        known: u64,
    ) -> Result<Checkpoint, Error> {
        self.raise(projection, generation, partition, known.cast_signed(), REACH)
            .await
    }

    async fn raise(
        &self,
        projection: Projection,
        generation: i32,
        partition: u32,
        known: i64,
        reach: i64,
    ) -> Result<Checkpoint, Error> {
        let mut tx = self.control().begin().await?;
        // Many may have to wait for one that is frozen, and nobody else's turn is to wait for them.
        sqlx::query("SET LOCAL lock_timeout = '2s'")
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query_file!(
            "src/checkpoint/take_over.sql",
            projection.name(),
            generation,
            projection.topic().name(),
            index(partition),
            known,
            reach
        )
        .fetch_optional(&mut *tx)
        .await;
        // Before another connection is waited for: who has one of these may wait for this row.
        let row = match row {
            Ok(row) => tx.commit().await.map(|()| row),
            Err(error) => tx.rollback().await.and(Err(error)),
        };
        // Also where the checkpoint was free: one that writes ahead of its turn holds rows only, in the way of whoever
        // writes the same ones.
        let ended = sqlx::query(include_str!("checkpoint/end_frozen.sql"))
            .bind(waiting(projection, generation))
            .execute(self.hints());
        if let Err(error) = ended.await {
            tracing::debug!(%error, "whoever is frozen is not ended");
        }
        let row = row?.ok_or(Error::NotLive(projection))?;
        Ok(Checkpoint {
            projection,
            generation,
            partition,
            next_offset: row.next_offset.cast_unsigned(),
            epoch: row.epoch.cast_unsigned(),
            seq: row.seq.cast_unsigned(),
            hash: row.hash.try_into().unwrap_or_default(),
            fence: row.fence,
            parking: row.parking,
            since: row.since,
            cut: row.cut.map(i64::cast_unsigned),
        })
    }

    /// Says where the log ended, so that lag is known while nothing happens. `asked` is from before the log was
    /// asked: queries are refused by what this says, so that it must never pass for newer than it is, however long
    /// the way from the log through a process that hangs to the database.
    ///
    /// # Errors
    /// [`Error::Fenced`] when somebody else has it, [`Error::WentBack`] when nobody has.
    pub async fn saw_end(&self, at: &Checkpoint, asked: Instant, log_end: u64) -> Result<(), Error> {
        let clock = match self.clock() {
            Some(clock) => clock,
            None => {
                let now = sqlx::query_file_scalar!("src/checkpoint/now.sql");
                self.hear(now.fetch_one(self.hints()).await?)
            }
        };
        let now = sqlx::query_file_scalar!(
            "src/checkpoint/saw_end.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.fence,
            log_end.cast_signed(),
            clock.at(asked)
        )
        .fetch_optional(self.hints())
        .await?;
        if let Some(now) = now {
            self.hear(now);
            return Ok(());
        }
        let fence = sqlx::query_scalar!(
            r#"SELECT fence FROM annals.checkpoints
               WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4"#,
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition)
        );
        let fence = fence.fetch_optional(self.hints()).await?;
        Err(at.lost_to(fence))
    }

    /// Takes in what the database's clock shows.
    fn hear(&self, said: DateTime<Utc>) -> Clock {
        let clock = Clock {
            said,
            heard: Instant::now(),
        };
        self.set_clock(clock);
        clock
    }

    /// Whether whoever took a partition over has let go of it, or has said nothing for so long. Holders say something
    /// every second, if only where the log ends. False when the generation is no more.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn is_abandoned(&self, at: &Checkpoint, silence: Duration) -> Result<bool, Error> {
        let abandoned = sqlx::query_file_scalar!(
            "src/checkpoint/is_abandoned.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            silence.as_secs_f64()
        )
        .fetch_optional(self.control())
        .await?;
        Ok(abandoned.unwrap_or(false))
    }

    /// Lets go of a partition, which its holder does not write any more. Not an error when fenced off.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn release(&self, at: &Checkpoint) -> Result<(), Error> {
        sqlx::query_file!(
            "src/checkpoint/release.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.fence
        )
        .execute(self.control())
        .await?;
        Ok(())
    }

    /// Whether somebody has seen to what is parked since its holder looked last.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn parking_changed(&self, at: &Checkpoint) -> Result<bool, Error> {
        let changed = sqlx::query_file_scalar!(
            "src/checkpoint/parking_changed.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.parking
        )
        .fetch_optional(self.control())
        .await?;
        Ok(changed.unwrap_or(false))
    }

    /// Says why a fold does not go on.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn stopped(&self, at: &Checkpoint, reason: &str) -> Result<(), Error> {
        sqlx::query_file!(
            "src/checkpoint/stopped.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition),
            at.fence,
            reason
        )
        .execute(self.control())
        .await?;
        Ok(())
    }
}

impl Tables {
    /// Begins a write: locks the checkpoint's row and checks that it is still ours and where we left it. When its
    /// count of parking is another than ours, what is parked must be looked at again.
    ///
    /// # Errors
    /// [`Error::Fenced`] when somebody else has it, [`Error::WentBack`] when nobody has.
    pub async fn begin(&self, checkpoint: &Checkpoint) -> Result<Write, Error> {
        let mut tx = Transaction::begin(&self.pool).await?;
        let parking = lock(&mut tx, checkpoint).await?;
        let checkpoint = Checkpoint {
            parking,
            ..*checkpoint
        };
        Ok(Write::new(tx, checkpoint))
    }

    /// Begins a write at a checkpoint that others are still to reach. Waits while as many as may do so.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn begin_ahead(&self, checkpoint: &Checkpoint) -> Result<Ahead, Error> {
        // Never closed.
        let place = Arc::clone(&self.free).acquire_owned().await;
        let place = place.map_err(|_| Error::Unavailable(sqlx::Error::PoolClosed))?;
        let mut write = Write::new(Transaction::begin(&self.ahead).await?, *checkpoint);
        write.place = Some(place);
        Ok(Ahead(write))
    }
}

impl Ahead {
    /// To write new rows with.
    pub const fn rows(&mut self) -> &mut Write {
        &mut self.0
    }

    /// The turn has come: those before it are committed. Locks the checkpoint's row, and checks all that
    /// [`Tables::begin`] does, the count of parking too. Does not wait for the lock: whoever has it may wait for the rows
    /// that were written here.
    ///
    /// # Errors
    /// Whatever is not as expected; nothing was written then, and nothing is known: begin again, with the lock first.
    pub async fn turn(mut self) -> Result<Write, Error> {
        let at = self.0.checkpoint;
        let row = sqlx::query_file_as!(
            Locked,
            "src/checkpoint/lock_now.sql",
            at.projection.name(),
            at.generation,
            at.topic().name(),
            index(at.partition)
        )
        .fetch_optional(&mut *self.0.tx)
        .await?;
        if judge(row, &at)? != at.parking {
            return Err(at.fenced());
        }
        Ok(self.0)
    }
}

impl Write {
    pub(crate) const fn new(tx: Transaction, checkpoint: Checkpoint) -> Self {
        Self {
            tx,
            checkpoint,
            place: None,
        }
    }

    pub(crate) async fn end(self) -> Result<(), Error> {
        Ok(self.tx.commit().await?)
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// The checkpoint that this write began at.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Tries a part of the write that may be refused: what comes after can be taken back with [`Self::undo`].
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn savepoint(&mut self) -> Result<(), Error> {
        sqlx::query("SAVEPOINT part").execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Takes back what was written since the last [`Self::savepoint`].
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn undo(&mut self) -> Result<(), Error> {
        sqlx::query("ROLLBACK TO SAVEPOINT part")
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Moves the checkpoint, tells who listens, and commits: rows and checkpoint, both or neither.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the checkpoint is not ours any more; then nothing was written. After any other
    /// error the outcome may be unknown: take the partition over again and read where it stands.
    pub async fn commit(mut self, to: &Advance) -> Result<Checkpoint, Error> {
        let moved = advance(&mut self.tx, &self.checkpoint, to).await?;
        self.tx.commit().await?;
        drop(self.place);
        Ok(moved)
    }
}

/// A checkpoint's row that is locked.
struct Locked {
    next_offset: i64,
    fence: i64,
    parking: i64,
}

/// Locks a checkpoint's row for the transaction and checks position and fence. Gives its count of parking.
pub(crate) async fn lock(connection: &mut PgConnection, at: &Checkpoint) -> Result<i64, Error> {
    let row = sqlx::query_file_as!(
        Locked,
        "src/checkpoint/lock.sql",
        at.projection.name(),
        at.generation,
        at.topic().name(),
        index(at.partition)
    )
    .fetch_optional(connection)
    .await?;
    judge(row, at)
}

fn judge(row: Option<Locked>, at: &Checkpoint) -> Result<i64, Error> {
    match row {
        Some(row) if row.fence == at.fence && row.next_offset == at.next_offset.cast_signed() => {
            Ok(row.parking)
        }
        // Only the holder of a fence moves the checkpoint.
        row => Err(at.lost_to(row.map(|row| row.fence))),
    }
}

/// Moves a checkpoint within a transaction, when position and fence are still the same; notifies at commit.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    at: &Checkpoint,
    to: &Advance,
) -> Result<Checkpoint, Error> {
    let moved = sqlx::query_file!(
        "src/checkpoint/advance.sql",
        at.projection.name(),
        at.generation,
        at.topic().name(),
        index(at.partition),
        at.fence,
        at.next_offset.cast_signed(),
        to.next_offset.cast_signed(),
        to.epoch.cast_signed(),
        to.seq.cast_signed(),
        &to.hash[..],
        to.log_end.cast_signed(),
        to.last_time
    )
    .fetch_optional(connection)
    .await?;
    match moved {
        Some(_) => Ok(at.after(to)),
        None => Err(at.fenced()),
    }
}

/// A partition as its column has it; there are never more than 16,384.
pub(crate) const fn index(partition: u32) -> i32 {
    partition.cast_signed()
}
