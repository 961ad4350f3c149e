//! Given what happened, when this is asked, then that happens, or that rule stands in the way.
//!
//! Longer than a file should be: one test for each rule of a piece, and every rejection.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    ContentId,
    aggregate::assert_all_kinds,
    tenant::{
        Repository as _, Subject,
        memory::{self, Memory},
    },
};

const SITE: SiteId = SiteId::new(Uuid::from_u128(1));
const OTHER_SITE: SiteId = SiteId::new(Uuid::from_u128(2));
const A: ContentId = ContentId::new(Uuid::from_u128(10));
const B: ContentId = ContentId::new(Uuid::from_u128(11));

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

fn tomorrow() -> Timestamp {
    at("2026-11-22T12:00:00Z")
}

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn draft_of(site: SiteId, kind: Kind, text: &str) -> Draft {
    Draft {
        site,
        kind,
        title: Title::new("Hello").unwrap(),
        slug: slug(text),
        body: Body::new("# Hello".into()).unwrap(),
        summary: None,
        tags: Tags::new(["rust"]).unwrap(),
        featured: false,
        language: None,
        metadata: Metadata::default(),
    }
}

fn draft(text: &str) -> Command {
    Command::Draft(Box::new(draft_of(SITE, Kind::Post, text)))
}

fn revise(revision: Revision) -> Command {
    Command::Revise(Box::new(revision))
}

fn to_slug(text: &str) -> Command {
    revise(Revision {
        slug: Some(slug(text)),
        ..Revision::default()
    })
}

const PUBLISH: Command = Command::Publish { at: None };

/// What happened: each command was decided and its events folded.
fn given(commands: impl IntoIterator<Item = (ContentId, Command)>) -> Memory {
    memory::given::<_, Content>(commands, Subject::Content, when)
}

fn when(given: &Memory, id: ContentId, command: Command) -> Result<Vec<ContentEvent>, Rejection> {
    given.content(id).decide(command, given, now())
}

fn status(given: &Memory, id: ContentId) -> Status {
    given.content(id).piece().unwrap().status
}

#[test]
fn a_draft_holds_its_slug() {
    let given = given([(A, draft("hello"))]);
    assert_eq!(given.holder(SITE, Kind::Post, &slug("hello")), Some(A));
    assert_eq!(status(&given, A), Status::Draft);
    assert_eq!(given.content(A).version(), 1);
}

#[test]
fn a_slug_taken_by_another_piece_is_refused_with_one_that_is_free() {
    let given = given([(A, draft("hello"))]);
    let refused = Rejection::SlugTaken {
        slug: slug("hello"),
        free: slug("hello-2"),
    };
    assert_eq!(when(&given, B, draft("hello")), Err(refused));
}

#[test]
fn the_free_slug_is_free_however_many_are_taken() {
    let taken = (2..=30)
        .map(|number| format!("hello-{number}"))
        .chain(["hello".to_owned()]);
    let given = given(
        taken
            .enumerate()
            .map(|(n, text)| (ContentId::new(Uuid::from_u128(100 + n as u128)), draft(&text))),
    );
    let Err(Rejection::SlugTaken { free, .. }) = when(&given, A, draft("hello")) else {
        panic!("not refused")
    };
    assert_eq!(given.holder(SITE, Kind::Post, &free), None);
    assert!(when(&given, A, draft(free.as_str())).is_ok());
}

#[test]
fn a_slug_is_taken_within_its_site_and_kind_only() {
    let given = given([(A, draft("hello"))]);
    for draft in [
        draft_of(OTHER_SITE, Kind::Post, "hello"),
        draft_of(SITE, Kind::Page, "hello"),
    ] {
        assert!(when(&given, B, Command::Draft(Box::new(draft))).is_ok());
    }
}

#[test]
fn a_piece_is_drafted_once() {
    assert_eq!(
        when(&given([(A, draft("hello"))]), A, draft("other")),
        Err(Rejection::AlreadyThere)
    );
}

