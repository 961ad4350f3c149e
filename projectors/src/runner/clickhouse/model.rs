//! Every interleaving of the protocol with crashes, slow inserts and lost answers, on a world small enough to
//! be explored completely: one partition, two records of one row each, inserts of one or both of them, two
//! troubles. A trouble is a crash, a process that seems dead while it is not, or an insert that is lost, whose answer
//! is, or that is lost while ClickHouse remembers its token. In other worlds PostgreSQL is put back to what it was at any
//! earlier time, under two processes. The code explored is the state machine that runs.
//!
//! Longer than a file should be: one world, and everything that can happen in it.
//!
//! What must hold: whatever lies before the checkpoint stands in the tables exactly once, at any time; and when nothing
//! is left to happen, the checkpoint is at the end. No world comes back (fences only rise, and between two takings over
//! a machine only goes forward), so that is progress without any fairness. Taking away any part of the protocol must
//! show: a model that cannot fail proves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::{Effect, Found, Held, Input, Machine, Range, Unsettled};

const TROUBLES: u8 = 2;

/// What is left out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// An insert does not look at the fence.
    NoFence,
    /// Inserts that are running are not ended.
    NoKill,
    /// A range that was recorded is taken for written.
    NoCompare,
    /// What lies beyond the checkpoint stays.
    NoTrim,
    /// What lies beyond a checkpoint is deleted by anyone.
    NoFenceOnDeleting,
    /// A checkpoint moves for anyone.
    NoCondition,
    /// A new fence is above the one in PostgreSQL only.
    NoFenceKnown,
    /// A new fence is always the next one, so that two may have the same.
    NextFence,
    /// Whoever has written its fences does not see whether the checkpoints are still its own.
    NoSettling,
    /// A range that is written again has the token that it had.
    SameToken,
    /// Whoever does not know what became of an insert does not begin again.
    GivingUp,
    /// Whoever waits at the log's end does not see that its checkpoint went back.
    NoEnd,
}

/// Whether PostgreSQL may come back at an older state; then there are two processes, one record and no other trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Restores {
    Never,
    Once,
}

impl Restores {
    const fn records(self) -> u64 {
        match self {
            Self::Never => 2,
            Self::Once => 1,
        }
    }
}

/// What became of the backup of PostgreSQL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Backup {
    NotTaken,
    Taken(Control),
    Restored,
}

/// An insert on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
struct Flight {
    fence: u64,
    rows: Vec<u64>,
    /// Whether it has looked at the fence: from then on only an end put to it stops it.
    begun: bool,
    /// The process that waits for its answer; none after a crash.
    owner: Option<u64>,
    /// An insert whose token ClickHouse knows is dropped, and reported as written.
    token: Token,
}

/// Of a fence, and the range under it.
type Token = (u64, u64, u64);

/// A process: its machine, what it is to do, and what it knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process {
    id: u64,
    machine: Machine,
    effect: Effect,
    fence: u64,
    /// The highest fence in ClickHouse when it looked.
    known: Option<u64>,
    /// What it folded last.
    folded: Option<(u64, u64)>,
    /// Its fold goes on from here.
    next: u64,
}

/// What PostgreSQL holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Control {
    checkpoint: u64,
    fence: u64,
    recorded: BTreeMap<i64, (i32, Range)>,
    inserts: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    control: Control,
    backup: Backup,
    /// Fences that were ever taken.
    taken: BTreeSet<u64>,
    /// How often each offset's row stands in the table.
    rows: BTreeMap<u64, u8>,
    fence_there: u64,
    tokens: BTreeSet<Token>,
    flights: Vec<Flight>,
    processes: Vec<Process>,
    troubles: u8,
    names: u64,
}

fn process(id: u64) -> Process {
    let (machine, effect) = Machine::begin();
    Process {
        id,
        machine,
        effect,
        fence: 0,
        known: None,
        folded: None,
        next: 0,
    }
}

impl Process {
    /// Whether the checkpoint is its own and where it left it: where the ranges begin, if there are any.
    fn next_is(&self, control: &Control, ranges: &[Range]) -> bool {
        self.fence == control.fence
            && match ranges {
                [] => self.next == control.checkpoint,
                [range, ..] => range.from == control.checkpoint,
            }
    }
}

