//! Every interleaving of the protocol with crashes, slow inserts and lost answers, on a world small enough to
//! be explored completely: one partition, two records of one row each, inserts of one or both of them, two
//! troubles. A trouble is a crash, a process that seems dead while it is not, or an insert that is lost or
//! whose answer is. The code explored is the state machine that runs.
//!
//! What must hold: whatever lies before the checkpoint stands in the tables exactly once, at any time; and
//! whoever is left alone brings the checkpoint to the end. Taking away any part of the protocol must show:
//! a model that cannot fail proves nothing.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::{Effect, Found, Held, Input, Machine, Range, Unsettled};

const END: u64 = 2;
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
}

/// A process: its machine, what it is to do, and what it knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process {
    id: u64,
    machine: Machine,
    effect: Effect,
    fence: u64,
    /// What it folded last.
    folded: Option<(u64, u64)>,
    /// Its fold goes on from here.
    next: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    checkpoint: u64,
    fence: u64,
    recorded: BTreeMap<i64, (i32, Range)>,
    inserts: i64,
    /// How often each offset's row stands in the table.
    rows: BTreeMap<u64, u8>,
    fence_there: u64,
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
        folded: None,
        next: 0,
    }
}

impl World {
    fn new() -> Self {
        Self {
            checkpoint: 0,
            fence: 0,
            recorded: BTreeMap::new(),
            inserts: 0,
            rows: BTreeMap::new(),
            fence_there: 0,
            flights: Vec::new(),
            processes: vec![process(0)],
            troubles: 0,
            names: 1,
        }
    }

    fn holds(&self) -> bool {
        (0..self.checkpoint).all(|offset| self.rows.get(&offset) == Some(&1))
    }

    fn found(&self, from: u64, to: u64) -> u64 {
        self.rows
            .range(from..to)
            .map(|(_, count)| u64::from(*count))
            .sum()
    }

    /// Everything that can happen next.
    fn next(&self, fault: Fault) -> Vec<Self> {
        let mut worlds = Vec::new();
        for place in 0..self.processes.len() {
            worlds.extend(self.step(place, fault));
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
                world.answer(&flight, false);
            }
            worlds.push(world);
        } else {
            let all = flight.rows.len();
            // There and answered, there but not known to be, lost, torn.
            for (there, told) in [(all, true), (all, false), (0, false), (1, false)] {
                // Nobody minds how an insert ends that nobody waits for.
                if !told && flight.owner.is_some() && self.troubles == TROUBLES {
                    continue;
                }
                let mut world = self.clone();
                world.troubles += u8::from(!told && flight.owner.is_some());
                let flight = world.flights.remove(place);
                for row in flight.rows.iter().take(there) {
                    *world.rows.entry(*row).or_default() += 1;
                }
                world.answer(&flight, told);
                worlds.push(world);
            }
        }
        worlds
    }

    /// A process that is told goes on; one that is not ends its run and begins another, unless it was fenced
    /// off: two that fence each other for ever show nothing new.
    fn answer(&mut self, flight: &Flight, good: bool) {
        let owner = self
            .processes
            .iter()
            .position(|process| Some(process.id) == flight.owner);
        let Some(place) = owner else { return };
        if good {
            self.give(place, Input::EventsInserted);
        } else {
            self.fail(place);
        }
    }

    fn give(&mut self, place: usize, input: Input) {
        let process = &mut self.processes[place];
        process.effect = process
            .machine
            .on(input)
            .expect("the driver answers what was asked");
    }

    fn fail(&mut self, place: usize) {
        let Process { id, fence, .. } = self.processes[place];
        if fence == self.fence {
            self.processes[place] = process(id);
        } else {
            self.processes.remove(place);
        }
    }

    fn step(&self, place: usize, fault: Fault) -> Vec<Self> {
        let mut world = self.clone();
        let process = &mut world.processes[place];
        match process.effect.clone() {
            Effect::TakeOver => {
                world.fence += 1;
                process.fence = world.fence;
                process.next = world.checkpoint;
                let held = vec![Held {
                    partition: 0,
                    next: world.checkpoint,
                    fence: world.fence,
                }];
                let unsettled = world.recorded.iter().map(|(insert, (attempt, range))| Unsettled {
                    insert: *insert,
                    attempt: *attempt,
                    ranges: vec![*range],
                });
                let unsettled = unsettled.collect();
                world.give(place, Input::TakenOver { held, unsettled });
            }
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
                        world.answer(&flight, false);
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
                    world.processes.remove(place);
                    return vec![world];
                }
                if fault != Fault::NoTrim {
                    for (_, from) in places {
                        world.rows.retain(|offset, _| *offset < from);
                    }
                }
                world.give(place, Input::Trimmed);
            }
            Effect::Fold => return world.fold(place),
            Effect::Record { attempt, ranges } => {
                if world.processes[place].fence == world.fence || fault == Fault::NoCondition {
                    world.inserts += 1;
                    let insert = world.inserts;
                    world.recorded.insert(insert, (attempt, ranges[0]));
                    world.give(place, Input::Recorded(insert));
                } else {
                    world.processes.remove(place);
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
                world.flights.push(Flight {
                    fence: process.fence,
                    rows: (from..to).collect(),
                    begun: false,
                    owner,
                });
                world.flights.sort();
            }
        }
        vec![world]
    }

    /// One or two records at a time.
    fn fold(self, place: usize) -> Vec<Self> {
        let from = self.processes[place].next;
        let pieces = (1..=2).map(|count| from + count).filter(|to| *to <= END);
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
        let held = self.processes[place].fence == self.fence || fault == Fault::NoCondition;
        let here = ranges.iter().all(|range| range.from == self.checkpoint) || fault == Fault::NoCondition;
        if !(held && here) {
            // Fenced off: this run ends. Whether it may begin another is another matter; here it may not.
            self.processes.remove(place);
            return;
        }
        for range in ranges {
            self.checkpoint = range.to;
            self.processes[place].next = range.to;
        }
        for insert in inserts {
            self.recorded.remove(insert);
        }
        self.give(place, done);
    }
}

/// Explores everything; gives the number of worlds, or the first one that breaks the promise.
fn explore(fault: Fault) -> Result<usize, Box<World>> {
    let first = World::new();
    // Worlds are known by their hash: 64 bits tell a million of them apart, and a clone each costs more.
    let hasher = RandomState::new();
    let mut seen = HashSet::from([hasher.hash_one(&first)]);
    let mut queue = VecDeque::from([first]);
    // A fault shows soonest breadth first. Exploring everything that way would hold millions of worlds at once.
    let next_of = |queue: &mut VecDeque<World>| {
        if fault == Fault::None {
            queue.pop_back()
        } else {
            queue.pop_front()
        }
    };
    while let Some(world) = next_of(&mut queue) {
        for next in world.next(fault) {
            if !next.holds() {
                return Err(Box::new(next));
            }
            if seen.insert(hasher.hash_one(&next)) {
                queue.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn every_row_before_the_checkpoint_is_there_once_whatever_happens() {
    match explore(Fault::None) {
        Ok(worlds) => assert!(
            worlds > 20_000,
            "only {worlds} worlds: the model has become too small to say anything"
        ),
        Err(world) => panic!("broken: {world:#?}"),
    }
}

#[test]
fn leaving_out_any_part_of_the_protocol_shows() {
    use Fault::{NoCompare, NoCondition, NoFence, NoFenceOnDeleting, NoKill, NoTrim};
    for fault in [NoFence, NoKill, NoCompare, NoTrim, NoFenceOnDeleting, NoCondition] {
        assert!(explore(fault).is_err(), "{fault:?} makes no difference");
    }
}
