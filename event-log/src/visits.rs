//! Records of visits: a batch of events of one partition, without epoch, number and hash, since nobody decided
//! them.

use bytes::Bytes;
use events::{DecodeError, Recorded, TenantId, envelope, feature::NotYet};

use crate::{
    admission::{Verdict, Why, judge_genesis},
    partition::Offset,
    record::{BATCH, HeaderBlock, Kind, Record, Stated},
};

/// The largest value of a record of visits, in bytes. Whoever makes parcels keeps to it: see [`Parcel::several`].
pub const MAX_VISITS: usize = 4 * 1024 * 1024;

/// Why visits cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// One event is larger than a record may be: its size, in bytes.
    #[error("one visit is {0} bytes, of at most {MAX_VISITS}")]
    TooLarge(usize),
    /// An event that may not be written yet.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// Events of one partition (their slots decide which), encoded, on their way into a record that they may share with
/// others.
#[derive(Debug, Clone)]
pub struct Parcel {
    tenant: TenantId,
    /// A JSON array.
    value: Vec<u8>,
}

impl Parcel {
    /// Encodes events of a tenant in their current versions.
    pub fn new(tenant: TenantId, events: &[Recorded]) -> Self {
        Self {
            tenant,
            value: envelope::encode(events),
        }
    }

    /// Encodes events of a tenant, in the versions that may be written at this feature level, into as many parcels as
    /// it takes for each to fit into a record.
    ///
    /// # Errors
    /// One event alone does not fit, or may not be written yet.
    pub fn several(tenant: TenantId, events: &[Recorded], level: u16) -> Result<Vec<Self>, ParcelError> {
        Self::within(MAX_VISITS, tenant, events, level)
    }

    fn within(
        most: usize,
        tenant: TenantId,
        events: &[Recorded],
        level: u16,
    ) -> Result<Vec<Self>, ParcelError> {
        let value = envelope::encode_at(events, level)?;
        let whole = Self { tenant, value };
        if whole.size() <= most {
            return Ok(vec![whole]);
        }
        let (first, second) = events.split_at(events.len() / 2);
        if first.is_empty() {
            return Err(ParcelError::TooLarge(whole.size()));
        }
        let mut parcels = Self::within(most, tenant, first, level)?;
        parcels.extend(Self::within(most, tenant, second, level)?);
        Ok(parcels)
    }

    /// Its size, in bytes.
    pub fn size(&self) -> usize {
        self.value.len()
    }
}

/// A record of these parcels, in their order. They may be of several tenants: the key names the first, for tools.
/// None when there is nothing to record.
pub fn record(parcels: &[Parcel]) -> Option<Record> {
    let tenant = parcels.first()?.tenant;
    let mut value = Vec::with_capacity(parcels.iter().map(Parcel::size).sum());
    for parcel in parcels {
        // Without its brackets: one array holds them all.
        let items = parcel.value.strip_prefix(b"[")?.strip_suffix(b"]")?;
        if items.is_empty() {
            continue;
        }
        value.push(if value.is_empty() { b'[' } else { b',' });
        value.extend_from_slice(items);
    }
    if value.is_empty() {
        return None;
    }
    value.push(b']');
    Some(of(tenant, value.into()))
}

/// A record of these events of one partition.
pub fn encode(tenant: TenantId, events: &[Recorded]) -> Record {
    of(tenant, envelope::encode(events).into())
}

fn of(tenant: TenantId, value: Bytes) -> Record {
    let mut headers = HeaderBlock::with_capacity(96);
    headers.put(b"content-type", BATCH.as_bytes());
    headers.put(b"annals-kind", Kind::Visits.as_str().as_bytes());
    Record {
        key: Some(Bytes::from(tenant.to_string())),
        headers: headers.finish(),
        value,
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

#[cfg(test)]
mod tests {
    use events::{Envelope, EventId, Timestamp, directory::TenantCreated};
    use uuid::Uuid;

    use super::*;

    fn event(bytes: usize) -> Recorded {
        let envelope = Envelope {
            id: EventId::new(Uuid::nil()),
            subject: "a".to_owned(),
            time: Timestamp::from_micros(0).expect("in range"),
            tenant: TenantId::new(Uuid::nil()),
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        };
        let name = "x".repeat(bytes);
        Recorded {
            envelope,
            event: TenantCreated { name }.into(),
        }
    }

    #[test]
    fn events_that_do_not_fit_into_one_record_are_put_into_several_in_their_order() {
        let tenant = TenantId::new(Uuid::nil());
        let events: Vec<Recorded> = (0..9).map(|n| event(1_000 + n)).collect();
        let parcels = Parcel::within(4_000, tenant, &events, 0).expect("each fits");
        assert!(parcels.len() > 2 && parcels.iter().all(|parcel| parcel.size() <= 4_000));
        let read = parcels
            .iter()
            .flat_map(|parcel| envelope::decode(&parcel.value).expect("readable"));
        assert_eq!(read.collect::<Vec<_>>(), events);
        let refused = Parcel::within(4_000, tenant, &[event(10), event(5_000)], 0);
        assert!(matches!(refused, Err(ParcelError::TooLarge(size)) if size > 5_000));
        assert_eq!(Parcel::several(tenant, &events, 0).expect("all fit").len(), 1);
    }
}
