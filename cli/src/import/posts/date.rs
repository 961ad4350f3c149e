//! Dates as writers of front matter and file names put them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

/// Reads a date or a time; without an offset it is UTC, without a time it is midnight.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    for with_offset in [
        "%Y-%m-%d %H:%M:%S%.f %z",
        "%Y-%m-%d %H:%M:%S%.f%:z",
        "%Y-%m-%d %H:%M %z",
    ] {
        if let Ok(time) = DateTime::parse_from_str(text, with_offset) {
            return Some(time.to_utc());
        }
    }
    for local in [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, local) {
            return Some(time.and_utc());
        }
    }
    ["%Y-%m-%d", "%Y/%m/%d"]
        .into_iter()
        .find_map(|form| NaiveDate::parse_from_str(text, form).ok())
        .map(midnight)
}

/// The date that a path's parts or its last name begin with: `2016/07/25/name`, `inside/2019/9/5/name`,
/// `2016-07-25-name.md`.
pub(crate) fn in_path(path: &str) -> Option<DateTime<Utc>> {
    let parts: Vec<&str> = path.split('/').collect();
    let in_folders = parts
        .windows(3)
        .find_map(|window| day(window[0], window[1], window[2]));
    in_folders.or_else(|| parts.iter().rev().find_map(|part| split_name(part).0))
}

/// Takes the date off a name that begins with one: `2016-07-25-name` is that day and `name`.
pub(crate) fn split_name(name: &str) -> (Option<DateTime<Utc>>, &str) {
    let none = (None, name);
    let (Some(date), Some(rest)) = (name.get(..10), name.get(10..)) else {
        return none;
    };
    let mut parts = date.split(['-', '_']);
    let (Some(year), Some(month), Some(of_month)) = (parts.next(), parts.next(), parts.next()) else {
        return none;
    };
    if !(rest.is_empty() || rest.starts_with(['-', '_', ' ', '.'])) {
        return none;
    }
    match day(year, month, of_month) {
        Some(date) => (Some(date), rest.trim_start_matches(['-', '_', ' ', '.'])),
        None => none,
    }
}

/// A day of its three numbers, of which the year has four digits.
fn day(year: &str, month: &str, day: &str) -> Option<DateTime<Utc>> {
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let fits = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let year = i32::try_from(number(year, 4..=4)?).ok()?;
    NaiveDate::from_ymd_opt(year, number(month, 1..=2)?, number(day, 1..=2)?).map(midnight)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn every_usual_form_is_read() {
        for (text, expected) in [
            ("2020-01-02", "2020-01-02T00:00:00Z"),
            ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),
            ("2020-01-02T03:04:05+02:00", "2020-01-02T01:04:05Z"),
            ("2020-01-02 03:04:05 +0200", "2020-01-02T01:04:05Z"),
            ("2020-01-02 03:04:05", "2020-01-02T03:04:05Z"),
            ("2020-01-02T03:04:05.5", "2020-01-02T03:04:05.5Z"),
            (" 2020/01/02 ", "2020-01-02T00:00:00Z"),
        ] {
            assert_eq!(parse(text), Some(at(expected)), "{text}");
        }
        for text in ["", "yesterday", "2020-13-02", "2020-02-30", "12"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn paths_and_names_that_begin_with_a_date_give_it() {
        for (path, expected) in [
            ("2016/07/25/conf-lineup", Some("2016-07-25T00:00:00Z")),
            ("inside-rust/2019/9/5/all-hands", Some("2019-09-05T00:00:00Z")),
            ("posts/2016-07-25-name.md", Some("2016-07-25T00:00:00Z")),
            ("posts/2016-07-25-name/index.md", Some("2016-07-25T00:00:00Z")),
            ("2025-09-crates-io", None),
            ("2016/77/25/x", None),
            ("Rust-1.0.md", None),
            ("20160-07-2", None),
        ] {
            assert_eq!(in_path(path), expected.map(at), "{path}");
        }
        assert_eq!(split_name("2016-07-25-name").1, "name");
        assert_eq!(split_name("2016-07-25x").1, "2016-07-25x");
        assert_eq!(split_name("äöüäöüäöü").1, "äöüäöüäöü");
    }
}
