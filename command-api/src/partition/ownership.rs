//! Who serves a partition: this process, while it is assigned to it and nobody else has claimed it.
//!
//! Safety rests on claims alone (`event_log::writer`); this file only decides when to claim and when to let go:
//! - assigned: fold near to the end, claim, serve ([`drive`] does it);
//! - at the very start, before the group has said what is whose, also what nobody is known to serve: a process that
//!   is alone need not wait for the group;
//! - assigned to another process: serve on until that one has claimed it, but not for ever ([`LINGER`]); then answer
//!   what is under way and let go;
//! - lost to another writer although assigned: claim again only if the assignment, asked for anew, still says so,
//!   and after a growing random while, unless it is a new assignment that says so. So two that both believe it
//!   theirs do not claim back and forth, and the partition is not left without an owner.
//!
//! Longer than a file should be: when to claim, serve, let go and claim again are one loop and its steps.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_log::{
    Hint, Hints, Log, Membership, Owners, Partition, ReadError, StateError,
    driver::{Options, Start, Status, drive},
    state_store,
};
use service::{Health, health::Reporter};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Door, Request, Settings, Standing,
    aside::Unserved,
    decider::Decider,
    snapshots::Keeper,
    state::{State, fold},
    timers,
};
use crate::metrics;

/// How long a partition that is assigned to another process is served here while that one has not claimed it: that one
/// may have a long log to fold first, and its claim ends this at any moment.
const LINGER: Duration = Duration::from_secs(3_600);
/// How often it is looked how things stand though nothing was heard.
const LOOK: Duration = Duration::from_secs(20);
/// How long to wait before an assignment that was not confirmed is asked for again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(500);
/// What others should know of this process and do not is told again so often.
const TELL_AGAIN: Duration = Duration::from_millis(500);
/// How long to wait before a log that cannot be read is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long to wait before a disk that cannot keep a partition's state, or a log that lacks what that holds, is looked at
/// again.
const KEEP_AGAIN: Duration = Duration::from_secs(10);
/// Whoever served this long starts to count its lost claims anew.
const CALM: Duration = Duration::from_secs(600);

/// How this process and the others share partitions.
pub struct Sharing {
    /// What this process is to serve.
    pub membership: Membership,
    /// Where the rest is served.
    pub owners: Owners,
    /// Where others reach this process.
    pub url: Option<String>,
    /// What this process cannot serve.
    pub unserved: Unserved,
}

/// The task that serves the partition, as long as its door is there.
pub(super) struct Supervision {
    pub(super) door: Weak<Door>,
    pub(super) log: Log,
    pub(super) partition: Partition,
    pub(super) standing: watch::Sender<Standing>,
    /// Ends with the door.
    pub(super) gone: CancellationToken,
    pub(super) settings: Settings,
    pub(super) sharing: Arc<Sharing>,
    pub(super) health: Health,
    pub(super) tasks: TaskTracker,
    /// The first offset that this run of the process has not seen in the log.
    pub(super) seen: AtomicU64,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The last handle was dropped.
    Gone,
    /// It is another process's now.
    LetGo,
    /// Another writer took it, or this process cannot read it.
    Lost,
}

/// A partition that was lost although it was assigned.
struct Lost {
    /// The assignment that it was claimed by.
    version: u64,
    wait: Duration,
}

