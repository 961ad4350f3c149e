//! Points in time: microseconds of UTC, with one text for each.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01 UTC, of the years 1 to 9999. On the wire RFC 3339, always
/// `2026-11-21T16:03:00.000000Z`: one instant has one text, so equal events have equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text or a number that is no point in time of the years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: expected RFC 3339, as in 2026-11-21T16:03:00Z")]
pub struct InvalidTime(String);

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

impl Timestamp {
    /// The instant this many microseconds after 1970-01-01 UTC.
    ///
    /// # Errors
    /// Outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, InvalidTime> {
        if RANGE.contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(InvalidTime(micros.to_string()))
        }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The same instant, for calendars and columns.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// Reads the one text that we write, at its fixed places; none for any other. The general reader takes
    /// several times as long, and every event has a time.
    fn canonical(text: &[u8]) -> Option<Self> {
        let text: &[u8; 27] = text.try_into().ok()?;
        let number = |place: usize, width: usize| {
            text[place..place + width]
                .iter()
                .try_fold(0_u32, |number, digit| {
                    digit
                        .is_ascii_digit()
                        .then(|| number * 10 + u32::from(digit - b'0'))
                })
        };
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'.'),
            (26, b'Z'),
        ];
        if marks.iter().any(|(place, mark)| text[*place] != *mark) {
            return None;
        }
        let date = NaiveDate::from_ymd_opt(number(0, 4)?.try_into().ok()?, number(5, 2)?, number(8, 2)?)?;
        let time = date.and_hms_micro_opt(number(11, 2)?, number(14, 2)?, number(17, 2)?, number(20, 6)?)?;
        Self::from_micros(time.and_utc().timestamp_micros()).ok()
    }

    /// This many microseconds later (earlier, when negative), kept within the years 1 to 9999.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(*RANGE.start(), *RANGE.end()))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Below a microsecond is cut off; outside the years 1 to 9999 is brought to the nearest end.
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros().clamp(*RANGE.start(), *RANGE.end()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, mut text) = (self.to_utc(), *b"0000-00-00T00:00:00.000000Z");
        let mut put = |place: usize, width: usize, mut number: u32| {
            for digit in text[place..place + width].iter_mut().rev() {
                *digit += u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        };
        put(0, 4, time.year_ce().1);
        put(5, 2, time.month());
        put(8, 2, time.day());
        put(11, 2, time.hour());
        put(14, 2, time.minute());
        put(17, 2, time.second());
        put(20, 6, time.timestamp_subsec_micros());
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        if let Some(time) = Self::canonical(text.as_bytes()) {
            return Ok(time);
        }
        let invalid = || InvalidTime(text.chars().take(64).collect());
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| invalid())?;
        Self::from_micros(time.timestamp_micros()).map_err(|_| invalid())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}
