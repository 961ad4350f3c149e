//! Visits as they stand in a record, read without copying.
//!
//! Catching up reads millions of them, and an owned event costs several times as much as a borrowed one (the
//! ignored test `speed` in `tests.rs` measures both). Whatever does not have the one form that our own writer gives an event
//! goes through the domain's decoder instead, so both read the same and errors are the domain's.

mod text;
mod time;

use std::{borrow::Cow, fmt};

use events::{DecodeError, Event, Recorded, event::VisitEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use self::text::{Pairs, Text};
use self::time::Instant;

/// An event of a visit.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in events::visit")]
pub struct Visit<'a> {
    pub id: Uuid,
    pub tenant: Uuid,
    /// Microseconds since 1970.
    pub time: i64,
    pub what: What<'a>,
    pub site: Uuid,
    pub visitor: u64,
    pub hostname: Text<'a>,
    pub pathname: Text<'a>,
    /// Empty for none, as the other texts below.
    pub referrer: Text<'a>,
    pub source: Text<'a>,
    pub device: Text<'a>,
    pub browser: Text<'a>,
    pub os: Text<'a>,
    pub utm: Pairs<'a>,
    pub content: Option<Uuid>,
    pub props: Pairs<'a>,
    /// Import and line.
    pub import: Option<(Uuid, u64)>,
    /// The trace of the request that told of it.
    pub traceparent: Text<'a>,
}

/// What the visitor did.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in events::visit")]
pub enum What<'a> {
    PageView,
    Custom {
        name: Text<'a>,
        interactive: bool,
        revenue: Option<(Text<'a>, Text<'a>)>,
    },
    Engagement {
        engaged_ms: u32,
        scroll_depth: Option<u8>,
    },
}

/// Those of a record that cannot be read (of one tenant, where they say whose they are): how many, and the first of
/// them. One entry for all of them, because a record has room for a million.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Place of the first in the record, from 0; 0 when the whole record cannot be read.
    pub index: u32,
    /// Why the first cannot be read, for people: at most [`REASON`] characters.
    pub reason: String,
    /// How many there are.
    pub count: u32,
}

/// The longest reason, in characters: it quotes what stands there, and anything may.
const REASON: usize = 500;

/// What stands in a record.
#[derive(Debug, Default)]
pub struct Read<'a> {
    /// What can be read, each with its place in the record.
    pub visits: Vec<(u32, Visit<'a>)>,
    /// Events of visits that are not what they say, or of a type or version that only a newer release knows: they
    /// are parked, their neighbours are not. One entry for each tenant that has some: several share a record.
    pub bad: Vec<(Uuid, Bad)>,
    /// What is no event of a visit at all: nobody's, so nothing could ever be done with it.
    pub odd: Option<Bad>,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match self.count {
            0 | 1 => Ok(()),
            more => write!(f, " (and {} more of this record)", more - 1),
        }
    }
}

/// The events of a record's value. Whatever stands there, it gets by.
pub fn decode(value: &[u8]) -> Read<'_> {
    if let Ok(batch) = serde_json::from_slice::<Vec<Incoming<'_>>>(value)
        && let Some(visits) = (0..)
            .zip(batch)
            .map(|(index, event)| Some((index, event.visit()?)))
            .collect()
    {
        return Read {
            visits,
            ..Read::default()
        };
    }
    let mut read = Read::default();
    let batch: Vec<&RawValue> = match serde_json::from_slice(value) {
        Ok(batch) => batch,
        Err(error) => {
            add(&mut read.odd, 0, || chain(&DecodeError::Batch(error)));
            return read;
        }
    };
    for (index, event) in (0..).zip(batch) {
        match events::envelope::decode(format!("[{}]", event.get()).as_bytes()) {
            Ok(events) => match events.into_iter().map(owned).next() {
                Some(Ok(visit)) => read.visits.push((index, visit)),
                Some(Err(name)) => add(&mut read.odd, index, || {
                    format!("{name} does not belong in a record of visits")
                }),
                None => {}
            },
            Err(error) => match whose_visit(event) {
                Some(tenant) => add_to(&mut read.bad, tenant, index, || chain(&error)),
                None => add(&mut read.odd, index, || chain(&error)),
            },
        }
    }
    read
}

fn add_to(bad: &mut Vec<(Uuid, Bad)>, tenant: Uuid, index: u32, reason: impl FnOnce() -> String) {
    let place = bad.iter().position(|(of, _)| *of == tenant);
    let mut entry = place.map(|place| bad.swap_remove(place).1);
    add(&mut entry, index, reason);
    bad.extend(entry.map(|entry| (tenant, entry)));
}

fn add(to: &mut Option<Bad>, index: u32, reason: impl FnOnce() -> String) {
    match to {
        Some(bad) => bad.count = bad.count.saturating_add(1),
        None => {
            *to = Some(Bad {
                index,
                reason: reason().chars().take(REASON).collect(),
                count: 1,
            });
        }
    }
}

/// Whose it is, when what cannot be read says that it is an event of a visit, and whose.
fn whose_visit(event: &RawValue) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Stub<'a> {
        #[serde(rename = "type", borrow)]
        name: Cow<'a, str>,
        tenant: Uuid,
    }
    let stub: Stub<'_> = serde_json::from_str(event.get()).ok()?;
    stub.name.starts_with("visit.").then_some(stub.tenant)
}

/// An error with what caused it, as PostgreSQL takes a text.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
        .replace('\0', "\u{fffd}")
}