impl Supervision {
    /// Serves the partition whenever it should, first with the requests of `first`.
    pub(super) async fn run(self, mut first: Option<mpsc::Receiver<Request>>) {
        let mut lost: Option<Lost> = None;
        let mut times: u32 = 0;
        let gone = self.gone.clone();
        loop {
            let incoming = match first.take() {
                Some(incoming) => incoming,
                None => {
                    if gone
                        .run_until_cancelled(self.wanted(lost.as_ref()))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    let Some(incoming) = self.open() else { return };
                    incoming
                }
            };
            self.stand(Standing::Here(Status::Starting));
            let known = match gone.run_until_cancelled(self.known()).await {
                None => return,
                Some(Ok(known)) => known,
                Some(Err(why)) => {
                    tracing::error!(partition = %self.partition, %why, "cannot serve the partition");
                    self.close();
                    self.stand(Standing::Beyond(why.to_string()));
                    // Others may serve what this disk cannot keep; what the log has lost, nobody should write over.
                    if matches!(why, Unknown::Disk(_)) {
                        self.sharing.unserved.unkept(self.partition);
                    }
                    let pause = tokio::time::sleep(KEEP_AGAIN);
                    if gone.run_until_cancelled(pause).await.is_none() {
                        return;
                    }
                    continue;
                }
            };
            let began = Instant::now();
            let version = self.sharing.membership.assignment().borrow().version;
            let (known, keeper) = known;
            self.keep(keeper.as_ref());
            let (ended, epoch, driving) = self.serve(known, incoming).await;
            // It answers what is under way first. Two must never drive one partition of a process.
            let _ = driving.await;
            if let Some(keeper) = keeper {
                if ended != Ended::Lost {
                    keeper.leave().await;
                }
                keeper.stop.cancel();
            }
            if let Some(epoch) = epoch.filter(|_| ended != Ended::Lost) {
                self.release(epoch).await;
            }
            match ended {
                Ended::Gone => return,
                Ended::LetGo => lost = None,
                Ended::Lost => {
                    times = if began.elapsed() > CALM {
                        1
                    } else {
                        times.saturating_add(1)
                    };
                    let wait = reclaim_after(self.settings.reclaim, times);
                    tracing::info!(partition = %self.partition, seconds = wait.as_secs_f64(), "will claim again if it is still assigned here");
                    lost = Some(Lost { version, wait });
                }
            }
        }
    }

    /// Waits until the partition is to be served here.
    async fn wanted(&self, lost: Option<&Lost>) {
        let mut assignment = self.sharing.membership.assignment();
        if let Some(lost) = lost {
            let newer = assignment
                .wait_for(|it| it.version > lost.version && it.partitions.contains(&self.partition));
            tokio::select! {
                Ok(_) = newer => {}
                () = tokio::time::sleep(lost.wait) => {}
            }
        }
        let mut hints = self.sharing.owners.known();
        loop {
            let (version, ours) = {
                let now = assignment.borrow_and_update();
                (now.version, now.partitions.contains(&self.partition))
            };
            let vacant = version == 0 && self.is_vacant(&hints.borrow_and_update());
            if ours || vacant {
                if lost.is_none() || self.is_confirmed().await {
                    return;
                }
                tokio::time::sleep(CONFIRM_AGAIN).await;
                continue;
            }
            if version > 0 {
                self.stand(Standing::Elsewhere);
            }
            tokio::select! {
                () = changed(&mut assignment) => {}
                () = changed(&mut hints) => {}
            }
        }
    }

    async fn is_confirmed(&self) -> bool {
        let confirmed = self.sharing.membership.confirmed().await;
        confirmed.is_some_and(|assignment| assignment.partitions.contains(&self.partition))
    }

    /// Whether nobody is known to serve the partition, or a former run of this process is.
    fn is_vacant(&self, hints: &Hints) -> bool {
        let ours = |hint: &Hint| hint.url.is_some() && hint.url == self.sharing.url;
        hints.complete
            && hints
                .of(self.partition)
                .is_none_or(|known| known.hint.released || ours(&known.hint))
    }

