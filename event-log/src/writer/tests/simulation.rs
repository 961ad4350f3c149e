//! Two writers against one simulated log: appends are delayed, lost, reported failed and yet landing, landing twice;
//! processes pause and are assigned again. What is checked at every step:
//! an acknowledged commit is admitted, at that offset and once; the decision state that an answer rests on is the
//! admitted history; an answer that appends nothing misses nothing that was acknowledged before its request.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::Bug;
use crate::{
    admission::{State, Verdict},
    genesis::{Claim, Genesis, LogId},
    log::AppendError,
    partition::{Offset, Partition},
    record::Record,
    writer::{Effect, Writer, tests::commit},
};

/// A command: its number. Odd ones append, even ones only ask.
type Command = u64;

struct Request {
    command: Command,
    /// How many commits were acknowledged, by anyone, when it arrived.
    acknowledged_before: usize,
    /// Where its decision left the decision state.
    length: usize,
}

struct Process {
    writer: Writer<Request>,
    /// Admitted commands and, after them, speculated ones.
    decided: Vec<Command>,
    /// Appends on their way to the log, in order.
    sending: VecDeque<(u64, Record)>,
    /// Reports on their way back, in order.
    reports: VecDeque<(u64, Result<Offset, AppendError>)>,
    questions: VecDeque<u64>,
    answers: VecDeque<(u64, Offset)>,
}

impl Process {
    fn new(name: &str, bug: Bug) -> Self {
        let mut writer = Writer::new(name, 0, State::default());
        writer.bug = bug;
        Self {
            writer,
            decided: Vec::new(),
            sending: VecDeque::new(),
            reports: VecDeque::new(),
            questions: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }
}

/// The command that a commit carries.
fn number(record: &Record) -> Command {
    let events = events::envelope::decode(&record.value).expect("ours");
    events[0].envelope.id.uuid().as_u128() as u64
}

struct Simulation {
    log: Vec<Record>,
    /// What of the log is folded, into which state and which history.
    folded: usize,
    state: State,
    history: Vec<(Offset, Command)>,
    processes: [Process; 2],
    /// Copies of what was sent that may land at any later time.
    ghosts: Vec<Record>,
    commands: Command,
    acknowledged: HashMap<Command, Offset>,
    faults: bool,
    wrong: Option<String>,
}

impl Simulation {
    fn new(bug: Bug) -> Self {
        let genesis = Genesis::new(LogId(uuid::Uuid::nil()), Partition::ledger(0), 1).to_record();
        Self {
            log: vec![genesis],
            folded: 0,
            state: State::default(),
            history: Vec::new(),
            processes: [Process::new("a", bug), Process::new("b", bug)],
            ghosts: Vec::new(),
            commands: 0,
            acknowledged: HashMap::new(),
            faults: true,
            wrong: None,
        }
    }

    /// Admitted history: commands by offset, as any reader derives it.
    fn history(&mut self) -> &[(Offset, Command)] {
        for (offset, record) in (0..).zip(&self.log).skip(self.folded) {
            if let Verdict::Commit(_) = self.state.admit(offset, record) {
                self.history.push((offset, number(record)));
            }
        }
        self.folded = self.log.len();
        &self.history
    }

