//! The log as people read it: position, admitted or void and why, events.

use events::{TenantId, Timestamp};
use serde::Serialize;

use crate::{
    admission::{State, Verdict},
    driver::Start,
    log::{Log, ReadError, Stored},
    partition::{Offset, Partition},
    visits,
};

/// Lines in one answer at most.
pub const MAX_LINES: usize = 1_000;
/// Bytes of records in one answer, about.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Records that are folded before the first line at most: admission of a record depends on all before it.
pub const MAX_SCAN: u64 = 1_000_000;

/// One record.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `ledger/0`.
    pub partition: String,
    /// Its place.
    pub offset: Offset,
    /// When it was appended, by the log's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// `genesis`, `claim`, `commit`, `visits` or `void`.
    pub verdict: &'static str,
    /// Of a void record, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of claims and commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Of commits: the number in the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Of commits: the number among the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_seq: Option<u64>,
    /// Of admitted records of fenced partitions: the chain's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Of commits and visits: the tenant that the key names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Bytes of the record.
    pub size: usize,
    /// The value, when it is JSON: of commits and visits the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

/// Some lines, and where the next ones begin.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// In order.
    pub lines: Vec<Line>,
    /// The offset after the last line.
    pub next: Offset,
    /// The partition's end when it was asked.
    pub end: Offset,
}

/// Why there is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Too much stands between the known state and the first line.
    #[error(
        "offset {from} of {partition} is {distance} records after the nearest known state; at most {MAX_SCAN} are folded for a view"
    )]
    TooFar {
        /// Which partition.
        partition: Partition,
        /// The first line asked for.
        from: Offset,
        /// How far it is.
        distance: u64,
    },
}

/// The records from this offset on, at most `count` (and [`MAX_LINES`]) and at most up to the partition's end now.
/// `known` is a state of admission at or before `from`, such as a checkpoint's; the default folds from the genesis.
///
/// # Errors
/// See [`ViewError`].
pub async fn view(
    log: &Log,
    partition: Partition,
    from: Offset,
    count: usize,
    known: Start,
) -> Result<View, ViewError> {
    let end = log.end(partition).await?;
    let fenced = partition.topic.is_fenced();
    // Visits are judged one by one; so is nothing that lies before a state which is too late.
    let Start {
        next: mut at,
        mut state,
    } = match known {
        _ if !fenced => Start {
            next: from,
            state: State::default(),
        },
        known if known.next <= from => known,
        _ => Start::default(),
    };
    let distance = from.saturating_sub(at);
    if distance > MAX_SCAN {
        return Err(ViewError::TooFar {
            partition,
            from,
            distance,
        });
    }
    let to = from.saturating_add(count.min(MAX_LINES) as Offset).min(end);
    let mut view = View {
        lines: Vec::new(),
        next: from.min(end),
        end,
    };
    if at >= to {
        return Ok(view);
    }
    let mut reader = log.reader(partition, at)?;
    let mut bytes = 0;
    while at < to {
        let batch = reader.next().await?;
        for stored in batch.records {
            if stored.offset >= to || bytes > MAX_BYTES {
                return Ok(view);
            }
            at = stored.offset + 1;
            let verdict = match fenced {
                true => state.admit(stored.offset, &stored.record),
                false => visits::admit(stored.offset, &stored.record),
            };
            if stored.offset >= from {
                bytes += stored.record.size();
                view.lines
                    .push(line(partition, &stored, verdict, fenced.then_some(&state)));
                view.next = at;
            }
        }
        at = at.max(batch.next.min(to));
        if at > from {
            view.next = at;
        }
    }
    Ok(view)
}

fn line(partition: Partition, stored: &Stored, verdict: Verdict, state: Option<&State>) -> Line {
    let record = &stored.record;
    let key = record
        .key
        .as_deref()
        .and_then(|key| std::str::from_utf8(key).ok());
    let mut line = Line {
        partition: partition.to_string(),
        offset: stored.offset,
        time: stored.time,
        verdict: "void",
        why: None,
        epoch: None,
        seq: None,
        tenant_seq: None,
        hash: state.map(|state| state.hash.to_string()),
        tenant: key.and_then(|key| key.parse().ok()),
        size: record.size(),
        value: serde_json::from_slice(&record.value).ok(),
    };
    match verdict {
        Verdict::Genesis(_) => line.verdict = "genesis",
        Verdict::Claimed(claimed) => {
            line.verdict = "claim";
            line.epoch = Some(claimed.epoch);
        }
        Verdict::Commit(commit) => {
            line.verdict = "commit";
            (line.epoch, line.seq) = (Some(commit.epoch), Some(commit.seq));
            line.tenant_seq = Some(commit.tenant_seq);
        }
        Verdict::Visits => line.verdict = "visits",
        Verdict::Void(why) => {
            line.why = Some(why.to_string());
            line.hash = None;
        }
    }
    line
}
