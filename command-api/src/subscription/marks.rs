//! What admission knew at some places of each partition, so that whoever begins in the middle reads from not far
//! before.
//!
//! Whoever reads leaves marks. Of a partition there are at most so many at even distances, which double when there are
//! too many, and the last few wherever they are, so that who reads on from one is not thrown back.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use event_log::{Offset, Partition, State};

/// Whoever reads leaves a mark at every offset that this divides.
pub const EVERY: Offset = 4096;
/// At most so many marks of a partition at even distances: about half a megabyte.
const MOST: usize = 4096;
/// And so many of the last ones.
const LAST: usize = 32;

/// Marks of all partitions.
#[derive(Debug, Default)]
pub struct Marks(Mutex<HashMap<Partition, Row>>);

/// Marks of one partition.
#[derive(Debug)]
struct Row {
    distance: Offset,
    even: BTreeMap<Offset, State>,
    last: VecDeque<(Offset, State)>,
}

impl Marks {
    /// The last known place that is not after this offset, and what admission knew there, before its record.
    pub fn before(&self, partition: Partition, offset: Offset) -> (Offset, State) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(row) = all.get(&partition) else {
            return Default::default();
        };
        let even = row.even.range(..=offset).next_back();
        let even = even.map_or_else(Default::default, |(at, state)| (*at, *state));
        let last = row.last.iter().copied().filter(|(at, _)| *at <= offset);
        last.fold(even, |best, mark| if mark.0 > best.0 { mark } else { best })
    }

    /// Remembers what admission knows before the record at this offset.
    pub fn keep(&self, partition: Partition, offset: Offset, state: State) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = all.entry(partition).or_insert_with(|| Row {
            distance: EVERY,
            even: BTreeMap::new(),
            last: VecDeque::new(),
        });
        if offset.is_multiple_of(row.distance) {
            row.even.insert(offset, state);
            while row.even.len() > MOST {
                row.distance *= 2;
                let distance = row.distance;
                row.even.retain(|offset, _| offset.is_multiple_of(distance));
            }
        } else if row.last.iter().all(|(at, _)| *at != offset) {
            row.last.push_back((offset, state));
            row.last.drain(..row.last.len().saturating_sub(LAST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_and_stand_at_even_distances_and_the_last_ones_stay() {
        let (marks, partition) = (Marks::default(), Partition::ledger(3));
        let state = |epoch| State {
            epoch,
            ..State::default()
        };
        assert_eq!(marks.before(partition, 1_000), (0, State::default()));
        let end = EVERY * 100_000;
        for offset in (0..end).step_by(EVERY as usize) {
            marks.keep(partition, offset, state(offset));
            marks.keep(partition, offset + 7, state(offset + 7));
            assert_eq!(
                marks.before(partition, Offset::MAX),
                (offset + 7, state(offset + 7))
            );
        }
        for offset in (0..end).step_by(1_000_003) {
            let (at, known) = marks.before(partition, offset);
            assert!(
                at <= offset && offset - at < 2 * end / MOST as u64,
                "{at} for {offset}"
            );
            assert_eq!(known, state(at));
        }
        let all = marks.0.lock().unwrap();
        assert!(all[&partition].even.len() <= MOST && all[&partition].last.len() <= LAST);
    }
}
