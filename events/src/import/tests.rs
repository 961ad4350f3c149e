//! Given what happened, when this is asked, then that happens, or that rule stands in the way.

use uuid::Uuid;

use super::*;
use crate::{
    aggregate::assert_all_kinds,
    tenant::{
        Repository as _, Subject,
        memory::{self, Memory},
    },
};

const SITE: SiteId = SiteId::new(Uuid::from_u128(1));
const OTHER_SITE: SiteId = SiteId::new(Uuid::from_u128(2));
const A: ImportId = ImportId::new(Uuid::from_u128(10));
const B: ImportId = ImportId::new(Uuid::from_u128(11));

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn start_of(site: SiteId, fingerprint: u8) -> Command {
    Command::Start {
        site,
        source: Source::new("access.log").unwrap(),
        fingerprint: Sha256([fingerprint; 32]),
    }
}

fn start() -> Command {
    start_of(SITE, 1)
}

fn advance(first: u64, next: u64) -> Command {
    Command::Advance { first, next }
}

fn given(commands: impl IntoIterator<Item = (ImportId, Command)>) -> Memory {
    memory::given::<_, Import>(commands, Subject::Import, when)
}

fn when(given: &Memory, id: ImportId, command: Command) -> Result<Vec<ImportEvent>, Rejection> {
    given.import(id).decide(command, given, now())
}

#[test]
fn an_import_begins_at_the_first_line() {
    let given = given([(A, start())]);
    assert_eq!(
        given.import(A),
        Import::Running(Progress {
            version: 1,
            site: SITE,
            next: 0
        })
    );
    assert_eq!(given.find(SITE, Sha256([1; 32])), Some(A));
}

#[test]
fn the_same_source_is_taken_once_in_a_site() {
    let given = given([(A, start()), (A, Command::Complete)]);
    assert_eq!(
        when(&given, B, start()),
        Err(Rejection::Known { id: A }),
        "even when it is complete"
    );
    assert!(when(&given, B, start_of(OTHER_SITE, 1)).is_ok());
    assert!(when(&given, B, start_of(SITE, 2)).is_ok());
}

#[test]
fn lines_go_forward_only() {
    let given = given([(A, start()), (A, advance(0, 1000))]);
    let next = |events: Result<Vec<ImportEvent>, Rejection>| events.unwrap();
    assert_eq!(
        next(when(&given, A, advance(1000, 1500))),
        [Advanced { next: Whole(1500) }.into()]
    );
    assert_eq!(next(when(&given, A, advance(0, 1000))), [], "a repetition");
    assert_eq!(
        next(when(&given, A, advance(500, 1200))),
        [Advanced { next: Whole(1200) }.into()]
    );
}

#[test]
fn no_line_is_left_out() {
    let given = given([(A, start()), (A, advance(0, 1000))]);
    assert_eq!(
        given.import(A).accept(1001),
        Err(Rejection::LinesMissing {
            next: 1000,
            first: 1001
        })
    );
    assert_eq!(given.import(A).accept(1000), Ok(()));
    assert!(when(&given, A, advance(1001, 1002)).is_err());
}

#[test]
fn a_complete_import_takes_no_more_lines_and_is_completed_once() {
    let given = given([(A, start()), (A, advance(0, 3)), (A, Command::Complete)]);
    assert_eq!(given.import(A).accept(3), Err(Rejection::Completed));
    assert_eq!(when(&given, A, advance(3, 4)), Err(Rejection::Completed));
    assert_eq!(when(&given, A, Command::Complete), Ok(vec![]));
    assert_eq!(given.import(A).progress().map(|progress| progress.next), Some(3));
}

#[test]
fn what_is_not_there_takes_no_command() {
    for command in [advance(0, 1), Command::Complete] {
        assert_eq!(when(&Memory::default(), A, command), Err(Rejection::NotThere));
    }
}

#[test]
fn every_rejection_is_reached() {
    let running = given([(A, start())]);
    let complete = given([(A, start()), (A, Command::Complete)]);
    let rejections = [
        when(&running, A, start_of(SITE, 2)),
        when(&running, B, Command::Complete),
        when(&running, B, start()),
        when(&complete, A, advance(0, 1)),
        when(&running, A, advance(1, 2)),
    ];
    assert_all_kinds(
        Rejection::KINDS,
        rejections
            .iter()
            .map(|refused| refused.as_ref().unwrap_err().kind()),
    );
}
