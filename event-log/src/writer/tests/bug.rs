//! Mistakes, each the omission of one rule, that the model must find: a model that cannot fail proves nothing.
//!
//! A mistaken writer is the real one, touched between its steps as the mistake would have it. So the code that runs
//! in production holds no trace of them.

use crate::{
    admission::{Claimed, State, Verdict},
    genesis::Claim,
    log::{AppendError, ReadError},
    partition::Offset,
    record::{Record, Stated},
    writer::{
        Effect, Phase, Writer,
        queue::{Held, Sent},
    },
};

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Rule 3: the head of the queue is acknowledged wherever it stands.
    AcknowledgeOnGap,
    /// Rule 3: whatever stands at the next offset is acknowledged, though it is not the head of the queue.
    AcknowledgeOutOfTurn,
    /// Rule 2: goes on after a failed append.
    KeepEpochAfterFailure,
    /// Rule 2: after a definite failure the number is given again.
    ReuseNumber,
    /// Rule 4: a command whose append has an unknown outcome is said not to be done.
    UnknownIsFailed,
    /// Rule 5: answers at once.
    AnswerWithoutEnd,
    /// Rule 5: answers though what the answer rests on is not admitted yet.
    RefuseOnSpeculation,
    /// Rule 1: serves when its claim is in the log, without having read up to it.
    ServeBeforeReading,
    /// Rule 8: a snapshot holds what is not admitted yet.
    SnapshotSpeculation,
    /// Admission: a claim of the current epoch is admitted as well.
    AdmitEqualEpoch,
    /// Admission: a commit of another epoch is admitted, if its number follows. (Its hash does not: the chain alone
    /// would void it. Each of the two suffices, so the mistake leaves out both.)
    IgnoreEpoch,
    /// Admission: a commit of this epoch is admitted whatever its number. (And whatever its hash, as above.)
    IgnoreSequence,
    /// Admission: any commit is admitted.
    SkipAdmission,
}

impl Bug {
    pub(super) const ALL: [Self; 13] = [
        Self::AcknowledgeOnGap,
        Self::AcknowledgeOutOfTurn,
        Self::KeepEpochAfterFailure,
        Self::ReuseNumber,
        Self::UnknownIsFailed,
        Self::AnswerWithoutEnd,
        Self::RefuseOnSpeculation,
        Self::ServeBeforeReading,
        Self::SnapshotSpeculation,
        Self::AdmitEqualEpoch,
        Self::IgnoreEpoch,
        Self::IgnoreSequence,
        Self::SkipAdmission,
    ];

    /// [`Writer::appended`].
    pub(super) fn appended<T>(self, writer: &mut Writer<T>, id: u64, outcome: Result<Offset, AppendError>) {
        let place = writer.queue.binary_search_by_key(&id, |sent| sent.id).ok();
        match (self, &outcome, &writer.phase, place) {
            (Self::AcknowledgeOnGap, Ok(offset), Phase::Serving, Some(place)) => {
                writer.queue[place].offset = Some(*offset);
                while let Some(Sent { offset: Some(at), .. }) = writer.queue.front()
                    && writer.is_serving()
                {
                    writer.next = writer.next.max(*at);
                    writer.advance();
                }
            }
            (Self::AcknowledgeOutOfTurn, Ok(offset), Phase::Serving, Some(place))
                if *offset == writer.next =>
            {
                if let Some(sent) = take(writer, place) {
                    (writer.state, writer.next) = (sent.after, offset + 1);
                    let (ticket, offset) = (sent.ticket, *offset);
                    writer.effects.push_back(Effect::Acknowledge { ticket, offset });
                }
            }
            (Self::KeepEpochAfterFailure, Err(_), Phase::Serving, Some(place)) => refuse(writer, place, true),
            (Self::ReuseNumber, Err(AppendError::Not(_)), Phase::Serving, Some(place)) => {
                let before = place.checked_sub(1).map(|place| writer.queue[place].after);
                writer.tail = before.unwrap_or(writer.state);
                refuse(writer, place, false);
            }
            (Self::UnknownIsFailed, Err(_), Phase::Serving, Some(place)) => {
                refuse(writer, place, false);
                writer.end_epoch("an append failed".to_owned());
            }
            (Self::ServeBeforeReading, Ok(offset), Phase::Claiming { id: claim, epoch, .. }, _)
                if *claim == id =>
            {
                let claim = Claim {
                    owner: writer.owner.clone(),
                    time: events::Timestamp::from_micros(0).expect("in range"),
                };
                let (epoch, claim) = (*epoch, claim.to_record(*epoch));
                writer.state = State {
                    epoch,
                    seq: 0,
                    hash: writer.state.hash.then(&claim),
                };
                writer.abandon(offset + 1);
                (writer.phase, writer.next) = (Phase::Serving, offset + 1);
                writer.effects.push_back(Effect::Serving { epoch });
                let again = writer.orphans.take();
                writer
                    .effects
                    .extend(again.map(|ticket| Effect::Redecide { ticket }));
            }
            _ => writer.appended(id, outcome),
        }
    }

