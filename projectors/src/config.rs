//! The configuration of the projectors, from the environment and flags.

use std::time::Duration;

use clap::Args;
use read_models::clickhouse;

use crate::run::Dependencies;

/// Where the read models are, and how much a projector may hold up.
#[derive(Clone, Args)]
#[group(skip)]
pub struct Config {
    /// PostgreSQL as the owner of the read models: migrations and projectors.
    #[arg(long = "postgres-url", env = "ANNALS_POSTGRES_URL", hide_env_values = true)]
    pub postgres_url: String,
    /// PostgreSQL as the role of the query API, which is given SELECT; made when it is missing.
    #[arg(
        id = "projectors_reader_url",
        long = "postgres-reader-grant-url",
        env = "ANNALS_POSTGRES_READER_URL",
        hide_env_values = true
    )]
    pub postgres_reader_url: Option<String>,
    /// ClickHouse's user that may create databases and insert.
    #[arg(long, env = "ANNALS_CLICKHOUSE_USER", default_value = "annals_writer")]
    pub clickhouse_user: String,
    /// Its password.
    #[arg(
        long,
        env = "ANNALS_CLICKHOUSE_PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    pub clickhouse_password: String,
    /// A write to ClickHouse that is not answered after so many seconds is given up: what became of it is looked up.
    #[arg(long, env = "ANNALS_CLICKHOUSE_WRITE_SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub clickhouse_write_seconds: u64,
    /// Aggregates of one projection that may be parked; one more stops the partition.
    #[arg(long = "parking-limit", env = "ANNALS_PARKING_LIMIT", default_value_t = 1_000)]
    pub parking_limit: usize,
    /// Hours for which a generation is kept, and kept up to date, after another one took its place; 0 for ever.
    #[arg(long, env = "ANNALS_KEEP_GENERATIONS_HOURS", default_value_t = 168)]
    pub keep_generations_hours: u32,
    /// Seconds after which the analysts' views are looked at again: one that somebody has replaced is made anew.
    #[arg(long, env = "ANNALS_VIEWS_EVERY_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub views_every_seconds: u64,
    /// Events of the log, and rows of the tables, that verification in the background may read a second; 0: nothing is
    /// verified unasked.
    #[arg(long, env = "ANNALS_VERIFY_RATE", default_value_t = 2_000)]
    pub verify_rate: u32,
    /// Seconds between two slices of one projection that are verified in the background, at least.
    #[arg(long, env = "ANNALS_VERIFY_EVERY_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub verify_every_seconds: u64,
    /// An operator's key of the directory counts only while the directory's tables were complete within so many seconds:
    /// a revocation may be among what they lack.
    #[arg(
        id = "projectors_keys_unconfirmed_seconds",
        long = "operator-keys-unconfirmed-seconds",
        env = "ANNALS_KEYS_UNCONFIRMED_SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(15..=86_400)
    )]
    pub keys_unconfirmed_seconds: u64,
}

impl Config {
    /// ClickHouse as who may create databases and insert.
    pub(crate) fn clickhouse(&self, dependencies: &Dependencies) -> clickhouse::Config {
        clickhouse::Config {
            url: dependencies.clickhouse_url.clone(),
            user: self.clickhouse_user.clone(),
            password: self.clickhouse_password.clone(),
            prefix: dependencies.clickhouse_prefix.clone(),
            limits: clickhouse::Limits {
                write: Duration::from_secs(self.clickhouse_write_seconds),
                ..clickhouse::Limits::default()
            },
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("parking_limit", &self.parking_limit)
            .finish_non_exhaustive()
    }
}
