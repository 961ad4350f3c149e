//! The sink of `content_facts`. Its rows are complete states, idempotent by key and version, so it needs no
//! recorded ranges: rows first, then the checkpoint; what is repeated after a crash writes the same again.
//!
//! The state before a batch is read from the table itself. It may be ahead of the checkpoint after a crash,
//! and that does no harm: every event sets fields, so folding the same events over their own outcome gives
//! their outcome.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use event_log::{Offset, Partition, Topic};
use events::Recorded;
use read_models::{
    Advance, Checkpoint, Projection, Tables, Writer,
    clickhouse::{self, Generation},
    facts::{Fact, FactColumns, FactStore},
};
use uuid::Uuid;

use crate::{
    facts::{apply, subject},
    metrics,
    runner::{
        Batch, Entry, SILENCE, Sink, SinkError,
        parking::{Attempt, Parking},
    },
};

/// Writes every partition of one generation.
pub struct FactsSink {
    control: Writer,
    rows: clickhouse::Writer,
    generation: Generation,
    partitions: u32,
    parking_limit: usize,
    held: Option<Held>,
}

struct Held {
    tables: Tables,
    store: FactStore,
    partitions: HashMap<u32, (Checkpoint, Parking)>,
}

impl From<clickhouse::Error> for SinkError {
    fn from(error: clickhouse::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl FactsSink {
    /// A sink for all partitions of the ledger in one generation; at most so many aggregates may be parked.
    pub const fn new(
        control: Writer,
        rows: clickhouse::Writer,
        generation: Generation,
        partitions: u32,
        parking_limit: usize,
    ) -> Self {
        Self {
            control,
            rows,
            generation,
            partitions,
            parking_limit,
            held: None,
        }
    }

    /// Makes the tables where they are missing.
    async fn prepare(&self) -> Result<(), SinkError> {
        let (projection, generation) = (Projection::ContentFacts, self.generation);
        if self.rows.has_facts(generation).await?
            && !self.control.is_untouched(projection, generation).await?
        {
            return Ok(());
        }
        // Checkpoints before tables: see the visits' runner.
        self.rows.drop_generation(projection.name(), generation).await?;
        self.control.refill(projection, generation).await?;
        Ok(self.rows.create_facts(generation).await?)
    }

    async fn write_one(held: &mut Held, batch: &Batch) -> Result<u64, SinkError> {
        let (checkpoint, parking) = held
            .partitions
            .get_mut(&batch.partition.index)
            .ok_or(SinkError::Fenced)?;
        if batch.from != checkpoint.next_offset {
            return Err(SinkError::Fenced);
        }
        // Locked first: nobody changes what is parked between looking at it and writing.
        let mut write = held.tables.begin(checkpoint).await?;
        if write.checkpoint().parking != checkpoint.parking {
            *parking = Parking::load(&mut write, parking.limit()).await?;
            *checkpoint = *write.checkpoint();
        }
        let mut attempt = parking.attempt();
        let entries: Vec<&Entry> = batch.entries().collect();
        let rows = fold_and_write(&held.store, batch.partition.index, &entries, &mut attempt).await?;
        let (events, parked) = attempt.finish();
        write.park(&events).await?;
        let to: Advance = batch.advance();
        *checkpoint = write.commit(&to).await?;
        parking.commit(parked);
        let of = (Projection::ContentFacts, checkpoint.generation);
        metrics::parked(of, batch.partition, parking.len());
        Ok(rows)
    }
}

/// Folds events over the present rows, and writes those that changed. Gives how many.
pub(in crate::runner) async fn fold_and_write(
    store: &FactStore,
    partition: u32,
    entries: &[&Entry],
    attempt: &mut Attempt<'_>,
) -> Result<u64, SinkError> {
    let piece = |recorded: &Recorded| Some((recorded.envelope.tenant.uuid(), subject(recorded)?));
    let pieces: BTreeSet<(Uuid, Uuid)> = entries
        .iter()
        .filter_map(|entry| entry.event.as_ref().ok().and_then(piece))
        .collect();
    let present = store.present(&pieces).await?;
    let mut facts: HashMap<Uuid, Fact> = present.into_iter().map(|fact| (fact.content, fact)).collect();
    let mut changed: BTreeSet<Uuid> = BTreeSet::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.event_type().starts_with("content."))
    {
        if attempt.holds(entry) || attempt.skips(entry) {
            continue;
        }
        let recorded = match &entry.event {
            Ok(recorded) => recorded,
            Err(bad) => {
                attempt.park(entry, &bad.reason)?;
                continue;
            }
        };
        let Some(piece) = subject(recorded) else {
            attempt.park(entry, "the subject of an event of content is no UUID")?;
            continue;
        };
        match apply(facts.get(&piece).cloned(), recorded, partition, entry.offset) {
            Ok(Some(fact)) => {
                facts.insert(piece, fact);
                changed.insert(piece);
            }
            Ok(None) => {}
            Err(never) => attempt.park(entry, &never.to_string())?,
        }
    }
    let mut columns = FactColumns::default();
    changed
        .iter()
        .filter_map(|piece| facts.get(piece))
        .for_each(|fact| columns.push(fact));
    store.write(&columns).await?;
    Ok(columns.rows() as u64)
}

impl Sink for FactsSink {
    fn projection(&self) -> Projection {
        Projection::ContentFacts
    }

