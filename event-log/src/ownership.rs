//! Which partitions a process is to serve, and where the others are served.
//!
//! Two things that help and that nothing rests on: what is acknowledged is decided by claims in the partitions
//! themselves ([`crate::writer`]), whoever is assigned what, and whatever a hint says.
//!
//! - A [`Membership`] shares the fenced partitions out among the processes: on Kafka by a consumer group whose
//!   members fetch nothing. An embedded log has one process, which is assigned everything.
//! - [`Owners`] are hints: who serves a partition, in which epoch, and where others reach it. On Kafka they are the
//!   records of one compacted topic (`annals.owners`), which every process follows to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use events::feature;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    genesis::LogId,
    kafka,
    log::AppendError,
    partition::{Partition, Topic},
    record::{HeaderBlock, Record},
};

/// What a process is to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Counts the assignments that this process was given, whether or not they differ; 0 before the first.
    pub version: u64,
    /// The partitions of the directory and the ledger that are its.
    pub partitions: BTreeSet<Partition>,
}

/// The part of one process in the sharing of partitions. Dropping it leaves.
pub struct Membership(Sharing);

enum Sharing {
    Alone(watch::Sender<Assignment>),
    Group(kafka::Membership),
}

impl Membership {
    /// Of the only process of a log.
    pub(crate) fn alone(partitions: impl IntoIterator<Item = Partition>) -> Self {
        let all = Assignment {
            version: 1,
            partitions: partitions.into_iter().collect(),
        };
        Self(Sharing::Alone(watch::Sender::new(all)))
    }

    /// Of a process that serves nothing.
    pub fn none() -> Self {
        Self(Sharing::Alone(watch::Sender::default()))
    }

    pub(crate) fn group(membership: kafka::Membership) -> Self {
        Self(Sharing::Group(membership))
    }

    /// What this process is to serve, as it changes.
    pub fn assignment(&self) -> watch::Receiver<Assignment> {
        match &self.0 {
            Sharing::Alone(assignment) => assignment.subscribe(),
            Sharing::Group(membership) => membership.assignment(),
        }
    }

    /// Ends when this process is assigned nothing any more, for a reason of its own that does not pass.
    pub async fn stuck(&self) {
        match &self.0 {
            Sharing::Alone(_) => std::future::pending().await,
            Sharing::Group(membership) => membership.stuck().await,
        }
    }

    /// The present assignment, when whoever shares out says, asked now, that this process still has it. A process
    /// that was paused for long believes in one that was given to others meanwhile.
    pub async fn confirmed(&self) -> Option<Assignment> {
        match &self.0 {
            Sharing::Alone(assignment) => Some(assignment.borrow().clone()),
            Sharing::Group(membership) => membership.confirmed().await,
        }
    }

    /// Takes part no more, so that others are assigned what it had; or takes part again. It remains a client of the
    /// group, so it costs little to do either.
    pub async fn stand_aside(&self, aside: bool) {
        match &self.0 {
            Sharing::Alone(_) => {}
            Sharing::Group(membership) => membership.stand_aside(aside).await,
        }
    }

    /// Gives the membership up, so that others are assigned what it had. Says whether there are others.
    pub async fn leave(&self) -> bool {
        match &self.0 {
            Sharing::Alone(_) => false,
            Sharing::Group(membership) => membership.leave().await,
        }
    }
}

/// A process that writes or reads the log, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What it does.
    pub role: Role,
    /// Where it is: an address, as the brokers see it.
    pub host: String,
    /// The highest feature level that it knows.
    pub level: u16,
}

/// What a process does with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves partitions.
    Writer,
    /// It folds what is there into tables.
    Projector,
}

impl Role {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Projector => "projector",
        }
    }
}

impl Process {
    /// The only one of an embedded log.
    pub(crate) fn this() -> Self {
        Self {
            role: Role::Writer,
            host: "this process".to_owned(),
            level: feature::KNOWN,
        }
    }
}

/// Who serves a partition, as its owner said after its claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Of which log: hints of an earlier one under the same names mean nothing.
    pub log: LogId,
    /// The epoch in which it serves. Of two hints the one with the higher epoch is right.
    pub epoch: u64,
    /// The writer's name in its claims.
    pub owner: String,
    /// Where other processes reach it; none, when it has let go, or nobody told it its address.
    pub url: Option<String>,
    /// Whether it has let go in order: nobody serves the partition until someone claims it.
    #[serde(default)]
    pub released: bool,
}

/// What is known of a partition's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The hint of the highest epoch.
    pub hint: Hint,
    /// Whether one of a lower epoch, of a process that came back from the dead, stands after it. Compaction keeps the
    /// later record, so the owner says its own again.
    pub buried: bool,
}

/// All that is known of owners.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Whether everything was read that stood there when following began.
    pub complete: bool,
    owners: BTreeMap<Partition, Known>,
}

