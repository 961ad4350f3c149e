//! What a process does, and what must hold whenever it answers.

use super::{Broken, Fate, Name, Offset, PREPARED, Request, Told, World, ledger::Letter, owner, sending};
use crate::{genesis::Claim, writer::Effect};

impl World {
    pub(super) fn decide(&mut self, who: usize, mut request: Request) {
        let process = &mut self.processes[who];
        if !process.is_serving() {
            return process.waiting.push(request);
        }
        // A command that is done already is answered as it was then.
        let appends = request.appends && !process.decided.contains(&request.number);
        if appends {
            process.decided.push(request.number);
        }
        request.rests_on = process.decided.len();
        let prepared = PREPARED[usize::from(request.number) - 1].clone();
        let taken = match appends {
            true => process.writer.append(prepared, request),
            false => self.bug.hold(&mut process.writer, request),
        };
        assert!(taken.is_ok(), "it serves");
    }

    pub(super) fn perform(&mut self, who: usize) {
        loop {
            while let Some(effect) = self.processes[who].writer.effect() {
                self.perform_one(who, effect);
            }
            let process = &mut self.processes[who];
            if process.writer.down().is_some() {
                for request in std::mem::take(&mut process.waiting) {
                    self.tell(request.number, Told::NotDone);
                }
            } else if process.is_serving() && !process.waiting.is_empty() {
                let request = process.waiting.remove(0);
                self.decide(who, request);
                continue;
            }
            break;
        }
        let process = &self.processes[who];
        let (next, state) = process.writer.admitted();
        let known = self.ledger.states.get(next as usize);
        if known.is_none_or(|known| *known != state) {
            self.broken.get_or_insert(Broken::Folded);
        }
    }

    fn perform_one(&mut self, who: usize, effect: Effect<Request>) {
        let process = &mut self.processes[who];
        match effect {
            Effect::AppendClaim { id, epoch } => {
                self.drifting
                    .extend(process.appends.drain(..).filter_map(sending));
                process.end = None;
                let time = events::Timestamp::from_micros(0).expect("in range");
                let owner = owner(process.name);
                let letter = Letter::new(process.name, Claim { owner, time }.to_record(epoch));
                process.appends.push((id, Fate::Sending(letter)));
            }
            Effect::AppendCommit { id, record } => {
                let letter = Letter::new(process.name, record);
                process.appends.push((id, Fate::Sending(letter)));
            }
            Effect::ReadEnd { query, .. } => process.end = Some((query, None)),
            Effect::Forget { next } => {
                let history = self.ledger.before(next).iter();
                process.decided = history.map(|(_, number)| *number).collect();
            }
            Effect::Apply { offset, commit, .. } => {
                process
                    .decided
                    .push(u8::try_from(commit.tenant_seq).expect("few"));
                let length = process.decided.len();
                if !self.is_history(who, length, offset + 1) || length != self.ledger.before(offset + 1).len()
                {
                    self.broken.get_or_insert(Broken::Folded);
                }
            }
            Effect::Acknowledge { ticket, offset } => {
                if !self.is_history(who, ticket.rests_on, offset + 1) {
                    self.broken.get_or_insert(Broken::RestsOnVoid);
                }
                let place = self.ledger.history.binary_search(&(offset, ticket.number));
                if place.is_err() {
                    self.broken = Some(Broken::Acknowledged);
                } else if self.owner_at(offset) != Some(self.processes[who].name) {
                    self.broken.get_or_insert(Broken::OtherOwner);
                }
                self.tell(ticket.number, Told::Done);
            }
            Effect::Answer { ticket, next } => {
                let length = ticket.rests_on;
                if !self.is_history(who, length, next) {
                    self.broken.get_or_insert(Broken::RestsOnVoid);
                }
                // History grew one by one from what it was then to what it is now.
                if !(ticket.asked_at..=self.ledger.history.len()).contains(&length) {
                    self.broken.get_or_insert(Broken::Unjustified);
                }
                self.tell(ticket.number, Told::Done);
            }
            Effect::Redecide { ticket } => self.decide(who, ticket),
            Effect::Refuse { ticket, unknown } => {
                if process.is_serving() {
                    // Of mistaken ones only.
                    process.decided.retain(|number| *number != ticket.number);
                }
                let told = if unknown { Told::Unknown } else { Told::NotDone };
                self.tell(ticket.number, told);
            }
            Effect::Serving { epoch } => {
                let owner = self.ledger.owners.get(epoch as usize - 1);
                if owner != Some(&process.name) {
                    self.broken.get_or_insert(Broken::OtherOwner);
                }
            }
            Effect::SteppedDown { .. } => {
                self.drifting
                    .extend(process.appends.drain(..).filter_map(sending));
                process.end = None;
            }
            Effect::ReadTo { .. } | Effect::Recovering { .. } | Effect::Void { .. } => {}
        }
    }

    fn tell(&mut self, number: u8, told: Told) {
        let before = &mut self.told[usize::from(number) - 1];
        *before = match (*before, told) {
            // This attempt; what of an earlier one?
            (Told::NothingAgain, Told::NotDone) => Told::Unknown,
            (_, told) => told,
        };
        if *before == Told::NotDone && self.ledger.history.iter().any(|(_, done)| *done == number) {
            self.broken.get_or_insert(Broken::Denied);
        }
    }

    /// Whether the first so many that a process decided on are the first of history, and stand before this offset.
    fn is_history(&self, who: usize, length: usize, next: Offset) -> bool {
        let history = self.ledger.before(next).iter().map(|(_, number)| number);
        let decided = self.processes[who].decided.get(..length);
        decided.is_some_and(|decided| history.take(length).eq(decided))
    }

    pub(super) fn owner_at(&self, offset: Offset) -> Option<Name> {
        let epoch = self.ledger.states.get(offset as usize + 1)?.epoch;
        self.ledger
            .owners
            .get(usize::try_from(epoch).ok()?.checked_sub(1)?)
            .copied()
    }
}
