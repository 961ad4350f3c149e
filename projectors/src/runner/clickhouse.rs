//! The runner of projections in ClickHouse: does what the state machine says.
//!
//! Reading order: [`machine`] (the protocol), this file (its effects), `gather.rs` (reading and folding ahead
//! of the inserts), [`facts`] (the projection that needs none of it).
//!
//! Longer than a file should be: each effect of the machine has its function here, next to the state that they share.

pub mod facts;
mod gather;
mod machine;

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::DateTime;
use event_log::{Log, Partition, ReadError, Topic};
use read_models::{
    Checkpoint, Projection, Writer,
    clickhouse::{self, Generation},
    visits::{
        ranges::Part,
        store::{Insert, InsertError, Store},
    },
};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{Instrument as _, Span};

use self::{
    gather::{Gather, Ready},
    machine::{Effect, Found, Held, Input, Machine, Range, Unsettled},
};
use super::{GRACE, IDLE, LONGEST_PAUSE, LOOK, PAUSE, Plan, SILENCE, Until, feed::chain, let_go};
use crate::{metrics, visits::Fold};

/// What the runner works with.
#[derive(Clone)]
pub struct Engines {
    /// What is folded.
    pub log: Log,
    /// Checkpoints, and what is about to be written.
    pub control: Writer,
    /// Rows.
    pub rows: clickhouse::Writer,
    /// Which generation is filled.
    pub generation: Generation,
    /// Who we are, for people who look at fences.
    pub owner: String,
    /// Records with events that cannot be read, of which so many may be parked; the partition that has one more stays
    /// before it until a person has looked at it.
    pub parking_limit: usize,
    /// After so many events of a partition the fold's state is kept, so that a restart folds no more than these again.
    pub keep_every: usize,
}

impl Engines {
    /// What `keep_every` is, but for tests.
    pub const KEEP_EVERY: usize = 250_000;
}

