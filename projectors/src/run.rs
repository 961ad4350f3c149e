//! Which projections run: all of them, each partition on its own. Which of their generations: `generations.rs`; which
//! part of them here, where others run too: `share.rs`.
//!
//! Each has a checkpoint of its own, and one that waits for its database, or is being rebuilt, holds up no other. Those
//! that are at the same place in the log share what is read and decoded there: `runner/feed/windows.rs`. (Visits have
//! one projection, which reads for itself.)

use std::{collections::HashMap, future::Future, time::Duration};

use event_log::{Log, Partition, Topic};
use read_models::{Projection, Tables, Writer, clickhouse, members::Member};
use service::health::Health;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Config,
    content::ContentFold,
    directory::DirectoryFold,
    downloads::DownloadsFold,
    facts,
    generations::Supervisor,
    runner::{
        Gather, Plan, Throttle, Until, Windows,
        clickhouse::{Engines, facts::FactsSink, fingerprint, run_visits},
        drive,
        feed::chain,
        postgres::{Fold, PostgresSink},
    },
    share::{Share, Unit, attend},
    verify::background::Background,
    visits,
};

/// How long to wait for a database that is not there at the start.
const RETRY: Duration = Duration::from_millis(500);

/// Connections of one projection: more partitions take turns.
pub(crate) const CONNECTIONS: u32 = 4;

/// Why the projectors cannot run at all. Everything else is waited out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tables of another log, or a configuration that cannot work.
    #[error("the read models cannot be used (ANNALS_POSTGRES_URL)")]
    ReadModels(#[from] read_models::Error),
}

/// What the projections run on.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// What is folded.
    pub log: Log,
    /// ClickHouse's HTTP interface.
    pub clickhouse_url: String,
    /// Goes before the names of ClickHouse's databases; empty unless installations share a server.
    pub clickhouse_prefix: String,
    /// Where it is told how they do.
    pub health: Health,
    /// [`Until::Shutdown`], but in tests and measurements.
    pub until: Until,
}

/// Brings the tables up to date with this release, then folds until the shutdown.
///
/// # Errors
/// See [`Error`]; an outage is none.
pub async fn run(
    dependencies: Dependencies,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let reporter = dependencies.health.register("read models");
    reporter.degraded("connecting");
    let mut announced = false;
    let opened = loop {
        match open(&dependencies.log, &config).await {
            Ok(opened) => break opened,
            Err(error) if error.may_pass() && !error.is_misconfigured() => {
                if !std::mem::replace(&mut announced, true) {
                    tracing::warn!(
                        error = chain(&error),
                        "the read models cannot be opened yet: retrying"
                    );
                }
                reporter.degraded("PostgreSQL cannot be reached; retrying");
            }
            Err(error) => return Err(error.into()),
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(RETRY))
            .await
            .is_none()
        {
            return Ok(());
        }
    };
    reporter.ok();
    let verifying = verify_in_background(&opened, &dependencies, &config, shutdown.clone());
    // Others begin when everything has ended here.
    let done = CancellationToken::new();
    let (share, attending) = share(&opened, &dependencies, done.clone());
    let supervising = async {
        let supervisor = Supervisor::new(opened, dependencies, config, share);
        supervisor.run(shutdown).await;
        done.cancel();
    };
    tokio::join!(supervising, attending, verifying);
    Ok(())
}

/// Keeps known who else fills these tables; in tests and measurements nobody does.
fn share(
    opened: &Opened,
    dependencies: &Dependencies,
    done: CancellationToken,
) -> (watch::Receiver<Share>, impl Future<Output = ()> + use<>) {
    let fills = opened.hashes.iter();
    let me = Member {
        id: Uuid::now_v7(),
        fills: fills
            .map(|(it, hash)| (it.name().to_owned(), hash.clone()))
            .collect(),
    };
    let shared = dependencies.until == Until::Shutdown;
    let (tell, share) = watch::channel(if shared {
        Share::unknown(me.id)
    } else {
        Share::with(&me, Vec::new())
    });
    let presence = opened.writer.presence(me.clone());
    let health = dependencies.health.clone();
    let attending = async move {
        if shared {
            attend(me, presence, tell, health, done).await;
        }
    };
    (share, attending)
}

/// Compares tables with the log unasked, unless that is switched off.
fn verify_in_background(
    opened: &Opened,
    dependencies: &Dependencies,
    config: &Config,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let rows = clickhouse::Writer::new(&config.clickhouse(dependencies));
    let background = Background::new(
        (dependencies.log.clone(), opened.writer.clone(), rows),
        opened.hashes.clone(),
        config.verify_rate,
        Duration::from_secs(config.verify_every_seconds),
    );
    let wanted = config.verify_rate > 0 && dependencies.until == Until::Shutdown;
    let health = dependencies.health.clone();
    async move {
        if wanted {
            let _: Option<()> = health
                .vital("verification in the background", background.run(shutdown))
                .await;
        }
    }
}

/// Read models that are this log's, with a generation of each projection that this release fills.
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    /// What this release's generations are made by.
    pub(crate) hashes: HashMap<Projection, String>,
}

