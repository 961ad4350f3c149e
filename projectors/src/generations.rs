//! Which generations are filled here, and when another one answers.
//!
//! What is to be done stands in PostgreSQL: generations and their states, rebuilds and their bounds. This looks at
//! it again and again and does it, so whoever comes back after a crash goes on where the other ended. Every
//! generation that this release's fold makes is filled: the live one, one that is being built unless it is paused,
//! and those that are kept for the way back. One of another release is left to that release. Where several projectors
//! run, each fills its share of the partitions, and what is done once for a generation one of them does (`share.rs`).
//!
//! One that is being built is proved before it answers: it has come to where the log ended, it is compared with the
//! log row by row, and it has parked nothing that the live one has not. Then it is switched. One that is cut is filled
//! up to its cut, compared alike, and frozen: `generations/freeze.rs`.
//!
//! Longer than a file should be: one loop and the steps that it takes, in their order.

mod freeze;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use events::Timestamp;
use read_models::{Error, Projection, Tables, clickhouse, generation::Known};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, metrics,
    run::{CONNECTIONS, Dependencies, Filling, Opened, topic},
    runner::{Throttle, Until, Windows, feed::chain},
    share::{Share, Unit},
    verify::{self, Told, Verifier, Wanted},
};

/// How often the control tables are looked at.
const EVERY: Duration = Duration::from_millis(300);

/// How often a generation that is nearly there is looked at.
const NEARLY: Duration = Duration::from_millis(50);

/// How often it is looked whether generations that are gone have left something in ClickHouse.
const CLEAR: Duration = Duration::from_secs(60);

/// How long the live generation's writer is left alone after it was held up in vain.
const AGAIN: Duration = Duration::from_secs(2);

/// Records that a generation may lack when its proof begins: it catches up meanwhile.
const NEAR: i64 = 5_000;

/// What was decided before a time is in the log so long after it, or never: writers' clocks may differ, and an append
/// may take a while.
const SETTLED: chrono::Duration = chrono::Duration::seconds(10);

/// Differences that are told of a generation that may not answer.
const TOLD: usize = 3;
/// Tables are analysed when they may have doubled, and hold more than so many records.
const GROWN: i64 = 100;

/// Records from which on tables are filled first and indexed then.
const LONG: u64 = 20_000;

/// Processes of PostgreSQL that make an index together.
const PROCESSES: u8 = 3;

/// Fills generations, proves and switches them.
pub(crate) struct Supervisor {
    opened: Opened,
    dependencies: Dependencies,
    /// What is read of the log, for all that is filled here.
    windows: Windows,
    config: Config,
    rows: clickhouse::Writer,
    share: watch::Receiver<Share>,
    filled: BTreeMap<(Projection, i32), Filled>,
    /// What was spent on each, also while it is paused.
    throttles: BTreeMap<(Projection, i32), Throttle>,
    proofs: JoinSet<()>,
    proving: HashMap<(Projection, i32), AbortHandle>,
    /// Who leads the analysts' views, and clears away what is left of generations that are gone: a ClickHouse that does not
    /// answer holds nobody else up.
    shows: JoinSet<Shown>,
    showing: HashMap<Projection, AbortHandle>,
    clearing: JoinSet<()>,
    cleared: Option<Instant>,
    /// What this process led the analysts' views to, whose release may define them otherwise, and when it looked at them.
    shown: BTreeMap<Projection, (i32, Instant)>,
    /// Whether what went wrong was said.
    announced: bool,
}

/// What became of leading the analysts' views to a generation: true when they lead there, false when its tables are still
/// to be made.
struct Shown {
    projection: Projection,
    generation: i32,
    done: Result<bool, String>,
}

/// A generation that is filled here, or some units of it, or none.
struct Filled {
    /// In PostgreSQL.
    tables: Tables,
    units: BTreeMap<Unit, Running>,
    throttle: Throttle,
    /// Where it stood when its tables were last analysed.
    analyzed: i64,
    /// Whether its tables are known to have all their indexes.
    indexed: bool,
}

/// What fills a unit.
struct Running {
    tasks: JoinSet<Option<()>>,
    names: Vec<String>,
    end: CancellationToken,
}

impl Running {
    fn has_ended(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }
}

