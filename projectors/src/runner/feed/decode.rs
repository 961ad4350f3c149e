//! From records to events: admission, decoding, and what to do with what cannot be read.
//!
//! - A void or foreign record means nothing: it is passed over.
//! - An event of a type or version that this release does not know stops the partition: a newer release wrote
//!   it, and passing it over would lose it.
//! - An event of a known type whose data does not fit it is handed on as [`Bad`]; it is parked.

use std::sync::Arc;

use event_log::{Batch as Read, Offset, Partition, State, Stored, Verdict, visits};
use events::{DecodeError, Recorded, TenantId, envelope};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::chain;
use crate::{
    metrics,
    runner::{Bad, Decoded, Entry},
};

/// What became of records that were read, and why it does not go on after them.
#[derive(Debug)]
pub(super) struct Digested {
    /// Without a gap, from where it was read on.
    pub(super) records: Vec<Arc<Decoded>>,
    /// The log's end, as far as it is known.
    pub(super) end: Offset,
    /// Why it cannot go on, naming the offset.
    pub(super) stopped: Option<String>,
}

/// Judges and decodes what was read from an offset on, where admission was this.
pub(super) fn digest(partition: Partition, mut next: Offset, mut state: State, read: Read) -> Digested {
    let count = metrics::READ.with_label_values(&[partition.topic.short()]);
    let (mut records, mut stopped) = (Vec::with_capacity(read.records.len() + 1), None);
    for stored in read.records {
        let offset = stored.offset;
        count.inc();
        match decode(partition, state, stored) {
            Ok(decoded) => {
                (next, state) = (decoded.next, decoded.state);
                records.push(Arc::new(decoded));
            }
            Err(reason) => {
                stopped = Some(format!("offset {offset}: {reason}"));
                break;
            }
        }
    }
    if stopped.is_none() && read.next > next {
        // What stands between is no record.
        records.push(Arc::new(Decoded {
            next: read.next,
            state,
            bytes: 0,
            time: None,
            entries: Vec::new(),
        }));
    }
    Digested {
        records,
        end: read.end,
        stopped,
    }
}

/// Judges a record and takes its events in; `Err` when the whole partition must stop before it.
fn decode(partition: Partition, mut state: State, stored: Stored) -> Result<Decoded, String> {
    let Stored { offset, time, record } = stored;
    let verdict = if partition.topic.is_fenced() {
        state.admit(offset, &record)
    } else {
        visits::admit(offset, &record)
    };
    let tenant_seq = match verdict {
        Verdict::Commit(headers) => Some(headers.tenant_seq),
        Verdict::Visits => Some(0),
        Verdict::Genesis(_) | Verdict::Claimed(_) => None,
        Verdict::Void(why) => {
            metrics::VOID.with_label_values(&[partition.topic.short()]).inc();
            if why.is_damage() {
                tracing::error!(%partition, offset, %why, "history is damaged here: look at it with `annals log verify`");
            } else {
                tracing::info!(%partition, offset, %why, "void");
            }
            None
        }
    };
    let mut decoded = Decoded {
        next: offset + 1,
        state,
        bytes: record.value.len(),
        time: None,
        entries: Vec::new(),
    };
    if let Some(tenant_seq) = tenant_seq {
        let events = read_events(&record.value)?;
        let last = events
            .iter()
            .rev()
            .find_map(|event| Some(event.as_ref().ok()?.envelope.time));
        decoded.time = time.or(last);
        let entries = (0..).zip(events).map(|(index, event)| Entry {
            offset,
            index,
            tenant_seq,
            event,
        });
        decoded.entries = entries.collect();
    }
    Ok(decoded)
}

/// The events of a record, each readable or not; `Err` when the whole partition must stop.
pub(in crate::runner) fn read_events(value: &[u8]) -> Result<Vec<Result<Recorded, Bad>>, String> {
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

    #[test]
    fn offsets_that_hold_no_record_are_passed() {
        let read = Read {
            records: Vec::new(),
            next: 3,
            end: 3,
        };
        let digested = digest(Partition::ledger(0), 1, State::default(), read);
        let places: Vec<_> = digested.records.iter().map(|it| it.next).collect();
        assert_eq!((places, digested.stopped), (vec![3], None));
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