impl Hints {
    /// What is known of a partition.
    pub fn of(&self, partition: Partition) -> Option<&Known> {
        self.owners.get(&partition)
    }

    /// Takes a record of the topic in. What is no hint of this log is passed over.
    pub(crate) fn learn(&mut self, log: LogId, key: &[u8], value: &[u8]) {
        let partition = std::str::from_utf8(key).ok().and_then(|text| text.parse().ok());
        let hint = serde_json::from_slice(value)
            .ok()
            .filter(|hint: &Hint| hint.log == log);
        let (Some(partition), Some(hint)) = (partition, hint) else {
            return;
        };
        match self.owners.get_mut(&partition) {
            Some(known) if hint.epoch < known.hint.epoch => known.buried = true,
            Some(_) | None => {
                self.owners.insert(partition, Known { hint, buried: false });
            }
        }
    }
}

/// The hints followed, and the way to give one. Dropping it ends the following.
pub struct Owners {
    known: watch::Receiver<Hints>,
    kafka: Option<Arc<kafka::Kafka>>,
}

impl Owners {
    /// Where there is one process, which needs none.
    pub(crate) fn none() -> Self {
        let (_, known) = watch::channel(Hints {
            complete: true,
            owners: BTreeMap::new(),
        });
        Self { known, kafka: None }
    }

    pub(crate) fn follow(kafka: Arc<kafka::Kafka>, log: LogId) -> Self {
        let known = kafka.follow_owners(log);
        Self {
            known,
            kafka: Some(kafka),
        }
    }

    /// What is known, as it changes.
    pub fn known(&self) -> watch::Receiver<Hints> {
        self.known.clone()
    }

    /// Tells the others. Where there are no others it does nothing.
    ///
    /// # Errors
    /// It was not, or perhaps not, written.
    pub async fn tell(&self, partition: Partition, hint: &Hint) -> Result<(), AppendError> {
        let Some(kafka) = &self.kafka else { return Ok(()) };
        // Texts and numbers only: nothing that JSON cannot say.
        let value = serde_json::to_vec(hint).unwrap_or_default();
        let record = Record {
            key: Some(Bytes::from(partition.to_string())),
            headers: HeaderBlock::with_capacity(0).finish(),
            value: value.into(),
        };
        kafka.tell_owner(&record).await.map(drop)
    }
}

/// The partitions that are shared out: those that have one writer each.
pub(crate) fn shared(partitions: impl Fn(Topic) -> u32) -> Vec<Partition> {
    let fenced = Topic::ALL.into_iter().filter(|topic| topic.is_fenced());
    fenced
        .flat_map(|topic| (0..partitions(topic)).map(move |index| Partition { topic, index }))
        .collect()
}

/// How long a process that is gone without a word is still believed to be there, unless something else is asked for:
/// the least that brokers allow as they come (`group.min.session.timeout.ms`).
pub const SESSION: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LOG: LogId = LogId(Uuid::from_u128(7));

    fn hint(epoch: u64, owner: &str) -> Hint {
        Hint {
            log: LOG,
            epoch,
            owner: owner.to_owned(),
            url: Some(format!("http://{owner}")),
            released: false,
        }
    }

    fn learn(hints: &mut Hints, partition: &str, hint: &Hint) {
        hints.learn(LOG, partition.as_bytes(), &serde_json::to_vec(hint).unwrap());
    }

    #[test]
    fn the_highest_epoch_counts_whenever_it_is_heard_of() {
        let mut hints = Hints::default();
        learn(&mut hints, "ledger/1", &hint(1, "a"));
        learn(&mut hints, "ledger/1", &hint(3, "b"));
        let known = |hints: &Hints| hints.of(Partition::ledger(1)).cloned().unwrap();
        assert_eq!(
            known(&hints),
            Known {
                hint: hint(3, "b"),
                buried: false
            }
        );
        learn(&mut hints, "ledger/1", &hint(2, "zombie"));
        assert_eq!(
            known(&hints),
            Known {
                hint: hint(3, "b"),
                buried: true
            }
        );
        learn(&mut hints, "ledger/1", &hint(3, "b"));
        assert_eq!(
            known(&hints),
            Known {
                hint: hint(3, "b"),
                buried: false
            }
        );
        assert!(hints.of(Partition::DIRECTORY).is_none());
    }

    #[test]
    fn what_is_no_hint_of_this_log_is_passed_over() {
        let mut hints = Hints::default();
        let other = Hint {
            log: LogId(Uuid::from_u128(8)),
            ..hint(9, "a")
        };
        learn(&mut hints, "ledger/1", &other);
        learn(&mut hints, "no partition", &hint(9, "a"));
        hints.learn(LOG, b"ledger/1", b"no hint");
        hints.learn(LOG, b"\xff", b"{}");
        assert!(hints.owners.is_empty());
    }
}
