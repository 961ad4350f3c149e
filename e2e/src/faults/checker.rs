//! Whether what clients were told fits the log: no process of Annals is asked.
//!
//! An acknowledged command must stand in the log where its position says, once, and nothing may stand there that was
//! refused. What is refused must have been so at some moment between sending and answer: after everything that was
//! acknowledged before the request was sent, and before anything that was sent after its answer.
//!
//! Longer than a file should be: every promise to clients, one after another.

mod replay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    history::{Attempt, Beside, Command, Done, Entry, Outcome, Read},
    ledger::{Commit, Ledger},
};
use replay::{Replayed, Shape, Status};

/// Something that must never be, in words for people, with what it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise is broken.
    pub what: &'static str,
    /// By what.
    pub why: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Commands that were acknowledged.
    pub acknowledged: usize,
    /// Attempts that were refused.
    pub refused: usize,
    /// Attempts of which nobody said what became of them.
    pub unknown: usize,
    /// Reads after a write of one's own that were answered.
    pub reads: usize,
    /// Commands that were acknowledged more than once, to retries.
    pub repeated: usize,
    /// Page views and downloads that were acknowledged.
    pub beside: usize,
}

/// Compares the history with the log.
pub fn check(entries: &[Entry], ledger: &Ledger) -> (Looked, Vec<Violation>) {
    let mut checker = Checker::new(entries, ledger);
    checker.times();
    checker.acknowledgements();
    checker.marks();
    checker.effects();
    checker.order();
    checker.refusals();
    checker.reads(entries);
    checker.beside(entries);
    (checker.looked, checker.violations)
}

struct Checker<'a> {
    ledger: &'a Ledger,
    replayed: Replayed,
    attempts: Vec<&'a Attempt>,
    /// The partition of each tenant, from its acknowledgements.
    homes: HashMap<usize, (u32, Uuid)>,
    /// Where the commits with a mark stand.
    marked: HashMap<&'a str, Vec<(u32, u64)>>,
    /// By partition, moments at which something was acknowledged, each with the last commit that was until then.
    acknowledged: HashMap<u32, Vec<(u64, u64)>>,
    /// By partition, moments at which something was sent that stands in the log, each with the first commit of what
    /// was sent then or later.
    sent: HashMap<u32, Vec<(u64, u64)>>,
    looked: Looked,
    violations: Vec<Violation>,
}

/// A stretch of a partition: states after `from` and before `to` may have been seen.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Option<u64>,
    to: u64,
}

