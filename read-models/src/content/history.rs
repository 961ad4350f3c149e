//! Versions of a piece: who changed what, and when; and the piece as it was at one of them.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Snapshot};

/// A version as the history shows it: without what the fields became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub version: i64,
    /// What happened: an event's name on the wire.
    pub event: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The principal that did it; of a scheduled publication, who scheduled it.
    pub actor: Option<Uuid>,
    /// Names of the fields that it set.
    pub changed: Vec<String>,
    /// Status from this version on.
    pub status: String,
}

/// A piece as it was at one version.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in Content")]
pub struct AsOf {
    pub content: Uuid,
    pub site: Uuid,
    pub kind: String,
    pub version: i64,
    pub event: String,
    pub at: DateTime<Utc>,
    pub actor: Option<Uuid>,
    pub changed: Vec<String>,
    pub status: String,
    pub title: String,
    pub slug: String,
    pub body: String,
    pub summary: Option<String>,
    pub tags: Vec<String>,
    pub featured: bool,
    pub language: Option<String>,
    pub metadata: Value,
    pub published_at: Option<DateTime<Utc>>,
    pub scheduled_at: Option<DateTime<Utc>>,
}

/// Which part of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Only versions after this one; 0 for all.
    pub after: i64,
    /// So many of them are passed over.
    pub skip: u64,
    /// At most so many are given.
    pub size: u32,
}

/// Versions of a piece, the first first; none when the tenant has no such piece.
///
/// # Errors
/// A database that cannot be reached.
pub async fn history(at: &Snapshot, tenant: Uuid, content: Uuid, part: Part) -> Result<Vec<Entry>, Error> {
    let rows = sqlx::query_file_as!(
        Entry,
        "src/content/history.sql",
        tenant,
        content,
        part.after,
        i64::from(part.size),
        i64::try_from(part.skip).unwrap_or(i64::MAX)
    )
    .fetch_all(at.pool())
    .await?;
    Ok(rows)
}

/// How many versions a piece has; 0 when the tenant has no such piece.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count(at: &Snapshot, tenant: Uuid, content: Uuid) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM content_versions WHERE tenant = $1 AND content = $2"#,
        tenant,
        content
    )
    .fetch_one(at.pool())
    .await?;
    Ok(count)
}

/// A piece as it was at one version; none when there is no such version.
///
/// # Errors
/// A database that cannot be reached.
pub async fn version(
    at: &Snapshot,
    tenant: Uuid,
    content: Uuid,
    version: i64,
) -> Result<Option<AsOf>, Error> {
    let row = sqlx::query_file_as!(AsOf, "src/content/version.sql", tenant, content, version)
        .fetch_optional(at.pool())
        .await?;
    Ok(row)
}

/// The version that a piece had at a time; none when it was not there yet, or the tenant has no such piece. Times of
/// versions never go backwards.
///
/// # Errors
/// A database that cannot be reached.
pub async fn version_at(
    at: &Snapshot,
    tenant: Uuid,
    content: Uuid,
    time: DateTime<Utc>,
) -> Result<Option<i64>, Error> {
    let version = sqlx::query_scalar!(
        "SELECT max(version) FROM content_versions WHERE tenant = $1 AND content = $2 AND at <= $3",
        tenant,
        content,
        time
    )
    .fetch_one(at.pool())
    .await?;
    Ok(version)
}
