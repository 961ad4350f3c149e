//! Which request an Idempotency-Key of visits came with, as far as this process remembers.
//!
//! Nobody decides visits, so nothing in the log says which keys they came with. What counts rests on the ids alone,
//! which are made of key and request: the same request counts once for ever, another one with the same key is other
//! visits. That it is a mistake of the client's is told where it is known: by the process that took the first one,
//! while that is among the last [`MOST`] and not older than keys are kept. Anywhere else it is taken. There it is known
//! as well who the visitor of a view was, and when: a retry may come from another address, and be another visitor's.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use events::{Timestamp, VisitorId};

use crate::partition::idempotency::Hash;

/// How many keys are remembered: some 10 MB.
const MOST: usize = 65_536;

/// A key, and what it came with.
#[derive(Debug, Clone, Copy)]
pub struct Keyed {
    /// Keyed hash of tenant, principal and Idempotency-Key.
    pub key: Hash,
    /// Keyed hash of method, path and body.
    pub request: Hash,
    /// Of a view, whose it is.
    pub viewed: Option<Viewed>,
}

/// The last keys that came with visits.
#[derive(Debug)]
pub(super) struct VisitKeys {
    kept: Duration,
    most: usize,
    known: Mutex<Known>,
}

/// Who viewed, and when.
pub type Viewed = (VisitorId, Timestamp);

#[derive(Debug, Default)]
struct Known {
    /// When it came, the request, and of a view who viewed.
    requests: HashMap<Hash, (Instant, Hash, Option<Viewed>)>,
    /// In the order of their first use.
    order: VecDeque<(Instant, Hash)>,
}

impl VisitKeys {
    /// None yet; each is remembered for so long.
    pub(super) fn new(kept: Duration) -> Self {
        Self {
            kept,
            most: MOST,
            known: Mutex::default(),
        }
    }

    /// Remembers the key with its request; whether no other request is known to have had it.
    pub(super) fn take(&self, keyed: Keyed, now: Instant) -> bool {
        let Keyed { key, request, viewed } = keyed;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { requests, order } = &mut *known;
        let old = |time: &Instant| now.saturating_duration_since(*time) >= self.kept;
        while let Some((_, key)) = order.pop_front_if(|(time, _)| old(time)) {
            requests.remove(&key);
        }
        if let Some((_, first, _)) = requests.get(&key) {
            return *first == request;
        }
        if order.len() >= self.most
            && let Some((_, key)) = order.pop_front()
        {
            requests.remove(&key);
        }
        requests.insert(key, (now, request, viewed));
        order.push_back((now, key));
        true
    }

    /// Whose view it was when this request first came with this key, if that is known.
    pub(super) fn viewed(&self, key: Hash, request: Hash, now: Instant) -> Option<Viewed> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (time, first, viewed) = known.requests.get(&key)?;
        // What is older is another view: of another day, perhaps, whose visitors nobody may know any more.
        let fresh = now.saturating_duration_since(*time) < self.kept;
        viewed.filter(|_| fresh && *first == request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: u8, request: u8) -> Keyed {
        Keyed {
            key: [key; 16],
            request: [request; 16],
            viewed: None,
        }
    }

    #[test]
    fn another_request_with_the_same_key_is_known_for_its_time() {
        let (keys, start) = (VisitKeys::new(Duration::from_secs(60)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(keys.take(keyed(1, 1), at(0)));
        assert!(keys.take(keyed(1, 1), at(59)), "the same request");
        assert!(!keys.take(keyed(1, 2), at(59)), "another request");
        assert!(keys.take(keyed(2, 2), at(59)), "another key");
        assert!(keys.take(keyed(1, 2), at(60)), "it is forgotten");
        assert!(!keys.take(keyed(1, 1), at(60)));
    }

    #[test]
    fn a_view_is_of_whom_it_first_was() {
        let (kept, now) = (Duration::from_secs(60), Instant::now());
        let keys = VisitKeys::new(kept);
        let [one, other] = [1, 2].map(|who| Some((VisitorId::new(who), Timestamp::from_micros(7).unwrap())));
        let by = |viewed| Keyed {
            viewed,
            ..keyed(1, 1)
        };
        assert_eq!(keys.viewed([1; 16], [1; 16], now), None);
        assert!(keys.take(by(one), now) && keys.take(by(other), now));
        let last = now + kept - Duration::from_nanos(1);
        assert_eq!(keys.viewed([1; 16], [1; 16], last), one);
        assert_eq!(keys.viewed([1; 16], [2; 16], last), None, "another request");
        assert_eq!(keys.viewed([1; 16], [1; 16], now + kept), None, "it is forgotten");
    }

    #[test]
    fn only_the_last_keys_are_remembered() {
        let mut keys = VisitKeys::new(Duration::from_secs(60));
        keys.most = 2;
        let now = Instant::now();
        for key in 1..=3 {
            assert!(keys.take(keyed(key, 1), now));
        }
        assert!(!keys.take(keyed(3, 2), now) && !keys.take(keyed(2, 2), now));
        assert!(keys.take(keyed(1, 2), now), "the first was forgotten");
        assert_eq!(keys.known.lock().unwrap().requests.len(), 2);
    }
}
