//! Which keys were used in the last 24 hours, and where their commits stand in the log.
//!
//! Rebuilt from the log at start and expired by commit times, so it needs no events of its own and every
//! owner of the partition has the same one. Entries are small; the answer itself is read again from the log.

use std::collections::{HashMap, VecDeque};

use event_log::Offset;
use events::Timestamp;

/// How long a key is remembered: 24 hours of commit times, in microseconds.
const KEPT: i64 = 24 * 60 * 60 * 1_000_000;

/// A keyed hash: of tenant, principal and Idempotency-Key, or of a request.
pub type Hash = [u8; 16];

/// Where a key's commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Decided and appended; its outcome is not known yet.
    Running,
    /// Admitted at this offset.
    At(Offset),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    request: Hash,
    place: Place,
    time: Timestamp,
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

/// The keys of one partition.
#[derive(Debug, Default)]
pub struct Keys {
    entries: HashMap<Hash, Entry>,
    /// In commit order, so that expiry looks at the front only.
    order: VecDeque<(Timestamp, Hash)>,
}

impl Keys {
    /// What this key meant so far, at this commit time.
    pub fn seen(&self, key: &Hash, request: &Hash, now: Timestamp) -> Seen {
        match self.entries.get(key) {
            Some(entry) if fresh(entry.time, now) => match entry.place {
                _ if entry.request != *request => Seen::Other,
                Place::Running => Seen::Running,
                Place::At(offset) => Seen::Answered(offset),
            },
            Some(_) | None => Seen::New,
        }
    }

    /// Whether any command had this key in the last 24 hours, whatever it asked for.
    pub fn used(&self, key: &Hash, now: Timestamp) -> bool {
        self.entries.get(key).is_some_and(|entry| fresh(entry.time, now))
    }

    /// A commit with this key was appended; what the key meant before is forgotten, for it was expired.
    pub fn runs(&mut self, key: Hash, request: Hash, time: Timestamp) {
        self.entries.insert(
            key,
            Entry {
                request,
                place: Place::Running,
                time,
            },
        );
    }

    /// The commit with this key was not admitted.
    pub fn failed(&mut self, key: &Hash) {
        self.entries.remove(key);
    }

    /// The commit with this key is admitted.
    pub fn admitted(&mut self, key: Hash, request: Hash, offset: Offset, time: Timestamp) {
        self.entries.insert(
            key,
            Entry {
                request,
                place: Place::At(offset),
                time,
            },
        );
        self.order.push_back((time, key));
        self.expire(time);
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(&(time, key)) = self.order.front() {
            if fresh(time, now) {
                break;
            }
            self.order.pop_front();
            // A key used anew after it expired has a younger entry, which stays.
            if self.entries.get(&key).is_some_and(|entry| entry.time == time) {
                self.entries.remove(&key);
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
        let mut keys = Keys::default();
        keys.admitted(KEY, REQUEST, 7, at(0));
        assert_eq!(keys.seen(&KEY, &REQUEST, at(KEPT - 1)), Seen::Answered(7));
        assert_eq!(keys.seen(&KEY, &[3; 16], at(KEPT - 1)), Seen::Other);
        assert_eq!(keys.seen(&KEY, &REQUEST, at(KEPT)), Seen::New);
        keys.admitted([9; 16], REQUEST, 8, at(KEPT));
        assert_eq!(keys.entries.len(), 1);
    }

    #[test]
    fn a_failed_command_frees_its_key() {
        let mut keys = Keys::default();
        keys.runs(KEY, REQUEST, at(0));
        assert_eq!(keys.seen(&KEY, &REQUEST, at(1)), Seen::Running);
        keys.failed(&KEY);
        assert_eq!(keys.seen(&KEY, &REQUEST, at(1)), Seen::New);
    }

    #[test]
    fn a_key_used_anew_outlives_its_first_use() {
        let mut keys = Keys::default();
        keys.admitted(KEY, REQUEST, 1, at(0));
        keys.runs(KEY, [4; 16], at(KEPT));
        keys.admitted(KEY, [4; 16], 2, at(KEPT));
        assert_eq!(keys.seen(&KEY, &[4; 16], at(KEPT + 1)), Seen::Answered(2));
    }
}
