//! How each published piece of content was viewed, compared with the period before.

use clickhouse::Row;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::range::Resolved;
use super::{Site, sql};
use crate::clickhouse::{Error, Generation, Reader};

/// How each published piece of a site was viewed.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentReport {
    /// The period asked for: first and last day.
    pub period: [String; 2],
    /// As many days just before it.
    pub before: [String; 2],
    /// Published pieces, the most viewed first, also those that nobody viewed.
    pub rows: Vec<ContentRow>,
}

/// How one piece was viewed. Visitors are a sum of daily ones.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub struct ContentRow {
    /// Its id.
    #[serde(with = "clickhouse::serde::uuid")]
    pub content: Uuid,
    /// post, project, idea, page or resume.
    pub kind: String,
    /// Its present slug.
    pub slug: String,
    /// Its present title.
    pub title: String,
    /// Where it is viewed.
    pub path: String,
    /// The date that it carries, RFC 3339.
    pub published_at: Option<String>,
    /// Page views in the period.
    pub views: u64,
    /// Visitors in the period.
    pub visitors: u64,
    /// Page views in the period before.
    pub views_before: u64,
    /// Visitors in the period before.
    pub visitors_before: u64,
}

impl ContentRow {
    /// By how much views changed, in percent of the period before; none when nobody viewed it then.
    pub fn views_change(&self) -> Option<f64> {
        change(self.views, self.views_before)
    }

    /// By how much visitors changed, in percent of the period before; none when there were none then.
    pub fn visitors_change(&self) -> Option<f64> {
        change(self.visitors, self.visitors_before)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a percentage of counts needs no more than 52 bits"
)]
fn change(now: u64, before: u64) -> Option<f64> {
    let percent = 100.0 * (now as f64 - before as f64) / before as f64;
    (before > 0).then(|| (percent * 10.0).round() / 10.0)
}

/// How each published piece was viewed in a period of whole days (see [`Resolved::days`]), from one
/// generation of `visits` and one of `content_facts`. A view counts for the piece that it names, else for
/// the pieces that have its path, or had it before. Of the pieces, so many (all, when it is not said) after the first `skip`.
///
/// # Errors
/// When ClickHouse does not answer.
pub async fn content_report(
    reader: &Reader,
    visits: Generation,
    facts: Generation,
    site: &Site,
    period: &Resolved,
    (size, skip): (Option<u32>, u64),
) -> Result<ContentReport, Error> {
    let before = period.before();
    let statement = include_str!("report.sql").replace("{facts}", &reader.facts_database(facts));
    let asking = sql::scoped(&statement, site, period)
        .with_number("before", before.from.timestamp_micros())
        .with_number("size", size.map_or(i64::MAX, i64::from))
        .with_number("skip", i64::try_from(skip).unwrap_or(i64::MAX))
        .query(&reader.visits(visits))
        .fetch_all();
    let rows = reader.ask("the report of content", asking).await?;
    Ok(ContentReport {
        period: period.named.clone(),
        before: before.named,
        rows,
    })
}
