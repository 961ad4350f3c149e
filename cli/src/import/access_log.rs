//! `annals import access-log FILE --site D`: the page views of a web server's log.
//!
//! An import is known by its file's fingerprint. Lines are sent strictly in their order, for the log keeps a mark of
//! the last line of an import, and whatever is not above it is a repetition.

mod batch;
mod line;
mod page;
mod source;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use self::{
    batch::{Batch, Batches},
    page::Skip,
    source::Fingerprint,
};
use crate::{
    client::{Client, Connection, Request},
    progress::Progress,
};

/// Import the page views of an access log (common or combined format, also gzip).
///
/// Counted are GETs that were answered with 200 or 304, of pages: images, styles, scripts, downloads and feeds are
/// skipped, and so are visits of bots; how many of each is said at the end. Visits keep the times of the log.
/// The common format does not name browsers: there a visitor is an address, and bots are not told apart.
/// It may be interrupted and repeated at any later time: a file is known by its (unpacked) content. A file that has
/// grown since is another file: import logs after they were rotated. Ends with 3 when lines could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AccessLog {
    /// The log.
    file: PathBuf,
    /// The domain of the site that the log is of.
    #[arg(long)]
    site: String,
    /// An earlier host of the site's own pages: links from there are not counted as referrers. The site's domain is one
    /// by itself; may be repeated.
    #[arg(long, value_name = "HOST")]
    own_host: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// How many unreadable or refused lines are shown.
const SHOWN: usize = 10;

/// What became of the lines.
#[derive(Debug, Default)]
struct Tally {
    /// Lines that are of an access log.
    read: u64,
    accepted: u64,
    skipped: BTreeMap<Skip, u64>,
    dropped: BTreeMap<String, u64>,
    failed: u64,
    /// The first few that failed: line numbers from 1, as editors count.
    shown: Vec<(u64, String)>,
}

impl AccessLog {
    pub(crate) async fn run(mut self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, super::PATIENCE)?;
        let fingerprint = self.fingerprint().await?;
        self.site = super::expect_site(&client, &self.site).await?;
        let import = self.begin(&client, &fingerprint).await?;
        let (id, next) = (text(&import["id"])?, super::number(&import["next"]).unwrap_or(0));
        if text(&import["status"])?.starts_with("complete") {
            println!("this file was imported before and is complete: nothing to do (import {id})");
            return Ok(ExitCode::SUCCESS);
        }
        if next > 0 {
            println!(
                "going on at line {} of {} (import {id})",
                next + 1,
                fingerprint.lines
            );
        }
        let progress = Progress::new("lines", fingerprint.lines, next.min(fingerprint.lines));
        let interruption = super::interruption();
        let mut batches = Batches::read(&self.file, &self.site, &self.own_host, id, next)?;
        let mut tally = Tally::default();
        while let Some(batch) = batches.next().await {
            let batch = batch.with_context(|| format!("cannot read {}", self.file.display()))?;
            if interruption.is_cancelled() {
                break;
            }
            let lines = batch.lines;
            send(&client, batch, &mut tally).await?;
            progress.add(lines);
        }
        progress.finish();
        let is_no_log = next == 0 && tally.read == 0 && tally.failed > 0;
        if !interruption.is_cancelled() && !is_no_log {
            let path = format!("api/v1/imports/{id}/complete");
            client.send(Request::command(Method::POST, path, None)).await?;
        }
        tally.report(interruption.is_cancelled());
        if is_no_log {
            println!(
                "{} is no access log: none of its lines could be read, and the import is not complete",
                self.file.display()
            );
        }
        let failed = usize::try_from(tally.failed).unwrap_or(usize::MAX);
        Ok(super::exit_code(interruption.is_cancelled(), failed))
    }

    /// Reads the file once; on a thread that may wait.
    async fn fingerprint(&self) -> anyhow::Result<Fingerprint> {
        let place = self.file.clone();
        let read = tokio::task::spawn_blocking(move || source::fingerprint(&place)).await?;
        read.with_context(|| format!("cannot read {}", self.file.display()))
    }

    async fn begin(&self, client: &Client, fingerprint: &Fingerprint) -> anyhow::Result<Value> {
        let source = self
            .file
            .file_name()
            .map_or("access log".into(), |name| name.to_string_lossy());
        let body = json!({"site": self.site, "source": source, "fingerprint": fingerprint.hash});
        Ok(client
            .send(Request::command(Method::POST, "api/v1/imports", Some(body)))
            .await?
            .body)
    }
}

/// Sends a batch, again and again if need be: its events carry ids and lines of their own.
async fn send(client: &Client, batch: Batch, tally: &mut Tally) -> anyhow::Result<()> {
    tally.read += batch.events.len() as u64 + batch.skipped.values().sum::<u64>();
    for (skip, count) in batch.skipped {
        *tally.skipped.entry(skip).or_default() += count;
    }
    for (line, reason) in batch.unreadable {
        tally.fail(line, reason);
    }
    if batch.events.is_empty() {
        return Ok(());
    }
    let lines: Vec<u64> = batch.events.iter().map(|event| event.line).collect();
    let body = serde_json::to_value(&batch.events)?;
    let answer = client
        .send(Request::command(Method::POST, "api/v1/visits", Some(body)))
        .await?
        .body;
    tally.accepted += super::number(&answer["accepted"]).unwrap_or(0);
    let at = |item: &Value| {
        usize::try_from(super::number(&item["index"])?)
            .ok()
            .and_then(|index| lines.get(index))
    };
    for item in answer["dropped"].as_array().into_iter().flatten() {
        let reason = item["reason"].as_str().unwrap_or("dropped");
        *tally.dropped.entry(reason.to_owned()).or_default() += 1;
    }
    for item in answer["rejected"].as_array().into_iter().flatten() {
        let detail = item["detail"].as_str().unwrap_or("refused");
        tally.fail(at(item).copied().unwrap_or(0), detail.to_owned());
    }
    Ok(())
}

impl Tally {
    fn fail(&mut self, line: u64, reason: String) {
        self.failed += 1;
        if self.shown.len() < SHOWN {
            self.shown.push((line + 1, reason));
        }
    }

    fn report(&self, interrupted: bool) {
        let again = if interrupted {
            " so far; interrupted, run it again to go on"
        } else {
            ""
        };
        println!("{} page views imported{again}", self.accepted);
        for (skip, count) in &self.skipped {
            println!("  {count} lines skipped: {skip}");
        }
        for (reason, count) in &self.dropped {
            println!("  {count} visits not counted: {reason}");
        }
        if self.failed > 0 {
            println!("  {} lines could not be read:", self.failed);
        }
        for (line, reason) in &self.shown {
            println!("    line {line}: {reason}");
        }
        if self.failed > SHOWN as u64 {
            println!("    …");
        }
    }
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value
        .as_str()
        .context("the import has no id or no status: is ANNALS_URL right?")
}

/// The log that comes with the project.
#[cfg(test)]
fn sample() -> &'static std::path::Path {
    std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../e2e/sample/access.log.gz"
    ))
}