#[test]
fn what_is_not_there_takes_no_command() {
    for command in [
        revise(Revision::default()),
        PUBLISH,
        Command::PublishDue,
        Command::Unpublish,
        Command::Archive,
    ] {
        assert_eq!(when(&Memory::default(), A, command), Err(Rejection::NotThere));
    }
}

#[test]
fn a_revision_keeps_what_differs_only() {
    let given = given([(A, draft("hello"))]);
    let revision = Revision {
        title: Some(Title::new("Hello").unwrap()),
        body: Some(Body::new("# Changed".into()).unwrap()),
        summary: Some(None),
        tags: Some(Tags::new(["rust"]).unwrap()),
        language: Some(Some(Language::new("en").unwrap())),
        ..Revision::default()
    };
    let revised = Revised {
        body: Some("# Changed".into()),
        language: Some(Optional {
            is: Some("en".into()),
        }),
        ..Revised::default()
    };
    assert_eq!(when(&given, A, revise(revision)), Ok(vec![revised.into()]));
}

#[test]
fn a_revision_that_changes_nothing_makes_no_event() {
    let full = Revision {
        title: Some(Title::new("New").unwrap()),
        slug: Some(slug("new")),
        body: Some(Body::new("new".into()).unwrap()),
        summary: Some(Some(Summary::new("new").unwrap())),
        tags: Some(Tags::new(["new"]).unwrap()),
        featured: Some(true),
        language: Some(Some(Language::new("de").unwrap())),
        metadata: Some(Metadata::new(serde_json::from_value(json!({"a": [1, 0.1]})).unwrap()).unwrap()),
    };
    let given = given([(A, draft("hello")), (A, revise(full.clone()))]);
    assert_eq!(given.content(A).version(), 3);
    assert_eq!(when(&given, A, revise(full)), Ok(vec![]));
    assert_eq!(when(&given, A, revise(Revision::default())), Ok(vec![]));
    let away = Revision {
        summary: Some(None),
        language: Some(None),
        ..Revision::default()
    };
    let taken_away = Revised {
        summary: Some(Optional::default()),
        language: Some(Optional::default()),
        ..Revised::default()
    };
    assert_eq!(when(&given, A, revise(away)), Ok(vec![taken_away.into()]));
}

#[test]
fn fields_and_slug_change_in_one_commit() {
    let given = given([(A, draft("hello"))]);
    let revision = Revision {
        featured: Some(true),
        slug: Some(slug("new")),
        ..Revision::default()
    };
    let changed = SlugChanged {
        from: "hello".into(),
        to: "new".into(),
    };
    let revised = Revised {
        featured: Some(true),
        ..Revised::default()
    };
    assert_eq!(
        when(&given, A, revise(revision)),
        Ok(vec![revised.into(), changed.into()])
    );
}

#[test]
fn a_revision_to_a_taken_slug_changes_nothing_at_all() {
    let given = given([(A, draft("hello")), (B, draft("taken"))]);
    let revision = Revision {
        featured: Some(true),
        slug: Some(slug("taken")),
        ..Revision::default()
    };
    let refused = when(&given, A, revise(revision)).unwrap_err();
    assert_eq!(
        refused,
        Rejection::SlugTaken {
            slug: slug("taken"),
            free: slug("taken-2")
        }
    );
}

#[test]
fn an_old_slug_is_free_for_anyone() {
    let moved = given([(A, draft("hello")), (A, to_slug("new"))]);
    assert!(when(&moved, B, draft("hello")).is_ok());
    assert!(when(&moved, A, to_slug("hello")).is_ok());
    let taken = given([(A, draft("hello")), (A, to_slug("new")), (B, draft("hello"))]);
    assert!(matches!(
        when(&taken, A, to_slug("hello")),
        Err(Rejection::SlugTaken { .. })
    ));
    assert_eq!(taken.holder(SITE, Kind::Post, &slug("hello")), Some(B));
}

#[test]
fn an_archived_piece_frees_its_slug_and_takes_no_command() {
    let given = given([(A, draft("hello")), (A, Command::Archive)]);
    for command in [
        draft("other"),
        revise(Revision::default()),
        PUBLISH,
        Command::PublishDue,
        Command::Unpublish,
        Command::Archive,
    ] {
        assert_eq!(when(&given, A, command), Err(Rejection::Archived));
    }
    assert!(when(&given, B, draft("hello")).is_ok());
}

