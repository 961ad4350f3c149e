//! Given events, then rows.

use events::{PrincipalId, SiteId, TenantId, Timestamp};
use serde_json::json;

use super::*;

const TENANT: Uuid = Uuid::from_u128(1);
const PIECE: Uuid = Uuid::from_u128(2);
const OTHER: Uuid = Uuid::from_u128(3);
const SITE: Uuid = Uuid::from_u128(4);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn recorded(subject: Uuid, version: u64, event: impl Into<Event>) -> Recorded {
    let envelope = Envelope {
        id: events::EventId::new(Uuid::from_u128(9)),
        subject: subject.to_string(),
        time: at(1_000 + i64::try_from(version).unwrap()),
        tenant: TenantId::new(TENANT),
        aggregate_version: Some(version),
        actor: Some(PrincipalId::new(Uuid::from_u128(7))),
        causation: None,
        correlation: None,
        traceparent: None,
    };
    Recorded {
        envelope,
        event: event.into(),
    }
}

fn drafted(slug: &str) -> content::Drafted {
    content::Drafted {
        site: SiteId::new(SITE),
        kind: content::Kind::Post,
        title: "Title".into(),
        slug: slug.into(),
        body: "Body".into(),
        summary: None,
        tags: vec!["a".into()],
        featured: false,
        language: None,
        metadata: Map::new(),
    }
}

fn fold(rows: &mut Rows, event: &Recorded) -> Result<(), Unfit> {
    ContentFold::fold(
        rows,
        &Place {
            tenant_seq: 1,
            index: 0,
        },
        event,
    )
}

/// What these events make of empty tables.
fn given(events: &[Recorded]) -> Rows {
    let mut rows = Rows::default();
    for event in events {
        fold(&mut rows, event).unwrap();
    }
    rows
}

fn the_row(mut rows: Rows) -> Content {
    let mut changes = rows.changes();
    assert_eq!((changes.inserted.len(), changes.updated.len()), (1, 0));
    changes.inserted.remove(0)
}

#[test]
fn a_draft_is_a_row_and_a_first_version_that_sets_everything() {
    let changes = given(&[recorded(PIECE, 1, drafted("a"))]).changes();
    let row = &changes.inserted[0];
    assert_eq!(
        (row.status.as_str(), row.path.as_str(), row.version),
        ("draft", "/post/a", 1)
    );
    assert_eq!(row.created_by, Some(Uuid::from_u128(7)));
    let version = &changes.versions[0];
    assert_eq!(version.changed, EVERY);
    assert_eq!(
        (version.event.as_str(), version.body.as_deref()),
        ("content.drafted.v1", Some("Body"))
    );
    assert_eq!(changes.taken.len(), 1);
}

#[test]
fn a_version_holds_only_what_it_set() {
    let summary = Some(content::Optional { is: None });
    let revised = content::Revised {
        title: Some("New".into()),
        summary,
        ..Default::default()
    };
    let changes = given(&[recorded(PIECE, 1, drafted("a")), recorded(PIECE, 2, revised)]).changes();
    let version = &changes.versions[1];
    assert_eq!(version.changed, ["title", "summary"]);
    assert_eq!(
        (version.title.as_deref(), version.body.as_deref()),
        (Some("New"), None)
    );
    assert_eq!(changes.inserted[0].body, "Body");
}

#[test]
fn a_schedule_ends_with_publishing_and_with_taking_back() {
    let scheduled = || recorded(PIECE, 2, content::Scheduled { at: at(5) });
    let published = recorded(PIECE, 3, content::Published { at: at(5) });
    let row = the_row(given(&[recorded(PIECE, 1, drafted("a")), scheduled(), published]));
    assert_eq!(
        (row.status.as_str(), row.published_at, row.scheduled_at),
        ("published", Some(at(5).to_utc()), None)
    );
    let unpublished = recorded(PIECE, 3, content::Unpublished {});
    let row = the_row(given(&[
        recorded(PIECE, 1, drafted("a")),
        scheduled(),
        unpublished,
    ]));
    assert_eq!((row.status.as_str(), row.scheduled_at), ("unpublished", None));
}

