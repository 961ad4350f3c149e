//! `annals export`: a view of the read models as a file.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    client::{Client, Connection, Request},
    progress::Progress,
};

/// Write a view of the analysts' schema `live` to a file: your tenant's rows, or with an operator's key all of them.
/// In ClickHouse events, sessions, content; in PostgreSQL tenants, sites, principals, keys, content,
/// content_versions, content_redirects, downloads.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Such as events.
    view: String,
    /// Where to write; until it is whole, FILE.part beside it. A file that is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How; when absent as the file's name ends.
    #[arg(long)]
    format: Option<Format>,
    /// Of views that both have (content), whose is meant; ClickHouse's when absent.
    #[arg(long)]
    store: Option<Store>,
    /// For operators: only this tenant's rows.
    #[arg(long, value_name = "ID")]
    tenant: Option<uuid::Uuid>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Parquet,
    Csv,
    Ndjson,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Store {
    #[value(name = "clickhouse")]
    ClickHouse,
    Postgres,
}

impl Export {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let format = match (self.format, self.out.extension().and_then(|it| it.to_str())) {
            (Some(format), _) => format,
            (None, Some("parquet")) => Format::Parquet,
            (None, Some("csv")) => Format::Csv,
            (None, Some("ndjson" | "jsonl")) => Format::Ndjson,
            (None, _) => anyhow::bail!(
                "{} does not say in which format: end its name in .parquet, .csv or .ndjson, or give --format",
                self.out.display()
            ),
        };
        let mut path = format!("api/v1/export/{}?format={}", plain(&self.view)?, name(format));
        if let Some(store) = self.store {
            path.push_str(&format!("&store={}", name(store)));
        }
        if let Some(tenant) = self.tenant {
            path.push_str(&format!("&tenant={tenant}"));
        }
        let client = Client::new(&self.connection, Duration::from_secs(2))?;
        let part = part(&self.out);
        let outcome = fetch(&client, path, &part).await;
        let whole = outcome.and_then(|()| {
            std::fs::rename(&part, &self.out)
                .with_context(|| format!("cannot name the file {}", self.out.display()))
        });
        if whole.is_err() {
            // There may be none; what is there is of no use.
            let _ = std::fs::remove_file(&part);
        }
        whole.with_context(|| {
            format!(
                "{} was not exported (when the answer was cut off, query-api's log says why)",
                self.view
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn fetch(client: &Client, path: String, part: &Path) -> anyhow::Result<()> {
    let mut file: Option<BufWriter<File>> = None;
    let progress = Progress::open("bytes");
    let cannot = || format!("cannot write {}", part.display());
    let open = || File::create(part).map(BufWriter::new);
    let take = |piece: &[u8]| {
        // Nothing is touched before there is an answer.
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(open().with_context(cannot)?),
        };
        file.write_all(piece).with_context(cannot)?;
        progress.add(piece.len() as u64);
        Ok(())
    };
    client.bytes(Request::query(path), take).await?;
    let file = file.map_or_else(open, Ok).with_context(cannot)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).with_context(cannot)?;
    progress.finish();
    Ok(())
}

/// A name that may stand in a path; whether there is such a view, the service knows.
fn plain(view: &str) -> anyhow::Result<&str> {
    let is_plain = !view.is_empty() && view.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    anyhow::ensure!(
        is_plain,
        "there is no view {view:?}: `annals export --help` names them"
    );
    Ok(view)
}

fn name(value: impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// The file as long as it is not whole.
fn part(out: &Path) -> PathBuf {
    let mut name = OsString::from(out.as_os_str());
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_view_goes_nowhere() {
        assert!(plain("content_versions").is_ok());
        for wrong in ["", "../keys", "events?x", "live.events", "Events"] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name(Format::Ndjson), "ndjson");
        assert_eq!(name(Store::ClickHouse), "clickhouse");
    }
}
