//! The state of a driven partition between two waits, and the performing of effects.
//!
//! A little longer than a file should be: every effect has its function here, next to the state that they share.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::watch;

use super::{
    Decider, Decision, Options, Outcome, Rewound, Start, Status, Unapplied,
    flights::{Flights, Report},
    queues::Queues,
    reading::Reading,
};
use crate::{
    admission::Verdict,
    clock,
    genesis::Claim,
    log::{AppendError, Batch, Log, ReadError},
    metrics,
    partition::{Offset, Partition},
    writer::{Down, Effect, Writer},
};

/// Requests taken at once, and so the most that wait here instead of in the channel.
pub(super) const ARRIVALS: usize = 256;
/// Bytes under way before no more is decided. With one commit more this is below what the log takes.
const MAX_IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
/// After so many epochs in a row in which nothing came into history whoever is first to be decided again is given up, one
/// in each: the log may refuse that one, and all others wait for it.
const FRUITLESS: u32 = 5;
/// The longest wait between two attempts to reach the log.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

type Pending<T> = Option<(u64, Pin<Box<dyn Future<Output = T> + Send>>)>;

/// Who waits: the request, and what was decided about it.
pub(super) struct Ticket<D: Decider> {
    request: D::Request,
    answer: D::Answer,
}

pub(super) struct Task<D: Decider> {
    pub(super) log: Log,
    pub(super) partition: Partition,
    pub(super) decider: D,
    pub(super) writer: Writer<Ticket<D>>,
    /// Commits on their way.
    pub(super) flights: Flights,
    pub(super) claim: Pending<Result<Offset, AppendError>>,
    pub(super) end: Pending<Result<Offset, ReadError>>,
    /// Whether several were answered together: they come again together.
    pub(super) company: bool,
    pub(super) reading: Reading,
    /// Epochs that ended before anything of them came into history, in a row; why the last one did; whether somebody was
    /// given up in this one.
    fruitless: u32,
    why: String,
    given_up: bool,
    /// Arrived and not yet decided.
    waiting: Queues<D::Request>,
    closing: Option<Instant>,
    status: watch::Sender<Status>,
    options: Options,
}

impl<D: Decider> Task<D> {
    pub(super) fn new(
        log: Log,
        partition: Partition,
        start: Start,
        decider: D,
        status: watch::Sender<Status>,
        options: Options,
    ) -> Self {
        let writer = Writer::new(options.owner.clone(), start.next, start.state);
        let mut writer = writer.accepting(options.accepted.clone());
        writer.assigned();
        status.send_replace(Status::Starting);
        let flights = Flights::of(&log);
        Self {
            log,
            partition,
            decider,
            writer,
            flights,
            claim: None,
            end: None,
            company: false,
            reading: Reading::default(),
            fruitless: 0,
            why: String::new(),
            given_up: false,
            waiting: Queues::default(),
            closing: None,
            status,
            options,
        }
    }

    /// Does what the writer wants, then decides what waits, until there is nothing to do but wait.
    pub(super) async fn perform(&mut self) {
        if self.writer.is_serving() {
            // A flight has landed, perhaps: the log is not to wait until those that were in it are answered.
            self.depart();
        }
        self.decide_all().await;
        self.depart();
    }

    fn depart(&mut self) {
        let (log, partition) = (&self.log, self.partition);
        self.flights.depart(|record| log.append(partition, record));
    }

    async fn decide_all(&mut self) {
        loop {
            while let Some(effect) = self.writer.effect() {
                self.perform_one(effect).await;
            }
            if self.writer.down().is_some() {
                return self.refuse_waiting();
            }
            if !self.has_room() {
                return;
            }
            if self.waiting.is_empty() {
                return;
            }
            if let Some(why) = self.decider.broken() {
                if self.writer.is_idle() {
                    self.writer.unkept(why);
                    continue;
                }
                return;
            }
            if let Some(request) = self.waiting.pop() {
                self.decide(request);
            }
        }
    }