    /// Drives the partition until it is over. The task that is given back ends when all is answered; with it the
    /// last epoch that was served.
    async fn serve(
        &self,
        known: (State, Start),
        incoming: mpsc::Receiver<Request>,
    ) -> (Ended, Option<u64>, JoinHandle<Option<()>>) {
        let (status, mut seen) = watch::channel(Status::Starting);
        let driving = self.drive(known, incoming, status);
        let mut assignment = self.sharing.membership.assignment();
        let mut hints = self.sharing.owners.known();
        let mut epoch = None;
        let mut linger: Option<Instant> = None;
        let mut last_told: Option<(u64, Instant)> = None;
        loop {
            let now = seen.borrow_and_update().clone();
            if self.stand(Standing::Here(now.clone())) {
                count_claim(self.partition, &now);
            }
            let assigned = {
                let now = assignment.borrow_and_update();
                now.version == 0 || now.partitions.contains(&self.partition)
            };
            let mut superseded = false;
            let mut told = true;
            match now {
                Status::SteppedDown(_) => {
                    self.close();
                    return (Ended::Lost, epoch, driving);
                }
                Status::Lost { next, why } => {
                    tracing::error!(partition = %self.partition, why, "giving the partition up");
                    self.seen.fetch_max(next, Ordering::Relaxed);
                    self.close();
                    return (Ended::Lost, epoch, driving);
                }
                Status::Unreadable(why) => {
                    tracing::error!(partition = %self.partition, why, "giving the partition up");
                    self.sharing.unserved.unreadable(self.partition);
                    self.close();
                    return (Ended::Lost, epoch, driving);
                }
                Status::Unkept(why) => {
                    tracing::error!(partition = %self.partition, why, "giving the partition up");
                    self.sharing.unserved.unkept(self.partition);
                    self.close();
                    return (Ended::Lost, epoch, driving);
                }
                Status::Serving { epoch: now } => {
                    self.sharing.unserved.remove(self.partition);
                    epoch = Some(now);
                    let hints = hints.borrow_and_update();
                    let known = hints.of(self.partition);
                    superseded =
                        known.is_some_and(|it| it.hint.epoch > now && it.hint.owner != self.settings.owner);
                    told =
                        superseded || known.is_some_and(|it| !it.buried && it.hint == self.hint(now, false));
                }
                Status::Starting | Status::Recovering => {}
            }
            linger = if assigned {
                None
            } else if epoch.is_none() {
                // It has not served yet: a claim now would only throw out whoever does.
                Some(Instant::now())
            } else {
                linger.or_else(|| Some(Instant::now() + LINGER))
            };
            if superseded || linger.is_some_and(|until| until <= Instant::now()) {
                self.close();
                let ended = if assigned { Ended::Lost } else { Ended::LetGo };
                tracing::info!(partition = %self.partition, superseded, assigned, "letting go");
                if !assigned {
                    self.stand(Standing::Elsewhere);
                }
                return (ended, epoch, driving);
            }
            if let Some(epoch) = epoch.filter(|_| !told)
                && last_told.is_none_or(|(known, at)| known != epoch || at.elapsed() >= TELL_AGAIN)
            {
                last_told = Some((epoch, Instant::now()));
                self.tell(epoch);
            }
            let look = Instant::now() + if told { LOOK } else { TELL_AGAIN };
            let look = linger.map_or(look, |until| until.min(look));
            tokio::select! {
                changed = seen.changed() => if changed.is_err() {
                    // The driver ends by itself only when the last handle is gone.
                    return (Ended::Gone, epoch, driving);
                },
                () = changed(&mut assignment) => {}
                () = changed(&mut hints) => {}
                () = tokio::time::sleep_until(look.into()) => {}
            }
        }
    }

    /// Starts the tasks that serve.
    fn drive(
        &self,
        (state, start): (State, Start),
        incoming: mpsc::Receiver<Request>,
        status: watch::Sender<Status>,
    ) -> JoinHandle<Option<()>> {
        let partition = self.partition;
        let (next_due, due) = watch::channel(None);
        let decider = Decider::new(partition, state, self.settings.level.clone(), next_due);
        let accepted = self.settings.accept_damage.iter();
        let accepted = accepted.filter(|(there, _)| *there == partition);
        let options = Options {
            accepted: accepted.map(|(_, offset)| *offset).collect(),
            ..Options::new(self.settings.owner.clone())
        };
        let driving = drive(
            self.log.clone(),
            partition,
            start,
            decider,
            incoming,
            status,
            options,
        );
        let driving = async move { drop(driving.await) };
        let name = format!("the writer of {partition}");
        let driving = self.tasks.spawn(self.health.clone().vital(name, driving));
        if let Some(requests) = self.door.upgrade().and_then(|door| door.requests()) {
            let name = format!("the timer of {partition}");
            let ringing = timers::ring(due, requests.downgrade());
            self.tasks.spawn(self.health.clone().vital(name, ringing));
        }
        driving
    }

    /// Keeps snapshots of what is served.
    fn keep(&self, keeper: Option<&Arc<Keeper>>) {
        if let Some(door) = self.door.upgrade() {
            door.keep(keeper.cloned());
        }
        if let Some(keeper) = keeper {
            let name = format!("the snapshots of {}", self.partition);
            self.tasks
                .spawn(self.health.clone().vital(name, keeper.clone().follow()));
        }
    }

