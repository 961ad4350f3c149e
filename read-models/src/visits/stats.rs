//! Asking ClickHouse, and the answer in Plausible's form.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::query::{Bucket, DateRange, Dimension, Invalid, Key, Metric, StatsQuery};
use super::range::{MOST_LABELS, Resolved};
use super::{Site, sql};
use crate::clickhouse::{Error, Generation, Reader};

/// The answer to a [`StatsQuery`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatsResult {
    /// In the order asked for.
    pub results: Vec<StatsRow>,
    /// What there is to know about the answer.
    pub meta: Meta,
    /// The query as it was understood, its dates resolved.
    pub query: Value,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatsRow {
    /// In the order of the query's dimensions.
    pub dimensions: Vec<String>,
    /// In the order of the query's metrics: whole numbers, but for `bounce_rate` (percent) and
    /// `views_per_visit`, which have two digits; `visit_duration` is in seconds.
    pub metrics: Vec<Value>,
}

/// What there is to know about an answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Meta {
    /// With `include.imports`: true, because imported visits are events like others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports_included: Option<bool>,
    /// With `include.time_labels`: every bucket of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_labels: Option<Vec<String>>,
    /// With `include.total_rows`: how many rows there are, whatever the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
    /// What to keep in mind, by metric.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metric_warnings: BTreeMap<&'static str, Warning>,
}

/// What to keep in mind about a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub warning: &'static str,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// What was asked cannot be answered.
    #[error("the query cannot be answered")]
    Invalid(Vec<Invalid>),
    /// ClickHouse did not answer.
    #[error("ClickHouse did not answer")]
    Engine(#[from] Error),
    /// ClickHouse answered what we cannot read.
    #[error("ClickHouse answered what cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

const DAILY: Warning = Warning {
    code: "sum_of_daily_visitors",
    warning: "visitors have a new id every day, so over several days this is the sum of the daily visitors",
};

/// Answers a question about one site, from one generation of `visits`. `now` decides what "today" is.
///
/// # Errors
/// See [`StatsError`].
pub async fn stats(
    reader: &Reader,
    generation: Generation,
    site: &Site,
    query: &StatsQuery,
    now: DateTime<Utc>,
) -> Result<StatsResult, StatsError> {
    let client = reader.visits(generation);
    let first_visit = if query.date_range == DateRange::All {
        let asking = sql::first_visit(site).query(&client).fetch_optional();
        let micros: Option<i64> = reader.ask("when the first visit was", asking).await?;
        micros.and_then(DateTime::from_timestamp_micros)
    } else {
        None
    };
    let range = Resolved::new(&query.date_range, site.timezone, now, first_visit);
    let mut meta = meta(query, &range)?;
    let mut asking = sql::rows(site, query, &range)
        .query(&client)
        .fetch_bytes("JSONCompactEachRow")?;
    let rows = reader.ask("a question about visits", asking.collect()).await?;
    let results = read_rows(&rows, query.dimensions.len())?;
    if query.include.total_rows {
        let asking = sql::total(site, query, &range).query(&client).fetch_one();
        meta.total_rows = Some(reader.ask("how many rows there are", asking).await?);
    }
    Ok(StatsResult {
        results,
        meta,
        query: understood(query, &range),
    })
}

fn read_rows(rows: &[u8], dimensions: usize) -> Result<Vec<StatsRow>, serde_json::Error> {
    let lines = rows.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut values: Vec<Value> = serde_json::from_slice(line)?;
            let metrics = values.split_off(dimensions.min(values.len()));
            let dimensions = values
                .into_iter()
                .map(|value| value.as_str().unwrap_or_default().to_owned())
                .collect();
            Ok(StatsRow { dimensions, metrics })
        })
        .collect()
}

fn meta(query: &StatsQuery, range: &Resolved) -> Result<Meta, StatsError> {
    let mut meta = Meta {
        imports_included: query.include.imports.then_some(true),
        ..Meta::default()
    };
    let bucket = query.time_bucket();
    if let (true, Some(bucket)) = (query.include.time_labels, bucket) {
        let labels = range.labels(bucket).ok_or_else(|| {
            StatsError::Invalid(vec![Invalid {
                pointer: "/include/time_labels".to_owned(),
                detail: format!(
                    "there are more than {MOST_LABELS} labels; ask for longer buckets or fewer days"
                ),
            }])
        })?;
        meta.time_labels = Some(labels);
    }
    let within_a_day = bucket.is_some_and(|bucket| {
        matches!(
            range.bucket(bucket),
            Bucket::Automatic | Bucket::Hour | Bucket::Day
        )
    });
    if query.metrics.contains(&Metric::Visitors) && range.day_count() > 1 && !within_a_day {
        meta.metric_warnings.insert(Metric::Visitors.name(), DAILY);
    }
    Ok(meta)
}

fn understood(query: &StatsQuery, range: &Resolved) -> Value {
    let name = |key: Key| match key {
        Key::Metric(place) => query
            .metrics
            .get(place)
            .map_or_else(String::new, |metric| metric.name().to_owned()),
        Key::Dimension(place) => query
            .dimensions
            .get(place)
            .map_or_else(String::new, Dimension::name),
    };
    json!({
        "site_id": query.site_id,
        "metrics": query.metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>(),
        "date_range": range.named,
        "filters": query.filters_as_given,
        "dimensions": query.dimensions.iter().map(Dimension::name).collect::<Vec<_>>(),
        "order_by": query.order_by.iter().map(|(key, way)| [name(*key), way.name().to_owned()]).collect::<Vec<_>>(),
        "include": {
            "imports": query.include.imports,
            "time_labels": query.include.time_labels,
            "total_rows": query.include.total_rows,
        },
        "pagination": {"limit": query.pagination.limit, "offset": query.pagination.offset},
    })
}
