//! What a process does that cannot serve a partition which another could: it meets events which its release does not
//! know, while a newer release runs beside it; or its own disk fails, while any other process runs.
//!
//! It gives the partition up, but the group assigns partitions to whoever takes part. So it takes part no more, in
//! any partition, as long as a process of a newer release does: that one gets them all, and requests are sent on to
//! it. When there is none (or no more), it takes part again, for the partitions that it can read are better served by
//! it than by nobody. Only a newer release that comes or goes changes this, so two that cannot read a partition do not
//! pass it to and fro. In the same way it takes part no more when it cannot keep what a partition's decisions rest on,
//! as long as there is another process.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use event_log::{Log, Partition, ownership::Role};
use events::feature;
use service::health::Reporter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ownership::Sharing;

/// How often the group is asked who takes part, while something cannot be served.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The partitions that this process was to serve and could not.
#[derive(Debug, Default)]
pub struct Unserved(watch::Sender<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What stands there is of a newer release, or damaged.
    unreadable: BTreeSet<Partition>,
    /// Its state cannot be kept on this process' disk.
    unkept: BTreeSet<Partition>,
}

impl Unserved {
    pub(super) fn unreadable(&self, partition: Partition) {
        self.0
            .send_if_modified(|known| known.unreadable.insert(partition));
    }

    pub(super) fn unkept(&self, partition: Partition) {
        self.0.send_if_modified(|known| known.unkept.insert(partition));
    }

    pub(super) fn remove(&self, partition: Partition) {
        self.0.send_if_modified(|known| {
            let unreadable = known.unreadable.remove(&partition);
            known.unkept.remove(&partition) || unreadable
        });
    }
}

/// Stands aside and takes part again, until the process stops.
pub async fn watch(log: Log, sharing: Arc<Sharing>, reporter: Reporter, stop: CancellationToken) {
    stop.run_until_cancelled(watching(&log, &sharing, &reporter))
        .await;
}

async fn watching(log: &Log, sharing: &Sharing, reporter: &Reporter) {
    let mut unserved = sharing.unserved.0.subscribe();
    let mut aside: Option<&str> = None;
    reporter.ok();
    loop {
        let (unreadable, unkept) = {
            let known = unserved.borrow_and_update();
            (!known.unreadable.is_empty(), !known.unkept.is_empty())
        };
        if !unreadable && !unkept && aside.is_none() {
            if unserved.changed().await.is_err() {
                return;
            }
            continue;
        }
        match log.processes().await {
            Err(error) => tracing::warn!(error, "cannot ask which other processes run"),
            Ok(processes) => {
                let writers = processes.iter().filter(|process| process.role == Role::Writer);
                let is_newer = writers.clone().any(|process| process.level > feature::KNOWN);
                // While it takes part, it is among them.
                let others = writers.count() > usize::from(aside.is_none());
                let why = if is_newer && (unreadable || aside == Some(NEWER)) {
                    Some(NEWER)
                } else {
                    (unkept && others).then_some(UNKEPT)
                };
                if why != aside {
                    if why.is_some() != aside.is_some() {
                        sharing.membership.stand_aside(why.is_some()).await;
                    }
                    aside = why;
                    tell(aside, reporter);
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Why a process stands aside.
const NEWER: &str = "a newer release has written what this one cannot read: processes of the newer one serve all \
                     partitions; bring this one up to date";
const UNKEPT: &str = "the disk under ANNALS_STATE_DIR fails: other processes serve all partitions; see to the disk, then \
                      start this process anew";

fn tell(aside: Option<&str>, reporter: &Reporter) {
    match aside {
        Some(why) => {
            tracing::warn!("{why}");
            reporter.degraded(why);
        }
        None => {
            tracing::warn!("nobody else runs any more who could serve: taking part again");
            reporter.ok();
        }
    }
}
