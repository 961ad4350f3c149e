//! The checker finds each thing that must never be, and nothing in a history that is in order.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Looked, check};
use crate::faults::{
    history::{Attempt, Beside, Command, Done, Entry, Outcome, Read},
    ledger::{Commit, Event, Ledger},
};

const TENANT: Uuid = Uuid::from_u128(1);
const ADA: Uuid = Uuid::from_u128(10);
const BOB: Uuid = Uuid::from_u128(11);

fn event(kind: &str, piece: Uuid, version: u64, data: Value) -> Event {
    Event {
        kind: format!("content.{kind}.v1"),
        time: DateTime::UNIX_EPOCH,
        tenant: TENANT,
        subject: piece.to_string(),
        version: Some(version.to_string()),
        data,
    }
}

fn drafted(piece: Uuid, mark: &str, slug: &str) -> Event {
    event("drafted", piece, 1, json!({"title": mark, "slug": slug}))
}

fn revised(piece: Uuid, version: u64, mark: &str) -> Event {
    event("revised", piece, version, json!({"title": mark}))
}

/// Commits of one event each, at offsets 1, 2, … of one partition.
fn ledger(events: Vec<Event>) -> Ledger {
    let commits = (1..).zip(events).map(|(offset, event)| Commit {
        offset,
        events: vec![event],
    });
    Ledger {
        partitions: [(0, commits.collect())].into(),
        ..Ledger::default()
    }
}

fn draft(slug: &str) -> Command {
    Command::Draft { slug: slug.into() }
}

const RETITLE: Command = Command::Retitle { version: None };

/// An attempt at microseconds `sent` to `done`.
fn attempt(
    mark: &str,
    piece: Option<Uuid>,
    command: Command,
    (sent, done): (u64, u64),
    outcome: Outcome,
) -> Entry {
    Entry::Attempt(Attempt {
        mark: mark.into(),
        tenant: 0,
        piece,
        command,
        keyed: true,
        asked: "somebody".into(),
        sent,
        done,
        outcome,
    })
}

fn acknowledged(offset: u64, piece: Uuid, version: u64) -> Outcome {
    Outcome::Done(Done {
        status: 200,
        partition: 0,
        offset,
        piece,
        version,
        headers: BTreeMap::new(),
        body: json!({}),
    })
}

fn refused(problem: &str) -> Outcome {
    Outcome::Refused {
        status: 409,
        problem: problem.into(),
    }
}

fn lost() -> Outcome {
    Outcome::Unknown("no answer".into())
}

fn whats(entries: &[Entry], ledger: &Ledger) -> Vec<&'static str> {
    let (_, violations) = check(entries, ledger);
    violations.iter().map(|violation| violation.what).collect()
}

/// Ada's draft, acknowledged; a retry without an answer; Bob's, refused for Ada's slug; a read.
fn in_order() -> (Vec<Entry>, Ledger) {
    let log = ledger(vec![drafted(ADA, "a", "one"), revised(ADA, 2, "b")]);
    let history = vec![
        attempt("a", None, draft("one"), (10, 20), lost()),
        attempt("a", None, draft("one"), (30, 40), acknowledged(1, ADA, 1)),
        attempt("a", None, draft("one"), (41, 42), acknowledged(1, ADA, 1)),
        attempt("x", None, draft("one"), (50, 60), refused("slug-taken")),
        attempt("b", Some(ADA), RETITLE, (70, 80), acknowledged(2, ADA, 2)),
        attempt(
            "y",
            Some(ADA),
            Command::Retitle { version: Some(1) },
            (90, 95),
            refused("version"),
        ),
        Entry::Read(Read {
            piece: ADA,
            written: 2,
            sent: 90,
            done: 91,
            status: 200,
            found: Some((2, "b".into())),
        }),
    ];
    (history, log)
}

#[test]
fn a_history_in_order_is_in_order() {
    let (history, log) = in_order();
    let (looked, violations) = check(&history, &log);
    assert_eq!(violations, []);
    let expected = Looked {
        acknowledged: 2,
        refused: 2,
        unknown: 1,
        reads: 1,
        repeated: 1,
        beside: 0,
    };
    assert_eq!(looked, expected);
}

#[test]
fn time_does_not_go_backwards() {
    let (history, mut log) = in_order();
    let commits = log.partitions.get_mut(&0).unwrap();
    commits[1].events[0].time -= TimeDelta::microseconds(1);
    assert_eq!(whats(&history, &log), ["the time of a partition went backwards"]);
}

