//! What the read side is told from outside.

use clap::Args;

/// Configuration of the query API. Every field is a flag and an environment variable.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
    /// PostgreSQL, as a user that may only SELECT: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    #[arg(long, env = "ANNALS_POSTGRES_READER_URL", hide_env_values = true)]
    pub postgres_reader_url: String,

    /// Connections to PostgreSQL, for each generation that answers.
    #[arg(long, env = "ANNALS_READER_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub reader_connections: u32,

    /// ClickHouse's user that may only SELECT.
    #[arg(long, env = "ANNALS_CLICKHOUSE_READER_USER", default_value = "annals_reader")]
    pub clickhouse_reader_user: String,

    /// Its password.
    #[arg(
        long,
        env = "ANNALS_CLICKHOUSE_READER_PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    pub clickhouse_reader_password: String,

    /// A question to ClickHouse that is not answered after so many seconds is given up.
    #[arg(long, env = "ANNALS_CLICKHOUSE_QUERY_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub clickhouse_query_seconds: u64,

    /// An export of a view that is not finished after so many seconds is cut off, however slowly it is taken: it holds
    /// a transaction open. (One of which nothing is taken for a minute is cut off before.)
    #[arg(long, env = "ANNALS_EXPORT_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub export_seconds: u64,

    /// A key counts only while the directory's tables were complete within so many seconds: a revocation may be
    /// among what they lack. Then whoever shows a key is told to try again (503); published content, which needs
    /// none, is answered.
    #[arg(long, env = "ANNALS_KEYS_UNCONFIRMED_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(15..=86_400))]
    pub keys_unconfirmed_seconds: u64,

    /// Memory for answers that are asked for often, in MiB.
    #[arg(long, env = "ANNALS_QUERY_CACHE_MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=16384))]
    pub query_cache_mib: u64,
}
