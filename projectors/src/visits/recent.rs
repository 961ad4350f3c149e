//! What a partition has seen already: the ids of its last events, and how far each import has come.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::Hasher,
};

use foldhash::fast::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};
use uuid::Uuid;

use super::decode::Visit;

/// An id that stands among so many last events of the partition counts once. A client repeats a request
/// within seconds; so many events are a minute of a thousand events a second. Lines of imports are not among them:
/// their marks say which were there before, and an import would push the ids of clients out within seconds.
pub const REMEMBERED: usize = 65_536;

/// The ids of the partition's last live events. Clients choose ids, so each counts within its tenant and site only: what
/// is remembered is a 128-bit hash of the three. Hashes need no strong hash once more, only one that nobody outside
/// can foretell.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    order: VecDeque<u128>,
    known: HashSet<u128, RandomState>,
}

impl Recent {
    /// Whether an event is none of them.
    pub(super) fn is_other(&self, visit: &Visit<'_>) -> bool {
        !self.known.contains(&remembered(visit))
    }

    /// Whether a live event is new; remembers it then.
    pub(super) fn is_new(&mut self, visit: &Visit<'_>) -> bool {
        let id = remembered(visit);
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        self.order.iter().copied()
    }

    pub(super) fn restore(&mut self, id: u128) {
        self.known.insert(id);
        self.order.push_back(id);
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

fn remembered(visit: &Visit<'_>) -> u128 {
    let mut hasher = SipHasher13::new();
    [visit.tenant, visit.site, visit.id]
        .iter()
        .for_each(|id| hasher.write(id.as_bytes()));
    hasher.finish128().as_u128()
}

/// The highest line of each import that this partition has: lines of an import come in order, so a line
/// that is not above it was there before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(pub(super) BTreeMap<Uuid, u64>);

impl Marks {
    /// Whether a line is new; moves the mark then.
    pub(super) fn is_new(&mut self, import: Uuid, line: u64) -> bool {
        match self.0.entry(import) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(line);
                true
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let new = line > *entry.get();
                if new {
                    entry.insert(line);
                }
                new
            }
        }
    }
}
