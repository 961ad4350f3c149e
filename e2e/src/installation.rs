//! One Annals: databases, a log and processes of its own, all of it gone in the end.
//!
//! Longer than a file should be: everything that a test may do to an installation, on one type.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use event_log::{KafkaConfig, Log, LogConfig, OpenError, Store};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{engines::Engines, wait};

/// Which log it has, and so which processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogKind {
    /// One process for everything.
    Embedded,
    /// Three processes on a Kafka broker.
    Kafka,
}

/// What a process of Annals does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything, in one process.
    All,
    /// Takes commands.
    Command,
    /// Takes commands, too: shares the partitions with the first.
    AnotherCommand,
    /// And a third.
    ThirdCommand,
    /// And a fourth.
    FourthCommand,
    /// Answers queries.
    Query,
    /// Folds the log into tables.
    Projector,
    /// Folds it, too: shares the partitions with the first.
    AnotherProjector,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Command | Self::AnotherCommand | Self::ThirdCommand | Self::FourthCommand => "command",
            Self::Query => "query",
            Self::Projector | Self::AnotherProjector => "projector",
        }
    }

    /// Of its own, where two have one role.
    const fn label(self) -> &'static str {
        match self {
            Self::AnotherCommand => "another-command",
            Self::ThirdCommand => "third-command",
            Self::FourthCommand => "fourth-command",
            Self::AnotherProjector => "another-projector",
            Self::All | Self::Command | Self::Query | Self::Projector => self.name(),
        }
    }
}

/// One Annals. [`Installation::erase`] removes its databases; its processes end with it.
pub struct Installation {
    binary: PathBuf,
    /// Programs of other releases, by the processes that run them.
    releases: BTreeMap<Role, PathBuf>,
    engines: Engines,
    log: LogKind,
    /// Part of every name that it gives to something in an engine.
    name: String,
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    /// Of one process each, beside those of all.
    own: BTreeMap<Role, BTreeMap<String, String>>,
    ports: BTreeMap<Role, u16>,
    processes: BTreeMap<Role, Child>,
    operator_key: String,
    http: reqwest::Client,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Of HTTP.
    pub status: StatusCode,
    /// `Annals-Position`, where there is one.
    pub position: Option<String>,
    /// JSON, or the text.
    pub body: Value,
}

impl Installation {
    /// Makes databases and a folder; nothing runs yet.
    ///
    /// # Errors
    /// An engine does not answer.
    pub async fn new(engines: &Engines, binary: PathBuf, log: LogKind) -> anyhow::Result<Self> {
        let name = format!("e2e{:012x}", uuid::Uuid::new_v4().as_u128() & 0xffff_ffff_ffff);
        let folder = tempfile::tempdir()?;
        engines.create_database(&name).await?;
        engines.create_key_store(&keys(&name)).await?;
        let operator_key = service::key::Key::make().reveal().to_owned();
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
        set("ANNALS_ENV", "development");
        let at = |server: &str, database: &str| format!("{server}/{database}");
        set("ANNALS_POSTGRES_URL", &at(&engines.postgres_owner, &name));
        set("ANNALS_POSTGRES_READER_URL", &at(&engines.postgres_reader, &name));
        set(
            "ANNALS_KEYSTORE_URL",
            &at(&engines.postgres_keystore, &keys(&name)),
        );
        set("ANNALS_MASTER_KEY", &"5a".repeat(32));
        set("ANNALS_CLICKHOUSE_URL", &engines.clickhouse);
        set("ANNALS_CLICKHOUSE_PREFIX", &format!("{name}_"));
        set("ANNALS_CLICKHOUSE_USER", &engines.clickhouse_writer.0);
        set("ANNALS_CLICKHOUSE_PASSWORD", &engines.clickhouse_writer.1);
        set("ANNALS_CLICKHOUSE_READER_USER", &engines.clickhouse_reader.0);
        set("ANNALS_CLICKHOUSE_READER_PASSWORD", &engines.clickhouse_reader.1);
        set("ANNALS_OPERATOR_KEY", &operator_key);
        set("ANNALS_STATE_DIR", &folder.path().join("state").to_string_lossy());
        match log {
            LogKind::Embedded => {
                set("ANNALS_LOG", "embedded");
                set("ANNALS_LOG_DIR", &folder.path().join("log").to_string_lossy());
            }
            LogKind::Kafka => {
                set("ANNALS_LOG", "kafka");
                set("ANNALS_KAFKA_BROKERS", &engines.kafka);
                set("ANNALS_KAFKA_PREFIX", &name);
            }
        }
        Ok(Self {
            binary,
            releases: BTreeMap::new(),
            engines: engines.clone(),
            log,
            name,
            folder,
            environment,
            own: BTreeMap::new(),
            ports: BTreeMap::new(),
            processes: BTreeMap::new(),
            operator_key,
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
        })
    }

