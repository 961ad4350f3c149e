//! Who, when, to which aggregate, in which version: the CloudEvents 1.0.2 form of an event.
//!
//! A commit's value is a JSON array of these, as in CloudEvents' HTTP batch form.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{json, value::RawValue};

use crate::{
    CommandId, Event, EventId, PrincipalId, TenantId, Timestamp, Whole,
    event::DecodeEventError,
    feature::{self, NotYet},
};

/// The CloudEvents `source` of everything in the log.
pub const SOURCE: &str = "/annals";

/// What every event carries beside its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Unique with the source.
    pub id: EventId,
    /// The aggregate that it happened to: its id as text (of visits, the site's).
    pub subject: String,
    /// When it happened. Of a commit, the time of deciding; of a visit, the time of the visit.
    pub time: Timestamp,
    /// Whose it is.
    pub tenant: TenantId,
    /// The aggregate's version after this event, from 1. Visits have none.
    pub aggregate_version: Option<u64>,
    /// Who did it: a principal's id, never a name. Visitors have none.
    pub actor: Option<PrincipalId>,
    /// The command that caused it.
    pub causation: Option<CommandId>,
    /// What belongs together across commands, as the caller named it.
    pub correlation: Option<uuid::Uuid>,
    /// W3C trace context of the request, so that a projector continues its trace.
    pub traceparent: Option<String>,
}

/// An event and its envelope: what stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Who, when, to what.
    pub envelope: Envelope,
    /// What happened.
    pub event: Event,
}

/// Why a value is not a batch of events that this release can fold.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a JSON array of CloudEvents.
    #[error("not a batch of CloudEvents")]
    Batch(#[source] serde_json::Error),
    /// An event type or version that this release does not know: a newer one wrote it.
    #[error("event {index} is of type {name:?}, which this release does not know")]
    Unknown {
        /// Place in the batch, from 0.
        index: usize,
        /// Its `type`.
        name: String,
    },
    /// Data that does not fit its type.
    #[error("event {index} of type {name:?} has data that does not fit it")]
    Data {
        /// Place in the batch, from 0.
        index: usize,
        /// Its `type`.
        name: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// An attribute that has no meaning for us, such as another `specversion`.
    #[error("event {index} has {attribute} {value:?}, expected {expected}")]
    Attribute {
        /// Place in the batch, from 0.
        index: usize,
        /// Which attribute.
        attribute: &'static str,
        /// What it says, at most 64 characters.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// One event as it is written: attributes in this order, absent ones left out.
#[derive(Serialize)]
struct Outgoing<'a> {
    specversion: &'static str,
    id: EventId,
    source: &'static str,
    #[serde(rename = "type")]
    name: &'static str,
    subject: &'a str,
    time: Timestamp,
    tenant: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregateversion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<PrincipalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<CommandId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: Data<'a>,
}

/// In the current version, or in the one that may be written yet.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Current(&'a Event),
    Older(serde_json::Value),
}

/// One event as it is read: attributes of others are passed over, as CloudEvents asks.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: EventId,
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    subject: String,
    time: Timestamp,
    tenant: TenantId,
    #[serde(default, borrow)]
    aggregateversion: Option<Cow<'a, str>>,
    actor: Option<PrincipalId>,
    causationid: Option<CommandId>,
    correlationid: Option<uuid::Uuid>,
    traceparent: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Recorded {
    /// As it may be written at this feature level.
    fn outgoing(&self, level: u16) -> Result<Outgoing<'_>, NotYet> {
        let current = self.event.wire_name();
        let back = feature::back(current, level)?;
        let (name, data) = match back.last() {
            None => (current, Data::Current(&self.event)),
            Some(oldest) => {
                let data = back
                    .iter()
                    .fold(json!(self.event), |data, step| (step.back)(data));
                (oldest.from, Data::Older(data))
            }
        };
        let Envelope {
            id,
            subject,
            time,
            tenant,
            ..
        } = &self.envelope;
        Ok(Outgoing {
            specversion: "1.0",
            id: *id,
            source: SOURCE,
            name,
            subject,
            time: *time,
            tenant: *tenant,
            aggregateversion: self.envelope.aggregate_version.map(|version| version.to_string()),
            actor: self.envelope.actor,
            causationid: self.envelope.causation,
            correlationid: self.envelope.correlation,
            traceparent: self.envelope.traceparent.as_deref(),
            data,
        })
    }

    fn from_incoming(index: usize, event: Incoming<'_>) -> Result<Self, DecodeError> {
        let attribute = |attribute, value: &str, expected| DecodeError::Attribute {
            index,
            attribute,
            value: value.chars().take(64).collect(),
            expected,
        };
        if event.specversion != "1.0" {
            return Err(attribute("specversion", &event.specversion, "1.0"));
        }
        let aggregate_version = event
            .aggregateversion
            .map(|text| {
                text.parse()
                    .map_err(|_| attribute("aggregateversion", &text, "a decimal number"))
            })
            .transpose()?;
        let name = event.name;
        let payload = Event::decode(&name, event.data.get()).map_err(|error| match error {
            DecodeEventError::Unknown => DecodeError::Unknown {
                index,
                name: name.chars().take(128).collect(),
            },
            DecodeEventError::Data(source) => DecodeError::Data {
                index,
                name: name.into_owned(),
                source,
            },
        })?;
        let envelope = Envelope {
            id: event.id,
            subject: event.subject,
            time: event.time,
            tenant: event.tenant,
            aggregate_version,
            actor: event.actor,
            causation: event.causationid,
            correlation: event.correlationid,
            traceparent: event.traceparent,
        };
        Ok(Self {
            envelope,
            event: payload,
        })
    }
}

