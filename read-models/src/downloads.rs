//! Download queues. Rows, writing, queries.

mod place;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Error, Snapshot, Write, copy::write_rows};

pub use self::place::{InvalidPlace, Part, Queued, Turn};

/// What `status` may be, as the table's constraint has it.
pub const STATUSES: [&str; 5] = ["queued", "running", "completed", "failed", "cancelled"];

/// A download in its latest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Whose queue it is in.
    pub tenant: Uuid,
    /// Its id.
    pub download: Uuid,
    /// What it is, for people.
    pub title: String,
    /// Where it is fetched from.
    pub url: String,
    /// Author of the work.
    pub author: Option<String>,
    /// Such as `epub`.
    pub format: Option<String>,
    /// What the file must hash to, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// A lower number goes first.
    pub priority: i32,
    /// One of [`STATUSES`].
    pub status: String,
    /// Order among equal priorities: the tenant's own sequence number of the commit that queued it.
    pub queue_seq: i64,
    /// Order within that commit.
    pub queue_index: i32,
    /// How often a worker took it.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// Bytes of the fetched file.
    pub fetched_size: Option<i64>,
    /// What the fetched file hashes to.
    pub fetched_sha256: Option<String>,
    /// When it was first queued.
    pub queued_at: DateTime<Utc>,
    /// By whom.
    pub queued_by: Option<Uuid>,
    /// When a worker last took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was completed, failed or was cancelled.
    pub finished_at: Option<DateTime<Utc>>,
    /// Time of its latest event.
    pub updated_at: DateTime<Utc>,
    /// Who caused it.
    pub updated_by: Option<Uuid>,
    /// Version of the aggregate.
    pub version: i64,
}

/// Which downloads a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose.
    pub tenant: Uuid,
    /// Only those with this status.
    pub status: Option<String>,
}

/// What a batch of events changes: the last state of each row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows that are not in the table yet.
    pub inserted: Vec<Download>,
    /// Rows that are.
    pub updated: Vec<Download>,
}

/// The rows of these downloads as they are before a batch: pairs of tenant and download.
///
/// # Errors
/// A database that cannot be reached.
pub async fn load(write: &mut Write, ids: &[(Uuid, Uuid)]) -> Result<Vec<Download>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, downloads): (Vec<Uuid>, Vec<Uuid>) = ids.iter().copied().unzip();
    let rows = sqlx::query_file_as!(Download, "src/downloads/load.sql", &tenants, &downloads)
        .fetch_all(write.connection())
        .await?;
    Ok(rows)
}

/// Writes what a batch changed. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn apply(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    Ok(insert(write, changes).await? + update(write, changes).await?)
}

/// Writes the rows that are new. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn insert(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    if changes.inserted.is_empty() {
        return Ok(0);
    }
    write_rows!(write, "downloads", changes.inserted;
        tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index, attempts,
        failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at, updated_at, updated_by,
        version)
    .await
}

/// Writes what becomes of rows that were there. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn update(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    /// One array a column.
    macro_rules! columns {
        ($($field:ident),+) => {
            sqlx::query_file!(
                "src/downloads/update.sql",
                $(&changes.updated.iter().map(|row| &row.$field).collect::<Vec<_>>() as _),+
            )
        };
    }
    if changes.updated.is_empty() {
        return Ok(0);
    }
    let update = columns!(
        tenant,
        download,
        priority,
        status,
        queue_seq,
        queue_index,
        attempts,
        failure,
        fetched_size,
        fetched_sha256,
        started_at,
        finished_at,
        updated_at,
        updated_by,
        version
    );
    Ok(update.execute(write.connection()).await?.rows_affected())
}

/// A download of a tenant.
///
/// # Errors
/// A database that cannot be reached.
pub async fn by_id(at: &Snapshot, tenant: Uuid, download: Uuid) -> Result<Option<Download>, Error> {
    let row = sqlx::query_file_as!(Download, "src/downloads/by_id.sql", tenant, download)
        .fetch_optional(at.pool())
        .await?;
    Ok(row)
}

/// At most `size` of a tenant's downloads, the latest queued first.
///
/// # Errors
/// A database that cannot be reached.
pub async fn list(
    at: &Snapshot,
    filter: &Filter,
    part: &Part<Queued>,
    size: u32,
) -> Result<Vec<Download>, Error> {
    let (skip, after) = part.parts();
    let rows = sqlx::query_file_as!(
        Download,
        "src/downloads/list.sql",
        filter.tenant,
        filter.status.as_deref(),
        i64::from(size),
        skip,
        after.map(|place| place.at),
        after.map(|place| place.download)
    )
    .fetch_all(at.pool())
    .await?;
    Ok(rows)
}

/// How many downloads a list has.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count(at: &Snapshot, filter: &Filter) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM downloads WHERE tenant = $1 AND ($2::text IS NULL OR status = $2)"#,
        filter.tenant,
        filter.status.as_deref()
    )
    .fetch_one(at.pool())
    .await?;
    Ok(count)
}

/// At most `size` of what waits, in the order in which it will run.
///
/// # Errors
/// A database that cannot be reached.
pub async fn queue(
    at: &Snapshot,
    tenant: Uuid,
    part: &Part<Turn>,
    size: u32,
) -> Result<Vec<Download>, Error> {
    let (skip, after) = part.parts();
    let rows = sqlx::query_file_as!(
        Download,
        "src/downloads/queue.sql",
        tenant,
        i64::from(size),
        skip,
        after.map(|turn| turn.priority),
        after.map(|turn| turn.seq),
        after.map(|turn| turn.index)
    )
    .fetch_all(at.pool())
    .await?;
    Ok(rows)
}