#[test]
fn a_draft_is_published_now_or_with_a_past_date() {
    let given = given([(A, draft("hello"))]);
    assert_eq!(when(&given, A, PUBLISH), Ok(vec![Published { at: now() }.into()]));
    let past = at("2015-05-15T00:00:00Z");
    assert_eq!(
        when(&given, A, Command::Publish { at: Some(past) }),
        Ok(vec![Published { at: past }.into()])
    );
}

#[test]
fn a_future_date_schedules() {
    let drafted = given([(A, draft("hello"))]);
    let schedule = Command::Publish { at: Some(tomorrow()) };
    assert_eq!(
        when(&drafted, A, schedule.clone()),
        Ok(vec![Scheduled { at: tomorrow() }.into()])
    );
    let scheduled = given([(A, draft("hello")), (A, schedule.clone())]);
    assert_eq!(when(&scheduled, A, schedule), Ok(vec![]), "asked for already");
    assert_eq!(status(&scheduled, A), Status::Scheduled { at: tomorrow() });
    assert_eq!(
        when(&scheduled, A, PUBLISH),
        Ok(vec![Published { at: now() }.into()]),
        "sooner after all"
    );
}

#[test]
fn a_date_that_no_store_can_hold_is_refused() {
    let given = given([(A, draft("hello"))]);
    for text in ["1899-12-31T23:59:59Z", "2200-01-01T00:00:00Z"] {
        let refused = when(&given, A, Command::Publish { at: Some(at(text)) });
        assert_eq!(refused, Err(Rejection::DateOutOfRange { at: at(text) }));
    }
}

#[test]
fn what_is_published_is_not_published_again() {
    let given = given([(A, draft("hello")), (A, PUBLISH)]);
    assert_eq!(when(&given, A, PUBLISH), Err(Rejection::AlreadyPublished));
}

#[test]
fn what_was_unpublished_can_be_published_again() {
    let given = given([(A, draft("hello")), (A, PUBLISH), (A, Command::Unpublish)]);
    assert_eq!(status(&given, A), Status::Unpublished);
    assert!(when(&given, A, PUBLISH).is_ok());
}

#[test]
fn a_schedule_can_be_taken_back() {
    let given = given([
        (A, draft("hello")),
        (A, Command::Publish { at: Some(tomorrow()) }),
        (A, Command::Unpublish),
    ]);
    assert_eq!(status(&given, A), Status::Unpublished);
}

#[test]
fn what_is_not_published_cannot_be_unpublished() {
    let refused = when(&given([(A, draft("hello"))]), A, Command::Unpublish);
    assert_eq!(refused, Err(Rejection::NotPublished { status: "draft" }));
}

#[test]
fn a_scheduled_piece_is_published_when_its_time_has_come_and_not_before() {
    let mut given = given([
        (A, draft("hello")),
        (A, Command::Publish { at: Some(tomorrow()) }),
    ]);
    assert_eq!(
        when(&given, A, Command::PublishDue),
        Err(Rejection::NotDue { at: tomorrow() })
    );
    let later = tomorrow().plus_micros(1);
    let events = given
        .content(A)
        .decide(Command::PublishDue, &given, later)
        .unwrap();
    assert_eq!(
        events,
        [Published { at: tomorrow() }.into()],
        "it carries the date that was asked for"
    );
    given.evolve(Subject::Content(A), events[0].clone());
    assert_eq!(
        when(&given, A, Command::PublishDue),
        Err(Rejection::NotScheduled { status: "published" })
    );
}

