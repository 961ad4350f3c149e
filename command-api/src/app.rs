//! The write side put together: the log, the key store, the directory followed, one actor for each partition.
//!
//! Longer than a file should be: one type that every route has at hand, and what each may ask of it.

use std::{
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use axum::Router;
use event_log::{
    Log, Membership, Offset, Partition, Process, Snapshots, StateStores, Topic, ownership::Role,
};
use events::{
    ContentId, ImportId, PrincipalId, Sealed, TenantId, Timestamp,
    content::Piece,
    directory::{Domain, Rejection, Scope, Site},
    download::PrivateAddresses,
    import::Import,
};
use ipnet::IpNet;
use key_store::{ImportSalt, KeyStore, KeyStoreError, Salt};
use service::{Health, Position, health::Reporter, position::InvalidPosition};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use uuid::Uuid;

use crate::{
    Config,
    answer::Accepted,
    caller::{Caller, OperatorKey},
    command::Context,
    directory::Directory,
    ends::Ends,
    erasures::carry_out,
    error::Error,
    forward::{Forwarder, arrived::Arrived},
    history::History,
    partition::{
        Command, Handle, Settings, Standing, aside,
        idempotency::{Hash, Kept},
        ownership::Sharing,
    },
    recorder::{Imports, Recorder},
    routes,
    subscription::Subscriptions,
};

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;
const HOUR: Duration = Duration::from_secs(3600);
/// Imports' salts that are looked at together.
const LEFT_AT_A_TIME: u16 = 1_000;
/// How long a day's salt is kept at hand.
const AT_HAND: Duration = Duration::from_secs(5);
/// How long tasks may take to end after the last request was answered.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long the brokers may take to say which processes run.
const ASKING: Duration = Duration::from_secs(5);
/// How long others have to take partitions over before this process stops serving them.
const HANDOVER: Duration = Duration::from_secs(5);

/// What the write side stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, open.
    pub log: Log,
    /// The key store, connected.
    pub keys: KeyStore,
    /// Where its parts report how they do.
    pub health: Health,
    /// Where the state that decisions are taken on is kept on the disk.
    pub state: StateStores,
    /// Where snapshots of it are kept for other processes.
    pub snapshots: Option<Snapshots>,
}

