//! Who serves a partition: this process, until another one claims it; and after a while this one again.

use std::{
    sync::{PoisonError, Weak},
    time::{Duration, Instant},
};

use event_log::{
    Partition,
    driver::{Options, Start, Status, drive},
};
use service::{Health, health::Reporter};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{Door, Request, Settings, decider::Decider, timers};
use crate::metrics;

/// Serves the partition, and when another writer took it claims it anew after a growing random while: so two
/// that both believe it theirs do not claim back and forth, and it is not left without an owner.
pub(super) async fn supervise(
    door: Weak<Door>,
    mut incoming: mpsc::Receiver<Request>,
    settings: Settings,
    health: Health,
    tasks: TaskTracker,
) {
    let mut lost: u32 = 0;
    loop {
        let Some((log, partition, forward)) = door.upgrade().map(|door| {
            let forward = door.status.clone();
            (door.log.clone(), door.partition, forward)
        }) else {
            return;
        };
        let (next_due, due) = watch::channel(None);
        let (status, mut seen) = watch::channel(Status::Starting);
        let decider = Decider::new(partition, next_due);
        let options = Options::new(settings.owner.clone());
        let driving = drive(
            log,
            partition,
            Start::default(),
            decider,
            incoming,
            status,
            options,
        );
        let name = format!("the writer of {partition}");
        tasks.spawn(health.clone().vital(name, driving));
        if let Some(door) = door.upgrade() {
            let requests = door
                .requests
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .downgrade();
            let name = format!("the timer of {partition}");
            tasks.spawn(health.clone().vital(name, timers::ring(due, requests)));
        }
        let began = Instant::now();
        loop {
            let now = seen.borrow_and_update().clone();
            forward.send_replace(now.clone());
            count_claim(partition, &now);
            if matches!(now, Status::SteppedDown(_)) {
                break;
            }
            if seen.changed().await.is_err() {
                return;
            }
        }
        lost = if began.elapsed() > CALM {
            1
        } else {
            lost.saturating_add(1)
        };
        let wait = reclaim_after(settings.reclaim, lost);
        tracing::info!(%partition, seconds = wait.as_secs_f64(), "will claim again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // The driver ends when the last handle is gone.
            _ = seen.wait_for(|_| false) => return,
        }
        let (requests, next_incoming) = mpsc::channel(settings.waiting);
        incoming = next_incoming;
        let Some(door) = door.upgrade() else { return };
        *door.requests.write().unwrap_or_else(PoisonError::into_inner) = requests;
    }
}

fn count_claim(partition: Partition, status: &Status) {
    let outcome = match status {
        Status::Starting => return,
        Status::Serving { .. } => "serving",
        Status::Recovering => "recovering",
        Status::SteppedDown(_) => "stepped_down",
    };
    metrics::CLAIMS
        .with_label_values(&[partition.to_string().as_str(), outcome])
        .inc();
}

/// Whoever served this long starts to count its lost claims anew.
const CALM: Duration = Duration::from_secs(600);

/// The first wait, then twice as long each time, at most thirty times; random in its upper half.
fn reclaim_after(first: Duration, lost: u32) -> Duration {
    let times = 1_u32
        .checked_shl(lost.saturating_sub(1))
        .unwrap_or(30)
        .clamp(1, 30);
    first
        .saturating_mul(times)
        .mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// Reports how the partition does.
pub(super) async fn report(partition: Partition, mut status: watch::Receiver<Status>, reporter: Reporter) {
    let serving = metrics::SERVING.with_label_values(&[&partition.to_string()]);
    loop {
        let now = status.borrow_and_update().clone();
        serving.set(matches!(now, Status::Serving { .. }).into());
        match &now {
            Status::Starting => reporter.down("is being read"),
            Status::Serving { .. } => reporter.ok(),
            Status::Recovering => reporter.degraded("an append failed; what happened is being read"),
            Status::SteppedDown(_) => reporter.degraded("another process serves it, or it cannot be served"),
        }
        if status.changed().await.is_err() {
            return serving.set(0);
        }
    }
}
