//! `annals serve`: the services, in one process or one role at a time.
//!
//! The listener is bound first, so that a taken port is said at once. Then everything starts side by side, and
//! `/readyz` tells when it can serve. On the way down: the listener ends, what has begun is answered, the writers
//! let go of their partitions, the projectors write what they hold, the log closes.
//!
//! A little longer than a file should be: how all roles start, wait and end is one story.

mod deferred;
mod settings;
mod waiting;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::Router;
use event_log::{Log, OpenError, Snapshots, StateStores};
use key_store::KeyStore;
use service::Health;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_swagger_ui::{SwaggerUi, Url};

use self::deferred::Deferred;
use self::settings::{ClickHouse, LogSettings};
use self::waiting::{Failed, Waiting};

/// Run the services: all in one process, or one role of three (which need Kafka).
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// What this process does.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// Address and port; by default 127.0.0.1 and 8080, for queries alone 8081, for projectors alone (health,
    /// metrics, operators' work) 8082.
    #[arg(long, env = "ANNALS_LISTEN")]
    listen: Option<SocketAddr>,
    /// production refuses a log whose settings could lose records; development takes it.
    #[arg(long, env = "ANNALS_ENV", value_enum, default_value_t)]
    environment: service::telemetry::Environment,
    /// For how many seconds a start waits for Kafka and for PostgreSQL with the key store when they are away, before it
    /// ends with an error. Tables and ClickHouse are waited for while the process runs.
    #[arg(long, env = "ANNALS_START_SECONDS", default_value_t = 60)]
    start_seconds: u32,
    #[command(flatten)]
    log: LogSettings,
    #[command(flatten)]
    keys: Deferred<settings::Keys>,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    command: Deferred<command_api::Config>,
    #[command(flatten)]
    query: Deferred<query_api::Config>,
    #[command(flatten)]
    projectors: Deferred<projectors::Config>,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Everything, on one port.
    All,
    /// Takes commands and visits.
    Command,
    /// Answers queries.
    Query,
    /// Folds the log into tables.
    Projector,
}

impl Serve {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        service::telemetry::init(self.environment).map_err(|error| anyhow::anyhow!("{error}"))?;
        let shutdown = service::shutdown::on_signal()?;
        let listener = self.bind().await?;
        tracing::info!(address = %listener.local_addr()?, role = ?self.role, "listening");
        let health = Health::new();
        tokio::spawn(health.clone().end_after_failure(shutdown.clone()));
        match self.role {
            Role::All => self.all(listener, health.clone(), shutdown).await?,
            Role::Command => self.command(listener, health.clone(), shutdown).await?,
            Role::Query => self.query(listener, shutdown).await?,
            Role::Projector => self.projector(listener, health.clone(), shutdown).await?,
        }
        if let Some(why) = health.failure() {
            anyhow::bail!(why);
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    fn waiting(&self, shutdown: &CancellationToken) -> Waiting {
        let patience = Duration::from_secs(self.start_seconds.into());
        Waiting::new(patience, shutdown.clone())
    }

    async fn bind(&self) -> anyhow::Result<TcpListener> {
        let port = match self.role {
            Role::All | Role::Command => 8080,
            Role::Query => 8081,
            Role::Projector => 8082,
        };
        let address = self.listen.unwrap_or_else(|| ([127, 0, 0, 1], port).into());
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("cannot listen on {address}; choose another with ANNALS_LISTEN"))
    }

    /// Both APIs on one port, and the projectors beside them.
    async fn all(
        self,
        listener: TcpListener,
        health: Health,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let waiting = self.waiting(&shutdown);
        let Self {
            environment,
            log,
            keys,
            clickhouse,
            command,
            query,
            projectors,
            ..
        } = self;
        let (command, query, projectors) = (command.needed()?, query.needed()?, projectors.needed()?);
        let command = command.reached_at(listener.local_addr()?);
        let (log, keys) =
            tokio::try_join!(open_log(log, environment, &waiting), connect_keys(keys, &waiting))?;
        let reads = reading(&clickhouse, &command);
        let writes = command_api::App::start(writing(&log, keys, &health, &command)?, &command);
        let reads = query_api::App::new(&query, reads)?;
        let fold = folding(&log, &clickhouse, &health);
        let operation = projectors::api::App::new(&projectors, &fold, command.operator_key.as_deref())?;
        tokio::spawn(reads.clone().watch(health.clone(), shutdown.clone()));
        let routes = Router::new()
            .merge(command_api::router(writes.clone()))
            .merge(query_api::router(reads))
            .merge(projectors::api::router(operation))
            .merge(query_api::docs(vec![
                query_api::Document {
                    name: "command",
                    path: "/openapi/command.json",
                    document: command_api::openapi(),
                },
                query_api::Document {
                    name: "operation",
                    path: "/openapi/operation.json",
                    document: projectors::api::openapi(),
                },
            ]))
            .merge(health.routes());
        let serving = async {
            let served =
                command_api::serve(writes, listener, service::finish(routes), shutdown.clone()).await;
            // The listener may have failed: then nobody else has said that it is over.
            shutdown.cancel();
            served
        };
        let folding = async {
            let folded = projectors::run(fold, projectors, shutdown.clone()).await;
            shutdown.cancel();
            folded
        };
        let (served, folded) = tokio::join!(serving, folding);
        served?;
        folded?;
        log.close().await;
        Ok(())
    }

