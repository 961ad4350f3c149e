//! Visits on their way into the log: grouped by partition, many requests in one record, acknowledged together.

mod keys;
mod lane;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use axum::extract::FromRequestParts;
use event_log::{
    AppendError, Log, Offset, Partition, Topic,
    visits::{Parcel, ParcelError},
};
use events::{
    Envelope, Event, EventId, ImportId, Recorded, TenantId, Timestamp, event::VisitEvent, visit::Visit,
};
use futures::future::try_join_all;
use http::{header, request::Parts};
use service::{
    Health, TraceContext,
    places::{Place, Places},
};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::keys::{Keyed, Viewed};
use self::{keys::VisitKeys, lane::Load};
use crate::{
    App, caller::ClientAddress, directory::FeatureLevel, error::Error, metrics, partition::idempotency::Hash,
};

/// How long a client is kept waiting while the log does not say what became of its visits.
const PATIENCE: Duration = Duration::from_secs(10);

const UNKNOWN: &str = "it is not known yet whether these visits were kept; sent again with the same ids or Idempotency-Key they count once";

/// What waits for the log takes at most so much memory, in KiB, and of one tenant half of it.
const WAITING_KIB: usize = 64 * 1024;

/// Who sends a hit.
#[derive(Debug)]
pub struct Source {
    /// From where.
    pub address: IpAddr,
    /// What it calls itself. Some devices have names in other scripts: what is no UTF-8 of them is replaced.
    pub user_agent: String,
    /// In which trace.
    pub traced: Traced,
}

impl FromRequestParts<App> for Source {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let ClientAddress(address) = ClientAddress::from_request_parts(parts, app).await?;
        let traced = Traced::from_request_parts(parts, app).await?;
        let user_agent = parts
            .headers
            .get(header::USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Self {
            address,
            user_agent: user_agent.unwrap_or_default(),
            traced,
        })
    }
}

/// The trace of a request, when its client follows one: the many that do not are not burdened with one.
#[derive(Debug, Clone)]
pub struct Traced(Option<TraceContext>);

impl<S: Sync> FromRequestParts<S> for Traced {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let follows = parts.headers.contains_key(service::trace::HEADER);
        Ok(Self(follows.then(|| parts.extensions.get().copied()).flatten()))
    }
}

impl Traced {
    /// As `traceparent` has it.
    pub fn text(&self) -> Option<String> {
        self.0.map(|trace| trace.to_string())
    }

    /// The event with its envelope. A key and the place in its request make the same id again.
    pub fn recorded(
        &self,
        tenant: TenantId,
        time: Timestamp,
        key: Option<(Hash, usize)>,
        event: VisitEvent,
    ) -> Recorded {
        let id = match key {
            Some((key, index)) => {
                let mut name = [0; 24];
                name[..16].copy_from_slice(&key);
                name[16..].copy_from_slice(&(index as u64).to_be_bytes());
                Uuid::new_v5(&tenant.uuid(), &name)
            }
            None => Uuid::now_v7(),
        };
        let envelope = Envelope {
            id: EventId::new(id),
            subject: visit_of(&event).site.to_string(),
            time,
            tenant,
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: self.text(),
        };
        Recorded {
            envelope,
            event: event.into(),
        }
    }
}

fn visit_of(event: &VisitEvent) -> &Visit {
    match event {
        VisitEvent::PageViewed(event) => &event.visit,
        VisitEvent::CustomEventRecorded(event) => &event.visit,
        VisitEvent::EngagementRecorded(event) => &event.visit,
    }
}

/// What a request holds until the log has all that it brought, also when nobody waits for that any more.
type Held = (Place<TenantId>, OwnedSemaphorePermit);

/// The way into the log for visits. Bounded: what does not fit is turned away.
#[derive(Clone)]
pub struct Recorder {
    log: Log,
    /// Which event versions may be written.
    level: FeatureLevel,
    permits: Arc<Semaphore>,
    /// KiB that are free, and what each tenant has of them.
    room: Arc<Semaphore>,
    shares: Arc<Places<TenantId>>,
    /// One for each partition.
    lanes: Arc<[mpsc::Sender<Load>]>,
    keys: Arc<VisitKeys>,
}

impl Recorder {
    /// At most `waiting` requests wait for the log at a time; keys are remembered for so long. Its tasks end when the
    /// last clone is dropped.
    pub fn new(
        log: &Log,
        level: FeatureLevel,
        (waiting, kept): (usize, Duration),
        health: &Health,
        tasks: &TaskTracker,
    ) -> Self {
        let waiting = waiting.min(Semaphore::MAX_PERMITS);
        let lane = |partition| {
            let (lane, loads) = mpsc::channel(waiting);
            let carrying = lane::carry(log.clone(), partition, loads);
            tasks.spawn(health.clone().vital(format!("the lane of {partition}"), carrying));
            lane
        };
        Self {
            lanes: log.all(Topic::Visits).map(lane).collect(),
            permits: Arc::new(Semaphore::new(waiting)),
            room: Arc::new(Semaphore::new(WAITING_KIB)),
            shares: Places::new(WAITING_KIB / 2),
            log: log.clone(),
            level,
            keys: Arc::new(VisitKeys::new(kept)),
        }
    }

