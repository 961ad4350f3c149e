//! When snapshots of a partition's state are written: in the background, whenever enough was folded since the last
//! one, and before the partition goes to another process. What they are is told in `event_log::snapshot`.

use std::{sync::Arc, time::Duration};

use event_log::{
    Log, Offset, Partition, Snapshots, StateStore, metrics,
    snapshot::{Refused, SnapshotError},
};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after one could not be written.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How long a handover waits for one: the next owner is to serve within a second.
const LEAVING: Duration = Duration::from_millis(700);
/// And then for what was begun to be taken back: a store keeps, and charges for, the parts of an upload that was left.
const TAKING_BACK: Duration = Duration::from_millis(200);
/// At a handover one is written after this part of what is usual.
const PART: u64 = 10;

/// Keeps the snapshots of a partition that is served here up to date.
pub(super) struct Keeper {
    pub(super) snapshots: Snapshots,
    /// After so many commits.
    pub(super) every: u64,
    pub(super) store: StateStore,
    pub(super) log: Log,
    pub(super) partition: Partition,
    /// The offset after that of the newest; locked while one is written.
    pub(super) newest: Mutex<Offset>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Writes them until it is stopped.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut pause = LOOK;
        while self
            .stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            let written = self.write_after(self.every, self.stop.cancelled()).await;
            pause = if written { LOOK } else { AFTER_FAILURE };
        }
    }

    /// Writes one before the partition is let go, unless little was folded since the last, or it takes too long.
    pub(super) async fn leave(&self) {
        let until = Instant::now() + LEAVING;
        let leaving = self.write_after(self.every.div_ceil(PART), tokio::time::sleep_until(until));
        // One that is under way in the background is waited for, too; and what was begun is taken back.
        if tokio::time::timeout_at(until + TAKING_BACK, leaving)
            .await
            .is_err()
        {
            tracing::debug!(partition = %self.partition, "letting go without a snapshot of the end");
        }
    }

    /// Writes one if so many commits were folded since the last; whether there was no trouble.
    async fn write_after(&self, commits: u64, stop: impl Future<Output = ()>) -> bool {
        let mut newest = self.newest.lock().await;
        let written = match self.store.standing() {
            Ok(Some(standing)) if (standing.at + 1).saturating_sub(*newest) >= commits => {
                self.snapshots
                    .write(&self.store, &self.log, self.partition, stop)
                    .await
            }
            Ok(_) => return true,
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(written) => {
                *newest = written.map_or(*newest, |written| written.at + 1);
                true
            }
            Err(SnapshotError::Stopped) => true,
            Err(error @ SnapshotError::Refused(Refused::NotAdmitted(_))) => {
                metrics::snapshot_failed(self.partition);
                tracing::error!(partition = %self.partition, %error, "no snapshot is made of this");
                false
            }
            Err(error) => {
                metrics::snapshot_failed(self.partition);
                tracing::warn!(partition = %self.partition, %error, "cannot write a snapshot: a process without this disk starts later");
                false
            }
        }
    }
}
