//! Each projection as operators see it: generation, state, and how far every partition has come.

use chrono::{DateTime, Utc};

use crate::{Error, Reader};

/// A partition of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionStatus {
    /// Name of the projection.
    pub projection: String,
    /// The generation.
    pub generation: i32,
    /// `building`, `live`, `kept`, `freezing` or `frozen`.
    pub state: String,
    /// Topic of the log.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// The first offset that is not in the tables.
    pub next_offset: i64,
    /// The log's end, as last seen.
    pub log_end: i64,
    /// Records that are not in the tables yet.
    pub lag_events: i64,
    /// Seconds since the last event in the tables, while there are later ones; at least [`Self::silent_seconds`], when
    /// those are more than 5: what the log has got meanwhile is not known. Else 0.
    pub lag_seconds: f64,
    /// Seconds since whoever fills it was last heard of: it says something every second. 0 of what is frozen or paused.
    pub silent_seconds: f64,
    /// Time of the last event in the tables.
    pub last_time: Option<DateTime<Utc>>,
    /// Events that wait because an earlier one of their aggregate cannot be projected.
    pub parked: i64,
    /// When the projector last wrote here.
    pub updated_at: DateTime<Utc>,
    /// Why it does not go on, for people.
    pub stopped: Option<String>,
    /// Rows of the generation that were not what the log says when last verified in the background.
    pub differing: i64,
    /// When a slice of the generation was last verified; none: never.
    pub looked_at: Option<DateTime<Utc>>,
    /// Rows that were compared when it was last verified whole.
    pub whole_compared: Option<i64>,
    /// When that was.
    pub whole_at: Option<DateTime<Utc>>,
}

/// Every partition of every generation, in order.
///
/// # Errors
/// A database that cannot be reached.
pub async fn projections(reader: &Reader) -> Result<Vec<PartitionStatus>, Error> {
    let rows = sqlx::query_file_as!(PartitionStatus, "src/status.sql")
        .fetch_all(reader.control())
        .await?;
    Ok(rows)
}
