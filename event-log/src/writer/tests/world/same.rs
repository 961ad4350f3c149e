//! When two worlds are the same, so that what can come of them is explored once.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Fate, Process, World, ledger::Letter};
use crate::writer::{Phase, tests::bug::Bug};

impl World {
    /// What a letter under way is to the future. All that can only become void are alike.
    pub(super) fn mark(&self, letter: &Letter) -> u64 {
        if self.bug == Bug::None && self.ledger.is_past(&letter.says) {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        letter.says.hash(&mut hasher);
        hasher.finish() | 1
    }
}

/// Two worlds are the same when the same can come of them: names of appends and questions are counted among those
/// that are still asked for, and whatever is void is alike.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for (letter, states) in self.ledger.letters.iter().zip(self.ledger.states.windows(2)) {
            let is_void = states[0] == states[1] && self.bug == Bug::None;
            (!is_void).then_some(letter.says).hash(hasher);
        }
        let mut drifting: Vec<u64> = self.drifting.iter().map(|letter| self.mark(letter)).collect();
        drifting.sort_unstable();
        drifting.hash(hasher);
        for process in &self.processes {
            process.hash_into(self, hasher);
        }
        if let Some(snapshot) = &self.snapshot {
            (snapshot.0, snapshot.1, &snapshot.2).hash(hasher);
        }
        self.told.hash(hasher);
        (
            self.requests,
            self.troubles,
            self.assignments,
            self.snapshots,
            self.broken,
        )
            .hash(hasher);
    }
}

impl Process {
    fn hash_into<H: Hasher>(&self, world: &World, hasher: &mut H) {
        let writer = &self.writer;
        let queue = writer.queue.iter().map(|sent| sent.id);
        let held = writer.held.iter().map(|held| held.id);
        let orphans = writer.orphans.0.iter().map(|(id, _)| *id);
        let appends = self.appends.iter().map(|(id, _)| *id);
        let mut ids: Vec<u64> = queue.chain(held).chain(orphans).chain(appends).collect();
        ids.sort_unstable();
        ids.dedup();
        let rank = |id: u64| ids.binary_search(&id).unwrap_or(usize::MAX);
        (
            self.name,
            writer.next,
            writer.state.hash,
            writer.read_to,
            writer.short_ends,
        )
            .hash(hasher);
        match &writer.phase {
            Phase::Idle => 0.hash(hasher),
            Phase::Catching => 1.hash(hasher),
            Phase::Claiming { id, epoch, at } => (2, rank(*id), epoch, at).hash(hasher),
            Phase::Serving => 3.hash(hasher),
            Phase::Down(_) => 4.hash(hasher),
        }
        for sent in &writer.queue {
            (
                rank(sent.id),
                sent.after.seq,
                sent.after.hash,
                sent.offset,
                &sent.ticket,
            )
                .hash(hasher);
        }
        for held in &writer.held {
            let asked = held.query <= writer.queries;
            (rank(held.id), held.rests_on, asked, held.end, &held.ticket).hash(hasher);
        }
        for (id, request) in &writer.orphans.0 {
            (rank(*id), request).hash(hasher);
        }
        (
            writer.tail.hash,
            &writer.epoch_owner,
            writer.query.map(|(_, known)| known),
        )
            .hash(hasher);
        (writer.queue.len(), writer.held.len(), writer.orphans.0.len()).hash(hasher);
        for (id, fate) in &self.appends {
            let fate = match fate {
                Fate::Sending(letter) => (0, world.mark(letter)),
                Fate::Landed(offset) => (1, *offset),
                Fate::Failed { definite } => (2, u64::from(*definite && world.bug != Bug::None)),
            };
            (rank(*id), fate).hash(hasher);
        }
        let end = self
            .end
            .map(|(query, end)| (writer.query.is_some_and(|(asked, _)| asked == query), end));
        (self.appends.len(), end, &self.decided, &self.waiting).hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let mark = |world: &Self| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        mark(self) == mark(other)
    }
}