    async fn perform_one(&mut self, effect: Effect<Ticket<D>>) {
        match effect {
            Effect::AppendCommit { id, record } => {
                self.flights.gather(id, record);
                if self.flights.is_due() {
                    self.depart();
                }
            }
            // What was to be folded before it could not be read.
            Effect::AppendClaim { .. } if self.writer.down().is_some() => {}
            Effect::AppendClaim { id, epoch } => {
                // What was under way reports to nobody any more: reading will tell.
                self.flights.forget();
                self.end = None;
                let claim = Claim {
                    owner: self.options.owner.clone(),
                    time: clock::now(),
                };
                let (log, partition, pause) = (
                    self.log.clone(),
                    self.partition,
                    pause(self.fruitless.saturating_sub(1)),
                );
                let appending = async move {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    log.append(partition, claim.to_record(epoch)).await
                };
                self.claim = Some((id, appending.boxed()));
            }
            Effect::ReadEnd { query, attempt } => {
                let (log, partition, pause) = (self.log.clone(), self.partition, pause(attempt));
                let asking = async move {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    // Without it nothing is claimed and nothing that appends nothing is answered.
                    let end = log.end(partition).await;
                    end.inspect_err(|error| tracing::warn!(%error, attempt, "the log does not say where it ends: asking again"))
                };
                self.end = Some((query, asking.boxed()));
            }
            Effect::ReadTo { .. } => {} // `reading` asks the writer what it wants
            Effect::Apply {
                offset,
                commit,
                record,
            } => {
                if let Err(why) = self.decider.apply(offset, &commit, &record) {
                    self.unapplied(offset, why);
                }
            }
            Effect::Forget { next } => self.forget(next).await,
            Effect::Acknowledge {
                ticket: Ticket { request, answer },
                offset,
            } => {
                self.fruitless = 0;
                self.decider.admitted(offset);
                self.decider.answer(request, Outcome::Admitted { answer, offset });
            }
            Effect::Answer {
                ticket: Ticket { request, answer },
                next,
            } => {
                self.decider.answer(request, Outcome::Settled { answer, next });
            }
            Effect::Redecide { ticket } => {
                if self.fruitless >= FRUITLESS && !std::mem::replace(&mut self.given_up, true) {
                    // It is not in history and never will be: else it would not be decided again.
                    let why = format!("the log does not take it: {}", self.why);
                    tracing::error!(partition = %self.partition, why, "giving a command up");
                    self.decider.answer(ticket.request, Outcome::NotServing(why));
                } else {
                    self.decide(ticket.request);
                }
            }
            Effect::Refuse { ticket, unknown } => {
                let why = self.writer.down().map_or_else(String::new, ToString::to_string);
                let outcome = if unknown {
                    Outcome::Unknown(why)
                } else {
                    Outcome::NotServing(why)
                };
                self.decider.answer(ticket.request, outcome);
            }
            Effect::Serving { epoch } => {
                tracing::debug!(partition = %self.partition, epoch, "serving");
                self.reading = Reading::default();
                self.given_up = false;
                self.status.send_replace(Status::Serving { epoch });
            }
            Effect::Recovering { why } => {
                tracing::warn!(partition = %self.partition, why, "the epoch ended; claiming anew");
                (self.fruitless, self.why) = (self.fruitless.saturating_add(1), why);
                self.status.send_replace(Status::Recovering);
            }
            Effect::SteppedDown { down } => {
                tracing::warn!(partition = %self.partition, why = %down, "stepped down");
                (self.claim, self.end) = (None, None);
                self.flights.forget();
                self.reading = Reading::default();
                self.status.send_replace(match down {
                    Down::Truncated { next, .. } => Status::Lost {
                        next,
                        why: down.to_string(),
                    },
                    Down::Unreadable(what) => Status::Unreadable(what),
                    Down::Unkept(why) => Status::Unkept(why),
                    Down::Damaged { .. } => Status::Unreadable(format!("{}: {down}", self.partition)),
                    Down::HigherEpoch { .. } | Down::ClaimVoid { .. } | Down::Released => {
                        Status::SteppedDown(down.to_string())
                    }
                });
            }
            Effect::Void { offset, why } => {
                metrics::void(self.partition);
                tracing::warn!(partition = %self.partition, offset, %why, "a void record");
            }
        }
    }

    fn decide(&mut self, mut request: D::Request) {
        if !self.writer.is_serving() {
            let until = Instant::now() + self.options.patience;
            return self.waiting.put_back(D::sharer(&request), until, request);
        }
        // The writer serves: it gives no ticket back.
        let returned = match self.decider.decide(&mut request) {
            Decision::Append(commit, answer) => self.writer.append(commit, Ticket { request, answer }),
            Decision::Answer(answer) => self.writer.hold(Ticket { request, answer }),
        };
        debug_assert!(returned.is_ok(), "the writer serves");
    }

