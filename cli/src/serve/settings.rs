//! What several roles are told: the log, the key store, ClickHouse.

use std::path::PathBuf;

use anyhow::Context as _;
use event_log::{KafkaConfig, LogConfig, Store};
use key_store::MasterKey;
use service::telemetry::Environment;

/// Where the log is.
#[derive(Debug, clap::Args)]
pub(super) struct LogSettings {
    /// Which log: embedded in this process, or Kafka.
    #[arg(long, env = "ANNALS_LOG", value_enum, default_value_t = Which::Embedded)]
    log: Which,
    /// Folder of the embedded log.
    #[arg(long, env = "ANNALS_LOG_DIR", default_value = "annals-log")]
    log_dir: PathBuf,
    /// Kafka's bootstrap servers, separated by commas.
    #[arg(long, env = "ANNALS_KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    /// What the names of Kafka's topics begin with.
    #[arg(long, env = "ANNALS_KAFKA_PREFIX", default_value = "annals")]
    kafka_prefix: String,
    /// Replicas of topics that are made; 1 in development, else 3.
    #[arg(long, env = "ANNALS_KAFKA_REPLICATION")]
    kafka_replication: Option<i32>,
    /// Partitions of the ledger, chosen once, at the first start (4).
    #[arg(long, env = "ANNALS_LEDGER_PARTITIONS")]
    ledger_partitions: Option<u32>,
    /// Partitions of the visits, chosen once, at the first start (4).
    #[arg(long, env = "ANNALS_VISITS_PARTITIONS")]
    visits_partitions: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Embedded,
    Kafka,
}

impl LogSettings {
    /// Whether it lives in one process.
    pub(super) fn is_embedded(&self) -> bool {
        self.log == Which::Embedded
    }

    /// As the log takes it.
    ///
    /// # Errors
    /// Kafka without brokers.
    pub(super) fn config(self, environment: Environment) -> anyhow::Result<LogConfig> {
        let store = match self.log {
            Which::Embedded => Store::Embedded { dir: self.log_dir },
            Which::Kafka => Store::Kafka(KafkaConfig {
                brokers: self
                    .kafka_brokers
                    .context("ANNALS_KAFKA_BROKERS is not set, and ANNALS_LOG=kafka needs it")?,
                prefix: self.kafka_prefix,
                replication: self.kafka_replication,
            }),
        };
        Ok(LogConfig {
            store,
            ledger_partitions: self.ledger_partitions,
            visits_partitions: self.visits_partitions,
            development: environment == Environment::Development,
        })
    }
}

/// What must be destroyable and so is not in the log.
#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    /// PostgreSQL for keys and salts, best a database of its own.
    #[arg(long, env = "ANNALS_KEYSTORE_URL", hide_env_values = true)]
    pub(super) keystore_url: String,
    /// What keys and salts are wrapped with: 64 hex digits, from `openssl rand -hex 32`.
    #[arg(long, env = "ANNALS_MASTER_KEY", hide_env_values = true)]
    master_key: String,
}

impl Keys {
    /// The master key.
    ///
    /// # Errors
    /// It is not 64 hex digits; the text does not repeat it.
    pub(super) fn master(&self) -> anyhow::Result<MasterKey> {
        self.master_key
            .parse()
            .context("ANNALS_MASTER_KEY cannot be read")
    }
}

/// What names of databases may begin with. Analysts may read what begins with the names of their views, whatever comes
/// behind: no other database may be called so.
fn clickhouse_prefix(text: &str) -> Result<String, String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let theirs = ["live", "visits_at", "content_facts_at"]
        .iter()
        .any(|name| text.starts_with(name));
    match (plain, theirs) {
        (true, false) => Ok(text.to_owned()),
        (false, _) => Err("expected letters, digits and underscores".to_owned()),
        (true, true) => Err(
            "must not begin like the views that analysts may read (live, visits_at, content_facts_at)"
                .to_owned(),
        ),
    }
}

/// ClickHouse, for who writes and who reads.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClickHouse {
    /// ClickHouse's HTTP interface.
    #[arg(long, env = "ANNALS_CLICKHOUSE_URL", default_value = "http://127.0.0.1:8123")]
    pub(super) clickhouse_url: String,
    /// What the names of ClickHouse's databases begin with; for several installations on one engine.
    #[arg(long, env = "ANNALS_CLICKHOUSE_PREFIX", default_value = "", value_parser = clickhouse_prefix)]
    pub(super) clickhouse_prefix: String,
}
