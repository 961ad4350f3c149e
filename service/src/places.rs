//! Who waits, counted (or weighed) by who sent it: of all that may wait, none takes more than its share.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// How many of each sender wait.
#[derive(Debug)]
pub struct Places<K: Eq + Hash + Clone> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One that waits; it goes with what waits, not with who waits for it: a client that hangs up frees nothing.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    of: Arc<Places<K>>,
    sender: K,
    weight: usize,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many for each.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// A place, if the sender does not have its share already.
    pub fn take(self: &Arc<Self>, sender: K) -> Option<Place<K>> {
        self.take_of_weight(sender, 1)
    }

    /// So many places in one, if the sender has them left.
    pub fn take_of_weight(self: &Arc<Self>, sender: K, weight: usize) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let before = taken.get(&sender).copied().unwrap_or_default();
        let count = before.checked_add(weight).filter(|count| *count <= self.most)?;
        taken.insert(sender.clone(), count);
        let of = self.clone();
        Some(Place { of, sender, weight })
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.sender.clone()) {
            *count.get_mut() -= self.weight;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_all() {
        let places = Places::new(2);
        let first = places.take('a').unwrap();
        let second = places.take('a').unwrap();
        assert!(places.take('a').is_none());
        let other = places.take('b').unwrap();
        drop(first);
        assert!(places.take('a').is_some());
        drop((second, other));
        let heavy = places.take_of_weight('a', 2).unwrap();
        assert!(places.take('a').is_none() && places.take_of_weight('b', 3).is_none());
        drop(heavy);
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
