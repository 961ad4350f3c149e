//! What an Idempotency-Key meant: which request had it, and where its commit stands in the log.
//!
//! Rebuilt from the log and expired by commit times, so it needs no events of its own and every owner of a
//! partition knows the same. Entries are small; the answer itself is read again from the log.

use std::collections::{HashMap, VecDeque};

use event_log::Offset;
use events::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a key is remembered, in commit times.
///
/// It is configured for each process, so it is no input of the log's fold. What rests on it is one decision, which
/// the partition's only owner takes: a process with a shorter time decides a retry anew that one with a longer time
/// would have answered, so the least that is configured anywhere is what clients can rely on. It stands in the
/// identity of the state on disk ([`super::state::fold`]): a longer time needs keys that the state with a shorter one
/// has dropped, so after a change the state is folded anew from the log, which has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    micros: i64,
}

impl Kept {
    /// So many hours.
    pub const fn hours(hours: u16) -> Self {
        Self {
            micros: hours as i64 * 60 * 60 * 1_000_000,
        }
    }

    /// The time before which keys are forgotten, at this commit time.
    pub fn forgotten_before(self, now: Timestamp) -> Timestamp {
        now.plus_micros(1 - self.micros)
    }

    /// Whether a key of that time still counts at this one.
    fn is_fresh(self, time: Timestamp, now: Timestamp) -> bool {
        now.micros() - time.micros() < self.micros
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} h", self.micros / (60 * 60 * 1_000_000))
    }
}

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
    /// Never, or so long ago that it is forgotten: decide.
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
    pub fn seen(&self, request: &Hash, now: Timestamp, kept: Kept) -> Seen {
        match self.offset {
            _ if !self.is_fresh(now, kept) => Seen::New,
            _ if self.request != *request => Seen::Other,
            None => Seen::Running,
            Some(offset) => Seen::Answered(offset),
        }
    }

    /// Whether it still counts.
    pub fn is_fresh(&self, now: Timestamp, kept: Kept) -> bool {
        kept.is_fresh(self.time, now)
    }
}

/// Keys that are in memory, the last ones, with what is remembered of each: of the directory's commands, few, as those
/// know them who only follow it; and of commands that left everything as it was, which the log knows nothing of.
#[derive(Debug)]
pub struct Keys<V = ()> {
    kept: Kept,
    most: usize,
    known: HashMap<Hash, (Timestamp, V)>,
    /// In commit order, so that expiry looks at the front only.
    order: VecDeque<(Timestamp, Hash)>,
}

impl<V> Keys<V> {
    /// None yet; so many at most.
    pub fn new(kept: Kept, most: usize) -> Self {
        Self {
            kept,
            most,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What is remembered of a key, if it still counts.
    pub fn get(&self, key: &Hash, now: Timestamp) -> Option<&V> {
        let (time, value) = self.known.get(key)?;
        self.kept.is_fresh(*time, now).then_some(value)
    }

    /// Remembers a key.
    pub fn insert(&mut self, key: Hash, value: V, now: Timestamp) {
        self.known.insert(key, (now, value));
        self.order.push_back((now, key));
        let (kept, most) = (self.kept, self.most);
        while let Some(first) = self.order.front()
            && (!kept.is_fresh(first.0, now) || self.order.len() > most)
        {
            let (time, key) = *first;
            self.order.pop_front();
            // A key used anew after it expired has a younger entry, which stays.
            if self.known.get(&key).is_some_and(|(known, _)| *known == time) {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Hash = [1; 16];
    const REQUEST: Hash = [2; 16];
    const HOUR: i64 = 60 * 60 * 1_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).expect("in range")
    }

    #[test]
    fn a_key_is_remembered_for_so_many_hours_of_commit_times() {
        for hours in [1, 24, 8_760] {
            remembered(Kept::hours(hours), i64::from(hours) * HOUR);
        }
    }

    fn remembered(kept: Kept, micros: i64) {
        let mut used = Used {
            request: REQUEST,
            time: at(0),
            offset: None,
        };
        assert_eq!(used.seen(&REQUEST, at(1), kept), Seen::Running);
        used.offset = Some(7);
        assert_eq!(used.seen(&REQUEST, at(micros - 1), kept), Seen::Answered(7));
        assert_eq!(used.seen(&[3; 16], at(micros - 1), kept), Seen::Other);
        assert_eq!(used.seen(&REQUEST, at(micros), kept), Seen::New);
        assert!(kept.forgotten_before(at(micros - 1)) <= at(0));
        assert!(kept.forgotten_before(at(micros)) > at(0));
    }

    #[test]
    fn a_key_used_anew_outlives_its_first_use() {
        let mut keys = Keys::new(Kept::hours(2), 9);
        keys.insert(KEY, 1, at(0));
        keys.insert(KEY, 2, at(2 * HOUR));
        assert_eq!(keys.get(&KEY, at(2 * HOUR + 1)), Some(&2));
        keys.insert([9; 16], 3, at(4 * HOUR));
        assert_eq!(keys.get(&KEY, at(4 * HOUR)), None);
        assert_eq!(keys.known.len(), 1);
    }

    #[test]
    fn only_the_last_keys_are_in_memory() {
        let mut keys = Keys::new(Kept::hours(2), 2);
        for key in 1..=3 {
            keys.insert([key; 16], key, at(key.into()));
        }
        let found = [1, 2, 3].map(|key| keys.get(&[key; 16], at(9)).copied());
        assert_eq!(found, [None, Some(2), Some(3)]);
    }
}