#[test]
fn what_was_acknowledged_must_stand_there() {
    let (history, mut log) = in_order();
    log.partitions.get_mut(&0).unwrap().pop();
    let found = whats(&history, &log);
    assert!(
        found.contains(&"an acknowledged command is void or missing"),
        "{found:?}"
    );
    let (mut history, log) = in_order();
    history[4] = attempt(
        "b",
        Some(ADA),
        Command::Publish,
        (70, 80),
        acknowledged(2, ADA, 2),
    );
    let found = whats(&history, &log);
    assert_eq!(found, ["an acknowledged command is not what stands in the log"]);
}

#[test]
fn nothing_takes_effect_twice_nor_is_acknowledged_for_another() {
    let (history, _) = in_order();
    let log = ledger(vec![
        drafted(ADA, "a", "one"),
        revised(ADA, 2, "b"),
        revised(ADA, 3, "b"),
    ]);
    assert_eq!(whats(&history, &log), ["a command took effect twice"]);
    let (mut history, log) = in_order();
    history.push(attempt(
        "z",
        Some(ADA),
        RETITLE,
        (75, 85),
        acknowledged(2, ADA, 2),
    ));
    let found = whats(&history, &log);
    assert!(
        found.contains(&"two commands were acknowledged with one commit"),
        "{found:?}"
    );
}

#[test]
fn a_retry_hears_the_same() {
    let (mut history, log) = in_order();
    history[2] = attempt("a", None, draft("one"), (41, 42), acknowledged(1, ADA, 2));
    assert_eq!(whats(&history, &log), ["a retry was answered otherwise"]);
    let (mut history, log) = in_order();
    let Entry::Attempt(Attempt {
        outcome: Outcome::Done(done),
        ..
    }) = &mut history[2]
    else {
        panic!("the retry")
    };
    done.headers.insert("etag".into(), "\"2\"".into());
    assert_eq!(whats(&history, &log), ["a retry was answered otherwise"]);
}

/// Without a title there is nothing that tells one from another: they are counted.
#[test]
fn nothing_is_published_more_often_than_was_asked_for() {
    let log = ledger(vec![
        drafted(ADA, "a", "one"),
        event("published", ADA, 2, json!({})),
        event("unpublished", ADA, 3, json!({})),
        event("published", ADA, 4, json!({})),
    ]);
    let publish =
        |mark, (sent, done), outcome| attempt(mark, Some(ADA), Command::Publish, (sent, done), outcome);
    let mut history = vec![
        attempt("a", None, draft("one"), (10, 20), acknowledged(1, ADA, 1)),
        publish("p", (30, 40), lost()),
        publish("p", (50, 60), acknowledged(2, ADA, 2)),
        attempt(
            "u",
            Some(ADA),
            Command::Unpublish,
            (70, 80),
            acknowledged(3, ADA, 3),
        ),
        publish("q", (30, 35), refused("already-published")),
    ];
    assert!(whats(&history, &log).contains(&"a command took effect twice"));
    // One that nobody answered may have.
    history[4] = publish("q", (90, 100), lost());
    assert_eq!(whats(&history, &log), [""; 0]);
}

#[test]
fn what_was_refused_has_no_effect() {
    let (mut history, log) = in_order();
    history[4] = attempt("b", Some(ADA), RETITLE, (70, 80), refused("content-archived"));
    let found = whats(&history, &log);
    assert!(found.contains(&"a refused command took effect"), "{found:?}");
}

#[test]
fn a_refusal_was_so_at_some_moment_between_sending_and_answer() {
    const WHAT: &str = "a refusal that no moment justifies";
    let renamed = event("slug-changed", ADA, 2, json!({"from": "one", "to": "two"}));
    let log = ledger(vec![
        drafted(ADA, "a", "one"),
        renamed,
        drafted(BOB, "b", "three"),
    ]);
    let history = |sent, done| {
        vec![
            attempt("a", None, draft("one"), (10, 20), acknowledged(1, ADA, 1)),
            attempt("b", None, draft("three"), (50, 60), acknowledged(3, BOB, 1)),
            attempt("x", None, draft("one"), (sent, done), refused("slug-taken")),
        ]
    };
    // Before the draft was there, while it may have been, after somebody's later write was acknowledged.
    assert_eq!(whats(&history(1, 5), &log), [WHAT]);
    assert_eq!(whats(&history(15, 18), &log), [""; 0]);
    assert_eq!(whats(&history(30, 40), &log), [""; 0]);
    assert_eq!(whats(&history(70, 80), &log), [WHAT]);
    let mut unheard = history(30, 40);
    unheard.push(attempt(
        "y",
        Some(ADA),
        RETITLE,
        (30, 40),
        refused("unknown-site"),
    ));
    assert_eq!(whats(&unheard, &log), [WHAT]);
}