    async fn forget(&mut self, to: Offset) {
        let Rewound::To(from, mut state) = self.decider.forget() else {
            return;
        };
        tracing::info!(partition = %self.partition, from, to, "folding again what is admitted");
        let mut reading = Reading::default();
        let mut next = from;
        while next < to {
            let batch = match reading.read(&self.log, self.partition, next).await {
                Ok(batch) => batch,
                Err(error @ ReadError::Failed { .. }) => {
                    tracing::warn!(%error, "trying again");
                    continue;
                }
                Err(error) => return self.writer.unreadable(error.to_string()),
            };
            next = batch.next;
            for stored in batch.records.into_iter().filter(|stored| stored.offset < to) {
                if let Verdict::Commit(commit) = state.admit(stored.offset, &stored.record)
                    && let Err(why) = self.decider.apply(stored.offset, &commit, &stored.record)
                {
                    return self.unapplied(stored.offset, why);
                }
            }
        }
    }

    fn unapplied(&mut self, offset: Offset, why: Unapplied) {
        let at = self.partition;
        match why {
            Unapplied::Unreadable(what) => self.writer.unreadable(format!(
                "{at} offset {offset} cannot be read by this release: {what}"
            )),
            Unapplied::Unkept(why) => self
                .writer
                .unkept(format!("what {at} offset {offset} makes cannot be kept: {why}")),
        }
    }

    /// The head's report and, without waiting, those after it.
    pub(super) fn appended(&mut self, (id, outcome): Report) {
        self.company = false;
        self.writer.appended(id, outcome);
        while let Some((id, outcome)) = self.flights.ready() {
            self.company = true;
            self.writer.appended(id, outcome);
        }
    }

    pub(super) async fn have_read(&mut self, batch: Result<Batch, ReadError>) {
        match batch {
            Ok(batch) => {
                self.reading.keep(batch);
                // One by one, so that a record that cannot be read stops the fold before anything follows from it.
                while let Some(stored) = self.reading.take(&self.writer) {
                    self.writer.read(stored.offset, &stored.record);
                    while let Some(effect) = self.writer.effect() {
                        self.perform_one(effect).await;
                    }
                }
                self.writer.passed(self.reading.seen_to());
            }
            Err(error @ ReadError::Failed { .. }) => tracing::warn!(%error, "trying again"),
            Err(error) => self.writer.unreadable(error.to_string()),
        }
    }

    pub(super) fn takes_requests(&self) -> bool {
        self.waiting.len() < ARRIVALS
    }

    pub(super) fn arrived(&mut self, requests: impl Iterator<Item = D::Request>) {
        let until = Instant::now() + self.options.patience;
        for request in requests {
            self.waiting.push(D::sharer(&request), until, request);
        }
    }

    /// When somebody has waited long enough.
    pub(super) fn deadline(&mut self, open: bool) -> Option<Instant> {
        if !open && self.closing.is_none() {
            self.closing = Some(Instant::now() + self.options.patience);
        }
        self.waiting.deadline().into_iter().chain(self.closing).min()
    }

    /// Tells those who waited long enough; at the end gives up what does not come to an end.
    pub(super) fn expire(&mut self, open: bool) {
        let now = Instant::now();
        for request in self.waiting.expired(now) {
            let why = "the partition has not been served for some time".to_owned();
            self.decider.answer(request, Outcome::NotServing(why));
        }
        if !open && self.closing.is_some_and(|until| until <= now) {
            self.writer.release();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.writer.is_idle()
    }

    fn has_room(&self) -> bool {
        let (commits, bytes) = self.writer.in_flight();
        // Refusals wait for the log's end: while it cannot be read they are as many as commits may be.
        let waiting = commits.max(self.writer.held());
        self.writer.is_serving() && waiting < self.options.max_in_flight && bytes < MAX_IN_FLIGHT_BYTES
    }

    fn refuse_waiting(&mut self) {
        let why = self.writer.down().map_or_else(String::new, ToString::to_string);
        for request in self.waiting.drain() {
            self.decider.answer(request, Outcome::NotServing(why.clone()));
        }
    }
}

/// Growing, and random in its upper half, so that two processes do not keep step.
pub(super) fn pause(attempt: u32) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let full = Duration::from_millis(10)
        .saturating_mul(1 << attempt.min(10))
        .min(LONGEST_PAUSE);
    let random = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    full.mul_f64(0.5 + random / 2.0)
}

/// The pending answer; never, when there is none.
pub(super) async fn only<T>(pending: &mut Pending<T>) -> (u64, T) {
    let Some((id, future)) = pending else {
        return std::future::pending().await;
    };
    (*id, future.await)
}

/// That point in time; never, when there is none.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
