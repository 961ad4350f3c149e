//! Visits as they stand in a record, read without copying.
//!
//! Catching up reads millions of them, and an owned event costs several times as much as a borrowed one (the
//! ignored test `speed` in `tests.rs` measures both). Whatever does not have the one form that our own writer gives an event
//! goes through the domain's decoder instead, so both read the same and errors are the domain's.

mod scan;
mod text;
mod time;

use std::{borrow::Cow, fmt};

use events::{DecodeError, Event, Recorded, event::VisitEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use self::text::{Pairs, Text};

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
    if let Some(visits) = scan::visits(value) {
        return Read {
            visits,
            ..Read::default()
        };
    }
    one_by_one(value)
}

/// The same by the domain's decoder.
fn one_by_one(value: &[u8]) -> Read<'_> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use events::{
        CommandId, ContentId, Envelope, EventId, ImportId, SiteId, TenantId, Timestamp, VisitorId, Whole,
        visit,
    };
    use proptest::prelude::*;

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
        let record = include_str!("../../../schemas/visit.page-viewed.v1.example.json");
        let record = format!("[{record}]").replace(r#""author": "Ada""#, r#""b":"1","a":"2","b":"3""#);
        let read = decode(record.as_bytes());
        let pairs: Vec<_> = read.visits[0].1.props.iter().collect();
        assert_eq!(pairs, [("a", "2"), ("b", "3")]);
    }

    #[test]
    fn what_is_no_list_of_events_is_left_to_the_decoder_of_the_domain() {
        for value in ["", "]", "[", "[]", "[,]", ",]"] {
            assert_eq!(scan::visits(value.as_bytes()), None, "{value:?}");
        }
        assert!(decode(b"]").odd.is_some());
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z/]{0,12}", any::<String>()]
    }

    fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map(text(), text(), 0..3)
    }

    prop_compose! {
        fn visit()(
            (site, visitor) in any::<(u128, u64)>(),
            (hostname, pathname) in (text(), text()),
            origin in prop::array::uniform5(prop::option::of(text())),
            (utm, props) in (texts(), texts()),
            content in prop::option::of(any::<u128>()),
            import in prop::option::of(any::<(u128, u64)>()),
        ) -> visit::Visit {
            let [referrer, source, device, browser, os] = origin;
            visit::Visit {
                site: SiteId::new(Uuid::from_u128(site)),
                visitor: VisitorId::new(visitor),
                hostname,
                pathname,
                referrer,
                source,
                device,
                browser,
                os,
                utm,
                content: content.map(|id| ContentId::new(Uuid::from_u128(id))),
                props,
                import: import.map(|(id, line)| visit::ImportLine {
                    id: ImportId::new(Uuid::from_u128(id)),
                    line: Whole(line),
                }),
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        let viewed = visit().prop_map(|visit| visit::PageViewed { visit }.into());
        let revenue = prop::option::of((text(), text()));
        let custom =
            (visit(), text(), any::<bool>(), revenue).prop_map(|(visit, name, interactive, revenue)| {
                let revenue = revenue.map(|(amount, currency)| visit::Revenue { amount, currency });
                visit::CustomEventRecorded {
                    visit,
                    name,
                    interactive,
                    revenue,
                }
                .into()
            });
        let engaged =
            (visit(), any::<u32>(), any::<Option<u8>>()).prop_map(|(visit, engaged_ms, scroll_depth)| {
                visit::EngagementRecorded {
                    visit,
                    engaged_ms,
                    scroll_depth,
                }
                .into()
            });
        prop_oneof![viewed, custom, engaged]
    }

    prop_compose! {
        fn recorded()(
            event in event(),
            [id, tenant] in any::<[u128; 2]>(),
            causes in prop::array::uniform2(prop::option::of(any::<u128>())),
            micros in 0_i64..4_102_444_800_000_000,
            subject in text(),
            traceparent in prop::option::of(text()),
        ) -> Recorded {
            let [causation, correlation] = causes.map(|id| id.map(Uuid::from_u128));
            let envelope = Envelope {
                id: EventId::new(Uuid::from_u128(id)),
                subject,
                time: Timestamp::from_micros(micros).unwrap(),
                tenant: TenantId::new(Uuid::from_u128(tenant)),
                aggregate_version: None,
                actor: None,
                causation: causation.map(CommandId::new),
                correlation,
                traceparent,
            };
            Recorded { envelope, event }
        }
    }

    proptest! {
        /// And so quickly: none of them is left to the domain's decoder.
        #[test]
        fn whatever_our_writer_writes_is_read(events in prop::collection::vec(recorded(), 1..4)) {
            let value = events::envelope::encode(&events);
            let expected = one_by_one(&value);
            prop_assert_eq!((expected.visits.len(), &expected.bad, &expected.odd), (events.len(), &vec![], &None));
            prop_assert_eq!(scan::visits(&value), Some(expected.visits));
        }

        #[test]
        fn what_the_domain_reads_otherwise_is_not_read_quickly(
            events in prop::collection::vec(recorded(), 1..3),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[]:, 0a\n".to_vec())]), 1..4),
            length in 0..3_usize,
        ) {
            let mut value = events::envelope::encode(&events);
            for (place, byte) in changes {
                let place = place.index(value.len());
                value.splice(place..(place + length).min(value.len()), [byte]);
            }
            if let Some(visits) = scan::visits(&value) {
                let expected = one_by_one(&value);
                prop_assert_eq!((visits, vec![], None), (expected.visits, expected.bad, expected.odd));
            }
        }
    }
}
