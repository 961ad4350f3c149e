//! A tenant's events in order, for whoever keeps a position: what `GET /api/v1/events` stands on.
//!
//! Whether a record counts depends on all before it. So a position that was given out here carries what admission
//! knew there ([`cursor`]), and going on from it reads nothing twice; of any other position [`marks`] know a place
//! not far before. Who has read to the end listens to the partition's one follower ([`tail`]), which keeps the last
//! commits for all who listen: nobody has a buffer of his own, and who falls behind what is kept reads the log again
//! ([`reading`]), as many at a time as there are [`seats`] for it. [`entry`] is a commit seen from here, [`types`]
//! what a listener wants of it.

pub mod cursor;
mod entry;
pub mod marks;
mod reading;
mod seats;
mod tail;
pub mod types;

use std::{sync::Arc, time::Duration};

use event_log::{Log, Offset, Partition};
use events::TenantId;
use key_store::KeyStore;
use service::{Health, Position};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    cursor::Cursor,
    entry::{Piece, Room},
    types::Types,
};
use self::{
    marks::Marks,
    reading::Reading,
    seats::{Seat, Seats},
    tail::{Listener, Tails},
};
use crate::{
    ends::Ends,
    error::Error,
    metrics::{EVENTS_GIVEN, SUBSCRIBERS},
};

/// How long one waits until the follower has what was in the log when one asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where feeds begin. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions(Arc<Shared>);

struct Shared {
    log: Log,
    keys: KeyStore,
    ends: Ends,
    marks: Marks,
    tails: Tails,
    seats: Seats,
}

/// One tenant's events from a position on, for one who asks.
pub struct Feed {
    all: Subscriptions,
    partition: Partition,
    tenant: TenantId,
    types: Types,
    cursor: Cursor,
    /// What was in the log when the feed began: nothing of it may be missing in an answer that says "no more".
    must: Offset,
    listener: Option<Listener>,
    seat: Seat,
}

/// What a feed gave.
#[derive(Debug)]
pub struct Found {
    /// In order; each says where to go on after it.
    pub events: Vec<Piece>,
    /// Whether there may be more already.
    pub more: bool,
}

impl Subscriptions {
    /// Of a log. Followers begin when they are first wanted, and end with `stop` or when nobody wants them.
    pub fn new(
        log: Log,
        (keys, ends): (KeyStore, Ends),
        health: Health,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            tails: Tails::new(log.clone(), health, tasks.clone(), stop),
            log,
            keys,
            ends,
            marks: Marks::default(),
            seats: Seats::default(),
        }))
    }

    /// A tenant's events after a position; none is the beginning. The position must have been checked.
    ///
    /// # Errors
    /// The tenant, or all together, have too many feeds; the log does not say where it ends.
    pub async fn feed(
        &self,
        tenant: TenantId,
        types: Types,
        after: Option<&Position>,
    ) -> Result<Feed, Error> {
        let seat = self.0.seats.take(tenant)?;
        let partition = self.0.log.ledger_partition(tenant);
        let cursor = Cursor::of(after, partition, &self.0.keys);
        let must = self.0.ends.end(partition).await?;
        SUBSCRIBERS.inc();
        Ok(Feed {
            all: self.clone(),
            partition,
            tenant,
            types,
            cursor,
            must,
            listener: None,
            seat,
        })
    }

    /// What admission knew at some places of the log, for whoever reads it.
    pub fn marks(&self) -> &Marks {
        &self.0.marks
    }
}

impl Feed {
    /// What there is now, as much as there is room for. No events and no more: the tenant had none of them in the
    /// log when this feed began, nor has the follower seen one since.
    ///
    /// # Errors
    /// The log cannot be read in time; too many read it already.
    pub async fn now(&mut self, mut room: Room) -> Result<Found, Error> {
        if let Some(listener) = &mut self.listener {
            listener.heard();
        }
        let shared = self.all.0.clone();
        while let Some(tail) = shared.tails.get(self.partition) {
            let Some(taken) = tail.take(self.tenant, &self.cursor, &self.types, &mut room) else {
                break;
            };
            let done = !taken.events.is_empty() || taken.more || taken.reached >= self.must;
            self.cursor = taken.cursor;
            if done {
                return Ok(self.found("follower", taken.events, taken.more));
            }
            // A little behind what the log had: it comes.
            let reached = tokio::time::timeout(PATIENCE, tail.reach(self.must)).await;
            reached.map_err(|_| Error::NotServed("the log cannot be read in time"))?;
        }
        let end = shared.ends.end(self.partition).await?;
        let turn = self.seat.turn().await?;
        let reading = Reading {
            log: &shared.log,
            marks: &shared.marks,
            partition: self.partition,
            end,
            tenant: self.tenant,
            types: &self.types,
        };
        let chunk = reading.chunk(&self.cursor, &mut room).await?;
        drop(turn);
        self.cursor = chunk.cursor;
        if let Some(state) = self.cursor.state
            && self.cursor.next >= end
        {
            shared.tails.start(self.partition, (self.cursor.next, state));
        }
        let more = self.cursor.next < end || chunk.full;
        Ok(self.found("log", chunk.events, more))
    }

    /// Completes when there may be more than [`Self::now`] gave, perhaps also when there is not.
    pub async fn changed(&mut self) {
        match &mut self.listener {
            Some(listener) => listener.changed().await,
            // What came before one listens is not heard of, so one looks once more.
            None => self.listener = self.all.0.tails.listen(self.partition, self.tenant),
        }
    }

    /// Where to go on after all that was given.
    pub fn position(&self) -> Position {
        self.position_of(&self.cursor)
    }

    /// A place in this feed as clients carry it.
    pub fn position_of(&self, cursor: &Cursor) -> Position {
        cursor.position(self.all.0.log.id(), self.partition, &self.all.0.keys)
    }

    fn found(&self, from: &str, events: Vec<Piece>, more: bool) -> Found {
        EVENTS_GIVEN
            .with_label_values(&[from])
            .inc_by(events.len() as u64);
        Found { events, more }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        SUBSCRIBERS.dec();
    }
}
