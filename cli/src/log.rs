//! `annals log`: the log as people read it, whether it is in order, and taking it elsewhere.

mod export;
mod import;
mod verify;

use std::{
    fmt::{self, Write as _},
    io::{ErrorKind, Write as _},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use event_log::{LogConfig, Partition, Store};
use serde_json::Value;

use crate::client::{Client, ClientError, Connection, Request};

/// Read the log, verify it, take it elsewhere. Needs an operator's key, or a folder that no process has open.
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show the newest records, one line each, and every new one until interrupted.
    Tail {
        /// Only these partitions, such as ledger/0; otherwise all.
        partitions: Vec<Place>,
        /// So many of each partition to begin with.
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
        lines: u16,
        /// Do not wait for new ones.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show records in full.
    Show {
        /// Such as ledger/0.
        partition: Place,
        /// The first offset.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, short = 'n', default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=200))]
        records: u16,
        #[command(flatten)]
        connection: Connection,
    },
    /// Read all of it and say what is admitted, void, missing, odd or wrong; ends with 3 when something is wrong.
    Verify(verify::Verify),
    /// Write all of it into a folder, a file for each partition; what is there already is gone on from.
    Export(export::Export),
    /// Put what was exported into an empty store, at the same offsets; what is there already is gone on from.
    Import(import::Import),
}

/// A partition, such as `ledger/0`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    topic: String,
    index: u32,
}

const TOPICS: [&str; 3] = ["directory", "ledger", "visits"];
/// How often new records are looked for.
const EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, index) = text.split_once('/').unwrap_or((text, "0"));
        let known = TOPICS.contains(&topic).then(|| topic.to_owned());
        known
            .zip(index.parse().ok())
            .map(|(topic, index)| Self { topic, index })
            .ok_or_else(|| "expected directory/0, ledger/N or visits/N".to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// The folder of an embedded log, as the log's configuration.
fn embedded(folder: &std::path::Path) -> LogConfig {
    LogConfig {
        store: Store::Embedded {
            dir: folder.to_owned(),
        },
        ledger_partitions: None,
        visits_partitions: None,
        development: true,
    }
}

impl From<Partition> for Place {
    fn from(Partition { topic, index }: Partition) -> Self {
        Self {
            topic: topic.short().to_owned(),
            index,
        }
    }
}

impl Place {
    async fn read(&self, client: &Client, from: Option<u64>, limit: u16) -> Result<Value, ClientError> {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let path = format!("api/v1/log/{}/{}?limit={limit}{from}", self.topic, self.index);
        Ok(client.send(Request::operator(path)).await?.body)
    }
}

impl Log {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Tail {
                partitions,
                lines,
                once,
                connection,
            } => {
                tail(&Client::new(&connection, PATIENCE)?, partitions, lines, once).await?;
            }
            Verb::Verify(verify) => {
                if !verify.run().await? {
                    return Ok(ExitCode::from(WRONG));
                }
            }
            Verb::Export(export) => export.run().await?,
            Verb::Import(import) => {
                if !import.run().await? {
                    return Ok(ExitCode::from(WRONG));
                }
            }
            Verb::Show {
                partition,
                from,
                records,
                connection,
            } => {
                let page = partition
                    .read(&Client::new(&connection, PATIENCE)?, Some(from), records)
                    .await?;
                for record in page["records"].as_array().into_iter().flatten() {
                    print(&format!("{}\n", serde_json::to_string_pretty(record)?))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What `annals log verify` and `import` end with when something is wrong.
const WRONG: u8 = 3;

async fn tail(client: &Client, wanted: Vec<Place>, lines: u16, once: bool) -> anyhow::Result<()> {
    let wanted = if wanted.is_empty() {
        all(client).await?
    } else {
        wanted
    };
    let mut next: Vec<Option<u64>> = vec![None; wanted.len()];
    loop {
        for (place, next) in wanted.iter().zip(&mut next) {
            let limit = if next.is_some() { 200 } else { lines };
            let page = place.read(client, *next, limit).await?;
            for record in page["records"].as_array().into_iter().flatten() {
                print(&line(place, record))?;
            }
            *next = page["next"].as_u64();
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Every partition that there is.
async fn all(client: &Client) -> Result<Vec<Place>, ClientError> {
    let mut found = Vec::new();
    for topic in TOPICS {
        for index in 0.. {
            let place = Place {
                topic: topic.to_owned(),
                index,
            };
            match place.read(client, Some(0), 1).await {
                Ok(_) => found.push(place),
                Err(error) if error.status() == Some(404) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// `ledger/0 17  2026-11-21T16:03:00Z  commit 3:14  content.drafted.v1 0193…`
fn line(place: &Place, record: &Value) -> String {
    let text = |name: &str| record[name].as_str().unwrap_or("-");
    let mut line = format!(
        "{}/{} {:<8} {:<27} ",
        place.topic,
        place.index,
        record["offset"],
        text("time")
    );
    let counts = if record["admitted"] == true { "" } else { "VOID " };
    let written = write!(line, "{counts}{}", text("kind"));
    debug_assert!(written.is_ok(), "a text takes everything");
    if let (Some(epoch), Some(seq)) = (record["epoch"].as_u64(), record["seq"].as_u64()) {
        line.push_str(&format!(" {epoch}:{seq}"));
    }
    if let Some(why) = record["why"].as_str() {
        line.push_str(&format!("  ({why})"));
    }
    // A record of visits may have hundreds.
    let mut counted: Vec<(&str, &str, usize)> = Vec::new();
    for event in record["value"].as_array().into_iter().flatten() {
        let part = |name: &str| event[name].as_str().unwrap_or("?");
        match counted.iter_mut().find(|(name, ..)| *name == part("type")) {
            Some((.., count)) => *count += 1,
            None => counted.push((part("type"), part("subject"), 1)),
        }
    }
    for (name, subject, count) in counted {
        line.push_str(&match count {
            1 => format!("  {name} {subject}"),
            more => format!("  {name} ×{more}"),
        });
    }
    line.push('\n');
    line
}

/// Whoever closes the pipe has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        let ledger = Place {
            topic: "ledger".to_owned(),
            index: 3,
        };
        assert_eq!("ledger/3".parse(), Ok(ledger));
        assert_eq!(
            "directory".parse(),
            Ok(Place {
                topic: "directory".to_owned(),
                index: 0
            })
        );
        assert!("ledgers/0".parse::<Place>().is_err() && "ledger/x".parse::<Place>().is_err());
    }

    #[test]
    fn a_line_says_where_what_and_whether_it_counts() {
        let place = Place {
            topic: "ledger".to_owned(),
            index: 0,
        };
        let record = json!({"offset": 7, "kind": "commit", "admitted": true, "epoch": 1, "seq": 2,
            "value": [{"type": "content.drafted.v1", "subject": "x"}]});
        let text = line(&place, &record);
        assert!(
            text.starts_with("ledger/0 7 ") && text.ends_with("commit 1:2  content.drafted.v1 x\n"),
            "{text}"
        );
        let many = json!({"offset": 9, "kind": "visits", "admitted": true, "value": [
            {"type": "visit.page-viewed.v1", "subject": "a"}, {"type": "visit.engaged.v1", "subject": "b"},
            {"type": "visit.page-viewed.v1", "subject": "c"}]});
        let text = line(&place, &many);
        assert!(
            text.ends_with("visits  visit.page-viewed.v1 ×2  visit.engaged.v1 b\n"),
            "{text}"
        );
        let void = json!({"offset": 8, "kind": "void", "admitted": false, "why": "no header"});
        assert!(line(&place, &void).contains("VOID void  (no header)"));
    }
}
