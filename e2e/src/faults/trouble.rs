//! What goes wrong, at random from a seed: processes and engines killed, stopped and let go on, ways between them slow,
//! silent or cut, brokers taken from each other, clocks that jump; and read models built anew in the midst of it.

use std::{
    os::unix::process::ExitStatusExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio_util::sync::CancellationToken;

use super::{
    READERS,
    clients::World,
    clocks::Clocks,
    engines::Engines,
    network::Rift,
    proxy::{Reach, Weather},
    rebuilds::{Building, Operator},
    ways::Ways,
};
use crate::installation::{Installation, Role};

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Process(Role),
    /// By its name in `deploy/local/engines`, with the name by which it is started.
    Engine(&'static str, &'static str),
    /// The way to the engine of this name.
    Way(&'static str),
    /// What goes between the broker of this name and the others.
    Between(&'static str),
    /// What time a process believes it to be.
    Clock(Role),
}

/// What makes it good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Start,
    GoOn,
    /// What was held up arrives; a clock is set right.
    Clear,
    /// What was held up is lost.
    Cut,
}

/// Makes trouble until told to stop, then makes everything good again.
pub struct Trouble {
    random: StdRng,
    world: Arc<World>,
    engines: Engines,
    ways: Ways,
    clocks: Clocks,
    operator: Operator,
    writers: Vec<Role>,
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
        writers: &[Role],
    ) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            world,
            engines,
            ways,
            clocks,
            operator,
            writers: writers.to_vec(),
            ills: Vec::new(),
        }
    }

    /// Every process that trouble may come to.
    pub fn roles(&self) -> Vec<Role> {
        [&self.writers[..], &READERS].concat()
    }

    /// One after another, and several at once.
    ///
    /// # Errors
    /// A process or an engine does not start again, or a process has ended that nobody ended.
    pub async fn make(&mut self, annals: &mut Installation, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut number: u32 = 0;
        while !stop.is_cancelled() {
            // In the shortest run several times.
            match number % 8 {
                0 => self.clock()?,
                1 | 5 => self.generations(annals).await?,
                3 if self.engines.network.is_some() => self.rift().await?,
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
    /// One has panicked, or crashed.
    pub fn supervise(&self, annals: &mut Installation) -> anyhow::Result<()> {
        for role in self.roles() {
            if self.is_ill(Target::Process(role)) {
                continue;
            }
            let Some(status) = annals.has_ended(role)? else {
                continue;
            };
            let said = annals.said(role);
            anyhow::ensure!(
                status.signal().is_none() && !said.contains("panicked"),
                "{role:?} has ended with {status}:\n{said}"
            );
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
                let role = *self.writers.choose(&mut self.random).context("no writer")?;
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
            83..94 => self.weather(),
            _ => self.cut().await,
        }
    }

    fn is_ill(&self, target: Target) -> bool {
        self.ills.iter().any(|(_, ill, _)| *ill == target)
    }

    /// Whether one of a kind is: of three brokers, two must be there for anything to go on.
    fn is_any_ill(&self, started_as: &str) -> bool {
        self.ills.iter().any(|(_, ill, _)| match ill {
            Target::Engine(_, other) => *other == started_as,
            Target::Between(name) => self.engines.brokers.contains(&(*name, started_as)),
            Target::Process(_) | Target::Way(_) | Target::Clock(_) => false,
        })
    }

    fn ill(&mut self, target: Target, remedy: Remedy, millis: std::ops::Range<u64>, what: &str) {
        let time = Duration::from_millis(self.random.random_range(millis));
        let name = match target {
            Target::Process(role) => format!("{role:?}"),
            Target::Engine(name, _) => name.to_owned(),
            Target::Way(name) => format!("the way to {name}"),
            Target::Between(name) => format!("{name} among brokers"),
            Target::Clock(role) => format!("the clock of {role:?}"),
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
        if self.is_any_ill(started_as) {
            return Ok(());
        }
        // Of several brokers others lead when one says nothing for longer than its session of 9 s; then it wakes and does
        // not know that.
        let is_one_of_several =
            self.engines.brokers.len() > 1 && self.engines.brokers.iter().any(|(broker, _)| *broker == name);
        if self.random.random_bool(0.6) {
            self.engines.signal(name, "-STOP").await?;
            let millis = match is_one_of_several && self.random.random_bool(0.5) {
                true => 11_000..16_000,
                false => 100..4_000,
            };
            self.ill(target, Remedy::GoOn, millis, "is stopped");
        } else {
            self.engines.kill(name).await?;
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
        let target = Target::Way(name);
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

    /// A broker is taken from the others: a short time, or longer than they wait for it (`replica.lag.time.max.ms`, and
    /// its session of 9 s), so that others lead what it led, of the log or of the cluster.
    async fn rift(&mut self) -> anyhow::Result<()> {
        let brokers = self.engines.brokers;
        let (name, started_as) = *brokers.choose(&mut self.random).context("no broker")?;
        let others: Vec<_> = brokers.iter().filter(|(other, _)| *other != name).collect();
        let (other, _) = **others.choose(&mut self.random).context("one broker")?;
        let rift = match self.random.random_range(0..10) {
            0..4 => Rift::Alone,
            4..6 => Rift::Unheard,
            6..8 => Rift::Without(other),
            _ => Rift::Slow(self.random.random_range(64..512)),
        };
        let millis = match self.random.random_bool(0.75) {
            true => 12_000..18_000,
            false => 500..5_000,
        };
        let Some(network) = &self.engines.network else {
            return Ok(());
        };
        if self.is_any_ill(started_as) || (matches!(rift, Rift::Slow(_)) && !network.can_slow) {
            return Ok(());
        }
        network.part(name, rift).await?;
        self.ill(
            Target::Between(name),
            Remedy::Clear,
            millis,
            &format!("is {rift:?}"),
        );
        Ok(())
    }

    /// Within what processes allow each other, or far enough for everything that goes by the hour; not so far that
    /// keys expire.
    fn clock(&mut self) -> anyhow::Result<()> {
        let role = *self.roles().choose(&mut self.random).context("no process")?;
        let target = Target::Clock(role);
        if self.is_ill(target) {
            return Ok(());
        }
        let most = match self.random.random_bool(0.5) {
            true => 200,
            false => 3 * 3_600,
        };
        let seconds = self.random.random_range(-most..most);
        self.clocks.jump(role, seconds)?;
        self.ill(
            target,
            Remedy::Clear,
            2_000..10_000,
            &format!("is {seconds} s wrong"),
        );
        Ok(())
    }

    async fn cut(&mut self) -> anyhow::Result<()> {
        let (name, way) = self.ways.all().choose(&mut self.random).context("no way")?;
        self.world
            .history
            .trouble(format!("connections to {name} are cut"));
        way.cut();
        self.engines.cut(name).await
    }

    async fn heal(&mut self, annals: &mut Installation, now: Instant) -> anyhow::Result<()> {
        let (due, later) = self.ills.drain(..).partition(|(until, ..)| *until <= now);
        self.ills = later;
        let due: Vec<(Instant, Target, Remedy)> = due;
        for (_, target, remedy) in due {
            match (target, remedy) {
                (Target::Process(role), Remedy::Start) => annals.spawn(role)?,
                (Target::Process(role), Remedy::GoOn) => annals.signal(role, "-CONT").await?,
                (Target::Engine(_, started_as), Remedy::Start) => self.engines.start(started_as).await?,
                (Target::Engine(name, _), Remedy::GoOn) => self.engines.signal(name, "-CONT").await?,
                (Target::Way(name), remedy) => {
                    let way = self.ways.to(name).context("no such way")?;
                    if remedy == Remedy::Cut {
                        way.cut();
                    }
                    way.turn(Weather::Fair, Reach::All);
                }
                (Target::Between(_), _) => {
                    let network = self.engines.network.as_ref().context("no network")?;
                    network.heal().await?;
                }
                (Target::Clock(role), _) => self.clocks.jump(role, 0)?,
                (Target::Process(_) | Target::Engine(..), Remedy::Clear | Remedy::Cut) => {}
            }
            self.world.history.trouble(format!("{target:?} is back"));
        }
        Ok(())
    }
}
