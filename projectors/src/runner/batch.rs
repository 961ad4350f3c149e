//! What was read of a partition: admitted, decoded, in order, and the admission state after it.

use std::{collections::BTreeSet, sync::Arc};

use event_log::{Offset, Partition, State};
use events::{Recorded, TenantId, Timestamp};
use read_models::{Advance, Projection};
use uuid::Uuid;

/// A range of a partition.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Of which partition.
    pub partition: Partition,
    /// The first offset in it.
    pub from: Offset,
    /// The first offset after it.
    pub next: Offset,
    /// Admission after it.
    pub state: State,
    /// The log's end, as far as the reader knew.
    pub end: Offset,
    /// Bytes of its records.
    pub bytes: usize,
    /// When the last record that counts was appended, or else its last event's time.
    pub time: Option<Timestamp>,
    /// Events of what counts.
    pub events: usize,
    /// Every record with events that count, in order; shared by all who read the partition together.
    pub records: Vec<Arc<Decoded>>,
}

/// What stands at one offset, or between two where no record is: judged and decoded.
#[derive(Debug)]
pub struct Decoded {
    /// The first offset after it.
    pub next: Offset,
    /// Admission after it.
    pub state: State,
    /// Bytes of its value.
    pub bytes: usize,
    /// If it counts: when it was appended, or else its last event's time.
    pub time: Option<Timestamp>,
    /// Its events; none when it does not count.
    pub entries: Vec<Entry>,
}

/// An event and its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Offset of its record.
    pub offset: Offset,
    /// Place in its record, from 0.
    pub index: u32,
    /// The tenant's own sequence number of its commit; 0 for visits.
    pub tenant_seq: u64,
    /// What happened, if it can be read.
    pub event: Result<Recorded, Bad>,
}

/// An event whose content does not fit its type: all that could be read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Whose it is.
    pub tenant: TenantId,
    /// The aggregate that it happened to.
    pub subject: String,
    /// Its name on the wire.
    pub event_type: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Batch {
    /// Adds the record that follows.
    pub(super) fn push(&mut self, record: Arc<Decoded>) {
        self.next = record.next;
        self.state = record.state;
        self.end = self.end.max(record.next);
        self.bytes += record.bytes;
        self.time = record.time.or(self.time);
        self.events += record.entries.len();
        if !record.entries.is_empty() {
            self.records.push(record);
        }
    }

    /// Every event of what counts, in order.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.records.iter().flat_map(|record| &record.entries)
    }

    /// Adds the range that follows.
    pub fn append(&mut self, next: Self) {
        debug_assert!(self.next == next.from, "ranges follow each other");
        self.next = next.next;
        self.state = next.state;
        self.end = self.end.max(next.end);
        self.bytes += next.bytes;
        self.time = next.time.or(self.time);
        self.events += next.events;
        self.records.extend(next.records);
    }

    /// Where the checkpoint moves when all of it is in the tables.
    pub fn advance(&self) -> Advance {
        Advance {
            next_offset: self.next,
            epoch: self.state.epoch,
            seq: self.state.seq,
            hash: self.state.hash.0,
            log_end: self.end,
            last_time: self.time.map(Timestamp::to_utc),
        }
    }
}

impl Entry {
    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        match &self.event {
            Ok(recorded) => recorded.envelope.tenant,
            Err(bad) => bad.tenant,
        }
    }

    /// The aggregate that it happened to.
    pub fn subject(&self) -> &str {
        match &self.event {
            Ok(recorded) => &recorded.envelope.subject,
            Err(bad) => &bad.subject,
        }
    }

    /// The same with its tenant, where its id is a UUID.
    pub fn aggregate(&self) -> Option<(Uuid, Uuid)> {
        let subject = Uuid::try_parse(self.subject()).ok()?;
        Some((self.tenant().uuid(), subject))
    }

    /// Its name on the wire.
    pub fn event_type(&self) -> &str {
        match &self.event {
            Ok(recorded) => recorded.event.wire_name(),
            Err(bad) => &bad.event_type,
        }
    }
}

/// A span for writing these ranges. It names the traces of the commands whose events it writes (the first few),
/// so that a command's trace leads to the batch that made it visible.
pub(super) fn span(projection: Projection, batches: &[Batch]) -> tracing::Span {
    if !tracing::enabled!(tracing::Level::INFO) {
        return tracing::Span::none();
    }
    let ranges: Vec<String> = batches
        .iter()
        .map(|it| format!("{}@{}..{}", it.partition, it.from, it.next))
        .collect();
    let traces: BTreeSet<&str> = batches
        .iter()
        .flat_map(|it| it.entries().rev().take(64))
        .filter_map(|entry| entry.event.as_ref().ok()?.envelope.traceparent.as_deref())
        .filter_map(|parent| parent.split('-').nth(1))
        .take(8)
        .collect();
    let traces: Vec<&str> = traces.into_iter().collect();
    let events: usize = batches.iter().map(|it| it.events).sum();
    tracing::info_span!("project", %projection, ranges = ranges.join(" "), events, traces = traces.join(" "))
}
