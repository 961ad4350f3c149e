//! `annals log verify`: whether the log is in order, asked of a running service or of a folder that none has open.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use event_log::{Log, Topic, audit};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{PATIENCE, Place, all, embedded, print};
use crate::{
    client::{Client, Connection, Problem, Request},
    progress::Progress,
};

/// Which partitions, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Only these partitions, such as ledger/0; otherwise all.
    partitions: Vec<Place>,
    /// The folder of an embedded log that no process has open.
    #[arg(long, value_name = "FOLDER")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Lines that wait to be shown.
const WAITING: usize = 16;

impl Verify {
    /// Whether nothing is wrong.
    pub(super) async fn run(self) -> anyhow::Result<bool> {
        match &self.offline {
            Some(folder) => self.offline(folder).await,
            None => self.online().await,
        }
    }

    async fn online(self) -> anyhow::Result<bool> {
        let client = Client::new(&self.connection, PATIENCE)?;
        let places = match self.partitions.is_empty() {
            true => all(&client).await?,
            false => self.partitions,
        };
        let mut fine = true;
        for place in places {
            let mut shown = Shown::new(&place);
            let path = format!("api/v1/log/{}/{}/verify", place.topic, place.index);
            let said = client
                .lines(Request::operator(path), |line| shown.line(&line))
                .await;
            said.with_context(|| format!("cannot verify {place}"))?;
            fine &= shown.finish()?;
        }
        Ok(fine)
    }

    async fn offline(&self, folder: &Path) -> anyhow::Result<bool> {
        let log = Log::open_existing(embedded(folder)).await?;
        let everything = || Topic::ALL.into_iter().flat_map(|topic| log.all(topic));
        let wanted = |place: &Place| self.partitions.is_empty() || self.partitions.contains(place);
        let mut fine = true;
        for (place, partition) in everything().map(|partition| (Place::from(partition), partition)) {
            if !wanted(&place) {
                continue;
            }
            let mut shown = Shown::new(&place);
            let (tell, mut told) = mpsc::channel(WAITING);
            let reading = async {
                let done = audit::audit(&log, partition, &tell).await;
                drop(tell);
                done
            };
            let showing = async {
                while let Some(told) = told.recv().await {
                    shown.line(&serde_json::to_value(told)?)?;
                }
                anyhow::Ok(())
            };
            let (read, showed) = tokio::join!(reading, showing);
            read.with_context(|| format!("cannot verify {place}"))?;
            showed?;
            fine &= shown.finish()?;
        }
        log.close().await;
        Ok(fine)
    }
}

/// What is shown of one partition.
struct Shown {
    place: String,
    bar: Option<(Progress, u64)>,
    result: Option<Value>,
}

impl Shown {
    fn new(place: &Place) -> Self {
        Self {
            place: place.to_string(),
            bar: None,
            result: None,
        }
    }

    fn line(&mut self, line: &Value) -> anyhow::Result<()> {
        let number = |name: &str| line["progress"][name].as_u64().unwrap_or_default();
        if line["progress"].is_object() {
            let new = || (Progress::new("records", number("of"), 0), 0);
            let (bar, before) = self.bar.get_or_insert_with(new);
            bar.add(number("records").saturating_sub(*before));
            *before = number("records");
        } else if line["finding"].is_object() {
            print(&finding(&self.place, &line["finding"]))?;
        } else if line["problem"].is_object() {
            let problem: Problem = serde_json::from_value(line["problem"].clone())?;
            anyhow::bail!("{problem}");
        } else if line["result"].is_object() {
            self.result = Some(line["result"].clone());
        }
        Ok(())
    }

    /// Whether nothing is wrong.
    fn finish(self) -> anyhow::Result<bool> {
        if let Some((bar, _)) = self.bar {
            bar.finish();
        }
        let result = self
            .result
            .context("the answer ended before the result; is the service still running?")?;
        print(&sentence(&result))?;
        Ok(result["wrong"] == 0)
    }
}

/// `ledger/0 17  wrong  the hash does not fit`
fn finding(place: &str, line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let what = match text("what") {
        "wrong" => "WRONG",
        other => other,
    };
    let offset = line["offset"].to_string();
    format!("{place} {offset:<8} {what:<5}  {}\n", text("text"))
}

/// What came out, in one line.
fn sentence(result: &Value) -> String {
    let number = |name: &str| result[name].as_u64().unwrap_or_default();
    let text = |name: &str| result[name].as_str().unwrap_or("?");
    let verdict = match number("wrong") {
        0 => "in order".to_owned(),
        several => format!("{several} WRONG"),
    };
    let counts = ["commits", "claims", "visits", "void", "gaps", "odd"];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|name| number(name) > 0)
        .map(|name| format!("{} {name}", number(name)))
        .collect();
    let counts = if counts.is_empty() {
        "nothing yet".to_owned()
    } else {
        counts.join(", ")
    };
    let (place, next) = (text("partition"), number("next"));
    let chain = match number("epoch") {
        0 => String::new(),
        epoch => format!("; epoch {epoch}, number {}, hash {}", number("seq"), text("hash")),
    };
    format!("{place}: {verdict} up to {next}: {counts}{chain}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_and_results_are_one_line_each() {
        let line = json!({"offset": 17, "what": "wrong", "text": "the hash does not fit"});
        assert_eq!(
            finding("ledger/0", &line),
            "ledger/0 17       WRONG  the hash does not fit\n"
        );
        let result = json!({"partition": "ledger/0", "wrong": 0, "next": 5, "commits": 2, "claims": 1, "void": 1,
            "visits": 0, "gaps": 0, "odd": 0, "epoch": 1, "seq": 2, "hash": "ab"});
        assert_eq!(
            sentence(&result),
            "ledger/0: in order up to 5: 2 commits, 1 claims, 1 void; epoch 1, number 2, hash ab\n"
        );
        let empty = json!({"partition": "visits/0", "wrong": 1, "next": 1});
        assert_eq!(sentence(&empty), "visits/0: 1 WRONG up to 1: nothing yet\n");
    }
}
