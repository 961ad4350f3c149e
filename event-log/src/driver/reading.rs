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
    /// Before this offset there is no record that was not given.
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
        if self.kept.front().is_some_and(|stored| stored.offset == next) {
            return Ok(Batch::default());
        }
        self.kept.clear();
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