    /// [`Writer::hold`].
    pub(super) fn hold<T>(self, writer: &mut Writer<T>, ticket: T) -> Result<(), T> {
        let taken = writer.hold(ticket);
        if self == Self::AnswerWithoutEnd
            && let Some(held) = writer.held.back_mut()
        {
            held.end = Some(0);
            writer.settle();
        }
        taken
    }

    /// [`Writer::ended`].
    pub(super) fn ended<T>(self, writer: &mut Writer<T>, query: u64, outcome: Result<Offset, ReadError>) {
        writer.ended(query, outcome);
        while self == Self::RefuseOnSpeculation
            && let Some(Held { end: Some(end), .. }) = writer.held.front()
            && *end <= writer.next
            && let Some(Held { ticket, .. }) = writer.held.pop_front()
        {
            let next = writer.next;
            writer.effects.push_back(Effect::Answer { ticket, next });
        }
    }

    /// [`Writer::read`].
    pub(super) fn read<T>(self, writer: &mut Writer<T>, offset: Offset, record: &Record) {
        match self.admits(&writer.state, record) {
            Some((state, verdict)) if writer.wants(offset) => {
                writer.state = state;
                writer.follow(offset, record, verdict);
            }
            _ => writer.read(offset, record),
        }
    }

    /// What is admitted by mistake.
    fn admits(self, state: &State, record: &Record) -> Option<(State, Verdict)> {
        let admitted = match (self, record.stated().ok()?) {
            (Self::SkipAdmission, Stated::Commit(commit)) => commit,
            (Self::IgnoreEpoch, Stated::Commit(commit)) if commit.seq == state.seq + 1 => commit,
            (Self::IgnoreSequence, Stated::Commit(commit)) if commit.epoch == state.epoch => commit,
            (Self::AdmitEqualEpoch, Stated::Claim { epoch }) if epoch == state.epoch => {
                let claim = serde_json::from_slice(&record.value).ok();
                let hash = state.hash.then(record);
                return Some((
                    State { epoch, seq: 0, hash },
                    Verdict::Claimed(Claimed { epoch, claim }),
                ));
            }
            _ => return None,
        };
        let state = State {
            epoch: state.epoch,
            seq: admitted.seq,
            hash: admitted.hash,
        };
        Some((state, Verdict::Commit(admitted)))
    }
}

fn take<T>(writer: &mut Writer<T>, place: usize) -> Option<Sent<T>> {
    let sent = writer.queue.remove(place)?;
    writer.queued_bytes -= sent.bytes;
    Some(sent)
}

fn refuse<T>(writer: &mut Writer<T>, place: usize, unknown: bool) {
    let refused = take(writer, place).map(|sent| sent.ticket);
    writer
        .effects
        .extend(refused.map(|ticket| Effect::Refuse { ticket, unknown }));
}
