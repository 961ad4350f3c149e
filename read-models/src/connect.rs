//! Connections: a [`Writer`] for migrations and projectors, a [`Reader`] that may only SELECT.
//!
//! Tables of a generation are named without their schema; a pool's search path says which one is meant.
//! So one text of a query, checked at compile time, serves every generation.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::Semaphore;

use crate::{Error, Progress, Projection, checkpoint::Clock};

/// How long a caller waits for a free connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// What the server does with writers that hang, so that none keeps others from a checkpoint without end: a transaction
/// whose process says nothing for so long is ended (a process that is frozen, or gone without a word), and so is the
/// waiting for a lock, with an error that is tried again. (One that is frozen in the midst of COPY, or while it waits
/// for ClickHouse, is ended by whoever takes over: `checkpoint/end_frozen.sql`. Where the network is at fault too, and
/// where an answer is not taken, TCP's own limits count.)
const LIMITS: [(&str, &str); 6] = [
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "10s"),
    ("tcp_user_timeout", "20s"),
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "2"),
];

/// What a connection is called whose transactions wait for another store: `checkpoint/end_frozen.sql` knows it by this.
pub(crate) fn waiting(projection: Projection, generation: i32) -> String {
    format!("annals projectors waiting {projection} {generation}")
}

/// Connections of one generation on which ranges are written ahead of their turn, beside the one whose turn it is: a
/// connection is one process of PostgreSQL, which uses one core.
const AHEAD: u32 = 3;

/// The owner's access: control tables, and [`Tables`] of each generation.
#[derive(Debug, Clone)]
pub struct Writer {
    options: PgConnectOptions,
    control: PgPool,
    hints: PgPool,
    /// Shared by all clones.
    clock: Arc<Mutex<Option<Clock>>>,
}

/// Access to the tables of one generation, for the projector that fills them.
#[derive(Debug, Clone)]
pub struct Tables {
    pub(crate) projection: Projection,
    pub(crate) generation: i32,
    pub(crate) pool: PgPool,
    /// For those who write ahead of their turn, and how many more may.
    pub(crate) ahead: PgPool,
    pub(crate) free: Arc<Semaphore>,
}

/// A SELECT-only access to whatever is live. Cheap to clone; one per process.
#[derive(Debug, Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    connections: u32,
    control: PgPool,
    progress: Progress,
    pools: Mutex<HashMap<(Projection, i32), PgPool>>,
}

/// The generation that answers one request, from its first query to its last.
#[derive(Debug, Clone)]
pub struct Snapshot {
    projection: Projection,
    generation: i32,
    pool: PgPool,
}

pub(crate) fn parse(url: &str) -> Result<PgConnectOptions, Error> {
    PgConnectOptions::from_str(url).map_err(|_| {
        Error::Configuration(
            "not a PostgreSQL URL: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE".into(),
        )
    })
}

