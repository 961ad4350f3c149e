//! Whether a partition is what the format says, from its first record to its end: genesis, admission, chain, events
//! and their versions, sequences of tenants and aggregates, times. What is void or odd is told by its offset.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher},
};

use events::{Recorded, TenantId, Timestamp};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    admission::{State, Verdict, Why},
    commit::Commit,
    genesis::{Genesis, LogId},
    log::{Log, ReadError, Stored},
    partition::{Offset, Partition, Topic},
    record::CommitHeaders,
    slot::{self, SlotTable},
    visits,
};

/// Progress is told after so many records.
const EVERY: u64 = 16_384;

/// What is told of an audit, in this order: progress and findings, mixed; then the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// How far it is.
    Progress {
        /// Records read.
        records: u64,
        /// The partition's end when the audit began.
        of: Offset,
    },
    /// Something worth a look.
    Finding(Finding),
    /// What it came to.
    Result(Summary),
}

/// Something about an offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub offset: Offset,
    /// How bad it is.
    pub what: What,
    /// In words.
    pub text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A record that means nothing: the trace of a writer that was fenced off, or of a failed append.
    Void,
    /// Offsets that no record has.
    Gap,
    /// What no writer of ours leaves, and harms nobody.
    Odd,
    /// What must not be.
    Wrong,
}

/// What an audit came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Such as `ledger/0`.
    pub partition: String,
    /// Which log its genesis names.
    pub log: Option<LogId>,
    /// Records read.
    pub records: u64,
    /// Admitted claims.
    pub claims: u64,
    /// Admitted commits.
    pub commits: u64,
    /// Admitted records of visits.
    pub visits: u64,
    /// Records that mean nothing.
    pub void: u64,
    /// Offsets that no record has.
    pub gaps: u64,
    /// Findings of that kind.
    pub odd: u64,
    /// Findings of that kind. None: the partition is in order.
    pub wrong: u64,
    /// The offset after the last record.
    pub next: Offset,
    /// Of fenced partitions: the last admitted epoch.
    pub epoch: u64,
    /// Of fenced partitions: the last number in it.
    pub seq: u64,
    /// Of fenced partitions: the hash of the last admitted record, which stands for all before it.
    pub hash: String,
}

