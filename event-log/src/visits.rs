//! Records of visits: a batch of events of one partition, without epoch, number and hash, since nobody decided
//! them.

use bytes::Bytes;
use events::{DecodeError, Recorded, TenantId, envelope};

use crate::{
    admission::{Verdict, Why, judge_genesis},
    partition::Offset,
    record::{BATCH, HeaderBlock, Kind, Record, Stated},
};

/// The largest value of a record of visits, in bytes.
pub const MAX_VISITS: usize = 4 * 1024 * 1024;

/// A record of these events, which belong to one partition: their slots decide which. Several tenants may share
/// a record; the key names one of them, for tools.
pub fn encode(tenant: TenantId, events: &[Recorded]) -> Record {
    let mut headers = HeaderBlock::with_capacity(96);
    headers.put(b"content-type", BATCH.as_bytes());
    headers.put(b"annals-kind", Kind::Visits.as_str().as_bytes());
    let key = Bytes::from(tenant.to_string());
    Record {
        key: Some(key),
        headers: headers.finish(),
        value: envelope::encode(events).into(),
    }
}

/// Reads a record that [`admit`] called visits.
///
/// # Errors
/// The first event that cannot be read.
pub fn decode(record: &Record) -> Result<Vec<Recorded>, DecodeError> {
    envelope::decode(&record.value)
}

/// Judges a record of a partition of visits: its genesis at offset 0, visits after it, else void.
pub fn admit(offset: Offset, record: &Record) -> Verdict {
    match record.stated() {
        Ok(Stated::Genesis) => match judge_genesis(offset, record) {
            Ok(genesis) => Verdict::Genesis(Box::new(genesis)),
            Err(why) => Verdict::Void(why),
        },
        Ok(Stated::Visits) if offset > 0 => Verdict::Visits,
        Ok(Stated::Visits) => Verdict::Void(Why::Genesis("the partition has no genesis".to_owned())),
        Ok(Stated::Claim { .. } | Stated::Commit(_)) => Verdict::Void(Why::Topic),
        Err(malformed) => Verdict::Void(Why::Malformed(malformed)),
    }
}
