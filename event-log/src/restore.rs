//! Puts exported records into an empty store: at the same offsets, with the same headers, void ones included; or as
//! another log, under an id of its own.
//!
//! What stands in a partition already is compared and left, so an import that was interrupted goes on. Nothing else
//! may write there meanwhile; offsets tell if something does.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    admission::{State, Verdict},
    embedded::Embedded,
    genesis::{Genesis, LogId},
    kafka::Kafka,
    log::{Adapter, AppendError, Appending, LogConfig, OpenError, ReadError, Store, Stored},
    open::first_end,
    partition::{Offset, Partition},
    record::{Headers, Record},
    visits,
};

/// Records and bytes on their way at a time: less than a partition takes.
const RECORDS: usize = 512;
const BYTES: usize = 4 * 1024 * 1024;

/// A store that is to become a log.
pub struct Target(Adapter);

/// Why records could not be put in.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is to be put in is not an export of this partition.
    #[error("{partition} offset {offset}: {reason}")]
    Source {
        /// Which partition.
        partition: Partition,
        /// Where.
        offset: Offset,
        /// What is wrong there.
        reason: String,
    },
    /// The store holds something else, or somebody else writes to it.
    #[error(
        "{partition} offset {offset} holds another record: the target must be empty, or hold the beginning of this import"
    )]
    Occupied {
        /// Which partition.
        partition: Partition,
        /// Where.
        offset: Offset,
    },
    /// The store holds more than the export.
    #[error("{partition} has {end} records in the target, more than the export")]
    Longer {
        /// Which partition.
        partition: Partition,
        /// The target's end.
        end: Offset,
    },
    /// The store could not write.
    #[error("cannot write to {0}: {1}; the same command goes on from there")]
    Append(Partition, AppendError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a partition holds now.
#[derive(Debug)]
pub struct Restored {
    /// Where its admission stands.
    pub after: State,
    /// Offsets of records that no writer makes where they stand ([`crate::admission::Why::is_damage`]), the first
    /// hundred: the log was damaged, or its export was changed. They are in the store as they came, and void.
    pub damaged: Vec<Offset>,
}

/// So many offsets are named; a broken chain makes void all that comes after.
const NAMED: usize = 100;

impl Target {
    /// Opens a store as it is: no genesis is written. The numbers of partitions must be given for a Kafka cluster,
    /// where missing topics are made.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: &LogConfig) -> Result<Self, OpenError> {
        Ok(Self(match &config.store {
            Store::Embedded { dir } => Adapter::Embedded(Embedded::open(dir).await?),
            Store::Kafka(kafka) => Adapter::Kafka(Kafka::open(kafka, config).await?),
        }))
    }

    /// Waits for what is under way and lets go of the store.
    pub async fn close(self) {
        match &self.0 {
            Adapter::Embedded(log) => log.close().await,
            Adapter::Kafka(log) => log.close().await,
        }
    }

    /// Puts the records of a partition in, from the first to the last, and says in which state of admission they
    /// end, and which of them no writer can have made. `id`: the log's new id, if it is to have another. `done` is told
    /// how many records are in, now and then.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn restore(
        &self,
        partition: Partition,
        records: impl Iterator<Item = Result<Stored, String>>,
        id: Option<LogId>,
        mut done: impl FnMut(u64),
    ) -> Result<Restored, RestoreError> {
        let end = first_end(&self.0, partition).await?;
        let last = self.last(partition, end).await?;
        let mut source = Source::new(partition, id);
        let mut sending = Sending::new(partition);
        for stored in records {
            let offset = source.next;
            let wrong = |reason| RestoreError::Source {
                partition,
                offset,
                reason,
            };
            let stored = stored.map_err(wrong)?;
            for (offset, record) in source.records(&stored).map_err(wrong)? {
                if offset + 1 == end && last.as_ref() != Some(&record) {
                    return Err(RestoreError::Occupied { partition, offset });
                }
                if offset >= end {
                    let bytes = record.size();
                    sending
                        .push(offset, bytes, self.0.append_once(partition, record, stored.time))
                        .await?;
                }
            }
            if source.next.is_multiple_of(1024) {
                done(source.next);
            }
        }
        sending.finish().await?;
        done(source.next);
        if end > source.next {
            return Err(RestoreError::Longer { partition, end });
        }
        Ok(Restored {
            after: source.after,
            damaged: source.damaged,
        })
    }

    async fn last(&self, partition: Partition, end: Offset) -> Result<Option<Record>, ReadError> {
        let Some(last) = end.checked_sub(1) else {
            return Ok(None);
        };
        let batch = self.0.reader(partition, last)?.next().await?;
        Ok(batch.records.into_iter().next().map(|stored| stored.record))
    }
}