    /// Sets a variable for the processes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// The program that a process runs when it is started from now on.
    pub fn release(&mut self, role: Role, binary: PathBuf) {
        self.releases.insert(role, binary);
    }

    /// Sets a variable for one of them.
    pub fn set_for(&mut self, role: Role, name: &str, value: &str) {
        let own = self.own.entry(role).or_default();
        own.insert(name.to_owned(), value.to_owned());
    }

    /// The roles that this log needs.
    pub const fn roles(&self) -> &'static [Role] {
        match self.log {
            LogKind::Embedded => &[Role::All],
            LogKind::Kafka => &[Role::Command, Role::Query, Role::Projector],
        }
    }

    /// Starts all processes and waits until they are ready.
    ///
    /// # Errors
    /// One ends, or is not ready in time; the text holds the end of what it wrote.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        for role in self.roles() {
            self.spawn(*role)?;
        }
        for role in self.roles() {
            self.ready(*role).await?;
        }
        Ok(())
    }

    /// Starts one process.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&mut self, role: Role) -> anyhow::Result<()> {
        let port = match self.ports.get(&role) {
            Some(port) => *port,
            None => free_port()?,
        };
        self.ports.insert(role, port);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file(role))?;
        let binary = self.releases.get(&role).unwrap_or(&self.binary);
        let child =
            Command::new(binary)
                .args(["serve", "--role", role.name()])
                .env_clear()
                .envs(std::env::vars().filter(|(name, _)| {
                    matches!(name.as_str(), "PATH" | "HOME" | "RUST_LOG" | "RUST_BACKTRACE")
                }))
                .envs(&self.environment)
                .envs(self.own.get(&role).into_iter().flatten())
                .env("ANNALS_LISTEN", format!("127.0.0.1:{port}"))
                .env("ANNALS_STATE_DIR", self.state_folder(role))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start {}", binary.display()))?;
        self.processes.insert(role, child);
        Ok(())
    }

    /// Where a process writes what it says.
    pub fn log_file(&self, role: Role) -> PathBuf {
        self.folder.path().join(format!("{}.log", role.label()))
    }

    /// What a process has written, for people who look for the reason of a failure.
    pub fn said(&self, role: Role) -> String {
        let text = std::fs::read_to_string(self.log_file(role)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether a process answers that it is ready.
    pub async fn is_ready(&self, role: Role) -> bool {
        let url = format!("http://{}/readyz", self.address(&[role]));
        let asked = tokio::time::timeout(Duration::from_secs(2), self.http.get(url).send()).await;
        matches!(asked, Ok(Ok(response)) if response.status().is_success())
    }

    /// Waits until a process answers that it is ready; how long that took.
    ///
    /// # Errors
    /// It ends, or a minute passes; the text holds the end of what it wrote.
    pub async fn ready(&mut self, role: Role) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let url = format!(
            "http://127.0.0.1:{}/readyz",
            self.ports.get(&role).context("it was never started")?
        );
        loop {
            if let Ok(response) = self.http.get(&url).send().await
                && response.status().is_success()
            {
                return Ok(start.elapsed());
            }
            let ended = self
                .processes
                .get_mut(&role)
                .map(Child::try_wait)
                .transpose()?
                .flatten();
            if ended.is_some() || start.elapsed() > Duration::from_secs(60) {
                anyhow::bail!(
                    "serve --role {} is not ready ({ended:?}):\n{}",
                    role.name(),
                    self.said(role)
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends a process without a word, as `kill -9` does.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        self.processes
            .remove(&role)
            .context("not running")?
            .kill()
            .await?;
        Ok(())
    }

    /// Sends a signal, such as `-STOP`.
    ///
    /// # Errors
    /// It is not running.
    pub async fn signal(&self, role: Role, signal: &str) -> anyhow::Result<()> {
        let id = self.pid(role).context("not running")?.to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await?;
        anyhow::ensure!(sent.success(), "kill {signal} {id}: {sent}");
        Ok(())
    }

    /// Asks one process to stop and waits until it has.
    ///
    /// # Errors
    /// It does not stop within half a minute.
    pub async fn stop_one(&mut self, role: Role) -> anyhow::Result<ExitStatus> {
        let mut child = self.processes.remove(&role).context("not running")?;
        let id = child.id().context("it has ended before")?;
        Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status()
            .await?;
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        let status =
            ended.with_context(|| format!("{} does not stop:\n{}", role.name(), self.said(role)))??;
        Ok(status)
    }

    /// How a process has ended by itself, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn has_ended(&mut self, role: Role) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.processes.get_mut(&role).context("not running")?;
        Ok(child.try_wait()?)
    }

    /// Asks every process to stop and waits until it has.
    ///
    /// # Errors
    /// One does not stop within half a minute, or not with success.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        while let Some(role) = self.processes.keys().next().copied() {
            let status = self.stop_one(role).await?;
            anyhow::ensure!(
                status.success(),
                "{} ended with {status}:\n{}",
                role.name(),
                self.said(role)
            );
        }
        Ok(())
    }

    /// The process id of a role, for `/proc`.
    pub fn pid(&self, role: Role) -> Option<u32> {
        self.processes.get(&role)?.id()
    }

    /// Where commands go: host and port.
    pub fn command_address(&self) -> String {
        self.address(&[Role::All, Role::Command])
    }

    /// Where queries go: host and port.
    pub fn query_address(&self) -> String {
        self.address(&[Role::All, Role::Query])
    }

    /// Where operators' work on projections is done: host and port.
    pub fn projector_address(&self) -> String {
        self.address(&[Role::All, Role::Projector])
    }

    /// Where a process listens: host and port.
    pub fn address(&self, roles: &[Role]) -> String {
        let port = roles
            .iter()
            .find_map(|role| self.ports.get(role))
            .copied()
            .unwrap_or_default();
        format!("127.0.0.1:{port}")
    }

    /// The key above all tenants.
    pub fn operator_key(&self) -> &str {
        &self.operator_key
    }

    /// The database of the read models, as a superuser.
    pub fn database(&self) -> String {
        self.engines.postgres_database(&self.name)
    }

    /// The key store's.
    pub fn keys_database(&self) -> String {
        self.engines.postgres_database(&keys(&self.name))
    }

    /// Its log on Kafka, beside its processes.
    ///
    /// # Errors
    /// The brokers do not answer, or hold another log.
    pub async fn open_log(&self) -> Result<Log, OpenError> {
        let store = Store::Kafka(KafkaConfig {
            brokers: self.engines.kafka.clone(),
            prefix: self.name.clone(),
            replication: None,
        });
        Log::open(LogConfig {
            store,
            ledger_partitions: None,
            visits_partitions: None,
            development: true,
        })
        .await
    }

    /// What names in engines begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the embedded log.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The folder where a process keeps what it decides on.
    pub fn state_folder(&self, role: Role) -> PathBuf {
        self.folder.path().join(format!("state-{}", role.label()))
    }

    /// A client of this installation: `annals ARGS`, with this key.
    pub fn annals(&self, key: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("ANNALS_URL", format!("http://{}", self.command_address()))
            .env("ANNALS_QUERY_URL", format!("http://{}", self.query_address()))
            .env(
                "ANNALS_PROJECTOR_URL",
                format!("http://{}", self.projector_address()),
            )
            .env("ANNALS_KEY", key)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Sends a command.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn command(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Value,
    ) -> anyhow::Result<Answer> {
        let address = self.command_address();
        self.command_at(&address, method, path, key, body).await
    }

    /// Sends a command to this process: host and port.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn command_at(
        &self,
        address: &str,
        method: Method,
        path: &str,
        key: &str,
        body: Value,
    ) -> anyhow::Result<Answer> {
        let request = self.http.request(method, format!("http://{address}{path}"));
        let request = if key.is_empty() {
            request
        } else {
            request.bearer_auth(key)
        };
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        answer(request).await
    }

    /// Asks; with a position, the answer has what that command wrote.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn query(&self, path: &str, key: &str, position: Option<&str>) -> anyhow::Result<Answer> {
        let request = self.http.get(format!("http://{}{path}", self.query_address()));
        answer(with(request, key, position)).await
    }

    /// Asks for statistics.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn stats(&self, key: &str, query: Value, position: Option<&str>) -> anyhow::Result<Answer> {
        let request = self
            .http
            .post(format!("http://{}/api/v1/stats/query", self.query_address()));
        answer(with(request, key, position).json(&query)).await
    }

    /// A tenant with a key of every scope and one site: the key.
    ///
    /// # Errors
    /// One of them is refused.
    pub async fn tenant(&self, name: &str, site: &str) -> anyhow::Result<String> {
        let operator = self.operator_key();
        let tenant = self
            .command(Method::POST, "/api/v1/tenants", operator, json!({ "name": name }))
            .await?;
        anyhow::ensure!(tenant.status == StatusCode::CREATED, "no tenant: {tenant:?}");
        let scopes = [
            "content:write",
            "downloads:write",
            "visits:write",
            "read",
            "admin",
        ];
        let key = json!({"tenant": tenant.body["id"], "scopes": scopes});
        let key = self.command(Method::POST, "/api/v1/keys", operator, key).await?;
        anyhow::ensure!(key.status == StatusCode::CREATED, "no key: {key:?}");
        let key = key.body["key"]
            .as_str()
            .context("a key without a text")?
            .to_owned();
        let site = self
            .command(Method::POST, "/api/v1/sites", &key, json!({ "domain": site }))
            .await?;
        anyhow::ensure!(site.status == StatusCode::CREATED, "no site: {site:?}");
        if !self.ports.contains_key(&Role::All) && !self.ports.contains_key(&Role::Query) {
            return Ok(key);
        }
        // The query side learns of key and site from its tables.
        let mut last = None;
        let known = wait::until(
            "the query side to know the key",
            Duration::from_secs(60),
            async || {
                let answer = self
                    .query("/api/v1/sites", &key, site.position.as_deref())
                    .await
                    .ok()?;
                let known = answer.status.is_success().then_some(());
                last = Some(answer);
                known
            },
        );
        known
            .await
            .with_context(|| format!("the last answer was {last:?}"))?;
        Ok(key)
    }

    /// Removes what it had in the engines.
    ///
    /// # Errors
    /// An engine does not answer.
    pub async fn erase(mut self) -> anyhow::Result<()> {
        for (_, mut child) in std::mem::take(&mut self.processes) {
            child.kill().await?;
        }
        for database in [self.name.clone(), keys(&self.name)] {
            self.engines.drop_database(&database).await?;
        }
        self.engines.drop_clickhouse(&self.name).await
    }
}

fn with(request: RequestBuilder, key: &str, position: Option<&str>) -> RequestBuilder {
    let request = if key.is_empty() {
        request
    } else {
        request.bearer_auth(key)
    };
    match position {
        Some(position) => request
            .header("annals-position", position)
            .header("prefer", "wait=10"),
        None => request,
    }
}

async fn answer(request: RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    let position = response
        .headers()
        .get("annals-position")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer {
        status,
        position,
        body,
    })
}

/// Below the range that the kernel takes ports from for outgoing connections, so that it is still free when the
/// process comes to it.
///
/// # Errors
/// None is free.
pub fn free_port() -> anyhow::Result<u16> {
    let random = || 10_000 + uuid::Uuid::new_v4().as_fields().1 % 10_000;
    std::iter::repeat_with(random)
        .take(100)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("found no free port between 10000 and 20000 on 127.0.0.1")
}

/// The name of the key store's database.
fn keys(name: &str) -> String {
    format!("{name}_keys")
}
