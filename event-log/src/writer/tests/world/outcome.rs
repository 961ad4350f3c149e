//! What has become of a world, and what will when it is left alone.

use super::{Action, Offset, PROBES, Process, Told, World};
use crate::writer::Phase;

impl World {
    pub(in crate::writer::tests) fn acknowledged(&self) -> usize {
        let done = |(_, number): &&(Offset, u8)| self.told[usize::from(*number) - 1] == Told::Done;
        self.ledger.history.iter().filter(done).count()
    }

    pub(in crate::writer::tests) fn told(&self, wanted: Told) -> bool {
        self.told.contains(&wanted)
    }

    /// How many processes have a commit in history.
    pub(in crate::writer::tests) fn authors(&self) -> usize {
        let mut owners: Vec<_> = self
            .ledger
            .history
            .iter()
            .map(|(at, _)| self.owner_at(*at))
            .collect();
        owners.sort_unstable();
        owners.dedup();
        owners.len()
    }

    /// Whether the log holds commits that mean nothing.
    pub(in crate::writer::tests) fn has_void_commits(&self) -> bool {
        self.ledger
            .letters
            .iter()
            .filter(|letter| letter.is_commit())
            .count()
            > self.ledger.history.len()
    }

    /// Whether nobody waits, and no process stands half-way: so it must be when there is no [`Self::work`] left.
    pub(in crate::writer::tests) fn is_settled(&self) -> bool {
        let rests = |process: &Process| {
            matches!(
                process.writer.phase,
                Phase::Idle | Phase::Serving | Phase::Down(_)
            ) && process.writer.is_idle()
                && process.waiting.is_empty()
        };
        let waits = |told: &Told| matches!(told, Told::Nothing | Told::NothingAgain);
        self.processes.iter().all(rests) && !self.told.iter().any(waits)
    }

    /// Whether the world, left alone from here on, comes to an end in which one process serves, has committed
    /// something and answered everybody. What drifts lands, or is lost.
    pub(in crate::writer::tests) fn recovers(&self, drifts: bool) -> bool {
        let mut world = self.clone();
        let (mut actions, mut probes, mut assigned) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            actions.clear();
            world.work(&mut actions);
            if drifts && actions.is_empty() {
                world.drifts(&mut actions);
            }
            let serving = world.processes.iter().position(Process::is_serving);
            match (actions.first(), serving) {
                _ if world.broken.is_some() => return false,
                (Some(action), _) => world.act(*action),
                (None, None) => {
                    // More than once, for it may find a late claim of another, or of an earlier self.
                    world.assignments(&mut actions);
                    let action = actions[assigned % actions.len()];
                    world.act(action);
                    assigned += 1;
                }
                // More than one of each, for a process that was superseded finds out when it is asked.
                (None, Some(_)) if probes > 1 && world.told.ends_with(&[Told::Done, Told::Done]) => {
                    return world.is_settled();
                }
                (None, Some(who)) if probes < PROBES => {
                    let appends = probes % 2 == 0;
                    world.act(Action::Ask { who, appends });
                    probes += 1;
                }
                (None, Some(_)) => return false,
            }
        }
        false
    }
}
