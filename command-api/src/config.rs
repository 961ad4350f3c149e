//! What the write side is told from outside.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::Args;
use event_log::{Offset, Partition};
use ipnet::IpNet;
use url::Url;

/// Configuration of the command API. Every field is a flag and an environment variable.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
    /// The operator's key: whoever shows it makes tenants and keys. Any text of at least 16 characters. There is one, and
    /// it is configured, not issued: without it nobody is an operator.
    #[arg(long, env = "ANNALS_OPERATOR_KEY", hide_env_values = true, value_parser = operator_key)]
    pub operator_key: Option<String>,

    /// A key is believed for so many seconds after this process was last sure that it knows the whole directory; then it
    /// asks the log first, and answers 503 while the log does not say: a revocation may be among what it lacks.
    #[arg(long, env = "ANNALS_KEYS_CONFIRMED_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub keys_confirmed_seconds: u64,

    /// Networks (CIDR, comma-separated) of proxies whose `X-Forwarded-For` is believed. From anyone
    /// else the header is ignored and the connection's own address counts.
    #[arg(long, env = "ANNALS_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,

    /// Lets downloads point at private and local addresses.
    #[arg(long, env = "ANNALS_ALLOW_PRIVATE_DOWNLOADS", default_value_t = false)]
    pub allow_private_downloads: bool,

    /// How many commands may wait for one partition before further ones are turned away with 503.
    #[arg(long, env = "ANNALS_WAITING_COMMANDS", default_value = "1024")]
    pub waiting_commands: NonZeroUsize,

    /// How many requests with visits may wait for the log before further ones are turned away with 503.
    #[arg(long, env = "ANNALS_WAITING_VISITS", default_value = "4096")]
    pub waiting_visits: NonZeroUsize,

    /// Where the other processes of the installation reach this one: `http://HOST:PORT`; its listener's address when
    /// absent. Commands that arrive elsewhere are forwarded there.
    #[arg(long, env = "ANNALS_ADVERTISE", value_parser = advertised)]
    pub advertise: Option<Url>,

    /// How long a process that is gone without a word keeps its partitions before others take them over. Brokers
    /// allow no less than 6 as they come (`group.min.session.timeout.ms`); a process that is paused or cut off for
    /// longer loses its partitions, which costs a takeover and nothing else.
    #[arg(long, env = "ANNALS_SESSION_SECONDS", default_value = "6")]
    pub session_seconds: NonZeroU32,

    /// After losing a partition to another process, it is claimed again after about so many seconds, then after
    /// twice as many, and so on up to thirty times as many: two processes that both believe it theirs do not claim
    /// back and forth, and a partition whose new owner died is not left alone for long.
    #[arg(long, env = "ANNALS_RECLAIM_SECONDS", default_value = "10")]
    pub reclaim_seconds: NonZeroU32,

    /// Folder for the state that decisions are taken on: it makes a start short, and may be lost. Each process has
    /// its own. Without it, a folder for this run alone: every start reads the whole ledger.
    #[arg(long, env = "ANNALS_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Memory for the part of that state that is used often, in MiB; the rest is read from the folder.
    #[arg(long, env = "ANNALS_STATE_CACHE_MIB", default_value = "32")]
    pub state_cache_mib: NonZeroU32,

    /// Hours for which an Idempotency-Key gives the first answer again, 1 to 8760 (a year). The same for all processes:
    /// whichever serves a partition decides by its own. After a change the decision state is made anew from the log,
    /// so the next start reads all of it.
    #[arg(long, env = "ANNALS_IDEMPOTENCY_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=8_760))]
    pub idempotency_hours: u16,

    /// Where snapshots of that state are kept for processes that have no such folder, or another one's: a new machine
    /// starts from there instead of reading the whole ledger. `file:///FOLDER`, or `s3://BUCKET/PREFIX` with
    /// credentials, region and endpoint in the usual variables (`AWS_ACCESS_KEY_ID` and so on). Without it there are none.
    #[arg(long, env = "ANNALS_SNAPSHOTS")]
    pub snapshots: Option<Url>,

    /// After how many commits of a partition the next snapshot is written, and how far behind the last one a
    /// process' own folder may be and still be preferred.
    #[arg(long, env = "ANNALS_SNAPSHOT_COMMITS", default_value = "100000")]
    pub snapshot_commits: NonZeroU32,

    /// Damage of the log that a person has looked at and goes on over, such as `ledger/3@1234` (partition and offset),
    /// comma-separated. Anything else that no writer makes where it stands keeps its partition from being served.
    #[arg(long, env = "ANNALS_ACCEPT_DAMAGE", default_value = "", hide_default_value = true, value_parser = places)]
    pub accept_damage: AcceptedDamage,

    /// How this process calls itself in its claims, for people who read the log.
    #[arg(long, env = "ANNALS_OWNER", default_value = "annals")]
    pub owner: String,
}