impl World {
    fn new(restores: Restores) -> Self {
        let (processes, troubles) = match restores {
            Restores::Never => (vec![process(0)], 0),
            Restores::Once => (vec![process(0), process(1)], TROUBLES),
        };
        Self {
            control: Control::default(),
            backup: Backup::NotTaken,
            taken: BTreeSet::new(),
            rows: BTreeMap::new(),
            fence_there: 0,
            tokens: BTreeSet::new(),
            flights: Vec::new(),
            names: processes.len() as u64,
            processes,
            troubles,
        }
    }

    fn holds(&self) -> bool {
        (0..self.control.checkpoint).all(|offset| self.rows.get(&offset) == Some(&1))
    }

    fn found(&self, from: u64, to: u64) -> u64 {
        self.rows
            .range(from..to)
            .map(|(_, count)| u64::from(*count))
            .sum()
    }

    /// Everything that can happen next.
    fn next(&self, fault: Fault, restores: Restores) -> Vec<Self> {
        let mut worlds = Vec::new();
        match &self.backup {
            Backup::NotTaken if restores == Restores::Once => {
                let mut world = self.clone();
                world.backup = Backup::Taken(self.control.clone());
                worlds.push(world);
            }
            Backup::Taken(backup) if *backup != self.control => {
                let mut world = self.clone();
                world.control = backup.clone();
                world.backup = Backup::Restored;
                worlds.push(world);
            }
            Backup::NotTaken | Backup::Taken(_) | Backup::Restored => {}
        }
        for place in 0..self.processes.len() {
            worlds.extend(self.step(place, fault, restores));
        }
        if self.troubles < TROUBLES {
            // A crash, and a new process; or a process that only seems dead, and a new one beside it.
            for dead in [true, false] {
                let mut world = self.clone();
                world.troubles += 1;
                if dead && let Some(process) = world.processes.pop() {
                    for flight in world
                        .flights
                        .iter_mut()
                        .filter(|flight| flight.owner == Some(process.id))
                    {
                        flight.owner = None;
                    }
                }
                world.processes.push(process(world.names));
                world.names += 1;
                worlds.push(world);
            }
        }
        for place in 0..self.flights.len() {
            worlds.extend(self.fly(place, fault));
        }
        worlds
    }

    /// An insert looks at the fence; then its rows are there, or some of them, or none.
    fn fly(&self, place: usize, fault: Fault) -> Vec<Self> {
        let mut worlds = Vec::new();
        let flight = &self.flights[place];
        if !flight.begun {
            let mut world = self.clone();
            if fault == Fault::NoFence || flight.fence == self.fence_there {
                world.flights[place].begun = true;
            } else {
                let flight = world.flights.remove(place);
                world.answer(&flight, false, fault);
            }
            worlds.push(world);
        } else {
            let known = self.tokens.contains(&flight.token);
            let all = if known { 0 } else { flight.rows.len() };
            // There and answered, there but not known to be, lost, torn, lost while its token stayed.
            for (there, told, stays) in [
                (all, true, true),
                (all, false, true),
                (0, false, false),
                (1, false, false),
                (0, false, true),
            ] {
                // Nobody minds how an insert ends that nobody waits for.
                if !told && flight.owner.is_some() && self.troubles == TROUBLES || there > all {
                    continue;
                }
                let mut world = self.clone();
                world.troubles += u8::from(!told && flight.owner.is_some());
                let flight = world.flights.remove(place);
                for row in flight.rows.iter().take(there) {
                    *world.rows.entry(*row).or_default() += 1;
                }
                if stays {
                    world.tokens.insert(flight.token);
                }
                world.answer(&flight, told, fault);
                worlds.push(world);
            }
        }
        worlds
    }

    /// A process that is told goes on; one that is not ends its run and begins another, unless it was fenced
    /// off: two that fence each other for ever show nothing new.
    fn answer(&mut self, flight: &Flight, good: bool, fault: Fault) {
        let owner = self
            .processes
            .iter()
            .position(|process| Some(process.id) == flight.owner);
        let Some(place) = owner else { return };
        if good {
            self.give(place, Input::EventsInserted);
        } else {
            self.fail(place, fault);
        }
    }

    fn give(&mut self, place: usize, input: Input) {
        let process = &mut self.processes[place];
        process.effect = process
            .machine
            .on(input)
            .expect("the driver answers what was asked");
    }

    fn fail(&mut self, place: usize, fault: Fault) {
        let Process { id, fence, .. } = self.processes[place];
        // Above it, where PostgreSQL went back.
        if fence >= self.control.fence && fault != Fault::GivingUp {
            self.processes[place] = process(id);
        } else {
            self.processes.remove(place);
        }
    }

