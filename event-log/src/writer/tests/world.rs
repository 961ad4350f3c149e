//! The world of the writers of one partition: a log, processes, a network that loses, delays and repeats, clients.
//!
//! What a process does here is what [`crate::driver`] does: effects are performed before anything else happens,
//! whoever claims or steps down hears no more of what it appended before, and what was on its way then may land at
//! any later time or never. A process that is not given a turn is a process that pauses.
//!
//! The log is one: an end that is asked for is the true one, though its answer may be late, or it is less than the
//! process has read already. A log that hides acknowledged records from who asks for its end can be told from a true
//! one by nobody.

mod ledger;
mod next;
mod outcome;
mod perform;
mod same;

use std::sync::{Arc, LazyLock};

use self::ledger::{Ledger, Letter};
use super::{bug::Bug, commit};
use crate::{
    admission::State,
    commit::{Commit, Prepared},
    log::AppendError,
    partition::Offset,
    writer::Writer,
};

/// Commands at most.
const COMMANDS: u8 = 70;
/// The last ones are for [`World::recovers`].
const PROBES: usize = 10;

/// Each carries its number as its tenant's sequence number.
static PREPARED: LazyLock<Vec<Prepared>> = LazyLock::new(|| {
    let numbered = |number| Commit {
        tenant_seq: number,
        ..commit(number)
    };
    let prepared = (1..=u64::from(COMMANDS)).map(|number| numbered(number).prepare().expect("small"));
    prepared.collect()
});

/// A run of a process: which, and how often it was started before.
pub(super) type Name = (u8, u8);

/// A promise that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Broken {
    Acknowledged,
    Repeated,
    Folded,
    RestsOnVoid,
    Unjustified,
    OtherOwner,
    Denied,
}

/// What a client was told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Told {
    /// It waits.
    Nothing,
    /// It waits; an earlier attempt may be in history.
    NothingAgain,
    Done,
    NotDone,
    Unknown,
}

/// Who waits.
#[derive(Clone, Hash, Debug)]
pub(super) struct Request {
    number: u8,
    /// Whether it wants to append. If not, its answer is a refusal.
    appends: bool,
    /// How many commits history had when it was asked.
    asked_at: usize,
    /// How many commits it was decided on, itself included.
    rests_on: usize,
}

/// What became of an append.
#[derive(Clone, Debug)]
enum Fate {
    Sending(Arc<Letter>),
    Landed(Offset),
    Failed { definite: bool },
}

#[derive(Clone, Debug)]
struct Process {
    name: Name,
    writer: Writer<Request>,
    /// Admitted commands and, after them, speculated ones: all that is decided on.
    decided: Vec<u8>,
    /// Appends that have not reported yet, in their order.
    appends: Vec<(u64, Fate)>,
    /// The question for the end, and its answer.
    end: Option<(u64, Option<Offset>)>,
    /// To be decided when it serves again.
    waiting: Vec<Request>,
}

impl Process {
    fn is_serving(&self) -> bool {
        self.writer.is_serving()
    }

    fn reads(&self, ledger: &Ledger) -> bool {
        self.writer.wanted().is_some() && self.writer.admitted().0 < ledger.end()
    }
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    /// The first of a process's appends under way lands; a copy may stay under way.
    Land { who: usize, repeated: bool },
    /// An append lands before one that was sent earlier.
    Overtake { who: usize, place: usize },
    /// A record lands of which nobody hears any more.
    Drift(usize),
    /// An append is reported failed; the record stays under way all the same.
    Fail {
        who: usize,
        place: usize,
        definite: bool,
    },
    /// A process hears what became of an append.
    Report { who: usize, place: usize },
    /// The log looks for its end.
    Measure(usize),
    /// The log says that it is shorter than the process has read.
    Shrink(usize),
    /// A process hears where the log ends.
    Hear(usize),
    /// A process reads on.
    Read(usize),
    /// A new command arrives.
    Ask { who: usize, appends: bool },
    /// A command whose outcome is unknown arrives again.
    Retry { who: usize, number: u8 },
    /// A process is assigned the partition.
    Assign(usize),
    /// A process writes a snapshot.
    Snapshot(usize),
    /// A process is killed, and another is started in its place.
    Crash(usize),
    /// A process gives the partition up.
    Release(usize),
}

/// Everything, at one moment.
#[derive(Clone, Debug)]
pub(super) struct World {
    bug: Bug,
    ledger: Arc<Ledger>,
    processes: Vec<Process>,
    /// Records under way of which nobody hears any more.
    drifting: Vec<Arc<Letter>>,
    snapshot: Option<Arc<(Offset, State, Vec<u8>)>>,
    /// By the command's number, from 1.
    told: Vec<Told>,
    pub(super) requests: u8,
    pub(super) troubles: u8,
    pub(super) assignments: u8,
    pub(super) snapshots: u8,
    pub(super) broken: Option<Broken>,
}