    fn step(&mut self, who: usize, choice: u8) {
        let (ghosts, log, faults) = (&mut self.ghosts, &mut self.log, self.faults);
        let process = &mut self.processes[who];
        match choice % 16 {
            0 | 1 => self.request(who),
            2..=4 => {
                if let Some((id, record)) = process.sending.pop_front() {
                    log.push(record);
                    process.reports.push_back((id, Ok(log.len() as Offset - 1)));
                }
            }
            5 if faults => {
                // Lost, and reported so; a copy may be in a socket somewhere.
                if let Some((id, record)) = process.sending.pop_front() {
                    if choice & 16 != 0 {
                        ghosts.push(record);
                    }
                    process
                        .reports
                        .push_back((id, Err(AppendError::Unknown("lost".into()))));
                }
            }
            6 if faults => {
                // It landed, but the report says that nobody knows.
                if let Some((id, record)) = process.sending.pop_front() {
                    log.push(record);
                    process
                        .reports
                        .push_back((id, Err(AppendError::Unknown("timed out".into()))));
                }
            }
            7 if faults => {
                if let Some(record) =
                    (!ghosts.is_empty()).then(|| ghosts.remove(usize::from(choice >> 4) % ghosts.len()))
                {
                    log.push(record);
                }
            }
            8 if faults && choice & 48 == 0 => {
                if let Some(copy) = log.get(usize::from(choice) % log.len()).cloned() {
                    ghosts.push(copy);
                }
            }
            9 | 10 => {
                if let Some((id, outcome)) = process.reports.pop_front() {
                    process.writer.appended(id, outcome);
                }
            }
            11 => {
                if let Some(query) = process.questions.pop_front() {
                    process.answers.push_back((query, log.len() as Offset));
                }
            }
            12 => {
                if let Some((query, end)) = process.answers.pop_front() {
                    process.writer.ended(query, Ok(end));
                }
            }
            13 | 14 => {
                let next = process.writer.admitted().0;
                let available = process.writer.wanted().unwrap_or(0).min(log.len() as Offset);
                for offset in next..available.min(next + 1 + Offset::from(choice >> 5)) {
                    let record = log[offset as usize].clone();
                    process.writer.read(offset, &record);
                }
            }
            15 if faults && choice & 112 == 16 => {
                // Killed and started again; what it sent may land all the same.
                let bug = process.writer.bug;
                let killed = std::mem::replace(process, Process::new(["a2", "b2"][who], bug));
                ghosts.extend(killed.sending.into_iter().map(|(_, record)| record));
                process.writer.assigned();
            }
            15 if choice & 48 == 0 || !faults => process.writer.assigned(),
            _ => {}
        }
        self.effects(who);
    }

    fn request(&mut self, who: usize) {
        if !self.processes[who].writer.is_serving() || self.commands > 400 {
            return;
        }
        self.commands += 1;
        let acknowledged_before = self.acknowledged.len();
        self.decide(
            who,
            Request {
                command: self.commands,
                acknowledged_before,
                length: 0,
            },
        );
    }

    fn decide(&mut self, who: usize, mut request: Request) {
        let process = &mut self.processes[who];
        let appends = request.command % 2 == 1 && !process.decided.contains(&request.command);
        if appends {
            process.decided.push(request.command);
        }
        request.length = process.decided.len();
        let prepared = commit(request.command).prepare().expect("small");
        let taken = if appends {
            process.writer.append(prepared, request)
        } else {
            process.writer.hold(request)
        };
        if let Err(request) = taken {
            // As the driver does: it waits for a better day, which this simulation does not tell.
            if appends {
                process.decided.retain(|command| *command != request.command);
            }
        }
    }

    fn effects(&mut self, who: usize) {
        while let Some(effect) = self.processes[who].writer.effect() {
            let process = &mut self.processes[who];
            match effect {
                Effect::AppendClaim { id, epoch } => {
                    let owner = ["a", "b"][who].to_owned();
                    let time = events::Timestamp::from_micros(0).expect("in range");
                    process
                        .sending
                        .push_back((id, Claim { owner, time }.to_record(epoch)));
                }
                Effect::AppendCommit { id, record } => process.sending.push_back((id, record)),
                Effect::ReadEnd { query, .. } => process.questions.push_back(query),
                Effect::Forget { next } => {
                    let history = self.history();
                    let admitted = history.iter().filter(|(offset, _)| *offset < next);
                    self.processes[who].decided = admitted.map(|(_, command)| *command).collect();
                }
                Effect::Apply { offset, record, .. } => {
                    process.decided.push(number(&record));
                    let length = process.decided.len();
                    self.check_rests_on_history(who, length, offset + 1, "a fold");
                }
                Effect::Acknowledge { ticket, offset } => {
                    self.check_rests_on_history(who, ticket.length, offset + 1, "an acknowledgement");
                    if self.acknowledged.insert(ticket.command, offset).is_some() {
                        self.wrong
                            .get_or_insert(format!("command {} was acknowledged twice", ticket.command));
                    }
                    if !self.history().contains(&(offset, ticket.command)) {
                        self.wrong.get_or_insert(format!(
                            "command {} at {offset} was acknowledged and is void",
                            ticket.command
                        ));
                    }
                }
                Effect::Answer { ticket, next } => {
                    self.check_rests_on_history(who, ticket.length, next, "an answer");
                    if ticket.length < ticket.acknowledged_before {
                        self.wrong.get_or_insert(format!(
                            "an answer rests on {} commits; {} were acknowledged before it was asked",
                            ticket.length, ticket.acknowledged_before
                        ));
                    }
                }
                Effect::Redecide { ticket } => self.decide(who, ticket),
                Effect::ReadTo { .. }
                | Effect::Refuse { .. }
                | Effect::Serving { .. }
                | Effect::Recovering { .. }
                | Effect::SteppedDown { .. }
                | Effect::Void { .. } => {}
            }
        }
    }

