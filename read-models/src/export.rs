//! Whole views, as a stream of bytes: the rows that an analyst sees in `live`, of one tenant or of all.
//!
//! The names that can be asked for are those that stand here. The rows are read from the generation that answers,
//! by the role that may only SELECT, in the order in which they lie; what is told of a view is its columns as
//! analysts see them. Nothing is gathered: pieces of some tens of kilobytes go out as they come, and whoever reads
//! slowly holds the database back until the time is up: then the rest is not read, and the transaction ends.

use std::{future::Future, time::Duration};

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::mpsc;
use uuid::Uuid;

mod parquet;

use crate::{Error, Projection, Reader, clickhouse};

/// Rows come one by one from PostgreSQL: so many bytes of them go out at once.
const PIECE: usize = 64 << 10;

/// Pieces that wait for a slow listener; the database waits with them.
const WAITING: usize = 4;

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Rows that are changed.
    Postgres,
    /// Rows that are counted.
    ClickHouse,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet; ClickHouse writes it itself.
    Parquet,
    /// Comma-separated values, the first line names the columns.
    Csv,
    /// A JSON object in each line.
    Ndjson,
}

/// A view of `live`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// As analysts name it.
    pub name: &'static str,
    /// Where it is.
    pub store: Store,
    /// What it shows.
    pub projection: Projection,
    /// The table behind it, and how its latest rows are read.
    table: &'static str,
}

/// Every view that there is.
pub const VIEWS: [View; 11] = {
    const fn view(store: Store, projection: Projection, name: &'static str, table: &'static str) -> View {
        View {
            name,
            store,
            projection,
            table,
        }
    }
    use Projection::{Content, ContentFacts, Directory, Downloads, Visits};
    use Store::{ClickHouse, Postgres};
    [
        view(ClickHouse, Visits, "events", "events"),
        view(ClickHouse, Visits, "sessions", "sessions FINAL"),
        view(ClickHouse, ContentFacts, "content", "facts FINAL"),
        view(Postgres, Directory, "tenants", "tenants"),
        view(Postgres, Directory, "sites", "sites"),
        view(Postgres, Directory, "principals", "principals"),
        view(Postgres, Directory, "keys", "keys"),
        view(Postgres, Content, "content", "content"),
        view(Postgres, Content, "content_versions", "content_versions"),
        view(Postgres, Content, "content_redirects", "content_redirects"),
        view(Postgres, Downloads, "downloads", "downloads"),
    ]
};

/// Why no more pieces come.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// PostgreSQL.
    #[error("PostgreSQL does not give the rows")]
    Tables(#[from] Error),
    /// ClickHouse.
    #[error("ClickHouse does not give the rows")]
    Rows(#[from] clickhouse::Error),
    /// It was not read, or not taken, in time.
    #[error("not all of it was taken within {0:?}")]
    TookTooLong(Duration),
}

/// Tables that somebody has changed: everything else is written into memory.
impl From<::parquet::errors::ParquetError> for ExportError {
    fn from(error: ::parquet::errors::ParquetError) -> Self {
        Error::Configuration(format!("the rows cannot be written as Parquet: {error}")).into()
    }
}

/// Pieces of a file, in order. It is whole when they end without an error.
pub type Pieces = mpsc::Receiver<Result<Vec<u8>, ExportError>>;

type Sending = mpsc::Sender<Result<Vec<u8>, ExportError>>;

impl View {
    /// The view of this name; in ClickHouse, when both stores have one and none is named.
    pub fn find(name: &str, store: Option<Store>) -> Option<&'static Self> {
        let known = |view: &&Self| view.name == name && store.is_none_or(|store| store == view.store);
        VIEWS.iter().find(known)
    }

    /// Begins to read a generation of it, of one tenant or of all. When all of it is not taken within this time, the
    /// store is let go; so is the place among those who read at a time. Must be called within a runtime.
    pub fn export(
        &'static self,
        (tables, rows): (&Reader, &clickhouse::Reader),
        generation: i32,
        format: Format,
        tenant: Option<Uuid>,
        (limit, place): (Duration, impl Send + 'static),
    ) -> Pieces {
        let (send, pieces) = mpsc::channel(WAITING);
        let of = Of {
            view: self,
            generation,
            format,
            tenant,
            limit,
        };
        match self.store {
            Store::Postgres => {
                let work = of.send_from_postgres(tables.clone(), send.clone());
                told((limit, place), send, work);
            }
            Store::ClickHouse => {
                let work = of.send_from_clickhouse(rows.clone(), send.clone());
                told((limit, place), send, work);
            }
        }
        pieces
    }
}

/// Works until the end, and says why when that comes too early. PostgreSQL's own limit is none while it waits for a
/// listener.
fn told(
    (limit, place): (Duration, impl Send + 'static),
    send: Sending,
    work: impl Future<Output = Result<(), ExportError>> + Send + 'static,
) {
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(limit, work) => outcome.unwrap_or(Err(ExportError::TookTooLong(limit))),
            // Whoever went away leaves the database alone.
            () = send.closed() => return,
        };
        drop(place);
        if let Err(error) = outcome {
            // Nobody listens any more: then nobody misses it.
            let _ = send.send(Err(error)).await;
        }
    });
}

/// What is exported.
struct Of {
    view: &'static View,
    generation: i32,
    format: Format,
    tenant: Option<Uuid>,
    limit: Duration,
}

