//! One decision: idempotency, rules, events, state; and what becomes of it when it is admitted or not.
//!
//! A little longer than a file should be: what is decided and what it is answered are two ends of one request.

use std::{collections::VecDeque, time::Instant};

use event_log::{
    CommandHashes, CommandName, Commit, CommitHeaders, EncodeError, Offset, Partition, Record,
    driver::{self, Decision, Outcome, Rewound, Unapplied},
};
use events::{CommandId, Envelope, EventId, PrincipalId, Recorded, Timestamp, content, tenant};
use prometheus::{Histogram, IntCounter, IntGauge};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Request, UNKNOWN, heard,
    idempotency::{Hash, Keys, Seen},
    layers, now,
    state::{self, Change, FoldError, State, Unchanged, unreadable},
};
use crate::{
    answer::Answer,
    command::{Context, Expected},
    directory::FeatureLevel,
    error::Error,
    metrics,
};

/// Keys that are remembered of commands that left everything as it was.
const UNCHANGED: usize = 4_096;

/// What a command came to.
#[derive(Debug)]
pub enum Done {
    /// Its commit is admitted.
    Admitted(Answer),
    /// Everything was as asked for already.
    Unchanged(Unchanged),
    /// It was done before: the commit at this offset answers.
    Stored(Offset),
}

/// What the driver keeps until a request may be answered.
pub enum Reply {
    /// To a command.
    Done(Done),
    /// To who looks: what is there may be looked at.
    Settled,
    /// To the timer.
    Rung,
}

/// The state of a partition, as admitted and as it will be when all that is under way is admitted.
pub struct Decider {
    partition: Partition,
    state: State,
    /// Which event versions may be written.
    level: FeatureLevel,
    /// Commits decided and not yet admitted, the oldest first.
    under_way: VecDeque<(Commit, Option<(Hash, Hash)>)>,
    /// Requests that left everything as it was, by their keys. The next owner does not know them.
    unchanged: Keys<(Hash, Unchanged)>,
    next_due: watch::Sender<Option<Timestamp>>,
    counters: Counters,
}

/// The metrics of this partition, looked up once.
struct Counters {
    admitted: IntCounter,
    unchanged: IntCounter,
    stored: IntCounter,
    refused: IntCounter,
    unavailable: IntCounter,
    waiting: IntGauge,
    seconds: Histogram,
}

/// Who and what caused a commit.
struct Cause<'a> {
    actor: Option<PrincipalId>,
    causation: Option<CommandId>,
    correlation: Option<Uuid>,
    traceparent: Option<&'a str>,
}

impl Decider {
    /// With what is known of the partition already. Tells the timer when the next publication is due.
    pub fn new(
        partition: Partition,
        state: State,
        level: FeatureLevel,
        next_due: watch::Sender<Option<Timestamp>>,
    ) -> Self {
        let label = partition.to_string();
        let outcome = |outcome| metrics::COMMANDS.with_label_values(&[label.as_str(), outcome]);
        next_due.send_replace(state.next_due());
        let unchanged = Keys::new(state.kept(), UNCHANGED);
        Self {
            partition,
            state,
            level,
            under_way: VecDeque::new(),
            unchanged,
            next_due,
            counters: Counters {
                admitted: outcome("admitted"),
                unchanged: outcome("unchanged"),
                stored: outcome("stored"),
                refused: outcome("refused"),
                unavailable: outcome("unavailable"),
                waiting: metrics::WAITING.with_label_values(&[&label]),
                seconds: metrics::COMMAND_SECONDS.with_label_values(&[&label]),
            },
        }
    }

    fn decide_command(
        &mut self,
        context: &Context,
        command: &super::Command,
    ) -> Decision<Result<Reply, Error>> {
        if context.until <= Instant::now() {
            // Nobody waits for it any more, who may have sent it again by now; it stood nowhere, or it would not be asked.
            return refuse(Error::NotServed(UNKNOWN));
        }
        let at = self.state.commit_time(now());
        if let Some(key) = context.key {
            let used = match self.state.used(key, layers::Seen::Decided) {
                Ok(used) => used,
                Err(error) => return refuse(unreadable(error)),
            };
            let kept = self.state.kept();
            match used.map_or(Seen::New, |used| used.seen(&context.request, at, kept)) {
                Seen::New => {}
                Seen::Running => return refuse(Error::Running),
                Seen::Answered(offset) => return Decision::Answer(Ok(Reply::Done(Done::Stored(offset)))),
                Seen::Other => return refuse(Error::KeyReused),
            }
            if let Some((request, unchanged)) = self.unchanged.get(&key, at) {
                return if *request == context.request {
                    Decision::Answer(Ok(Reply::Done(Done::Unchanged(unchanged.clone()))))
                } else {
                    refuse(Error::KeyReused)
                };
            }
        }
        let tenant = context.principal.tenant;
        let changes = match self.state.decide(tenant, command.clone(), &context.expected, at) {
            Ok(state::Decision::Commit(changes)) => changes,
            Ok(state::Decision::Unchanged(unchanged)) => {
                return Decision::Answer(Ok(Reply::Done(Done::Unchanged(unchanged))));
            }
            Err(error) => return refuse(error),
        };
        let cause = Cause {
            actor: Some(context.principal.id),
            causation: Some(context.id),
            correlation: context.correlation,
            traceparent: context.traceparent.as_deref(),
        };
        let name = match context.key {
            Some(key) => CommandName::Key(key),
            None => CommandName::Id(context.id.uuid().into_bytes()),
        };
        let hashes = CommandHashes {
            name,
            request: context.request,
        };
        let key = context.key.map(|key| (key, context.request));
        self.append(changes, at, &cause, Some(hashes), key, |events| {
            Reply::Done(Done::Admitted(Answer::of(events)))
        })
    }

