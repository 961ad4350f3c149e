//! Who waits, counted by who sent it: of all that may wait, none takes more than its share.

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
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(sender.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        let of = self.clone();
        Some(Place { of, sender })
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.sender.clone()) {
            *count.get_mut() -= 1;
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
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
