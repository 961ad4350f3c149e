//! Where a page of downloads begins: walking goes on after a row by what the row is ordered by, so that nothing is
//! missed or comes twice where others come, go and move meanwhile.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Download;

/// Which part of a list that is ordered by `P`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<P> {
    /// What follows so many.
    Skip(u64),
    /// What follows this place, whether anything is there or not.
    After(P),
}

impl<P> Part<P> {
    /// How many are passed over, and the place that is.
    pub(super) fn parts(&self) -> (i64, Option<&P>) {
        match self {
            Self::Skip(skip) => (i64::try_from(*skip).unwrap_or(i64::MAX), None),
            Self::After(place) => (0, Some(place)),
        }
    }
}

/// A place among all downloads, which are ordered by when they were queued first, the latest one first. Its text is
/// opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    pub(super) at: DateTime<Utc>,
    pub(super) download: Uuid,
}

/// A place in the queue: a lower priority first, equal ones in the order of queueing. Its text is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub(super) priority: i32,
    pub(super) seq: i64,
    pub(super) index: i32,
}

impl Download {
    /// Its place among all.
    pub const fn queued(&self) -> Queued {
        Queued {
            at: self.queued_at,
            download: self.download,
        }
    }

    /// Its place in the queue.
    pub const fn turn(&self) -> Turn {
        Turn {
            priority: self.priority,
            seq: self.queue_seq,
            index: self.queue_index,
        }
    }
}

/// A text that is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no place in a list of downloads")]
pub struct InvalidPlace;

impl fmt::Display for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.at.timestamp_micros(), self.download.simple())
    }
}

impl FromStr for Queued {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (micros, id) = text.split_once('~').ok_or(InvalidPlace)?;
        let micros: i64 = micros.parse().map_err(|_| InvalidPlace)?;
        // 1970 to 2199: PostgreSQL refuses much later times.
        if !(0..7_258_118_400_000_000).contains(&micros) {
            return Err(InvalidPlace);
        }
        Ok(Self {
            at: DateTime::from_timestamp_micros(micros).ok_or(InvalidPlace)?,
            download: Uuid::try_parse(id).map_err(|_| InvalidPlace)?,
        })
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}~{}", self.priority, self.seq, self.index)
    }
}

impl FromStr for Turn {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let mut parts = text.split('~');
        let (Some(priority), Some(seq), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidPlace);
        };
        Ok(Self {
            priority: priority.parse().map_err(|_| InvalidPlace)?,
            seq: seq.parse().map_err(|_| InvalidPlace)?,
            index: index.parse().map_err(|_| InvalidPlace)?,
        })
    }
}
