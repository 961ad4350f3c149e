//! All downloads of a tenant together, and the order in which they will run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Command, Download, Rejection, Reprioritised};
use crate::{Aggregate, DownloadId, Timestamp, event::DownloadEvent};

/// The most downloads that one reorder moves.
pub const REORDER_MAX: usize = 1000;

/// Every download of a tenant, and the order in which they will run: by priority, equal ones as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Downloads {
    entries: HashMap<DownloadId, (Download, Sequence)>,
    queue: BTreeMap<(i32, Sequence), DownloadId>,
    last: Sequence,
}

/// Counts what was queued, or came back: the order among equals.
type Sequence = u64;

impl Downloads {
    /// What the past makes of the tenant's queue.
    pub fn evolve(&mut self, id: DownloadId, event: &DownloadEvent) {
        let (before, mut sequence) = self.entries.remove(&id).unwrap_or_default();
        if let Some(priority) = before.queued_with() {
            self.queue.remove(&(priority, sequence));
        }
        let after = before.evolve(event);
        match event {
            DownloadEvent::Queued(_) | DownloadEvent::Retried(_) => {
                self.last += 1;
                sequence = self.last;
            }
            DownloadEvent::Reprioritised(_)
            | DownloadEvent::Started(_)
            | DownloadEvent::Completed(_)
            | DownloadEvent::Failed(_)
            | DownloadEvent::Cancelled(_) => {}
        }
        if let Some(priority) = after.queued_with() {
            self.queue.insert((priority, sequence), id);
        }
        if after != Download::Nothing {
            self.entries.insert(id, (after, sequence));
        }
    }

    /// What a download answers to a command.
    ///
    /// # Errors
    /// The rule that stands in the way.
    pub fn decide(
        &self,
        id: DownloadId,
        command: Command,
        at: Timestamp,
    ) -> Result<Vec<DownloadEvent>, Rejection> {
        self.download(id).decide(command, &(), at)
    }

    /// New priorities for several queued downloads: all, or none.
    /// What has its priority already is in order and gets no event.
    ///
    /// # Errors
    /// One that is not queued, or named twice; too many.
    pub fn reorder(
        &self,
        priorities: &[(DownloadId, i32)],
    ) -> Result<Vec<(DownloadId, DownloadEvent)>, Rejection> {
        if priorities.len() > REORDER_MAX {
            return Err(Rejection::ReorderTooLong {
                count: priorities.len(),
            });
        }
        let mut named = BTreeSet::new();
        let mut events = Vec::new();
        for &(id, priority) in priorities {
            let download = self.download(id);
            if !named.insert(id) {
                return Err(Rejection::ReorderTwice { id });
            }
            let Some(current) = download.queued_with() else {
                return Err(Rejection::ReorderNotQueued {
                    id,
                    status: download.status_name(),
                });
            };
            if current != priority {
                events.push((id, Reprioritised { priority }.into()));
            }
        }
        Ok(events)
    }

    /// A download; [`Download::Nothing`] when there is none.
    pub fn download(&self, id: DownloadId) -> &Download {
        self.entries
            .get(&id)
            .map_or(&Download::Nothing, |(download, _)| download)
    }

    /// The order in which the queued ones will run.
    pub fn order(&self) -> impl Iterator<Item = DownloadId> + '_ {
        self.queue.values().copied()
    }
}
