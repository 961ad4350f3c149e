//! The first record of a partition, which names the log and says what can never change; and claims.

use std::fmt;

use bytes::Bytes;
use events::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    hash::RECORD_HASH,
    partition::Partition,
    record::{HeaderBlock, JSON, Kind, Record},
    slot::{SLOT_HASH, SlotTable},
};

/// The version of the record format.
pub const FORMAT: u32 = 1;

/// Which log this is: the UUID of its directory's genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

impl<'de> Deserialize<'de> for LogId {
    /// One form only, lower case with hyphens: other languages must not have to guess which others we take.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = Uuid::try_parse(&text).ok().filter(|id| id.to_string() == text);
        id.map(Self)
            .ok_or_else(|| serde::de::Error::custom("a log id is a UUID in lower case, with hyphens"))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of a genesis record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Which log.
    pub log: LogId,
    /// Version of the record format: 1.
    pub format: u32,
    /// The topic's name in the format (`annals.ledger`), whatever prefix a broker knows it by.
    pub topic: String,
    /// Which partition of the topic.
    pub partition: u32,
    /// How many the topic has.
    pub partitions: u32,
    /// Which partition serves which slot.
    pub slots: SlotTable,
    /// Name of the hash that makes slots.
    pub slot_hash: String,
    /// Name of the hash that chains records.
    pub record_hash: String,
}

impl Genesis {
    /// The genesis of one of so many partitions, with an even slot table.
    pub fn new(log: LogId, partition: Partition, partitions: u32) -> Self {
        Self {
            log,
            format: FORMAT,
            topic: partition.topic.name().to_owned(),
            partition: partition.index,
            partitions,
            slots: SlotTable::even(partitions),
            slot_hash: SLOT_HASH.to_owned(),
            record_hash: RECORD_HASH.to_owned(),
        }
    }

    /// As a record.
    pub fn to_record(&self) -> Record {
        json_record(Kind::Genesis, None, self)
    }

    /// Reads a genesis record's value.
    ///
    /// # Errors
    /// What about it this release does not understand.
    pub fn from_value(value: &[u8]) -> Result<Self, String> {
        let genesis: Self =
            serde_json::from_slice(value).map_err(|error| format!("not a genesis: {error}"))?;
        if genesis.format != FORMAT {
            return Err(format!("format {}, expected {FORMAT}", genesis.format));
        }
        if genesis.slot_hash != SLOT_HASH || genesis.record_hash != RECORD_HASH {
            return Err(format!(
                "hashes {:?} and {:?}, expected {SLOT_HASH:?} and {RECORD_HASH:?}",
                genesis.slot_hash, genesis.record_hash
            ));
        }
        if genesis.partition >= genesis.partitions || !genesis.slots.is_complete(genesis.partitions) {
            return Err(format!(
                "partition {} of {} with a slot table that does not fit them",
                genesis.partition, genesis.partitions
            ));
        }
        Ok(genesis)
    }
}

/// The value of a claim: for people; only its epoch, a header, decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which process, under a name that no other run of it has.
    pub owner: String,
    /// When it claimed.
    pub time: Timestamp,
}

impl Claim {
    /// As a record that claims an epoch.
    pub fn to_record(&self, epoch: u64) -> Record {
        json_record(Kind::Claim, Some(epoch), self)
    }
}

fn json_record(kind: Kind, epoch: Option<u64>, value: &impl Serialize) -> Record {
    let mut headers = HeaderBlock::with_capacity(128);
    headers.put(b"content-type", JSON.as_bytes());
    headers.put(b"annals-kind", kind.as_str().as_bytes());
    if let Some(epoch) = epoch {
        headers.put(b"annals-epoch", epoch.to_string().as_bytes());
    }
    // Texts and numbers only: nothing that JSON cannot say.
    let value = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    Record {
        key: None,
        headers: headers.finish(),
        value,
    }
}
