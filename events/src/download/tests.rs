//! Given what happened, when this is asked, then that happens, or that rule stands in the way.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::aggregate::assert_all_kinds;

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

fn given(commands: impl IntoIterator<Item = (DownloadId, Command)>) -> Downloads {
    let mut downloads = Downloads::default();
    for (id, command) in commands {
        for event in downloads.decide(id, command, now()).unwrap() {
            downloads.evolve(id, &event);
        }
    }
    downloads
}

fn when(given: &Downloads, id: DownloadId, command: Command) -> Result<Vec<DownloadEvent>, Rejection> {
    given.decide(id, command, now())
}

fn order(given: &Downloads) -> Vec<DownloadId> {
    given.order().collect()
}

#[test]
fn a_lower_priority_goes_first_and_equals_in_the_order_of_queueing() {
    let given = given([(A, queue(100)), (B, queue(100)), (C, queue(-5))]);
    assert_eq!(order(&given), [C, A, B]);
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
        assert_eq!(when(&Downloads::default(), A, command), Err(Rejection::NotThere));
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
fn a_download_that_changes_priority_keeps_its_place_among_equals() {
    let given = given([
        (A, queue(1)),
        (B, queue(1)),
        (A, Command::Reprioritise { priority: 2 }),
        (A, Command::Reprioritise { priority: 1 }),
    ]);
    assert_eq!(order(&given), [A, B]);
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
    assert_eq!(order(&running), []);
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
fn what_failed_or_was_cancelled_can_be_tried_again_behind_its_equals() {
    let failed = given([
        (A, queue(1)),
        (B, queue(1)),
        (A, Command::Start),
        (A, fail()),
        (A, Command::Retry),
    ]);
    assert_eq!(order(&failed), [B, A]);
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
    let events = given.reorder(&[(A, 9), (B, 2), (C, 0)]).unwrap();
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
    let refused = given.reorder(&[(A, 9), (B, 9)]);
    assert_eq!(
        refused,
        Err(Rejection::ReorderNotQueued {
            id: B,
            status: "running"
        })
    );
    let refused = given.reorder(&[(A, 9), (C, 9)]);
    assert_eq!(
        refused,
        Err(Rejection::ReorderNotQueued {
            id: C,
            status: "unknown"
        })
    );
    assert_eq!(
        given.reorder(&[(A, 9), (A, 8)]),
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
    assert_eq!(given.reorder(&ids(1000)).unwrap().len(), 1000);
    assert_eq!(
        given.reorder(&ids(1001)),
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
        running.reorder(&[(A, 2)]).unwrap_err(),
        queued.reorder(&[(A, 2), (A, 3)]).unwrap_err(),
        queued.reorder(&[(A, 2); 1001]).unwrap_err(),
    ];
    assert_all_kinds(Rejection::KINDS, rejections.iter().map(Rejection::kind));
}

proptest! {
    #[test]
    fn whatever_is_asked_for_the_queue_holds_what_is_queued_each_once(
        commands in proptest::collection::vec((0_u128..5, 0_usize..7, 0..3), 0..80)
    ) {
        let mut downloads = Downloads::default();
        for (id, which, priority) in commands {
            let id = DownloadId::new(Uuid::from_u128(id));
            let command = [queue(priority), Command::Reprioritise { priority }, Command::Start, complete(None), fail(), Command::Cancel, Command::Retry][which].clone();
            for event in downloads.decide(id, command, now()).unwrap_or_default() {
                downloads.evolve(id, &event);
            }
        }
        let queued = |id: &DownloadId| downloads.download(*id).queued_with();
        let order = order(&downloads);
        prop_assert!(order.is_sorted_by_key(queued));
        let all = (0..5).map(|id| DownloadId::new(Uuid::from_u128(id)));
        let expected: BTreeSet<_> = all.filter(|id| queued(id).is_some()).collect();
        prop_assert_eq!(order.len(), expected.len());
        prop_assert_eq!(order.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