/// The write side of one process. Cheap to clone; its tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    log: Log,
    keys: KeyStore,
    ends: Ends,
    directory: Directory,
    decides_directory: Handle,
    ledger: Vec<Handle>,
    sharing: Arc<Sharing>,
    /// Whether there may be other processes.
    is_shared: bool,
    forwarder: Forwarder,
    operator_key: Option<OperatorKey>,
    trusted_proxies: Vec<IpNet>,
    private_downloads: PrivateAddresses,
    recorder: Recorder,
    /// Day, until when it is kept, and salt.
    salt_at_hand: RwLock<Option<(i64, Instant, Salt)>>,
    imports: Imports,
    history: History,
    subscriptions: Subscriptions,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl App {
    /// Starts to follow the directory and to serve the partitions that are this process's. It answers at once; what
    /// is not served yet is 503 until it is: see [`App::ready`].
    pub fn start(deps: Deps, config: &Config) -> Self {
        let Deps {
            log,
            keys,
            health,
            state,
            snapshots,
        } = deps;
        crate::metrics::begin();
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let cache = u64::from(config.state_cache_mib.get()) * 1024 * 1024;
        let kept = Kept::hours(config.idempotency_hours);
        let remembered = Duration::from_secs(u64::from(config.idempotency_hours) * 3600);
        let ends = Ends::new(&log);
        let reporter = health.register("directory");
        let following = (reporter, &health);
        let believed = Duration::from_secs(config.keys_confirmed_seconds);
        let memory = (kept, believed);
        let directory = Directory::follow(log.clone(), ends.clone(), memory, following, stop.clone());
        let level = directory.feature_level();
        let settings = Settings {
            stores: state,
            kept,
            level: level.clone(),
            recent_bytes: cache / u64::from(log.partitions(Topic::Ledger) + 1),
            snapshots,
            snapshot_commits: config.snapshot_commits.get().into(),
            waiting: config.waiting_commands.get(),
            accept_damage: config.accept_damage.0.clone(),
            reclaim: Duration::from_secs(config.reclaim_seconds.get().into()),
            owner: format!("{}/{}", config.owner, Uuid::new_v4()),
        };
        let sharing = Arc::new(share(&log, config));
        let start = |partition: Partition| {
            let reporter = health.register(format!("commands {partition}"));
            Handle::start(
                log.clone(),
                partition,
                &settings,
                &sharing,
                (reporter, &health),
                &tasks,
            )
        };
        let private = config.allow_private_downloads;
        let erasing = carry_out(
            directory.clone(),
            keys.clone(),
            health.register("erasures"),
            stop.clone(),
        );
        tasks.spawn(health.clone().vital("the carrying out of erasures", erasing));
        let forgetting = forget_salts(keys.clone(), stop.clone());
        tasks.spawn(health.clone().vital("the forgetting of salts", forgetting));
        tasks.spawn(watch_log(log.clone(), health.register("log"), stop.clone()));
        let reporter = health.register("release");
        let watching = aside::watch(log.clone(), sharing.clone(), reporter, stop.clone());
        tasks.spawn(health.clone().vital("the watch for a newer release", watching));
        tasks.spawn(watch_membership(sharing.clone(), health.clone(), stop.clone()));
        let watching = watch_keys(keys.clone(), health.register("key store"), stop.clone());
        tasks.spawn(health.clone().vital("the watching of the key store", watching));
        let subscriptions = Subscriptions::new(
            log.clone(),
            (keys.clone(), ends.clone()),
            health.clone(),
            &tasks,
            stop.clone(),
        );
        let app = Self(Arc::new(Inner {
            recorder: Recorder::new(
                &log,
                level,
                (config.waiting_visits.get(), remembered),
                &health,
                &tasks,
            ),
            ends,
            directory,
            decides_directory: start(Partition::DIRECTORY),
            ledger: log.all(Topic::Ledger).map(start).collect(),
            is_shared: log.is_shared(),
            forwarder: Forwarder::new(config.waiting_commands.get()),
            sharing: sharing.clone(),
            operator_key: config.operator_key.as_deref().map(OperatorKey::new),
            trusted_proxies: config.trusted_proxies.clone(),
            private_downloads: if private {
                PrivateAddresses::Allowed
            } else {
                PrivateAddresses::Refused
            },
            log,
            keys,
            salt_at_hand: RwLock::default(),
            imports: Imports::default(),
            history: History::default(),
            subscriptions,
            tasks,
            _stop: stop.clone().drop_guard(),
        }));
        let forgetting = forget_imports(Arc::downgrade(&app.0), stop);
        let forgetting = health.vital("the forgetting of imports' salts", forgetting);
        app.0.tasks.spawn(forgetting);
        app
    }

    /// Waits until every partition is served, given up or known to be another process's, and the directory is known.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn ready(&self) -> Result<(), Error> {
        for partition in self.handles() {
            partition.settled().await;
        }
        self.0.directory.catch_up().await
    }

    /// Where a partition of the directory or the ledger is served; none, when there is no such partition.
    pub fn standing(&self, partition: Partition) -> Option<Standing> {
        self.handle(partition).map(Handle::standing)
    }

    /// Whether this process takes requests for a partition.
    pub(crate) fn is_open(&self, partition: Partition) -> bool {
        self.handle(partition).is_some_and(Handle::is_open)
    }

    fn handle(&self, partition: Partition) -> Option<&Handle> {
        match partition.topic {
            Topic::Directory => Some(&self.0.decides_directory),
            Topic::Ledger => self.0.ledger.get(usize::try_from(partition.index).ok()?),
            Topic::Visits => None,
        }
    }

    fn handles(&self) -> impl Iterator<Item = &Handle> {
        std::iter::once(&self.0.decides_directory).chain(&self.0.ledger)
    }

    /// Gives the partitions to the other processes, if there are any, while it goes on serving: each until the next
    /// owner has claimed it. To be called before the listener ends, because others forward until then.
    pub async fn hand_over(&self) {
        if self.0.is_shared {
            // The next owner goes on from here. Alone, all is written when all is answered.
            futures::future::join_all(self.handles().map(Handle::leave)).await;
        }
        if !self.0.sharing.membership.leave().await {
            return;
        }
        let given = async {
            for partition in self.handles() {
                partition.let_go().await;
            }
        };
        if tokio::time::timeout(HANDOVER, given).await.is_err() {
            tracing::warn!("stopping before every partition was taken over by another process");
        }
    }

    /// Stops: what has begun is answered, then the tasks end. Other clones must be dropped before.
    pub async fn stop(self) {
        let tasks = self.0.tasks.clone();
        drop(self);
        tasks.close();
        // While the log is away, what is under way has no answer, and its requests keep the tasks alive.
        if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
            tracing::warn!(
                "stopping with commands under way; the same Idempotency-Key tells what became of them"
            );
        }
    }

    /// Decides a command where it belongs, and says what its client hears.
    ///
    /// # Errors
    /// It was refused, or could not be done.
    pub async fn execute(&self, mut context: Context, command: Command) -> Result<Accepted, Error> {
        let (handle, partition) = match &command {
            Command::Directory(_) => (&self.0.decides_directory, Partition::DIRECTORY),
            Command::Tenant(_) => self.ledger(context.principal.tenant)?,
        };
        let arrived = context.arrived.take();
        if !handle.is_open() {
            return Err(self.elsewhere(partition, arrived.as_deref()).await);
        }
        if let Some(key) = context.key
            && self
                .used_elsewhere(&key, &command, context.principal.tenant, arrived.as_deref())
                .await?
        {
            return Err(Error::KeyReused);
        }
        let (answer, next) = match handle.ask(context, command).await {
            Err(Error::NotHere) => return Err(self.elsewhere(partition, arrived.as_deref()).await),
            asked => asked?,
        };
        if partition == Partition::DIRECTORY {
            // Whoever made a key uses it at once. When it takes too long, the first use looks for it.
            let _ = self.0.directory.reach(next).await;
        }
        Ok(Accepted {
            answer,
            position: self.position(partition, next),
        })
    }

    /// Whether a command of the other kind had this key: each partition knows its own only. The directory's are
    /// followed here anyway; a command of the directory, rare as it is, asks the tenant's partition.
    async fn used_elsewhere(
        &self,
        key: &Hash,
        command: &Command,
        tenant: TenantId,
        arrived: Option<&Arrived>,
    ) -> Result<bool, Error> {
        match command {
            Command::Directory(_) => {
                let (handle, partition) = self.ledger(tenant)?;
                match handle.used(tenant, *key).await {
                    Err(Error::NotHere) => self.used_at(partition, *key, arrived).await,
                    used => used,
                }
            }
            Command::Tenant(_) => Ok(self.0.directory.used(key)),
        }
    }

    /// How a piece stands now, what position that rests on, and in which partition.
    ///
    /// # Errors
    /// Its partition's owner has answered the whole request, or does not.
    pub async fn piece(&self, context: &Context, id: ContentId) -> Result<(Option<Piece>, Position), Error> {
        let tenant = context.principal.tenant;
        let (handle, partition) = self.ledger(tenant)?;
        match handle.piece(tenant, id).await {
            Err(Error::NotHere) => Err(self.elsewhere(partition, context.arrived.as_deref()).await),
            seen => seen.map(|(piece, next)| (piece, self.position(partition, next))),
        }
    }

    /// How an import stands now.
    ///
    /// # Errors
    /// Its partition's owner has answered the whole request, or does not.
    pub async fn import(&self, id: ImportId, arrived: &Arrived) -> Result<Import, Error> {
        let tenant = arrived.caller.principal().tenant;
        let (handle, partition) = self.ledger(tenant)?;
        match handle.import(tenant, id).await {
            Err(Error::NotHere) => Err(self
                .elsewhere(partition, Some(arrived).filter(|_| self.is_shared()))
                .await),
            seen => seen,
        }
    }

    /// The same, where its partition is served here.
    ///
    /// # Errors
    /// It is served elsewhere, or too many wait.
    pub async fn import_here(&self, tenant: TenantId, id: ImportId) -> Result<Import, Error> {
        let (handle, _) = self.ledger(tenant)?;
        match handle.import(tenant, id).await {
            Err(Error::NotHere) => Err(Error::Busy),
            seen => seen,
        }
    }

    /// Whether other processes may serve partitions of the same log.
    pub fn is_shared(&self) -> bool {
        self.0.is_shared
    }

    /// How partitions are shared with them.
    pub(crate) fn sharing(&self) -> &Sharing {
        &self.0.sharing
    }

    /// The way to them.
    pub(crate) fn forwarder(&self) -> &Forwarder {
        &self.0.forwarder
    }

    /// The partition that decides for a tenant.
    ///
    /// # Errors
    /// The log has no such partition: this cannot be.
    pub fn ledger(&self, tenant: TenantId) -> Result<(&Handle, Partition), Error> {
        let partition = self.0.log.ledger_partition(tenant);
        let handle = usize::try_from(partition.index)
            .ok()
            .and_then(|index| self.0.ledger.get(index));
        handle
            .map(|handle| (handle, partition))
            .ok_or(Error::NotServed("there is no such partition"))
    }

    /// Everything of a partition before `next`, for the client to pass on.
    pub fn position(&self, partition: Partition, next: u64) -> Position {
        Position::new(self.0.log.id().0).at(topic_of(partition.topic), partition.index, next)
    }

    /// Refuses a position of another log, or beyond the end of this one.
    ///
    /// # Errors
    /// 400; the log cannot be asked.
    pub async fn check(&self, position: &Position) -> Result<(), Error> {
        if position.log() != self.0.log.id().0 {
            return Err(Error::Problem(InvalidPosition::OtherLog.into()));
        }
        for (topic, index, next) in position.parts() {
            let topic = match topic {
                service::Topic::Directory => Topic::Directory,
                service::Topic::Ledger => Topic::Ledger,
                service::Topic::Visits => Topic::Visits,
            };
            let end = if index < self.0.log.partitions(topic) {
                self.0.ends.end(Partition { topic, index }).await?
            } else {
                0
            };
            if next > end {
                return Err(Error::Problem(InvalidPosition::BeyondEnd.into()));
            }
        }
        Ok(())
    }

    /// The tenant's site with this domain; another tenant's is as unknown as none.
    ///
    /// # Errors
    /// 422 when it is no domain, 404 when there is no such site; both name the field.
    pub async fn site_of(
        &self,
        tenant: TenantId,
        domain: &str,
        pointer: &'static str,
    ) -> Result<Site, Error> {
        let domain: Domain = domain.parse().map_err(|error| Error::field(pointer, error))?;
        let site = self
            .0
            .directory
            .site(domain.as_str())
            .await?
            .filter(|site| site.tenant == tenant);
        site.ok_or_else(|| Error::UnknownReference {
            what: "site",
            pointer: pointer.into(),
            detail: format!("this tenant has no site {domain}"),
        })
    }

    /// The tenant that a request is about: the caller's own; operators say which, by id or name.
    ///
    /// # Errors
    /// An operator did not say; there is no such tenant, or it is not the caller's.
    pub async fn tenant_for(&self, caller: &Caller, named: Option<&str>) -> Result<TenantId, Error> {
        let unknown = || Error::UnknownReference {
            what: "tenant",
            pointer: "/tenant".into(),
            detail: "there is no tenant of this id or name".to_owned(),
        };
        if caller.is_operator() {
            let named =
                named.ok_or_else(|| Error::field("/tenant", "operators must say whose: id or name"))?;
            return self.0.directory.tenant(named).await?.ok_or_else(unknown);
        }
        let own = caller.may(Scope::Admin)?.tenant;
        match named {
            None => Ok(own),
            Some(named) if self.0.directory.tenant(named).await? == Some(own) => Ok(own),
            Some(_) => Err(unknown()),
        }
    }

    /// Seals the name of a principal.
    ///
    /// # Errors
    /// The name is too long or of several lines; the key store cannot be reached.
    pub async fn seal_name(
        &self,
        tenant: TenantId,
        principal: PrincipalId,
        name: Option<&str>,
    ) -> Result<Option<Sealed>, Error> {
        let Some(name) = name else { return Ok(None) };
        let name = events::directory::Name::new(name).map_err(|error| Error::field("/name", error))?;
        match self.0.keys.seal(tenant, principal.uuid(), name.as_str()).await {
            Ok(sealed) => Ok(Some(sealed)),
            Err(KeyStoreError::Erased(_)) => Err(Rejection::PrincipalErased.into()),
            Err(error) => Err(Error::outside("sealing a name", error)),
        }
    }

    /// Destroys the key of a subject whose erasure is in the log. Doing it twice is as good as once.
    ///
    /// # Errors
    /// The key store cannot be reached.
    pub async fn destroy_subject(&self, tenant: TenantId, subject: PrincipalId) -> Result<(), Error> {
        let destroyed = self.0.keys.destroy_subjects(&[(tenant, subject.uuid())]).await;
        destroyed
            .map(|_| ())
            .map_err(|error| Error::outside("destroying a subject's key", error))
    }

    /// Destroys the salt of a completed import. Doing it twice is as good as once.
    ///
    /// # Errors
    /// The key store cannot be reached.
    pub async fn forget_import(&self, import: ImportId) -> Result<(), Error> {
        let destroyed = self.0.keys.destroy_import_salt(import).await;
        destroyed.map_err(|error| Error::outside("destroying an import's salt", error))
    }

    /// Destroys the salts of completed imports whose partition is served here and that were made so long ago: a process
    /// that died at the wrong moment, or a key store from a backup, has left them.
    ///
    /// # Errors
    /// The key store cannot be reached.
    pub async fn forget_completed(&self, age: Duration) -> Result<(), Error> {
        let mut after = None;
        loop {
            let some = self.0.keys.old_import_salts(age, after, LEFT_AT_A_TIME).await;
            let some = some.map_err(|error| Error::outside("looking for imports' salts", error))?;
            let Some((_, last)) = some.last() else {
                return Ok(());
            };
            after = Some(*last);
            for (tenant, import) in some {
                // Who does not serve it, or has much to do, leaves it to another, or to the next time.
                if matches!(self.import_here(tenant, import).await, Ok(Import::Completed(_))) {
                    tracing::info!(%import, "destroying a salt that was left behind");
                    self.forget_import(import).await?;
                }
            }
        }
    }

    /// The salt of the day of a visit. Today's is kept at hand for a few seconds: every hit asks for it.
    ///
    /// # Errors
    /// The key store cannot be reached.
    pub async fn day_salt(&self, time: Timestamp) -> Result<Salt, Error> {
        let day = time.micros().div_euclid(DAY_MICROS);
        let at_hand = {
            let salt = self.0.salt_at_hand.read().unwrap_or_else(PoisonError::into_inner);
            let fresh = salt
                .as_ref()
                .filter(|(known, until, _)| *known == day && *until > Instant::now());
            fresh.map(|(_, _, salt)| salt.clone())
        };
        if let Some(salt) = at_hand {
            return Ok(salt);
        }
        let salt = self.0.keys.day_salt(time).await;
        let salt = salt.map_err(|error| Error::outside("reading a day's salt", error))?;
        let until = Instant::now() + AT_HAND;
        *self
            .0
            .salt_at_hand
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some((day, until, salt.clone()));
        Ok(salt)
    }

    /// The salt of an import.
    ///
    /// # Errors
    /// The key store cannot be reached.
    pub async fn import_salt(&self, tenant: TenantId, import: ImportId) -> Result<ImportSalt, Error> {
        self.0
            .keys
            .import_salt(tenant, import)
            .await
            .map_err(|error| Error::outside("reading an import's salt", error))
    }

    /// Everything before these places, for the client to pass on.
    pub fn position_of(&self, places: &[(Partition, Offset)]) -> Position {
        let start = Position::new(self.0.log.id().0);
        places.iter().fold(start, |position, (partition, next)| {
            position.at(topic_of(partition.topic), partition.index, *next)
        })
    }

    /// The way into the log for visits.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Whose turn it is to bring lines of an import.
    pub fn imports(&self) -> &Imports {
        &self.0.imports
    }

    /// The directory followed.
    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The log, as operators read it.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// Where a tenant's events are given out.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.0.subscriptions
    }

    /// The processes that write or read the log now.
    ///
    /// # Errors
    /// The brokers do not say in time, or not all: somebody takes the command that asks.
    pub async fn processes(&self) -> Result<Vec<Process>, Error> {
        let asked = tokio::time::timeout(ASKING, self.0.log.processes()).await;
        let asked = asked.map_err(|_| Error::NotServed("the brokers do not say which processes run"))?;
        let processes = asked.map_err(|error| Error::outside("asking which processes run", error))?;
        if !processes.iter().any(|process| process.role == Role::Writer) {
            return Err(Error::NotServed(
                "the brokers know of no process that takes commands",
            ));
        }
        Ok(processes)
    }

    /// The key store.
    pub fn keys(&self) -> &KeyStore {
        &self.0.keys
    }

    /// The operator key of the configuration.
    pub fn operator_key(&self) -> Option<&OperatorKey> {
        self.0.operator_key.as_ref()
    }

    /// Whose `X-Forwarded-For` is believed.
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.0.trusted_proxies
    }

    /// Whether downloads may point at private addresses.
    pub fn private_downloads(&self) -> PrivateAddresses {
        self.0.private_downloads
    }
}

