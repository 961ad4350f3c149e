//! Whether the log says what a snapshot says.

use super::Head;
use crate::{
    admission::Verdict,
    commit::Commit,
    driver::Start,
    log::{Log, ReadError, Stored},
    partition::Partition,
    record::CommitHeaders,
    state_store::Identity,
};

/// Why a snapshot is passed over.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be fetched.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is not what was written.
    #[error("it is damaged or cut short: {0}")]
    Damaged(String),
    /// It is of another log, partition or fold.
    #[error("it is of log {}, {}, fold {}", .0.log, .0.partition, .0.fold)]
    Foreign(Box<Identity>),
    /// The log does not have its last commit, or has it as a void record.
    #[error("the log does not hold what it was made of: {0}")]
    NotAdmitted(String),
    /// The log cannot be read now: it may be as good as any.
    #[error(transparent)]
    Log(ReadError),
}

impl Refused {
    /// As a label of metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Damaged(_) => "damaged",
            Self::Foreign(_) => "foreign",
            Self::NotAdmitted(_) => "not_admitted",
            Self::Log(_) => "log",
        }
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::OutOfRange { .. } => not(error.to_string()),
            ReadError::NoPartition(_) | ReadError::Failed { .. } => Self::Log(error),
        }
    }
}

impl Head {
    /// Where to go on after it, when the log has its last commit as an admitted one. A commit some way before that is
    /// believed when the log has it at its place; everything from there on is judged as every reader does.
    ///
    /// # Errors
    /// The log says otherwise ([`Refused::NotAdmitted`]), or cannot be read ([`Refused::Log`]).
    pub(super) async fn judge(&self, log: &Log, partition: Partition) -> Result<Start, Refused> {
        let at = self.standing.at;
        let end = log.end(partition).await?;
        if at >= end {
            let text = format!("its last commit is at offset {at}, and the log ends at {end}");
            return Err(not(text));
        }
        let Start { next, mut state } = match self.before {
            None => Start::default(),
            Some(before) => Start {
                next: before.at + 1,
                state: before
                    .confirm(log, partition)
                    .await?
                    .ok_or_else(|| not(format!("offset {} holds another record", before.at)))?,
            },
        };
        let mut reader = log.reader(partition, next)?;
        let mut found = false;
        while !found {
            let batch = reader.next().await?;
            for stored in &batch.records {
                match state.admit(stored.offset, &stored.record) {
                    Verdict::Commit(headers) if stored.offset == at => {
                        if state != self.state || !self.is(&headers, stored) {
                            return Err(not(format!("offset {at} holds another commit")));
                        }
                        found = true;
                    }
                    Verdict::Void(why) if stored.offset == at => {
                        let text = format!("its last commit, at offset {at}, is void: {why}");
                        return Err(not(text));
                    }
                    // Nobody writes in an epoch before its claim is admitted. Whoever has not seen that claim has
                    // another history than all others.
                    Verdict::Void(why) if why.is_damage() => {
                        return Err(not(format!("offset {} does not follow: {why}", stored.offset)));
                    }
                    Verdict::Genesis(_)
                    | Verdict::Claimed(_)
                    | Verdict::Commit(_)
                    | Verdict::Visits
                    | Verdict::Void(_) => {}
                }
            }
            if !found && batch.next > at {
                return Err(not(format!("offset {at} holds no commit")));
            }
        }
        Ok(Start {
            next: at + 1,
            state: self.state,
        })
    }

    fn is(&self, headers: &CommitHeaders, stored: &Stored) -> bool {
        let commit = Commit::decode(headers, &stored.record).ok();
        let last = commit.and_then(|commit| commit.events.last().map(|last| last.envelope.id));
        last == Some(self.standing.event)
    }
}

fn not(why: impl Into<String>) -> Refused {
    Refused::NotAdmitted(why.into())
}
