//! The read side's dependencies, and running it as a process of its own.

use std::{sync::Arc, time::Duration};

use read_models::{Progress, Projection, Reader, clickhouse, progress::Filling};
use service::{Health, health::Reporter, places::Places};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Config,
    cache::Cache,
    caller::KnownKey,
    content::{Outcome, Rendered},
    error::StartError,
    page::Page,
    site::Site,
    turns::Turns,
};

/// So many questions are put to ClickHouse at a time; the others wait for their turn.
const STATS_AT_A_TIME: usize = 16;
/// And so many of one tenant: a dashboard asks about as many at once.
const STATS_OF_A_TENANT: usize = 8;
/// So many searches at a time, of which one tenant's pieces have two: they take what reading needs.
const SEARCHES_AT_A_TIME: usize = 4;
const SEARCHES_OF_A_TENANT: usize = 2;
/// So many lists of content that are no searches are read at a time, of which one tenant's have four: a list in an order
/// without an index reads all of a site, and others need connections, too.
const LISTS_AT_A_TIME: usize = 6;
const LISTS_OF_A_TENANT: usize = 4;
/// So many long bodies are rendered at a time, of which one tenant's pieces have two: they take a processor each.
const RENDERED_AT_A_TIME: usize = 4;
const RENDERED_OF_A_TENANT: usize = 2;
/// So many views are exported at a time, of different tenants: each may take a gigabyte of ClickHouse's memory.
const EXPORTS_AT_A_TIME: usize = 2;
/// So many requests with an unknown key may wait for it to become known; the others are refused at once.
const KEYS_AWAITED: usize = 64;

/// What other processes are told as well, so it is read from the environment in one place.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// The first operator key: any text of at least 16 characters.
    pub operator_key: Option<String>,
    /// ClickHouse's HTTP interface.
    pub clickhouse_url: String,
    /// Goes before the names of ClickHouse's databases; empty unless installations share a server.
    pub clickhouse_prefix: String,
}

/// The read side: everything that its routes need. Cheap to clone.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub tables: Reader,
    pub clickhouse: clickhouse::Reader,
    pub operator_key: Option<String>,
    pub keys: Cache<String, Option<Arc<KnownKey>>>,
    pub awaited_keys: Semaphore,
    /// For so long a key is believed after the directory was last complete.
    pub keys_unconfirmed: Duration,
    /// By domain; none where nobody has it.
    pub sites: Cache<String, Option<Arc<Site>>>,
    /// By tenant and id.
    pub sites_by_id: Cache<(Uuid, Uuid), Option<Arc<Site>>>,
    /// By the path of the request.
    pub slugs: Cache<String, Outcome>,
    /// By tenant and id.
    pub pieces: Cache<(Uuid, Uuid), Option<Arc<Rendered>>>,
    /// By whose list it is and the query as it came.
    pub lists: Cache<(Option<Uuid>, String), Page>,
    pub stats: Arc<Turns>,
    pub searches: Arc<Turns>,
    pub listings: Arc<Turns>,
    pub rendering: Arc<Turns>,
    pub exports: Arc<Semaphore>,
    /// One for each tenant, and one for operators, which counts beside those of tenants.
    pub exports_of: Arc<Places<Option<Uuid>>>,
    /// How long an export may take.
    pub export_time: Duration,
}

