//! Verification: the log is folded again, by small folds that share nothing with those of the projections, and what
//! comes out is compared with the tables, row by row.
//!
//! It runs while events arrive. PostgreSQL is read in one snapshot, with its checkpoints. ClickHouse has no
//! snapshot: rows beyond the checkpoint are passed over, and a row whose latest version is beyond it (a session that
//! went on) is compared with the fold at that version. Rows are compared by fingerprints; where some are not the same,
//! log and tables are read again to say what each side says. Memory is bounded: rows are compared in slices, and a
//! slice that turns out too large is halved. Reading order: this file, [`walk`] (the log), [`print`] (fingerprints),
//! [`rows`] and [`sums`] (what is expected), [`look`] and [`difference`] (what differs), then [`directory`], [`content`],
//! [`downloads`], [`facts`] and [`visits`], the folds, and [`background`], which compares a slice now and then without
//! being asked.
//!
//! A little longer than a file should be: what is compared, in which order and when, is one thing.

pub mod background;
mod content;
mod difference;
mod directory;
mod downloads;
mod facts;
mod look;
mod print;
mod rows;
mod sums;
#[cfg(test)]
mod tests;
mod visits;
mod walk;

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use event_log::{Log, ReadError, Topic};
use futures::{TryStreamExt as _, stream, stream::StreamExt as _};
use read_models::{
    Projection, Writer, clickhouse,
    standing::{Place, RowsError, Slice, Standing, tables},
};
use serde::Serialize;
use tokio::sync::mpsc;

use self::{
    look::{Comparison, Findings, Left, Look},
    print::Keys,
    rows::Expected,
    walk::{Happened, Walk},
};
use crate::{
    run::{self, topic},
    runner::Throttle,
};

pub use difference::{Difference, What};

/// What the expected rows of a slice may take, in bytes.
const BUDGET: usize = 256 << 20;

/// Slices are not made smaller than this.
const MOST_SLICES: u32 = 1 << 16;

/// Differences that are told one by one; the others are counted.
pub const TOLD: u64 = 100;

/// Compares generations with the log.
#[derive(Clone)]
pub struct Verifier {
    log: Log,
    control: Writer,
    rows: clickhouse::Writer,
    budget: usize,
    /// Partitions that are folded at a time, at most.
    at_once: usize,
}

/// What is to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which projection.
    pub projection: Projection,
    /// Which generation; the live one when absent.
    pub generation: Option<i32>,
    /// Only one of so many parts of the rows, another each time; everything when absent.
    pub sample: Option<u32>,
}

/// What is told on the way.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// How far it is.
    Progress {
        /// The projection.
        projection: &'static str,
        /// Records folded, over all slices begun so far.
        records: u64,
        /// Records to be folded for the slices that are known of.
        of: u64,
    },
    /// A row that is not what the log says.
    Difference(Box<Difference>),
    /// The end.
    Result(Outcome),
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The projection.
    pub projection: &'static str,
    /// The generation that was compared.
    pub generation: i32,
    /// At which position: for each partition the first offset that was not looked at.
    pub position: Vec<u64>,
    /// Whether every row is what the log says.
    pub equal: bool,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ; the first hundred were told.
    pub differences: u64,
    /// Events that are parked, and so are in no table.
    pub parked: u64,
    /// In how many slices.
    pub slices: u32,
}

/// Why it could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL.
    #[error("the tables cannot be read")]
    Tables(#[from] read_models::Error),
    /// ClickHouse.
    #[error("ClickHouse cannot be read")]
    Rows(#[from] clickhouse::Error),
    /// The log.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The checkpoint is ahead of the log.
    #[error(
        "{projection} has folded {partition} up to offset {next}, and the log ends at {end}: the log was replaced or cut off"
    )]
    AheadOfLog {
        /// Which projection.
        projection: Projection,
        /// Of which partition.
        partition: event_log::Partition,
        /// The checkpoint.
        next: u64,
        /// The log's end.
        end: u64,
    },
    /// The folds of this release are not what its rows were made by.
    #[error(
        "generation {generation} of {projection} was made by another release, whose folds may make other rows: let that release compare it"
    )]
    OtherRelease {
        /// Which projection.
        projection: Projection,
        /// Which generation.
        generation: i32,
    },
    /// One slice of the smallest size is too much.
    #[error("the rows of one slice of {MOST_SLICES} take more than {0} bytes")]
    TooLarge(usize),
    /// Nobody listens any more.
    #[error("nobody listens any more")]
    Unheard,
    /// A fold panicked; its message was printed.
    #[error("a fold panicked")]
    Panicked,
}