/// What is to stand in the target.
struct Source {
    partition: Partition,
    id: Option<LogId>,
    next: Offset,
    before: State,
    after: State,
    damaged: Vec<Offset>,
}

impl Source {
    fn new(partition: Partition, id: Option<LogId>) -> Self {
        Self {
            partition,
            id,
            next: 0,
            before: State::default(),
            after: State::default(),
            damaged: Vec::new(),
        }
    }

    /// The records of the target up to this one of the export: offsets that have none are filled with records that
    /// mean nothing, for a store gives every offset to one.
    fn records(&mut self, stored: &Stored) -> Result<Vec<(Offset, Record)>, String> {
        let Stored { offset, record, .. } = stored;
        if *offset < self.next {
            return Err(format!("offset {offset} comes after {}", self.next));
        }
        let fillers = (self.next..*offset).map(|offset| (offset, filler()));
        let mut records: Vec<_> = fillers.collect();
        self.next = offset + 1;
        records.push((*offset, self.renewed(*offset, record)?));
        Ok(records)
    }

    /// The record as it is, or as it is in a log of another id: there the chain begins with another genesis, so each
    /// admitted commit has another hash.
    fn renewed(&mut self, offset: Offset, record: &Record) -> Result<Record, String> {
        let fenced = self.partition.topic.is_fenced();
        let verdict = match fenced {
            true => self.before.admit(offset, record),
            false => visits::admit(offset, record),
        };
        if let Verdict::Void(why) = &verdict
            && why.is_damage()
            && self.damaged.len() < NAMED
        {
            self.damaged.push(offset);
        }
        let new = match (&verdict, self.id) {
            (Verdict::Void(why), _) if offset == 0 => return Err(format!("no genesis: {why}")),
            (Verdict::Genesis(genesis), _) if !self.is_ours(genesis) => {
                return Err(format!("the genesis of {} {}", genesis.topic, genesis.partition));
            }
            (Verdict::Genesis(genesis), Some(log)) => Genesis {
                log,
                ..(**genesis).clone()
            }
            .to_record(),
            (Verdict::Commit(_), Some(_)) => with_hash(record, &self.after.hash.then(record).to_string()),
            (
                Verdict::Genesis(_)
                | Verdict::Commit(_)
                | Verdict::Claimed(_)
                | Verdict::Visits
                | Verdict::Void(_),
                _,
            ) => record.clone(),
        };
        if fenced {
            let again = self.after.admit(offset, &new);
            if std::mem::discriminant(&again) != std::mem::discriminant(&verdict) {
                return Err("it would mean something else in the new log".to_owned());
            }
        }
        Ok(new)
    }

    fn is_ours(&self, genesis: &Genesis) -> bool {
        genesis.topic == self.partition.topic.name() && genesis.partition == self.partition.index
    }
}

/// Stands where the exported log had no record.
fn filler() -> Record {
    Record {
        key: None,
        headers: Headers::new([(b"annals-filler".as_slice(), b"".as_slice())]),
        value: Bytes::new(),
    }
}

fn with_hash(record: &Record, hash: &str) -> Record {
    let headers = record.headers.iter().map(|(name, value)| match name {
        b"annals-hash" => (name, hash.as_bytes()),
        _ => (name, value),
    });
    Record {
        headers: Headers::new(headers),
        ..record.clone()
    }
}

/// Appends under way, in order.
struct Sending {
    partition: Partition,
    queue: VecDeque<(Offset, usize, Appending)>,
    bytes: usize,
}

impl Sending {
    fn new(partition: Partition) -> Self {
        Self {
            partition,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    async fn push(&mut self, offset: Offset, bytes: usize, appending: Appending) -> Result<(), RestoreError> {
        self.queue.push_back((offset, bytes, appending));
        self.bytes += bytes;
        while self.queue.len() >= RECORDS || self.bytes > BYTES {
            self.wait().await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), RestoreError> {
        while !self.queue.is_empty() {
            self.wait().await?;
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), RestoreError> {
        let partition = self.partition;
        let Some((offset, bytes, appending)) = self.queue.pop_front() else {
            return Ok(());
        };
        self.bytes -= bytes;
        match appending.await {
            Ok(at) if at == offset => Ok(()),
            Ok(_) => Err(RestoreError::Occupied { partition, offset }),
            Err(error) => Err(RestoreError::Append(partition, error)),
        }
    }
}