fn topic_of(topic: Topic) -> service::Topic {
    match topic {
        Topic::Directory => service::Topic::Directory,
        Topic::Ledger => service::Topic::Ledger,
        Topic::Visits => service::Topic::Visits,
    }
}

/// Says that nothing can be written any more, when that is so.
async fn watch_log(log: Log, reporter: Reporter, stop: CancellationToken) {
    reporter.ok();
    if let Some(why) = stop.run_until_cancelled(log.stopped()).await {
        tracing::error!(why, "the log takes nothing until this process is started anew");
        reporter.down("the log has stopped for good: see this process's log, then start it anew");
    }
}

/// Says whether the key store answers. Without it commands go on, but for names of people; visits do not.
async fn watch_keys(keys: KeyStore, reporter: Reporter, stop: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        match tokio::time::timeout(Duration::from_secs(5), keys.ping()).await {
            Ok(Ok(())) => reporter.ok(),
            Ok(Err(_)) | Err(_) => reporter.degraded("the key store does not answer: visits are refused"),
        }
    }
}

/// Destroys the salts of days that are 48 hours old.
async fn forget_salts(keys: KeyStore, stop: CancellationToken) {
    let mut hours = tokio::time::interval(HOUR);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hours.tick() => match keys.destroy_old_salts().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "destroyed the salts of past days"),
                Err(error) => {
                    tracing::warn!(error = %service::problem::chain(&error), "cannot destroy the salts of past days");
                }
            },
        }
    }
}

