//! The sharing of partitions: a member of a consumer group that fetches nothing.
//!
//! The group's assignor says who is to serve what; reading is by manual assignment ([`super::reader`]), so that
//! nothing that a rebalance does to a consumer can hold a reader up. A thread polls the client, as it must be, and
//! ends with the membership.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
    groups::{GroupInfo, GroupMemberInfo},
    types::RDKafkaErrorCode,
};
use tokio::sync::watch;

use super::{Kafka, TIMEOUT, blocking, log_line, settings};
use crate::{
    ownership::{Assignment, Process, Role},
    partition::{Partition, Topic},
};

/// How long the thread waits for something to happen before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(50);
/// How long the client may stand still. The group has dropped it long before.
const STUCK: Duration = Duration::from_secs(60);
/// A process that was paused finds it still, and moving a moment later.
const LOOK_TWICE: Duration = Duration::from_secs(5);
/// How long leaving waits for the broker.
const LEAVING: Duration = Duration::from_secs(2);

type Member = BaseConsumer<Context>;

pub(crate) struct Membership {
    kafka: Arc<Kafka>,
    group: String,
    /// What it takes part in.
    topics: [String; 2],
    assignment: watch::Receiver<Assignment>,
    member: Mutex<Option<Arc<Member>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// How often the client was polled.
    polls: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

struct Context {
    /// The names of the topics that are shared out.
    topics: [(Topic, String); 2],
    assignment: watch::Sender<Assignment>,
}

impl Context {
    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let of = |name: &str| {
            self.topics
                .iter()
                .find(|(_, known)| known == name)
                .map(|(topic, _)| *topic)
        };
        let elements = list.elements();
        let known = elements.iter().filter_map(|element| {
            let (topic, index) = (of(element.topic())?, u32::try_from(element.partition()).ok()?);
            Some(Partition { topic, index })
        });
        known.collect()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka membership");
    }
}

impl ConsumerContext for Context {
    fn post_rebalance(&self, member: &Member, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // Nobody takes what it would fetch.
                if list.count() > 0
                    && let Err(error) = member.pause(list)
                {
                    tracing::warn!(%error, "a member of the group fetches what nobody reads");
                }
                let more = self.partitions(list);
                self.assignment.send_modify(|assignment| {
                    assignment.version += 1;
                    assignment.partitions.extend(more);
                });
            }
            Rebalance::Revoke(list) => {
                let fewer = self.partitions(list);
                self.assignment
                    .send_modify(|assignment| assignment.partitions.retain(|known| !fewer.contains(known)));
            }
            Rebalance::Error(error) => tracing::warn!(%error, "rebalancing"),
        }
        tracing::debug!(assignment = ?self.assignment.borrow(), "rebalanced");
    }
}

impl Membership {
    /// Joins. Until the group has said what is whose, the assignment's version is 0.
    pub(crate) fn join(kafka: &Arc<Kafka>, group: &str, session: Duration) -> KafkaResult<Self> {
        let topics = [Topic::Directory, Topic::Ledger].map(|topic| (topic, kafka.topic(topic).to_owned()));
        let names = topics.each_ref().map(|(_, name)| name.clone());
        let (sender, assignment) = watch::channel(Assignment::default());
        let context = Context {
            topics,
            assignment: sender,
        };
        let member: Member = settings::member(&kafka.brokers, group, session).create_with_context(context)?;
        let (member, ended) = (Arc::new(member), Arc::new(AtomicBool::new(false)));
        let polls = Arc::<AtomicU64>::default();
        let (polled, count, until, to) = (member.clone(), polls.clone(), ended.clone(), names.clone());
        let thread = std::thread::Builder::new()
            .name("annals-membership".to_owned())
            .spawn(move || {
                take_part(&polled, &to);
                poll(&polled, &count, &until);
            });
        let thread = thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            kafka: kafka.clone(),
            group: group.to_owned(),
            topics: names,
            assignment,
            member: Mutex::new(Some(member)),
            thread: Mutex::new(Some(thread)),
            polls,
            ended,
        })
    }

    /// Ends when the client does not move any more: a call into it hangs, or its thread has panicked. Then this process is
    /// assigned nothing, for ever.
    pub(crate) async fn stuck(&self) {
        stuck(&self.polls, &self.ended, tokio::time::sleep).await;
    }

    pub(crate) fn assignment(&self) -> watch::Receiver<Assignment> {
        self.assignment.clone()
    }

    /// Asks the coordinator by the only question that it answers to members of the present generation alone: to keep
    /// an offset, which nobody reads.
    pub(crate) async fn confirmed(&self) -> Option<Assignment> {
        let member = self.member()?;
        let before = self.assignment.borrow().clone();
        let mut list = TopicPartitionList::new();
        let known =
            list.add_partition_offset(self.kafka.topic(Topic::Directory), 0, rdkafka::Offset::Offset(0));
        known.ok()?;
        let asked = blocking(move || member.commit(&list, CommitMode::Sync)).await;
        match asked {
            Ok(Ok(())) => Some(before).filter(|before| *before == *self.assignment.borrow()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the assignment is not confirmed");
                None
            }
            Err(error) => {
                tracing::warn!(error, "asking for the assignment");
                None
            }
        }
    }

    /// Lets the others have what it had, or takes part again.
    pub(crate) async fn stand_aside(&self, aside: bool) {
        let Some(member) = self.member() else { return };
        let topics = self.topics.clone();
        let stood = blocking(move || {
            if aside {
                member.unsubscribe();
            } else {
                take_part(&member, &topics);
            }
        });
        if let Err(error) = stood.await {
            tracing::warn!(error, aside, "changing the part in the sharing of partitions");
        }
    }

    fn member(&self) -> Option<Arc<Member>> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn leave(&self) -> bool {
        self.end();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let left = blocking(move || thread.map(JoinHandle::join));
        if tokio::time::timeout(LEAVING, left).await.is_err() {
            tracing::warn!("the group does not let this process go: others wait until its session has ended");
        }
        let (admin, group) = (self.kafka.admin.clone(), self.group.clone());
        let others = blocking(move || {
            let listed = admin.inner().fetch_group_list(Some(&group), LEAVING);
            listed.is_ok_and(|list| list.groups().iter().any(|group| !group.members().is_empty()))
        });
        others.await.unwrap_or(false)
    }

    /// The thread has the last clone of the member, whose end leaves the group: that takes a while.
    fn end(&self) {
        drop(self.member.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.end();
    }
}

