//! What has arrived and is not yet decided: a queue for each sharer of the partition, served in turn, so that one who
//! sends much delays himself and not the others.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// Requests with the time until which they wait.
pub(super) struct Queues<R> {
    queues: HashMap<u128, VecDeque<(Instant, R)>>,
    /// Whose turn it is, in order; each is here as long as something of it waits.
    turns: VecDeque<u128>,
    waiting: usize,
}

impl<R> Default for Queues<R> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<R> Queues<R> {
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Behind all of this sharer's.
    pub(super) fn push(&mut self, sharer: u128, until: Instant, request: R) {
        let queue = self.queues.entry(sharer).or_default();
        if queue.is_empty() {
            self.turns.push_back(sharer);
        }
        queue.push_back((until, request));
        self.waiting += 1;
    }

    /// Before everything: it was taken already and could not be decided.
    pub(super) fn put_back(&mut self, sharer: u128, until: Instant, request: R) {
        self.turns.retain(|other| *other != sharer);
        self.turns.push_front(sharer);
        self.queues
            .entry(sharer)
            .or_default()
            .push_front((until, request));
        self.waiting += 1;
    }

    /// The first of whose turn it is.
    pub(super) fn pop(&mut self) -> Option<R> {
        let sharer = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&sharer)?;
        let (_, request) = queue.pop_front()?;
        self.waiting -= 1;
        if queue.is_empty() {
            self.queues.remove(&sharer);
        } else {
            self.turns.push_back(sharer);
        }
        Some(request)
    }

    /// When the first of them has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, R)>| queue.iter().map(|(until, _)| *until).min();
        self.queues.values().filter_map(first).min()
    }

    /// Those that have waited long enough.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<R> {
        let mut expired = Vec::new();
        self.queues.retain(|_, queue| {
            while let Some((_, request)) = queue.pop_front_if(|(until, _)| *until <= now) {
                expired.push(request);
            }
            !queue.is_empty()
        });
        self.turns.retain(|sharer| self.queues.contains_key(sharer));
        self.waiting -= expired.len();
        expired
    }

    /// All of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = R> + use<R> {
        self.turns.clear();
        self.waiting = 0;
        let queues = std::mem::take(&mut self.queues);
        queues.into_values().flatten().map(|(_, request)| request)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sharers_take_turns_and_each_keeps_its_order() {
        let mut queues = Queues::default();
        let until = Instant::now();
        for n in 0..4 {
            queues.push(1, until, (1, n));
        }
        queues.push(2, until, (2, 0));
        queues.push(3, until, (3, 0));
        queues.push(2, until, (2, 1));
        let order: Vec<_> = std::iter::from_fn(|| queues.pop()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
        assert!(queues.is_empty());
    }

    #[test]
    fn what_is_put_back_comes_first_and_what_is_too_old_goes() {
        let mut queues = Queues::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        queues.push(1, now, "old");
        queues.push(1, later, "young");
        queues.push(2, later, "other");
        let old = queues.pop().unwrap();
        queues.put_back(1, now, old);
        assert_eq!(queues.deadline(), Some(now));
        assert_eq!(queues.expired(now), ["old"]);
        assert_eq!((queues.len(), queues.deadline()), (2, Some(later)));
        assert_eq!(queues.pop(), Some("young"));
        assert_eq!(queues.drain().collect::<Vec<_>>(), ["other"]);
        assert_eq!((queues.pop(), queues.len()), (None, 0));
    }
}