/// Destroys the salts of completed imports that were left behind, every hour.
async fn forget_imports(app: Weak<Inner>, stop: CancellationToken) {
    let mut hours = tokio::time::interval(HOUR);
    while stop.run_until_cancelled(hours.tick()).await.is_some() {
        let Some(app) = app.upgrade().map(App) else { return };
        if let Some(Err(error)) = stop.run_until_cancelled(app.forget_completed(HOUR)).await {
            tracing::warn!(error = %service::problem::chain(&error), "cannot look for imports' salts that were left behind");
        }
    }
}

/// A process that is assigned nothing any more ends, so that it is started anew.
async fn watch_membership(sharing: Arc<Sharing>, health: Health, stop: CancellationToken) {
    if stop
        .run_until_cancelled(sharing.membership.stuck())
        .await
        .is_some()
    {
        health.give_up("the sharing of partitions", "its client does not move any more");
    }
}

/// Serves the write side on a listener of its own until `shutdown`, then answers what has begun.
///
/// # Errors
/// The listener fails.
pub async fn run(
    listener: TcpListener,
    deps: Deps,
    config: Config,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let health = deps.health.clone();
    let app = App::start(deps, &config.reached_at(listener.local_addr()?));
    let routes = routes::router(app.clone()).merge(health.routes());
    serve(app, listener, service::finish(routes), shutdown).await
}

