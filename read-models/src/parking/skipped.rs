//! What was passed over, by whom, and why: kept for every generation.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::seen_to::Which;
use crate::{Error, Projection, Reader};

/// An event that is passed over in every generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Name of the projection.
    pub projection: String,
    /// Topic of its record.
    pub topic: String,
    /// Partition of its record.
    pub partition: i32,
    /// Offset of its record.
    pub offset: i64,
    /// Place in its record, from 0.
    pub event_index: i32,
    /// Whose it is; nil where nobody can tell.
    pub tenant: Uuid,
    /// The aggregate: its id as text.
    pub subject: String,
    /// Its name on the wire.
    pub event_type: String,
    /// Why it could not be projected.
    pub reason: String,
    /// The public half of the key of who let it be passed over.
    pub skipped_by: String,
    /// Why, in that person's words.
    pub why: String,
    /// When.
    pub skipped_at: DateTime<Utc>,
}

/// What was passed over, the latest first.
///
/// # Errors
/// A database that cannot be reached.
pub async fn list(reader: &Reader, which: Which<'_>, size: u32, skip: i64) -> Result<Vec<Skipped>, Error> {
    let rows = sqlx::query_as!(
        Skipped,
        r#"SELECT projection, topic, "partition", "offset", event_index, tenant, subject, event_type, reason, skipped_by, why,
                  skipped_at
           FROM annals.skipped
           WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::text IS NULL OR projection = $2)
             AND ($3::text IS NULL OR subject = $3)
           ORDER BY skipped_at DESC, projection, topic, "partition", "offset", event_index
           LIMIT $4 OFFSET $5"#,
        which.tenant,
        which.projection.map(Projection::name),
        which.subject,
        i64::from(size),
        skip
    )
    .fetch_all(reader.control())
    .await?;
    Ok(rows)
}

/// How many events that are.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count(reader: &Reader, which: Which<'_>) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM annals.skipped
           WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::text IS NULL OR projection = $2)
             AND ($3::text IS NULL OR subject = $3)"#,
        which.tenant,
        which.projection.map(Projection::name),
        which.subject
    )
    .fetch_one(reader.control())
    .await?;
    Ok(count)
}