    /// Opens the door; none, when it is gone.
    fn open(&self) -> Option<mpsc::Receiver<Request>> {
        let (requests, incoming) = mpsc::channel(self.settings.waiting);
        self.door.upgrade()?.set(Some(requests));
        Some(incoming)
    }

    /// Whoever comes now is told that the partition is not served here; the driver ends when all is answered.
    fn close(&self) {
        if let Some(door) = self.door.upgrade() {
            door.set(None);
        }
    }

    /// Says how the partition stands; whether that is new.
    fn stand(&self, standing: Standing) -> bool {
        self.standing.send_if_modified(|known| {
            let new = *known != standing;
            *known = standing;
            new
        })
    }

    fn hint(&self, epoch: u64, released: bool) -> Hint {
        Hint {
            log: self.log.id(),
            epoch,
            owner: self.settings.owner.clone(),
            url: self.sharing.url.clone().filter(|_| !released),
            released,
        }
    }

    /// Tells the others who serves the partition; when that fails, it is told again after a while.
    fn tell(&self, epoch: u64) {
        let (sharing, partition, hint) = (self.sharing.clone(), self.partition, self.hint(epoch, false));
        self.tasks.spawn(async move {
            if let Err(error) = sharing.owners.tell(partition, &hint).await {
                tracing::warn!(%partition, %error, "cannot tell the others who serves this");
            }
        });
    }

    /// Tells the others that nobody serves the partition, when nobody does.
    async fn release(&self, epoch: u64) {
        let known = self.sharing.owners.known();
        let ours = known
            .borrow()
            .of(self.partition)
            .is_some_and(|it| it.hint.owner == self.settings.owner);
        if ours
            && let Err(error) = self
                .sharing
                .owners
                .tell(self.partition, &self.hint(epoch, true))
                .await
        {
            tracing::debug!(partition = %self.partition, %error, "cannot tell the others that this is let go");
        }
    }
}

/// Why it is not known what a partition's decisions rest on.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Disk(#[from] StateError),
    #[error(
        "{0}: the log has lost commits that this process has seen admitted. Restore the log; or, if it was cut back on \
         purpose, delete the folder ANNALS_STATE_DIR and start again"
    )]
    Lost(ReadError),
}

impl Supervision {
    /// What is known of the partition already, when the log says so, too: from this process' disk, or from a snapshot
    /// when that is much further.
    ///
    /// # Errors
    /// The disk fails, or the log has lost what was admitted: for people.
    async fn known(&self) -> Result<((State, Start), Option<Arc<Keeper>>), Unknown> {
        match self.known_unless(false).await {
            Err(Unknown::Disk(error)) => {
                tracing::warn!(partition = %self.partition, %error, "the decision state is made anew from the log");
                self.known_unless(true).await
            }
            known => known,
        }
    }

    /// The same; when what the disk holds is `damaged`, none of it counts.
    async fn known_unless(&self, damaged: bool) -> Result<((State, Start), Option<Arc<Keeper>>), Unknown> {
        let stores = &self.settings.stores;
        let fold = fold(self.settings.kept);
        let mut store = stores.store(self.log.id(), self.partition, &fold)?;
        if damaged {
            store.clear()?;
        }
        self.is_there().await?;
        let mut start = match store.standing()? {
            None => None,
            Some(standing) => self.confirmed(standing).await?.map(|state| Start {
                next: standing.at + 1,
                state,
            }),
        };
        if self.partition == Partition::DIRECTORY {
            // It is folded into memory, so only its keys are on the disk.
            start = None;
        }
        let mut keeper = None;
        if let Some(snapshots) = &self.settings.snapshots
            && self.partition != Partition::DIRECTORY
        {
            let every = self.settings.snapshot_commits;
            let beyond = start.map(|start| start.next.saturating_add(every));
            let restored = snapshots
                .restore(stores, store, &self.log, self.partition, beyond)
                .await;
            store = restored.store;
            start = restored.start.or(start);
            keeper = Some(Arc::new(Keeper {
                snapshots: snapshots.clone(),
                every,
                store: store.clone(),
                log: self.log.clone(),
                partition: self.partition,
                newest: Mutex::new(restored.newest.map_or(0, |at| at + 1)),
                stop: CancellationToken::new(),
            }));
        }
        // The store itself says where it stands: a snapshot that could not be loaded to its end has left it empty.
        let stands = store.standing()?.map(|standing| standing.at + 1);
        start = start.filter(|start| stands == Some(start.next));
        if start.is_none() {
            store.clear()?;
        }
        let state = State::new(store, self.settings.recent_bytes, self.settings.kept)?;
        Ok(((state, start.unwrap_or_default()), keeper))
    }

