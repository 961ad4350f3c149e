//! The period that a question is about.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::{super::DateRange, Faults, shown};

/// Those that there are, for people.
pub(super) const DATE_RANGES: &str = "a pair of ISO 8601 dates or instants from 1970-01-02 to 2100-01-01, day, 7d, 28d, 30d, 91d, month, 6mo, 12mo, year, all";

/// A name, or a pair of dates or instants.
pub(super) fn date_range(value: &Value, faults: &mut Faults) -> Option<DateRange> {
    let found = match value {
        Value::String(name) => named_range(name),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(from), Value::String(to)] => {
                pair_of_dates(from, to).or_else(|| pair_of_instants(from, to))
            }
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    match found {
        None => faults.add(
            "/date_range",
            format!("unknown date range {}; expected {DATE_RANGES}", shown(value)),
        ),
        Some(DateRange::Dates(from, to)) if to < from => faults.add("/date_range", "ends before it begins"),
        Some(DateRange::Instants(from, to)) if to < from => {
            faults.add("/date_range", "ends before it begins")
        }
        Some(range) => return Some(range),
    }
    None
}

fn named_range(name: &str) -> Option<DateRange> {
    match name {
        "day" => Some(DateRange::Day),
        "month" => Some(DateRange::Month),
        "year" => Some(DateRange::Year),
        "all" => Some(DateRange::All),
        _ => {
            // Plausible documents 7, 28, 30, 91 days and 6, 12 months, and takes any number; so do we.
            let count = |unit: &str, most: u32| {
                let digits = name.strip_suffix(unit)?;
                let whole = digits.bytes().all(|digit| digit.is_ascii_digit());
                digits
                    .parse()
                    .ok()
                    .filter(|count| whole && (1..=most).contains(count))
            };
            count("d", 5_000)
                .map(DateRange::Days)
                .or_else(|| count("mo", 100).map(DateRange::Months))
        }
    }
}

/// Days that ClickHouse's dates and our time zones can tell apart.
fn day(text: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .filter(|_| text.len() == 10)?;
    (NaiveDate::from_ymd_opt(1970, 1, 2)?..=NaiveDate::from_ymd_opt(2100, 1, 1)?)
        .contains(&day)
        .then_some(day)
}

fn pair_of_dates(from: &str, to: &str) -> Option<DateRange> {
    Some(DateRange::Dates(day(from)?, day(to)?))
}

fn pair_of_instants(from: &str, to: &str) -> Option<DateRange> {
    let instant = |text: &str| {
        let instant = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
        day(&instant.format("%Y-%m-%d").to_string()).map(|_| instant)
    };
    Some(DateRange::Instants(instant(from)?, instant(to)?))
}