/// Serves these routes, among which are those of `app`, until `shutdown`; then hands its partitions over, answers what
/// has begun, and stops it. Other clones of it must be in the routes only.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    app: App,
    listener: TcpListener,
    routes: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listening = CancellationToken::new();
    let handing_over = async {
        shutdown.cancelled().await;
        app.hand_over().await;
        listening.cancel();
        std::future::pending().await
    };
    let served = tokio::select! {
        served = service::serve(listener, routes, listening.clone()) => served,
        served = handing_over => served,
    };
    app.stop().await;
    served
}

/// How this process takes part in the sharing of partitions.
fn share(log: &Log, config: &Config) -> Sharing {
    let session = Duration::from_secs(config.session_seconds.get().into());
    let membership = log.join(session).unwrap_or_else(|error| {
        tracing::error!(%error, "this process serves no partition");
        Membership::none()
    });
    let unspecified = |url: &&url::Url| matches!(url.host_str(), Some("0.0.0.0" | "[::]"));
    if log.is_shared() && config.advertise.as_ref().filter(unspecified).is_some() {
        tracing::warn!("other processes cannot reach this one: set ANNALS_ADVERTISE to http://HOST:PORT");
    }
    let url = config
        .advertise
        .as_ref()
        .map(|url| url.as_str().trim_end_matches('/').to_owned());
    Sharing {
        membership,
        owners: log.owners(),
        url,
        unserved: aside::Unserved::default(),
    }
}
