//! Who waits, and what wakes them.

use super::*;

const PLACE: Place = (Projection::Content, 1, 0);

fn reached(next_offset: u64, log_end: u64) -> Reached {
    Reached {
        next_offset,
        log_end,
        end_read_at: Some(Instant::now()),
        filled: true,
        parking: 0,
    }
}

fn progress() -> Progress {
    let shared = Arc::new(Shared::default());
    shared.lock().switched(Projection::Content, 1);
    shared.lock().saw(PLACE, reached(10, 10));
    Progress {
        shared,
        task: Arc::default(),
        _stop: Arc::new(CancellationToken::new().drop_guard()),
    }
}

const fn part(next_offset: u64) -> Part {
    Part {
        topic: Topic::Ledger,
        partition: 0,
        next_offset,
    }
}

async fn wait(progress: &Progress, next_offset: u64, within: Duration) -> Result<(), WaitError> {
    let parts = [part(next_offset)];
    let wanted = Wanted {
        parts: &parts,
        ..Wanted::default()
    };
    progress
        .wait(Projection::Content, &wanted, Instant::now() + within)
        .await
}

#[tokio::test]
async fn what_is_there_needs_no_waiting() {
    assert_eq!(wait(&progress(), 10, Duration::ZERO).await, Ok(()));
}

#[tokio::test]
async fn what_is_not_there_is_behind_at_the_deadline() {
    let behind = WaitError::Behind {
        projection: Projection::Content,
    };
    assert_eq!(wait(&progress(), 11, Duration::from_millis(5)).await, Err(behind));
}

#[tokio::test]
async fn a_thousand_waiters_are_woken_by_one_checkpoint() {
    let progress = progress();
    let waiting: Vec<_> = (11..1011)
        .map(|offset| {
            let progress = progress.clone();
            tokio::spawn(async move { wait(&progress, offset, Duration::from_secs(20)).await })
        })
        .collect();
    while progress
        .shared
        .lock()
        .waiters
        .get(&PLACE)
        .map_or(0, BTreeMap::len)
        < 1000
    {
        tokio::task::yield_now().await;
    }
    progress.shared.lock().saw(PLACE, reached(1010, 1010));
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), Ok(()));
    }
    assert!(progress.shared.lock().waiters[&PLACE].is_empty());
}

#[tokio::test]
async fn a_position_beyond_the_log_is_told_once_the_end_is_known() {
    let progress = progress();
    let waiting = tokio::spawn({
        let progress = progress.clone();
        async move { wait(&progress, 99, Duration::from_secs(20)).await }
    });
    progress.shared.reload.notified().await;
    progress.shared.lock().saw(
        PLACE,
        Reached {
            end_read_at: Some(Instant::now() + SETTLED),
            ..reached(10, 10)
        },
    );
    progress.shared.reloaded.notify_waiters();
    let beyond = WaitError::BeyondEnd {
        topic: Topic::Ledger,
        partition: 0,
    };
    assert_eq!(waiting.await.unwrap(), Err(beyond));
}

#[test]
fn a_notification_that_comes_late_takes_nothing_back_from_the_end() {
    let read = Instant::now();
    let mut state = State::default();
    let known = Reached {
        end_read_at: Some(read),
        ..reached(10, 20)
    };
    state.saw(PLACE, known);
    state.heard(PLACE, 12, 15);
    let told = Reached {
        next_offset: 12,
        ..known
    };
    assert_eq!(state.reached[&PLACE], told);
    // It knows of a later end, but not when that was one.
    state.heard(PLACE, 25, 25);
    assert_eq!(state.reached[&PLACE].log_end, 25);
    assert_eq!(state.reached[&PLACE].end_read_at, Some(read));
}

/// What is kept in memory under a mark is older than what a retry of parked events has written.
#[test]
fn who_sees_to_what_is_parked_changes_rows_though_nothing_moves() {
    let mut state = State::default();
    state.switched(Projection::Content, 1);
    state.saw(PLACE, reached(10, 10));
    let changes = |state: &State| state.changes[&Projection::Content];
    let before = changes(&state);
    state.saw(PLACE, reached(10, 12));
    assert_eq!(changes(&state), before);
    let seen_to = Reached {
        parking: 1,
        ..reached(10, 12)
    };
    state.saw(PLACE, seen_to);
    assert_eq!(changes(&state), before + 1);
    // A notification does not know of it.
    state.heard(PLACE, 10, 13);
    assert_eq!(changes(&state), before + 1);
}

#[tokio::test]
async fn a_parked_event_within_the_position_ends_the_wait() {
    let progress = progress();
    let tenant = Uuid::from_u128(7);
    let since = ParkedSince {
        tenant,
        subject: "a".into(),
        partition: 0,
        since: 5,
    };
    progress
        .shared
        .lock()
        .parked
        .insert((Projection::Content, 1), vec![since]);
    let parts = [part(6)];
    let ask = |subject| {
        let wanted = Wanted {
            parts: &parts,
            tenant: Some(tenant),
            subject,
        };
        let progress = progress.clone();
        async move { progress.wait(Projection::Content, &wanted, Instant::now()).await }
    };
    let parked = Err(WaitError::Parked {
        projection: Projection::Content,
    });
    assert_eq!(ask(None).await, parked);
    assert_eq!(ask(Some("a")).await, parked);
    assert_eq!(ask(Some("b")).await, Ok(()));
}

#[tokio::test]
async fn a_switch_of_the_generation_makes_everyone_look_again() {
    let progress = progress();
    let waiting = tokio::spawn({
        let progress = progress.clone();
        async move { wait(&progress, 50, Duration::from_secs(20)).await }
    });
    while progress
        .shared
        .lock()
        .waiters
        .get(&PLACE)
        .is_none_or(BTreeMap::is_empty)
    {
        tokio::task::yield_now().await;
    }
    {
        let mut state = progress.shared.lock();
        state.saw((Projection::Content, 2, 0), reached(50, 50));
        state.switched(Projection::Content, 2);
    }
    assert_eq!(waiting.await.unwrap(), Ok(()));
}
