//! The sink for PostgreSQL: rows and checkpoint of one partition in one transaction.
//!
//! A batch is folded in memory first, so that each row is written once, in its last state, with a few
//! statements over sets. Where several wait, they are written [`side_by_side`]. When the tables refuse a value, the same batch is written again in halves, each behind
//! a savepoint, until the event that does not fit is alone; that one is parked and the rest goes on.

use std::{collections::HashSet, future::Future, marker::PhantomData, time::Instant};

use event_log::{Offset, Partition};
use events::Recorded;
use read_models::{Checkpoint, Error, Projection, Tables, Write, Writer, parking::Aggregate};

mod side_by_side;

use super::{
    Batch, Entry, SILENCE, Sink, SinkError,
    feed::{self, chain},
    parking::{Attempt, Parking},
};
use crate::metrics;

/// A projection into PostgreSQL: what a batch must know before it is folded, the fold, and the writing.
/// [`Fold::fold`] is the projection's pure function; everything else only moves rows.
pub trait Fold: Send + Sync + 'static {
    /// The projection.
    const PROJECTION: Projection;

    /// Changes with the meaning of the fold: another one rebuilds the tables.
    const VERSION: &'static str;

    /// What the names of the events begin with that it is made of; a bad event of another name is none of its.
    const FAMILIES: &'static [&'static str];

    /// Rows in memory: those that were loaded, and those that events have made or changed.
    type Rows: Send;

    /// Rows to be written, in their last state.
    type Changes: Send + Sync + 'static;

    /// Loads the rows that these events change.
    fn load(write: &mut Write, events: &[&Entry]) -> impl Future<Output = Result<Self::Rows, Error>> + Send;

    /// What an event changes. An event of no interest changes nothing. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Unfit`], when the event cannot follow what is there: it is parked.
    fn fold(rows: &mut Self::Rows, at: &Place, event: &Recorded) -> Result<(), Unfit>;

    /// An event is passed over because an operator said so: later ones of its aggregate must be able to follow.
    fn skip(rows: &mut Self::Rows, entry: &Entry);

    /// Takes what has changed since it was asked last.
    fn changes(rows: &mut Self::Rows) -> Self::Changes;

    /// Writes the rows that are new: they say nothing of others, which may still be on their way. Gives their number.
    fn insert(write: &mut Write, changes: &Self::Changes) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Writes what becomes of rows that are there. Gives their number.
    fn update(write: &mut Write, changes: &Self::Changes) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The tenant's own sequence number of its commit.
    pub tenant_seq: u64,
    /// Place in its commit, from 0.
    pub index: u32,
}

/// Why an event cannot be projected, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// Writes one partition of one generation.
#[derive(Debug)]
pub struct PostgresSink<F> {
    writer: Writer,
    tables: Tables,
    partition: u32,
    parking_limit: usize,
    held: Option<Held>,
    fold: PhantomData<F>,
}

/// What the holder of a partition knows.
#[derive(Debug)]
struct Held {
    checkpoint: Checkpoint,
    parking: Parking,
}

impl<F: Fold> PostgresSink<F> {
    /// A sink for one partition, in which at most so many aggregates are parked.
    pub const fn new(writer: Writer, tables: Tables, partition: u32, parking_limit: usize) -> Self {
        Self {
            writer,
            tables,
            partition,
            parking_limit,
            held: None,
            fold: PhantomData,
        }
    }

    const fn of(&self) -> (Projection, i32) {
        (F::PROJECTION, self.tables.generation())
    }
}

impl<F: Fold> Sink for PostgresSink<F> {
    fn projection(&self) -> Projection {
        F::PROJECTION
    }

    fn generation(&self) -> i32 {
        self.tables.generation()
    }

    async fn take_over(&mut self) -> Result<Vec<Checkpoint>, SinkError> {
        let checkpoint = self
            .writer
            .take_over(F::PROJECTION, self.tables.generation(), self.partition)
            .await?;
        let parked = self.writer.parked(&checkpoint).await?;
        let in_generation = self.writer.parked_aggregates(&checkpoint).await?;
        let skipped = self.writer.skipped(&checkpoint).await?;
        let parking = Parking::new(parked, in_generation, self.parking_limit, skipped);
        metrics::parked(self.of(), feed::partition(&checkpoint), parking.len());
        self.held = Some(Held { checkpoint, parking });
        Ok(vec![checkpoint])
    }

    async fn write(&mut self, batches: Vec<Batch>) -> Result<u64, SinkError> {
        let of = self.of();
        let held = self.held.as_mut().ok_or(SinkError::Fenced)?;
        let mut rows = 0;
        let mut rest = batches.as_slice();
        while let Some((batch, more)) = rest.split_first() {
            if batch.from != held.checkpoint.next_offset {
                return Err(SinkError::Fenced);
            }
            if !more.is_empty() && !held.parking.concerns_events() {
                let written = side_by_side::write::<F>(&self.tables, held, rest).await?;
                rows += written.rows;
                rest = rest.get(written.ranges..).unwrap_or_default();
                if written.ranges > 0 {
                    continue;
                }
            }
            let done = match whole::<F>(&self.tables, held, batch).await {
                Err(Failure::Tables(Error::Refused { .. })) => in_parts::<F>(&self.tables, held, batch).await,
                other => other,
            };
            let (moved, written, parked) = done?;
            held.checkpoint = moved;
            held.parking.commit(parked);
            rows += written;
            rest = more;
        }
        if let Some(batch) = batches.last() {
            metrics::parked(of, batch.partition, held.parking.len());
        }
        Ok(rows)
    }