    /// Which fences a process may take now: the next one, or, where two could take the same, another one above it.
    fn fences(&self, known: u64, fault: Fault, restores: Restores) -> Vec<u64> {
        if fault == Fault::NoFenceKnown {
            return vec![self.control.fence + 1];
        }
        let next = self.control.fence.max(known) + 1;
        if restores == Restores::Never || fault == Fault::NextFence {
            return vec![next];
        }
        (next..)
            .filter(|fence| !self.taken.contains(fence))
            .take(2)
            .collect()
    }

    fn take_over(&self, place: usize, fence: u64) -> Self {
        let mut world = self.clone();
        world.taken.insert(fence);
        world.control.fence = fence;
        let Control {
            checkpoint, recorded, ..
        } = world.control.clone();
        let process = &mut world.processes[place];
        (process.fence, process.next, process.known) = (fence, checkpoint, None);
        let held = vec![Held {
            partition: 0,
            next: checkpoint,
            fence,
        }];
        let unsettled = recorded.iter().map(|(insert, (attempt, range))| Unsettled {
            insert: *insert,
            attempt: *attempt,
            ranges: vec![*range],
        });
        let unsettled = unsettled.collect();
        world.give(place, Input::TakenOver { held, unsettled });
        world
    }

    fn step(&self, place: usize, fault: Fault, restores: Restores) -> Vec<Self> {
        let mut world = self.clone();
        let process = &mut world.processes[place];
        match process.effect.clone() {
            Effect::TakeOver => match process.known {
                None => process.known = Some(world.fence_there),
                Some(known) => {
                    return self
                        .fences(known, fault, restores)
                        .into_iter()
                        .map(|fence| self.take_over(place, fence))
                        .collect();
                }
            },
            Effect::WriteFences(_) => {
                world.fence_there = world.fence_there.max(process.fence);
                world.give(place, Input::FencesWritten);
            }
            Effect::StopInserts => {
                if fault != Fault::NoKill {
                    let (ended, rest): (Vec<_>, Vec<_>) =
                        world.flights.drain(..).partition(|flight| flight.begun);
                    world.flights = rest;
                    world.give(place, Input::InsertsStopped);
                    // Whoever waited for one was fenced off before, or is about to be.
                    for flight in ended {
                        world.answer(&flight, false, fault);
                    }
                } else {
                    world.give(place, Input::InsertsStopped);
                }
            }
            Effect::Compare(ranges) => {
                let found = ranges.iter().map(|range| {
                    let rows = if fault == Fault::NoCompare {
                        range.rows
                    } else {
                        world.found(range.from, range.to)
                    };
                    Found {
                        rows,
                        fingerprint: rows,
                        sessions: 0,
                    }
                });
                let found = found.collect();
                world.give(place, Input::Compared(found));
            }
            Effect::Settle { inserts, ranges } => {
                world.commit(place, &inserts, &ranges, fault, Input::Settled)
            }
            Effect::Advance { insert, ranges } => {
                world.commit(place, insert.as_slice(), &ranges, fault, Input::Advanced);
            }
            Effect::Trim(places) => {
                let fenced = world.processes[place].fence != world.fence_there;
                if fenced && fault != Fault::NoFenceOnDeleting {
                    world.fail(place, fault);
                    return vec![world];
                }
                if fault != Fault::NoTrim {
                    for (_, from) in places {
                        world.rows.retain(|offset, _| *offset < from);
                    }
                }
                world.give(place, Input::Trimmed);
            }
            Effect::Fold => return world.fold(place, restores.records(), fault),
            Effect::Record { attempt, ranges } => {
                let here = world.processes[place].next_is(&world.control, &ranges);
                if here || fault == Fault::NoCondition {
                    world.control.inserts += 1;
                    let insert = world.control.inserts;
                    world.control.recorded.insert(insert, (attempt, ranges[0]));
                    world.give(place, Input::Recorded(insert));
                } else {
                    world.fail(place, fault);
                }
            }
            Effect::InsertSessions { .. } => world.give(place, Input::SessionsInserted),
            Effect::InsertEvents { .. } => {
                let process = &world.processes[place];
                if world
                    .flights
                    .iter()
                    .any(|flight| flight.owner == Some(process.id))
                {
                    return Vec::new();
                }
                let (from, to) = process.folded.expect("an insert follows a fold");
                let owner = Some(process.id);
                let fence = if fault == Fault::SameToken {
                    0
                } else {
                    process.fence
                };
                world.flights.push(Flight {
                    fence: process.fence,
                    rows: (from..to).collect(),
                    begun: false,
                    owner,
                    token: (fence, from, to),
                });
                world.flights.sort();
            }
        }
        vec![world]
    }