/// What other processes can be sent to.
fn advertised(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("no URL: {error}"))?;
    match url.scheme() {
        "http" if url.path() == "/" && url.query().is_none() && url.username().is_empty() => Ok(url),
        "http" => Err("expected only http://HOST:PORT".to_owned()),
        "https" => Err("https is not built in: give the address of the service itself".to_owned()),
        other => Err(format!("{other} is not http")),
    }
}

/// Partitions and offsets in them.
#[derive(Debug, Clone, Default)]
pub struct AcceptedDamage(pub Vec<(Partition, Offset)>);

/// None in an empty text.
fn places(text: &str) -> Result<AcceptedDamage, String> {
    let place = |text: &str| {
        let (partition, offset) = text.split_once('@')?;
        partition.parse().ok().zip(offset.parse().ok())
    };
    let places = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let places: Option<_> = places.map(place).collect();
    let wrong = || "expected PARTITION@OFFSET, such as ledger/3@1234".to_owned();
    places.map(AcceptedDamage).ok_or_else(wrong)
}

/// A short one could be guessed.
fn operator_key(text: &str) -> Result<String, String> {
    match text.trim() {
        key if key.len() >= 16 => Ok(key.to_owned()),
        _ => Err("an operator key has at least 16 characters".to_owned()),
    }
}

impl Config {
    /// The same, advertising the listener's address unless something else is configured.
    #[must_use]
    pub fn reached_at(mut self, listener: SocketAddr) -> Self {
        if self.advertise.is_none() {
            self.advertise = format!("http://{listener}").parse().ok();
        }
        self
    }
}

impl Default for Config {
    /// What an empty environment gives.
    #[expect(clippy::expect_used, reason = "6, 10, 32, 1024, 4096 and 100000 are not zero")]
    fn default() -> Self {
        Self {
            operator_key: None,
            keys_confirmed_seconds: 30,
            trusted_proxies: Vec::new(),
            allow_private_downloads: false,
            waiting_commands: NonZeroUsize::new(1024).expect("not zero"),
            waiting_visits: NonZeroUsize::new(4096).expect("not zero"),
            advertise: None,
            session_seconds: NonZeroU32::new(6).expect("not zero"),
            reclaim_seconds: NonZeroU32::new(10).expect("not zero"),
            state_dir: None,
            state_cache_mib: NonZeroU32::new(32).expect("not zero"),
            idempotency_hours: 24,
            snapshots: None,
            snapshot_commits: NonZeroU32::new(100_000).expect("not zero"),
            accept_damage: AcceptedDamage::default(),
            owner: "annals".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Config, clap::Error> {
        let command = Config::augment_args(Command::new("annals"));
        let matches = command.try_get_matches_from([&["annals"], arguments].concat())?;
        Config::from_arg_matches(&matches)
    }

    #[test]
    fn nothing_configured_is_the_default() {
        let (parsed, default) = (parsed(&[]).unwrap(), Config::default());
        assert_eq!(format!("{parsed:?}"), format!("{default:?}"));
    }

    #[test]
    fn a_wrong_value_names_the_setting_and_what_would_be_right() {
        let told = |arguments: &[&str]| parsed(arguments).unwrap_err().to_string();
        assert!(told(&["--operator-key", "hush"]).contains("at least 16 characters"));
        assert!(told(&["--trusted-proxies", "10.0.0.0/99"]).contains("--trusted-proxies"));
        assert!(told(&["--waiting-commands", "0"]).contains("--waiting-commands"));
        assert!(told(&["--idempotency-hours", "0"]).contains("1..=8760"));
        assert!(told(&["--idempotency-hours", "9000"]).contains("1..=8760"));
        assert!(told(&["--advertise", "https://a.example"]).contains("https is not built in"));
        assert!(told(&["--advertise", "http://a.example/x"]).contains("http://HOST:PORT"));
        assert!(told(&["--accept-damage", "ledger/3"]).contains("such as ledger/3@1234"));
        assert!(told(&["--advertise", "a.example:80"]).contains("is not http"));
    }
}