/// A visit; or the name of what is none.
fn owned(recorded: Recorded) -> Result<Visit<'static>, &'static str> {
    let Event::Visit(event) = recorded.event else {
        return Err(recorded.event.wire_name());
    };
    let text = |text: String| Text(Cow::Owned(text));
    let (visit, what) = match event {
        VisitEvent::PageViewed(event) => (event.visit, What::PageView),
        VisitEvent::CustomEventRecorded(event) => {
            let revenue = event
                .revenue
                .map(|revenue| (text(revenue.amount), text(revenue.currency)));
            (
                event.visit,
                What::Custom {
                    name: text(event.name),
                    interactive: event.interactive,
                    revenue,
                },
            )
        }
        VisitEvent::EngagementRecorded(event) => (
            event.visit,
            What::Engagement {
                engaged_ms: event.engaged_ms,
                scroll_depth: event.scroll_depth,
            },
        ),
    };
    let optional = |value: Option<String>| text(value.unwrap_or_default());
    let pairs = |map: std::collections::BTreeMap<String, String>| {
        Pairs(
            map.into_iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        )
    };
    Ok(Visit {
        id: recorded.envelope.id.uuid(),
        tenant: recorded.envelope.tenant.uuid(),
        time: recorded.envelope.time.micros(),
        what,
        site: visit.site.uuid(),
        visitor: visit.visitor.get(),
        hostname: text(visit.hostname),
        pathname: text(visit.pathname),
        referrer: optional(visit.referrer),
        source: optional(visit.source),
        device: optional(visit.device),
        browser: optional(visit.browser),
        os: optional(visit.os),
        utm: pairs(visit.utm),
        content: visit.content.map(events::ContentId::uuid),
        props: pairs(visit.props),
        import: visit.import.map(|import| (import.id.uuid(), import.line.0)),
        traceparent: optional(recorded.envelope.traceparent),
    })
}

/// One event as our own writer forms it; any other attribute leads to the domain's decoder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incoming<'a> {
    #[serde(borrow)]
    specversion: Text<'a>,
    id: Uuid,
    #[serde(rename = "source", borrow)]
    _source: Text<'a>,
    #[serde(rename = "type", borrow)]
    name: Text<'a>,
    #[serde(rename = "subject", borrow)]
    _subject: Text<'a>,
    time: Instant,
    tenant: Uuid,
    #[serde(rename = "causationid")]
    _causation: Option<Uuid>,
    #[serde(rename = "correlationid")]
    _correlation: Option<Uuid>,
    #[serde(borrow, default)]
    traceparent: Text<'a>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data<'a> {
    #[serde(borrow)]
    visit: VisitData<'a>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    interactive: Option<bool>,
    #[serde(borrow)]
    revenue: Option<RevenueData<'a>>,
    engaged_ms: Option<u32>,
    scroll_depth: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VisitData<'a> {
    site: Uuid,
    visitor: events::VisitorId,
    #[serde(borrow)]
    hostname: Text<'a>,
    #[serde(borrow)]
    pathname: Text<'a>,
    #[serde(borrow, default)]
    referrer: Text<'a>,
    #[serde(borrow, default)]
    source: Text<'a>,
    #[serde(borrow, default)]
    device: Text<'a>,
    #[serde(borrow, default)]
    browser: Text<'a>,
    #[serde(borrow, default)]
    os: Text<'a>,
    #[serde(borrow, default)]
    utm: Pairs<'a>,
    content: Option<Uuid>,
    #[serde(borrow, default)]
    props: Pairs<'a>,
    import: Option<events::visit::ImportLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevenueData<'a> {
    #[serde(borrow)]
    amount: Text<'a>,
    #[serde(borrow)]
    currency: Text<'a>,
}

impl<'a> Incoming<'a> {
    /// None where the domain's decoder should look at it.
    fn visit(self) -> Option<Visit<'a>> {
        if self.specversion.as_ref() != "1.0" {
            return None;
        }
        let Data {
            visit,
            name,
            interactive,
            revenue,
            engaged_ms,
            scroll_depth,
        } = self.data;
        let what = match (
            self.name.as_ref(),
            name,
            interactive,
            revenue,
            engaged_ms,
            scroll_depth,
        ) {
            ("visit.page-viewed.v1", None, None, None, None, None) => What::PageView,
            ("visit.custom-event-recorded.v1", Some(name), Some(interactive), revenue, None, None) => {
                What::Custom {
                    name,
                    interactive,
                    revenue: revenue.map(|revenue| (revenue.amount, revenue.currency)),
                }
            }
            ("visit.engagement-recorded.v1", None, None, None, Some(engaged_ms), scroll_depth) => {
                What::Engagement {
                    engaged_ms,
                    scroll_depth,
                }
            }
            _ => return None,
        };
        Some(Visit {
            id: self.id,
            tenant: self.tenant,
            time: self.time.0,
            what,
            site: visit.site,
            visitor: visit.visitor.get(),
            hostname: visit.hostname,
            pathname: visit.pathname,
            referrer: visit.referrer,
            source: visit.source,
            device: visit.device,
            browser: visit.browser,
            os: visit.os,
            utm: visit.utm,
            content: visit.content,
            props: visit.props,
            import: visit.import.map(|import| (import.id.uuid(), import.line.0)),
            traceparent: self.traceparent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_whatever_it_quotes() {
        let mut odd = None;
        add(&mut odd, 3, || "x".repeat(10_000));
        add(&mut odd, 4, || "y".to_owned());
        let odd = odd.unwrap();
        assert_eq!((odd.index, odd.reason.len(), odd.count), (3, REASON, 2));
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_value_counts() {
        let pairs: Pairs<'_> = serde_json::from_str(r#"{"b":"1","a":"2","b":"3"}"#).unwrap();
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
    }
}
