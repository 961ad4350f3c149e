//! The log as operators read it: what stands at which offset, whether it counts, and why not.
//!
//! Whether a record counts depends on all before it, so the first look at a partition reads it from its
//! beginning; marks on the way make later looks short.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use event_log::{Log, Offset, Partition, ReadError, Record, State, Stored, Verdict, visits};
use events::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A mark is kept every so many records.
const EVERY: Offset = 4096;
/// No more bytes of values are shown at once, beyond the first record.
const MAX_BYTES: usize = 1024 * 1024;

/// Marks of what admission knew at some offsets, of each partition that was looked at.
#[derive(Debug, Default)]
pub struct History(Mutex<HashMap<Partition, Arc<Marks>>>);

/// Held by whoever reads the partition.
type Marks = tokio::sync::Mutex<BTreeMap<Offset, State>>;

/// A piece of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// Such as `ledger/0`.
    partition: String,
    /// In the order of the log.
    records: Vec<Entry>,
    /// Where the next page begins.
    next: Offset,
    /// The next offset that the partition will have.
    end: Offset,
}

/// A record of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its place.
    offset: Offset,
    /// When it was appended, by the log's clock, where known.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    /// `genesis`, `claim`, `commit`, `visits` or `void`.
    kind: &'static str,
    /// Whether it counts.
    admitted: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Of a claim or a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Of a commit: its number within the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Of a commit: its number within the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_seq: Option<u64>,
    /// Of a commit: the hash that chains it to all before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// What stands there, when it is JSON: of commits and visits an array of CloudEvents.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    /// What stands there, when it is not JSON: its first 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl History {
    /// At most `limit` records of a partition from an offset on, as far as the partition goes now.
    ///
    /// # Errors
    /// The log cannot be read, or has no such offset.
    pub async fn page(
        &self,
        log: &Log,
        partition: Partition,
        from: Offset,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let end = log.end(partition).await?;
        let mut page = Page {
            partition: partition.to_string(),
            records: Vec::new(),
            next: from,
            end,
        };
        if from >= end {
            return Ok(page);
        }
        // Operators look at a partition one after another; whoever comes second finds the marks of the first.
        let marks = self.marks(partition);
        let mut marks = marks.lock().await;
        let (start, mut state) = marks
            .range(..=from)
            .next_back()
            .map_or((0, State::default()), |(offset, state)| (*offset, *state));
        let mut reader = log.reader(partition, if partition.topic.is_fenced() { start } else { from })?;
        let mut bytes = 0;
        loop {
            let batch = reader.next().await?;
            for stored in batch.records {
                if stored.offset.is_multiple_of(EVERY) {
                    marks.insert(stored.offset, state);
                }
                let verdict = if partition.topic.is_fenced() {
                    state.admit(stored.offset, &stored.record)
                } else {
                    visits::admit(stored.offset, &stored.record)
                };
                if stored.offset < from {
                    continue;
                }
                bytes += stored.record.value.len();
                page.next = stored.offset + 1;
                page.records.push(Entry::of(&stored, verdict));
                if page.records.len() >= limit || bytes > MAX_BYTES || page.next >= end {
                    return Ok(page);
                }
            }
            if batch.next >= end {
                page.next = page.next.max(end);
                return Ok(page);
            }
        }
    }

    fn marks(&self, partition: Partition) -> Arc<Marks> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(partition).or_default().clone()
    }
}

impl Entry {
    fn of(stored: &Stored, verdict: Verdict) -> Self {
        let Stored { offset, time, record } = stored;
        let (value, text) = shown(record);
        let nothing = Self {
            offset: *offset,
            time: *time,
            kind: "void",
            admitted: true,
            why: None,
            epoch: None,
            seq: None,
            tenant_seq: None,
            hash: None,
            value,
            text,
        };
        match verdict {
            Verdict::Genesis(_) => Self {
                kind: "genesis",
                ..nothing
            },
            Verdict::Claimed(claimed) => Self {
                kind: "claim",
                epoch: Some(claimed.epoch),
                ..nothing
            },
            Verdict::Commit(headers) => Self {
                kind: "commit",
                epoch: Some(headers.epoch),
                seq: Some(headers.seq),
                tenant_seq: Some(headers.tenant_seq),
                hash: Some(headers.hash.to_string()),
                ..nothing
            },
            Verdict::Visits => Self {
                kind: "visits",
                ..nothing
            },
            Verdict::Void(why) => Self {
                admitted: false,
                why: Some(why.to_string()),
                ..nothing
            },
        }
    }
}

fn shown(record: &Record) -> (Option<Box<RawValue>>, Option<String>) {
    match serde_json::from_slice(&record.value) {
        Ok(json) => (Some(json), None),
        Err(_) => (
            None,
            Some(String::from_utf8_lossy(&record.value).chars().take(200).collect()),
        ),
    }
}