    async fn saw_end(&mut self, partition: Partition, asked: Instant, end: Offset) -> Result<(), SinkError> {
        if let Some(held) = &self.held {
            let (next, since) = (held.checkpoint.next_offset, held.checkpoint.since);
            metrics::lag(self.of(), partition, next, end, Some(since));
            self.writer.saw_end(&held.checkpoint, asked, end).await?;
        }
        Ok(())
    }

    async fn is_abandoned(&mut self) -> Result<bool, SinkError> {
        match &self.held {
            Some(held) => Ok(self.writer.is_abandoned(&held.checkpoint, SILENCE).await?),
            None => Ok(false),
        }
    }

    async fn release(&mut self) -> Result<(), SinkError> {
        if let Some(held) = &self.held {
            self.writer.release(&held.checkpoint).await?;
        }
        Ok(())
    }

    async fn is_seen_to(&mut self) -> Result<bool, SinkError> {
        match &self.held {
            Some(held) => Ok(self.writer.parking_changed(&held.checkpoint).await?),
            None => Ok(false),
        }
    }

    async fn stopped(&mut self, partition: Partition, reason: &str) -> Result<(), SinkError> {
        if let Some(held) = &self.held
            && feed::partition(&held.checkpoint) == partition
        {
            self.writer.stopped(&held.checkpoint, reason).await?;
        }
        Ok(())
    }
}

type Done = (Checkpoint, u64, HashSet<Aggregate>);

pub(super) enum Failure {
    Tables(Error),
    Sink(SinkError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tables(error)
    }
}

impl From<Failure> for SinkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Tables(error) => error.into(),
            Failure::Sink(error) => error,
        }
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// The usual way: everything at once.
async fn whole<F: Fold>(tables: &Tables, held: &mut Held, batch: &Batch) -> Result<Done, Failure> {
    let mut write = begin(tables, held).await?;
    let mut attempt = held.parking.attempt();
    let entries: Vec<&Entry> = batch.entries().collect();
    let rows = fold_and_write::<F>(&mut write, &entries, &mut attempt).await?;
    let (parked, added) = attempt.finish();
    write.park(&parked).await?;
    Ok((write.commit(&batch.advance()).await?, rows, added))
}

/// The way that finds what the tables refuse: in halves, and halves of these, each behind a savepoint.
async fn in_parts<F: Fold>(tables: &Tables, held: &mut Held, batch: &Batch) -> Result<Done, Failure> {
    let mut write = begin(tables, held).await?;
    let mut attempt = held.parking.attempt();
    let entries: Vec<&Entry> = batch.entries().collect();
    let rows = write_in_parts::<F>(&mut write, &entries, &mut attempt).await?;
    let (parked, added) = attempt.finish();
    write.park(&parked).await?;
    Ok((write.commit(&batch.advance()).await?, rows, added))
}

/// Begins a write; what is parked is looked at again when somebody has changed it.
async fn begin(tables: &Tables, held: &mut Held) -> Result<Write, Failure> {
    let mut write = tables.begin(&held.checkpoint).await?;
    if write.checkpoint().parking != held.checkpoint.parking {
        held.parking = Parking::load(&mut write, held.parking.limit()).await?;
        held.checkpoint = *write.checkpoint();
    }
    Ok(write)
}

/// Writes what can be written and parks the rest.
pub(super) async fn write_in_parts<F: Fold>(
    write: &mut Write,
    entries: &[&Entry],
    attempt: &mut Attempt<'_>,
) -> Result<u64, Failure> {
    let mut rows = 0;
    let mut parts = vec![entries];
    while let Some(part) = parts.pop() {
        write.savepoint().await?;
        let mut tried = attempt.branch();
        match fold_and_write::<F>(write, part, &mut tried).await {
            Ok(written) => {
                *attempt = tried;
                rows += written;
            }
            Err(Failure::Tables(error @ Error::Refused { .. })) => {
                write.undo().await?;
                match part {
                    [] => return Err(error.into()),
                    [entry] => attempt.park(entry, &chain(&error))?,
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(rows)
}

async fn fold_and_write<F: Fold>(
    write: &mut Write,
    entries: &[&Entry],
    attempt: &mut Attempt<'_>,
) -> Result<u64, Failure> {
    let mut rows = F::load(write, entries).await?;
    for entry in entries {
        if attempt.holds(entry) {
            continue;
        }
        if attempt.skips(entry) {
            F::skip(&mut rows, entry);
            continue;
        }
        let place = Place {
            tenant_seq: entry.tenant_seq,
            index: entry.index,
        };
        match &entry.event {
            Ok(recorded) => {
                if let Err(unfit) = F::fold(&mut rows, &place, recorded) {
                    attempt.park(entry, &unfit.0)?;
                }
            }
            Err(bad) => {
                if side_by_side::is_of::<F>(&bad.event_type) {
                    attempt.park(entry, &bad.reason)?;
                }
            }
        }
    }
    let changes = F::changes(&mut rows);
    let inserted = F::insert(write, &changes).await?;
    Ok(inserted + F::update(write, &changes).await?)
}