    /// Publishes the first piece whose time has come.
    fn decide_due(&mut self) -> Decision<Result<Reply, Error>> {
        let at = self.state.commit_time(now());
        let (tenant, content, timer) = match self.state.first_due(at) {
            Ok(Some(due)) => due,
            Ok(None) => return Decision::Answer(Ok(Reply::Rung)),
            Err(error) => return refuse(unreadable(error)),
        };
        let command = tenant::Command::Content(content, content::Command::PublishDue);
        match self.state.decide(tenant, command.into(), &Expected::Any, at) {
            Ok(state::Decision::Commit(changes)) => {
                let cause = Cause {
                    actor: timer.actor,
                    causation: timer.causation,
                    correlation: timer.correlation,
                    traceparent: timer.traceparent.as_deref(),
                };
                self.append(changes, at, &cause, None, None, |_| Reply::Rung)
            }
            Err(error @ Error::Outside { .. }) => refuse(error),
            Ok(state::Decision::Unchanged(_)) | Err(_) => {
                // The timer and the piece follow the same events, so this cannot be; it must not ring for ever.
                tracing::error!(%content, "a scheduled publication was refused");
                self.state.stop_timer(tenant, content);
                self.tell_timer();
                Decision::Answer(Ok(Reply::Rung))
            }
        }
    }

    fn append(
        &mut self,
        changes: Vec<Change>,
        at: Timestamp,
        cause: &Cause<'_>,
        command: Option<CommandHashes>,
        key: Option<(Hash, Hash)>,
        reply: impl FnOnce(&[Recorded]) -> Reply,
    ) -> Decision<Result<Reply, Error>> {
        let Some(tenant) = changes.first().map(|change| change.tenant) else {
            return refuse(Error::NotServed("nothing to commit"));
        };
        let events = changes
            .into_iter()
            .map(|change| recorded(change, at, cause))
            .collect();
        let tenant_seq = match self.state.next_seq(tenant) {
            Ok(seq) => seq,
            Err(error) => return refuse(unreadable(error)),
        };
        let commit = Commit {
            tenant,
            tenant_seq,
            command,
            events,
        };
        let prepared = match commit.prepare_at(self.level.now()) {
            Ok(prepared) => prepared,
            Err(EncodeError::TooLarge(bytes)) => return refuse(Error::CommitTooLarge(bytes)),
            Err(EncodeError::NotYet(error)) => return refuse(error.into()),
            Err(error @ (EncodeError::Empty | EncodeError::Tenant(..))) => {
                return refuse(Error::outside("encoding a commit", error));
            }
        };
        if let Err(error) = self.state.decided(&commit, key) {
            return refuse(Error::outside("folding a decision", error));
        }
        let reply = reply(&commit.events);
        self.under_way.push_back((commit, key));
        self.tell_timer();
        Decision::Append(prepared, Ok(reply))
    }

    fn tell_timer(&self) {
        let next = self.state.next_due();
        self.next_due
            .send_if_modified(|known| std::mem::replace(known, next) != next);
    }
}

/// Key and request of a command that brought an Idempotency-Key.
fn key_of(commit: &Commit) -> Option<(Hash, Hash)> {
    let CommandHashes { name, request } = commit.command?;
    match name {
        CommandName::Key(key) => Some((key, request)),
        CommandName::Id(_) => None,
    }
}

impl Drop for Decider {
    /// The next start folds less.
    fn drop(&mut self) {
        // What was half done when a thread panicked is not to be kept.
        if std::thread::panicking() {
            return;
        }
        if let Err(error) = self.state.write() {
            tracing::warn!(partition = %self.partition, %error, "the next start reads more of the log");
        }
    }
}

fn refuse<T>(error: Error) -> Decision<Result<T, Error>> {
    Decision::Answer(Err(error))
}

fn recorded(change: Change, at: Timestamp, cause: &Cause<'_>) -> Recorded {
    let envelope = Envelope {
        id: EventId::new(Uuid::now_v7()),
        subject: change.subject,
        time: at,
        tenant: change.tenant,
        aggregate_version: Some(change.version),
        actor: cause.actor,
        causation: cause.causation,
        correlation: cause.correlation,
        traceparent: cause.traceparent.map(str::to_owned),
    };
    Recorded {
        envelope,
        event: change.event,
    }
}

