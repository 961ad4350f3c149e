//! What happens on a site just now.

use chrono::{DateTime, Duration, DurationRound, SecondsFormat, Utc};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::range::Resolved;
use super::{Site, sql};
use crate::clickhouse::{Error, Generation, Reader};

/// What happens on a site just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Realtime {
    /// Who viewed a page or did something in the last 5 minutes.
    pub visitors: u64,
    /// The last 30 minutes, the present one last.
    pub minutes: Vec<Minute>,
}

/// One minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// When it began: RFC 3339, UTC.
    pub minute: String,
    /// Page views in it.
    pub pageviews: u64,
}

#[derive(Row, Deserialize)]
struct Counted {
    visitors: u64,
    minutes: Vec<(i64, u64)>,
}

/// How many minutes are answered.
const MINUTES: i64 = 30;

/// What happens on a site at this time, from one generation of `visits`.
///
/// # Errors
/// When ClickHouse does not answer.
pub async fn realtime(
    reader: &Reader,
    generation: Generation,
    site: &Site,
    now: DateTime<Utc>,
) -> Result<Realtime, Error> {
    let minute = now.duration_trunc(Duration::minutes(1)).unwrap_or(now);
    let mut range = Resolved::days(now.date_naive(), now.date_naive(), chrono_tz::Tz::UTC);
    range.from = minute - Duration::minutes(MINUTES - 1);
    range.to = minute + Duration::minutes(1);
    let recent = (now - Duration::minutes(5)).timestamp_micros();
    let asking = sql::scoped(include_str!("realtime.sql"), site, &range)
        .with_number("recent", recent)
        .query(&reader.visits(generation))
        .fetch_one();
    let counted: Counted = reader.ask("the visits of the last minutes", asking).await?;
    let minutes = (0..MINUTES)
        .map(|place| range.from + Duration::minutes(place))
        .map(|begin| Minute {
            minute: begin.to_rfc3339_opts(SecondsFormat::Secs, true),
            pageviews: counted
                .minutes
                .iter()
                .find(|(second, _)| *second == begin.timestamp())
                .map_or(0, |(_, views)| *views),
        })
        .collect();
    Ok(Realtime {
        visitors: counted.visitors,
        minutes,
    })
}
