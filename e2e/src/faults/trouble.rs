//! What goes wrong, at random from a seed: processes and engines killed, stopped and let go on, ways between them slow,
//! silent or cut, clocks that jump; and read models built anew in the midst of it.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{
    clients::World,
    clocks::Clocks,
    proxy::{Reach, Weather},
    rebuilds::{Building, Operator},
    ways::{self, Ways},
};
use crate::{
    installation::{Installation, Role},
    wait,
};

const WRITERS: [Role; 2] = [Role::Command, Role::AnotherCommand];
const READERS: [Role; 2] = [Role::Projector, Role::Query];
/// Every so many troubles, generations are seen to: in the shortest run several times.
const GENERATIONS_EVERY: u32 = 4;

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Process(Role),
    /// By its name in `deploy/local/engines`, with the name by which it is started.
    Engine(&'static str, &'static str),
    /// The way to the engine of this name.
    Way(&'static str),
}

/// What makes it good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Start,
    GoOn,
    /// What was held up arrives.
    Clear,
    /// What was held up is lost.
    Cut,
}

/// The engines that `./dev test` has started, as those who end them see them.
pub struct Engines {
    /// Where their pids and ports are.
    state: PathBuf,
    brokers: &'static [(&'static str, &'static str)],
    can_cut: bool,
}

impl Engines {
    /// Those of this run.
    ///
    /// # Errors
    /// They were started in another way.
    pub async fn new() -> anyhow::Result<Self> {
        let state =
            std::env::var_os("ANNALS_TEST_STATE").context("ANNALS_TEST_STATE is not set: run ./dev test")?;
        let state = PathBuf::from(state);
        let brokers: &[_] = if state.join("run/kafka3-1").exists() {
            &[
                ("kafka3-1", "kafka3"),
                ("kafka3-2", "kafka3"),
                ("kafka3-3", "kafka3"),
            ]
        } else {
            &[("kafka1", "kafka")]
        };
        // Of nobody's port.
        let can_cut = cut(9).await.is_ok();
        if !can_cut {
            println!(
                "connections between brokers are not cut here: `ss -K` needs root and a kernel that lets it"
            );
        }
        Ok(Self {
            state,
            brokers,
            can_cut,
        })
    }

    /// Proxies before them, and what goes through those.
    ///
    /// # Errors
    /// A port is taken.
    pub async fn ways(
        &self,
        engines: &crate::engines::Engines,
    ) -> anyhow::Result<(Ways, crate::engines::Engines)> {
        let brokers = self.brokers.iter().map(|(name, _)| *name);
        Ways::new(&self.state.join("ports"), brokers, engines).await
    }

    async fn signal(&self, name: &str, signal: &str) -> anyhow::Result<()> {
        let run = std::fs::read_to_string(self.state.join("run").join(name))?;
        let pid = run.split_whitespace().next().context("no pid")?;
        let sent = Command::new("kill").args([signal, pid]).status().await?;
        anyhow::ensure!(sent.success(), "kill {signal} {pid} ({name}): {sent}");
        Ok(())
    }

    async fn start(&self, started_as: &str) -> anyhow::Result<()> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/engines");
        let output = Command::new(program)
            .args(["start", started_as])
            .env("ANNALS_STATE", &self.state)
            .output()
            .await?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::ensure!(
            output.status.success(),
            "engines start {started_as}: {}",
            String::from_utf8_lossy(&said)
        );
        Ok(())
    }
}

/// Ends all connections to a port of this machine, on both sides.
async fn cut(port: u16) -> anyhow::Result<()> {
    let port = format!(":{port}");
    let done = Command::new("ss")
        .args(["-K", "dst", "127.0.0.1", "dport", "=", &port])
        .output()
        .await?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(
        done.status.success() && !complaint.contains("not permitted"),
        "{complaint}"
    );
    Ok(())
}

/// Makes trouble until told to stop, then makes everything good again.
pub struct Trouble {
    random: StdRng,
    world: Arc<World>,
    engines: Engines,
    ways: Ways,
    clocks: Clocks,
    operator: Operator,
    ills: Vec<(Instant, Target, Remedy)>,
}