    async fn command(
        self,
        listener: TcpListener,
        health: Health,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let waiting = self.waiting(&shutdown);
        let command = self.command.needed()?.reached_at(listener.local_addr()?);
        let (log, keys) = tokio::try_join!(
            open_log(self.log, self.environment, &waiting),
            connect_keys(self.keys, &waiting)
        )?;
        let app = command_api::App::start(writing(&log, keys, &health, &command)?, &command);
        let document = Url::new("command", "/openapi/command.json");
        let page = SwaggerUi::new("/docs").url(document, command_api::openapi());
        let routes = command_api::router(app.clone())
            .merge(Router::from(page))
            .merge(health.routes());
        command_api::serve(app, listener, service::finish(routes), shutdown).await?;
        log.close().await;
        Ok(())
    }

    async fn query(self, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
        if self.log.is_embedded() {
            anyhow::bail!(ONE_PROCESS);
        }
        let reads = reading(&self.clickhouse, &self.command.needed()?);
        Ok(query_api::run(listener, self.query.needed()?, reads, shutdown).await?)
    }

    async fn projector(
        self,
        listener: TcpListener,
        health: Health,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let waiting = self.waiting(&shutdown);
        let (command, projectors) = (self.command.needed()?, self.projectors.needed()?);
        let log = open_log(self.log, self.environment, &waiting).await?;
        // Others ask who reads the log, before they write what not every release can read.
        let present = log
            .attend()
            .context("cannot show that this process reads the log")?;
        let fold = folding(&log, &self.clickhouse, &health);
        let operation = projectors::api::App::new(&projectors, &fold, command.operator_key.as_deref())?;
        let document = Url::new("operation", "/openapi/operation.json");
        let page = SwaggerUi::new("/docs").url(document, projectors::api::openapi());
        let routes = projectors::api::router(operation)
            .merge(Router::from(page))
            .merge(health.routes());
        let serving = service::serve(listener, service::finish(routes), shutdown.clone());
        let folding = async {
            let folded = projectors::run(fold, projectors, shutdown.clone()).await;
            shutdown.cancel();
            folded
        };
        let (served, folded) = tokio::join!(serving, folding);
        present.leave().await;
        served?;
        folded?;
        log.close().await;
        Ok(())
    }
}

const ONE_PROCESS: &str = "the embedded log belongs to one process: run `annals serve` without --role, \
                           or use Kafka for separate services (ANNALS_LOG=kafka, ANNALS_KAFKA_BROKERS)";

async fn open_log(
    settings: LogSettings,
    environment: service::telemetry::Environment,
    waiting: &Waiting,
) -> anyhow::Result<Log> {
    let is_embedded = settings.is_embedded();
    let config = settings.config(environment)?;
    let open = async || {
        let error = match Log::open(config.clone()).await {
            Ok(log) => return Ok(log),
            Err(error) => error,
        };
        let (is_away, what) = match &error {
            OpenError::InUse(_) => (false, ONE_PROCESS),
            // A folder does not come by itself; brokers do.
            OpenError::Unavailable(_) => (!is_embedded, "cannot open the log"),
            OpenError::Foreign(_) | OpenError::Unsafe(_) | OpenError::Damaged(_) => {
                (false, "cannot open the log")
            }
        };
        let error = anyhow::Error::new(error).context(what);
        Err(if is_away {
            Failed::Away(error)
        } else {
            Failed::Final(error)
        })
    };
    waiting.for_engine("Kafka", open).await
}

async fn connect_keys(keys: Deferred<settings::Keys>, waiting: &Waiting) -> anyhow::Result<KeyStore> {
    let keys = keys.needed()?;
    let master = keys.master()?;
    let connect = async || {
        let connected = KeyStore::connect(&keys.keystore_url, master.clone()).await;
        connected.map_err(|error| {
            let is_away = error.may_pass();
            let error = anyhow::Error::new(error).context("cannot open the key store (ANNALS_KEYSTORE_URL)");
            if is_away {
                Failed::Away(error)
            } else {
                Failed::Final(error)
            }
        })
    };
    waiting.for_engine("PostgreSQL with the key store", connect).await
}