impl<'a> Checker<'a> {
    fn new(entries: &'a [Entry], ledger: &'a Ledger) -> Self {
        let mut violations = Vec::new();
        let replayed = Replayed::of(ledger, &mut violations);
        let attempts: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Attempt(attempt) => Some(attempt),
                Entry::Read(_) | Entry::Beside(_) | Entry::Trouble { .. } => None,
            })
            .collect();
        let mut marked: HashMap<&str, Vec<_>> = HashMap::new();
        for (partition, commits) in &ledger.partitions {
            for commit in commits {
                let marks: BTreeSet<_> = commit
                    .events
                    .iter()
                    .filter_map(|event| event.text("title"))
                    .collect();
                for mark in marks {
                    marked.entry(mark).or_default().push((*partition, commit.offset));
                }
            }
        }
        let mut homes = HashMap::new();
        for attempt in &attempts {
            if let Outcome::Done(done) = &attempt.outcome
                && let Some(commit) = commit_at(ledger, done.partition, done.offset)
                && let Some(event) = commit.events.first()
            {
                homes.insert(attempt.tenant, (done.partition, event.tenant));
            }
        }
        let (acknowledged, sent) = lines(&attempts, &marked);
        Self {
            ledger,
            replayed,
            attempts,
            homes,
            marked,
            acknowledged,
            sent,
            looked: Looked::default(),
            violations,
        }
    }

    fn broken(&mut self, what: &'static str, why: String) {
        self.violations.push(Violation { what, why });
    }

    /// Whatever the clocks of its writers say, a partition's time never goes backwards: keys expire by it.
    fn times(&mut self) {
        for (partition, commits) in &self.ledger.partitions {
            let mut last = None;
            for (commit, event) in commits
                .iter()
                .flat_map(|it| it.events.iter().map(move |event| (it, event)))
            {
                if last > Some(event.time) {
                    let why = format!(
                        "ledger/{partition}:{} {event:?}\nbefore that: {last:?}",
                        commit.offset
                    );
                    self.violations.push(Violation {
                        what: "the time of a partition went backwards",
                        why,
                    });
                }
                last = last.max(Some(event.time));
            }
        }
    }

    /// Each stands where its position says, as what was asked, and every attempt heard the same.
    fn acknowledgements(&mut self) {
        let mut first: HashMap<&str, &Attempt> = HashMap::new();
        let mut by_place: BTreeMap<(u32, u64), &str> = BTreeMap::new();
        for attempt in self.attempts.clone() {
            let done = match &attempt.outcome {
                Outcome::Done(done) => done,
                Outcome::Refused { .. } => {
                    self.looked.refused += 1;
                    continue;
                }
                Outcome::Unknown(_) => {
                    self.looked.unknown += 1;
                    continue;
                }
            };
            if let Some(other) = first.get(attempt.mark.as_str()) {
                self.looked.repeated += 1;
                if other.outcome != attempt.outcome {
                    self.broken(
                        "a retry was answered otherwise",
                        format!("{attempt:?}\nbefore that: {other:?}"),
                    );
                }
                continue;
            }
            first.insert(&attempt.mark, attempt);
            self.looked.acknowledged += 1;
            if let Some(other) = by_place.insert((done.partition, done.offset), &attempt.mark) {
                self.broken(
                    "two commands were acknowledged with one commit",
                    format!("{other} and {attempt:?}"),
                );
            }
            match commit_at(self.ledger, done.partition, done.offset) {
                None => self.broken(
                    "an acknowledged command is void or missing",
                    format!("{attempt:?}"),
                ),
                Some(commit) if !is_of(commit, attempt, done) => self.broken(
                    "an acknowledged command is not what stands in the log",
                    format!("{attempt:?}\nthere: {commit:?}"),
                ),
                Some(_) => {}
            }
        }
    }

    /// No command took effect twice, and none that was refused.
    fn marks(&mut self) {
        let twice: Vec<_> = self
            .marked
            .iter()
            .filter(|(_, places)| places.len() > 1)
            .map(|(mark, places)| format!("{mark} at {places:?}"))
            .collect();
        for why in twice {
            self.broken("a command took effect twice", why);
        }
        for attempt in self.attempts.clone() {
            if matches!(attempt.outcome, Outcome::Refused { .. })
                && let Some(places) = self.marked.get(attempt.mark.as_str())
            {
                let why = format!("{attempt:?}\nin the log at {places:?}");
                self.broken("a refused command took effect", why);
            }
        }
    }

    /// What has no title to be known by took effect no more often than it was asked for.
    fn effects(&mut self) {
        let mut asked: BTreeMap<(String, &str), BTreeMap<&str, bool>> = BTreeMap::new();
        for attempt in &self.attempts {
            if let (Some(piece), Some(kind)) = (attempt.piece, unmarked(&attempt.command)) {
                let of_piece = asked.entry((piece.to_string(), kind)).or_default();
                let may_be = of_piece.entry(&attempt.mark).or_insert(true);
                *may_be &= !matches!(attempt.outcome, Outcome::Refused { .. });
            }
        }
        let mut happened: BTreeMap<(&str, &str), Vec<(u32, u64)>> = BTreeMap::new();
        for (partition, commits) in &self.ledger.partitions {
            for commit in commits {
                for event in &commit.events {
                    let of_piece = happened.entry((&event.subject, &event.kind)).or_default();
                    of_piece.push((*partition, commit.offset));
                }
            }
        }
        let more: Vec<_> = asked
            .iter()
            .filter_map(|((piece, kind), commands)| {
                let places = happened.get(&(piece.as_str(), *kind))?;
                let most = commands.values().filter(|may_be| **may_be).count();
                (places.len() > most).then(|| {
                    format!("{kind} of {piece} at {places:?}; {most} of {commands:?} were not refused")
                })
            })
            .collect();
        for why in more {
            self.broken("a command took effect twice", why);
        }
    }

    /// What was acknowledged before another command was sent stands before it.
    fn order(&mut self) {
        let sent = first_sent(&self.attempts);
        for attempt in self.attempts.clone() {
            let Outcome::Done(done) = &attempt.outcome else {
                continue;
            };
            let from = self.acknowledged_before(done.partition, sent[attempt.mark.as_str()]);
            if from.is_some_and(|from| done.offset <= from) {
                let why = format!(
                    "{attempt:?}\nthe commit at {} was acknowledged before",
                    from.unwrap_or(0)
                );
                self.broken(
                    "a command stands before one that was acknowledged before it was sent",
                    why,
                );
            }
        }
    }

    /// The last commit in a partition that was acknowledged before this moment.
    fn acknowledged_before(&self, partition: u32, moment: u64) -> Option<u64> {
        let line = self.acknowledged.get(&partition)?;
        let before = line.partition_point(|(done, _)| *done < moment);
        line.get(before.checked_sub(1)?).map(|(_, offset)| *offset)
    }

    /// The first commit in a partition whose command was sent only after this moment.
    fn sent_after(&self, partition: u32, moment: u64) -> u64 {
        let line = self.sent.get(&partition).map_or(&[][..], Vec::as_slice);
        let after = line.partition_point(|(sent, _)| *sent <= moment);
        line.get(after).map_or(u64::MAX, |(_, offset)| *offset)
    }

    fn refusals(&mut self) {
        for attempt in self.attempts.clone() {
            let Outcome::Refused { status, problem } = &attempt.outcome else {
                continue;
            };
            let Some((partition, tenant)) = self.homes.get(&attempt.tenant).copied() else {
                continue;
            };
            let window = Window {
                from: self.acknowledged_before(partition, attempt.sent),
                to: self.sent_after(partition, attempt.done),
            };
            if !self.was_so(attempt, problem, tenant, window) {
                let why = format!("{attempt:?}\n{status} {problem}; states in {window:?} do not justify it");
                self.broken("a refusal that no moment justifies", why);
            }
        }
    }

    fn was_so(&self, attempt: &Attempt, problem: &str, tenant: Uuid, window: Window) -> bool {
        let piece = |wanted: &dyn Fn(Option<&Shape>) -> bool| {
            attempt
                .piece
                .is_some_and(|piece| self.replayed.piece_was(piece, window.from, window.to, wanted))
        };
        let status = |wanted: &dyn Fn(Status) -> bool| {
            piece(&|shape: Option<&Shape>| shape.is_some_and(|shape| wanted(shape.status)))
        };
        match (problem, &attempt.command) {
            ("slug-taken", Command::Draft { slug } | Command::Rename { slug }) => {
                self.replayed
                    .slug_was((tenant, slug), window.from, window.to, &|holder| {
                        holder.is_some() && holder != attempt.piece
                    })
            }
            (
                "version",
                Command::Retitle {
                    version: Some(version),
                },
            ) => piece(&|shape: Option<&Shape>| shape.is_some_and(|shape| shape.version != *version)),
            ("content-archived", _) => status(&|status| status == Status::Archived),
            ("already-published", Command::Publish) => status(&|status| status == Status::Published),
            ("not-published", Command::Unpublish) => status(&|status| status != Status::Published),
            _ => false,
        }
    }

    /// Whoever reads at the position of its own write sees it, and what the log says.
    fn reads(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Entry::Read(read) = entry else { continue };
            let Some((version, title)) = &read.found else {
                // An answer that never came, or one that says so, is no wrong one.
                if read.status < 500 && read.status != 0 {
                    self.broken("a write of one's own was not found", format!("{read:?}"));
                }
                continue;
            };
            self.looked.reads += 1;
            let Read { piece, written, .. } = read;
            if version < written {
                self.broken("a read missed a write of its own", format!("{read:?}"));
            }
            match self.replayed.title(*piece, *version) {
                Some(said) if said == title => {}
                other => self.broken(
                    "a read shows what the log does not say",
                    format!("{read:?}\nthe log: {other:?}"),
                ),
            }
        }
    }

    fn beside(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Entry::Beside(Beside { mark, acknowledged }) = entry else {
                continue;
            };
            let commits = self.marked.get(mark.as_str()).map_or(0, Vec::len);
            let stands = commits > 0 || self.ledger.viewed.contains(mark);
            if *acknowledged && !stands {
                self.broken(
                    "an acknowledged page view or download is not in the log",
                    mark.clone(),
                );
            }
            if commits > 1 {
                self.broken("a download stands in the log twice", mark.clone());
            }
            self.looked.beside += usize::from(*acknowledged);
        }
    }
}

