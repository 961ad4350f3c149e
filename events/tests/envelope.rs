//! The codec as a property: what is written is read again, and is written again the same.

use std::collections::BTreeMap;

use events::{
    CommandId, ContentId, DecodeError, Envelope, Event, EventId, ImportId, PrincipalId, Recorded, SiteId,
    TenantId, Timestamp, VisitorId, Whole, content, download, envelope, import, visit,
};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};
use uuid::Uuid;

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000)
        .prop_map(|micros| Timestamp::from_micros(micros).expect("within the years"))
}

fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

fn drafted() -> impl Strategy<Value = Event> {
    let texts = (text(), text(), text(), option::of(text()), option::of(text()));
    (
        id(),
        texts,
        vec(text(), 0..4),
        any::<bool>(),
        vec((text(), json_value()), 0..4),
    )
        .prop_map(
            |(site, (title, slug, body, summary, language), tags, featured, metadata)| {
                content::Drafted {
                    site: SiteId::new(site),
                    kind: content::Kind::Idea,
                    title,
                    slug,
                    body,
                    summary,
                    tags,
                    featured,
                    language,
                    metadata: Map::from_iter(metadata),
                }
                .into()
            },
        )
}

fn revised() -> impl Strategy<Value = Event> {
    let optional = || option::of(option::of(text()).prop_map(|is| content::Optional { is }));
    (
        option::of(text()),
        option::of(text()),
        optional(),
        option::of(vec(text(), 0..3)),
        option::of(any::<bool>()),
        optional(),
    )
        .prop_map(|(title, body, summary, tags, featured, language)| {
            content::Revised {
                title,
                body,
                summary,
                tags,
                featured,
                language,
                metadata: None,
            }
            .into()
        })
}

fn visited() -> impl Strategy<Value = Event> {
    let pair = || vec((text(), text()), 0..3).prop_map(BTreeMap::from_iter);
    let import = option::of((id(), any::<u64>()));
    (
        (id(), any::<u64>()),
        (text(), text(), option::of(text())),
        pair(),
        pair(),
        option::of(id()),
        import,
        any::<u32>(),
    )
        .prop_map(
            |((site, visitor), (hostname, pathname, referrer), utm, props, content, import, engaged_ms)| {
                let visit = visit::Visit {
                    site: SiteId::new(site),
                    visitor: VisitorId::new(visitor),
                    hostname,
                    pathname,
                    source: referrer.clone(),
                    device: referrer.clone(),
                    browser: None,
                    os: referrer.clone(),
                    referrer,
                    utm,
                    content: content.map(ContentId::new),
                    props,
                    import: import.map(|(id, line)| visit::ImportLine {
                        id: ImportId::new(id),
                        line: Whole(line),
                    }),
                };
                visit::EngagementRecorded {
                    visit,
                    engaged_ms,
                    scroll_depth: Some(7),
                }
                .into()
            },
        )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        drafted(),
        revised(),
        visited(),
        time().prop_map(|at| content::Scheduled { at }.into()),
        any::<i32>().prop_map(|priority| download::Reprioritised { priority }.into()),
        any::<u64>().prop_map(|next| import::Advanced { next: Whole(next) }.into()),
        text().prop_map(|reason| download::Failed { reason }.into()),
    ]
}

prop_compose! {
    fn recorded()(
        (id, tenant) in (id(), id()), subject in text(), time in time(), aggregate_version in option::of(any::<u64>()),
        actor in option::of(id()), causation in option::of(id()), correlation in option::of(id()),
        traceparent in option::of(text()), event in event(),
    ) -> Recorded {
        let envelope = Envelope {
            id: EventId::new(id),
            subject,
            time,
            tenant: TenantId::new(tenant),
            aggregate_version,
            actor: actor.map(PrincipalId::new),
            causation: causation.map(CommandId::new),
            correlation,
            traceparent,
        };
        Recorded { envelope, event }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(batch in vec(recorded(), 0..4)) {
        let written = envelope::encode(&batch);
        let read = envelope::decode(&written).unwrap();
        prop_assert_eq!(&read, &batch);
        prop_assert_eq!(envelope::encode(&read), written);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes in vec(any::<u8>(), 0..200), value in json_value()) {
        let _ = envelope::decode(&bytes);
        let _ = envelope::decode(value.to_string().as_bytes());
        let _ = envelope::decode(json!([value]).to_string().as_bytes());
    }

    #[test]
    fn a_time_has_one_text(time in time()) {
        let text = time.to_string();
        prop_assert_eq!(text.len(), 27);
        prop_assert_eq!(text.parse::<Timestamp>().unwrap(), time);
    }
}

/// A batch of one event with these attributes changed.
fn changed(name: &str, value: Value) -> Vec<u8> {
    let mut event = json!({
        "specversion": "1.0", "id": Uuid::nil(), "source": "/annals", "type": "content.archived.v1", "subject": "x",
        "time": "2026-11-21T16:03:00Z", "tenant": Uuid::nil(), "aggregateversion": "1", "data": {},
    });
    event[name] = value;
    json!([event]).to_string().into_bytes()
}

#[test]
fn a_newer_event_is_told_from_a_broken_one() {
    let refused = |name, value| envelope::decode(&changed(name, value)).unwrap_err();
    assert!(envelope::decode(&changed("subject", json!("y"))).is_ok());
    assert!(
        matches!(refused("type", json!("content.archived.v2")), DecodeError::Unknown { index: 0, name } if name == "content.archived.v2")
    );
    assert!(matches!(
        refused("data", json!({"unheard_of": 1})),
        DecodeError::Data { .. }
    ));
    assert!(matches!(
        refused("specversion", json!("2.0")),
        DecodeError::Attribute {
            attribute: "specversion",
            ..
        }
    ));
    assert!(matches!(
        refused("aggregateversion", json!("-1")),
        DecodeError::Attribute {
            attribute: "aggregateversion",
            ..
        }
    ));
    assert!(matches!(refused("id", json!("me")), DecodeError::Batch(_)));
}

#[test]
fn attributes_of_others_are_passed_over() {
    assert!(envelope::decode(&changed("dataschema", json!("urn:x"))).is_ok());
    assert!(envelope::decode(&changed("extension", json!({"a": [1]}))).is_ok());
}
