//! One partition's way into the log: what arrives while records are under way shares the next one.
//!
//! So a lonely visit does not wait for company, and a crowd makes large records instead of many, which costs the
//! log, its readers and their disks a fraction.

use std::sync::Arc;

use event_log::{
    AppendError, Log, Offset, Partition,
    visits::{self, Parcel},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use super::Held;

/// Records of a partition under way. One: what arrives meanwhile makes a larger next one, and a log takes a record of
/// many visits at about the price of one.
const UNDER_WAY: usize = 1;
/// A record holds about so many bytes; a larger load has one of its own.
const RECORD_BYTES: usize = 512 * 1024;

/// What one request brings, and who waits for it.
pub(super) struct Load {
    pub(super) parcel: Parcel,
    pub(super) reply: Reply,
    /// Room that it takes until it is answered.
    pub(super) held: Option<Arc<Held>>,
}

type Reply = oneshot::Sender<Result<Offset, AppendError>>;

/// Whoever waits, and the room that is free then.
type Waiting = (Reply, Option<Arc<Held>>);

/// Appends what arrives, in its order, until nobody can bring more and all is answered.
pub(super) async fn carry(log: Log, partition: Partition, mut loads: mpsc::Receiver<Load>) {
    let mut under_way = FuturesUnordered::new();
    let mut held = None;
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some((outcome, replies)) = under_way.next(), if !under_way.is_empty() => answer(&outcome, replies),
            first = next(&mut held, &mut loads), if open && under_way.len() < UNDER_WAY => {
                let Some(first) = first else {
                    open = false;
                    continue;
                };
                let (parcels, replies) = fill(first, &mut held, &mut loads);
                if let Some(record) = visits::record(&parcels) {
                    let appending = log.append(partition, record);
                    under_way.push(async move { (appending.await, replies) });
                }
            }
        }
    }
}

/// The next load; cancelling it loses none.
async fn next(held: &mut Option<Load>, loads: &mut mpsc::Receiver<Load>) -> Option<Load> {
    match held.take() {
        Some(load) => Some(load),
        None => loads.recv().await,
    }
}

/// The first, and those after it that are there already and have room beside it. The one that has none is held.
fn fill(
    first: Load,
    held: &mut Option<Load>,
    loads: &mut mpsc::Receiver<Load>,
) -> (Vec<Parcel>, Vec<Waiting>) {
    let mut room = RECORD_BYTES.saturating_sub(first.parcel.size());
    let (mut parcels, mut replies) = (vec![first.parcel], vec![(first.reply, first.held)]);
    while let Ok(load) = loads.try_recv() {
        let size = load.parcel.size();
        if size > room {
            *held = Some(load);
            break;
        }
        room -= size;
        parcels.push(load.parcel);
        replies.push((load.reply, load.held));
    }
    (parcels, replies)
}

fn answer(outcome: &Result<Offset, AppendError>, replies: Vec<Waiting>) {
    for (reply, _held) in replies {
        // Whoever asked may have gone.
        let _ = reply.send(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use events::{Envelope, EventId, Recorded, TenantId, Timestamp, directory::TenantCreated};
    use uuid::Uuid;

    use super::*;

    fn load(bytes: usize) -> Load {
        let tenant = TenantId::new(Uuid::nil());
        let envelope = Envelope {
            id: EventId::new(Uuid::nil()),
            subject: "a".to_owned(),
            time: Timestamp::from_micros(0).expect("in range"),
            tenant,
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        };
        let event = TenantCreated {
            name: "x".repeat(bytes),
        }
        .into();
        let parcel = Parcel::new(tenant, &[Recorded { envelope, event }]);
        Load {
            parcel,
            reply: oneshot::channel().0,
            held: None,
        }
    }

    fn records(sizes: &[usize]) -> Vec<usize> {
        let (lane, mut loads) = mpsc::channel(100);
        for size in sizes {
            lane.try_send(load(*size)).map_err(drop).expect("room");
        }
        let mut held = None;
        let mut records = Vec::new();
        while let Some(first) = held.take().or_else(|| loads.try_recv().ok()) {
            let (parcels, replies) = fill(first, &mut held, &mut loads);
            assert_eq!(parcels.len(), replies.len());
            records.push(parcels.len());
        }
        records
    }

    #[test]
    fn what_is_there_shares_a_record_as_far_as_it_has_room() {
        const LARGE: usize = RECORD_BYTES / 2;
        assert_eq!(records(&[]), Vec::<usize>::new());
        assert_eq!(records(&[10; 50]), [50]);
        assert_eq!(records(&[LARGE, 10, LARGE, 10]), [2, 2]);
        assert_eq!(records(&[10, RECORD_BYTES, 10, 10]), [1, 1, 2]);
    }
}