#[test]
fn every_rejection_is_reached() {
    let some = given([(A, draft("hello")), (B, draft("b")), (B, Command::Archive)]);
    let published = given([(A, draft("hello")), (A, PUBLISH)]);
    let scheduled = given([
        (A, draft("hello")),
        (A, Command::Publish { at: Some(tomorrow()) }),
    ]);
    let c = ContentId::new(Uuid::from_u128(12));
    let rejections = [
        when(&some, c, draft("hello")),
        when(&some, A, draft("a")),
        when(&some, c, PUBLISH),
        when(&some, B, PUBLISH),
        when(&published, A, PUBLISH),
        when(&some, A, Command::Unpublish),
        when(&some, A, Command::PublishDue),
        when(&scheduled, A, Command::PublishDue),
        when(
            &some,
            A,
            Command::Publish {
                at: Some(at("0001-01-01T00:00:00Z")),
            },
        ),
    ];
    assert_all_kinds(
        Rejection::KINDS,
        rejections
            .iter()
            .map(|refused| refused.as_ref().unwrap_err().kind()),
    );
}

#[test]
fn a_title_makes_a_slug() {
    for (title, expected) in [
        ("Hello, World!", "hello-world"),
        ("  Don't panic  ", "dont-panic"),
        ("Größe über alles", "grosse-uber-alles"),
        ("Привет мир", "privet-mir"),
        ("C++ & Rust -- 2026", "c-rust-2026"),
    ] {
        assert_eq!(Slug::from_title(title).unwrap().as_str(), expected);
    }
    assert_eq!(Slug::from_title("—!—"), None);
}

#[test]
fn what_is_no_slug_is_refused() {
    let long = "a".repeat(201);
    for text in [
        "", "-", "a-", "-a", "a--b", "A", "a b", "a/b", "é", "../a", "a\0", "<script>", &long,
    ] {
        assert!(text.parse::<Slug>().is_err(), "{text:?}");
    }
    assert!("a".repeat(200).parse::<Slug>().is_ok());
}

fn any_command() -> impl Strategy<Value = Command> {
    let slugs = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop_oneof![
        slugs.clone().prop_map(draft),
        (slugs, any::<bool>()).prop_map(|(text, featured)| {
            revise(Revision {
                slug: Some(slug(text)),
                featured: Some(featured),
                ..Revision::default()
            })
        }),
        (0_i64..400).prop_map(|hours| Command::Publish {
            at: Some(now().plus_micros((hours - 200) * 3_600_000_000))
        }),
        Just(PUBLISH),
        Just(Command::PublishDue),
        Just(Command::Unpublish),
        Just(Command::Archive),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_for_a_slug_has_one_holder_and_the_index_is_the_fold(
        commands in proptest::collection::vec((0_u128..4, any_command()), 0..60)
    ) {
        let mut contents = Memory::default();
        let mut each: HashMap<ContentId, Content> = HashMap::new();
        for (id, command) in commands {
            let id = ContentId::new(Uuid::from_u128(id));
            for event in when(&contents, id, command).unwrap_or_default() {
                contents.evolve(Subject::Content(id), event.clone());
                let alone = each.remove(&id).unwrap_or_default().evolve(&event);
                each.insert(id, alone);
            }
        }
        let mut holders = HashMap::new();
        for (id, content) in &each {
            prop_assert_eq!(&contents.content(*id), content);
            let Content::Piece(piece) = content else { panic!("an event made nothing") };
            if piece.status != Status::Archived {
                prop_assert_eq!(holders.insert(piece.slug.clone(), *id), None, "one holder");
                prop_assert_eq!(contents.holder(SITE, Kind::Post, &piece.slug), Some(*id));
            }
        }
        for free in ["a", "b", "c"] {
            prop_assert_eq!(contents.holder(SITE, Kind::Post, &slug(free)), holders.get(&slug(free)).copied());
        }
    }

    #[test]
    fn a_slug_of_a_title_is_a_slug(title in any::<String>(), long in "\\PC{0,400}") {
        for title in [title, long] {
            if let Some(made) = Slug::from_title(&title) {
                prop_assert_eq!(made.as_str().parse::<Slug>().unwrap(), made);
            }
        }
    }

    #[test]
    fn a_free_slug_is_a_slug(text in "[a-z0-9]{1,100}(-[a-z0-9]{1,98})?") {
        let given = given([(A, draft(&text))]);
        let free = given.free(SITE, Kind::Post, &slug(&text));
        prop_assert_eq!(free.as_str().parse::<Slug>().unwrap(), free);
    }
}