fn writing(
    log: &Log,
    keys: KeyStore,
    health: &Health,
    command: &command_api::Config,
) -> anyhow::Result<command_api::Deps> {
    let state = StateStores::open(command.state_dir.as_deref());
    let snapshots = command.snapshots.as_ref().map(Snapshots::open).transpose();
    Ok(command_api::Deps {
        log: log.clone(),
        keys,
        health: health.clone(),
        state: state.context("cannot open the folder for decision state (ANNALS_STATE_DIR)")?,
        snapshots: snapshots.context("ANNALS_SNAPSHOTS")?,
    })
}

fn reading(clickhouse: &ClickHouse, command: &command_api::Config) -> query_api::Dependencies {
    query_api::Dependencies {
        operator_key: command.operator_key.clone(),
        clickhouse_url: clickhouse.clickhouse_url.clone(),
        clickhouse_prefix: clickhouse.clickhouse_prefix.clone(),
    }
}

fn folding(log: &Log, clickhouse: &ClickHouse, health: &Health) -> projectors::run::Dependencies {
    projectors::run::Dependencies {
        log: log.clone(),
        clickhouse_url: clickhouse.clickhouse_url.clone(),
        clickhouse_prefix: clickhouse.clickhouse_prefix.clone(),
        health: health.clone(),
        until: projectors::runner::Until::Shutdown,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        serve: Serve,
    }

    #[test]
    fn a_prefix_is_none_that_analysts_may_read() {
        let parse = |prefix: &str| Alone::try_parse_from(["annals", "--clickhouse-prefix", prefix]);
        assert!(parse("eu_1_").is_ok() && parse("").is_ok());
        for prefix in ["live_", "visits_at", "a-b", "`"] {
            assert!(parse(prefix).is_err(), "{prefix}");
        }
    }

    /// The variable of every setting.
    fn variables() -> Vec<String> {
        let command = Serve::augment_args(Command::new("serve"));
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        variables
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Whether a line of the text begins with the name, as a setting does, perhaps as a comment.
    fn sets(text: &str, name: &str, separator: char) -> bool {
        let line = |line: &str| {
            line.trim_start_matches([' ', '#'])
                .strip_prefix(name)
                .map(str::to_owned)
        };
        text.lines()
            .filter_map(line)
            .any(|rest| rest.starts_with(separator))
    }

    #[test]
    fn the_sample_and_the_compose_file_name_every_setting() {
        let sample = include_str!("../../.env.sample");
        let compose = include_str!("../../docker-compose.yml");
        assert!(variables().len() > 30, "{:?}", variables());
        for name in variables() {
            assert!(sets(sample, &name, '='), "{name} is not in .env.sample");
            // With Kafka there is no folder, and the replicas are those of three brokers.
            if name != "ANNALS_LOG_DIR" {
                assert!(
                    sets(compose, &name, ':'),
                    "{name} does not reach the containers of docker-compose.yml"
                );
            }
        }
    }

    #[test]
    fn a_value_of_the_sample_is_passed_on_by_the_compose_file() {
        let compose = include_str!("../../docker-compose.yml");
        // What the compose file decides itself: addresses, users and roles of its own engines.
        let fixed = [
            "ANNALS_ENV",
            "ANNALS_LISTEN",
            "ANNALS_LOG",
            "ANNALS_LOG_DIR",
            "ANNALS_STATE_DIR",
            "ANNALS_KAFKA_BROKERS",
            "ANNALS_KAFKA_REPLICATION",
            "ANNALS_POSTGRES_URL",
            "ANNALS_POSTGRES_READER_URL",
            "ANNALS_KEYSTORE_URL",
            "ANNALS_CLICKHOUSE_URL",
            "ANNALS_CLICKHOUSE_USER",
            "ANNALS_CLICKHOUSE_READER_USER",
        ];
        for name in variables().iter().filter(|name| !fixed.contains(&name.as_str())) {
            assert!(
                compose.contains(&format!("${{{name}:")),
                "{name} is not taken from .env"
            );
        }
    }

    #[test]
    fn what_is_said_to_be_nothing_runs_for_users() {
        let environment = Serve::augment_args(Command::new("serve"))
            .get_arguments()
            .find(|argument| argument.get_id() == "environment")
            .map(|argument| argument.get_default_values().to_vec());
        assert_eq!(environment.unwrap(), ["production"]);
        let told = Alone::try_parse_from(["x", "--environment", "development"]).unwrap();
        assert_eq!(
            told.serve.environment,
            service::telemetry::Environment::Development
        );
    }
}
