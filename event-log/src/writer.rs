//! How a process appends to a fenced partition so that what it acknowledges is in history for ever.
//!
//! One file of more than 400 lines, because the rules are read together or not at all.
//!
//! A state machine without I/O: events go in by methods, effects come out by [`Writer::effect`]. It knows nothing
//! of clocks, sockets and tasks, so a model checker drives the very code that runs: two and three of them against one
//! log with every fault that a network has (`writer/tests/model.rs`). [`crate::driver`] performs the effects.
//!
//! The rules, by their numbers in the design:
//! 1. fold near to the end, append a claim, read up to it, serve only if it was admitted at its own offset;
//! 2. a sequence number is never reused within an epoch: any failed append ends the epoch;
//! 3. a commit is acknowledged when it is the head of the queue **and** its offset follows the last one; with a gap
//!    the gap is read and admission decides;
//! 4. after a failed append: stop, claim anew, read to the claim, learn what happened, and only then answer;
//! 5. an answer waits for all that it was decided on; one that appends nothing also for the log's end, read after
//!    the request arrived, to be the writer's own; one such read serves all that wait;
//! 6. whoever finds another's higher epoch, or its own claim void, steps down until it is assigned again;
//! 7. whoever cannot read what stands there steps down ([`Writer::unreadable`]), and so does who finds a record that no
//!    writer makes where it stands ([`Down::Damaged`]), unless a person has accepted it;
//! 8. a snapshot holds admitted state only: [`Writer::admitted`], while nothing is [`Writer::in_flight`].

mod effect;
mod queue;

use std::collections::VecDeque;

pub use self::effect::{Down, Effect};
use self::queue::{Held, Orphans, Sent};
use crate::{
    admission::{State, Verdict},
    commit::Prepared,
    log::{AppendError, ReadError},
    partition::Offset,
    record::{CommitHeaders, Record},
};

/// So many times in a row may the log claim to be shorter than what was read from it (a new leader that has not
/// yet learnt how far its followers are) before it is taken at its word.
const SHORT_ENDS: u32 = 20;

/// The writer of one partition. `T` is what waits for an answer: a ticket that comes back in exactly one effect
/// ([`Effect::Acknowledge`], [`Effect::Answer`] or [`Effect::Refuse`]), after any number of [`Effect::Redecide`].
#[derive(Debug, Clone)]
pub struct Writer<T> {
    owner: String,
    /// Admitted history up to, not including, `next`.
    state: State,
    next: Offset,
    phase: Phase,
    /// `state` and all that is in the queue.
    tail: State,
    queue: VecDeque<Sent<T>>,
    queued_bytes: usize,
    held: VecDeque<Held<T>>,
    orphans: Orphans<T>,
    /// The owner of the current epoch, where its claim was read and said so.
    epoch_owner: Option<String>,
    /// Damage that a person has looked at.
    accepted: Vec<Offset>,
    /// Records before this offset are wanted.
    read_to: Offset,
    /// The end that was asked for and not yet answered, and `next` when it was.
    query: Option<(u64, Offset)>,
    queries: u64,
    attempt: u32,
    short_ends: u32,
    ids: u64,
    effects: VecDeque<Effect<T>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing was asked of it yet.
    Idle,
    /// Folds up to the end; then claims.
    Catching,
    /// Its claim is on its way (`at` is none) or known to stand there.
    Claiming { id: u64, epoch: u64, at: Option<Offset> },
    /// Appends.
    Serving,
    /// Not the owner.
    Down(Down),
}

impl<T> Writer<T> {
    /// A writer of this name (one that no other run of any process has) that has folded up to `next`.
    pub fn new(owner: impl Into<String>, next: Offset, state: State) -> Self {
        Self {
            owner: owner.into(),
            state,
            next,
            phase: Phase::Idle,
            tail: state,
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: VecDeque::new(),
            orphans: Orphans::default(),
            epoch_owner: None,
            accepted: Vec::new(),
            read_to: next,
            query: None,
            queries: 0,
            attempt: 0,
            short_ends: 0,
            ids: 0,
            effects: VecDeque::new(),
        }
    }

    /// The same, going on over damage at these offsets.
    #[must_use]
    pub fn accepting(self, accepted: Vec<Offset>) -> Self {
        Self { accepted, ..self }
    }

    /// The next thing to do, in order. Take them until there is none.
    pub fn effect(&mut self) -> Option<Effect<T>> {
        self.effects.pop_front()
    }

    /// Whether [`Self::append`] takes commits.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Why it is not the owner, when it has stepped down.
    pub fn down(&self) -> Option<&Down> {
        match &self.phase {
            Phase::Down(down) => Some(down),
            Phase::Idle | Phase::Catching | Phase::Claiming { .. } | Phase::Serving => None,
        }
    }