impl App {
    /// Prepares connections; the first question opens them, so the read side starts before its databases.
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: &Config, dependencies: Dependencies) -> Result<Self, StartError> {
        let Dependencies {
            operator_key,
            clickhouse_url,
            clickhouse_prefix,
        } = dependencies;
        if let Some(key) = &operator_key
            && key.chars().count() < 16
        {
            return Err(StartError::OperatorKey(key.chars().count()));
        }
        let clickhouse = clickhouse::Reader::new(&clickhouse::Config {
            url: clickhouse_url,
            user: config.clickhouse_reader_user.clone(),
            password: config.clickhouse_reader_password.clone(),
            prefix: clickhouse_prefix,
            limits: clickhouse::Limits {
                query: Duration::from_secs(config.clickhouse_query_seconds),
                ..clickhouse::Limits::default()
            },
        });
        let bytes = config.query_cache_mib << 20;
        Ok(Self(Arc::new(Inner {
            tables: Reader::connect(&config.postgres_reader_url, config.reader_connections)?,
            clickhouse,
            operator_key,
            keys: Cache::new("keys", bytes / 16, |key, _| key.len() + 200),
            awaited_keys: Semaphore::new(KEYS_AWAITED),
            keys_unconfirmed: Duration::from_secs(config.keys_unconfirmed_seconds),
            sites: Cache::new("sites", bytes / 16, |domain, _| domain.len() + 300),
            sites_by_id: Cache::new("sites_by_id", bytes / 16, |_, _| 300),
            slugs: Cache::new("slugs", bytes * 5 / 16, |path, outcome| {
                path.len() + outcome.size()
            }),
            pieces: Cache::new("pieces", bytes * 5 / 16, |_, piece| {
                piece.as_ref().map_or(0, |it| it.page.size())
            }),
            lists: Cache::new("lists", bytes * 3 / 16, |(_, query), list| {
                query.len() + list.size()
            }),
            searches: Turns::new(SEARCHES_AT_A_TIME, SEARCHES_OF_A_TENANT),
            listings: Turns::new(LISTS_AT_A_TIME, LISTS_OF_A_TENANT),
            stats: Turns::new(STATS_AT_A_TIME, STATS_OF_A_TENANT),
            rendering: Turns::new(RENDERED_AT_A_TIME, RENDERED_OF_A_TENANT),
            exports: Arc::new(Semaphore::new(EXPORTS_AT_A_TIME)),
            exports_of: Places::new(1),
            export_time: Duration::from_secs(config.export_seconds),
        })))
    }

    /// How far the projections have come.
    pub(crate) fn progress(&self) -> &Progress {
        self.0.tables.progress()
    }

    /// Reports the health of what the read side needs, until `shutdown`. Spawned by whoever serves it.
    pub async fn watch(self, health: Health, shutdown: CancellationToken) {
        let watching = self.watch_parts(&health, shutdown);
        health.clone().vital("the read side", watching).await;
    }

    async fn watch_parts(&self, health: &Health, shutdown: CancellationToken) {
        let (tables, clickhouse) = (health.register("tables"), health.register("clickhouse"));
        let keys = health.register("keys");
        // The tables are looked at in memory: often until they are there, so that a start is not waited for.
        let look_at_tables = async {
            loop {
                let pause = if self.look_at_tables(&tables) { 1_000 } else { 20 };
                self.look_at_keys(&keys);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        };
        let look_at_clickhouse = async {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                self.look_at_clickhouse(&clickhouse).await;
            }
        };
        let look = async { tokio::join!(look_at_tables, look_at_clickhouse, self.progress().watch()) };
        tokio::select! {
            ((), (), ()) = look => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Whether they can be asked.
    fn look_at_tables(&self, tables: &Reporter) -> bool {
        let progress = self.progress();
        let waiting: Vec<_> = Projection::ALL
            .into_iter()
            .filter(|it| progress.live(*it).is_none())
            .map(|it| match progress.filling(it) {
                Some(Filling { records, of }) => format!("{it} ({records} of {of} records)"),
                None => it.to_string(),
            })
            .collect();
        match (progress.connected(), waiting.as_slice()) {
            (false, _) => tables.down("PostgreSQL does not answer"),
            (true, []) => tables.ok(),
            (true, waiting) => tables.degraded(format!(
                "not filled from the log yet, and not answered from: {}",
                waiting.join(", ")
            )),
        }
        progress.connected() && waiting.is_empty()
    }

    /// Whether keys count.
    fn look_at_keys(&self, keys: &Reporter) {
        if self.keys_count() {
            keys.ok();
        } else {
            keys.degraded(format!(
                "whoever shows a key is refused: for more than {} s nothing has been heard of the directory's tables having \
                 all of the log, and a revocation may be among what they lack; look at the projector of the directory",
                self.0.keys_unconfirmed.as_secs()
            ));
        }
    }

    async fn look_at_clickhouse(&self, clickhouse: &Reporter) {
        match tokio::time::timeout(Duration::from_secs(5), self.0.clickhouse.ping()).await {
            Ok(Ok(())) => clickhouse.ok(),
            Ok(Err(_)) | Err(_) => clickhouse.degraded("ClickHouse does not answer: no statistics"),
        }
    }
}

/// Serves the read side by itself on this listener, until `shutdown`.
///
/// # Errors
/// A configuration that cannot work, a server that fails.
pub async fn run(
    listener: TcpListener,
    config: Config,
    dependencies: Dependencies,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let app = App::new(&config, dependencies)?;
    let health = Health::new();
    tokio::spawn(app.clone().watch(health.clone(), shutdown.clone()));
    tokio::spawn(health.clone().end_after_failure(shutdown.clone()));
    let routes = crate::router(app)
        .merge(crate::docs(Vec::new()))
        .merge(health.routes());
    service::serve(listener, service::finish(routes), shutdown).await?;
    health
        .failure()
        .map_or(Ok(()), |why| Err(StartError::Failed(why)))
}