impl Supervisor {
    /// That fills what `share` says.
    pub(crate) fn new(
        opened: Opened,
        dependencies: Dependencies,
        config: Config,
        share: watch::Receiver<Share>,
    ) -> Self {
        let rows = clickhouse::Writer::new(&config.clickhouse(&dependencies));
        Self {
            opened,
            windows: Windows::new(dependencies.log.clone()),
            dependencies,
            config,
            rows,
            share,
            filled: BTreeMap::new(),
            throttles: BTreeMap::new(),
            proofs: JoinSet::new(),
            proving: HashMap::new(),
            shows: JoinSet::new(),
            showing: HashMap::new(),
            clearing: JoinSet::new(),
            cleared: None,
            shown: BTreeMap::new(),
            announced: false,
        }
    }

    /// Works until the shutdown; or, in tests and measurements, until everything that was there at the start is in the
    /// tables, and what was being built answers or may not.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let Some(looked) = shutdown.run_until_cancelled(self.look(&shutdown)).await else {
                break;
            };
            match looked {
                Ok(done) => {
                    self.announced = false;
                    if done && self.dependencies.until == Until::CaughtUp {
                        break;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.announced, true) {
                        tracing::warn!(error = chain(&error), "generations cannot be looked at: retrying");
                    }
                }
            }
            let pause = match self.dependencies.until {
                Until::Shutdown => EVERY,
                Until::CaughtUp => NEARLY,
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.share.changed() => {}
                Some(proved) = self.proofs.join_next_with_id() => self.proved(&proved),
                Some(shown) = self.shows.join_next_with_id() => self.have_shown(shown),
            }
        }
        self.proofs.abort_all();
        self.shows.abort_all();
        self.clearing.abort_all();
        let filled = std::mem::take(&mut self.filled);
        let mut running: Vec<Running> = filled
            .into_values()
            .flat_map(|it| it.units.into_values())
            .collect();
        running.iter().for_each(|it| it.end.cancel());
        for it in &mut running {
            while it.tasks.join_next().await.is_some() {}
        }
    }

    fn proved(&mut self, which: &Result<(tokio::task::Id, ()), JoinError>) {
        // One that panicked has said so; it is begun again.
        let id = which.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        self.proving.retain(|_, proof| proof.id() != id);
    }

    /// Looks at the control tables and does what they say; whether nothing is left to be done.
    async fn look(&mut self, shutdown: &CancellationToken) -> Result<bool, Error> {
        let share = self.share.borrow_and_update().clone();
        let known = self.opened.writer.generations(None).await?;
        let mut wanted: HashMap<(Projection, i32), &Known> = HashMap::new();
        for row in &known {
            let Ok(projection) = row.projection.parse::<Projection>() else {
                continue;
            };
            let ours = self.opened.hashes.get(&projection) == Some(&row.fold_hash);
            if row.state == "live" {
                self.tell_of_live(projection, row, ours);
                self.tell_of_parked(projection, row.parked);
                self.tell_of_verified(projection, row);
                let every = Duration::from_secs(self.config.views_every_seconds);
                let led = self.shown.get(&projection).filter(|(_, at)| at.elapsed() < every);
                if !row.shown || led.is_none_or(|(generation, _)| *generation != row.generation) {
                    self.show(projection, row.generation, row.shown);
                }
            }
            // What is frozen is complete. What is to be cut at a time is filled when the time's place is known.
            let still = row.state == "frozen" || row.until_time.is_some() || (row.is_built() && row.paused);
            if ours && !still {
                wanted.insert((projection, row.generation), row);
            }
        }
        let units = wanted
            .iter()
            .map(|(which, row)| (*which, self.units(&share, *which, row)));
        let units: BTreeMap<_, _> = units.collect();
        self.let_go(&units);
        let is_known = |row: &Known, which: &(Projection, i32)| {
            (row.projection.as_str(), row.generation) == (which.0.name(), which.1)
        };
        self.throttles
            .retain(|which, _| known.iter().any(|row| is_known(row, which)));
        for (which, proof) in &self.proving {
            // Of what was given up nobody wants to know any more.
            if !known.iter().any(|row| is_known(row, which)) {
                proof.abort();
            }
        }
        let mut done = true;
        let mut grown = Vec::new();
        for (which, row) in wanted {
            if !self.filled.contains_key(&which) && row.position == 0 {
                self.index_later(which).await?;
            }
            let rate = row.rate.unwrap_or(0).unsigned_abs();
            let filled = self.fill(which, rate, &units[&which], shutdown);
            done &= filled.units.values_mut().all(Running::has_ended);
            // What is done once for all.
            let whole = share.is_ours(which, &row.fold_hash, Unit::Whole);
            let near = row.log_end - row.position <= NEAR;
            if whole && near && row.position >= 2 * filled.analyzed + GROWN {
                filled.analyzed = row.position;
                grown.push(which);
            }
            if !self.is_indexed(which, row).await? {
                done = false;
                if whole && near && row.position > 0 {
                    // A bound is on what others may feel.
                    let processes = if row.rate.is_some() { 1 } else { PROCESSES };
                    self.prove(which, row, Goal::Indexed(processes));
                }
                continue;
            }
            if row.is_built() && row.failure.is_none() {
                done = false;
                if !whole {
                    continue;
                }
                if row.state == "freezing" {
                    if row.position == row.log_end {
                        self.prove(which, row, Goal::Frozen);
                    }
                } else if row.position > 0 && near {
                    self.prove(which, row, Goal::Live);
                }
            }
        }
        done &= !self.look_for_times(&share, &known) && self.showing.is_empty();
        // Plans made without knowing what came in are slow; PostgreSQL itself looks once a minute.
        for (projection, generation) in grown {
            self.opened.writer.analyze(projection, generation).await?;
        }
        self.forget_old(&known).await?;
        self.clear_left().await?;
        Ok(done)
    }

    /// A long log fills tables that have no indexes but those of their keys.
    async fn index_later(&self, (projection, generation): (Projection, i32)) -> Result<(), Error> {
        let mut records = 0;
        for partition in self.dependencies.log.all(topic(projection)) {
            // A log that cannot be read now will tell the runner.
            records += self.dependencies.log.end(partition).await.unwrap_or(0);
        }
        if records > LONG {
            self.opened.writer.index_later(projection, generation).await?;
        }
        Ok(())
    }

    /// Whether a generation has its indexes: before that nobody is led to its tables.
    async fn is_indexed(&mut self, which: (Projection, i32), row: &Known) -> Result<bool, Error> {
        let Some(filled) = self.filled.get_mut(&which).filter(|it| !it.indexed) else {
            return Ok(true);
        };
        let indexed = self.opened.writer.is_indexed(which.0, which.1).await?;
        // Of empty tables another projector may drop them still.
        filled.indexed = indexed && row.position > 0;
        Ok(indexed)
    }

    /// Looks for the places of times in the log; whether there are any to be found.
    fn look_for_times(&mut self, share: &Share, known: &[Known]) -> bool {
        let mut any = false;
        for row in known {
            let (Some(time), Ok(projection)) = (row.until_time, row.projection.parse::<Projection>()) else {
                continue;
            };
            let ours = self.opened.hashes.get(&projection) == Some(&row.fold_hash);
            if ours && !row.paused {
                any = true;
                let which = (projection, row.generation);
                let whole = share.is_ours(which, &row.fold_hash, Unit::Whole);
                if whole && time + SETTLED <= chrono::Utc::now() {
                    self.prove(which, row, Goal::Cut(time.into()));
                }
            }
        }
        any
    }

    /// The units of a generation that are filled here. One with a bound is filled by one process: the bound is on all.
    fn units(&self, share: &Share, which: (Projection, i32), row: &Known) -> BTreeSet<Unit> {
        let units = Unit::of(which.0, self.dependencies.log.all(topic(which.0)));
        let is_ours = |unit: &Unit| {
            let goes_with = if row.rate.is_some() { Unit::Whole } else { *unit };
            share.is_ours(which, &row.fold_hash, goes_with)
        };
        units.filter(is_ours).collect()
    }

    fn fill(
        &mut self,
        (projection, generation): (Projection, i32),
        rate: u32,
        units: &BTreeSet<Unit>,
        shutdown: &CancellationToken,
    ) -> &mut Filled {
        // What was written before a pause counts after it.
        let throttle = self.throttles.entry((projection, generation)).or_default();
        // Before anything is read: a bound holds from the first event on.
        throttle.bound(rate);
        let filled = self
            .filled
            .entry((projection, generation))
            .or_insert_with(|| Filled {
                tables: self.opened.writer.tables(projection, generation, CONNECTIONS),
                units: BTreeMap::new(),
                throttle: throttle.clone(),
                analyzed: 0,
                indexed: false,
            });
        for unit in units {
            filled.units.entry(*unit).or_insert_with(|| {
                let end = shutdown.child_token();
                let filling = Filling {
                    writer: &self.opened.writer,
                    tables: &filled.tables,
                    dependencies: &self.dependencies,
                    windows: &self.windows,
                    config: &self.config,
                    projection,
                    generation,
                    throttle: filled.throttle.clone(),
                    shutdown: end.clone(),
                };
                let (tasks, names) = filling.start(*unit);
                tracing::info!(%projection, generation, ?unit, "filling");
                Running { tasks, names, end }
            });
        }
        filled
    }

    /// Ends what is not to be filled here, or not any more, after what is being written; what has ended is forgotten,
    /// and may begin again.
    fn let_go(&mut self, keep: &BTreeMap<(Projection, i32), BTreeSet<Unit>>) {
        for (which, filled) in &mut self.filled {
            let kept = |unit: &Unit| keep.get(which).is_some_and(|units| units.contains(unit));
            filled.units.retain(|unit, running| {
                if !kept(unit) {
                    running.end.cancel();
                }
                if !running.end.is_cancelled() || !running.has_ended() {
                    return true;
                }
                for name in &running.names {
                    self.dependencies.health.forget(name);
                }
                let partitions = self.dependencies.log.all(topic(which.0));
                metrics::forget(*which, partitions.filter(|it| unit.has(*it)));
                let (projection, generation) = which;
                tracing::info!(%projection, generation, ?unit, "not filling any more");
                false
            });
        }
        self.filled
            .retain(|which, filled| keep.contains_key(which) || !filled.units.is_empty());
    }

    /// A live generation of another release is not kept up to date here, and one that never had all of the log does
    /// not answer: people should know.
    fn tell_of_live(&self, projection: Projection, row: &Known, ours: bool) {
        let (name, generation) = (format!("projection {projection}"), row.generation);
        if ours && row.filled {
            self.dependencies.health.forget(&name);
        } else if ours {
            let text = format!(
                "generation {generation} is being filled from the log and does not answer yet: {} of {} records",
                row.position, row.log_end
            );
            self.dependencies.health.degraded(&name, text);
        } else {
            let text = format!(
                "generation {generation} answers, which another release has made; this one fills another beside it"
            );
            self.dependencies.health.degraded(&name, text);
        }
    }

    /// Events that wait for a person are shown to whoever asks how the process does.
    fn tell_of_parked(&self, projection: Projection, events: i64) {
        let name = format!("parked events of {projection}");
        if events == 0 {
            self.dependencies.health.forget(&name);
        } else {
            let text = format!("{events} events are parked: `annals parked list {projection}` shows them");
            self.dependencies.health.degraded(&name, text);
        }
    }

    /// What verification in the background has found, in whatever process, is shown to whoever asks.
    fn tell_of_verified(&self, projection: Projection, row: &Known) {
        let label = [projection.name()];
        metrics::DIFFERING.with_label_values(&label).set(row.differing);
        let (rows, at) = (
            row.whole_compared.unwrap_or(0),
            row.whole_at.map(|at| at.timestamp()),
        );
        metrics::WHOLE_ROWS.with_label_values(&label).set(rows);
        metrics::WHOLE_AT.with_label_values(&label).set(at.unwrap_or(0));
        let name = format!("verification of {projection}");
        if row.differing == 0 {
            self.dependencies.health.forget(&name);
        } else {
            let text = format!(
                "{} rows are not what the log says: `annals verify {projection}` names them, `annals rebuild {projection}` makes them anew",
                row.differing
            );
            self.dependencies.health.degraded(&name, text);
        }
    }

    /// Begins to lead the analysts' views to the live generation, unless that is being done.
    fn show(&mut self, projection: Projection, generation: i32, already: bool) {
        if self.showing.contains_key(&projection) {
            return;
        }
        let (control, rows) = (self.opened.writer.clone(), self.rows.clone());
        let handle = self.shows.spawn(async move {
            let done = views::show(&control, &rows, (projection, generation), already).await;
            Shown {
                projection,
                generation,
                done,
            }
        });
        self.showing.insert(projection, handle);
    }

    fn have_shown(&mut self, shown: Result<(tokio::task::Id, Shown), JoinError>) {
        let id = shown.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        self.showing.retain(|_, show| show.id() != id);
        let Ok((_, shown)) = shown else { return };
        let (projection, generation) = (shown.projection, shown.generation);
        let name = format!("analysts' views of {projection}");
        match shown.done {
            Ok(true) => {
                self.dependencies.health.forget(&name);
                self.shown.insert(projection, (generation, Instant::now()));
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%projection, generation, error, "the analysts' views do not lead to it yet: retrying");
                let text = format!("they do not lead to generation {generation}: {error}");
                self.dependencies.health.degraded(&name, text);
            }
        }
    }

    /// Begins to clear away what generations that are gone have left in ClickHouse, now and then.
    async fn clear_left(&mut self) -> Result<(), Error> {
        while self.clearing.try_join_next().is_some() {}
        let due = self.cleared.is_none_or(|at| at.elapsed() >= CLEAR);
        if !due || !self.clearing.is_empty() {
            return Ok(());
        }
        self.cleared = Some(Instant::now());
        for (projection, generation) in self.opened.writer.leftovers().await? {
            let (control, rows) = (self.opened.writer.clone(), self.rows.clone());
            self.clearing.spawn(async move {
                if let Err(error) = clear(&control, &rows, projection, generation).await {
                    tracing::warn!(%projection, generation, error = chain(&error), "not known to be gone: trying again later");
                }
            });
        }
        Ok(())
    }

    /// Begins to prove a generation, or to find its cut, unless that is being done.
    fn prove(&mut self, which: (Projection, i32), row: &Known, goal: Goal) {
        if self.proving.contains_key(&which) {
            return;
        }
        let verifier = Verifier::new(
            self.dependencies.log.clone(),
            self.opened.writer.clone(),
            self.rows.clone(),
        );
        let proof = Proof {
            projection: which.0,
            generation: which.1,
            goal,
            // A bound is on what others may feel.
            verifier: if row.rate.is_some() {
                verifier.on_one_core()
            } else {
                verifier
            },
            dependencies: self.dependencies.clone(),
            control: self.opened.writer.clone(),
            rows: self.rows.clone(),
        };
        let handle = self.proofs.spawn(async move { proof.run().await });
        self.proving.insert(which, handle);
    }

    /// Drops generations that were kept for long enough.
    async fn forget_old(&self, known: &[Known]) -> Result<(), Error> {
        let hours = i64::from(self.config.keep_generations_hours);
        if hours == 0 {
            return Ok(());
        }
        let oldest = chrono::Utc::now() - chrono::Duration::hours(hours);
        for row in known {
            let old = row.state == "kept" && row.kept_since.is_some_and(|since| since < oldest);
            let (true, Ok(projection)) = (old, row.projection.parse::<Projection>()) else {
                continue;
            };
            tracing::info!(%projection, generation = row.generation, hours, "dropping what was kept for long enough");
            match drop_generation(&self.opened.writer, &self.rows, projection, row.generation).await {
                // Another process was first; or the analysts' views do not lead away from it, which is told where it is tried.
                Ok(()) | Err(Error::NoGeneration { .. } | Error::IsShown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Drops a generation in both stores.
///
/// # Errors
/// It is live, there is none, or a store does not answer.
pub(crate) async fn drop_generation(
    control: &read_models::Writer,
    rows: &clickhouse::Writer,
    projection: Projection,
    generation: i32,
) -> Result<(), Error> {
    control.erase_generation(projection, generation).await?;
    match projection {
        Projection::Directory | Projection::Content | Projection::Downloads => Ok(()),
        Projection::Visits | Projection::ContentFacts => clear(control, rows, projection, generation).await,
    }
}

/// Drops what a generation that is gone has left in ClickHouse. Nothing happens when that does not answer: it is tried
/// again.
async fn clear(
    control: &read_models::Writer,
    rows: &clickhouse::Writer,
    projection: Projection,
    generation: i32,
) -> Result<(), Error> {
    if let Err(error) = rows.drop_generation(projection.name(), generation).await {
        tracing::warn!(%projection, generation, error = chain(&error), "its tables in ClickHouse were not dropped: trying again later");
        return Ok(());
    }
    control.forget_leftover(projection, generation).await
}

/// What is to become of a generation.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// It answers.
    Live,
    /// It stays as it is.
    Frozen,
    /// It is known where this time cuts it.
    Cut(Timestamp),
    /// Its tables have their indexes, made by so many processes.
    Indexed(u8),
}

/// What must be shown of a generation before it answers, or is frozen.
struct Proof {
    projection: Projection,
    generation: i32,
    goal: Goal,
    verifier: Verifier,
    dependencies: Dependencies,
    control: read_models::Writer,
    rows: clickhouse::Writer,
}

impl Proof {
    /// Proves and switches, or freezes; what speaks against it is written down, an outage is only told and begun again.
    async fn run(&self) {
        let (projection, generation) = (self.projection, self.generation);
        let done = match self.goal {
            Goal::Live => self.prove().await,
            Goal::Frozen => self.freeze().await,
            Goal::Cut(time) => self.cut(time).await.map(|()| None),
            Goal::Indexed(processes) => self.index(processes).await.map(|()| None),
        };
        let why = match done {
            Ok(None) => return,
            Ok(Some(why)) => why,
            Err(error) => {
                tracing::warn!(%projection, generation, error, "cannot be proved now: trying again");
                return;
            }
        };
        tracing::error!(%projection, generation, why, "may not answer, or be frozen");
        if let Err(error) = self.control.rebuild_failed(projection, generation, &why).await {
            tracing::warn!(%projection, generation, error = chain(&error), "that could not be written down");
        }
    }

    async fn index(&self, processes: u8) -> Result<(), String> {
        let (projection, generation) = (self.projection, self.generation);
        tracing::info!(%projection, generation, "making the indexes");
        let made = self.control.make_indexes(projection, generation, processes).await;
        made.map_err(|error| chain(&error))
    }

    /// None when it answers now, or is gone; else why it may not. An error is an outage.
    async fn prove(&self) -> Result<Option<String>, String> {
        let (projection, generation) = (self.projection, self.generation);
        let text = |error: Error| chain(&error);
        let mut goals = Vec::new();
        for partition in self.dependencies.log.all(topic(projection)) {
            let end = self.dependencies.log.end(partition).await;
            goals.push(end.map_err(|error| chain(&error))?);
        }
        if !self.reach(&goals).await? {
            return Ok(None);
        }
        if let Some(difference) = self.compare().await? {
            return Ok(Some(difference));
        }
        loop {
            // Nobody is held up before it is as far as the live one was a moment ago.
            let live = self.control.live(projection).await.map_err(text)?;
            let goals = self.control.positions(projection, live).await.map_err(text)?;
            if !self.reach(&goals).await? {
                return Ok(None);
            }
            match self.control.switch(projection, generation).await {
                Ok(before) => {
                    tracing::info!(%projection, before, generation, "another generation answers");
                    return Ok(None);
                }
                Err(Error::NoGeneration { .. }) => return Ok(None),
                Err(error @ Error::ParkedMore { .. }) => return Ok(Some(error.to_string())),
                // Its writer is held up by the bound that was put on it, or by a busy machine.
                Err(Error::Behind { .. }) => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(text(error)),
            }
        }
    }

    /// Waits until it stands there; false when it is gone.
    async fn reach(&self, goals: &[u64]) -> Result<bool, String> {
        loop {
            let reached = self.control.positions(self.projection, self.generation).await;
            let reached = reached.map_err(|error| chain(&error))?;
            if reached.len() != goals.len() {
                return Ok(false);
            }
            if reached.iter().zip(goals).all(|(reached, goal)| reached >= goal) {
                return Ok(true);
            }
            tokio::time::sleep(NEARLY).await;
        }
    }

    /// What differs from the log, if anything does.
    async fn compare(&self) -> Result<Option<String>, String> {
        let wanted = Wanted {
            projection: self.projection,
            generation: Some(self.generation),
            sample: None,
        };
        let (tell, mut told) = mpsc::channel(16);
        let compare = async move { self.verifier.verify(wanted, &tell).await };
        let listen = async {
            let mut first = Vec::new();
            while let Some(line) = told.recv().await {
                if let Told::Difference(it) = line
                    && first.len() < TOLD
                {
                    first.push(format!("{} {} {:?}", it.table, it.row, it.what));
                }
            }
            first
        };
        match tokio::join!(compare, listen) {
            (Ok(outcome), _) if outcome.equal => Ok(None),
            (Ok(outcome), first) => Ok(Some(format!(
                "{} rows are not what the log says, such as {}: `annals verify {} --generation {}` tells more",
                outcome.differences,
                first.join("; "),
                self.projection,
                self.generation
            ))),
            (Err(error @ (verify::Error::TooLarge(_) | verify::Error::AheadOfLog { .. })), _) => {
                Ok(Some(error.to_string()))
            }
            (Err(error), _) => Err(chain(&error)),
        }
    }
}
