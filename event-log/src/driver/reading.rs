//! The reader of a driven partition: opened when the writer wants records, kept while it goes on from there.

use std::{collections::VecDeque, time::Instant};

use super::task::pause;
use crate::{
    log::{Batch, Log, ReadError, Reader, Stored},
    partition::{Offset, Partition},
    writer::Writer,
};

#[derive(Default)]
pub(super) struct Reading {
    /// With the offset that it gives next.
    reader: Option<(Reader, Offset)>,
    /// Read and not yet taken.
    kept: VecDeque<Stored>,
    /// Before this offset there is no record that was not given, or is kept.
    looked_to: Offset,
    /// How often reading failed in a row.
    failures: u32,
    /// When it is tried again: a point in time, for whoever waits is interrupted by every request that comes.
    again: Option<Instant>,
}

impl Reading {
    /// More of what the writer wants; never, while it wants nothing. Cancelling it loses nothing.
    pub(super) async fn next<T>(
        &mut self,
        log: &Log,
        partition: Partition,
        writer: &Writer<T>,
    ) -> Result<Batch, ReadError> {
        let next = writer.admitted().0;
        if writer.wanted().is_none() {
            return std::future::pending().await;
        }
        // Acknowledged meanwhile, as its append was reported.
        while self.kept.pop_front_if(|stored| stored.offset < next).is_some() {}
        if next < self.looked_to {
            return Ok(Batch::default());
        }
        // What is read now may end before what was read then: nothing beyond it counts as looked at.
        self.looked_to = next;
        self.read(log, partition, next).await
    }

    /// Records from this offset on.
    pub(super) async fn read(
        &mut self,
        log: &Log,
        partition: Partition,
        next: Offset,
    ) -> Result<Batch, ReadError> {
        if let Some(again) = self.again {
            tokio::time::sleep_until(again.into()).await;
        }
        let outcome = self.try_read(log, partition, next).await;
        if outcome.is_ok() {
            (self.failures, self.again) = (0, None);
        } else {
            self.reader = None;
            self.failures = self.failures.saturating_add(1);
            self.again = Some(Instant::now() + pause(self.failures));
        }
        outcome
    }

    async fn try_read(&mut self, log: &Log, partition: Partition, next: Offset) -> Result<Batch, ReadError> {
        if self.reader.as_ref().is_none_or(|(_, at)| *at != next) {
            self.reader = Some((log.reader(partition, next)?, next));
        }
        let Some((reader, at)) = &mut self.reader else {
            return Err(ReadError::NoPartition(partition));
        };
        let batch = reader.next().await?;
        *at = batch.next;
        Ok(batch)
    }

    pub(super) fn keep(&mut self, batch: Batch) {
        self.looked_to = self.looked_to.max(batch.next);
        self.kept.extend(batch.records);
    }

    /// Up to which offset the log holds nothing more that the writer has not seen.
    pub(super) fn seen_to(&self) -> Offset {
        self.kept.front().map_or(self.looked_to, |first| first.offset)
    }

    /// The next record that the writer wants, if it was read already.
    pub(super) fn take<T>(&mut self, writer: &Writer<T>) -> Option<Stored> {
        let wanted = writer.wanted()?;
        self.kept.pop_front_if(|stored| stored.offset < wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::State,
        log::{LogConfig, Store},
        record::Record,
        writer::Effect,
    };

    const LEDGER: Partition = Partition::ledger(0);

    /// One that has everything before an offset and wants everything before another one.
    fn writer(next: Offset, wanted: Offset) -> Writer<()> {
        let mut writer = Writer::new("me", next, State::default());
        writer.assigned();
        let Some(Effect::ReadEnd { query, .. }) = writer.effect() else {
            panic!("it asks for the end")
        };
        writer.ended(query, Ok(wanted));
        writer
    }

    fn batch(offsets: std::ops::Range<Offset>) -> Batch {
        let stored = |offset| Stored {
            offset,
            time: None,
            record: Record::default(),
        };
        let (next, end) = (offsets.end, offsets.end);
        let records = offsets.map(stored).collect();
        Batch { records, next, end }
    }

    /// With 17 records behind its genesis.
    async fn log(folder: &std::path::Path) -> Log {
        let config = LogConfig {
            store: Store::Embedded {
                dir: folder.to_owned(),
            },
            ledger_partitions: Some(1),
            visits_partitions: Some(1),
            development: true,
        };
        let log = Log::open(config).await.expect("a log");
        for _ in 0..17 {
            log.append(LEDGER, Record::default()).await.expect("appended");
        }
        log
    }

    /// What is given to a writer, and up to where there is nothing else.
    async fn given(reading: &mut Reading, log: &Log, writer: &Writer<()>) -> (Vec<Offset>, Offset) {
        let batch = reading.next(log, LEDGER, writer).await.expect("read");
        reading.keep(batch);
        let taken = std::iter::from_fn(|| reading.take(writer)).map(|stored| stored.offset);
        (taken.collect(), reading.seen_to())
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_given_also_when_a_part_was_acknowledged_meanwhile() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(folder.path()).await;
        let mut reading = Reading::default();
        reading.keep(batch(10..30));
        // From a leader that had more than this one shows.
        let given = given(&mut reading, &log, &writer(16, 20)).await;
        assert_eq!(given, (vec![16, 17, 18, 19], 20));
        log.close().await;
    }

    #[tokio::test]
    async fn nothing_counts_as_looked_at_that_was_not_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(folder.path()).await;
        let mut reading = Reading::default();
        reading.keep(batch(10..12));
        assert_eq!(
            given(&mut reading, &log, &writer(16, 20)).await,
            (vec![16, 17], 18)
        );
        log.close().await;
    }
}
