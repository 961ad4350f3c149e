//! Given events, then rows.

use events::{TenantId, Timestamp};

use super::*;

const DOWNLOAD: Uuid = Uuid::from_u128(2);

fn recorded(version: u64, event: impl Into<Event>) -> Recorded {
    let envelope = Envelope {
        id: events::EventId::new(Uuid::from_u128(9)),
        subject: DOWNLOAD.to_string(),
        time: Timestamp::from_micros(1_000 + i64::try_from(version).unwrap()).unwrap(),
        tenant: TenantId::new(Uuid::from_u128(1)),
        aggregate_version: Some(version),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    Recorded {
        envelope,
        event: event.into(),
    }
}

fn queued() -> download::Queued {
    download::Queued {
        title: "Title".into(),
        url: "https://example.org/a".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 100,
    }
}

/// The row after these events, each in a commit of its own.
fn row(events: &[Recorded]) -> Download {
    let mut rows = Rows::default();
    for (seq, event) in (1..).zip(events) {
        DownloadsFold::fold(
            &mut rows,
            &Place {
                tenant_seq: seq,
                index: 3,
            },
            event,
        )
        .unwrap();
    }
    rows.changes().inserted.remove(0)
}

#[test]
fn a_download_keeps_its_place_when_its_priority_changes() {
    let row = row(&[
        recorded(1, queued()),
        recorded(2, download::Reprioritised { priority: 5 }),
    ]);
    assert_eq!((row.status.as_str(), row.priority), ("queued", 5));
    assert_eq!((row.queue_seq, row.queue_index, row.version), (1, 3, 2));
}

#[test]
fn a_retried_download_queues_behind_its_equals() {
    let failed = download::Failed {
        reason: "gone".into(),
    };
    let events = [
        recorded(1, queued()),
        recorded(2, download::Started {}),
        recorded(3, failed),
    ];
    let before = row(&events);
    assert_eq!(
        (before.status.as_str(), before.failure.as_deref(), before.attempts),
        ("failed", Some("gone"), 1)
    );
    let after = row(&[events.as_slice(), &[recorded(4, download::Retried {})]].concat());
    assert_eq!(
        (after.status.as_str(), after.failure, after.finished_at),
        ("queued", None, None)
    );
    assert_eq!(after.queue_seq, 4);
}

#[test]
fn a_completed_download_says_what_was_fetched() {
    let completed = download::Completed {
        size: Some(events::number::Whole(7)),
        sha256: None,
    };
    let row = row(&[
        recorded(1, queued()),
        recorded(2, download::Started {}),
        recorded(3, completed),
    ]);
    assert_eq!((row.status.as_str(), row.fetched_size), ("completed", Some(7)));
    assert_eq!(row.finished_at, Some(row.updated_at));
}

/// The domain names them here, and the read side, which does not know the domain, in the tables' crate.
#[test]
fn the_statuses_of_the_domain_are_those_of_the_table() {
    let domain = [
        Status::Queued,
        Status::Running,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];
    assert_eq!(domain.map(Status::name), tables::STATUSES);
}

#[test]
fn an_event_that_does_not_follow_is_unfit() {
    let mut rows = Rows::default();
    let place = Place {
        tenant_seq: 1,
        index: 0,
    };
    DownloadsFold::fold(&mut rows, &place, &recorded(2, queued())).unwrap_err();
    DownloadsFold::fold(&mut rows, &place, &recorded(1, download::Cancelled {})).unwrap_err();
    DownloadsFold::fold(&mut rows, &place, &recorded(1, queued())).unwrap();
    DownloadsFold::fold(&mut rows, &place, &recorded(1, download::Cancelled {})).unwrap_err();
    assert_eq!(rows.changes().inserted[0].version, 1);
}
