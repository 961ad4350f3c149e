//! Admission: the pure fold that every reader of a fenced partition applies, from the first record on.
//!
//! Kafka cannot append conditionally, so the condition stands in the records: a claim is admitted when its epoch
//! follows, a commit when its epoch is the current one, its number follows and its hash fits. Anything else is
//! void: it stays in the log and means nothing. Since every reader applies the same rule to the same records,
//! every reader derives the same history, whoever wrote what and however late it arrived.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::record::CommitHeaders;
use crate::{
    genesis::{Claim, Genesis},
    hash::Hash,
    partition::Offset,
    record::{Record, Stated},
};

/// All that admission remembers. The default is before the genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct State {
    /// The epoch of the last admitted claim; 0 before any.
    pub epoch: u64,
    /// The number of the last admitted commit of that epoch; 0 before any.
    pub seq: u64,
    /// The hash of the last admitted record; zeros before the genesis.
    pub hash: Hash,
}

/// What a record means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The partition begins.
    Genesis(Box<Genesis>),
    /// A writer took over.
    Claimed(Claimed),
    /// A commit, next in its epoch and of the right hash.
    Commit(CommitHeaders),
    /// Visits; in partitions of visits only.
    Visits,
    /// Nothing.
    Void(Why),
}

/// An admitted claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The epoch that begins.
    pub epoch: u64,
    /// Who and when, where the value says it.
    pub claim: Option<Claim>,
}

/// Why a record is void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its headers are not ours.
    Malformed(Malformed),
    /// A genesis that is not the partition's first record, or a first record that is none.
    Genesis(String),
    /// A record of a kind that this topic does not hold.
    Topic,
    /// Its epoch is not the current one (of a claim: not the next).
    Epoch {
        /// What it says.
        found: u64,
        /// What would have been admitted.
        expected: u64,
    },
    /// Its number does not follow.
    Seq {
        /// What it says.
        found: u64,
        /// What would have been admitted.
        expected: u64,
    },
    /// Its hash does not fit its predecessor, its headers and its value.
    Hash,
}