/// Reads a partition up to its end now and tells what it finds. It ends early when nobody listens any more.
///
/// # Errors
/// The log cannot be read.
pub async fn audit(log: &Log, partition: Partition, tell: &mpsc::Sender<Told>) -> Result<(), ReadError> {
    let end = log.end(partition).await?;
    let mut audit = Audit::new(log.id(), partition, log.partitions(partition.topic));
    let mut reader = log.reader(partition, 0)?;
    let mut told = 0;
    while audit.next < end {
        let batch = reader.next().await?;
        for stored in batch.records.iter().filter(|stored| stored.offset < end) {
            for finding in audit.see(stored) {
                if tell.send(Told::Finding(finding)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // Offsets may have no record, at the very end as well.
        if batch.next >= end {
            for finding in audit.gap(end) {
                let _ = tell.send(Told::Finding(finding)).await;
            }
        }
        let records = audit.summary.records;
        if records >= told + EVERY {
            told = records;
            let progress = Told::Progress { records, of: end };
            if tell.send(progress).await.is_err() {
                return Ok(());
            }
        }
    }
    // Whoever does not hear this hears nothing else either.
    let _ = tell.send(Told::Result(audit.summary())).await;
    Ok(())
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    log: LogId,
    partition: Partition,
    partitions: u32,
    slots: Option<SlotTable>,
    state: State,
    next: Offset,
    time: Option<Timestamp>,
    tenants: HashMap<TenantId, u64>,
    /// The last version of each aggregate, by a hash of tenant, kind and subject: 16 bytes for each.
    aggregates: HashMap<u64, u64>,
    summary: Summary,
    found: Vec<Finding>,
}

impl Audit {
    /// Of a partition, one of so many of its topic, of this log.
    pub fn new(log: LogId, partition: Partition, partitions: u32) -> Self {
        let summary = Summary {
            partition: partition.to_string(),
            log: None,
            records: 0,
            claims: 0,
            commits: 0,
            visits: 0,
            void: 0,
            gaps: 0,
            odd: 0,
            wrong: 0,
            next: 0,
            epoch: 0,
            seq: 0,
            hash: String::new(),
        };
        Self {
            log,
            partition,
            partitions,
            slots: None,
            state: State::default(),
            next: 0,
            time: None,
            tenants: HashMap::new(),
            aggregates: HashMap::new(),
            summary,
            found: Vec::new(),
        }
    }

    /// What it came to so far.
    pub fn summary(&self) -> Summary {
        Summary {
            next: self.next,
            epoch: self.state.epoch,
            seq: self.state.seq,
            hash: self.state.hash.to_string(),
            ..self.summary.clone()
        }
    }

    /// The next record, in the order of offsets, and what is to be said about it.
    pub fn see(&mut self, stored: &Stored) -> Vec<Finding> {
        let Stored { offset, record, .. } = stored;
        self.found = self.gap(*offset);
        self.next = offset + 1;
        self.summary.records += 1;
        let verdict = match self.partition.topic.is_fenced() {
            true => self.state.admit(*offset, record),
            false => visits::admit(*offset, record),
        };
        match verdict {
            Verdict::Genesis(genesis) => self.genesis(*offset, *genesis),
            Verdict::Claimed(claimed) => {
                self.summary.claims += 1;
                if claimed.claim.is_none() {
                    self.find(*offset, What::Odd, "a claim that does not say whose it is");
                }
            }
            Verdict::Commit(commit) => {
                self.summary.commits += 1;
                match Commit::decode(&commit, record) {
                    Ok(read) => self.commit(*offset, &commit, &read, record.key.as_deref()),
                    Err(error) => self.find(*offset, What::Wrong, told(&error)),
                }
            }
            Verdict::Visits => {
                self.summary.visits += 1;
                if let Err(error) = visits::decode(record) {
                    self.find(*offset, What::Odd, told(&error));
                }
            }
            Verdict::Void(why) => self.void(*offset, &why),
        }
        std::mem::take(&mut self.found)
    }

    fn genesis(&mut self, offset: Offset, genesis: Genesis) {
        let Partition { topic, index } = self.partition;
        self.summary.log = Some(genesis.log);
        if genesis.log != self.log {
            let text = format!("the genesis is of log {}, expected {}", genesis.log, self.log);
            self.find(offset, What::Wrong, text);
        }
        if (genesis.topic.as_str(), genesis.partition, genesis.partitions)
            != (topic.name(), index, self.partitions)
        {
            let text = format!(
                "the genesis is of {} {} of {}, expected {} {index} of {}",
                genesis.topic,
                genesis.partition,
                genesis.partitions,
                topic.name(),
                self.partitions
            );
            self.find(offset, What::Wrong, text);
        }
        self.slots = Some(genesis.slots);
    }

    fn commit(&mut self, offset: Offset, headers: &CommitHeaders, commit: &Commit, key: Option<&[u8]>) {
        let tenant = commit.tenant;
        let last = self.tenants.insert(tenant, headers.tenant_seq).unwrap_or(0);
        if headers.tenant_seq != last + 1 {
            let found = headers.tenant_seq;
            let text = format!("tenant {tenant} has number {found} after {last}");
            self.find(offset, What::Wrong, text);
        }
        if key != Some(tenant.to_string().as_bytes()) {
            let text = format!("the key is not the tenant, {tenant}");
            self.find(offset, What::Odd, text);
        }
        let slot = slot::of_tenant(tenant);
        let home = self.slots.as_ref().map(|slots| slots.partition(slot));
        if self.partition.topic == Topic::Ledger && home.is_some_and(|home| home != self.partition.index) {
            let text = format!("tenant {tenant} has slot {slot}, which another partition serves");
            self.find(offset, What::Wrong, text);
        }
        for (place, recorded) in commit.events.iter().enumerate() {
            let time = recorded.envelope.time;
            if self.time.is_some_and(|last| time < last) {
                let text = format!("event {place} is of {time}, before what stands before it");
                self.find(offset, What::Wrong, text);
            }
            self.time = self.time.max(Some(time));
            self.version(offset, place, recorded);
        }
    }

    fn version(&mut self, offset: Offset, place: usize, recorded: &Recorded) {
        let Recorded { envelope, event } = recorded;
        let kind = event.wire_name().split('.').next().unwrap_or_default();
        let Some(version) = envelope.aggregate_version else {
            let text = format!("event {place} has no version of its aggregate");
            return self.find(offset, What::Wrong, text);
        };
        let mut hasher = DefaultHasher::new();
        (envelope.tenant, kind, &envelope.subject).hash(&mut hasher);
        let last = self.aggregates.insert(hasher.finish(), version).unwrap_or(0);
        if version != last + 1 {
            let subject = &envelope.subject;
            let text = format!("event {place} makes {kind} {subject} version {version}, after {last}");
            self.find(offset, What::Wrong, text);
        }
    }

    fn void(&mut self, offset: Offset, why: &Why) {
        self.summary.void += 1;
        let what = match why {
            why if why.is_damage() => What::Wrong,
            // Another one after it is of a process that began the log at the same time.
            Why::Genesis(_) if self.summary.log.is_none() => What::Wrong,
            Why::Malformed(_) | Why::Topic => What::Odd,
            Why::Epoch { .. } | Why::Seq { .. } | Why::Hash | Why::Genesis(_) => What::Void,
        };
        self.find(offset, what, format!("void: {why}"));
    }

    /// There are no records up to this offset.
    fn gap(&mut self, to: Offset) -> Vec<Finding> {
        if to > self.next {
            let (from, missing) = (self.next, to - self.next);
            self.summary.gaps += missing;
            let what = if from == 0 { What::Wrong } else { What::Gap };
            self.find(from, what, format!("{missing} offsets have no record"));
            self.next = to;
        }
        std::mem::take(&mut self.found)
    }

    fn find(&mut self, offset: Offset, what: What, text: impl Into<String>) {
        match what {
            What::Odd => self.summary.odd += 1,
            What::Wrong => self.summary.wrong += 1,
            What::Void | What::Gap => {}
        }
        let text = text.into();
        self.found.push(Finding { offset, what, text });
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests;
