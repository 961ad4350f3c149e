//! The task that listens: notifications as they come, everything anew after a lost connection, and a slow
//! refresh for what a notification could not tell.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use sqlx::{PgPool, postgres::PgListener};

use super::{ParkedSince, Place, Reached, Shared};
use crate::{Error, Projection};

/// How often everything is read again although nothing was heard.
const REFRESH: Duration = Duration::from_secs(5);

/// How long to wait for a database that is not there.
const RETRY: Duration = Duration::from_millis(500);

/// Listens for ever; an outage only makes what is known grow old.
pub(super) async fn follow(pool: PgPool, shared: Arc<Shared>) {
    loop {
        if let Err(error) = listen(&pool, &shared).await {
            if shared.connected.swap(false, Ordering::Relaxed) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "progress is not heard of: retrying"
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Until the connection is lost.
async fn listen(pool: &PgPool, shared: &Shared) -> Result<(), Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    // It would connect again here, where it may be cut short by whatever else is waited for; then what happened
    // meanwhile would never be read.
    listener.eager_reconnect(false);
    listener
        .listen_all(["annals_checkpoint", "annals_live", "annals_parked"])
        .await?;
    // Listening first, reading then: nothing falls between.
    reload(pool, shared).await?;
    if !shared.connected.swap(true, Ordering::Relaxed) {
        tracing::debug!("following the checkpoints");
    }
    let mut refresh = tokio::time::interval_at((Instant::now() + REFRESH).into(), REFRESH);
    refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard? {
                Some(told) if told.channel() == "annals_checkpoint" => match parse(told.payload()) {
                    Some((place, next_offset, log_end, filled)) => {
                        if take_in(shared, place, next_offset, log_end) && filled {
                            reload(pool, shared).await?;
                        }
                    }
                    None => reload(pool, shared).await?,
                },
                // A switch, or something parked.
                Some(_) => reload(pool, shared).await?,
                // The connection was lost.
                None => return Ok(()),
            },
            _ = refresh.tick() => reload(pool, shared).await?,
            () = shared.reload.notified() => reload(pool, shared).await?,
        }
    }
}

/// Takes a notification in; whether it is of tables that would answer, had they had all of the log once. That they
/// have is believed of the tables only.
fn take_in(shared: &Shared, place: Place, next_offset: u64, log_end: u64) -> bool {
    let mut state = shared.lock();
    state.heard(place, next_offset, log_end);
    state.live.get(&place.0) == Some(&place.1) && state.filling.contains(&place)
}

/// `<projection> <generation> <topic> <partition> <next_offset> <log_end> <filled>`.
fn parse(payload: &str) -> Option<(Place, u64, u64, bool)> {
    let mut words = payload.split(' ');
    let projection: Projection = words.next()?.parse().ok()?;
    let generation = words.next()?.parse().ok()?;
    let _topic = words.next()?;
    let partition = words.next()?.parse().ok()?;
    let next_offset = words.next()?.parse().ok()?;
    let log_end = words.next()?.parse().ok()?;
    let filled = words.next()? == "t";
    Some(((projection, generation, partition), next_offset, log_end, filled))
}

/// Reads everything from the tables: what it says replaces what was known, also where it went back.
async fn reload(pool: &PgPool, shared: &Shared) -> Result<(), Error> {
    // Before the tables are asked: what they say is never taken for newer than it is.
    let now = Instant::now();
    // Of one moment: else a switch between two of these questions would leave a live generation without checkpoints.
    let mut tx = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let log = sqlx::query_scalar!("SELECT log_id FROM annals.log")
        .fetch_optional(&mut *tx)
        .await?;
    let live = sqlx::query!("SELECT projection, generation FROM annals.live")
        .fetch_all(&mut *tx)
        .await?;
    let checkpoints = sqlx::query_file!("src/progress/checkpoints.sql")
        .fetch_all(&mut *tx)
        .await?;
    let parked = sqlx::query_file!("src/progress/parked.sql")
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let mut state = shared.lock();
    state.log = log;
    state.parked.clear();
    for row in parked {
        let Ok(projection) = row.projection.parse::<Projection>() else {
            continue;
        };
        state
            .parked
            .entry((projection, row.generation))
            .or_default()
            .push(ParkedSince {
                tenant: row.tenant,
                subject: row.subject,
                partition: row.partition.cast_unsigned(),
                since: row.since.cast_unsigned(),
            });
    }
    let mut kept = std::collections::HashSet::new();
    for row in checkpoints {
        let Ok(projection) = row.projection.parse::<Projection>() else {
            continue;
        };
        let place = (projection, row.generation, row.partition.cast_unsigned());
        let age = Duration::try_from_secs_f64(row.age.max(0.0)).ok();
        let reached = Reached {
            next_offset: row.next_offset.cast_unsigned(),
            log_end: row.log_end.cast_unsigned(),
            end_read_at: age.and_then(|age| now.checked_sub(age)),
            filled: row.filled,
            parking: row.parking,
        };
        kept.insert(place);
        state.saw(place, reached);
    }
    state.reached.retain(|place, _| kept.contains(place));
    state.at_end.retain(|place, _| kept.contains(place));
    state.filling.retain(|place| kept.contains(place));
    // Last: who looks again after a switch finds the new generation's checkpoints.
    state
        .live
        .retain(|projection, _| live.iter().any(|row| row.projection == projection.name()));
    for row in live {
        if let Ok(projection) = row.projection.parse() {
            state.switched(projection, row.generation);
        }
    }
    drop(state);
    shared.reloaded.notify_waiters();
    Ok(())
}