#[test]
fn an_old_slug_leads_to_the_piece_until_another_takes_it() {
    let changed = recorded(
        PIECE,
        2,
        content::SlugChanged {
            from: "a".into(),
            to: "b".into(),
        },
    );
    let changes = given(&[recorded(PIECE, 1, drafted("a")), changed.clone()]).changes();
    assert_eq!(
        (changes.redirects.len(), changes.redirects[0].from.slug.as_str()),
        (1, "a")
    );
    assert_eq!(changes.inserted[0].path, "/post/b");
    let changes = given(&[
        recorded(PIECE, 1, drafted("a")),
        changed,
        recorded(OTHER, 1, drafted("a")),
    ])
    .changes();
    assert!(changes.redirects.is_empty());
    assert!(changes.taken.iter().any(|taken| taken.slug.slug == "a"));
}

#[test]
fn a_slug_that_comes_back_does_not_redirect_to_itself() {
    let away = recorded(
        PIECE,
        2,
        content::SlugChanged {
            from: "a".into(),
            to: "b".into(),
        },
    );
    let back = recorded(
        PIECE,
        3,
        content::SlugChanged {
            from: "b".into(),
            to: "a".into(),
        },
    );
    let changes = given(&[recorded(PIECE, 1, drafted("a")), away, back]).changes();
    let from: Vec<_> = changes
        .redirects
        .iter()
        .map(|redirect| redirect.from.slug.as_str())
        .collect();
    assert_eq!(from, ["b"]);
}

#[test]
fn metadata_say_where_the_page_is() {
    let metadata = json!({"path": "/x/", "aliases": ["/y"]}).as_object().cloned();
    let revised = content::Revised {
        metadata,
        ..Default::default()
    };
    let row = the_row(given(&[
        recorded(PIECE, 1, drafted("a")),
        recorded(PIECE, 2, revised),
    ]));
    assert_eq!(
        (row.path.as_str(), row.aliases.as_slice()),
        ("/x", &["/y".to_owned()][..])
    );
}

#[test]
fn an_event_that_does_not_follow_is_unfit_and_changes_nothing() {
    let mut rows = given(&[recorded(PIECE, 1, drafted("a"))]);
    for event in [
        recorded(PIECE, 3, content::Archived {}),
        recorded(PIECE, 1, content::Archived {}),
        recorded(PIECE, 2, drafted("b")),
        recorded(OTHER, 1, content::Archived {}),
    ] {
        fold(&mut rows, &event).unwrap_err();
    }
    let mut strange = recorded(PIECE, 2, content::Archived {});
    strange.envelope.subject = "no id".into();
    fold(&mut rows, &strange).unwrap_err();
    let row = the_row(rows);
    assert_eq!((row.status.as_str(), row.version), ("draft", 1));
}

#[test]
fn events_of_others_change_nothing() {
    let mut rows = Rows::default();
    fold(&mut rows, &recorded(PIECE, 1, events::download::Started {})).unwrap();
    assert_eq!(rows.changes(), Changes::default());
}

#[test]
fn a_row_that_was_loaded_is_updated_and_keeps_its_words_unless_they_change() {
    let row = the_row(given(&[recorded(PIECE, 1, drafted("a"))]));
    let mut rows = Rows::loaded(vec![row]);
    fold(&mut rows, &recorded(PIECE, 2, content::Archived {})).unwrap();
    let changes = rows.changes();
    assert_eq!(
        (changes.inserted.len(), changes.updated.len(), changes.kept.len()),
        (0, 0, 1)
    );
    assert_eq!(changes.kept[0].status, "archived");
    // What was taken is not taken again; what comes next is.
    assert_eq!(rows.changes(), Changes::default());
    let revised = content::Revised {
        summary: Some(content::Optional { is: None }),
        ..Default::default()
    };
    fold(&mut rows, &recorded(PIECE, 3, revised)).unwrap();
    let changes = rows.changes();
    assert_eq!(
        (changes.inserted.len(), changes.updated.len(), changes.kept.len()),
        (0, 1, 0)
    );
    assert_eq!((changes.updated[0].version, changes.versions.len()), (3, 1));
}