/// Why a run ended. The next one takes over again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// PostgreSQL.
    #[error("the control tables")]
    Control(#[from] read_models::Error),
    /// ClickHouse.
    #[error("ClickHouse")]
    Rows(#[from] clickhouse::Error),
    /// An insert whose outcome is unknown, or that came too late.
    #[error("an insert")]
    Insert(#[from] InsertError),
    /// The log.
    #[error("the log")]
    Log(#[from] ReadError),
    /// The runtime ends, and a fold with it.
    #[error("a fold ended before its time")]
    Ended,
    /// The driver is wrong.
    #[error("out of order: {0}")]
    Protocol(String),
    /// The tables are not as they must be; what is to be done about it.
    #[error("{0}")]
    Unfit(String),
    /// Somebody has seen to what is parked, and a partition stands still for that: it is looked at again.
    #[error("somebody has seen to what is parked")]
    SeenTo,
    /// A test ends the run here.
    #[error("stopped at {0}")]
    Stopped(&'static str),
}

impl Failure {
    /// Somebody else has taken a partition over.
    const fn is_fenced(&self) -> bool {
        matches!(
            self,
            Self::Control(read_models::Error::Fenced { .. }) | Self::Insert(InsertError::Fenced)
        )
    }
}

/// A place between two steps of the protocol, where a test may end a run as a crash would.
pub type Stops = std::sync::Arc<dyn Fn(&'static str) -> bool + Send + Sync>;

/// Projects visits until it is done, and lets go of them then; after a failure it rests and takes over again.
pub async fn run_visits(engines: Engines, plan: Plan) {
    let mut held = HashMap::new();
    go_on(&engines, &plan, &mut held).await;
    let release = async {
        for checkpoint in held.values() {
            engines.control.release(checkpoint).await?;
        }
        Ok::<(), read_models::Error>(())
    };
    let_go(release).await;
}

async fn go_on(engines: &Engines, plan: &Plan, held: &mut HashMap<u32, Checkpoint>) {
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        // What has begun to be written may come to its end.
        let grace = async {
            plan.shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let outcome = tokio::select! {
            () = grace => return,
            outcome = run_once(engines, plan, None, held) => outcome,
        };
        let Err(failure) = outcome else { return };
        if matches!(failure, Failure::SeenTo) {
            tracing::info!(projection = %Projection::Visits, "{failure}: going on");
            continue;
        }
        metrics::RETRIES
            .with_label_values(&[Projection::Visits.name()])
            .inc();
        // Whoever takes over ends what is being inserted: that is no outage.
        let lost = matches!(failure, Failure::Insert(_)) && has_lost(engines, plan, held).await;
        if (lost || failure.is_fenced()) && plan.until == Until::Shutdown {
            tracing::warn!(projection = %Projection::Visits, error = chain(&failure), "standing by");
            plan.health
                .degraded("another projector has taken over; standing by");
            if !stand_by(engines, plan, held).await {
                return;
            }
        }
        tracing::warn!(projection = %Projection::Visits, error = chain(&failure), "taking over again");
        if let Failure::Unfit(why) = &failure {
            plan.health.degraded(why);
        } else {
            plan.health.degraded("its tables cannot be written now; retrying");
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = PAUSE;
        }
        let rest = async {
            // Lag grows also while nothing can be written. PostgreSQL may be what is away: then the metric alone hears.
            if let Ok(Err(error)) = tokio::time::timeout(IDLE, saw_end(engines, held)).await {
                tracing::debug!(error = chain(&error), "the log's end cannot be told");
            }
            tokio::time::sleep(pause).await;
        };
        if plan.shutdown.run_until_cancelled(rest).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether it is known that somebody else has taken over.
async fn has_lost(engines: &Engines, plan: &Plan, held: &HashMap<u32, Checkpoint>) -> bool {
    let told = tokio::time::timeout(LONGEST_PAUSE, saw_end(engines, held));
    let told = plan.shutdown.run_until_cancelled(told).await;
    matches!(told, Some(Ok(Err(read_models::Error::Fenced { .. }))))
}

/// Waits until whoever took over lets go, or is silent for too long; false when it is time to stop before that.
async fn stand_by(engines: &Engines, plan: &Plan, held: &HashMap<u32, Checkpoint>) -> bool {
    let Some(checkpoint) = held.values().next() else {
        return true;
    };
    loop {
        if plan
            .shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_none()
        {
            return false;
        }
        match engines.control.is_abandoned(checkpoint, SILENCE).await {
            Ok(false) => {}
            Ok(true) => return true,
            Err(error) => tracing::debug!(%error, "it is not known whether another projector goes on"),
        }
    }
}

/// One run, from taking over to the first failure, or to the end. Tests call it with places to stop at.
///
/// # Errors
/// See [`Failure`].
pub async fn one_run(engines: &Engines, plan: &Plan, stops: Option<Stops>) -> Result<(), Failure> {
    run_once(engines, plan, stops, &mut HashMap::new()).await
}

/// The same; leaves the checkpoints that it held last.
async fn run_once(
    engines: &Engines,
    plan: &Plan,
    stops: Option<Stops>,
    held: &mut HashMap<u32, Checkpoint>,
) -> Result<(), Failure> {
    let partitions = engines.log.partitions(Topic::Visits);
    match plan.shutdown.run_until_cancelled(prepare(engines)).await {
        Some(prepared) => prepared?,
        None => return Ok(()),
    }
    let generation = engines.generation;
    let store = engines.rows.visits_store(generation);
    let mut goals = HashMap::new();
    if plan.until == Until::CaughtUp {
        for partition in engines.log.all(Topic::Visits) {
            goals.insert(partition.index, engines.log.end(partition).await?);
        }
    }
    let mut run = Run {
        engines,
        plan,
        generation,
        partitions,
        store,
        held: HashMap::new(),
        unsettled: Vec::new(),
        parked: 0,
        gather: None,
        batch: Vec::new(),
        began: Instant::now(),
        skipped: HashSet::new(),
        written: 0,
        goals,
        stopped: HashSet::new(),
        span: Span::none(),
    };
    let outcome = run.follow(stops).await;
    if !run.held.is_empty() {
        *held = run.held;
    }
    outcome
}

/// Keeps the log's end known while nothing happens.
async fn saw_end(engines: &Engines, held: &HashMap<u32, Checkpoint>) -> Result<(), read_models::Error> {
    let mut ends = Vec::with_capacity(held.len());
    for checkpoint in held.values() {
        let partition = Partition::visits(checkpoint.partition);
        let asked = Instant::now().into_std();
        if let Ok(end) = engines.log.end(partition).await {
            let end = checkpoint.end(end);
            let of = (Projection::Visits, engines.generation);
            metrics::lag(of, partition, checkpoint.next_offset, end, Some(checkpoint.since));
            ends.push((checkpoint, asked, end));
        }
    }
    for (checkpoint, asked, end) in ends {
        engines.control.saw_end(checkpoint, asked, end).await?;
    }
    Ok(())
}

/// Makes the tables where they are missing.
async fn prepare(engines: &Engines) -> Result<(), Failure> {
    let (projection, generation) = (Projection::Visits, engines.generation);
    if engines.rows.has_visits(generation).await?
        && !engines.control.is_untouched(projection, generation).await?
    {
        return match engines.rows.not_deduplicating(generation).await? {
            None => Ok(()),
            Some(statement) => Err(Failure::Unfit(format!(
                "an insert that ClickHouse is sent twice would count twice: somebody has taken its deduplication away; `{statement}` brings it back"
            ))),
        };
    }
    // In this order: whatever stops us in between, the tables are found missing and it begins anew. Were they made
    // before the checkpoints are at zero, empty tables could pass for filled ones.
    engines
        .rows
        .drop_generation(projection.name(), generation)
        .await?;
    engines.control.refill(projection, generation).await?;
    engines.rows.create_visits(generation).await?;
    Ok(())
}

/// Why a partition whose checkpoint the log does not have stays where it is.
fn beyond(checkpoint: &Checkpoint, end: u64) -> String {
    format!(
        "it was folded up to offset {}, and the log ends at {end}: the tables know more than the log has, which was \
         replaced or cut off; bring the whole log back, or give this one tables of its own",
        checkpoint.next_offset
    )
}

/// What makes rows what they are: the fold and the definition of the tables.
pub(crate) fn fingerprint(fold: &str, tables: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(fold);
    hasher.update(tables);
    hex::encode(hasher.finalize())
}

struct Run<'a> {
    engines: &'a Engines,
    plan: &'a Plan,
    generation: Generation,
    partitions: u32,
    store: Store,
    held: HashMap<u32, Checkpoint>,
    unsettled: Vec<read_models::visits::ranges::Unsettled>,
    /// Events of this generation that could not be read.
    parked: usize,
    gather: Option<Gather>,
    batch: Vec<Ready>,
    /// When the batch was begun.
    began: Instant,
    /// Entries that operators took away: they are not parked again.
    skipped: HashSet<(u32, u64, u32)>,
    /// Events written since that was last asked.
    written: usize,
    /// Ends of the log at the start that are to be reached, when the work is done then.
    goals: HashMap<u32, u64>,
    /// Partitions that do not go on: too much of them cannot be read.
    stopped: HashSet<u32>,
    /// Of the batch that is being written.
    span: Span,
}

impl Run<'_> {
    /// Does what the machine says, until it is done or something fails.
    async fn follow(&mut self, stops: Option<Stops>) -> Result<(), Failure> {
        // What was written before a pause is waited for, or each pause would let more be written.
        let spent = self.plan.throttle.spent(0);
        self.plan.shutdown.run_until_cancelled(spent).await;
        let (mut machine, mut effect) = Machine::begin();
        loop {
            let step = name(&effect);
            if stops.as_ref().is_some_and(|stops| stops(step)) {
                return Err(Failure::Stopped(step));
            }
            if effect == Effect::Fold {
                if self.stopped.is_empty() {
                    self.plan.health.ok();
                }
                if self.is_done() {
                    // Partitions without anything have all there is, too.
                    saw_end(self.engines, &self.held).await?;
                    return Ok(());
                }
            }
            let (plan, span) = (self.plan, self.span.clone());
            let writes = matches!(
                effect,
                Effect::Record { .. }
                    | Effect::InsertSessions { .. }
                    | Effect::InsertEvents { .. }
                    | Effect::Advance { .. }
            );
            let performed = self.perform(effect).instrument(span);
            let input = if writes {
                performed.await?
            } else {
                match plan.shutdown.run_until_cancelled(performed).await {
                    Some(input) => input?,
                    None => return Ok(()),
                }
            };
            if input == Input::Advanced {
                self.span
                    .in_scope(|| tracing::debug!(rows = self.written, "written"));
                let spent = plan.throttle.spent(std::mem::take(&mut self.written));
                plan.shutdown.run_until_cancelled(spent).await;
            }
            effect = machine
                .on(input)
                .map_err(|error| Failure::Protocol(error.to_string()))?;
        }
    }

    async fn perform(&mut self, effect: Effect) -> Result<Input, Failure> {
        match effect {
            Effect::TakeOver => self.take_over().await,
            Effect::WriteFences(fences) => {
                self.store.write_fences(&fences, &self.engines.owner).await?;
                Ok(Input::FencesWritten)
            }
            Effect::StopInserts => {
                self.store.stop_predecessors().await?;
                Ok(Input::InsertsStopped)
            }
            Effect::Compare(ranges) => self.compare(&ranges).await,
            Effect::Settle { inserts, ranges } => self.settle(&inserts, &ranges).await,
            Effect::Trim(places) => self.trim(&places).await,
            Effect::Fold => self.fold().await,
            Effect::Record { attempt, ranges } => self.record(attempt, &ranges).await,
            Effect::InsertSessions { insert, attempt } => {
                let blocks = self
                    .batch
                    .iter_mut()
                    .filter_map(|ready| ready.session_block.take())
                    .collect();
                self.store
                    .insert_sessions(&self.insert(insert, attempt), blocks)
                    .await?;
                Ok(Input::SessionsInserted)
            }
            Effect::InsertEvents { insert, attempt } => {
                let blocks = self
                    .batch
                    .iter_mut()
                    .filter_map(|ready| ready.event_block.take())
                    .collect();
                self.store
                    .insert_events(&self.insert(insert, attempt), blocks)
                    .await?;
                Ok(Input::EventsInserted)
            }
            Effect::Advance { insert, ranges: _ } => self.advance(insert).await,
        }
    }

    fn is_done(&self) -> bool {
        let reached = |(partition, end): (&u32, &u64)| {
            self.held
                .get(partition)
                .is_some_and(|checkpoint| checkpoint.next_offset >= checkpoint.end(*end))
        };
        self.plan.until == Until::CaughtUp && self.goals.iter().all(reached)
    }

    async fn take_over(&mut self) -> Result<Input, Failure> {
        let control = &self.engines.control;
        let fences = self.store.fences().await?;
        for partition in 0..self.partitions {
            let known = fences.get(&partition).copied().unwrap_or_default();
            let checkpoint = control
                .take_over_above(Projection::Visits, self.generation, partition, known)
                .await?;
            self.held.insert(partition, checkpoint);
        }
        self.look_at_parked().await?;
        self.unsettled = control.unsettled(Projection::Visits, self.generation).await?;
        let held = self.held.values().map(held).collect();
        let unsettled = self.unsettled.iter().map(|insert| Unsettled {
            insert: insert.insert,
            attempt: insert.attempt,
            ranges: insert.parts.iter().map(range).collect(),
        });
        Ok(Input::TakenOver {
            held,
            unsettled: unsettled.collect(),
        })
    }

    async fn compare(&self, ranges: &[Range]) -> Result<Input, Failure> {
        let mut compared = Vec::with_capacity(ranges.len());
        for range in ranges {
            let found = self.store.found(range.partition, range.from, range.to).await?;
            let (rows, fingerprint, sessions) = (found.rows, found.fingerprint, found.sessions);
            tracing::info!(
                projection = "visits",
                partition = range.partition,
                from = range.from,
                to = range.to,
                expected = range.rows,
                found = rows,
                "an insert was left unsettled"
            );
            compared.push(Found {
                rows,
                fingerprint,
                sessions,
            });
        }
        Ok(Input::Compared(compared))
    }

    async fn settle(&mut self, inserts: &[i64], ranges: &[Range]) -> Result<Input, Failure> {
        let parts: Vec<Part> = self
            .unsettled
            .iter()
            .flat_map(|insert| insert.parts.clone())
            .collect();
        let settled = |part: &Part| ranges.iter().any(|settled| *settled == range(part));
        let moves: Vec<(Checkpoint, Part)> = parts
            .into_iter()
            .filter(settled)
            .filter_map(|part| {
                self.held
                    .get(&part.partition)
                    .map(|checkpoint| (*checkpoint, part))
            })
            .collect();
        // All checkpoints are locked, so that one who was fenced off forgets no insert of another.
        let others =
            |(partition, _): &(&u32, &Checkpoint)| moves.iter().all(|(at, _)| at.partition != **partition);
        let others: Vec<Checkpoint> = self.held.iter().filter(others).map(|(_, at)| *at).collect();
        self.move_checkpoints(inserts, &moves, &others).await?;
        Ok(Input::Settled)
    }

    async fn trim(&self, places: &[(u32, u64)]) -> Result<Input, Failure> {
        for (partition, from) in places {
            let beyond = self.store.found(*partition, *from, u64::MAX).await?.rows;
            let Some(checkpoint) = self.held.get(partition).filter(|_| beyond > 0) else {
                continue;
            };
            tracing::info!(projection = %Projection::Visits, partition, from, rows = beyond, "deleting what lies beyond the checkpoint");
            self.store
                .delete_from(*partition, *from, checkpoint.fence.cast_unsigned())
                .await?;
            if self.store.found(*partition, *from, u64::MAX).await?.rows > 0 {
                return Err(InsertError::Fenced.into());
            }
        }
        Ok(Input::Trimmed)
    }

    async fn fold(&mut self) -> Result<Input, Failure> {
        if self.gather.is_none() {
            let mut partitions = Vec::new();
            for checkpoint in self.held.values().copied().collect::<Vec<_>>() {
                // It would wait for what it takes for folded already, and pass over other records that come there.
                let end = self
                    .engines
                    .log
                    .end(Partition::visits(checkpoint.partition))
                    .await?;
                if checkpoint.next_offset > end {
                    self.stop(checkpoint.partition, &beyond(&checkpoint, end)).await?;
                    continue;
                }
                let saved = self.engines.control.saved_fold(&checkpoint).await?;
                let fold = saved.and_then(|state| Fold::restore(&state).ok());
                let fits = |fold: &Fold| fold.next_offset() <= checkpoint.next_offset;
                partitions.push((
                    checkpoint,
                    fold.filter(fits)
                        .unwrap_or_else(|| Fold::new(checkpoint.partition)),
                ));
            }
            partitions.sort_by_key(|(checkpoint, _)| checkpoint.partition);
            self.gather = Some(Gather::begin(
                &self.engines.log,
                partitions,
                self.engines.keep_every,
            )?);
        }
        let Some(mut gather) = self.gather.take() else {
            return Err(Failure::Ended);
        };
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let batch = {
            let next = gather.next();
            tokio::pin!(next);
            loop {
                tokio::select! {
                    batch = &mut next => break batch,
                    _ = idle.tick() => {
                        saw_end(self.engines, &self.held).await?;
                        if self.is_done() {
                            return Ok(Input::Folded(Vec::new()));
                        }
                        if !self.stopped.is_empty() && self.is_seen_to().await? {
                            return Err(Failure::SeenTo);
                        }
                    }
                }
            }
        };
        self.gather = Some(gather);
        self.batch = batch?;
        self.began = Instant::now();
        self.park_or_stop().await?;
        self.span = span(&self.batch);
        Ok(Input::Folded(
            self.batch.iter().map(|ready| range(&part(ready, 0))).collect(),
        ))
    }

    /// What is parked and skipped now.
    async fn look_at_parked(&mut self) -> Result<(), Failure> {
        let control = &self.engines.control;
        for (partition, checkpoint) in &self.held {
            let parked = control.parked_aggregates(checkpoint).await?;
            self.parked = usize::try_from(parked).unwrap_or(usize::MAX);
            let skipped = control.skipped(checkpoint).await?;
            let skipped = skipped.into_iter();
            self.skipped
                .extend(skipped.map(|(offset, index)| (*partition, offset, index)));
        }
        Ok(())
    }

    /// Whether somebody has seen to what is parked, in any partition, since these were taken over.
    async fn is_seen_to(&self) -> Result<bool, Failure> {
        for checkpoint in self.held.values() {
            if self.engines.control.parking_changed(checkpoint).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A partition with more that cannot be read than may be parked stays where it is; the others go on.
    async fn park_or_stop(&mut self) -> Result<(), Failure> {
        let limit = self.engines.parking_limit;
        let unread: usize = self.batch.iter().map(|ready| ready.piece.parked.len()).sum();
        if unread > 0 {
            // Somebody may have let some of it be passed over, or seen to what is parked, since this began.
            self.look_at_parked().await?;
        }
        for mut ready in std::mem::take(&mut self.batch) {
            let at = ready.partition;
            ready
                .piece
                .parked
                .retain(|it| !self.skipped.contains(&(at, it.offset, it.index)));
            let (partition, unread) = (ready.partition, ready.piece.parked.len());
            if self.stopped.contains(&partition) {
                continue;
            }
            if unread == 0 || self.parked + unread <= limit {
                self.parked += unread;
                self.batch.push(ready);
                continue;
            }
            let first = ready
                .piece
                .parked
                .first()
                .map_or(ready.piece.from, |it| it.offset);
            let reason = format!(
                "{} records with unreadable events are parked, and {unread} more stand from offset {first} on, of at \
                 most {limit}: look at them (`annals parked list`), then skip some or raise ANNALS_PARKING_LIMIT",
                self.parked
            );
            self.stop(partition, &reason).await?;
        }
        Ok(())
    }

    /// A partition does not go on until somebody has seen to it; the others do.
    async fn stop(&mut self, partition: u32, reason: &str) -> Result<(), Failure> {
        tracing::error!(projection = %Projection::Visits, partition, reason, "the partition does not go on");
        self.plan.health.degraded(format!("visits/{partition}: {reason}"));
        self.goals.remove(&partition);
        self.stopped.insert(partition);
        if let Some(checkpoint) = self.held.get(&partition) {
            self.engines.control.stopped(checkpoint, reason).await?;
        }
        Ok(())
    }

    async fn record(&self, attempt: i32, _: &[Range]) -> Result<Input, Failure> {
        let (checkpoints, parts): (Vec<_>, Vec<_>) = self.moves().into_iter().unzip();
        let insert = self
            .engines
            .control
            .record_insert(&checkpoints, attempt, &parts)
            .await?;
        Ok(Input::Recorded(insert))
    }

    async fn advance(&mut self, insert: Option<i64>) -> Result<Input, Failure> {
        let moves = self.moves();
        self.move_checkpoints(insert.as_slice(), &moves, &[]).await?;
        self.count();
        self.span = Span::none();
        self.written += self.batch.iter().map(|ready| ready.rows).sum::<usize>();
        for ready in std::mem::take(&mut self.batch) {
            let partition = ready.partition;
            for (offset, why) in &ready.piece.void {
                metrics::VOID.with_label_values(&[Topic::Visits.short()]).inc();
                tracing::info!(topic = "visits", partition, offset, %why, "void");
            }
            for (offset, odd) in &ready.piece.odd {
                metrics::ODD
                    .with_label_values(&[Topic::Visits.short()])
                    .inc_by(odd.count.into());
                tracing::warn!(topic = "visits", partition, offset, index = odd.index, reason = %odd, "not ours: passed over");
            }
            for unread in &ready.piece.parked {
                let (offset, index, reason) = (unread.offset, unread.index, &unread.reason);
                tracing::error!(topic = "visits", partition, offset, index, reason, "parked");
            }
            if let (Some(state), Some(checkpoint)) = (&ready.snapshot, self.held.get(&partition)) {
                self.engines
                    .control
                    .save_fold(checkpoint, ready.piece.to, state)
                    .await?;
            }
        }
        Ok(Input::Advanced)
    }

    fn count(&self) {
        let label = [Projection::Visits.name()];
        let sum = |of: fn(&Ready) -> usize| self.batch.iter().map(of).sum::<usize>() as u64;
        let events = sum(|ready| ready.rows);
        metrics::BATCHES.with_label_values(&label).inc();
        metrics::EVENTS.with_label_values(&label).inc_by(events);
        metrics::ROWS
            .with_label_values(&label)
            .inc_by(events + sum(|ready| ready.sessions));
        metrics::SECONDS
            .with_label_values(&label)
            .observe(self.began.elapsed().as_secs_f64());
        for ready in &self.batch {
            let partition = Partition::visits(ready.partition);
            metrics::lag(
                (Projection::Visits, self.generation),
                partition,
                ready.piece.to,
                ready.log_end,
                ready.piece.last_time.and_then(DateTime::from_timestamp_micros),
            );
        }
    }

    async fn move_checkpoints(
        &mut self,
        inserts: &[i64],
        moves: &[(Checkpoint, Part)],
        others: &[Checkpoint],
    ) -> Result<(), Failure> {
        let control = &self.engines.control;
        for moved in control
            .settle(Projection::Visits, self.generation, inserts, moves, others)
            .await?
        {
            self.held.insert(moved.partition, moved);
        }
        Ok(())
    }

    /// Where each piece of the batch leads.
    fn moves(&self) -> Vec<(Checkpoint, Part)> {
        let held = |ready: &Ready| self.held.get(&ready.partition).copied();
        self.batch
            .iter()
            .filter_map(|ready| held(ready).map(|at| (at, part(ready, at.fence))))
            .collect()
    }

    fn insert(&self, insert: i64, attempt: i32) -> Insert {
        let moves = self.moves();
        let ranges: Vec<String> = moves
            .iter()
            .map(|(_, part)| format!("{}.{}-{}.{}", part.partition, part.from, part.to, part.fence))
            .collect();
        Insert {
            token: format!("g{}-i{insert}-a{attempt}-{}", self.generation, ranges.join("-")),
            fences: moves
                .iter()
                .map(|(at, _)| (at.partition, at.fence.cast_unsigned()))
                .collect(),
        }
    }
}

/// A span for writing these pieces. It names the first few traces of the requests that told of these visits, so that
/// a request's trace leads to the block that made it visible.
fn span(batch: &[Ready]) -> Span {
    let ranges: Vec<String> = batch
        .iter()
        .map(|ready| {
            format!(
                "visits/{}@{}..{}",
                ready.partition, ready.piece.from, ready.piece.to
            )
        })
        .collect();
    let traces: BTreeSet<&str> = batch
        .iter()
        .flat_map(|ready| ready.piece.traces.iter().map(String::as_str))
        .collect();
    let traces: Vec<&str> = traces.into_iter().collect();
    let events: usize = batch.iter().map(|ready| ready.rows).sum();
    let projection = Projection::Visits;
    tracing::info_span!("project", %projection, ranges = ranges.join(" "), events, traces = traces.join(" "))
}

fn held(checkpoint: &Checkpoint) -> Held {
    Held {
        partition: checkpoint.partition,
        next: checkpoint.next_offset,
        fence: checkpoint.fence.cast_unsigned(),
    }
}

fn range(part: &Part) -> Range {
    Range {
        partition: part.partition,
        from: part.from,
        to: part.to,
        rows: part.rows,
        fingerprint: u64::from_str_radix(&part.fingerprint, 16).unwrap_or_default(),
        sessions: part.sessions,
    }
}

fn part(ready: &Ready, fence: i64) -> Part {
    Part {
        topic: Topic::Visits.short().to_owned(),
        partition: ready.partition,
        from: ready.piece.from,
        to: ready.piece.to,
        fence,
        rows: ready.rows as u64,
        fingerprint: format!("{:016x}", ready.piece.fingerprint),
        sessions: ready.sessions as u64,
        log_end: ready.log_end,
        last_time: ready.piece.last_time,
        parked: ready.piece.parked.clone(),
    }
}

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::TakeOver => "take over",
        Effect::WriteFences(_) => "write fences",
        Effect::StopInserts => "stop inserts",
        Effect::Compare(_) => "compare",
        Effect::Settle { .. } => "settle",
        Effect::Trim(_) => "trim",
        Effect::Fold => "fold",
        Effect::Record { .. } => "record",
        Effect::InsertSessions { .. } => "insert sessions",
        Effect::InsertEvents { .. } => "insert events",
        Effect::Advance { .. } => "advance",
    }
}
