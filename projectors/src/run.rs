//! Which projections run: all of them, each partition on its own.
//!
//! Each reads the log for itself: it has a checkpoint of its own, and one that waits for its database, or is being
//! rebuilt, holds up no other. The price is that a record is decoded once for each projection of its topic.

use std::time::Duration;

use event_log::{Log, Topic};
use read_models::{Projection, Writer, clickhouse};
use service::health::Health;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    content::ContentFold,
    directory::DirectoryFold,
    downloads::DownloadsFold,
    runner::{
        Gather, Plan, Until,
        clickhouse::{Engines, facts::FactsSink, run_visits},
        drive,
        feed::chain,
        postgres::{Fold, PostgresSink},
    },
};

/// How long to wait for a database that is not there at the start.
const RETRY: Duration = Duration::from_millis(500);

/// Connections of one projection: more partitions take turns.
const CONNECTIONS: u32 = 4;

/// Why the projectors cannot run at all. Everything else is waited out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tables of another log, or a configuration that cannot work.
    #[error("the read models cannot be used")]
    ReadModels(#[from] read_models::Error),
}

/// What the projections run on.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// What is folded.
    pub log: Log,
    /// ClickHouse's HTTP interface.
    pub clickhouse_url: String,
    /// Goes before the names of ClickHouse's databases; empty but in tests, which share an engine.
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
            Err(error) if error.may_pass() => {
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
    let mut tasks: JoinSet<Option<()>> = JoinSet::new();
    let writer = &opened.writer;
    let project = Project {
        writer,
        dependencies: &dependencies,
        config: &config,
        shutdown: &shutdown,
    };
    project.start::<DirectoryFold>(opened.directory, &mut tasks);
    project.start::<ContentFold>(opened.content, &mut tasks);
    project.start::<DownloadsFold>(opened.downloads, &mut tasks);
    project.start_clickhouse(&mut tasks);
    // One that panicked has said so to `health`, which ends the process.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Read models that are this log's, with the generations of PostgreSQL.
struct Opened {
    writer: Writer,
    directory: i32,
    content: i32,
    downloads: i32,
}

/// Migrates, connects, and makes sure that the tables are this log's and this release's.
async fn open(log: &Log, config: &Config) -> Result<Opened, read_models::Error> {
    read_models::migrate(&config.postgres_url, config.postgres_reader_url.as_deref()).await?;
    let writer = Writer::connect(&config.postgres_url).await?;
    writer.adopt_log(log.id().0).await?;
    Ok(Opened {
        directory: generation::<DirectoryFold>(log, &writer).await?,
        content: generation::<ContentFold>(log, &writer).await?,
        downloads: generation::<DownloadsFold>(log, &writer).await?,
        writer,
    })
}

async fn generation<F: Fold>(log: &Log, writer: &Writer) -> Result<i32, read_models::Error> {
    let partitions = log.partitions(topic(F::PROJECTION));
    Ok(writer
        .prepare(F::PROJECTION, partitions, F::VERSION)
        .await?
        .number)
}

/// The topic of the log that a projection is folded from.
pub(crate) const fn topic(projection: Projection) -> Topic {
    match projection {
        Projection::Directory => Topic::Directory,
        Projection::Content | Projection::Downloads | Projection::ContentFacts => Topic::Ledger,
        Projection::Visits => Topic::Visits,
    }
}

/// Starts projections.
struct Project<'a> {
    writer: &'a Writer,
    dependencies: &'a Dependencies,
    config: &'a Config,
    shutdown: &'a CancellationToken,
}

impl Project<'_> {
    fn start<F: Fold>(&self, generation: i32, tasks: &mut JoinSet<Option<()>>) {
        let Dependencies {
            log, health, until, ..
        } = self.dependencies;
        let tables = self.writer.tables(F::PROJECTION, generation, CONNECTIONS);
        for partition in log.all(topic(F::PROJECTION)) {
            let reporter = health.register(format!("projection {} of {partition}", F::PROJECTION));
            reporter.degraded("starting");
            let sink = PostgresSink::<F>::new(
                self.writer.clone(),
                tables.clone(),
                partition.index,
                self.config.parking_limit,
            );
            let plan = Plan {
                log: log.clone(),
                gather: Gather::AT_ONCE,
                until: *until,
                health: reporter,
                shutdown: self.shutdown.clone(),
            };
            let name = format!("projection {} of {partition}", F::PROJECTION);
            tasks.spawn(health.clone().vital(name, drive(sink, plan)));
        }
    }

    /// Visits and the facts about content; each waits for ClickHouse by itself.
    fn start_clickhouse(&self, tasks: &mut JoinSet<Option<()>>) {
        let Dependencies {
            log, health, until, ..
        } = self.dependencies;
        let rows = clickhouse::Writer::new(&self.config.clickhouse(self.dependencies));
        let plan = |projection: Projection| {
            let reporter = health.register(format!("projection {projection}"));
            reporter.degraded("starting");
            Plan {
                log: log.clone(),
                gather: Gather::AT_ONCE,
                until: *until,
                health: reporter,
                shutdown: self.shutdown.clone(),
            }
        };
        let facts = FactsSink::new(
            self.writer.clone(),
            rows.clone(),
            log.partitions(Topic::Ledger),
            self.config.parking_limit,
        );
        let folding = drive(facts, plan(Projection::ContentFacts));
        tasks.spawn(health.clone().vital("projection content_facts", folding));
        let engines = Engines {
            log: log.clone(),
            control: self.writer.clone(),
            rows,
            owner: format!("process {}", std::process::id()),
            parking_limit: self.config.parking_limit,
        };
        let folding = run_visits(engines, plan(Projection::Visits));
        tasks.spawn(health.clone().vital("projection visits", folding));
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