    fn generation(&self) -> i32 {
        self.generation
    }

    async fn take_over(&mut self) -> Result<Vec<Checkpoint>, SinkError> {
        let generation = self.generation;
        self.prepare().await?;
        // The checkpoint is held while ClickHouse writes.
        let longest = self.rows.longest();
        let tables = self
            .control
            .waiting_tables(Projection::ContentFacts, generation, 1, longest);
        let mut partitions = HashMap::new();
        for partition in 0..self.partitions {
            let checkpoint = self
                .control
                .take_over(Projection::ContentFacts, generation, partition)
                .await?;
            let parked = self.control.parked(&checkpoint).await?;
            let in_generation = self.control.parked_aggregates(&checkpoint).await?;
            let skipped = self.control.skipped(&checkpoint).await?;
            partitions.insert(
                partition,
                (
                    checkpoint,
                    Parking::new(parked, in_generation, self.parking_limit, skipped),
                ),
            );
        }
        let checkpoints = partitions.values().map(|(checkpoint, _)| *checkpoint).collect();
        self.held = Some(Held {
            tables,
            store: self.rows.fact_store(generation),
            partitions,
        });
        Ok(checkpoints)
    }

    async fn write(&mut self, batches: Vec<Batch>) -> Result<u64, SinkError> {
        let held = self.held.as_mut().ok_or(SinkError::Fenced)?;
        let mut rows = 0;
        for batch in &batches {
            rows += Self::write_one(held, batch).await?;
        }
        Ok(rows)
    }

    async fn saw_end(&mut self, partition: Partition, asked: Instant, end: Offset) -> Result<(), SinkError> {
        if let Some((checkpoint, _)) = self.checkpoint(partition) {
            metrics::lag(
                (Projection::ContentFacts, self.generation),
                partition,
                checkpoint.next_offset,
                end,
                Some(checkpoint.since),
            );
            self.control.saw_end(checkpoint, asked, end).await?;
        }
        Ok(())
    }

    async fn is_abandoned(&mut self) -> Result<bool, SinkError> {
        let held = self.held.as_ref();
        match held.and_then(|held| held.partitions.values().next()) {
            Some((checkpoint, _)) => Ok(self.control.is_abandoned(checkpoint, SILENCE).await?),
            None => Ok(false),
        }
    }

    async fn release(&mut self) -> Result<(), SinkError> {
        let held = self.held.as_ref().map(|held| &held.partitions);
        for (checkpoint, _) in held.into_iter().flat_map(HashMap::values) {
            self.control.release(checkpoint).await?;
        }
        Ok(())
    }

    async fn is_seen_to(&mut self) -> Result<bool, SinkError> {
        let held = self.held.as_ref().map(|held| &held.partitions);
        for (checkpoint, _) in held.into_iter().flat_map(HashMap::values) {
            if self.control.parking_changed(checkpoint).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn stopped(&mut self, partition: Partition, reason: &str) -> Result<(), SinkError> {
        if let Some((checkpoint, _)) = self.checkpoint(partition) {
            self.control.stopped(checkpoint, reason).await?;
        }
        Ok(())
    }
}

impl FactsSink {
    fn checkpoint(&self, partition: Partition) -> Option<&(Checkpoint, Parking)> {
        let held = self.held.as_ref()?;
        held.partitions
            .get(&partition.index)
            .filter(|_| partition.topic == Topic::Ledger)
    }
}