/// The value of a record: a JSON array of CloudEvents, in the versions that may be written at this feature level.
///
/// # Errors
/// The level allows no version of one of them.
///
/// # Panics
/// Never: events hold nothing that JSON cannot say.
#[expect(clippy::expect_used, reason = "events hold nothing that JSON cannot say")]
pub fn encode_at(events: &[Recorded], level: u16) -> Result<Vec<u8>, NotYet> {
    let batch: Vec<_> = events
        .iter()
        .map(|event| event.outgoing(level))
        .collect::<Result<_, _>>()?;
    Ok(serde_json::to_vec(&batch).expect("events are serialisable"))
}

/// The same in the current versions, as the highest level allows.
///
/// # Panics
/// Never: every version is written at the highest level.
#[expect(clippy::expect_used, reason = "every version is written at the highest level")]
pub fn encode(events: &[Recorded]) -> Vec<u8> {
    encode_at(events, feature::KNOWN).expect("the highest level allows every version")
}

/// Reads a value that [`encode`], or any other writer of the format, made.
///
/// # Errors
/// See [`DecodeError`]; the first event that cannot be read decides.
pub fn decode(value: &[u8]) -> Result<Vec<Recorded>, DecodeError> {
    // What we wrote ourselves is read in one pass; everything else, errors included, by the reader that says
    // exactly what is there. (Example `codec` measures both.)
    if let Ok(text) = std::str::from_utf8(value)
        && let Ok(events) = serde_json::from_str::<Vec<InOnePass>>(text)
    {
        return Ok(events.into_iter().map(|event| event.0).collect());
    }
    let batch: Vec<Incoming<'_>> = serde_json::from_slice(value).map_err(DecodeError::Batch)?;
    batch
        .into_iter()
        .enumerate()
        .map(|(index, event)| Recorded::from_incoming(index, event))
        .collect()
}

/// An event whose `type` stands before its `data`, so that the data need not be looked at twice.
struct InOnePass(Recorded);

impl<'de> Deserialize<'de> for InOnePass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OnePass)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Attribute {
    SpecVersion,
    Id,
    Type,
    Subject,
    Time,
    Tenant,
    AggregateVersion,
    Actor,
    CausationId,
    CorrelationId,
    TraceParent,
    Data,
    #[serde(other)]
    Other,
}

struct OnePass;

impl<'de> Visitor<'de> for OnePass {
    type Value = InOnePass;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOnePass, A::Error> {
        let (mut version, mut name, mut event) = (None::<&str>, None::<&str>, None);
        let (mut id, mut subject, mut time, mut tenant) = (None, None, None, None);
        let (mut aggregate_version, mut actor, mut causation) = (None::<Whole>, None, None);
        let (mut correlation, mut traceparent) = (None, None);
        while let Some(attribute) = map.next_key()? {
            match attribute {
                Attribute::SpecVersion => once(&mut version, map.next_value()?)?,
                Attribute::Id => once(&mut id, map.next_value()?)?,
                Attribute::Type => once(&mut name, map.next_value()?)?,
                Attribute::Subject => once(&mut subject, map.next_value()?)?,
                Attribute::Time => once(&mut time, map.next_value()?)?,
                Attribute::Tenant => once(&mut tenant, map.next_value()?)?,
                Attribute::AggregateVersion => once(&mut aggregate_version, map.next_value()?)?,
                Attribute::Actor => once(&mut actor, map.next_value()?)?,
                Attribute::CausationId => once(&mut causation, map.next_value()?)?,
                Attribute::CorrelationId => once(&mut correlation, map.next_value()?)?,
                Attribute::TraceParent => once(&mut traceparent, map.next_value()?)?,
                Attribute::Data => {
                    let name = name.ok_or_else(|| A::Error::missing_field("type"))?;
                    once(&mut event, map.next_value_seed(DataOf(name))?)?;
                }
                Attribute::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if version != Some("1.0") {
            return Err(A::Error::missing_field("specversion"));
        }
        let envelope = Envelope {
            id: id.ok_or_else(|| A::Error::missing_field("id"))?,
            subject: subject.ok_or_else(|| A::Error::missing_field("subject"))?,
            time: time.ok_or_else(|| A::Error::missing_field("time"))?,
            tenant: tenant.ok_or_else(|| A::Error::missing_field("tenant"))?,
            aggregate_version: aggregate_version.map(|version| version.0),
            actor,
            causation,
            correlation,
            traceparent,
        };
        let event = event.ok_or_else(|| A::Error::missing_field("data"))?;
        Ok(InOnePass(Recorded { envelope, event }))
    }
}

/// Sets what was not set; a repetition is left to the other reader.
fn once<T, E: serde::de::Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("an attribute is there twice")),
    }
}

struct DataOf<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for DataOf<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        Event::deserialize_current(self.0, deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick reader must really read what we write: nothing else would notice if it never did.
    #[test]
    fn what_we_write_is_read_in_one_pass() {
        let event = |name: &str| {
            let path = format!("{}/../schemas/{name}.example.json", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        for (name, _) in Event::schemas() {
            let text = event(name);
            let quick =
                serde_json::from_str::<InOnePass>(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let thorough: Incoming<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(quick.0, Recorded::from_incoming(0, thorough).unwrap());
        }
    }
}