    /// Commits appended and not yet admitted, and their bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.queue.len(), self.queued_bytes)
    }

    /// The end of what it wants to read, while it wants anything: see [`Effect::ReadTo`].
    pub fn wanted(&self) -> Option<Offset> {
        (self.next < self.read_to).then_some(self.read_to)
    }

    /// Admitted history: the next offset, and the state of admission before it.
    pub fn admitted(&self) -> (Offset, State) {
        (self.next, self.state)
    }

    /// Answers that append nothing and wait to be given.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// This process is assigned the partition: fold, claim, serve. After stepping down only an assignment that
    /// was confirmed since then counts (rule 6); the caller waits a growing random while before it.
    pub fn assigned(&mut self) {
        if matches!(self.phase, Phase::Idle | Phase::Down(_)) {
            self.catch_up();
        }
    }

    /// Gives a commit the next number and appends it.
    ///
    /// # Errors
    /// The ticket, when the partition is not served now.
    pub fn append(&mut self, commit: Prepared, ticket: T) -> Result<(), T> {
        if !self.is_serving() {
            return Err(ticket);
        }
        let (record, after) = commit.seal(&self.tail);
        self.tail = after;
        let (id, bytes) = (self.id(), record.size());
        self.queued_bytes += bytes;
        self.queue.push_back(Sent {
            id,
            bytes,
            after,
            offset: None,
            ticket,
        });
        self.effects.push_back(Effect::AppendCommit { id, record });
        Ok(())
    }

    /// Takes an answer that appends nothing, decided on all that was appended so far (rule 5).
    ///
    /// # Errors
    /// The ticket, when the partition is not served now.
    pub fn hold(&mut self, ticket: T) -> Result<(), T> {
        if !self.is_serving() {
            return Err(ticket);
        }
        // A read that is under way began before this request arrived: it proves nothing for it.
        let query = self.queries + 1;
        let id = self.id();
        self.held.push_back(Held {
            id,
            rests_on: self.tail.seq,
            query,
            end: None,
            ticket,
        });
        if self.query.is_none() {
            self.ask_end();
        }
        Ok(())
    }

    /// What became of the claim or the commit of this id.
    pub fn appended(&mut self, id: u64, outcome: Result<Offset, AppendError>) {
        match (&mut self.phase, outcome) {
            // What was read from there is gone, and this claim lies in its place.
            (Phase::Claiming { id: claim, .. }, Ok(offset)) if *claim == id && offset < self.next => {
                let end = offset;
                self.step_down(Down::Truncated { next: self.next, end });
            }
            (Phase::Claiming { id: claim, at, .. }, Ok(offset)) if *claim == id => {
                *at = Some(offset);
                self.want(offset + 1);
            }
            (Phase::Claiming { id: claim, .. }, Err(_)) if *claim == id => {
                // It may land yet: whoever folds on will see it.
                self.attempt += 1;
                self.catch_up();
            }
            (Phase::Serving, Ok(offset)) => {
                if let Ok(place) = self.queue.binary_search_by_key(&id, |sent| sent.id) {
                    self.queue[place].offset = Some(offset);
                    self.advance();
                }
            }
            (Phase::Serving, Err(error)) if self.queue.binary_search_by_key(&id, |sent| sent.id).is_ok() => {
                self.end_epoch(error.to_string());
            }
            // What an epoch that has ended still reports, only the log can tell.
            (Phase::Idle | Phase::Catching | Phase::Claiming { .. } | Phase::Serving | Phase::Down(_), _) => {
            }
        }
    }

    /// The partition's end, asked for by [`Effect::ReadEnd`].
    pub fn ended(&mut self, query: u64, outcome: Result<Offset, ReadError>) {
        let Some((_, known)) = self.query.take_if(|(asked, _)| *asked == query) else {
            return;
        };
        match outcome {
            Ok(end) if end >= known => {
                self.short_ends = 0;
                // Before a claim is admitted nothing is well: each claim that fails waits longer than the last.
                if self.is_serving() {
                    self.attempt = 0;
                }
                self.end_is(query, end);
            }
            Ok(end) => {
                self.short_ends += 1;
                self.attempt += 1;
                if self.short_ends > SHORT_ENDS {
                    self.step_down(Down::Truncated { next: known, end });
                } else {
                    self.ask_end();
                }
            }
            Err(_) => {
                self.attempt += 1;
                self.ask_end();
            }
        }
    }

    /// A record that was read, in order, from the offset that [`Effect::ReadTo`] named. Whatever is not wanted (any
    /// more) is passed over, so a batch may be fed whole.
    pub fn read(&mut self, offset: Offset, record: &Record) {
        if self.wants(offset) {
            let verdict = self.state.admit(offset, record);
            self.follow(offset, record, verdict);
        }
    }

    fn wants(&self, offset: Offset) -> bool {
        (self.next..self.read_to).contains(&offset) && self.down().is_none()
    }

    /// Goes on after a record that was judged, and so is in `state`.
    fn follow(&mut self, offset: Offset, record: &Record, verdict: Verdict) {
        self.next = offset + 1;
        match verdict {
            Verdict::Genesis(_) => {}
            Verdict::Claimed(claimed) => {
                self.epoch_owner = claimed.claim.map(|claim| claim.owner);
                self.claim_was_admitted(offset);
            }
            Verdict::Commit(commit) => self.commit_was_admitted(offset, commit, record),
            Verdict::Void(why) => {
                let damaged = why.is_damage() && !self.accepted.contains(&offset);
                let down = damaged.then(|| why.clone());
                self.effects.push_back(Effect::Void { offset, why });
                if let Some(why) = down {
                    self.next = offset;
                    return self.step_down(Down::Damaged { offset, why });
                }
                self.record_was_void(offset);
            }
            Verdict::Visits => {}
        }
        self.have_read();
    }

    /// No record stands between what was read last and this offset: a stranger's transaction marker takes an offset
    /// and is none.
    pub fn passed(&mut self, to: Offset) {
        let to = to.min(self.read_to);
        if to > self.next && self.down().is_none() {
            self.next = to;
            self.have_read();
        }
    }

    fn have_read(&mut self) {
        match self.phase {
            Phase::Catching if self.query.is_none() && self.next >= self.read_to => self.claim(),
            Phase::Serving => self.advance(),
            Phase::Idle | Phase::Catching | Phase::Claiming { .. } | Phase::Down(_) => {}
        }
    }

    /// This process gives the partition up, to end.
    pub fn release(&mut self) {
        self.step_down(Down::Released);
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.held.is_empty() && self.orphans.is_empty()
    }

    /// A commit stands there that this release cannot read, or the store is beyond repair.
    pub fn unreadable(&mut self, what: impl Into<String>) {
        self.step_down(Down::Unreadable(what.into()));
    }

    /// What is decided cannot be kept: another process may be able to.
    pub fn unkept(&mut self, why: impl Into<String>) {
        self.step_down(Down::Unkept(why.into()));
    }

    fn claim_was_admitted(&mut self, offset: Offset) {
        let phase = self.phase.clone();
        // Whoever claimed: what was appended in an older epoch and is not yet in history never will be.
        self.abandon(offset + 1);
        match phase {
            Phase::Claiming {
                epoch, at: Some(at), ..
            } if at == offset && epoch == self.state.epoch => {
                self.phase = Phase::Serving;
                self.attempt = 0;
                self.effects.push_back(Effect::Serving { epoch });
                let again = self.orphans.take();
                self.effects
                    .extend(again.map(|ticket| Effect::Redecide { ticket }));
            }
            Phase::Serving if self.is_ours() => {
                self.end_epoch("an older claim of this process arrived late".to_owned())
            }
            Phase::Serving => {
                let (epoch, owner) = (self.state.epoch, self.epoch_owner.clone());
                self.step_down(Down::HigherEpoch { epoch, owner });
            }
            Phase::Idle | Phase::Catching | Phase::Claiming { .. } | Phase::Down(_) => {}
        }
    }

    fn commit_was_admitted(&mut self, offset: Offset, commit: CommitHeaders, record: &Record) {
        if self.queue.front().is_some_and(|head| head.after == self.state) {
            return self.acknowledge(offset);
        }
        // Not ours, or not remembered. In an epoch that we serve nobody else should write: claim it anew.
        self.abandon(offset);
        self.effects.push_back(Effect::Apply {
            offset,
            commit,
            record: record.clone(),
        });
        if self.is_serving() {
            self.end_epoch("a commit that is not ours was admitted in our epoch".to_owned());
        }
    }

    fn record_was_void(&mut self, offset: Offset) {
        match self.phase {
            Phase::Claiming { at: Some(at), .. } if at == offset => {
                if self.is_ours() {
                    // An older claim of ours, thought lost, came first: nobody else is there.
                    self.claim();
                } else {
                    let (epoch, owner) = (self.state.epoch, self.epoch_owner.clone());
                    self.step_down(Down::ClaimVoid { epoch, owner });
                }
            }
            Phase::Idle | Phase::Catching | Phase::Claiming { .. } | Phase::Serving | Phase::Down(_) => {}
        }
    }

    fn is_ours(&self) -> bool {
        self.epoch_owner.as_deref() == Some(self.owner.as_str())
    }

    /// Acknowledges what is at the head of the queue and follows; asks for a gap to be read.
    fn advance(&mut self) {
        while let Some(Sent {
            offset: Some(offset),
            after,
            ..
        }) = self.queue.front()
        {
            let (offset, after) = (*offset, *after);
            if offset == self.next {
                self.state = after;
                self.next += 1;
                self.acknowledge(offset);
            } else if offset > self.next {
                self.want(offset + 1);
                break;
            } else {
                // It was folded and was not what we meant to write.
                return self.end_epoch(format!("our record at offset {offset} is void"));
            }
        }
        self.settle();
    }

    /// Gives the answers that append nothing, as far as they may be given.
    fn settle(&mut self) {
        while let Some(head) = self.held.front() {
            let Some(end) = head.end.filter(|_| head.rests_on <= self.state.seq) else {
                break;
            };
            if self.next < end {
                if self.queue.is_empty() {
                    self.want(end);
                }
                break;
            }
            if let Some(Held { ticket, .. }) = self.held.pop_front() {
                self.effects.push_back(Effect::Answer {
                    ticket,
                    next: self.next,
                });
            }
        }
    }

    fn acknowledge(&mut self, offset: Offset) {
        if let Some(Sent { bytes, ticket, .. }) = self.queue.pop_front() {
            self.queued_bytes -= bytes;
            self.effects.push_back(Effect::Acknowledge { ticket, offset });
        }
    }

    fn end_is(&mut self, query: u64, end: Offset) {
        match self.phase {
            Phase::Catching => {
                self.want(end);
                if self.next >= end {
                    self.claim();
                }
            }
            Phase::Serving => {
                for held in self
                    .held
                    .iter_mut()
                    .filter(|held| held.end.is_none() && held.query <= query)
                {
                    held.end = Some(end);
                }
                if self.held.iter().any(|held| held.end.is_none()) {
                    self.ask_end();
                }
                self.settle();
            }
            Phase::Idle | Phase::Claiming { .. } | Phase::Down(_) => {}
        }
    }

    fn catch_up(&mut self) {
        self.phase = Phase::Catching;
        self.ask_end();
    }

    fn claim(&mut self) {
        let (id, epoch) = (self.id(), self.state.epoch + 1);
        self.query = None;
        self.phase = Phase::Claiming { id, epoch, at: None };
        self.effects.push_back(Effect::AppendClaim { id, epoch });
    }

    fn end_epoch(&mut self, why: String) {
        self.effects.push_back(Effect::Recovering { why });
        self.claim();
    }

    /// What is in the queue never was; admitted history ends before `next`. Whoever waits is kept until this process
    /// serves again.
    fn abandon(&mut self, next: Offset) {
        if !self.queue.is_empty() {
            self.effects.push_back(Effect::Forget { next });
        }
        self.queued_bytes = 0;
        self.orphans
            .extend(self.queue.drain(..).map(|sent| (sent.id, sent.ticket)));
        self.orphans
            .extend(self.held.drain(..).map(|held| (held.id, held.ticket)));
        self.tail = self.state;
    }

    fn step_down(&mut self, down: Down) {
        // What was appended after the last admitted claim may be in history; what a claim cut off is not.
        let unknown = self.queue.len();
        if unknown > 0 {
            self.effects.push_back(Effect::Forget { next: self.next });
        }
        self.queued_bytes = 0;
        self.query = None;
        let queue = self.queue.drain(..).map(|sent| Effect::Refuse {
            ticket: sent.ticket,
            unknown: true,
        });
        self.effects.extend(queue);
        self.orphans
            .extend(self.held.drain(..).map(|held| (held.id, held.ticket)));
        let refused = self.orphans.take();
        self.effects.extend(refused.map(|ticket| Effect::Refuse {
            ticket,
            unknown: false,
        }));
        self.tail = self.state;
        self.read_to = self.next;
        self.phase = Phase::Down(down.clone());
        self.effects.push_back(Effect::SteppedDown { down });
    }

    fn want(&mut self, to: Offset) {
        if to > self.read_to && to > self.next {
            self.read_to = to;
            self.effects.push_back(Effect::ReadTo { from: self.next, to });
        }
    }

    fn ask_end(&mut self) {
        self.queries += 1;
        self.query = Some((self.queries, self.next));
        self.effects.push_back(Effect::ReadEnd {
            query: self.queries,
            attempt: self.attempt,
        });
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}

#[cfg(test)]
pub(crate) mod tests;
