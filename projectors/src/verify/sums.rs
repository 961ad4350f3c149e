//! Rows that are final and have a place in the log, compared by sums: nothing is kept of a row, and their table is read
//! once. Where sums differ, rows are compared.

use std::{collections::HashMap, ops::Range};

/// Sums of events, at most: neighbours go together. They take some 2 MB.
const SUMS: u64 = 1 << 14;

/// Ranges of offsets that are asked for together.
const RANGES: usize = 64;

/// How many events there are at neighbouring offsets, and the sum of their fingerprints.
pub(super) struct Sums {
    /// So many offsets go together.
    width: u64,
    sums: HashMap<u64, (u64, u128)>,
}

impl Sums {
    /// Of offsets before this one: not so many sums that they would take much memory.
    pub(super) fn up_to(next: u64) -> Self {
        Self {
            width: next.div_ceil(SUMS).max(1),
            sums: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, offset: u64, print: u128) {
        let (count, sum) = self.sums.entry(offset / self.width).or_default();
        *count += 1;
        *sum = sum.wrapping_add(print);
    }

    /// The offsets at which another one says something else: some ranges at most, which may hold others too.
    pub(super) fn differing(&self, other: &Self) -> Vec<Range<u64>> {
        let differs = |it: &&u64| self.sums.get(*it) != other.sums.get(*it);
        let mut places: Vec<u64> = self
            .sums
            .keys()
            .chain(other.sums.keys())
            .filter(differs)
            .copied()
            .collect();
        places.sort_unstable();
        places.dedup();
        let mut gap = 0;
        loop {
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for place in &places {
                let (from, to) = (place * self.width, (place + 1) * self.width);
                match ranges.last_mut() {
                    Some(last) if from - last.end <= gap => last.end = to,
                    Some(_) | None => ranges.push(from..to),
                }
            }
            if ranges.len() <= RANGES {
                return ranges;
            }
            gap = (gap * 2).max(self.width);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is done to some rows, their offsets are found, in not too many ranges.
        #[test]
        fn what_was_changed_is_found(
            next in 1_u64..10_000_000,
            rows in proptest::collection::vec((any::<u32>(), 1_u128..), 1..300),
            changed in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..3), 0..200),
        ) {
            let (mut expected, mut found) = (Sums::up_to(next), Sums::up_to(next));
            let place = |offset: u32| u64::from(offset) % next;
            let mut changes = HashMap::new();
            for (index, change) in changed {
                changes.insert(index.index(rows.len()), change);
            }
            for (index, (offset, print)) in rows.iter().enumerate() {
                expected.add(place(*offset), *print);
                match changes.get(&index) {
                    None => found.add(place(*offset), *print),
                    // Gone, another one, or there twice.
                    Some(0) => {}
                    Some(1) => found.add(place(*offset), print.wrapping_add(1)),
                    Some(_) => (0..2).for_each(|_| found.add(place(*offset), *print)),
                }
            }
            let ranges = expected.differing(&found);
            prop_assert!(ranges.len() <= RANGES);
            prop_assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
            prop_assert_eq!(ranges.is_empty(), expected.sums == found.sums);
            // Changes of neighbours might make up for each other only by chance, so each is in a range.
            for index in changes.keys() {
                let offset = place(rows[*index].0);
                let same = expected.sums.get(&(offset / expected.width)) == found.sums.get(&(offset / found.width));
                prop_assert!(same || ranges.iter().any(|range| range.contains(&offset)));
            }
        }
    }
}
