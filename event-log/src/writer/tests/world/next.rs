//! What may happen next.

use super::{Action, COMMANDS, Fate, PROBES, Process, Told, World};
use crate::writer::{Phase, tests::bug::Bug};

impl World {
    /// What comes by itself, when the world is left alone.
    pub(in crate::writer::tests) fn work(&self, actions: &mut Vec<Action>) {
        for (who, process) in self.processes.iter().enumerate() {
            let sending = |(_, fate): &(u64, Fate)| matches!(fate, Fate::Sending(_));
            if process.appends.iter().any(sending) {
                actions.push(Action::Land { who, repeated: false });
            }
            let reports = process.appends.iter().enumerate();
            let known = reports.filter(|(_, append)| !sending(append));
            actions.extend(known.map(|(place, _)| Action::Report { who, place }));
            match process.end {
                Some((_, None)) => actions.push(Action::Measure(who)),
                Some((_, Some(_))) => actions.push(Action::Hear(who)),
                None => {}
            }
            if process.reads(&self.ledger) {
                actions.push(Action::Read(who));
            }
        }
    }

    /// What may come at any time, and costs nothing, for nobody knows that it was under way.
    pub(in crate::writer::tests) fn drifts(&self, actions: &mut Vec<Action>) {
        let mut seen = Vec::new();
        for (place, letter) in self.drifting.iter().enumerate() {
            let mark = self.mark(letter);
            if !seen.contains(&mark) {
                seen.push(mark);
                actions.push(Action::Drift(place));
            }
        }
    }

    /// Requests of clients.
    pub(in crate::writer::tests) fn requests(&self, actions: &mut Vec<Action>) {
        let unknown = (1..).zip(&self.told).filter(|(_, told)| **told == Told::Unknown);
        let unknown: Vec<u8> = unknown.map(|(number, _)| number).collect();
        for (who, _) in self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.is_serving())
        {
            if self.told.len() + PROBES < usize::from(COMMANDS) {
                actions.extend([true, false].map(|appends| Action::Ask { who, appends }));
            }
            actions.extend(
                unknown
                    .iter()
                    .map(|number| Action::Retry { who, number: *number }),
            );
        }
    }

    /// Assignments, right or wrong. Processes that have done nothing yet are alike: the first of them is the next.
    pub(in crate::writer::tests) fn assignments(&self, actions: &mut Vec<Action>) {
        let is_new = |process: &Process| process.name.1 == 0 && process.writer.phase == Phase::Idle;
        let mut first = true;
        for (who, process) in self.processes.iter().enumerate() {
            let assignable = matches!(process.writer.phase, Phase::Idle | Phase::Down(_));
            if assignable && (!is_new(process) || std::mem::take(&mut first)) {
                actions.push(Action::Assign(who));
            }
        }
    }

    /// Snapshots that may be written now.
    pub(in crate::writer::tests) fn snapshots(&self, actions: &mut Vec<Action>) {
        let places = self.processes.iter().enumerate().filter(|(_, process)| {
            let settled = process.writer.in_flight().0 == 0 || self.bug == Bug::SnapshotSpeculation;
            process.is_serving() && settled && !process.decided.is_empty()
        });
        actions.extend(places.map(|(who, _)| Action::Snapshot(who)));
    }

    /// Faults.
    pub(in crate::writer::tests) fn troubles(&self, actions: &mut Vec<Action>) {
        for (who, process) in self.processes.iter().enumerate() {
            let mut first = true;
            for (place, (_, fate)) in process.appends.iter().enumerate() {
                if matches!(fate, Fate::Sending(_)) {
                    actions.push(match std::mem::take(&mut first) {
                        true => Action::Land { who, repeated: true },
                        false => Action::Overtake { who, place },
                    });
                    actions.extend([true, false].map(|definite| Action::Fail { who, place, definite }));
                }
            }
            if matches!(process.end, Some((_, None))) && process.writer.admitted().0 > 0 {
                actions.push(Action::Shrink(who));
            }
            match process.writer.phase {
                Phase::Idle => {}
                Phase::Down(_) => actions.push(Action::Crash(who)),
                Phase::Catching | Phase::Claiming { .. } | Phase::Serving => {
                    actions.extend([Action::Crash(who), Action::Release(who)]);
                }
            }
        }
    }
}