/// When each command was sent for the first time.
fn first_sent<'a>(attempts: &[&'a Attempt]) -> HashMap<&'a str, u64> {
    let mut first: HashMap<&str, u64> = HashMap::new();
    for attempt in attempts {
        let sent = first.entry(&attempt.mark).or_insert(attempt.sent);
        *sent = attempt.sent.min(*sent);
    }
    first
}

/// The event of a command that has no title to be known by.
const fn unmarked(command: &Command) -> Option<&'static str> {
    match command {
        Command::Publish => Some("content.published.v1"),
        Command::Unpublish => Some("content.unpublished.v1"),
        Command::Archive => Some("content.archived.v1"),
        Command::Draft { .. } | Command::Rename { .. } | Command::Retitle { .. } => None,
    }
}

type Line = Vec<(u64, u64)>;

/// What [`Checker::acknowledged`] and [`Checker::sent`] hold.
fn lines(
    attempts: &[&Attempt],
    marked: &HashMap<&str, Vec<(u32, u64)>>,
) -> (HashMap<u32, Line>, HashMap<u32, Line>) {
    let mut acknowledged: HashMap<u32, Line> = HashMap::new();
    // A retry may be answered with what the first attempt wrote.
    let first = first_sent(attempts);
    let mut earliest: HashMap<(u32, u64), u64> = HashMap::new();
    for attempt in attempts {
        let done = match &attempt.outcome {
            Outcome::Done(done) => Some((done.partition, done.offset)),
            Outcome::Refused { .. } | Outcome::Unknown(_) => None,
        };
        if let Some((partition, offset)) = done {
            acknowledged
                .entry(partition)
                .or_default()
                .push((attempt.done, offset));
        }
        let written = marked.get(attempt.mark.as_str()).into_iter().flatten().copied();
        for place in written.chain(done) {
            earliest.insert(place, first[attempt.mark.as_str()]);
        }
    }
    for line in acknowledged.values_mut() {
        line.sort_unstable();
        let mut last = 0;
        for (_, offset) in line {
            last = last.max(*offset);
            *offset = last;
        }
    }
    let mut sent: HashMap<u32, Line> = HashMap::new();
    for ((partition, offset), moment) in earliest {
        sent.entry(partition).or_default().push((moment, offset));
    }
    for line in sent.values_mut() {
        line.sort_unstable();
        let mut first = u64::MAX;
        for (_, offset) in line.iter_mut().rev() {
            first = first.min(*offset);
            *offset = first;
        }
    }
    (acknowledged, sent)
}

