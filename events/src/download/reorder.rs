//! New priorities for several downloads at once.

use std::collections::BTreeSet;

use super::{Download, Rejection, Reprioritised};
use crate::{DownloadId, event::DownloadEvent};

/// The most downloads that one reorder moves.
pub const REORDER_MAX: usize = 1000;

/// New priorities for several queued downloads: all, or none.
/// What has its priority already is in order and gets no event.
///
/// # Errors
/// One that is not queued, or named twice; too many.
pub fn reorder(
    priorities: &[(DownloadId, i32)],
    download: impl Fn(DownloadId) -> Download,
) -> Result<Vec<(DownloadId, DownloadEvent)>, Rejection> {
    if priorities.len() > REORDER_MAX {
        return Err(Rejection::ReorderTooLong {
            count: priorities.len(),
        });
    }
    let mut named = BTreeSet::new();
    let mut events = Vec::new();
    for &(id, priority) in priorities {
        let download = download(id);
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
