//! Reads one partition ahead of the writing: admission, decoding, and what to do with what cannot be read.
//!
//! - A void or foreign record means nothing: it is passed over.
//! - An event of a type or version that this release does not know stops the partition: a newer release wrote
//!   it, and passing it over would lose it.
//! - An event of a known type whose data does not fit it is handed on as [`Bad`]; it is parked.
//! - A log that cannot be read now is waited for.

use std::time::Duration;

use event_log::{
    Batch as Read, Log, Offset, Partition, ReadError, Reader, State, Stored, Topic, Verdict, visits,
};
use events::{DecodeError, Recorded, TenantId, envelope};
use read_models::Checkpoint;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{Bad, Batch, Entry, Gather, Throttle};
use crate::metrics;

/// How long to wait before reading again what could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// What a feed gives.
#[derive(Debug)]
pub enum Fed {
    /// The next range.
    Batch(Batch),
    /// The end, for a reason that a person must look at.
    Stopped {
        /// Which partition.
        partition: Partition,
        /// Why, naming the offset.
        reason: String,
    },
}

/// Reads one partition from a checkpoint on.
#[derive(Debug)]
pub struct Feed {
    log: Log,
    reader: Option<Reader>,
    partition: Partition,
    next: Offset,
    state: State,
    gather: Gather,
    throttle: Throttle,
    /// The first offset that it leaves out for ever.
    cut: Option<Offset>,
}

/// What became of records that were read: ranges, and why it does not go on after them.
#[derive(Debug, Default)]
pub struct Digested {
    /// At least one, unless the first record already stops it.
    pub batches: Vec<Batch>,
    /// Why it cannot go on.
    pub stopped: Option<String>,
}

/// The partition of the log that a checkpoint is of.
pub fn partition(checkpoint: &Checkpoint) -> Partition {
    let topic = match checkpoint.topic() {
        read_models::Topic::Directory => Topic::Directory,
        read_models::Topic::Ledger => Topic::Ledger,
        read_models::Topic::Visits => Topic::Visits,
    };
    Partition {
        topic,
        index: checkpoint.partition,
    }
}

impl Feed {
    /// A feed that goes on where a checkpoint stands, in ranges of about so many events and bytes.
    pub fn new(log: Log, checkpoint: &Checkpoint, gather: Gather) -> Self {
        Self {
            log,
            reader: None,
            partition: partition(checkpoint),
            next: checkpoint.next_offset,
            state: State {
                epoch: checkpoint.epoch,
                seq: checkpoint.seq,
                hash: event_log::Hash(checkpoint.hash),
            },
            gather,
            throttle: Throttle::default(),
            cut: checkpoint.cut,
        }
    }