/// Why headers say nothing that we understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// A header that this kind needs.
    Missing(&'static str),
    /// A header that stands twice.
    Twice(&'static str),
    /// A header that this kind does not have.
    OutOfPlace(&'static str),
    /// A header whose text is not in its one form.
    Form {
        /// Which.
        header: &'static str,
        /// Its text, at most 64 characters.
        found: String,
    },
}

impl Malformed {
    pub(crate) fn form(header: &'static str, found: &[u8]) -> Self {
        Self::Form {
            header,
            found: String::from_utf8_lossy(found).chars().take(64).collect(),
        }
    }
}

impl State {
    /// Whether the partition's genesis was admitted.
    pub fn has_begun(&self) -> bool {
        self.hash != Hash::default()
    }

    /// Judges the record at this offset and moves on when it is admitted. Call it with every record of a
    /// partition of the directory or the ledger, in order.
    pub fn admit(&mut self, offset: Offset, record: &Record) -> Verdict {
        match self.judge(offset, record) {
            Ok((state, verdict)) => {
                *self = state;
                verdict
            }
            Err(why) => Verdict::Void(why),
        }
    }

    fn judge(&self, offset: Offset, record: &Record) -> Result<(Self, Verdict), Why> {
        let slots = record.slots().map_err(Why::Malformed)?;
        let stated = slots.stated().map_err(Why::Malformed)?;
        let hash = || self.hash.then_slots(&slots, &record.value);
        if !self.has_begun() && stated != Stated::Genesis {
            return Err(Why::Genesis("the partition has no genesis".to_owned()));
        }
        match stated {
            Stated::Genesis => {
                // Whoever feeds the first record twice must not begin anew.
                let genesis = judge_genesis(if self.has_begun() { Offset::MAX } else { offset }, record)?;
                Ok((
                    Self {
                        epoch: 0,
                        seq: 0,
                        hash: hash(),
                    },
                    Verdict::Genesis(Box::new(genesis)),
                ))
            }
            Stated::Claim { epoch } => {
                follows(epoch, self.epoch).map_err(|expected| Why::Epoch {
                    found: epoch,
                    expected,
                })?;
                let claim = serde_json::from_slice(&record.value).ok();
                Ok((
                    Self {
                        epoch,
                        seq: 0,
                        hash: hash(),
                    },
                    Verdict::Claimed(Claimed { epoch, claim }),
                ))
            }
            Stated::Commit(commit) => {
                if commit.epoch != self.epoch {
                    return Err(Why::Epoch {
                        found: commit.epoch,
                        expected: self.epoch,
                    });
                }
                follows(commit.seq, self.seq).map_err(|expected| Why::Seq {
                    found: commit.seq,
                    expected,
                })?;
                if hash() != commit.hash {
                    return Err(Why::Hash);
                }
                Ok((
                    Self {
                        epoch: self.epoch,
                        seq: commit.seq,
                        hash: commit.hash,
                    },
                    Verdict::Commit(commit),
                ))
            }
            Stated::Visits => Err(Why::Topic),
        }
    }
}

/// The first record of any partition, and no other, is its genesis.
pub(crate) fn judge_genesis(offset: Offset, record: &Record) -> Result<Genesis, Why> {
    if offset != 0 {
        return Err(Why::Genesis("a genesis counts at offset 0 only".to_owned()));
    }
    Genesis::from_value(&record.value).map_err(Why::Genesis)
}

/// Whether a number is the one after another; if not, which one would be.
fn follows(found: u64, last: u64) -> Result<(), u64> {
    let expected = last.saturating_add(1);
    if found == expected && found != last {
        Ok(())
    } else {
        Err(expected)
    }
}

/// Commits of a partition that a writer has under way at most, and as many answers that append nothing.
pub const MOST_IN_FLIGHT: usize = 4_096;

/// No writer is so many numbers ahead of what is admitted: a new claim may turn answers into commits, so it has twice
/// that under way, and this is twice that again.
const FARTHEST_AHEAD: u64 = 4 * MOST_IN_FLIGHT as u64;

impl Why {
    /// Whether no writer that keeps the rules ever makes such a record where it stands: history was changed by somebody
    /// else, or the log has lost a part of it. (A writer begins an epoch when it has read its own claim, and chains its
    /// commits on what it has read. A number that is missing is an append that failed: then few more follow in its epoch.)
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Hash => true,
            Self::Epoch { found, expected } => found > expected,
            Self::Seq { found, expected } => *found > expected.saturating_add(FARTHEST_AHEAD),
            Self::Malformed(_) | Self::Genesis(_) | Self::Topic => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Genesis(what) => f.write_str(what),
            Self::Topic => f.write_str("this topic does not hold records of this kind"),
            Self::Epoch { found, expected } => write!(f, "epoch {found}, expected {expected}"),
            Self::Seq { found, expected } => write!(f, "number {found}, expected {expected}"),
            Self::Hash => f.write_str("the hash does not fit what stands before it and in it"),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(header) => write!(f, "not ours: the header {header} is missing"),
            Self::Twice(header) => write!(f, "not ours: the header {header} stands twice"),
            Self::OutOfPlace(header) => write!(f, "not ours: the header {header} is out of place"),
            Self::Form { header, found } => write!(f, "not ours: the header {header} is {found:?}"),
        }
    }
}

/// As checkpoints keep it.
#[derive(Serialize, Deserialize)]
struct Saved {
    epoch: u64,
    seq: u64,
    hash: String,
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved {
            epoch: self.epoch,
            seq: self.seq,
            hash: self.hash.to_string(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Saved { epoch, seq, hash } = Saved::deserialize(deserializer)?;
        let hash = Hash::from_hex(&hash)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 lower-case hex digits"))?;
        Ok(Self { epoch, seq, hash })
    }
}

#[cfg(test)]
mod tests;