#[test]
fn the_log_is_in_the_order_of_those_who_waited() {
    let log = ledger(vec![drafted(BOB, "b", "two"), drafted(ADA, "a", "one")]);
    let history = [
        attempt("a", None, draft("one"), (10, 20), acknowledged(2, ADA, 1)),
        attempt("b", None, draft("two"), (30, 40), acknowledged(1, BOB, 1)),
    ];
    let found = whats(&history, &log);
    assert_eq!(
        found,
        ["a command stands before one that was acknowledged before it was sent"]
    );
}

#[test]
fn the_rules_hold_in_the_log_whatever_anybody_was_told() {
    let archived = || event("archived", ADA, 2, json!({}));
    let published = |version| event("published", ADA, version, json!({}));
    for (events, what) in [
        (
            vec![drafted(ADA, "a", "one"), drafted(BOB, "b", "one")],
            "two pieces have one slug",
        ),
        (
            vec![drafted(ADA, "a", "one"), revised(ADA, 3, "b")],
            "the versions of a piece fork or skip",
        ),
        (
            vec![
                drafted(ADA, "a", "one"),
                revised(ADA, 2, "b"),
                revised(ADA, 2, "c"),
            ],
            "the versions of a piece fork or skip",
        ),
        (
            vec![drafted(ADA, "a", "one"), archived(), revised(ADA, 3, "b")],
            "an archived piece took a command",
        ),
        (
            vec![drafted(ADA, "a", "one"), published(2), published(3)],
            "a published piece was published",
        ),
        (vec![revised(ADA, 1, "b")], "a piece has a past but no beginning"),
        (
            vec![drafted(ADA, "a", "one"), drafted(ADA, "b", "two")],
            "a piece began twice",
        ),
    ] {
        assert_eq!(whats(&[], &ledger(events)), [what]);
    }
    let free = vec![drafted(ADA, "a", "one"), archived(), drafted(BOB, "b", "one")];
    assert_eq!(whats(&[], &ledger(free)), [""; 0]);
}

#[test]
fn a_read_shows_what_its_reader_wrote_and_what_the_log_says() {
    let read = |status, found: Option<(u64, &str)>| {
        let (mut history, log) = in_order();
        history.push(Entry::Read(Read {
            piece: ADA,
            written: 2,
            sent: 90,
            done: 91,
            status,
            found: found.map(|(version, title)| (version, title.to_owned())),
        }));
        whats(&history, &log)
    };
    assert_eq!(read(200, Some((1, "a"))), ["a read missed a write of its own"]);
    assert_eq!(
        read(200, Some((2, "a"))),
        ["a read shows what the log does not say"]
    );
    assert_eq!(read(404, None), ["a write of one's own was not found"]);
    assert_eq!(read(503, None), [""; 0]);
    assert_eq!(read(0, None), [""; 0]);
}

#[test]
fn what_was_acknowledged_beside_commands_must_be_there_too() {
    let (mut history, log) = in_order();
    let queued = Event {
        kind: "download.queued.v1".into(),
        ..drafted(BOB, "book 8", "none")
    };
    let mut log = ledger([events_of(&log), vec![queued.clone()]].concat());
    log.viewed.insert("/7".into());
    let beside = |mark: &str, acknowledged| {
        let mark = mark.into();
        Entry::Beside(Beside { mark, acknowledged })
    };
    history.extend([beside("/7", true), beside("book 8", true), beside("/9", false)]);
    assert_eq!(check(&history, &log).0.beside, 2);
    assert_eq!(whats(&history, &log), [""; 0]);

    log.viewed.clear();
    assert_eq!(
        whats(&history, &log),
        ["an acknowledged page view or download is not in the log"]
    );
    let twice = Ledger {
        viewed: ["/7".into()].into(),
        ..ledger([events_of(&log), vec![queued]].concat())
    };
    assert!(whats(&history, &twice).contains(&"a download stands in the log twice"));
}

fn events_of(ledger: &Ledger) -> Vec<Event> {
    let commits = ledger.partitions[&0].iter();
    commits.flat_map(|commit| commit.events.clone()).collect()
}