impl Kafka {
    /// The members of a group, as the brokers know them now.
    pub(crate) async fn members(&self, group: &str, role: Role) -> Result<Vec<Process>, String> {
        let (admin, group) = (self.admin.clone(), group.to_owned());
        let process = move |member: &GroupMemberInfo| Process {
            role,
            host: member.client_host().trim_start_matches('/').to_owned(),
            level: settings::level_of(member.client_id()),
        };
        let listed = blocking(move || {
            let listed = admin.inner().fetch_group_list(Some(&group), TIMEOUT)?;
            let members = listed.groups().iter().flat_map(GroupInfo::members);
            Ok(members.map(process).collect())
        });
        listed.await?.map_err(|error: KafkaError| error.to_string())
    }
}

fn take_part(member: &Member, topics: &[String; 2]) {
    if let Err(error) = member.subscribe(&topics.each_ref().map(String::as_str)) {
        tracing::error!(%error, "cannot take part in the sharing of partitions");
    }
}

async fn stuck(polls: &AtomicU64, ended: &AtomicBool, rest: impl AsyncFn(Duration)) {
    loop {
        let before = polls.load(Ordering::Relaxed);
        for pause in [STUCK, LOOK_TWICE] {
            rest(pause).await;
        }
        if ended.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if polls.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// Lets the client do its work.
fn poll(member: &Arc<Member>, polls: &AtomicU64, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        polls.fetch_add(1, Ordering::Relaxed);
        let Some(Err(error)) = member.poll(POLL) else {
            continue;
        };
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut,
            ) => tracing::debug!(%error, "kafka membership"),
            Some(RDKafkaErrorCode::InvalidSessionTimeout) => tracing::error!(
                "the brokers refuse the session time: choose ANNALS_SESSION_SECONDS between their group.min.session.timeout.ms and group.max.session.timeout.ms"
            ),
            Some(_) | None => tracing::warn!(%error, "kafka membership"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_client_that_stands_still_is_noticed_and_one_that_was_paused_is_not() {
        let (polls, ended) = (AtomicU64::new(7), AtomicBool::new(false));
        let rests = AtomicU64::new(0);
        // It stands still while the process is paused, goes on a moment later, and then stands still for good.
        let rest = async |pause: Duration| {
            if rests.fetch_add(1, Ordering::Relaxed) < 6 && pause == LOOK_TWICE {
                polls.fetch_add(1, Ordering::Relaxed);
            }
        };
        stuck(&polls, &ended, rest).await;
        assert_eq!(rests.load(Ordering::Relaxed), 8);
        ended.store(true, Ordering::Relaxed);
        let left = stuck(&polls, &ended, async |_| {}).now_or_never();
        assert_eq!(left, None, "it has left");
    }
}