/// Migrates, connects, and makes sure that the tables are this log's and that there are tables of this release.
async fn open(log: &Log, config: &Config) -> Result<Opened, read_models::Error> {
    read_models::migrate(&config.postgres_url, config.postgres_reader_url.as_deref()).await?;
    let writer = Writer::connect(&config.postgres_url).await?;
    writer.adopt_log(log.id().0).await?;
    let mut hashes = HashMap::new();
    for projection in Projection::ALL {
        let fold = fold(projection);
        let partitions = log.partitions(topic(projection));
        writer.prepare(projection, partitions, &fold).await?;
        hashes.insert(projection, writer.fold_hash(projection, &fold).await?);
    }
    Ok(Opened { writer, hashes })
}

/// What a projection's rows depend on, beside the log: another text means a rebuild.
pub fn fold(projection: Projection) -> String {
    match projection {
        Projection::Directory => DirectoryFold::VERSION.to_owned(),
        Projection::Content => ContentFold::VERSION.to_owned(),
        Projection::Downloads => DownloadsFold::VERSION.to_owned(),
        Projection::Visits => fingerprint(&visits::fold_of_events(), clickhouse::VISITS_TABLES),
        Projection::ContentFacts => fingerprint(facts::FOLD, clickhouse::FACTS_TABLES),
    }
}

/// The topic of the log that a projection is folded from.
pub(crate) const fn topic(projection: Projection) -> Topic {
    match projection {
        Projection::Directory => Topic::Directory,
        Projection::Content | Projection::Downloads | Projection::ContentFacts => Topic::Ledger,
        Projection::Visits => Topic::Visits,
    }
}

/// One generation that is filled here, or a part of it.
pub(crate) struct Filling<'a> {
    pub(crate) writer: &'a Writer,
    /// Its tables in PostgreSQL.
    pub(crate) tables: &'a Tables,
    pub(crate) dependencies: &'a Dependencies,
    pub(crate) windows: &'a Windows,
    pub(crate) config: &'a Config,
    pub(crate) projection: Projection,
    pub(crate) generation: i32,
    pub(crate) throttle: Throttle,
    pub(crate) shutdown: CancellationToken,
}

impl Filling<'_> {
    /// Starts the tasks that fill a unit, and gives them with the names under which they report.
    pub(crate) fn start(&self, unit: Unit) -> (JoinSet<Option<()>>, Vec<String>) {
        let mut started = (JoinSet::new(), Vec::new());
        match self.projection {
            Projection::Directory => self.postgres::<DirectoryFold>(unit, &mut started),
            Projection::Content => self.postgres::<ContentFold>(unit, &mut started),
            Projection::Downloads => self.postgres::<DownloadsFold>(unit, &mut started),
            Projection::Visits => {
                let engines = Engines {
                    log: self.dependencies.log.clone(),
                    control: self.writer.clone(),
                    rows: self.rows(),
                    generation: self.generation,
                    owner: format!("process {}", std::process::id()),
                    parking_limit: self.config.parking_limit,
                    keep_every: Engines::KEEP_EVERY,
                };
                let (name, plan) = self.plan(None);
                self.spawn(&mut started, name, run_visits(engines, plan));
            }
            Projection::ContentFacts => {
                let sink = FactsSink::new(
                    self.writer.clone(),
                    self.rows(),
                    self.generation,
                    self.dependencies.log.partitions(Topic::Ledger),
                    self.config.parking_limit,
                );
                let (name, mut plan) = self.plan(None);
                plan.gather = Gather::IN_BLOCKS;
                self.spawn(&mut started, name, drive(sink, plan));
            }
        }
        started
    }

    fn rows(&self) -> clickhouse::Writer {
        clickhouse::Writer::new(&self.config.clickhouse(self.dependencies))
    }

    fn postgres<F: Fold>(&self, unit: Unit, started: &mut (JoinSet<Option<()>>, Vec<String>)) {
        let partitions = self.dependencies.log.all(topic(F::PROJECTION));
        for partition in partitions.filter(|it| unit.has(*it)) {
            let sink = PostgresSink::<F>::new(
                self.writer.clone(),
                self.tables.clone(),
                partition.index,
                self.config.parking_limit,
            );
            let (name, mut plan) = self.plan(Some(partition));
            plan.gather = Gather::SIDE_BY_SIDE;
            self.spawn(started, name, drive(sink, plan));
        }
    }

    fn plan(&self, partition: Option<Partition>) -> (String, Plan) {
        let of = partition
            .map(|partition| format!(" of {partition}"))
            .unwrap_or_default();
        let name = format!(
            "projection {} generation {}{of}",
            self.projection, self.generation
        );
        let reporter = self.dependencies.health.register(name.clone());
        reporter.degraded("starting");
        let plan = Plan {
            windows: self.windows.clone(),
            gather: Gather::AT_ONCE,
            throttle: self.throttle.clone(),
            until: self.dependencies.until,
            health: reporter,
            shutdown: self.shutdown.clone(),
        };
        (name, plan)
    }

    fn spawn(
        &self,
        (tasks, names): &mut (JoinSet<Option<()>>, Vec<String>),
        name: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        tasks.spawn(self.dependencies.health.clone().vital(name.clone(), work));
        names.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever starts the projectors may do so on any thread.
    #[test]
    fn running_can_be_spawned() {
        fn spawned<F: Future + Send>(_: impl Fn(Dependencies, Config, CancellationToken) -> F) {}
        spawned(run);
    }
}
