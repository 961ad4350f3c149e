//! Connecting, and the installation's own secret.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use events::ImportId;
use sqlx::{PgPool, Row, migrate::MigrateError, postgres::PgPoolOptions};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    ImportSalt, MasterKey,
    salt::{CACHED, Mortal},
    secret::random,
};

/// The key store. Clones share one pool and one memory.
#[derive(Clone)]
pub struct KeyStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) pool: PgPool,
    pub(crate) master: MasterKey,
    pub(crate) day_salts: moka::future::Cache<i64, Mortal>,
    pub(crate) import_salts: moka::future::Cache<ImportId, ImportSalt>,
    secret: Zeroizing<[u8; 32]>,
}

/// Why the key store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No connection, or one that may do too little.
    #[error("cannot open the key store's database")]
    Database(#[from] sqlx::Error),
    /// Tables of another release, or without the right to make them.
    #[error("cannot bring the key store's tables up to date")]
    Migrate(#[from] MigrateError),
    /// The tables were made with another master key.
    #[error("the master key is not the one that this key store was made with")]
    WrongMasterKey,
}

impl ConnectError {
    /// Whether it may be otherwise in a while: the database is away, or only just begins. A wrong password or a
    /// database that is not there does not pass.
    pub fn may_pass(&self) -> bool {
        let error = match self {
            Self::Database(error) | Self::Migrate(MigrateError::Execute(error)) => error,
            Self::Migrate(_) | Self::WrongMasterKey => return false,
        };
        // Classes of SQLSTATE: 08 connection, 53 resources, 57P a server that begins or ends.
        let code = error.as_database_error().and_then(|error| error.code());
        matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
            || code.is_some_and(|code| ["08", "53", "57P"].iter().any(|class| code.starts_with(class)))
    }
}

/// Why the key store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyStoreError {
    /// The database did not do it.
    #[error("the key store's database failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// A row was changed, or wrapped with another master key.
    #[error("the key store's secret {0:?} does not open with the master key")]
    Unopened(String),
    /// The key was destroyed: nothing is sealed for this subject any more.
    #[error("subject {0} was erased, so nothing can be sealed for it")]
    Erased(Uuid),
    /// A sealed field that no key store of ours made.
    #[error("a sealed field is not of a form that can be opened: {0}")]
    Malformed(&'static str),
}

impl From<sqlx::Error> for KeyStoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl KeyStoreError {
    /// As one of several that waited for the same answer got it.
    pub(crate) fn shared(error: Arc<Self>) -> Self {
        (*error).clone()
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStore(..)")
    }
}

/// Lets a cached salt die with its row.
struct RestOfLife;

impl moka::Expiry<i64, Mortal> for RestOfLife {
    fn expire_after_create(&self, _: &i64, (_, life): &Mortal, _: Instant) -> Option<Duration> {
        Some((*life).min(CACHED))
    }
}

impl KeyStore {
    /// Connects, brings the tables of schema `keystore` up to date, and makes the installation's secret on
    /// the first start.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(url: &str, master: MasterKey) -> Result<Self, ConnectError> {
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect(url)
            .await?;
        let mut migrator = sqlx::migrate!();
        migrator.create_schema("keystore");
        migrator.dangerous_set_table_name("keystore._sqlx_migrations");
        migrator.run(&pool).await?;
        let secret = installation_secret(&pool, &master).await?;
        let day_salts = moka::future::Cache::builder()
            .max_capacity(1024)
            .expire_after(RestOfLife)
            .build();
        let import_salts = moka::future::Cache::builder()
            .max_capacity(1024)
            .time_to_live(CACHED)
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                master,
                day_salts,
                import_salts,
                secret,
            }),
        })
    }

    /// A hash that only this installation can make: BLAKE3, keyed by its secret, of the parts with their
    /// lengths; the first 16 bytes. For idempotency keys and requests, whose text must not stand in the log.
    pub fn keyed_hash(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.inner.secret);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        hash
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), KeyStoreError> {
        sqlx::query("SELECT 1").execute(&self.inner.pool).await?;
        Ok(())
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }
}

const SECRET: &str = "installation";

async fn installation_secret(pool: &PgPool, master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, ConnectError> {
    sqlx::query("INSERT INTO keystore.installation (wrapped) VALUES ($1) ON CONFLICT (one) DO NOTHING")
        .bind(master.wrap(SECRET, &random::<32>()[..]))
        .execute(pool)
        .await?;
    let row = sqlx::query("SELECT wrapped FROM keystore.installation")
        .fetch_one(pool)
        .await?;
    master
        .unwrap(SECRET, row.try_get("wrapped")?)
        .map_err(|_| ConnectError::WrongMasterKey)
}
