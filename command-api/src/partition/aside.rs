//! What a process does that meets events which its release does not know, while a newer release runs beside it.
//!
//! It gives the partition up, but the group assigns partitions to whoever takes part. So it takes part no more, in
//! any partition, as long as a process of a newer release does: that one gets them all, and requests are sent on to
//! it. When there is none (or no more), it takes part again, for the partitions that it can read are better served by
//! it than by nobody. Only a newer release that comes or goes changes this, so two that cannot read a partition do not
//! pass it to and fro.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use event_log::{Log, Partition, ownership::Role};
use events::feature;
use service::health::Reporter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ownership::Sharing;

/// How often the group is asked for a newer release, while something cannot be read.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The partitions that this process was to serve and could not read.
#[derive(Debug, Default)]
pub struct Unreadable(watch::Sender<BTreeSet<Partition>>);

impl Unreadable {
    pub(super) fn add(&self, partition: Partition) {
        self.0.send_if_modified(|known| known.insert(partition));
    }

    pub(super) fn remove(&self, partition: Partition) {
        self.0.send_if_modified(|known| known.remove(&partition));
    }
}

/// Stands aside and takes part again, until the process stops.
pub async fn watch(log: Log, sharing: Arc<Sharing>, reporter: Reporter, stop: CancellationToken) {
    stop.run_until_cancelled(watching(&log, &sharing, &reporter))
        .await;
}

async fn watching(log: &Log, sharing: &Sharing, reporter: &Reporter) {
    let mut unreadable = sharing.unreadable.0.subscribe();
    let mut aside = false;
    reporter.ok();
    loop {
        let all_readable = unreadable.borrow_and_update().is_empty();
        if all_readable && !aside {
            if unreadable.changed().await.is_err() {
                return;
            }
            continue;
        }
        match log.processes().await {
            Err(error) => tracing::warn!(error, "cannot ask whether a newer release runs"),
            Ok(processes) => {
                let is_newer = processes
                    .iter()
                    .any(|process| process.role == Role::Writer && process.level > feature::KNOWN);
                if is_newer != aside {
                    aside = is_newer;
                    sharing.membership.stand_aside(aside);
                    tell(aside, reporter);
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn tell(aside: bool, reporter: &Reporter) {
    if aside {
        let why = "a newer release has written what this one cannot read: processes of the newer one serve all \
                   partitions; bring this one up to date";
        tracing::warn!("{why}");
        reporter.degraded(why);
    } else {
        tracing::warn!("no newer release runs any more: taking part again, without what cannot be read");
        reporter.ok();
    }
}