    /// The same, in ranges of no more than is written at once under this bound, whatever it is by then.
    #[must_use]
    pub fn bound(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// What it reads.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Reads until nobody takes what it gives, until its cut, or until it must stop.
    pub(super) async fn run(mut self, to: mpsc::Sender<Fed>) {
        while self.next < self.within(Offset::MAX) {
            let digested = tokio::select! {
                () = to.closed() => return,
                digested = self.next() => digested,
            };
            for batch in digested.batches {
                if to.send(Fed::Batch(batch)).await.is_err() {
                    return;
                }
            }
            if let Some(reason) = digested.stopped {
                // Nobody takes it any more: then there is nobody to tell.
                let _ = to
                    .send(Fed::Stopped {
                        partition: self.partition,
                        reason,
                    })
                    .await;
                return;
            }
        }
    }

    /// As much of an offset as is before its cut.
    fn within(&self, offset: Offset) -> Offset {
        self.cut.map_or(offset, |cut| cut.min(offset))
    }

    /// Waits for the next records and reads them.
    pub async fn next(&mut self) -> Digested {
        loop {
            let read = match &mut self.reader {
                Some(reader) => reader.next().await,
                None => match self.log.reader(self.partition, self.next) {
                    Ok(reader) => {
                        self.reader = Some(reader);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match read {
                Ok(read) => return self.digest(read),
                Err(error @ (ReadError::OutOfRange { .. } | ReadError::NoPartition(_))) => {
                    let reason = format!(
                        "{error}: the tables know more than the log has, which was replaced or cut off; bring the whole log back, or give this one tables of its own"
                    );
                    return Digested {
                        batches: Vec::new(),
                        stopped: Some(reason),
                    };
                }
                Err(error @ ReadError::Failed { .. }) => {
                    tracing::warn!(partition = %self.partition, offset = self.next, %error, "reading again");
                    self.reader = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn digest(&mut self, read: Read) -> Digested {
        let mut digested = Digested::default();
        let (next, end) = (self.within(read.next), self.within(read.end));
        let mut batch = self.begin(end);
        for stored in read.records {
            let offset = stored.offset;
            if offset >= next {
                break;
            }
            if let Err(reason) = self.take(stored, &mut batch) {
                digested.stopped = Some(format!("offset {offset}: {reason}"));
                break;
            }
            // The bound may be another one than a moment ago.
            let events = self.gather.events.min(self.throttle.most(self.gather.stretch));
            if batch.entries.len() >= events || batch.bytes >= self.gather.bytes {
                let full = std::mem::replace(&mut batch, self.begin(end));
                digested.batches.push(full);
            }
        }
        if digested.stopped.is_none() && next > self.next {
            // What stands between is no record.
            (self.next, batch.next) = (next, next);
        }
        if batch.next > batch.from {
            digested.batches.push(batch);
        }
        digested
    }

    const fn begin(&self, end: Offset) -> Batch {
        Batch {
            partition: self.partition,
            from: self.next,
            next: self.next,
            state: self.state,
            end,
            bytes: 0,
            time: None,
            entries: Vec::new(),
        }
    }

    /// Judges a record and takes its events in; `Err` leaves it as the next one.
    fn take(&mut self, stored: Stored, batch: &mut Batch) -> Result<(), String> {
        let Stored { offset, time, record } = stored;
        let mut state = self.state;
        let verdict = if self.partition.topic.is_fenced() {
            state.admit(offset, &record)
        } else {
            visits::admit(offset, &record)
        };
        let tenant_seq = match verdict {
            Verdict::Commit(headers) => Some(headers.tenant_seq),
            Verdict::Visits => Some(0),
            Verdict::Genesis(_) | Verdict::Claimed(_) => None,
            Verdict::Void(why) => {
                metrics::VOID
                    .with_label_values(&[self.partition.topic.short()])
                    .inc();
                if why.is_damage() {
                    tracing::error!(partition = %self.partition, offset, %why, "history is damaged here: look at it with `annals log verify`");
                } else {
                    tracing::info!(partition = %self.partition, offset, %why, "void");
                }
                None
            }
        };
        if let Some(tenant_seq) = tenant_seq {
            let events = read_events(&record.value)?;
            let last = events
                .iter()
                .rev()
                .find_map(|event| Some(event.as_ref().ok()?.envelope.time));
            batch.time = time.or(last).or(batch.time);
            batch
                .entries
                .extend((0..).zip(events).map(|(index, event)| Entry {
                    offset,
                    index,
                    tenant_seq,
                    event,
                }));
        }
        self.state = state;
        self.next = offset + 1;
        batch.next = self.next;
        batch.state = state;
        batch.end = batch.end.max(self.next);
        batch.bytes += record.value.len();
        Ok(())
    }
}

/// The events of a record, each readable or not; `Err` when the whole partition must stop.
pub(super) fn read_events(value: &[u8]) -> Result<Vec<Result<Recorded, Bad>>, String> {
    match envelope::decode(value) {
        Ok(events) => Ok(events.into_iter().map(Ok).collect()),
        Err(error @ (DecodeError::Unknown { .. } | DecodeError::Batch(_))) => Err(chain(&error)),
        // One by one, to keep those that can be read.
        Err(DecodeError::Data { .. } | DecodeError::Attribute { .. }) => read_each(value),
    }
}

fn read_each(value: &[u8]) -> Result<Vec<Result<Recorded, Bad>>, String> {
    /// What must be readable for an event to be parked: whose it is.
    #[derive(Deserialize)]
    struct Stub {
        #[serde(rename = "type")]
        name: String,
        subject: String,
        tenant: TenantId,
    }
    let events: Vec<&RawValue> = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let read = events.into_iter().map(|raw| {
        let error = match envelope::decode(format!("[{}]", raw.get()).as_bytes()) {
            Ok(mut events) => return events.pop().map(Ok).ok_or_else(|| "an empty batch".to_owned()),
            Err(error @ (DecodeError::Unknown { .. } | DecodeError::Batch(_))) => return Err(chain(&error)),
            Err(error @ (DecodeError::Data { .. } | DecodeError::Attribute { .. })) => error,
        };
        let stub: Stub = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        let Stub {
            name: event_type,
            subject,
            tenant,
        } = stub;
        Ok(Err(Bad {
            tenant,
            subject,
            event_type,
            reason: chain(&error),
        }))
    });
    read.collect()
}

/// An error and what it came from, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/annals","type":"{name}","subject":"s","time":"2026-11-21T16:03:00.000000Z","tenant":"{id}","data":{data}}}"#,
            id = uuid::Uuid::from_u128(1),
        )
    }

    #[test]
    fn an_event_that_does_not_fit_its_type_is_kept_apart_from_its_neighbours() {
        let batch = format!(
            "[{},{}]",
            event("download.failed.v1", "{}"),
            event("download.started.v1", "{}")
        );
        let events = read_events(batch.as_bytes()).unwrap();
        let bad = events[0].as_ref().unwrap_err();
        assert_eq!(
            (bad.subject.as_str(), bad.event_type.as_str()),
            ("s", "download.failed.v1")
        );
        assert!(bad.reason.contains("reason"), "{}", bad.reason);
        assert!(events[1].is_ok());
    }

    #[tokio::test]
    async fn offsets_that_hold_no_record_are_passed() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(event_log::LogConfig {
            store: event_log::Store::Embedded {
                dir: folder.path().to_owned(),
            },
            ledger_partitions: Some(1),
            visits_partitions: Some(1),
            development: true,
        });
        let log = log.await.unwrap();
        let mut feed = Feed {
            log: log.clone(),
            reader: None,
            partition: Partition::ledger(0),
            next: 1,
            state: State::default(),
            gather: Gather::AT_ONCE,
            throttle: Throttle::default(),
            cut: None,
        };
        let read = Read {
            records: Vec::new(),
            next: 3,
            end: 3,
        };
        let digested = feed.digest(read);
        let ranges: Vec<_> = digested.batches.iter().map(|it| (it.from, it.next)).collect();
        assert_eq!((ranges, feed.next), (vec![(1, 3)], 3));
        log.close().await;
    }

    #[test]
    fn an_event_of_a_future_version_stops_everything() {
        let batch = format!(
            "[{},{}]",
            event("download.failed.v1", "{}"),
            event("download.started.v2", "{}")
        );
        assert!(
            read_events(batch.as_bytes())
                .unwrap_err()
                .contains("download.started.v2")
        );
        assert!(read_events(b"garbage").is_err());
    }
}
