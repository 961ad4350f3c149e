//! Who, when, to which aggregate, in which version: the CloudEvents 1.0.2 form of an event.
//!
//! A commit's value is a JSON array of these, as in CloudEvents' HTTP batch form.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{CommandId, Event, EventId, PrincipalId, TenantId, Timestamp, event::DecodeEventError};

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
    data: &'a Event,
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
    fn outgoing(&self) -> Outgoing<'_> {
        let Envelope {
            id,
            subject,
            time,
            tenant,
            ..
        } = &self.envelope;
        Outgoing {
            specversion: "1.0",
            id: *id,
            source: SOURCE,
            name: self.event.wire_name(),
            subject,
            time: *time,
            tenant: *tenant,
            aggregateversion: self.envelope.aggregate_version.map(|version| version.to_string()),
            actor: self.envelope.actor,
            causationid: self.envelope.causation,
            correlationid: self.envelope.correlation,
            traceparent: self.envelope.traceparent.as_deref(),
            data: &self.event,
        }
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

/// The value of a record: a JSON array of CloudEvents.
///
/// # Panics
/// Never: events hold nothing that JSON cannot say.
#[expect(clippy::expect_used, reason = "events hold nothing that JSON cannot say")]
pub fn encode(events: &[Recorded]) -> Vec<u8> {
    let batch: Vec<_> = events.iter().map(Recorded::outgoing).collect();
    serde_json::to_vec(&batch).expect("events are serialisable")
}

/// Reads a value that [`encode`], or any other writer of the format, made.
///
/// # Errors
/// See [`DecodeError`]; the first event that cannot be read decides.
pub fn decode(value: &[u8]) -> Result<Vec<Recorded>, DecodeError> {
    let batch: Vec<Incoming<'_>> = serde_json::from_slice(value).map_err(DecodeError::Batch)?;
    batch
        .into_iter()
        .enumerate()
        .map(|(index, event)| Recorded::from_incoming(index, event))
        .collect()
}
