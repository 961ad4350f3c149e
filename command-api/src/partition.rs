//! Where a partition's commands are decided: one task owns the state, decides on what is to be, and lets
//! `event_log::driver` append and answer by the rules of a writer.
//!
//! Reading order: this file (the door: what goes in, what comes out), [`decider`] (one decision),
//! [`state`] (what decisions depend on), [`idempotency`], [`timers`].

pub mod decider;
pub mod idempotency;
pub mod state;
pub mod timers;

use std::{
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use event_log::{
    Commit, Log, Offset, Partition,
    driver::{Options, Outcome, Start, Status, drive},
    record::Stated,
};
use events::{ContentId, ImportId, TenantId, Timestamp, content::Piece, directory, import::Import, tenant};
use service::health::Reporter;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};
use tokio_util::task::TaskTracker;

use self::decider::{Decider, Done};
use crate::{answer::Answer, command::Context, error::Error, metrics};

/// What can be asked of a partition.
#[derive(Debug, Clone)]
pub enum Command {
    /// Of the directory.
    Directory(directory::Command),
    /// Of a tenant's aggregates.
    Tenant(tenant::Command),
}

impl From<directory::Command> for Command {
    fn from(command: directory::Command) -> Self {
        Self::Directory(command)
    }
}

impl From<tenant::Command> for Command {
    fn from(command: tenant::Command) -> Self {
        Self::Tenant(command)
    }
}

/// What arrives at a partition; kept until it is answered, for it may have to be decided again.
pub enum Request {
    /// A client asks.
    Ask {
        /// What.
        command: Command,
        /// Who, with which key, expecting which version.
        context: Box<Context>,
        /// When it arrived.
        arrived: Instant,
        /// Who waits.
        reply: oneshot::Sender<Result<(Done, Offset), Error>>,
    },
    /// Someone wants to know how a tenant's aggregates stand.
    Look {
        /// Whose.
        tenant: TenantId,
        /// Takes what it wants from them; gets none when the tenant has nothing here.
        look: Look,
    },
    /// The time of a scheduled publication has come.
    Due {
        /// Who waits: the timer, so that it asks once at a time.
        reply: oneshot::Sender<()>,
    },
}

/// Looks at a tenant's aggregates, when they may be looked at; is given the next offset after what it sees.
pub type Look = Box<dyn FnOnce(Result<(Option<&events::Tenant>, Offset), Error>) + Send + Sync>;

/// The door of a partition. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Door>);

struct Door {
    log: Log,
    partition: Partition,
    /// To the task that serves the partition now; another one after each claim that was lost.
    requests: RwLock<mpsc::Sender<Request>>,
    status: watch::Sender<Status>,
}

/// How a partition is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many commands may wait.
    pub waiting: usize,
    /// How long it waits before it claims again for the first time.
    pub reclaim: Duration,
    /// The writer's name in its claims.
    pub owner: String,
}

impl Handle {
    /// Starts the partition's tasks. They end when every clone of the handle is dropped.
    pub fn start(
        log: Log,
        partition: Partition,
        settings: &Settings,
        reporter: Reporter,
        tasks: &TaskTracker,
    ) -> Self {
        let (requests, incoming) = mpsc::channel(settings.waiting);
        let status = watch::Sender::new(Status::Starting);
        let door = Arc::new(Door {
            log,
            partition,
            requests: RwLock::new(requests),
            status,
        });
        tasks.spawn(report(partition, door.status.subscribe(), reporter));
        tasks.spawn(supervise(
            Arc::downgrade(&door),
            incoming,
            settings.clone(),
            tasks.clone(),
        ));
        Self(door)
    }