    /// What was decided, up to this length, must be the beginning of history, and stand before `next`.
    fn check_rests_on_history(&mut self, who: usize, length: usize, next: Offset, what: &str) {
        let history = self.history().iter().filter(|(offset, _)| *offset < next);
        let commands: Vec<_> = history.map(|(_, command)| *command).collect();
        let decided = &self.processes[who].decided;
        if decided
            .get(..length)
            .is_none_or(|decided| commands.get(..length) != Some(decided))
        {
            self.wrong.get_or_insert(format!(
                "{what} before {next} rests on {decided:?}; history is {commands:?}"
            ));
        }
    }

    /// No more faults: whoever can, finishes; one of the two must serve in the end.
    fn calm_down(&mut self) {
        self.faults = false;
        self.commands = 1_000;
        for round in 0..2_000_u32 {
            for who in 0..2 {
                for choice in [2, 9, 11, 12, 0b1110_1101] {
                    self.step(who, choice);
                }
            }
            let quiet =
                |p: &Process| p.sending.is_empty() && p.reports.is_empty() && p.writer.wanted().is_none();
            if round > 50 && self.processes.iter().all(quiet) {
                if self.processes.iter().any(|process| process.writer.is_serving()) {
                    break;
                }
                self.processes[0].writer.assigned();
            }
        }
        if !self.processes.iter().any(|process| process.writer.is_serving()) {
            self.wrong
                .get_or_insert("nobody serves, though both were given the time".to_owned());
        }
    }
}

fn run(bug: Bug, choices: &[(bool, u8)]) -> Option<String> {
    let mut simulation = Simulation::new(bug);
    simulation.processes[0].writer.assigned();
    simulation.effects(0);
    for (who, choice) in choices {
        simulation.step(usize::from(*who), *choice);
        if simulation.wrong.is_some() {
            return simulation.wrong;
        }
    }
    simulation.calm_down();
    simulation.wrong
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn two_writers_make_one_history_and_keep_every_promise(
        choices in prop::collection::vec((prop::bool::weighted(0.3), any::<u8>()), 0..600),
    ) {
        prop_assert_eq!(run(Bug::None, &choices), None);
    }
}

/// Choices from a small generator, so that this test finds the same mistakes on every run.
fn choices(seed: u64) -> Vec<(bool, u8)> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..600)
        .map(|_| {
            let n = next();
            (n % 10 < 3, (n >> 32) as u8)
        })
        .collect()
}

#[test]
fn each_forgotten_rule_is_noticed() {
    for bug in [
        Bug::AcknowledgeOnGap,
        Bug::KeepEpochAfterFailure,
        Bug::AnswerWithoutEnd,
        Bug::SkipAdmission,
    ] {
        let found = (0..200).find_map(|seed| run(bug, &choices(seed)));
        assert!(found.is_some(), "{bug:?} went unnoticed");
    }
}

#[test]
fn the_simulation_does_its_work() {
    let mut acknowledged = 0;
    let mut serving = [0; 2];
    for seed in 0..50 {
        let mut simulation = Simulation::new(Bug::None);
        simulation.processes[0].writer.assigned();
        simulation.effects(0);
        for (who, choice) in choices(seed) {
            simulation.step(usize::from(who), choice);
            for (count, process) in serving.iter_mut().zip(&simulation.processes) {
                *count += usize::from(process.writer.is_serving());
            }
        }
        acknowledged += simulation.acknowledged.len();
    }
    assert!(acknowledged > 200, "{acknowledged} acknowledged");
    assert!(
        serving.iter().all(|steps| *steps > 100),
        "{serving:?} steps of serving"
    );
}
