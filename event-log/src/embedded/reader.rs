//! Reads one partition: what is on the disk, then waits to be told of more.

use std::sync::Weak;

use tokio::{sync::watch, task::JoinHandle};

use super::{
    Embedded, Shard,
    layout::{self, offset_of_key},
    told,
};
use crate::{
    log::{Batch, ReadError, Stored},
    partition::{Offset, Partition},
};

/// A batch holds at most so many records and about so many bytes.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Keeps no store open: after [`Embedded::close`] it says so.
pub(crate) struct Reader {
    log: Weak<Embedded>,
    partition: Partition,
    next: Offset,
    end: watch::Receiver<Offset>,
    /// A read that was begun; kept here so that a cancelled call loses nothing.
    reading: Option<JoinHandle<Result<Vec<Stored>, String>>>,
}

impl Reader {
    pub(super) fn new(
        log: Weak<Embedded>,
        partition: Partition,
        from: Offset,
        end: watch::Receiver<Offset>,
    ) -> Self {
        Self {
            log,
            partition,
            next: from,
            end,
            reading: None,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        let partition = self.partition;
        let failed = |reason: String| ReadError::Failed { partition, reason };
        let closed = || failed("the log is closed".to_owned());
        if self.reading.is_none() {
            let next = self.next;
            let end = *self.end.wait_for(|end| *end > next).await.map_err(|_| closed())?;
            let shard = self.log.upgrade().ok_or_else(closed)?.shard(partition)?;
            self.reading = Some(tokio::task::spawn_blocking(move || read(&shard, next, end)));
        }
        let Some(reading) = &mut self.reading else {
            return Err(closed());
        };
        let outcome = reading.await;
        self.reading = None;
        let records = outcome
            .map_err(|error| failed(error.to_string()))?
            .map_err(failed)?;
        self.next += records.len() as Offset;
        let end = *self.end.borrow();
        Ok(Batch {
            records,
            next: self.next,
            end: end.max(self.next),
        })
    }
}

fn read(shard: &Shard, from: Offset, end: Offset) -> Result<Vec<Stored>, String> {
    let mut records = Vec::new();
    let (mut next, mut bytes) = (from, 0);
    for pair in shard.keyspace.range(layout::key(from)..layout::key(end)) {
        let (key, value) = pair.into_inner().map_err(|error| told(&error))?;
        if offset_of_key(&key) != Some(next) {
            return Err(format!("offset {next} is missing: the folder is damaged"));
        }
        records.push(layout::decode(next, &value).ok_or_else(|| format!("offset {next} is damaged"))?);
        bytes += value.len();
        next += 1;
        if records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            break;
        }
    }
    if records.is_empty() {
        return Err(format!("offset {from} is missing: the folder is damaged"));
    }
    Ok(records)
}
