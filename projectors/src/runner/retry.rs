//! Parked events tried again, or passed over, when an operator says so.
//!
//! It is done beside the runner, under the lock of the checkpoint: the runner waits, and looks at what is parked
//! again when it goes on. The aggregate's events are read from the log once more and folded in order; from the first
//! one on that still cannot be projected they are parked again. Generations of this release are done one after
//! another, the live one first.
//!
//! A little longer than a file should be: both stores are gone through alike, step by step.

use std::collections::HashMap;

use event_log::{Log, Partition, ReadError, Record, record::Stated};
use read_models::{
    Error as Tables, Projection, Write, Writer, clickhouse,
    parking::{
        Aggregate,
        seen_to::{ParkedIn, Skip, Waiting},
    },
};
use uuid::Uuid;

use super::{
    Entry, SinkError,
    clickhouse::facts,
    feed::decode::read_events,
    parking::Parking,
    postgres::{Failure, Fold, write_in_parts},
};
use crate::{content::ContentFold, directory::DirectoryFold, downloads::DownloadsFold, run::topic};

/// Events of one aggregate that are folded in one transaction.
const AT_ONCE: i64 = 1_000;

/// What an operator wants done about an aggregate.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In which projection.
    pub projection: Projection,
    /// The aggregate's id as text.
    pub subject: &'a str,
    /// Whose it is; may be left out where one tenant has it.
    pub tenant: Option<Uuid>,
    /// Pass over its first parked event; absent: only try again.
    pub skip: Option<Skip<'a>>,
}