impl Of {
    /// Columns as `annals.show_live` shows them: without hashes of secrets and search indexes.
    async fn send_from_postgres(self, tables: Reader, send: Sending) -> Result<(), ExportError> {
        let schema = self.view.projection.schema(self.generation);
        let table = format!("{schema}.{}", self.view.table);
        let options = tables
            .options()
            .clone()
            .options([("statement_timeout", format!("{}s", self.limit.as_secs().max(1)))]);
        // A connection of its own: those of the pool answer questions.
        let mut connection: PgConnection = options.connect().await.map_err(Error::from)?;
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT quote_ident(attname), format_type(atttypid, NULL) FROM pg_attribute
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
               AND attname NOT IN ('secret_hash', 'search')
             ORDER BY attnum",
        )
        .bind(&table)
        .fetch_all(&mut connection)
        .await
        .map_err(Error::from)?;
        if columns.is_empty() {
            let text = format!("the table {table} is not there");
            return Err(Error::Configuration(text).into());
        }
        // COPY takes no parameters. A tenant's id is hexadecimal digits, names are our own.
        let whose = self
            .tenant
            .map_or_else(String::new, |tenant| format!(" WHERE tenant = '{tenant}'::uuid"));
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let rows = format!("SELECT {} FROM {table}{whose}", names.join(", "));
        let statement = match self.format {
            Format::Csv => format!("COPY ({rows}) TO STDOUT (FORMAT csv, HEADER)"),
            // Neither of these characters stands in JSON as it is, so nothing is quoted: lines are the objects.
            Format::Ndjson => format!(
                r"COPY (SELECT to_jsonb(r) FROM ({rows}) r) TO STDOUT (FORMAT csv, QUOTE E'\x01', ESCAPE E'\x01', DELIMITER E'\x02')"
            ),
            Format::Parquet => return send_as_parquet(connection, &columns, &table, &whose, &send).await,
        };
        let mut copied = connection.copy_out_raw(&statement).await.map_err(Error::from)?;
        let mut piece = Vec::with_capacity(PIECE);
        while let Some(row) = copied.next().await {
            piece.extend_from_slice(&row.map_err(Error::from)?);
            if piece.len() >= PIECE && send.send(Ok(std::mem::take(&mut piece))).await.is_err() {
                return Ok(());
            }
        }
        drop(copied);
        // Also of no row at all the beginning: an empty file is an answer.
        let _ = send.send(Ok(piece)).await;
        connection.close().await.map_err(Error::from)?;
        Ok(())
    }

    /// With an analyst's memory and rows to read, and little of the machine.
    async fn send_from_clickhouse(self, rows: clickhouse::Reader, send: Sending) -> Result<(), ExportError> {
        let client = match self.view.projection {
            Projection::ContentFacts => rows.facts(self.generation),
            Projection::Visits | Projection::Directory | Projection::Content | Projection::Downloads => {
                rows.visits(self.generation)
            }
        };
        let format = match self.format {
            Format::Parquet => "Parquet",
            Format::Csv => "CSVWithNames",
            Format::Ndjson => "JSONEachRow",
        };
        let whose = match self.tenant {
            Some(_) => " WHERE tenant = {tenant:UUID}",
            None => "",
        };
        let statement = format!("SELECT * FROM {}{whose}", self.view.table);
        let mut asking = client.query_raw(&statement);
        for (setting, value) in [
            ("max_execution_time", self.limit.as_secs().max(1).to_string()),
            ("max_memory_usage", (1_u64 << 30).to_string()),
            ("max_rows_to_read", 1_000_000_000_u64.to_string()),
            // It is sent as it comes.
            ("max_result_bytes", "0".to_owned()),
            ("max_threads", "2".to_owned()),
            ("output_format_parquet_row_group_size", "100000".to_owned()),
            ("output_format_json_quote_64bit_integers", "0".to_owned()),
        ] {
            asking = asking.with_setting(setting, value);
        }
        if let Some(tenant) = self.tenant {
            asking = asking.param("tenant", tenant.to_string());
        }
        let mut answer = asking.fetch_bytes(format)?;
        // However long all of it takes, something comes within the time of a question; a slow listener is no delay here.
        let what = || format!("rows of {}", self.view.name);
        while let Some(bytes) = clickhouse::within(self.limit, what, answer.next()).await? {
            if send.send(Ok(bytes.to_vec())).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn send_as_parquet(
    mut connection: PgConnection,
    columns: &[(String, String)],
    table: &str,
    whose: &str,
    send: &Sending,
) -> Result<(), ExportError> {
    let mut writer = parquet::Writer::new(columns)?;
    // Its text is what becomes of JSON.
    let read = columns.iter().map(|(name, kind)| match kind.as_str() {
        "jsonb" => format!("{name}::text"),
        _ => name.clone(),
    });
    let read: Vec<_> = read.collect();
    let statement = format!("SELECT {} FROM {table}{whose}", read.join(", "));
    let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(&mut connection);
    while let Some(row) = rows.next().await {
        if writer.take(&row.map_err(Error::from)?)? {
            let piece;
            (writer, piece) = apart(move || writer.group().map(|piece| (writer, piece))).await?;
            if send.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    drop(rows);
    let rest = apart(move || writer.end()).await?;
    let _ = send.send(Ok(rest)).await;
    connection.close().await.map_err(Error::from)?;
    Ok(())
}

/// Compresses beside those who answer.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}