impl Writer {
    /// Connects as the owner.
    ///
    /// # Errors
    /// A URL that cannot be read, or a database that cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = parse(url)?.application_name("annals projectors").options(LIMITS);
        let control = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.clone())
            .await?;
        let hints = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options.clone().options([("synchronous_commit", "off")]));
        Ok(Self {
            options,
            control,
            hints,
            clock: Arc::default(),
        })
    }

    /// The tables of a generation, with at most this many connections.
    ///
    /// They do not wait for the disk: rows and checkpoint are one transaction, so what a crash of the
    /// database takes away is folded again. The control tables do wait: ClickHouse cannot be rolled back.
    pub fn tables(&self, projection: Projection, generation: i32, connections: u32) -> Tables {
        self.tables_of(projection, generation, connections, self.options.clone())
    }

    /// The same for a writer whose transactions wait for another store: it may take that long.
    pub fn waiting_tables(
        &self,
        projection: Projection,
        generation: i32,
        connections: u32,
        longest: Duration,
    ) -> Tables {
        let longest = longest + Duration::from_secs(10);
        let limit = (
            "idle_in_transaction_session_timeout",
            format!("{}ms", longest.as_millis()),
        );
        // Whoever takes over does not wait as long: `checkpoint/end_frozen.sql` knows these by their name.
        let options = self
            .options
            .clone()
            .application_name(&waiting(projection, generation));
        self.tables_of(projection, generation, connections, options.options([limit]))
    }

    fn tables_of(
        &self,
        projection: Projection,
        generation: i32,
        connections: u32,
        options: PgConnectOptions,
    ) -> Tables {
        let options = options.options([
            ("search_path", format!("{},annals", projection.schema(generation))),
            ("synchronous_commit", "off".to_owned()),
        ]);
        let pool = |connections, options| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE)
                .connect_lazy_with(options)
        };
        Tables {
            projection,
            generation,
            pool: pool(connections, options.clone()),
            ahead: pool(AHEAD, options),
            free: Arc::new(Semaphore::new(AHEAD as usize)),
        }
    }

    /// For a connection of its own.
    pub(crate) const fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The pool of the control tables.
    pub(crate) const fn control(&self) -> &PgPool {
        &self.control
    }

    /// A pool for what need not survive a crash, such as where the log ended a second ago.
    pub(crate) const fn hints(&self) -> &PgPool {
        &self.hints
    }

    /// What is known of the database's clock.
    pub(crate) fn clock(&self) -> Option<Clock> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_clock(&self, clock: Clock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// Closes its connections.
    pub async fn close(&self) {
        self.control.close().await;
        self.hints.close().await;
    }
}

impl Tables {
    /// Of which projection.
    pub const fn projection(&self) -> Projection {
        self.projection
    }

    /// Which generation.
    pub const fn generation(&self) -> i32 {
        self.generation
    }
}

impl Reader {
    /// Prepares pools of at most `connections` each and begins to follow [`Progress`] in the background;
    /// connects when first used, so that a service starts before its database.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn connect(url: &str, connections: u32) -> Result<Self, Error> {
        // Every query may have another plan for other filters; planning costs far less than a wrong plan.
        let options = parse(url)?.application_name("annals query-api").options([
            ("default_transaction_read_only", "on"),
            ("plan_cache_mode", "force_custom_plan"),
            ("statement_timeout", "10s"),
        ]);
        // Three: one listens for ever, one reloads what it missed, one answers for the status page.
        let control = PgPoolOptions::new()
            .max_connections(3)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options.clone());
        let progress = Progress::follow(control.clone());
        let inner = Inner {
            options,
            connections,
            control,
            progress,
            pools: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// How far the projections have come, kept in memory.
    pub fn progress(&self) -> &Progress {
        &self.inner.progress
    }

    /// The generation of a PostgreSQL projection that answers now; asked once per request. No round trip.
    ///
    /// # Errors
    /// Before the first generation is live, and before the first contact with the database.
    pub fn live(&self, projection: Projection) -> Result<Snapshot, Error> {
        let generation = self
            .inner
            .progress
            .live(projection)
            .ok_or(Error::NotLive(projection))?;
        let mut pools = self.inner.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry((projection, generation)).or_insert_with(|| {
            let path = [("search_path", format!("{},annals", projection.schema(generation)))];
            PgPoolOptions::new()
                .max_connections(self.inner.connections)
                .acquire_timeout(ACQUIRE)
                .connect_lazy_with(self.inner.options.clone().options(path))
        });
        Ok(Snapshot {
            projection,
            generation,
            pool: pool.clone(),
        })
    }

    /// For a connection of its own.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.inner.options
    }

    /// The pool of the control tables.
    pub(crate) fn control(&self) -> &PgPool {
        &self.inner.control
    }
}

impl Snapshot {
    /// Of which projection.
    pub const fn projection(&self) -> Projection {
        self.projection
    }

    /// Which generation.
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }
}
