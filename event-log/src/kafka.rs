//! The Kafka adapter: rdkafka against Kafka 4 (or Redpanda). Settings and their reasons: [`settings`].
//!
//! Two producers serve all partitions: one for the directory and the ledger, one, with compression, for visits, so
//! that a flood of visits never stands before a commit. A client of its own asks for ends and makes topics. Each
//! reader is a consumer of its own with one partition assigned by hand. A member of a group, which fetches nothing,
//! learns which partitions this process is to serve, and a topic beside the log's says where others are served.

mod apart;
mod membership;
mod owners;
mod producer;
mod reader;
mod settings;
mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use events::Timestamp;
use rdkafka::{
    admin::AdminClient,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult},
};

use self::{apart::HANGS, producer::Lane};
pub(crate) use self::{membership::Membership, reader::Reader};
use crate::{
    gate::Gate,
    log::{Appending, KafkaConfig, LogConfig, OpenError, ReadError},
    metrics,
    ownership::{Process, Role},
    partition::{Offset, Partition, Topic},
    record::Record,
};

/// How long a cluster may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a broker that is there answers.
const SOON: Duration = Duration::from_secs(3);
/// How long closing waits for records under way.
const CLOSING: Duration = Duration::from_secs(20);

pub(crate) struct Kafka {
    brokers: String,
    /// The group that shares out the partitions of this log.
    writers: String,
    /// The group of those who only read it: it shows who they are.
    projectors: String,
    names: [String; 3],
    /// The topic of hints.
    owners: String,
    partitions: [u32; 3],
    admin: Arc<AdminClient<DefaultClientContext>>,
    fenced: Arc<Lane>,
    visits: Arc<Lane>,
    gates: HashMap<Partition, Arc<Gate>>,
    /// Hints on their way.
    hints: Arc<Gate>,
}

impl Kafka {
    pub(crate) async fn open(kafka: &KafkaConfig, config: &LogConfig) -> Result<Arc<Self>, OpenError> {
        let refused =
            |error: KafkaError| OpenError::Unavailable(format!("cannot set up the Kafka client: {error}"));
        let brokers = kafka.brokers.clone();
        let made = blocking(move || -> KafkaResult<_> {
            let admin: AdminClient<_> = settings::admin(&brokers).create()?;
            let fenced = Lane::new(settings::fenced_producer(&brokers))?;
            let visits = Lane::new(settings::visits_producer(&brokers))?;
            Ok((Arc::new(admin), Arc::new(fenced), Arc::new(visits)))
        });
        let (admin, fenced, visits) = made.await.map_err(OpenError::Unavailable)?.map_err(refused)?;
        let partitions = topics::prepare(&admin, kafka, config).await?;
        let names = Topic::ALL.map(|topic| topics::name(&kafka.prefix, topic));
        let all = Topic::ALL.iter().zip(partitions).flat_map(|(topic, count)| {
            (0..count).map(|index| (Partition { topic: *topic, index }, Arc::default()))
        });
        let gates = all.collect();
        let (lanes, warm) = ([fenced.clone(), visits.clone()], names.clone());
        let warmed = blocking(move || -> KafkaResult<()> {
            let [directory, ledger, visits] = &warm;
            lanes[0].warm_up(&[directory, ledger], TIMEOUT)?;
            lanes[1].warm_up(&[visits], TIMEOUT)
        });
        warmed.await.map_err(OpenError::Unavailable)?.map_err(refused)?;
        let brokers = kafka.brokers.clone();
        Ok(Arc::new(Self {
            brokers,
            writers: format!("{}.writers", kafka.prefix),
            projectors: format!("{}.projectors", kafka.prefix),
            names,
            owners: topics::owners(&kafka.prefix),
            partitions,
            admin,
            fenced,
            visits,
            gates,
            hints: Arc::default(),
        }))
    }

    pub(crate) fn partitions(&self, topic: Topic) -> u32 {
        self.partitions[topic as usize]
    }

    pub(crate) fn join(self: &Arc<Self>, session: Duration) -> KafkaResult<Membership> {
        Membership::join(self, &self.writers, session)
    }

    pub(crate) fn attend(self: &Arc<Self>, session: Duration) -> KafkaResult<Membership> {
        Membership::join(self, &self.projectors, session)
    }

