//! `annals events`: a tenant's events as JSON lines, from where one was.

use std::{
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use url::form_urlencoded::byte_serialize;

use crate::client::{Client, Connection, Request};

/// Print the tenant's events in order, one JSON object a line. Needs a key with the scope read.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Wait for new ones, until interrupted.
    #[arg(long)]
    follow: bool,
    /// Only these types, separated by commas, such as content.published.v1 or content.*
    #[arg(long)]
    types: Option<String>,
    /// From after this position on (an Annals-Position), otherwise from the first event.
    #[arg(long)]
    after: Option<String>,
    /// Keep the position in this file after each batch that was printed, and go on from there the next time.
    #[arg(long, value_name = "FILE", conflicts_with = "after")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

impl Events {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        // Whoever follows outlives a server that is away for a while.
        let patience = Duration::from_secs(if self.follow { 3600 } else { 10 });
        let client = Client::new(&self.connection, patience)?;
        let types = self.types.as_deref().map(|types| parameter("types", types));
        let types = types.unwrap_or_default();
        let mut after = match &self.keep {
            Some(file) => read(file)?,
            None => self.after,
        };
        loop {
            let from = after.as_deref().map(|after| parameter("after", after));
            let path = format!("api/v1/events?limit=1000{types}{}", from.unwrap_or_default());
            let wait = if self.follow { "wait=30" } else { "wait=0" };
            let request = Request::operator(path).header("prefer", wait.to_owned());
            let answer = client.send(request).await?;
            let events = answer
                .body
                .as_array()
                .context("the answer is no batch of events")?;
            let mut text = String::new();
            events
                .iter()
                .for_each(|event| text.push_str(&format!("{event}\n")));
            print(&text)?;
            let done = events.is_empty() && answer.position == after;
            if let Some(file) = self.keep.as_deref().filter(|_| answer.position != after) {
                write(file, answer.position.as_deref().unwrap_or_default())?;
            }
            after = answer.position;
            if done && !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn parameter(name: &str, value: &str) -> String {
    format!("&{name}={}", byte_serialize(value.as_bytes()).collect::<String>())
}

fn read(file: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Whole or not at all: a position that was cut is none.
fn write(file: &Path, position: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    let written = std::fs::write(&new, format!("{position}\n")).and_then(|()| std::fs::rename(&new, file));
    written.with_context(|| format!("cannot keep the position in {}", file.display()))
}

/// Whoever closes the pipe has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}
