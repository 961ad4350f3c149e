//! The one runner: read → fold → write with checkpoint, again and again, whatever breaks in between.
//!
//! [`feed`] reads a partition, applies admission and decodes, ahead of the writing, and once for all projections that
//! are at the same place. A [`Sink`] takes what was read, of one partition or of several, and writes it with its
//! checkpoints: [`postgres`] in one transaction, [`clickhouse`] by recorded ranges. [`drive`] stands between them: it
//! gathers, writes, keeps the log's end known while nothing happens, and begins again from the checkpoints after an
//! outage.
//!
//! A little longer than a file should be: what a sink, a plan and the loop between them are is read together.

use std::{future::Future, time::Duration};

use event_log::{Offset, Partition};
use read_models::{Checkpoint, Projection};
use service::health::Reporter;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

pub mod batch;
pub mod clickhouse;
pub mod feed;
pub mod parking;
pub mod postgres;
pub mod retry;
pub mod throttle;

pub use batch::{Bad, Batch, Decoded, Entry};
pub use feed::Windows;
use feed::{Fed, Feed, chain};
pub use throttle::Throttle;

use crate::metrics;

/// How often the log's end is asked for while nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How long to wait before beginning again after an outage; doubled up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often one that was fenced off looks whether the other one goes on, and after which silence it does not.
/// Whoever holds a partition says something every [`IDLE`], and says so when it lets go of it.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// How long a write that has begun may take after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Where the batches of one generation of a projection go: all partitions of it, or some.
pub trait Sink: Send {
    /// What it writes.
    fn projection(&self) -> Projection;

    /// Which generation of it.
    fn generation(&self) -> i32;

    /// Takes its partitions over, so that whoever held them cannot write any more, finishes what was left
    /// half done, and says where each of them goes on. Called at the start and after every error.
    fn take_over(&mut self) -> impl Future<Output = Result<Vec<Checkpoint>, SinkError>> + Send;

    /// Writes ranges of one or more of its partitions, those of one in their order, with their checkpoints. Gives the
    /// number of rows written. After an error the outcome may be unknown.
    fn write(&mut self, batches: Vec<Batch>) -> impl Future<Output = Result<u64, SinkError>> + Send;

    /// Says where the log ended when it was asked after that moment, so that lag is known while nothing happens.
    fn saw_end(
        &mut self,
        partition: Partition,
        asked: std::time::Instant,
        end: Offset,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Whether whoever took over from it has let go, or has been silent for [`SILENCE`].
    fn is_abandoned(&mut self) -> impl Future<Output = Result<bool, SinkError>> + Send;

    /// Lets go of its partitions: nothing is written any more, and whoever waits for them may have them.
    fn release(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Whether somebody has seen to what is parked since it stopped.
    fn is_seen_to(&mut self) -> impl Future<Output = Result<bool, SinkError>> + Send;

    /// Says why a partition does not go on.
    fn stopped(
        &mut self,
        partition: Partition,
        reason: &str,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why a sink could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// An outage: the same will work later.
    #[error("the tables cannot be written now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody else took a partition over.
    #[error("another projector has taken over")]
    Fenced,
    /// Something that a person must look at.
    #[error("{0}")]
    Stop(String),
}

/// How much is written at once.
#[derive(Debug, Clone, Copy)]
pub struct Gather {
    /// Events of a range, more or less: a record is never cut.
    pub events: usize,
    /// Bytes of records of a range, more or less.
    pub bytes: usize,
    /// Ranges of a partition that are handed over at once; one is made of whatever is there.
    pub ranges: usize,
    /// The least time between two writes; what comes meanwhile is gathered. A full batch does not wait.
    pub pause: Duration,
    /// Under a bound: how much of the time is spent at once. What is beside waits no longer than that takes.
    pub stretch: Duration,
}

/// When the work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At shutdown.
    Shutdown,
    /// When everything that was in the log at the start is in the tables: for tests and measurements.
    CaughtUp,
}

/// What a runner needs beside its sink.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the records come from.
    pub windows: Windows,
    /// How much is written at once.
    pub gather: Gather,
    /// What it may cost.
    pub throttle: Throttle,
    /// When the work is done.
    pub until: Until,
    /// Where it tells how it does.
    pub health: Reporter,
    /// Ends the work between two writes.
    pub shutdown: CancellationToken,
}

impl Gather {
    /// Whatever is there, at once.
    pub const AT_ONCE: Self = Self {
        events: 10_000,
        bytes: 4 << 20,
        ranges: 1,
        pause: Duration::ZERO,
        stretch: Duration::from_secs(1),
    };

