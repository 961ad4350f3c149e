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

const A: DownloadId = DownloadId::new(Uuid::from_u128(1));
const B: DownloadId = DownloadId::new(Uuid::from_u128(2));
const C: DownloadId = DownloadId::new(Uuid::from_u128(3));
const HASH: Sha256 = Sha256([1; 32]);
const OTHER: Sha256 = Sha256([2; 32]);

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn queue(priority: i32) -> Command {
    Command::Queue(Box::new(Request {
        title: Label::new("A book").unwrap(),
        url: DownloadUrl::parse("https://example.org/a.epub", PrivateAddresses::Refused).unwrap(),
        author: None,
        format: Some(Format::new("epub").unwrap()),
        sha256: Some(HASH),
        priority,
    }))
}

fn complete(sha256: Option<Sha256>) -> Command {
    Command::Complete {
        size: Some(5_000_000_000),
        sha256,
    }
}

fn fail() -> Command {
    Command::Fail {
        reason: Reason::new("gone").unwrap(),
    }
}

fn given(commands: impl IntoIterator<Item = (DownloadId, Command)>) -> Memory {
    memory::given::<_, Download>(commands, Subject::Download, when)
}

fn when(given: &Memory, id: DownloadId, command: Command) -> Result<Vec<DownloadEvent>, Rejection> {
    given.download(id).decide(command, &(), now())
}

fn reordered(
    given: &Memory,
    priorities: &[(DownloadId, i32)],
) -> Result<Vec<(DownloadId, DownloadEvent)>, Rejection> {
    reorder(priorities, |id| given.download(id))
}

#[test]
fn a_download_is_queued_once() {
    assert_eq!(
        when(&given([(A, queue(1))]), A, queue(1)),
        Err(Rejection::AlreadyThere)
    );
}

#[test]
fn what_is_not_there_takes_no_command() {
    for command in [
        Command::Start,
        complete(None),
        fail(),
        Command::Cancel,
        Command::Retry,
    ] {
        assert_eq!(when(&Memory::default(), A, command), Err(Rejection::NotThere));
    }
}

#[test]
fn only_a_queued_download_changes_priority() {
    let queued = given([(A, queue(1))]);
    let moved = when(&queued, A, Command::Reprioritise { priority: 2 });
    assert_eq!(moved, Ok(vec![Reprioritised { priority: 2 }.into()]));
    assert_eq!(
        when(&queued, A, Command::Reprioritise { priority: 1 }),
        Ok(vec![]),
        "it has it already"
    );
    let running = given([(A, queue(1)), (A, Command::Start)]);
    let refused = when(&running, A, Command::Reprioritise { priority: 1 });
    assert_eq!(refused, Err(Rejection::NotQueued { status: "running" }));
}

#[test]
fn only_a_running_download_ends() {
    let queued = given([(A, queue(1))]);
    for command in [complete(None), fail()] {
        assert_eq!(
            when(&queued, A, command),
            Err(Rejection::NotRunning { status: "queued" })
        );
    }
    let running = given([(A, queue(1)), (A, Command::Start)]);
    let done = Completed {
        size: Some(Whole(5_000_000_000)),
        sha256: Some(HASH),
    };
    assert_eq!(when(&running, A, complete(Some(HASH))), Ok(vec![done.into()]));
    assert!(when(&running, A, complete(None)).is_ok());
    assert!(when(&running, A, fail()).is_ok());
}

#[test]
fn another_file_than_asked_for_does_not_complete_a_download() {
    let running = given([(A, queue(1)), (A, Command::Start)]);
    let refused = when(&running, A, complete(Some(OTHER)));
    assert_eq!(
        refused,
        Err(Rejection::OtherFile {
            expected: HASH,
            found: OTHER
        })
    );
}

