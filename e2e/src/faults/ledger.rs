//! The final log, as `schemas/history.py` derives it from an export: no code is shared with Annals.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

/// The admitted commits of each partition of the ledger, in their order.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By partition.
    pub partitions: BTreeMap<u32, Vec<Commit>>,
    /// The paths of all pages that were viewed, in all partitions of visits.
    pub viewed: BTreeSet<String>,
    /// Records that count for nothing, in all partitions.
    pub void: usize,
}

/// Everything of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Where it stands.
    pub offset: u64,
    /// At least one.
    pub events: Vec<Event>,
}

/// An event, as far as it concerns the checker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Such as `content.drafted.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was decided, by its writer's clock.
    pub time: DateTime<Utc>,
    /// Whose.
    pub tenant: Uuid,
    /// About what.
    pub subject: String,
    /// Of that, with this event.
    #[serde(rename = "aggregateversion")]
    pub version: Option<String>,
    /// What it says.
    pub data: Value,
}

#[derive(Deserialize)]
struct Line {
    offset: u64,
    #[serde(flatten)]
    event: Event,
}

#[derive(Deserialize)]
struct Summary {
    partition: String,
    void: Vec<u64>,
}

impl Event {
    /// Of its subject, with this event.
    pub fn version(&self) -> u64 {
        self.version
            .as_deref()
            .and_then(|version| version.parse().ok())
            .unwrap_or(0)
    }

    /// A text of its data.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

impl Ledger {
    /// Reads an export.
    ///
    /// # Errors
    /// `history.py` finds something that no writer leaves behind, or says what is not understood here.
    pub async fn read(export: &Path) -> anyhow::Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/history.py");
        let read = Command::new("python3")
            .arg(program)
            .arg(export)
            .arg("--commits")
            .output()
            .await?;
        let said = String::from_utf8_lossy(&read.stdout);
        let complaint = String::from_utf8_lossy(&read.stderr);
        anyhow::ensure!(
            read.status.success(),
            "{complaint}{}",
            said.lines().last().unwrap_or("")
        );
        Self::parse(&said)
    }

    /// Events of a partition come before the line about it.
    fn parse(said: &str) -> anyhow::Result<Self> {
        let (mut ledger, mut commits) = (Self::default(), Vec::<Commit>::new());
        for line in said.lines() {
            if let Ok(summary) = serde_json::from_str::<Summary>(line) {
                ledger.void += summary.void.len();
                let commits = std::mem::take(&mut commits);
                if let Some(partition) = summary.partition.strip_prefix("ledger/") {
                    ledger.partitions.insert(partition.parse()?, commits);
                } else if summary.partition.starts_with("visits/") {
                    let events = commits.iter().flat_map(|commit| &commit.events);
                    let paths = events.filter_map(|event| event.data["visit"]["pathname"].as_str());
                    ledger.viewed.extend(paths.map(str::to_owned));
                }
                continue;
            }
            let Line { offset, event } =
                serde_json::from_str(line).with_context(|| format!("history.py says {line}"))?;
            match commits.last_mut() {
                Some(commit) if commit.offset == offset => commit.events.push(event),
                Some(_) | None => commits.push(Commit {
                    offset,
                    events: vec![event],
                }),
            }
        }
        Ok(ledger)
    }
}