/// What came of it, in the live generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that were folded or passed over.
    pub done: u64,
    /// Why its first event still cannot be projected; none when nothing of it is parked any more.
    pub parked: Option<String>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing of that is parked.
    #[error("nothing of {1:?} is parked in {0}")]
    NotParked(Projection, String),
    /// Another event waits first than the one to be passed over.
    #[error(
        "the first event of {0:?} that waits is another one than you looked at: somebody has seen to it meanwhile; look at \
         it again"
    )]
    NotFirst(String),
    /// Several tenants have an aggregate of that id.
    #[error("several tenants have {0:?}: say which")]
    Ambiguous(String),
    /// Visits have no order that trying again could restore.
    #[error(
        "a visit that cannot be read now is read by a release that knows it, in the generation that `annals rebuild visits` makes there; it can be skipped"
    )]
    Visits,
    /// The generation is another release's.
    #[error("generation {0} was made by another release: ask that one")]
    OtherRelease(i32),
    /// PostgreSQL.
    #[error("the tables cannot be used")]
    Tables(#[from] Tables),
    /// ClickHouse.
    #[error("ClickHouse cannot be used")]
    Rows(#[from] clickhouse::Error),
    /// The log.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// A fold that must not go on.
    #[error("it cannot be folded")]
    Fold(#[source] SinkError),
}

/// What it is done with.
#[derive(Clone)]
pub struct Retrier {
    /// Where the events are.
    pub log: Log,
    /// The tables in PostgreSQL, and what is parked.
    pub control: Writer,
    /// The tables in ClickHouse.
    pub rows: clickhouse::Writer,
}

impl Retrier {
    /// Tries an aggregate's parked events again, in every generation that `hash` made.
    ///
    /// # Errors
    /// See [`Error`]; an event that still cannot be projected is none.
    pub async fn retry(&self, request: Request<'_>, hash: &str) -> Result<Outcome, Error> {
        let Request {
            projection,
            subject,
            tenant,
            skip,
        } = request;
        let found = self.control.parked_in(projection, subject, tenant).await?;
        let Some(first) = found.first() else {
            return Err(Error::NotParked(projection, subject.to_owned()));
        };
        let generation = first.generation;
        if projection == Projection::Visits && skip.is_none() {
            return Err(Error::Visits);
        }
        let ours: Vec<ParkedIn> = found.into_iter().filter(|it| it.fold_hash == hash).collect();
        let Some(first) = ours.first() else {
            return Err(Error::OtherRelease(generation));
        };
        if ours.iter().any(|it| it.tenant != first.tenant) {
            return Err(Error::Ambiguous(subject.to_owned()));
        }
        let mut pass = match skip {
            None => None,
            Some(skip) => Some(Pass {
                event: match skip.event {
                    Some(event) => event,
                    None => self.first_of(first, request).await?,
                },
                skip,
                must_be: true,
            }),
        };
        let mut outcome = None;
        for parked in &ours {
            let done = match projection {
                Projection::Directory => self.fold::<DirectoryFold>(parked, request, pass).await?,
                Projection::Content => self.fold::<ContentFold>(parked, request, pass).await?,
                Projection::Downloads => self.fold::<DownloadsFold>(parked, request, pass).await?,
                Projection::ContentFacts => self.facts(parked, request, pass).await?,
                Projection::Visits => self.visits(parked, request, pass).await?,
            };
            outcome.get_or_insert(done);
            // In others another one may wait first, which nobody has looked at.
            if let Some(pass) = &mut pass {
                pass.must_be = false;
            }
        }
        Ok(outcome.unwrap_or_default())
    }

    /// The first event of an aggregate that waits.
    async fn first_of(&self, parked: &ParkedIn, request: Request<'_>) -> Result<(u64, u32), Error> {
        let tables = self.control.tables(request.projection, parked.generation, 1);
        let mut write = tables.begin_beside(parked.partition.unsigned_abs()).await?;
        let (waiting, _) = write.waiting(&aggregate(parked, request), 1).await?;
        let first = waiting.first().map(place);
        first.ok_or_else(|| Error::NotParked(request.projection, request.subject.to_owned()))
    }

    async fn fold<F: Fold>(
        &self,
        parked: &ParkedIn,
        request: Request<'_>,
        mut pass: Option<Pass<'_>>,
    ) -> Result<Outcome, Error> {
        let tables = self.control.tables(F::PROJECTION, parked.generation, 1);
        let mut outcome = Outcome::default();
        let partition = parked.partition.unsigned_abs();
        loop {
            let ahead = self
                .ahead(tables.begin_beside(partition).await?, parked, request)
                .await?;
            let write = tables.begin_beside(partition).await?;
            let mut tried = self.begin(write, parked, request, pass.take(), ahead).await?;
            let entries: Vec<&Entry> = tried.entries.iter().collect();
            let parking = &tried.parking;
            let mut attempt = parking.attempt();
            let written = write_in_parts::<F>(&mut tried.write, &entries, &mut attempt).await;
            written.map_err(|failure| match failure {
                Failure::Tables(error) => Error::Tables(error),
                Failure::Sink(error) => Error::Fold(error),
            })?;
            let again = attempt.finish().0;
            if !tried.end(again, &mut outcome).await? {
                return Ok(outcome);
            }
        }
    }

    async fn facts(
        &self,
        parked: &ParkedIn,
        request: Request<'_>,
        mut pass: Option<Pass<'_>>,
    ) -> Result<Outcome, Error> {
        let longest = self.rows.longest();
        let tables = self
            .control
            .waiting_tables(Projection::ContentFacts, parked.generation, 1, longest);
        let store = self.rows.fact_store(parked.generation);
        let partition = parked.partition.unsigned_abs();
        let mut outcome = Outcome::default();
        loop {
            let ahead = self
                .ahead(tables.begin_beside(partition).await?, parked, request)
                .await?;
            let write = tables.begin_beside(partition).await?;
            let tried = self.begin(write, parked, request, pass.take(), ahead).await?;
            let entries: Vec<&Entry> = tried.entries.iter().collect();
            let mut attempt = tried.parking.attempt();
            facts::fold_and_write(&store, partition, &entries, &mut attempt)
                .await
                .map_err(Error::Fold)?;
            let again = attempt.finish().0;
            if !tried.end(again, &mut outcome).await? {
                return Ok(outcome);
            }
        }
    }

    /// An entry of visits that cannot be read is taken away: nothing waits behind it.
    async fn visits(
        &self,
        parked: &ParkedIn,
        request: Request<'_>,
        pass: Option<Pass<'_>>,
    ) -> Result<Outcome, Error> {
        let tables = self.control.tables(Projection::Visits, parked.generation, 1);
        let aggregate = aggregate(parked, request);
        let mut write = tables.begin_beside(parked.partition.unsigned_abs()).await?;
        let (waiting, _) = write.waiting(&aggregate, 1).await?;
        let_pass(&mut write, &aggregate, &waiting, pass).await?;
        write.unpark(&aggregate).await?;
        write.commit_beside().await?;
        Ok(Outcome {
            done: 1,
            parked: None,
        })
    }

    /// The first events of an aggregate that wait. Each may be a read of its own: meanwhile no checkpoint is locked,
    /// and no transaction is idle.
    async fn ahead(&self, mut write: Write, parked: &ParkedIn, request: Request<'_>) -> Result<Ahead, Error> {
        let (waiting, _) = write.waiting(&aggregate(parked, request), AT_ONCE).await?;
        drop(write);
        let partition = partition(parked, request);
        let entries = self.entries(partition, &waiting, Ahead::new()).await?;
        let by_place = |entry: Entry| ((entry.offset, entry.index), entry);
        Ok(entries.into_iter().map(by_place).collect())
    }

    /// Takes the first events of an aggregate out of parking, within a transaction.
    async fn begin(
        &self,
        mut write: Write,
        parked: &ParkedIn,
        request: Request<'_>,
        pass: Option<Pass<'_>>,
        ahead: Ahead,
    ) -> Result<Tried, Error> {
        let aggregate = aggregate(parked, request);
        let (waiting, all) = write.waiting(&aggregate, AT_ONCE).await?;
        let_pass(&mut write, &aggregate, &waiting, pass).await?;
        let entries = self.entries(partition(parked, request), &waiting, ahead).await?;
        let rest = write.rest(&aggregate, AT_ONCE).await?;
        let attempts = write.unpark(&aggregate).await?;
        let (_, in_generation) = write.parked().await?;
        let skipped = write.skipped().await?;
        // Its own place among the parked is free: it may be parked again.
        let limit = usize::try_from(in_generation)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        Ok(Tried {
            parking: Parking::new(Vec::new(), in_generation, limit, skipped),
            write,
            aggregate,
            entries,
            rest,
            all: all.unsigned_abs(),
            attempts,
        })
    }

    /// Events in the order in which they wait: from the log, where they were not read ahead.
    async fn entries(
        &self,
        partition: Partition,
        waiting: &[Waiting],
        mut ahead: Ahead,
    ) -> Result<Vec<Entry>, Error> {
        let mut near: HashMap<u64, Record> = HashMap::new();
        let mut entries = Vec::with_capacity(waiting.len());
        for it in waiting {
            let (offset, index) = place(it);
            if let Some(entry) = ahead.remove(&(offset, index)) {
                entries.push(entry);
                continue;
            }
            if !near.contains_key(&offset) {
                // What comes with it may hold the next ones too.
                let read = self.log.reader(partition, offset)?.next().await?;
                near = read
                    .records
                    .into_iter()
                    .map(|it| (it.offset, it.record))
                    .collect();
            }
            let Some(record) = near.get(&offset) else {
                return Err(gone(partition, offset));
            };
            let Ok(Stated::Commit(headers)) = record.stated() else {
                return Err(gone(partition, offset));
            };
            let events = read_events(&record.value).map_err(|text| Error::Fold(SinkError::Stop(text)))?;
            let event = events
                .into_iter()
                .nth(usize::try_from(index).unwrap_or(usize::MAX))
                .ok_or_else(|| gone(partition, offset))?;
            entries.push(Entry {
                offset,
                index,
                tenant_seq: headers.tenant_seq,
                event,
            });
        }
        Ok(entries)
    }
}

/// Events that were read before they were asked for, by offset and place in the record.
type Ahead = HashMap<(u64, u32), Entry>;

fn partition(parked: &ParkedIn, request: Request<'_>) -> Partition {
    Partition {
        topic: topic(request.projection),
        index: parked.partition.unsigned_abs(),
    }
}

fn gone(partition: Partition, offset: u64) -> Error {
    Error::Log(ReadError::Failed {
        partition,
        reason: format!("offset {offset} does not hold the commit that it held"),
    })
}

fn aggregate(parked: &ParkedIn, request: Request<'_>) -> Aggregate {
    Aggregate {
        tenant: parked.tenant,
        subject: request.subject.to_owned(),
    }
}

/// An event that is passed over.
#[derive(Clone, Copy)]
struct Pass<'a> {
    skip: Skip<'a>,
    event: (u64, u32),
    /// Whether it is the first that waits; else what waits is only tried again.
    must_be: bool,
}

fn place(waiting: &Waiting) -> (u64, u32) {
    (waiting.offset.cast_unsigned(), waiting.event_index.unsigned_abs())
}

/// Lets the first of what waits be passed over, if it is that event.
async fn let_pass(
    write: &mut Write,
    aggregate: &Aggregate,
    waiting: &[Waiting],
    pass: Option<Pass<'_>>,
) -> Result<(), Error> {
    let Some(pass) = pass else { return Ok(()) };
    if waiting.first().map(place) == Some(pass.event) {
        write.skip(aggregate, pass.skip).await?;
    } else if pass.must_be {
        return Err(Error::NotFirst(aggregate.subject.clone()));
    }
    Ok(())
}

/// Events that are tried again, within the transaction that takes them out of parking.
struct Tried {
    write: Write,
    aggregate: Aggregate,
    parking: Parking,
    entries: Vec<Entry>,
    /// Events that wait behind those.
    rest: Vec<read_models::parking::Parked>,
    all: u64,
    attempts: i32,
}

impl Tried {
    /// Parks again what cannot be projected, or what was not tried yet, and commits. Whether more is to be tried.
    async fn end(
        mut self,
        again: Vec<read_models::parking::Parked>,
        outcome: &mut Outcome,
    ) -> Result<bool, Error> {
        let tried = self.entries.len() as u64;
        outcome.done += tried - again.len() as u64;
        let more = again.is_empty() && !self.rest.is_empty();
        let mut parked = again;
        if parked.is_empty() {
            // The next ones are the first now.
            if let Some(first) = self.rest.first_mut() {
                first.reason = Some("it waits to be tried again".to_owned());
            }
        }
        parked.append(&mut self.rest);
        outcome.parked = parked.first().and_then(|it| it.reason.clone());
        debug_assert!(self.all >= parked.len() as u64, "nothing is parked that was not");
        self.write.park(&parked).await?;
        if !parked.is_empty() {
            self.write.tried(&self.aggregate, self.attempts + 1).await?;
        }
        self.write.commit_beside().await?;
        Ok(more)
    }
}