    /// The processes that are there now, as far as the brokers know.
    pub(crate) async fn processes(&self) -> Result<Vec<Process>, String> {
        let mut processes = self.members(&self.writers, Role::Writer).await?;
        processes.extend(self.members(&self.projectors, Role::Projector).await?);
        Ok(processes)
    }

    fn topic(&self, topic: Topic) -> &str {
        &self.names[topic as usize]
    }

    pub(crate) fn append(&self, partition: Partition, record: Record) -> Appending {
        let lane = if partition.topic.is_fenced() {
            &self.fenced
        } else {
            &self.visits
        };
        self.append_by(lane, partition, record)
    }

    /// Once and in the order of the calls, also where the records' own numbers would make up for it.
    pub(crate) fn append_once(
        &self,
        partition: Partition,
        record: Record,
        taken: Option<Timestamp>,
    ) -> Appending {
        // The broker stamps every record anew. Commits say themselves when they were made.
        let taken = taken.filter(|_| partition.topic == Topic::Visits);
        let record = taken.map_or_else(|| record.clone(), |taken| reader::with_taken(&record, taken));
        self.append_by(&self.visits, partition, record)
    }

    fn append_by(&self, lane: &Arc<Lane>, partition: Partition, record: Record) -> Appending {
        let Some(gate) = self.gates.get(&partition) else {
            return Appending::not(ReadError::NoPartition(partition).to_string());
        };
        let Some((ticket, answer)) = gate.enter(partition.topic.short(), record.size()) else {
            metrics::full(partition.topic);
            return Appending::not(format!("too many records of {partition} wait for the broker"));
        };
        lane.send(self.topic(partition.topic), partition, &record, ticket);
        Appending::pending(answer)
    }

    pub(crate) fn reader(self: &Arc<Self>, partition: Partition, from: Offset) -> Result<Reader, ReadError> {
        Reader::new(self.clone(), partition, from)
    }

    pub(crate) async fn end(&self, partition: Partition) -> Result<Offset, ReadError> {
        self.ends(partition).await.map(|(_, end)| end)
    }

    /// The first offset and the next one (the high watermark), asked of the partition's leader now.
    async fn ends(&self, partition: Partition) -> Result<(Offset, Offset), ReadError> {
        let (admin, topic) = (self.admin.clone(), self.topic(partition.topic).to_owned());
        let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
        let failed = |reason: String| ReadError::Failed { partition, reason };
        let asked = blocking(move || watermarks(&admin, &topic, index))
            .await
            .map_err(failed)?;
        let (first, end) = asked.map_err(|error| failed(error.to_string()))?;
        let known = |offset: i64| {
            Offset::try_from(offset).map_err(|_| failed("the broker told no offset".to_owned()))
        };
        Ok((known(first)?, known(end)?))
    }

    pub(crate) async fn close(&self) {
        for lane in [self.fenced.clone(), self.visits.clone()] {
            let closed = blocking(move || lane.close(CLOSING)).await;
            if let Err(error) = closed {
                tracing::warn!(error, "closing a producer");
            }
        }
    }
}

/// Does what blocks beside the runtime. What takes longer than anything that the library was told to wait for hangs
/// ([`apart`]): it is left behind.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(CLOSING + HANGS, working).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the Kafka client does not answer".to_owned()),
    }
}

/// The first offset of a partition and its end. Blocks.
///
/// What the library knows of a partition's leader it may have from a broker that was just coming up, or from before
/// the leader was lost, and a client that neither reads nor writes believes it for minutes: it asks whoever is gone,
/// or calls the partition unknown and asks nobody. So after a failure it is made to ask who leads now.
fn watermarks(admin: &AdminClient<DefaultClientContext>, topic: &str, index: i32) -> KafkaResult<(i64, i64)> {
    let client = admin.inner();
    let asked = client.fetch_watermarks(topic, index, SOON);
    if asked.is_ok() || client.fetch_metadata(Some(topic), TIMEOUT).is_err() {
        return asked;
    }
    client.fetch_watermarks(topic, index, TIMEOUT)
}

/// The client library's own log, into ours. Lost connections are its everyday business: it tries again.
fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, message, "kafka");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, message, "kafka");
        }
    }
}
