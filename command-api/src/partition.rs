//! Where a partition's commands are decided: one task owns the state, decides on what is to be, and lets
//! `event_log::driver` append and answer by the rules of a writer.
//!
//! Reading order: this file (the door), [`request`] (what goes in), [`places`] (whose turn to wait it is), [`decider`]
//! (one decision), [`state`] (what decisions depend on) over [`layers`] of [`row`]s, [`idempotency`], [`timers`],
//! [`ownership`] (claiming, letting go, and claiming again), [`snapshots`].

pub mod aside;
pub mod decider;
pub mod idempotency;
pub mod layers;
pub mod ownership;
pub mod request;
pub mod row;
mod snapshots;
pub mod state;
pub mod timers;

use std::{
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use event_log::{
    Commit, Log, Offset, Partition, Snapshots, StateStores,
    driver::{Outcome, Status},
    record::Stated,
};
use events::{ContentId, ImportId, TenantId, Timestamp, content::Piece, import::Import};
use service::{
    Health,
    health::Reporter,
    places::{Place, Places},
};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::request::{Command, Request};
use self::{
    decider::Done,
    idempotency::{Hash, Kept},
    ownership::{Sharing, Supervision},
    snapshots::Keeper,
};
use crate::{answer::Answer, command::Context, directory::FeatureLevel, error::Error, metrics};

/// Stored answers that are read from the log at once, and how long one may take.
static STORED_AT_A_TIME: Semaphore = Semaphore::const_new(8);
const STORED_PATIENCE: Duration = Duration::from_secs(5);

/// The door of a partition. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Door>);

struct Door {
    log: Log,
    partition: Partition,
    /// To the task that serves the partition now; none, while it is not served here.
    requests: RwLock<Option<mpsc::Sender<Request>>>,
    /// Of the state that the partition is served with now, when there are to be snapshots of it.
    keeper: RwLock<Option<Arc<Keeper>>>,
    standing: watch::Sender<Standing>,
    /// No tenant takes more than half of them.
    places: Arc<Places<TenantId>>,
    /// Tells the supervision that the last handle was dropped.
    _gone: DropGuard,
}

impl Door {
    fn requests(&self) -> Option<mpsc::Sender<Request>> {
        self.requests
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn keep(&self, keeper: Option<Arc<Keeper>>) {
        *self.keeper.write().unwrap_or_else(PoisonError::into_inner) = keeper;
    }

    fn set(&self, requests: Option<mpsc::Sender<Request>>) {
        *self.requests.write().unwrap_or_else(PoisonError::into_inner) = requests;
    }
}

/// Where a partition is served, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not known yet whose it is.
    Unknown,
    /// By another process, to which it is assigned.
    Elsewhere,
    /// Here, or at least it should be.
    Here(Status),
    /// Not here until a person has seen to it: why, and what to do.
    Beyond(String),
}

/// How a partition is run.
#[derive(Clone)]
pub struct Settings {
    /// Where its state is kept on the disk.
    pub stores: StateStores,
    /// How long Idempotency-Keys count.
    pub kept: Kept,
    /// Which event versions may be written.
    pub level: FeatureLevel,
    /// Bytes of memory for the rows of its state that are used often.
    pub recent_bytes: u64,
    /// Where snapshots of it are kept for other processes.
    pub snapshots: Option<Snapshots>,
    /// After how many commits the next one is written.
    pub snapshot_commits: u64,
    /// How many commands may wait.
    pub waiting: usize,
    /// How long it waits before it claims again for the first time.
    pub reclaim: Duration,
    /// Damage of the log that a person has looked at.
    pub accept_damage: Vec<(Partition, Offset)>,
    /// The writer's name in its claims.
    pub owner: String,
}

impl Handle {
    /// Starts the partition's tasks. They end when every clone of the handle is dropped.
    pub fn start(
        log: Log,
        partition: Partition,
        settings: &Settings,
        sharing: &Arc<Sharing>,
        (reporter, health): (Reporter, &Health),
        tasks: &TaskTracker,
    ) -> Self {
        // What is its own from the first moment is asked from the first moment.
        let ours = sharing
            .membership
            .assignment()
            .borrow()
            .partitions
            .contains(&partition);
        let (requests, first) = ours.then(|| mpsc::channel(settings.waiting)).unzip();
        let (standing, gone) = (watch::Sender::new(Standing::Unknown), CancellationToken::new());
        let door = Arc::new(Door {
            log: log.clone(),
            partition,
            requests: RwLock::new(requests),
            keeper: RwLock::default(),
            standing: standing.clone(),
            places: Places::new(settings.waiting.div_ceil(2)),
            _gone: gone.clone().drop_guard(),
        });
        let hints = sharing.owners.known();
        let reporting = ownership::report(partition, standing.subscribe(), hints, reporter);
        tasks.spawn(
            health
                .clone()
                .vital(format!("the report on {partition}"), reporting),
        );
        let supervision = Supervision {
            door: Arc::downgrade(&door),
            log,
            partition,
            standing,
            gone,
            settings: settings.clone(),
            sharing: sharing.clone(),
            health: health.clone(),
            tasks: tasks.clone(),
            seen: AtomicU64::default(),
        };
        let name = format!("the supervision of {partition}");
        tasks.spawn(health.clone().vital(name, supervision.run(first)));
        Self(door)
    }

    /// Decides a command and waits for its answer.
    ///
    /// # Errors
    /// It was refused, too many wait, or the partition is not served here.
    pub async fn ask(&self, context: Context, command: Command) -> Result<(Answer, Offset), Error> {
        let (until, tenant) = (context.until, context.principal.tenant);
        let place = self.place(tenant)?;
        let (reply, answered) = oneshot::channel();
        self.send(Request::Ask {
            command,
            context: Box::new(context),
            arrived: Instant::now(),
            place,
            reply,
        })?;
        let (done, next) = answer(until, answered).await?;
        match done {
            Done::Admitted(answer) => Ok((answer, next)),
            Done::Unchanged(unchanged) => Ok((unchanged.into(), next)),
            Done::Stored(offset) => {
                // Reading waits too: a tenant that repeats itself takes its own share of that, and nobody waits for ever.
                let _place = self.place(tenant)?;
                let stored = tokio::time::timeout_at(until.into(), self.stored(offset)).await;
                let stored = stored.map_err(|_| Error::NotServed("a stored answer cannot be read now"))?;
                Ok((stored?, offset + 1))
            }
        }
    }

    /// How a piece stands now, and the next offset after what that rests on.
    ///
    /// # Errors
    /// Too many wait, or the partition is not served here.
    pub async fn piece(
        &self,
        tenant: TenantId,
        content: ContentId,
    ) -> Result<(Option<Piece>, Offset), Error> {
        let (reply, answered) = oneshot::channel();
        self.send(Request::Piece {
            tenant,
            content,
            place: self.place(tenant)?,
            reply,
        })?;
        answer(Instant::now() + PATIENCE, answered).await
    }

    /// How an import stands now.
    ///
    /// # Errors
    /// Too many wait, or the partition is not served here.
    pub async fn import(&self, tenant: TenantId, import: ImportId) -> Result<Import, Error> {
        let (reply, answered) = oneshot::channel();
        self.send(Request::Import {
            tenant,
            import,
            place: self.place(tenant)?,
            reply,
        })?;
        answer(Instant::now() + PATIENCE, answered).await
    }

    /// Whether a command of the tenant that was decided here had this key, and it still counts.
    ///
    /// # Errors
    /// Too many wait, or the partition is not served here.
    pub async fn used(&self, tenant: TenantId, key: Hash) -> Result<bool, Error> {
        let (reply, answered) = oneshot::channel();
        self.send(Request::Used {
            tenant,
            key,
            place: self.place(tenant)?,
            reply,
        })?;
        answer(Instant::now() + PATIENCE, answered).await
    }

    /// Waits until the partition is served, was given up, or is known to be another process's.
    pub async fn settled(&self) {
        self.comes_to(|standing| match standing {
            Standing::Elsewhere
            | Standing::Beyond(_)
            | Standing::Here(
                Status::Serving { .. }
                | Status::SteppedDown(_)
                | Status::Lost { .. }
                | Status::Unreadable(_)
                | Status::Unkept(_),
            ) => true,
            Standing::Unknown | Standing::Here(Status::Starting | Status::Recovering) => false,
        })
        .await;
    }

    /// Writes a snapshot for the next owner, when there is much that the last one lacks. It takes no longer than a
    /// handover may.
    pub async fn leave(&self) {
        let keeper = self
            .0
            .keeper
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(keeper) = keeper {
            keeper.leave().await;
        }
    }

    /// Waits until the partition is not served here any more.
    pub async fn let_go(&self) {
        self.comes_to(|standing| match standing {
            Standing::Elsewhere
            | Standing::Unknown
            | Standing::Beyond(_)
            | Standing::Here(
                Status::SteppedDown(_) | Status::Lost { .. } | Status::Unreadable(_) | Status::Unkept(_),
            ) => true,
            Standing::Here(Status::Starting | Status::Recovering | Status::Serving { .. }) => false,
        })
        .await;
    }

    /// Whether requests are taken here.
    pub fn is_open(&self) -> bool {
        let requests = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        requests.is_some()
    }

    /// Where the partition is served.
    pub fn standing(&self) -> Standing {
        self.0.standing.borrow().clone()
    }

    async fn comes_to(&self, standing: impl FnMut(&Standing) -> bool) {
        // The door holds the sender, so it is there.
        let _ = self.0.standing.subscribe().wait_for(standing).await;
    }

    fn place(&self, tenant: TenantId) -> Result<Place<TenantId>, Error> {
        self.0.places.take(tenant).ok_or_else(|| self.turned_away())
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let requests = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = requests.as_ref() else {
            return Err(Error::NotHere);
        };
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => self.turned_away(),
            TrySendError::Closed(_) => Error::NotHere,
        })
    }

    fn turned_away(&self) -> Error {
        metrics::TURNED_AWAY
            .with_label_values(&[&self.0.partition.to_string()])
            .inc();
        Error::Busy
    }

    /// The answer of the commit at this offset, made from its record again.
    async fn stored(&self, offset: Offset) -> Result<Answer, Error> {
        let failed = |error| Error::outside("reading a stored answer", error);
        // A reader costs a connection and threads: a storm of retries must not open one each.
        let _permit = STORED_AT_A_TIME.acquire().await.map_err(|_| Error::Busy)?;
        let mut reader = self.0.log.reader(self.0.partition, offset).map_err(failed)?;
        let batch = tokio::time::timeout(STORED_PATIENCE, reader.next())
            .await
            .map_err(|_| Error::NotServed("a stored answer cannot be read now"))?
            .map_err(failed)?;
        let stored = batch.records.first().filter(|stored| stored.offset == offset);
        let record = &stored
            .ok_or(Error::NotServed("a stored answer is not there"))?
            .record;
        let Ok(Stated::Commit(headers)) = record.stated() else {
            return Err(Error::NotServed("a stored answer is no commit"));
        };
        let commit = Commit::decode(&headers, record)
            .map_err(|error| Error::outside("decoding a stored answer", error))?;
        Ok(Answer::of(&commit.events))
    }
}

/// How long a client is kept waiting while the log does not say what became of its command.
pub const PATIENCE: Duration = Duration::from_secs(10);

async fn answer<T>(until: Instant, answered: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout_at(until.into(), answered).await {
        Ok(answer) => answer.map_err(|_| Error::NotServed("the process is stopping"))?,
        // What was appended goes on by the rules; what was not is not decided any more.
        Err(_) => Err(Error::NotServed(UNKNOWN)),
    }
}

/// What is said when the log does not say what became of a command.
pub const UNKNOWN: &str = "it is not known yet whether this was done; the same Idempotency-Key will tell";

/// The clock.
pub fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// What the driver says of a request, as its caller hears it.
fn heard<T>(outcome: Outcome<Result<T, Error>>) -> Result<(T, Offset), Error> {
    match outcome {
        Outcome::Admitted { answer, offset } => answer.map(|answer| (answer, offset + 1)),
        Outcome::Settled { answer, next } => answer.map(|answer| (answer, next)),
        Outcome::NotServing(why) => {
            tracing::debug!(why, "not serving");
            Err(Error::NotHere)
        }
        Outcome::Unknown(why) => {
            tracing::warn!(why, "outcome unknown");
            Err(Error::NotServed(UNKNOWN))
        }
    }
}