fn commit_at(ledger: &Ledger, partition: u32, offset: u64) -> Option<&Commit> {
    let commits = ledger.partitions.get(&partition)?;
    let place = commits
        .binary_search_by_key(&offset, |commit| commit.offset)
        .ok()?;
    commits.get(place)
}

/// Whether a commit is what this attempt asked for and was told.
fn is_of(commit: &Commit, attempt: &Attempt, done: &Done) -> bool {
    let Some(last) = commit.events.last() else {
        return false;
    };
    let kinds: Vec<&str> = commit.events.iter().map(|event| event.kind.as_str()).collect();
    let marked = commit
        .events
        .iter()
        .any(|event| event.text("title") == Some(&attempt.mark));
    let slug = |slug: &String| {
        let said = |event: &super::ledger::Event| {
            event.text("slug").or_else(|| event.text("to")) == Some(slug.as_str())
        };
        commit.events.iter().any(said)
    };
    let as_asked = match &attempt.command {
        Command::Draft { slug: wanted } => kinds == ["content.drafted.v1"] && marked && slug(wanted),
        // The slug may be the piece's own already.
        Command::Rename { slug: wanted } => marked && (slug(wanted) || kinds == ["content.revised.v1"]),
        Command::Retitle { .. } => kinds == ["content.revised.v1"] && marked,
        Command::Publish => kinds == ["content.published.v1"],
        Command::Unpublish => kinds == ["content.unpublished.v1"],
        Command::Archive => kinds == ["content.archived.v1"],
    };
    as_asked
        && last.subject == done.piece.to_string()
        && last.version() == done.version
        && attempt.piece.is_none_or(|piece| piece == done.piece)
}