    /// Decides a command and waits for its answer.
    ///
    /// # Errors
    /// It was refused, too many wait, or the partition is not served here.
    pub async fn ask(&self, context: Context, command: Command) -> Result<(Answer, Offset), Error> {
        let (reply, answered) = oneshot::channel();
        self.send(Request::Ask {
            command,
            context: Box::new(context),
            arrived: Instant::now(),
            reply,
        })?;
        let (done, next) = answered
            .await
            .map_err(|_| Error::NotServed("the process is stopping"))??;
        match done {
            Done::Admitted(answer) => Ok((answer, next)),
            Done::Unchanged(unchanged) => Ok((unchanged.into(), next)),
            Done::Stored(offset) => Ok((self.stored(offset).await?, offset + 1)),
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
        self.look(tenant, move |tenant| tenant.content().piece(content).cloned())
            .await
            .map(|(piece, next)| (piece.flatten(), next))
    }

    /// How an import stands now.
    ///
    /// # Errors
    /// Too many wait, or the partition is not served here.
    pub async fn import(&self, tenant: TenantId, import: ImportId) -> Result<Import, Error> {
        let (found, _) = self
            .look(tenant, move |tenant| tenant.imports().import(import).clone())
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// What is seen of a tenant; none, when it has nothing here.
    async fn look<T: Send + 'static>(
        &self,
        tenant: TenantId,
        see: impl FnOnce(&events::Tenant) -> T + Send + Sync + 'static,
    ) -> Result<(Option<T>, Offset), Error> {
        let (reply, answered) = oneshot::channel();
        let look: Look = Box::new(move |seen| {
            // Whoever asked may have gone.
            let _ = reply.send(seen.map(|(tenant, next)| (tenant.map(see), next)));
        });
        self.send(Request::Look { tenant, look })?;
        answered
            .await
            .map_err(|_| Error::NotServed("the process is stopping"))?
    }

    /// Waits until the partition is served, or was given up.
    pub async fn settled(&self) -> Status {
        let mut status = self.0.status.subscribe();
        let settled =
            status.wait_for(|status| matches!(status, Status::Serving { .. } | Status::SteppedDown(_)));
        settled
            .await
            .map_or(Status::SteppedDown("stopped".to_owned()), |status| status.clone())
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let sent = self
            .0
            .requests
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .try_send(request);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::TURNED_AWAY
                    .with_label_values(&[&self.0.partition.to_string()])
                    .inc();
                Error::Busy
            }
            TrySendError::Closed(_) => Error::NotServed("the process is stopping"),
        })
    }

    /// The answer of the commit at this offset, made from its record again.
    async fn stored(&self, offset: Offset) -> Result<Answer, Error> {
        let failed = |error| Error::outside("reading a stored answer", error);
        let mut reader = self.0.log.reader(self.0.partition, offset).map_err(failed)?;
        let batch = reader.next().await.map_err(failed)?;
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

/// Serves the partition, and when another writer took it claims it anew after a growing random while: so two
/// that both believe it theirs do not claim back and forth, and it is not left without an owner.
async fn supervise(
    door: Weak<Door>,
    mut incoming: mpsc::Receiver<Request>,
    settings: Settings,
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
        tasks.spawn(drive(
            log,
            partition,
            Start::default(),
            decider,
            incoming,
            status,
            options,
        ));
        if let Some(door) = door.upgrade() {
            let requests = door
                .requests
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .downgrade();
            tasks.spawn(ring(due, requests));
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
async fn report(partition: Partition, mut status: watch::Receiver<Status>, reporter: Reporter) {
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

/// Asks for what is due when it is due, once at a time.
async fn ring(mut due: watch::Receiver<Option<Timestamp>>, requests: mpsc::WeakSender<Request>) {
    loop {
        let next = *due.borrow_and_update();
        let wait = next.map(|at| {
            let micros = at.micros().saturating_sub(now().micros()).max(0);
            // A clock that is set back must not delay a publication by more than a minute.
            Duration::from_micros(micros.unsigned_abs()).min(Duration::from_secs(60))
        });
        let rung = match wait {
            Some(wait) if wait.is_zero() => true,
            Some(wait) => tokio::select! {
                changed = due.changed() => if changed.is_err() { return } else { false },
                () = tokio::time::sleep(wait) => next.is_some_and(|at| at <= now()),
            },
            None => {
                if due.changed().await.is_err() {
                    return;
                } else {
                    false
                }
            }
        };
        if rung {
            let (reply, answered) = oneshot::channel();
            let Some(requests) = requests.upgrade() else {
                return;
            };
            if requests.send(Request::Due { reply }).await.is_err() {
                return;
            }
            drop(requests);
            if answered.await.is_err() {
                // It could not be published now, because the partition is not served.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

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
            Err(Error::NotServed(
                "another process serves this, or it is being recovered; nothing was done",
            ))
        }
        Outcome::Unknown(why) => {
            tracing::warn!(why, "outcome unknown");
            Err(Error::NotServed(
                "it is not known yet whether this was done; the same Idempotency-Key will tell",
            ))
        }
    }
}
