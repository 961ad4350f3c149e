use event_log::{Headers, Record};
use uuid::Uuid;

use super::*;

const ROOM: Room = Room {
    events: usize::MAX,
    bytes: usize::MAX,
};

fn tenant(number: u128) -> TenantId {
    TenantId::new(Uuid::from_u128(number))
}

/// A commit of one event at this offset.
fn commit(offset: Offset, of: u128, size: usize) -> Entry {
    let text = format!(
        r#"[{{"tenant":"{}","type":"a.b.v1","data":{}}}]"#,
        tenant(of),
        "7".repeat(size)
    );
    let record = Record {
        key: None,
        headers: Headers::default(),
        value: text.into(),
    };
    let stored = Stored {
        offset,
        time: None,
        record,
    };
    Entry::of(&stored, State::default(), State::default()).unwrap()
}

fn push(recent: &mut Recent, of: u128, size: usize) {
    recent.push(commit(recent.next, of, size));
    recent.next += 1;
}

/// From an offset: how many events there are, and where one is after them. None: not all of them are kept.
fn take(recent: &mut Recent, of: u128, from: Offset) -> Option<(usize, Offset)> {
    let cursor = Cursor::before(from, State::default());
    let taken = recent
        .kept(tenant(of), &cursor)?
        .give(&cursor, &Types::All, &mut { ROOM });
    Some((taken.events.len(), taken.cursor.next))
}

#[test]
fn who_listens_misses_nothing_when_others_fill_what_is_kept() {
    let mut recent = Recent::at(10, State::default());
    let mut wake = recent.listen(tenant(1));
    for _ in 0..COMMITS + 5 {
        push(&mut recent, 2, 1);
    }
    assert!(!wake.has_changed().unwrap(), "others' commits wake nobody");
    let end = recent.next;
    assert_eq!(take(&mut recent, 1, 10), Some((0, end)));
    assert_eq!(
        take(&mut recent, 3, 10),
        None,
        "nobody has looked whether it missed one"
    );
    assert_eq!(take(&mut recent, 2, 10), None);
    assert_eq!(take(&mut recent, 2, 15), Some((COMMITS, end)));
    push(&mut recent, 1, 1);
    assert!(wake.has_changed().unwrap());
    wake.mark_unchanged();
    assert_eq!(take(&mut recent, 1, 10), Some((1, end + 1)));
    for _ in 0..=COMMITS {
        push(&mut recent, 2, 1);
    }
    assert_eq!(take(&mut recent, 1, 10), None, "its own is gone");
    assert_eq!(take(&mut recent, 1, end + 1), Some((0, recent.next)));
    recent.leave(tenant(1));
    assert_eq!(take(&mut recent, 1, end + 1), None);
    assert!(recent.listened.is_empty());
}

#[test]
fn few_large_commits_are_kept_and_the_last_one_always() {
    let mut recent = Recent::at(0, State::default());
    for _ in 0..20 {
        push(&mut recent, 1, BYTES / 4);
    }
    assert_eq!((recent.commits.len(), recent.from), (3, 17));
    push(&mut recent, 1, BYTES * 2);
    assert_eq!((recent.commits.len(), recent.from), (1, 20));
    assert_eq!(recent.bytes, recent.commits[0].size());
    assert_eq!(take(&mut recent, 1, 19), None);
    assert_eq!(take(&mut recent, 1, 20), Some((1, 21)));
}

#[test]
fn who_is_ahead_of_the_follower_stays_there() {
    let mut recent = Recent::at(3, State::default());
    assert_eq!(take(&mut recent, 1, 7), Some((0, 7)));
    let within = Cursor {
        next: 3,
        skip: 1,
        state: None,
    };
    let kept = recent.kept(tenant(1), &within).unwrap();
    let taken = kept.give(&within, &Types::All, &mut { ROOM });
    assert_eq!(taken.cursor, within);
}
