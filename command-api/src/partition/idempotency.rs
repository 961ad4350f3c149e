//! What an Idempotency-Key meant: which request had it, and where its commit stands in the log.
//!
//! Rebuilt from the log and expired by commit times, so it needs no events of its own and every owner of a
//! partition knows the same. Entries are small; the answer itself is read again from the log.

use std::collections::{HashMap, VecDeque};

use event_log::Offset;
use events::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a key is remembered: 24 hours of commit times, in microseconds.
const KEPT: i64 = 24 * 60 * 60 * 1_000_000;

/// A keyed hash: of tenant, principal and Idempotency-Key, or of a request.
pub type Hash = [u8; 16];

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What was asked for.
    pub request: Hash,
    /// When it was decided.
    pub time: Timestamp,
    /// Where its commit stands; none, while its outcome is not known.
    pub offset: Option<Offset>,
}

/// What a key that comes again means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Never, or longer than 24 hours ago: decide.
    New,
    /// The same request, still running.
    Running,
    /// The same request: its commit stands at this offset.
    Answered(Offset),
    /// Another request had this key.
    Other,
}

impl Used {
    /// What it means that the key comes again at this commit time.
    pub fn seen(&self, request: &Hash, now: Timestamp) -> Seen {
        match self.offset {
            _ if !self.is_fresh(now) => Seen::New,
            _ if self.request != *request => Seen::Other,
            None => Seen::Running,
            Some(offset) => Seen::Answered(offset),
        }
    }

    /// Whether it still counts.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        fresh(self.time, now)
    }
}

/// The time before which keys are forgotten, at this commit time.
pub fn forgotten_before(now: Timestamp) -> Timestamp {
    now.plus_micros(1 - KEPT)
}

/// The keys that the directory's commands had, as those know them who only follow it: few.
#[derive(Debug, Default)]
pub struct Keys {
    times: HashMap<Hash, Timestamp>,
    /// In commit order, so that expiry looks at the front only.
    order: VecDeque<(Timestamp, Hash)>,
}

impl Keys {
    /// Whether any command had this key in the last 24 hours, whatever it asked for.
    pub fn used(&self, key: &Hash, now: Timestamp) -> bool {
        self.times.get(key).is_some_and(|time| fresh(*time, now))
    }

    /// The commit with this key is admitted.
    pub fn admitted(&mut self, key: Hash, now: Timestamp) {
        self.times.insert(key, now);
        self.order.push_back((now, key));
        while let Some((time, key)) = self.order.pop_front_if(|(time, _)| !fresh(*time, now)) {
            // A key used anew after it expired has a younger entry, which stays.
            if self.times.get(&key) == Some(&time) {
                self.times.remove(&key);
            }
        }
    }
}

fn fresh(time: Timestamp, now: Timestamp) -> bool {
    now.micros() - time.micros() < KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Hash = [1; 16];
    const REQUEST: Hash = [2; 16];

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).expect("in range")
    }

    #[test]
    fn a_key_is_remembered_for_a_day_of_commit_times() {
        let mut used = Used {
            request: REQUEST,
            time: at(0),
            offset: None,
        };
        assert_eq!(used.seen(&REQUEST, at(1)), Seen::Running);
        used.offset = Some(7);
        assert_eq!(used.seen(&REQUEST, at(KEPT - 1)), Seen::Answered(7));
        assert_eq!(used.seen(&[3; 16], at(KEPT - 1)), Seen::Other);
        assert_eq!(used.seen(&REQUEST, at(KEPT)), Seen::New);
        assert!(forgotten_before(at(KEPT - 1)) <= at(0));
        assert!(forgotten_before(at(KEPT)) > at(0));
    }

    #[test]
    fn a_key_used_anew_outlives_its_first_use() {
        let mut keys = Keys::default();
        keys.admitted(KEY, at(0));
        keys.admitted(KEY, at(KEPT));
        assert!(keys.used(&KEY, at(KEPT + 1)));
        keys.admitted([9; 16], at(2 * KEPT));
        assert!(!keys.used(&KEY, at(2 * KEPT)));
        assert_eq!(keys.times.len(), 1);
    }
}