impl driver::Decider for Decider {
    type Request = Request;
    type Answer = Result<Reply, Error>;

    fn sharer(request: &Request) -> u128 {
        match request {
            Request::Ask { context, .. } => context.principal.tenant.uuid().as_u128(),
            Request::Piece { tenant, .. } | Request::Import { tenant, .. } | Request::Used { tenant, .. } => {
                tenant.uuid().as_u128()
            }
            Request::Due { .. } => 0,
        }
    }

    fn apply(&mut self, at: Offset, headers: &CommitHeaders, record: &Record) -> Result<(), Unapplied> {
        let commit = Commit::decode(headers, record)
            .map_err(|error| Unapplied::Unreadable(service::problem::chain(&error)))?;
        self.state
            .apply(at, &commit, key_of(&commit))
            .map_err(|error| match error {
                FoldError::Subject(error) => Unapplied::Unreadable(error.to_string()),
                FoldError::Disk(error) => Unapplied::Unkept(error.to_string()),
            })?;
        self.tell_timer();
        Ok(())
    }

    fn forget(&mut self) -> Rewound {
        self.under_way.clear();
        self.state.forget();
        self.tell_timer();
        Rewound::Here
    }

    fn broken(&mut self) -> Option<String> {
        let written = self.state.write_when_full();
        written
            .err()
            .map(|error| format!("what is decided cannot be kept: {error}"))
    }

    fn decide(&mut self, request: &mut Request) -> Decision<Self::Answer> {
        match request {
            Request::Ask { command, context, .. } => self.decide_command(context, command),
            Request::Piece { .. } | Request::Import { .. } | Request::Used { .. } => {
                Decision::Answer(Ok(Reply::Settled))
            }
            Request::Due { .. } => self.decide_due(),
        }
    }

    fn admitted(&mut self, at: Offset) {
        if let Some((commit, key)) = self.under_way.pop_front()
            && let Err(error) = self.state.admitted(at, &commit, key)
        {
            // It was read when it was decided, so this cannot be; from here on the disk is not written.
            tracing::error!(partition = %self.partition, %error, "cannot fold what was decided");
        }
    }

    fn answer(&mut self, request: Request, outcome: Outcome<Self::Answer>) {
        let heard = heard(outcome);
        // Whoever asked may have gone; what was done stays done.
        match request {
            Request::Ask {
                reply,
                arrived,
                context,
                ..
            } => {
                if let (Some(key), Ok((Reply::Done(Done::Unchanged(unchanged)), _))) = (context.key, &heard) {
                    let at = self.state.commit_time(now());
                    // A retry does not make it younger.
                    if self.unchanged.get(&key, at).is_none() {
                        self.unchanged
                            .insert(key, (context.request, unchanged.clone()), at);
                    }
                }
                let counter = match &heard {
                    Ok((Reply::Done(Done::Admitted(_)), _)) => &self.counters.admitted,
                    Ok((Reply::Done(Done::Stored(_)), _)) => &self.counters.stored,
                    Ok((Reply::Done(Done::Unchanged(_)) | Reply::Settled | Reply::Rung, _)) => {
                        &self.counters.unchanged
                    }
                    Err(Error::NotHere | Error::NotServed(_) | Error::Outside { .. }) => {
                        &self.counters.unavailable
                    }
                    Err(_) => &self.counters.refused,
                };
                counter.inc();
                self.counters.seconds.observe(arrived.elapsed().as_secs_f64());
                self.counters
                    .waiting
                    .set(i64::try_from(self.under_way.len()).unwrap_or(i64::MAX));
                let _ = reply.send(heard.and_then(|(reply, next)| match reply {
                    Reply::Done(done) => Ok((done, next)),
                    Reply::Settled | Reply::Rung => Err(Error::NotServed("answered as something else")),
                }));
            }
            // What is admitted now is at least what was there when it was asked.
            Request::Piece {
                tenant,
                content,
                reply,
                ..
            } => {
                let piece = |(_, next)| Ok((self.state.piece(tenant, content).map_err(unreadable)?, next));
                let _ = reply.send(heard.and_then(piece));
            }
            Request::Import {
                tenant,
                import,
                reply,
                ..
            } => {
                let _ = reply.send(heard.and_then(|_| self.state.import(tenant, import).map_err(unreadable)));
            }
            Request::Used { key, reply, .. } => {
                let used = |_| self.state.used(key, layers::Seen::Admitted).map_err(unreadable);
                let used = heard.and_then(used);
                let kept = self.state.kept();
                let _ = reply.send(used.map(|used| used.is_some_and(|used| used.is_fresh(now(), kept))));
            }
            Request::Due { reply } => {
                if heard.is_ok() {
                    let _ = reply.send(());
                }
            }
        }
    }
}