impl From<RowsError> for Error {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Tables(error) => Self::Tables(error),
            RowsError::Rows(error) => Self::Rows(error),
        }
    }
}

/// Why a slice was not compared.
enum Short {
    /// It takes too much memory.
    Full,
    /// What is parked has changed meanwhile.
    Changed,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Short {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Verifier {
    /// A verifier of what is folded from this log.
    pub fn new(log: Log, control: Writer, rows: clickhouse::Writer) -> Self {
        Self {
            log,
            control,
            rows,
            budget: BUDGET,
            at_once: std::thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// With so many bytes for the rows that are expected.
    #[must_use]
    pub const fn within(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// That takes one core at most, however many there are.
    #[must_use]
    pub const fn on_one_core(mut self) -> Self {
        self.at_once = 1;
        self
    }

    /// How many partitions of a topic are folded at a time: slowly, one.
    fn at_once(&self, topic: Topic, progress: &Progress) -> usize {
        let most = if progress.throttle.is_bound() {
            1
        } else {
            self.at_once
        };
        most.min(self.log.all(topic).count()).max(1)
    }

    /// Compares a generation with the log. Tells how it goes on; also the outcome, which it gives back.
    ///
    /// # Errors
    /// See [`Error`]; tables that differ are no error.
    pub async fn verify(&self, wanted: Wanted, tell: &mpsc::Sender<Told>) -> Result<Outcome, Error> {
        let mut standing = self
            .control
            .standing(wanted.projection, wanted.generation)
            .await?;
        self.check_release(&standing).await?;
        let mut records = self.records(&standing).await?;
        let first = match wanted.sample {
            None | Some(0 | 1) => Slice::WHOLE,
            Some(of) => {
                let random = uuid::Uuid::new_v4().as_u64_pair().1;
                let index = u32::try_from(random % u64::from(of)).unwrap_or_default();
                Slice { index, of }
            }
        };
        let mut findings = Findings::new(tell.clone());
        let progress = Progress::new(wanted.projection, records, tell.clone(), Throttle::default());
        let mut slices = vec![first];
        // Rows in ClickHouse are never those of one moment: what has changed since a late one is little, whatever the
        // slices before took.
        let in_clickhouse = matches!(wanted.projection, Projection::Visits | Projection::ContentFacts);
        let (mut compared, mut begun) = (0, false);
        while let Some(slice) = slices.pop() {
            if std::mem::replace(&mut begun, true) && in_clickhouse {
                standing.renew().await?;
                records = self.records(&standing).await?;
            }
            let before = (progress.passed_by(), findings.rows, findings.differences);
            let mut outcome = self.slice(&mut standing, slice, &mut findings, &progress).await;
            // Rows in ClickHouse were not those of one moment: what was parked, tried again or passed over in between
            // explains them.
            if outcome.is_ok()
                && wanted.projection == Projection::ContentFacts
                && findings.differences > before.2
                && !standing.renew().await?
            {
                outcome = Err(Short::Changed);
            }
            match outcome {
                Ok(()) => {
                    compared += 1;
                    findings.counts().await?;
                }
                Err(Short::Failed(error)) => {
                    // Of one moment: it is so, whatever the rest is.
                    if !in_clickhouse {
                        findings.counts().await?;
                    }
                    return Err(error);
                }
                Err(Short::Changed) => {
                    tracing::info!(projection = %wanted.projection, ?slice, "what is parked has changed: comparing it again");
                    progress.again_from(before.0, records);
                    findings.back_to(before.1, before.2);
                    slices.push(slice);
                }
                Err(Short::Full) if slice.of >= MOST_SLICES => return Err(Error::TooLarge(self.budget)),
                Err(Short::Full) => {
                    tracing::info!(projection = %wanted.projection, ?slice, "too much for the memory: halving it");
                    progress.again_from(before.0, records);
                    findings.back_to(before.1, before.2);
                    slices.extend(slice.halves());
                }
            }
        }
        let outcome = Outcome {
            projection: wanted.projection.name(),
            generation: standing.generation,
            position: standing.next_offsets.clone(),
            equal: findings.differences == 0,
            rows: findings.rows,
            differences: findings.differences,
            parked: standing.parked.len() as u64,
            slices: compared,
        };
        standing.end().await?;
        tell.send(Told::Result(outcome.clone()))
            .await
            .map_err(|_| Error::Unheard)?;
        Ok(outcome)
    }

    /// Whether the generation is one that this release fills.
    async fn check_release(&self, standing: &Standing) -> Result<(), Error> {
        let (projection, generation) = (standing.projection, standing.generation);
        let ours = self.control.fold_hash(projection, &run::fold(projection)).await?;
        if standing.fold_hash != ours {
            return Err(Error::OtherRelease {
                projection,
                generation,
            });
        }
        Ok(())
    }

    /// How many records of the log the tables are made from.
    async fn records(&self, standing: &Standing) -> Result<u64, Error> {
        let projection = standing.projection;
        let mut records = 0;
        for partition in self.log.all(topic(projection)) {
            let (next, end) = (
                standing.next_offset(partition.index),
                self.log.end(partition).await?,
            );
            if next > end {
                return Err(Error::AheadOfLog {
                    projection,
                    partition,
                    next,
                    end,
                });
            }
            records += next;
        }
        Ok(records)
    }

    /// Compares a slice by fingerprints; where some are not the same, again, row by row.
    async fn slice(
        &self,
        standing: &mut Standing,
        slice: Slice,
        findings: &mut Findings,
        progress: &Progress,
    ) -> Result<(), Short> {
        let keys = Keys::new();
        findings.suspects.clear();
        findings.places.clear();
        let expected = Expected::new(slice, keys, None);
        self.look(standing, expected, findings, progress).await?;
        let suspects = std::mem::take(&mut findings.suspects);
        if suspects.is_empty() {
            return Ok(());
        }
        if progress.throttle.is_bound() {
            standing.rest().await?;
        }
        progress.again_from(progress.passed_by(), self.records(standing).await?);
        let expected = Expected::new(slice, keys, Some(Arc::new(suspects)));
        findings.passing = 0;
        self.look(standing, expected, findings, progress).await?;
        if findings.passing > 0 {
            // A store without snapshots should not show this either: what is before the checkpoint does not change.
            tracing::warn!(
                projection = %standing.projection, generation = standing.generation, rows = findings.passing,
                "rows were not what the log says at a first look, and were at the second"
            );
        }
        Ok(())
    }

    async fn look(
        &self,
        standing: &mut Standing,
        expected: Expected,
        findings: &mut Findings,
        progress: &Progress,
    ) -> Result<(), Short> {
        match standing.projection {
            Projection::Visits => visits::compare(self, standing, expected, findings, progress).await,
            Projection::Directory
            | Projection::Content
            | Projection::Downloads
            | Projection::ContentFacts => self.compare(standing, expected, findings, progress).await,
        }
    }

    /// A projection of the directory or the ledger, whose fold keeps its rows.
    async fn compare(
        &self,
        standing: &mut Standing,
        expected: Expected,
        findings: &mut Findings,
        progress: &Progress,
    ) -> Result<(), Short> {
        let projection = standing.projection;
        let slice = expected.slice;
        let (fold, families): (Fold, &[&str]) = match projection {
            Projection::Directory => (directory::take, &["tenant.", "site.", "principal.", "key."]),
            Projection::Content => (content::take, &["content."]),
            Projection::Downloads => (downloads::take, &["download."]),
            Projection::ContentFacts | Projection::Visits => (facts::take, &["content."]),
        };
        let mut folded = Folded {
            fold,
            families,
            look: Look::at(&expected),
            expected,
            parked: Arc::new(standing.parked.clone()),
            skipped: Arc::new(standing.skipped.clone()),
            unfit: Vec::new(),
            later: HashMap::new(),
            beyond: false,
        };
        let held = AtomicUsize::new(0);
        // No aggregate is in two partitions.
        let parts = self.log.all(topic(projection)).map(|partition| {
            let (walk, part) = (Walk::new(&self.log, partition), folded.part());
            let until = standing.next_offset(partition.index);
            self.walk(walk, until, part, &held, progress)
        });
        let parts = stream::iter(parts).buffered(self.at_once(topic(projection), progress));
        let mut walks = Vec::new();
        for (walk, part) in parts.try_collect::<Vec<_>>().await? {
            folded.join(part);
            walks.push(walk);
        }
        if progress.throttle.is_bound() {
            (walks, folded) = self.catch_up(standing, walks, folded, &held, progress).await?;
        }
        let unfit = std::mem::take(&mut folded.unfit);
        unfit.into_iter().for_each(|unfit| findings.differs(unfit));
        // The latest version of a row in ClickHouse may be beyond the checkpoint.
        let mut beyond: HashMap<(u32, u64), Vec<Left>> = HashMap::new();
        for table in tables(projection) {
            let mut seen = Comparison::of(table, &folded.expected);
            if projection == Projection::ContentFacts {
                let is_beyond = |(partition, offset)| offset >= standing.next_offset(partition);
                let rows = self.rows.rows(projection, standing.generation, table, slice, "1");
                for left in seen.all(rows.await?, progress, self.budget, is_beyond).await? {
                    beyond.entry(left.version).or_default().push(left);
                }
            } else {
                let rows = standing.rows(table, slice).await?;
                seen.all(rows, progress, 0, |_| false).await?;
            }
            let look = seen.finish();
            findings.take(look);
        }
        let last: HashMap<u32, u64> = beyond
            .keys()
            .fold(HashMap::new(), |mut last, (partition, offset)| {
                let to = last.entry(*partition).or_default();
                *to = (*to).max(offset + 1);
                last
            });
        folded.later = beyond;
        folded.beyond = true;
        for walk in walks {
            let Some(to) = last.get(&walk.partition().index) else {
                continue;
            };
            let end = self.log.end(walk.partition()).await.map_err(Error::from)?;
            let until = (*to).min(standing.end_of(walk.partition().index, end));
            (_, folded) = self.walk(walk, until, folded, &held, progress).await?;
        }
        // What stands at a version that the log does not have.
        for left in folded.later.into_values().flatten() {
            folded.look.nowhere(left);
        }
        findings.take(folded.look);
        Ok(())
    }

    /// What took a while to read was not kept from being cleaned up meanwhile: compared is a moment that begins now.
    /// Nearer to it the log is read slowly too, and the little that is left then as fast as it goes.
    async fn catch_up(
        &self,
        standing: &mut Standing,
        mut walks: Vec<Walk>,
        mut folded: Folded,
        held: &AtomicUsize,
        progress: &Progress,
    ) -> Result<(Vec<Walk>, Folded), Short> {
        let fast = progress.without_bound();
        for (last, progress) in [(false, progress), (true, &fast)] {
            if !standing.renew().await? {
                return Err(Short::Changed);
            }
            if !last {
                standing.rest().await?;
            }
            folded.parked = Arc::new(standing.parked.clone());
            folded.skipped = Arc::new(standing.skipped.clone());
            for mut walk in std::mem::take(&mut walks) {
                let until = standing.next_offset(walk.partition().index);
                (walk, folded) = self.walk(walk, until, folded, held, progress).await?;
                walks.push(walk);
            }
        }
        Ok((walks, folded))
    }

    /// Folds a partition up to an offset. `held` is what the rows of all partitions take.
    async fn walk(
        &self,
        mut walk: Walk,
        until: u64,
        mut folded: Folded,
        held: &AtomicUsize,
        progress: &Progress,
    ) -> Result<(Walk, Folded), Short> {
        while let Some(records) = walk.next(until).await? {
            let (count, partition) = (records.passed, walk.partition().index);
            let before = folded.expected.held();
            let fold = move || {
                let record = |record| folded.record(partition, record);
                let events = records.admitted.iter().map(record).sum();
                (folded, events)
            };
            let events;
            (folded, events) = in_background(fold).await?;
            progress.passed(count, events).await?;
            let more = folded.expected.held().wrapping_sub(before);
            if held.fetch_add(more, Ordering::Relaxed).wrapping_add(more) > self.budget {
                return Err(Short::Full);
            }
        }
        Ok((walk, folded))
    }
}

/// What an event does to the rows that are expected; an error when it cannot follow them, which only a parked event
/// may do.
type Fold = fn(&mut Expected, &Happened<'_>) -> Result<(), String>;

/// Rows as they are after what was read.
struct Folded {
    fold: Fold,
    /// How the names begin of events that are folded; what else cannot be read is not this projection's to park.
    families: &'static [&'static str],
    expected: Expected,
    parked: Arc<HashSet<Place>>,
    skipped: Arc<HashSet<Place>>,
    unfit: Vec<Difference>,
    /// Rows that are to be compared when their version is reached.
    later: HashMap<(u32, u64), Vec<Left>>,
    look: Look,
    /// Whether the checkpoint was passed: what is parked from there on is not known, and only those rows are of interest.
    beyond: bool,
}

impl Folded {
    /// The same before anything was read, for one partition.
    fn part(&self) -> Self {
        Self {
            fold: self.fold,
            families: self.families,
            expected: self.expected.empty(),
            parked: self.parked.clone(),
            skipped: self.skipped.clone(),
            unfit: Vec::new(),
            later: HashMap::new(),
            look: Look::at(&self.expected),
            beyond: false,
        }
    }

    /// Takes what was read of a partition.
    fn join(&mut self, part: Self) {
        self.expected.join(part.expected);
        self.unfit.extend(part.unfit);
    }

    /// Folds a record; says how many events it holds.
    fn record(&mut self, partition: u32, record: &walk::Admitted) -> u64 {
        let events = record.events();
        let count = events.len() as u64;
        for (index, event) in (0..).zip(events) {
            let place = (partition, record.offset, index);
            if self.parked.contains(&place) {
                continue;
            }
            if self.skipped.contains(&place) {
                let text = record.texts().get(index as usize).copied().unwrap_or_default();
                walk::skip(text, &mut self.expected);
                continue;
            }
            let tenant = event.as_ref().ok().map(|event| event.tenant);
            let done =
                event.and_then(|event| event.fold(place, record.tenant_seq, &mut self.expected, self.fold));
            if let Err(reason) = done
                && !self.beyond
                && self.expected.is_first_look()
                && record.is_of(index, self.families)
            {
                self.unfit.push(Difference::unfit(place, tenant, reason));
            }
        }
        for left in self.later.remove(&(partition, record.offset)).unwrap_or_default() {
            self.look.later(&self.expected, left);
        }
        count
    }
}

/// How far it is, told once for each piece of the log that was read. Clones count together.
#[derive(Clone)]
struct Progress {
    projection: Projection,
    /// Records passed, and how many there are.
    counts: Arc<[AtomicU64; 2]>,
    tell: mpsc::Sender<Told>,
    throttle: Throttle,
}

impl Progress {
    fn new(projection: Projection, of: u64, tell: mpsc::Sender<Told>, throttle: Throttle) -> Self {
        Self {
            projection,
            counts: Arc::new([AtomicU64::new(0), AtomicU64::new(of)]),
            tell,
            throttle,
        }
    }

    fn without_bound(&self) -> Self {
        Self {
            throttle: Throttle::default(),
            ..self.clone()
        }
    }

    fn passed_by(&self) -> u64 {
        self.counts[0].load(Ordering::Relaxed)
    }

    /// So many were passed, and so many more are to be.
    fn again_from(&self, passed: u64, more: u64) {
        self.counts[0].store(passed, Ordering::Relaxed);
        self.counts[1].fetch_add(more, Ordering::Relaxed);
    }

    /// So many are to be folded again.
    fn more(&self, records: u64) {
        self.counts[1].fetch_add(records, Ordering::Relaxed);
    }

    /// So many records more, with so many events in them.
    async fn passed(&self, records: u64, events: u64) -> Result<(), Error> {
        let passed = self.counts[0].fetch_add(records, Ordering::Relaxed) + records;
        let told = Told::Progress {
            projection: self.projection.name(),
            records: passed,
            of: self.counts[1].load(Ordering::Relaxed).max(passed),
        };
        self.tell.send(told).await.map_err(|_| Error::Unheard)?;
        self.spent(records.max(events)).await;
        Ok(())
    }

    /// Rests for as long as so many events, or rows of a table, should take.
    async fn spent(&self, events: u64) {
        self.throttle
            .spent(usize::try_from(events).unwrap_or(usize::MAX))
            .await;
    }
}

/// Folding takes the processor for milliseconds: not on a thread that others wait for.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Panicked)
}
