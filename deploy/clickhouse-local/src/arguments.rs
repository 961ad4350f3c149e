//! What the launcher is told: flags for places and ports, the environment for passwords.

use std::path::PathBuf;

use anyhow::Context as _;

/// Serve ClickHouse's HTTP interface on 127.0.0.1 from the engine library.
///
/// Passwords come from the environment, because arguments can be read by every user of the machine:
/// ANNALS_CLICKHOUSE_PASSWORD (annals_writer), ANNALS_CLICKHOUSE_READER_PASSWORD (annals_reader) and
/// ANNALS_CLICKHOUSE_ANALYST_PASSWORD (annals_analyst).
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// The engine library, libchdb.so; `deploy/local/engines install` fetches it.
    #[arg(long, env = "ANNALS_CLICKHOUSE_LIBRARY")]
    pub(crate) library: PathBuf,
    /// The folder for the rows and the written configuration; made when missing.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The port of the HTTP interface on 127.0.0.1.
    #[arg(long)]
    pub(crate) http_port: u16,
}

/// Passwords of the engine's users, in the clear in this process only.
pub(crate) struct Passwords {
    pub(crate) writer: String,
    pub(crate) reader: String,
    pub(crate) analyst: String,
    /// Of the launcher's own user: new and random at every start, kept nowhere.
    pub(crate) launcher: String,
}

impl Passwords {
    /// Reads the three passwords; a missing or empty one is an error that names its variable.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let read = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|password| !password.is_empty())
                .with_context(|| format!("{name} is not set: the engine takes no user without a password"))
        };
        Ok(Self {
            writer: read("ANNALS_CLICKHOUSE_PASSWORD")?,
            reader: read("ANNALS_CLICKHOUSE_READER_PASSWORD")?,
            analyst: read("ANNALS_CLICKHOUSE_ANALYST_PASSWORD")?,
            launcher: hex::encode(rand::random::<[u8; 32]>()),
        })
    }
}