    /// One or two records at a time. At the end it is told again and again how far the log is, which whoever does not
    /// hold the checkpoint any more cannot tell.
    fn fold(mut self, place: usize, end: u64, fault: Fault) -> Vec<Self> {
        let from = self.processes[place].next;
        if from == end && fault != Fault::NoEnd && !self.processes[place].next_is(&self.control, &[]) {
            self.fail(place, fault);
            return vec![self];
        }
        let pieces = (1..=2).map(|count| from + count).filter(|to| *to <= end);
        pieces
            .map(|to| {
                let mut world = self.clone();
                let process = &mut world.processes[place];
                (process.folded, process.next) = (Some((from, to)), to);
                let rows = to - from;
                let range = Range {
                    partition: 0,
                    from,
                    to,
                    rows,
                    fingerprint: rows,
                    sessions: 0,
                };
                world.give(place, Input::Folded(vec![range]));
                world
            })
            .collect()
    }

    fn commit(&mut self, place: usize, inserts: &[i64], ranges: &[Range], fault: Fault, done: Input) {
        let nothing = inserts.is_empty() && ranges.is_empty();
        let here = self.processes[place].next_is(&self.control, ranges);
        if !here && fault != Fault::NoCondition && !(nothing && fault == Fault::NoSettling) {
            self.fail(place, fault);
            return;
        }
        for range in ranges {
            self.control.checkpoint = range.to;
            self.processes[place].next = range.to;
        }
        for insert in inserts {
            self.control.recorded.remove(insert);
        }
        self.give(place, done);
    }
}

/// A world, and what is wrong with its protocol.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    fault: Fault,
    restores: Restores,
}

const ONCE: &str = "what lies before the checkpoint is there once";
const END: &str = "when nothing is left to happen, the checkpoint is at the end";

impl Model for Bounds {
    type State = World;
    /// What comes of it.
    type Action = World;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.restores)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<World>) {
        actions.extend(world.next(self.fault, self.restores));
    }

    fn next_state(&self, _: &World, next: World) -> Option<World> {
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(ONCE, |_, world| world.holds()),
            Property::<Self>::always(END, |bounds, world| {
                world.control.checkpoint == bounds.restores.records()
                    || !world.next(bounds.fault, bounds.restores).is_empty()
            }),
        ]
    }
}

/// To the test's output, captured or not.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn every_row_before_the_checkpoint_is_there_once_whatever_happens() {
    for restores in [Restores::Never, Restores::Once] {
        let fault = Fault::None;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let checker = Bounds { fault, restores }
            .checker()
            .threads(threads)
            .spawn_dfs()
            .join();
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        say(&format!("{restores:?}: {states} different states, depth {depth}"));
        for property in [ONCE, END] {
            checker.assert_no_discovery(property);
        }
        assert!(
            states > 20_000,
            "only {states} states: the model has become too small to say anything"
        );
    }
}

#[test]
fn leaving_out_any_part_of_the_protocol_shows() {
    use Fault::{
        GivingUp, NextFence, NoCompare, NoCondition, NoEnd, NoFence, NoFenceKnown, NoFenceOnDeleting, NoKill,
        NoSettling, NoTrim, SameToken,
    };
    use Restores::{Never, Once};
    for (fault, restores, broken) in [
        (NoFence, Never, ONCE),
        (NoKill, Never, ONCE),
        (NoCompare, Never, ONCE),
        (NoTrim, Never, ONCE),
        (NoFenceOnDeleting, Never, ONCE),
        (NoCondition, Never, ONCE),
        (SameToken, Never, ONCE),
        (GivingUp, Never, END),
        (NoFenceKnown, Once, ONCE),
        (NextFence, Once, ONCE),
        (NoSettling, Once, ONCE),
        (NoEnd, Once, END),
    ] {
        let checker = Bounds { fault, restores }
            .checker()
            .finish_when(HasDiscoveries::AnyOf([broken].into()))
            .spawn_bfs()
            .join();
        let states = checker.unique_state_count();
        let Some(path) = checker.discovery(broken) else {
            panic!("{fault:?} went unnoticed in {states} states");
        };
        let steps = path.into_actions().len();
        say(&format!(
            "{fault:?}, after {steps} steps ({states} states): {broken}"
        ));
    }
}