    /// For ClickHouse, which wants few large blocks: of all partitions, twice a second.
    pub const IN_BLOCKS: Self = Self {
        pause: Duration::from_millis(500),
        ..Self::AT_ONCE
    };

    /// For transactions: whatever is there, and what is much in parts that are written side by side.
    pub const SIDE_BY_SIDE: Self = Self {
        events: 2_500,
        bytes: 1 << 20,
        ranges: 4,
        pause: Duration::ZERO,
        stretch: Duration::from_millis(50),
    };
}

impl Plan {
    /// How much is written at once now.
    fn gather(&self) -> Gather {
        let most = self.throttle.most(self.gather.stretch);
        Gather {
            events: self.gather.events.min(most),
            ranges: if self.throttle.is_bound() {
                1
            } else {
                self.gather.ranges
            },
            ..self.gather
        }
    }
}

impl Gather {
    /// Whether two ranges that follow each other are written as one.
    fn as_one(&self, first: &Batch, second: &Batch) -> bool {
        self.ranges == 1
            || first.events + second.events <= self.events && first.bytes + second.bytes <= self.bytes
    }

    /// Whether these are as much as is written at once.
    fn is_enough(&self, pending: &[Batch]) -> bool {
        let events: usize = pending.iter().map(|it| it.events).sum();
        let bytes: usize = pending.iter().map(|it| it.bytes).sum();
        self.ranges > 1 && pending.len() >= self.ranges
            || events >= self.events * self.ranges
            || bytes >= self.bytes * self.ranges
    }
}

impl From<read_models::Error> for SinkError {
    fn from(error: read_models::Error) -> Self {
        if matches!(error, read_models::Error::Fenced { .. }) {
            Self::Fenced
        } else {
            Self::Unavailable(Box::new(error))
        }
    }
}

/// Runs a projection (or some partitions of it) until it is done, and lets go of it then. Outages are waited out;
/// whoever was fenced off stands by until the other one lets go or is silent; what must not go on stays and says so
/// until somebody has seen to what is parked, or the shutdown.
pub async fn drive<S: Sink>(mut sink: S, plan: Plan) {
    go_on(&mut sink, &plan).await;
    let_go(sink.release()).await;
}

/// Whoever comes next need not wait until we are silent.
pub(crate) async fn let_go<E: std::error::Error>(release: impl Future<Output = Result<(), E>>) {
    if let Ok(Err(error)) = tokio::time::timeout(IDLE, release).await {
        tracing::debug!(error = chain(&error), "nobody is told that a partition is free");
    }
}

async fn go_on<S: Sink>(sink: &mut S, plan: &Plan) {
    let projection = sink.projection();
    let mut pause = PAUSE;
    let mut held = Vec::new();
    loop {
        let begun = Instant::now();
        let error = match session(sink, plan, &mut held).await {
            Ok(()) => return,
            Err(error) => error,
        };
        match &error {
            SinkError::Unavailable(_) => {
                metrics::RETRIES.with_label_values(&[projection.name()]).inc();
                tracing::warn!(%projection, error = &error as &dyn std::error::Error, "beginning again");
                plan.health.degraded("its tables cannot be written now; retrying");
                if begun.elapsed() > LONGEST_PAUSE {
                    pause = PAUSE;
                }
                stands_still(sink, plan, &held).await;
                let paused = plan.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                if paused.is_none() {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            SinkError::Fenced => {
                tracing::warn!(%projection, %error, "standing by");
                plan.health.degraded(format!("{error}; standing by"));
                if plan.until == Until::CaughtUp || !stand_by(sink, plan).await {
                    return;
                }
                tracing::warn!(%projection, "whoever had taken over has let go, or is silent: taking over again");
            }
            SinkError::Stop(_) => {
                tracing::error!(%projection, %error, "stopped");
                plan.health.degraded(error.to_string());
                if plan.until == Until::CaughtUp || !seen_to(sink, plan, &held).await {
                    return;
                }
                tracing::info!(%projection, "somebody has seen to what is parked: going on");
            }
        }
    }
}

/// Waits until whoever took over lets go, or is silent for too long; false when it is time to stop before that.
async fn stand_by<S: Sink>(sink: &mut S, plan: &Plan) -> bool {
    loop {
        if plan
            .shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_none()
        {
            return false;
        }
        match sink.is_abandoned().await {
            Ok(false) => {}
            Ok(true) => return true,
            Err(error) => tracing::debug!(%error, "it is not known whether another projector goes on"),
        }
    }
}

/// Waits until somebody has seen to what is parked; false when it is time to stop before that.
async fn seen_to<S: Sink>(sink: &mut S, plan: &Plan, held: &[Checkpoint]) -> bool {
    let idle = || plan.shutdown.run_until_cancelled(tokio::time::sleep(IDLE));
    while idle().await.is_some() {
        stands_still(sink, plan, held).await;
        match sink.is_seen_to().await {
            Ok(false) => {}
            Ok(true) => return true,
            Err(error) => {
                tracing::debug!(%error, "it is not known whether somebody has seen to what is parked")
            }
        }
    }
    false
}

/// From taking over to the next error, or to the end. Why it stops for good is left for people to see.
async fn session<S: Sink>(sink: &mut S, plan: &Plan, held: &mut Vec<Checkpoint>) -> Result<(), SinkError> {
    // Whoever comes next finishes what this leaves half done.
    let Some(taken) = plan.shutdown.run_until_cancelled(sink.take_over()).await else {
        return Ok(());
    };
    let checkpoints = taken?;
    held.clone_from(&checkpoints);
    let ended = work(sink, plan, &checkpoints).await;
    if let Err(SinkError::Stop(reason)) = &ended {
        for checkpoint in &checkpoints {
            sink.stopped(feed::partition(checkpoint), reason).await?;
        }
    }
    ended
}

async fn work<S: Sink>(sink: &mut S, plan: &Plan, checkpoints: &[Checkpoint]) -> Result<(), SinkError> {
    // As much ahead of each partition as is written at once: what is decoded and waits takes memory.
    let (send, mut fed) = mpsc::channel((checkpoints.len() * plan.gather.ranges).max(1));
    let mut feeds = JoinSet::new();
    let mut work = Work {
        goals: Vec::new(),
        stopped: Vec::new(),
        pending: Vec::new(),
        written: None,
    };
    for checkpoint in checkpoints {
        let feed = Feed::new(&plan.windows, checkpoint, plan.gather).bound(plan.throttle.clone());
        if plan.until == Until::CaughtUp {
            work.aim(plan, checkpoint).await?;
        }
        feeds.spawn(feed.run(send.clone()));
    }
    drop(send);
    plan.health.ok();
    // What was written before a pause is waited for, or each pause would let more be written.
    plan.shutdown.run_until_cancelled(plan.throttle.spent(0)).await;
    let mut idle = tokio::time::interval(IDLE);
    idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feeding = true;
    loop {
        // It may have cut the waiting after a write short: then nothing more may be written.
        if plan.shutdown.is_cancelled() {
            return Ok(());
        }
        if plan.until == Until::CaughtUp && work.goals.is_empty() && work.pending.is_empty() {
            // Partitions without anything have all there is, too.
            for checkpoint in checkpoints {
                saw_end(sink, plan, checkpoint).await?;
            }
            return Ok(());
        }
        tokio::select! {
            () = plan.shutdown.cancelled() => return Ok(()),
            Some(Err(ended)) = feeds.join_next() => go_on_panicking(ended),
            _ = idle.tick() => {
                for checkpoint in checkpoints {
                    saw_end(sink, plan, checkpoint).await?;
                }
            }
            next = fed.recv(), if feeding => {
                let Some(next) = next else {
                    // Every partition is at its cut, or has stopped and has said why.
                    feeding = false;
                    continue;
                };
                work.take(sink, plan, next).await?;
                work.gather(sink, plan, &mut fed).await?;
                work.write(sink, plan).await?;
            }
        }
    }
}

/// What a session has in hand.
struct Work {
    /// Ends of the log at the start that are not reached yet.
    goals: Vec<(Partition, Offset)>,
    stopped: Vec<Partition>,
    /// Of each partition no more than is handed over at once.
    pending: Vec<Batch>,
    written: Option<Instant>,
}

impl Work {
    async fn aim(&mut self, plan: &Plan, checkpoint: &Checkpoint) -> Result<(), SinkError> {
        let partition = feed::partition(checkpoint);
        let end = plan
            .windows
            .log()
            .end(partition)
            .await
            .map_err(|error| SinkError::Unavailable(Box::new(error)))?;
        let end = checkpoint.end(end);
        if end > checkpoint.next_offset {
            self.goals.push((partition, end));
        }
        Ok(())
    }

    async fn take<S: Sink>(&mut self, sink: &mut S, plan: &Plan, fed: Fed) -> Result<(), SinkError> {
        match fed {
            Fed::Batch(batch) => {
                let last = self
                    .pending
                    .iter_mut()
                    .rfind(|it| it.partition == batch.partition);
                match last {
                    Some(last) if plan.gather().as_one(last, &batch) => last.append(batch),
                    Some(_) | None => self.pending.push(batch),
                }
            }
            Fed::Stopped { partition, reason } => {
                // What came before it is written first: the checkpoint shows where it stands.
                self.write(sink, plan).await?;
                let projection = sink.projection();
                tracing::error!(%projection, %partition, %reason, "the partition does not go on");
                plan.health.degraded(format!("{partition}: {reason}"));
                self.stopped.push(partition);
                self.goals.retain(|(goal, _)| *goal != partition);
                sink.stopped(partition, &reason).await?;
            }
        }
        Ok(())
    }

    /// Takes what else is there, until it is enough for one write or time for one.
    async fn gather<S: Sink>(
        &mut self,
        sink: &mut S,
        plan: &Plan,
        fed: &mut mpsc::Receiver<Fed>,
    ) -> Result<(), SinkError> {
        let due = self
            .written
            .map_or_else(Instant::now, |written| written + plan.gather.pause);
        while !plan.gather().is_enough(&self.pending) {
            let next = match fed.try_recv() {
                Ok(next) => next,
                Err(_) => match tokio::time::timeout_at(due, fed.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            self.take(sink, plan, next).await?;
        }
        Ok(())
    }

    async fn write<S: Sink>(&mut self, sink: &mut S, plan: &Plan) -> Result<(), SinkError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.pending);
        let done = metrics::Batches::begin(sink.projection(), sink.generation(), &batches);
        let events = batches.iter().map(|it| it.events).sum();
        let span = batch::span(sink.projection(), &batches);
        let writing = tracing::Instrument::instrument(sink.write(batches), span.clone());
        let grace = async {
            plan.shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let rows = tokio::select! {
            rows = writing => rows?,
            // The outcome is unknown; whoever begins next finds out.
            () = grace => return Ok(()),
        };
        span.in_scope(|| tracing::debug!(?rows, "written"));
        self.goals
            .retain(|(partition, end)| done.reached(*partition) < *end);
        self.written = Some(Instant::now());
        done.end(rows);
        if self.stopped.is_empty() {
            plan.health.ok();
        }
        plan.shutdown
            .run_until_cancelled(plan.throttle.spent(events))
            .await;
        Ok(())
    }
}

/// A panic of a part is one of the whole, which is watched.
pub(crate) fn go_on_panicking(ended: JoinError) {
    if let Ok(panic) = ended.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

/// Lag is told, and grows, also while nothing can be written and after a person is needed.
async fn stands_still<S: Sink>(sink: &mut S, plan: &Plan, held: &[Checkpoint]) {
    let tell = async {
        for checkpoint in held {
            // The tables may be what is away: then the metric alone hears of it.
            let told = tokio::time::timeout(IDLE, saw_end(sink, plan, checkpoint)).await;
            if let Ok(Err(error)) = told {
                tracing::debug!(%error, "the log's end cannot be told");
            }
        }
    };
    plan.shutdown.run_until_cancelled(tell).await;
}

async fn saw_end<S: Sink>(sink: &mut S, plan: &Plan, checkpoint: &Checkpoint) -> Result<(), SinkError> {
    let partition = feed::partition(checkpoint);
    let asked = std::time::Instant::now();
    match plan.windows.log().end(partition).await {
        Ok(end) => sink.saw_end(partition, asked, checkpoint.end(end)).await,
        Err(error) => {
            // The feed meets the same and retries; here it only means that the lag is not known better.
            tracing::debug!(%partition, %error, "the log's end is not known");
            Ok(())
        }
    }
}