    /// Whose view it was when this request first came with this key, as far as this process remembers: a retry may come
    /// from another address, and is the same view.
    pub fn viewed(&self, key: Hash, request: Hash) -> Option<Viewed> {
        self.keys.viewed(key, request, Instant::now())
    }

    /// Appends visits and waits until the log has them all. Says what comes next in each partition.
    ///
    /// # Errors
    /// Another request is known to have had its key; too many wait, or the log did not take them; some may be there, so
    /// a retry must bring the same ids.
    pub async fn record(
        &self,
        events: Vec<Recorded>,
        keyed: Option<Keyed>,
    ) -> Result<Vec<(Partition, Offset)>, Error> {
        let turned_away = || {
            metrics::TURNED_AWAY.with_label_values(&["visits"]).inc();
            Error::Busy
        };
        let _permit = self.permits.try_acquire().map_err(|_| turned_away())?;
        let tenant = events.first().map(|event| event.envelope.tenant);
        let began = Instant::now();
        let mut parcels = Vec::new();
        for (partition, events) in self.grouped(events) {
            let Some(first) = events.first() else { continue };
            let several = Parcel::several(first.envelope.tenant, &events, self.level.now());
            let several = several.map_err(|error| match error {
                ParcelError::TooLarge(size) => Error::CommitTooLarge(size),
                ParcelError::NotYet(error) => error.into(),
            })?;
            parcels.extend(several.into_iter().map(|parcel| (partition, parcel)));
        }
        let bytes: usize = parcels
            .iter()
            .map(|(_, parcel): &(_, Parcel)| parcel.size())
            .sum();
        let held = tenant.map(|tenant| self.hold(tenant, bytes).ok_or_else(turned_away));
        let held = held.transpose()?.map(Arc::new);
        // Only now: what was refused before may come again, put right, with the same key.
        if let Some(keyed) = keyed.filter(|_| !parcels.is_empty())
            && !self.keys.take(keyed, began)
        {
            return Err(Error::KeyReused);
        }
        let appends = parcels.into_iter().map(async |(partition, parcel)| {
            let appended = self.append(partition, parcel, held.clone()).await;
            appended.map(|offset| (partition, offset + 1))
        });
        let Ok(appended) = tokio::time::timeout(PATIENCE, try_join_all(appends)).await else {
            return Err(Error::NotServed(UNKNOWN));
        };
        let appended = appended.map_err(|error| match error {
            AppendError::Not(_) => Error::outside("appending visits", error),
            AppendError::Unknown(_) => Error::outside("appending visits, which may be there", error),
        });
        metrics::VISIT_SECONDS.observe(began.elapsed().as_secs_f64());
        appended
    }

    /// Room for what a tenant brings, if there is any.
    fn hold(&self, tenant: TenantId, bytes: usize) -> Option<Held> {
        let kib = bytes.div_ceil(1024);
        let share = self.shares.take_of_weight(tenant, kib)?;
        let room = self.room.clone();
        let room = room.try_acquire_many_owned(u32::try_from(kib).ok()?).ok()?;
        Some((share, room))
    }

    async fn append(
        &self,
        partition: Partition,
        parcel: Parcel,
        held: Option<Arc<Held>>,
    ) -> Result<Offset, AppendError> {
        let stopping = |_| AppendError::Unknown("the process is stopping".to_owned());
        let lane = usize::try_from(partition.index)
            .ok()
            .and_then(|index| self.lanes.get(index));
        let Some(lane) = lane else {
            return Err(AppendError::Not(format!("there is no partition {partition}")));
        };
        let (reply, answered) = oneshot::channel();
        // Full only when requests have given up waiting: each holds a permit and brings few loads to a lane.
        let sent = lane.try_send(Load { parcel, reply, held });
        sent.map_err(|error| AppendError::Not(error.to_string()))?;
        answered.await.unwrap_or_else(|error| Err(stopping(error)))
    }

    /// By partition, in the order in which they came.
    fn grouped(&self, events: Vec<Recorded>) -> Vec<(Partition, Vec<Recorded>)> {
        let mut groups: Vec<(Partition, Vec<Recorded>)> = Vec::new();
        for recorded in events {
            let Event::Visit(event) = &recorded.event else {
                continue;
            };
            let partition = self
                .log
                .visits_partition(recorded.envelope.tenant, visit_of(event).visitor);
            match groups.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, group)) => group.push(recorded),
                None => groups.push((partition, vec![recorded])),
            }
        }
        groups
    }
}

/// How many requests with lines of one import may be here at a time, and how long one waits for its turn.
const TURNS: usize = 16;
const TURN: Duration = Duration::from_secs(5);

/// Whose turn it is to bring lines of an import: they must stand in the log in their order.
#[derive(Debug, Default)]
pub struct Imports(std::sync::Mutex<HashMap<ImportId, Weak<Mutex<()>>>>);

impl Imports {
    /// Waits until no other request of this process brings lines of the import.
    ///
    /// # Errors
    /// Too many wait for that, or the others take too long.
    pub async fn turn(&self, import: ImportId) -> Result<OwnedMutexGuard<()>, Error> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(&import).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::new(Mutex::new(()));
                    turns.insert(import, Arc::downgrade(&turn));
                    turn
                }
            }
        };
        if Arc::strong_count(&turn) > TURNS {
            return Err(Error::Busy);
        }
        tokio::time::timeout(TURN, turn.lock_owned())
            .await
            .map_err(|_| Error::Busy)
    }
}