#[test]
fn what_waits_or_runs_can_be_cancelled_and_nothing_else() {
    assert!(when(&given([(A, queue(1))]), A, Command::Cancel).is_ok());
    assert!(when(&given([(A, queue(1)), (A, Command::Start)]), A, Command::Cancel).is_ok());
    for end in [complete(None), fail(), Command::Cancel] {
        let over = given([(A, queue(1)), (A, Command::Start), (A, end)]);
        assert!(matches!(
            when(&over, A, Command::Cancel),
            Err(Rejection::Over { .. })
        ));
    }
}

#[test]
fn what_failed_or_was_cancelled_can_be_tried_again() {
    let failed = given([
        (A, queue(1)),
        (A, Command::Start),
        (A, fail()),
        (A, Command::Retry),
    ]);
    assert_eq!(failed.download(A).status_name(), "queued");
    let cancelled = given([(A, queue(1)), (A, Command::Cancel)]);
    assert!(when(&cancelled, A, Command::Retry).is_ok());
    for (given, status) in [
        (given([(A, queue(1))]), "queued"),
        (given([(A, queue(1)), (A, Command::Start)]), "running"),
        (
            given([(A, queue(1)), (A, Command::Start), (A, complete(None))]),
            "completed",
        ),
    ] {
        assert_eq!(
            when(&given, A, Command::Retry),
            Err(Rejection::NotFailed { status })
        );
    }
}

#[test]
fn a_reorder_moves_all_that_it_names() {
    let given = given([(A, queue(1)), (B, queue(2)), (C, queue(3))]);
    let events = reordered(&given, &[(A, 9), (B, 2), (C, 0)]).unwrap();
    assert_eq!(
        events,
        [
            (A, Reprioritised { priority: 9 }.into()),
            (C, Reprioritised { priority: 0 }.into())
        ]
    );
}

#[test]
fn a_reorder_with_one_that_is_not_queued_moves_none() {
    let given = given([(A, queue(1)), (B, queue(2)), (B, Command::Start)]);
    let refused = reordered(&given, &[(A, 9), (B, 9)]);
    assert_eq!(
        refused,
        Err(Rejection::ReorderNotQueued {
            id: B,
            status: "running"
        })
    );
    let refused = reordered(&given, &[(A, 9), (C, 9)]);
    assert_eq!(
        refused,
        Err(Rejection::ReorderNotQueued {
            id: C,
            status: "unknown"
        })
    );
    assert_eq!(
        reordered(&given, &[(A, 9), (A, 8)]),
        Err(Rejection::ReorderTwice { id: A })
    );
}

#[test]
fn a_reorder_has_at_most_a_thousand() {
    let ids = |count: u128| {
        (0..count)
            .map(|id| (DownloadId::new(Uuid::from_u128(id)), 5))
            .collect::<Vec<_>>()
    };
    let given = given(ids(1001).into_iter().map(|(id, _)| (id, queue(1))));
    assert_eq!(reordered(&given, &ids(1000)).unwrap().len(), 1000);
    assert_eq!(
        reordered(&given, &ids(1001)),
        Err(Rejection::ReorderTooLong { count: 1001 })
    );
}

#[test]
fn every_rejection_is_reached() {
    let queued = given([(A, queue(1)), (B, queue(1))]);
    let running = given([(A, queue(1)), (A, Command::Start)]);
    let over = given([(A, queue(1)), (A, Command::Cancel)]);
    let rejections = [
        when(&queued, A, queue(1)).unwrap_err(),
        when(&queued, C, Command::Start).unwrap_err(),
        when(&running, A, Command::Start).unwrap_err(),
        when(&queued, A, fail()).unwrap_err(),
        when(&running, A, complete(Some(OTHER))).unwrap_err(),
        when(&over, A, Command::Cancel).unwrap_err(),
        when(&queued, A, Command::Retry).unwrap_err(),
        reordered(&running, &[(A, 2)]).unwrap_err(),
        reordered(&queued, &[(A, 2), (A, 3)]).unwrap_err(),
        reordered(&queued, &[(A, 2); 1001]).unwrap_err(),
    ];
    assert_all_kinds(Rejection::KINDS, rejections.iter().map(Rejection::kind));
}