impl World {
    pub(super) fn new(owners: u8, bug: Bug) -> Self {
        let process = |which| Process::new((which, 0), None);
        Self {
            bug,
            ledger: Arc::new(Ledger::new()),
            processes: (0..owners).map(process).collect(),
            drifting: Vec::new(),
            snapshot: None,
            told: Vec::new(),
            requests: 0,
            troubles: 0,
            assignments: 0,
            snapshots: 0,
            broken: None,
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let bug = self.bug;
        let actor = match action {
            Action::Land { who, repeated } => {
                let appends = &mut self.processes[who].appends;
                let first = appends.iter_mut().find_map(|(_, fate)| match fate {
                    Fate::Sending(letter) => Some((letter.clone(), fate)),
                    Fate::Landed(_) | Fate::Failed { .. } => None,
                });
                let Some((letter, fate)) = first else { return };
                *fate = Fate::Landed(self.ledger.end());
                if repeated {
                    self.drifting.push(letter.clone());
                }
                self.land(letter);
                None
            }
            Action::Overtake { who, place } => {
                let landed = Fate::Landed(self.ledger.end());
                let fate = &mut self.processes[who].appends[place].1;
                if let Fate::Sending(letter) = std::mem::replace(fate, landed) {
                    self.land(letter);
                }
                None
            }
            Action::Drift(place) => {
                let letter = self.drifting.remove(place);
                self.land(letter);
                None
            }
            Action::Fail { who, place, definite } => {
                let fate = &mut self.processes[who].appends[place].1;
                if let Fate::Sending(letter) = std::mem::replace(fate, Fate::Failed { definite }) {
                    self.drifting.push(letter);
                }
                None
            }
            Action::Report { who, place } => {
                let process = &mut self.processes[who];
                let outcome = match process.appends.remove(place) {
                    (id, Fate::Landed(offset)) => (id, Ok(offset)),
                    (id, Fate::Failed { definite: true }) => (id, Err(AppendError::Not(String::new()))),
                    (id, Fate::Failed { definite: false } | Fate::Sending(_)) => {
                        (id, Err(AppendError::Unknown(String::new())))
                    }
                };
                bug.appended(&mut process.writer, outcome.0, outcome.1);
                Some(who)
            }
            Action::Measure(who) => {
                let end = self.ledger.end();
                self.processes[who].end.as_mut().expect("asked").1 = Some(end);
                None
            }
            Action::Shrink(who) => {
                let process = &mut self.processes[who];
                let end = process.writer.admitted().0 - 1;
                process.end.as_mut().expect("asked").1 = Some(end);
                None
            }
            Action::Hear(who) => {
                let process = &mut self.processes[who];
                if let Some((query, Some(end))) = process.end.take() {
                    bug.ended(&mut process.writer, query, Ok(end));
                }
                Some(who)
            }
            Action::Read(who) => {
                self.read(who);
                None
            }
            Action::Ask { who, appends } => {
                self.told.push(Told::Nothing);
                self.ask(who, self.told.len() as u8, appends);
                Some(who)
            }
            Action::Retry { who, number } => {
                self.told[usize::from(number) - 1] = Told::NothingAgain;
                self.ask(who, number, true);
                Some(who)
            }
            Action::Assign(who) => {
                self.processes[who].writer.assigned();
                Some(who)
            }
            Action::Snapshot(who) => {
                let process = &self.processes[who];
                let (next, state) = process.writer.admitted();
                self.snapshot = Some(Arc::new((next, state, process.decided.clone())));
                None
            }
            Action::Crash(who) => {
                let name = self.processes[who].name;
                let started = Process::new((name.0, name.1 + 1), self.snapshot.as_deref());
                let killed = std::mem::replace(&mut self.processes[who], started);
                self.drifting
                    .extend(killed.appends.into_iter().filter_map(sending));
                let writer = killed.writer;
                let orphans = writer.orphans.0.iter().map(|(_, request)| request);
                let queued = writer.queue.iter().map(|sent| &sent.ticket);
                let held = writer.held.iter().map(|held| &held.ticket);
                for request in orphans.chain(queued).chain(held).chain(&killed.waiting) {
                    let told = if request.appends {
                        Told::Unknown
                    } else {
                        Told::NotDone
                    };
                    self.told[usize::from(request.number) - 1] = told;
                }
                None
            }
            Action::Release(who) => {
                self.processes[who].writer.release();
                Some(who)
            }
        };
        if let Some(who) = actor {
            self.perform(who);
        }
    }

    fn land(&mut self, letter: Arc<Letter>) {
        let ledger = Arc::make_mut(&mut self.ledger);
        let known = ledger.history.len();
        ledger.land(letter);
        let Some((_, number)) = ledger.history.get(known) else {
            return;
        };
        if ledger.history[..known]
            .iter()
            .any(|(_, earlier)| earlier == number)
        {
            self.broken.get_or_insert(Broken::Repeated);
        }
        if self.told[usize::from(*number) - 1] == Told::NotDone {
            self.broken.get_or_insert(Broken::Denied);
        }
    }

    /// One record. Reading is nobody else's concern, so whoever can do nothing but read reads all that is there.
    fn read(&mut self, who: usize) {
        loop {
            let (ledger, process) = (self.ledger.clone(), &mut self.processes[who]);
            let offset = process.writer.admitted().0;
            let record = &ledger.letters[offset as usize].record;
            self.bug.read(&mut process.writer, offset, record);
            self.perform(who);
            let process = &self.processes[who];
            let busy = process.is_serving() || !process.appends.is_empty() || process.end.is_some();
            if busy || !process.reads(&ledger) {
                return;
            }
        }
    }

    fn ask(&mut self, who: usize, number: u8, appends: bool) {
        let asked_at = self.ledger.history.len();
        let request = Request {
            number,
            appends,
            asked_at,
            rests_on: 0,
        };
        self.decide(who, request);
    }
}

impl Process {
    fn new(name: Name, snapshot: Option<&(Offset, State, Vec<u8>)>) -> Self {
        let (next, state, decided) = snapshot.cloned().unwrap_or_default();
        Self {
            name,
            writer: Writer::new(owner(name), next, state),
            decided,
            appends: Vec::new(),
            end: None,
            waiting: Vec::new(),
        }
    }
}

fn owner((which, run): Name) -> String {
    format!("{which}.{run}")
}

fn sending((_, fate): (u64, Fate)) -> Option<Arc<Letter>> {
    match fate {
        Fate::Sending(letter) => Some(letter),
        Fate::Landed(_) | Fate::Failed { .. } => None,
    }
}