impl Trouble {
    /// From a seed.
    pub fn new(
        seed: u64,
        world: Arc<World>,
        engines: Engines,
        ways: Ways,
        clocks: Clocks,
        operator: Operator,
    ) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            world,
            engines,
            ways,
            clocks,
            operator,
            ills: Vec::new(),
        }
    }

    /// One after another, and several at once.
    ///
    /// # Errors
    /// A process or an engine does not start again, or a process has ended that nobody ended.
    pub async fn make(&mut self, annals: &mut Installation, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut number: u32 = 0;
        while !stop.is_cancelled() {
            match number % GENERATIONS_EVERY {
                1 => self.generations(annals).await?,
                _ => self.one(annals).await?,
            }
            number = number.wrapping_add(1);
            let pause = Duration::from_millis(self.random.random_range(300..2_000));
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            self.heal(annals, Instant::now()).await?;
            self.supervise(annals)?;
        }
        while let Some(last) = self.ills.iter().map(|(until, ..)| *until).max() {
            self.heal(annals, last).await?;
        }
        self.supervise(annals)
    }

    /// As whatever runs services does: starts again what has ended, as one does that finds no engine when it starts.
    ///
    /// # Errors
    /// One has panicked.
    pub fn supervise(&self, annals: &mut Installation) -> anyhow::Result<()> {
        for role in WRITERS.into_iter().chain(READERS) {
            if self.is_ill(Target::Process(role)) || !annals.has_ended(role)? {
                continue;
            }
            let said = annals.said(role);
            anyhow::ensure!(!said.contains("panicked"), "{role:?} has ended:\n{said}");
            let why = said.lines().last().unwrap_or_default();
            self.world
                .history
                .trouble(format!("{role:?} is started again: {why}"));
            annals.spawn(role)?;
        }
        Ok(())
    }

    async fn one(&mut self, annals: &mut Installation) -> anyhow::Result<()> {
        match self.random.random_range(0..100) {
            0..40 => {
                let role = *WRITERS.choose(&mut self.random).context("no writer")?;
                self.process(annals, role).await
            }
            40..60 => {
                let role = *READERS.choose(&mut self.random).context("no reader")?;
                self.process(annals, role).await
            }
            60..72 => {
                let (name, started_as) = *self
                    .engines
                    .brokers
                    .choose(&mut self.random)
                    .context("no broker")?;
                self.engine(name, started_as).await
            }
            72..78 => self.engine("postgres", "postgres").await,
            78..83 => self.engine("clickhouse", "clickhouse").await,
            83..90 => self.weather(),
            90..95 => self.clock(),
            _ => self.cut().await,
        }
    }

    fn is_ill(&self, target: Target) -> bool {
        self.ills.iter().any(|(_, ill, _)| *ill == target)
    }

    fn ill(&mut self, target: Target, remedy: Remedy, millis: std::ops::Range<u64>, what: &str) {
        let time = Duration::from_millis(self.random.random_range(millis));
        let name = match target {
            Target::Process(role) => format!("{role:?}"),
            Target::Engine(name, _) => name.to_owned(),
            Target::Way(name) => format!("the way to {name}"),
        };
        self.world
            .history
            .trouble(format!("{name} {what} for {:.1} s", time.as_secs_f64()));
        self.ills.push((Instant::now() + time, target, remedy));
    }

    async fn process(&mut self, annals: &mut Installation, role: Role) -> anyhow::Result<()> {
        let target = Target::Process(role);
        if self.is_ill(target) {
            return Ok(());
        }
        match self.random.random_range(0..100) {
            0..40 => {
                annals.kill(role).await?;
                self.ill(target, Remedy::Start, 100..3_000, "is killed");
            }
            40..60 => {
                annals.signal(role, "-STOP").await?;
                self.ill(target, Remedy::GoOn, 100..1_500, "is stopped");
            }
            // Longer than a session.
            60..80 => {
                annals.signal(role, "-STOP").await?;
                self.ill(target, Remedy::GoOn, 7_000..10_000, "is stopped");
            }
            _ => {
                self.world.history.trouble(format!("{role:?} ends in order"));
                let status = annals.stop_one(role).await?;
                // One that has only just been started does not listen to signals yet.
                anyhow::ensure!(
                    status.success() || status.signal() == Some(15),
                    "{role:?} ended with {status}:\n{}",
                    annals.said(role)
                );
                self.ill(target, Remedy::Start, 1..1_000, "is away");
            }
        }
        Ok(())
    }

    async fn engine(&mut self, name: &'static str, started_as: &'static str) -> anyhow::Result<()> {
        let target = Target::Engine(name, started_as);
        // Of three brokers, two must be there for anything to go on.
        let family = |ill: &Target| matches!(ill, Target::Engine(_, other) if *other == started_as);
        if self.ills.iter().any(|(_, ill, _)| family(ill)) {
            return Ok(());
        }
        if self.random.random_bool(0.6) {
            self.engines.signal(name, "-STOP").await?;
            self.ill(target, Remedy::GoOn, 100..4_000, "is stopped");
        } else {
            self.engines.signal(name, "-KILL").await?;
            self.ill(target, Remedy::Start, 10..2_000, "is killed");
        }
        Ok(())
    }

    /// Something is asked of the projector, which may be killed while it does it.
    async fn generations(&mut self, annals: &mut Installation) -> anyhow::Result<()> {
        let (what, building) = self.operator.ask(&mut self.random).await;
        self.world.history.trouble(what);
        let target = Target::Process(Role::Projector);
        if building == Building::Yes && !self.is_ill(target) && self.random.random_bool(0.4) {
            annals.kill(Role::Projector).await?;
            self.ill(target, Remedy::Start, 10..1_000, "is killed while it builds");
        }
        Ok(())
    }

    /// What is sent is late, or does not arrive while nobody is told so; for all, or for some and not for others.
    fn weather(&mut self) -> anyhow::Result<()> {
        let (name, _) = self.ways.all().choose(&mut self.random).context("no way")?;
        let target = Target::Way(*name);
        if self.is_ill(target) {
            return Ok(());
        }
        let delay = Duration::from_millis(self.random.random_range(20..400));
        let (weather, millis) = match self.random.random_range(0..3) {
            0 => (Weather::Slow(delay), 1_000..6_000),
            1 => (Weather::Silent, 500..5_000),
            _ => (Weather::Unheard, 500..5_000),
        };
        let reach = match self.random.random_bool(0.5) {
            true => Reach::All,
            false => Reach::Half,
        };
        let remedy = match self.random.random_bool(0.5) {
            true => Remedy::Clear,
            false => Remedy::Cut,
        };
        if let Some(way) = self.ways.to(name) {
            way.turn(weather, reach);
        }
        self.ill(target, remedy, millis, &format!("is {weather:?} for {reach:?}"));
        Ok(())
    }

    /// Far enough for everything that goes by the hour, and not so far that keys expire.
    fn clock(&mut self) -> anyhow::Result<()> {
        let roles = [WRITERS, READERS].concat();
        let role = *roles.choose(&mut self.random).context("no process")?;
        let seconds = self.random.random_range(-3 * 3_600..3 * 3_600);
        self.world.history.trouble(format!(
            "the clock of {role:?} jumps to {seconds} s from the right time"
        ));
        self.clocks.jump(role, seconds)
    }

    async fn cut(&mut self) -> anyhow::Result<()> {
        let (name, way) = self.ways.all().choose(&mut self.random).context("no way")?;
        self.world
            .history
            .trouble(format!("connections to {name} are cut"));
        way.cut();
        if self.engines.can_cut && self.engines.brokers.iter().any(|(broker, _)| broker == name) {
            cut(ways::port(&self.engines.state.join("ports"), name)?).await?;
        }
        Ok(())
    }

    async fn heal(&mut self, annals: &mut Installation, now: Instant) -> anyhow::Result<()> {
        let (due, later) = self.ills.drain(..).partition(|(until, ..)| *until <= now);
        self.ills = later;
        let due: Vec<(Instant, Target, Remedy)> = due;
        for (_, target, remedy) in due {
            match (target, remedy) {
                (Target::Process(role), Remedy::Start) => annals.spawn(role)?,
                (Target::Process(role), Remedy::GoOn) => annals.signal(role, "-CONT").await?,
                (Target::Engine(_, started_as), Remedy::Start) => {
                    // The children of a server that was killed hold its folder for a moment longer.
                    let mut last = None;
                    let started =
                        wait::until("an engine to start again", Duration::from_secs(60), async || {
                            last = self.engines.start(started_as).await.err();
                            last.is_none().then_some(())
                        });
                    if let Err(error) = started.await {
                        return Err(last.unwrap_or(error));
                    }
                }
                (Target::Engine(name, _), Remedy::GoOn) => self.engines.signal(name, "-CONT").await?,
                (Target::Way(name), remedy) => {
                    let way = self.ways.to(name).context("no such way")?;
                    if remedy == Remedy::Cut {
                        way.cut();
                    }
                    way.turn(Weather::Fair, Reach::All);
                }
                (Target::Process(_) | Target::Engine(..), Remedy::Clear | Remedy::Cut) => {}
            }
            self.world.history.trouble(format!("{target:?} is back"));
        }
        Ok(())
    }
}