    /// Whether the log still has what this run of the process has seen in it.
    async fn is_there(&self) -> Result<(), Unknown> {
        let offset = self.seen.load(Ordering::Relaxed);
        loop {
            let (partition, first) = (self.partition, 0);
            match self.log.end(partition).await {
                Ok(end) if end >= offset => return Ok(()),
                Ok(end) => {
                    return Err(Unknown::Lost(ReadError::OutOfRange {
                        partition,
                        offset,
                        first,
                        end,
                    }));
                }
                Err(error) => self.look_again(error).await?,
            }
        }
    }

    /// Rests when the log cannot be read now.
    async fn look_again(&self, error: ReadError) -> Result<(), Unknown> {
        match error {
            ReadError::Failed { .. } => {
                tracing::warn!(partition = %self.partition, %error, "looking again");
                tokio::time::sleep(LOOK_AGAIN).await;
                Ok(())
            }
            ReadError::OutOfRange { .. } | ReadError::NoPartition(_) => Err(Unknown::Lost(error)),
        }
    }

    /// The state of admission where a store stands; none, when the log does not have what it was made of.
    async fn confirmed(&self, standing: state_store::Standing) -> Result<Option<event_log::State>, Unknown> {
        loop {
            match standing.confirm(&self.log, self.partition).await {
                Ok(Some(state)) => return Ok(Some(state)),
                Ok(None) => {
                    tracing::warn!(
                        partition = %self.partition, offset = standing.at,
                        "the log has another record where the decision state on disk stands: folding the log anew"
                    );
                    return Ok(None);
                }
                Err(error) => self.look_again(error).await?,
            }
        }
    }
}

/// Waits for a change; for ever, when there will be none.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}

fn count_claim(partition: Partition, status: &Status) {
    let outcome = match status {
        Status::Starting => return,
        Status::Serving { .. } => "serving",
        Status::Recovering => "recovering",
        Status::SteppedDown(_) | Status::Lost { .. } | Status::Unreadable(_) | Status::Unkept(_) => {
            "stepped_down"
        }
    };
    metrics::CLAIMS
        .with_label_values(&[partition.to_string().as_str(), outcome])
        .inc();
}

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
pub(super) async fn report(
    partition: Partition,
    mut standing: watch::Receiver<Standing>,
    mut hints: watch::Receiver<Hints>,
    reporter: Reporter,
) {
    let serving = metrics::SERVING.with_label_values(&[&partition.to_string()]);
    loop {
        let now = standing.borrow_and_update().clone();
        serving.set(matches!(now, Standing::Here(Status::Serving { .. })).into());
        match &now {
            Standing::Unknown => reporter.down("waits to hear which process is to serve it"),
            Standing::Beyond(why) => reporter.down(why.as_str()),
            Standing::Elsewhere => {
                let known = hints.borrow_and_update();
                if known.of(partition).is_some_and(|known| !known.hint.released) {
                    reporter.ok();
                } else {
                    reporter.degraded("another process is to serve it and has not begun");
                }
            }
            Standing::Here(Status::Starting) => reporter.down("is being read"),
            Standing::Here(Status::Serving { .. }) => reporter.ok(),
            Standing::Here(Status::Recovering) => {
                reporter.degraded("an append failed; what happened is being read");
            }
            Standing::Here(Status::SteppedDown(_)) => {
                reporter.degraded("another process serves it, or it cannot be served");
            }
            Standing::Here(Status::Lost { why, .. }) => reporter.down(why.as_str()),
            Standing::Here(Status::Unreadable(why) | Status::Unkept(why)) => reporter.degraded(why.as_str()),
        }
        tokio::select! {
            changed = standing.changed() => if changed.is_err() {
                return serving.set(0);
            },
            () = changed(&mut hints) => {}
        }
    }
}
