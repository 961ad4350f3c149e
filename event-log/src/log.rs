//! The port: few verbs, two adapters.
//!
//! Longer than a file should be: every verb with what it takes, gives and may fail with, for both adapters.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use events::{TenantId, Timestamp, VisitorId};
use tokio::sync::oneshot;

use crate::{
    embedded::{self, Embedded},
    genesis::LogId,
    kafka::{self, Kafka},
    open::{self, Missing},
    ownership::{self, Membership, Owners, Process},
    partition::{Offset, Partition, Topic},
    record::Record,
    slot::{self, SlotTable},
};

/// Which log to open, and how many partitions a new one has.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Where it is.
    pub store: Store,
    /// Partitions of the ledger, fixed by the first start. `None` takes what is there, or [`DEFAULT_PARTITIONS`].
    pub ledger_partitions: Option<u32>,
    /// Partitions of the visits, fixed by the first start. `None` as above.
    pub visits_partitions: Option<u32>,
    /// Whether topics that may lose acknowledged records are taken (and made) without complaint.
    pub development: bool,
}

/// Partitions of the ledger and of the visits, when nothing else is asked for.
pub const DEFAULT_PARTITIONS: u32 = 4;

/// Partitions of an embedded log, of ledger and visits together, at most. Each is a keyspace of fjall 3.1, which hands its
/// worker a message for each that has something to write or to merge when it opens, before the worker is there, by a queue
/// of 1,000: with more it would wait for ever. Later on a partition may have two waiting.
pub const EMBEDDED_PARTITIONS: u32 = 400;

/// The largest record that a log takes: key, headers and value, in bytes.
pub const MAX_RECORD: usize = 8 * 1024 * 1024 - 64 * 1024;

/// Where a log is.
#[derive(Debug, Clone)]
pub enum Store {
    /// In a folder, of this process alone.
    Embedded {
        /// The folder; made when absent.
        dir: PathBuf,
    },
    /// On a Kafka cluster.
    Kafka(KafkaConfig),
}

/// How to reach a Kafka cluster.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// What topic names begin with: `annals` gives `annals.ledger`.
    pub prefix: String,
    /// Replicas of a topic that this process makes. `None`: 1 in development, else 3.
    pub replication: Option<i32>,
}

/// A log, open. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Log(Arc<Inner>, Option<Disturb>);

/// What a test does to an append: see [`Log::disturbed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// The record lands; nobody hears of it.
    LandsUnknown,
    /// The record is lost; nobody knows.
    LostUnknown,
    /// The record is refused.
    Refused,
}

type Disturb = Arc<dyn Fn(Partition, &Record) -> Disturbance + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) id: LogId,
    pub(crate) tables: [(u32, SlotTable); 3],
    pub(crate) adapter: Adapter,
}

/// The two adapters behind the port.
#[derive(Clone)]
pub(crate) enum Adapter {
    Embedded(Arc<Embedded>),
    Kafka(Arc<Kafka>),
}

/// Why a log could not be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What is there is another log, of another shape, or not a log.
    #[error("{0}")]
    Foreign(String),
    /// Another process has the folder open.
    #[error("the log in {0} is in use by another process; an embedded log belongs to one process at a time")]
    InUse(String),
    /// A topic whose settings may lose acknowledged records.
    #[error("{0}")]
    Unsafe(String),
    /// Records are missing that were acknowledged.
    #[error("{0}")]
    Damaged(String),
    /// The store does not answer or answers with an error.
    #[error("{0}")]
    Unavailable(String),
}

/// What became of an append that did not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record is not in the log and never will be.
    #[error("not appended: {0}")]
    Not(String),
    /// It may be in the log, or come to be there later.
    #[error("it is unknown whether it was appended: {0}")]
    Unknown(String),
}

/// Why records could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The partition does not have this offset: it is beyond the end, or was trimmed.
    #[error("{partition} has no offset {offset}: it holds {first} to {end}, the end not included")]
    OutOfRange {
        /// Which partition.
        partition: Partition,
        /// The offset asked for.
        offset: Offset,
        /// The first that it has.
        first: Offset,
        /// The next that it will have.
        end: Offset,
    },
    /// No such partition.
    #[error("there is no partition {0}")]
    NoPartition(Partition),
    /// The store failed; trying again later may work.
    #[error("cannot read {partition}: {reason}")]
    Failed {
        /// Which partition.
        partition: Partition,
        /// What the store said.
        reason: String,
    },
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub offset: Offset,
    /// When it was appended, by the log's clock, where known.
    pub time: Option<Timestamp>,
    /// As it stands there; headers are looked at when asked.
    pub record: Record,
}

/// Records that were read together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// In order; none when only `next` has moved.
    pub records: Vec<Stored>,
    /// The first offset that was not looked at. Offsets before it that hold no record here hold none at all: on Kafka
    /// a stranger's transaction marker takes an offset, and is no record.
    pub next: Offset,
    /// The partition's end (next offset) as far as it is known; at least the last record's offset + 1.
    pub end: Offset,
}

impl Log {
    /// Opens a log: makes what is missing, writes or adopts the genesis of every partition.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: LogConfig) -> Result<Self, OpenError> {
        open::open(config, Missing::Make)
            .await
            .map(|inner| Self(Arc::new(inner), None))
    }

    /// Opens a log that is there, to read it: nothing that is missing is made.
    ///
    /// # Errors
    /// As [`Self::open`]; also when there is no log, or a partition is empty.
    pub async fn open_existing(config: LogConfig) -> Result<Self, OpenError> {
        if let Store::Embedded { dir } = &config.store
            && !std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some())
        {
            let text = format!("there is no log in {}", dir.display());
            return Err(OpenError::Foreign(text));
        }
        open::open(config, Missing::Refuse)
            .await
            .map(|inner| Self(Arc::new(inner), None))
    }

    /// Which log this is.
    pub fn id(&self) -> LogId {
        self.0.id
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: Topic) -> u32 {
        self.table(topic).0
    }

    /// Every partition of a topic.
    pub fn all(&self, topic: Topic) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions(topic)).map(move |index| Partition { topic, index })
    }

    /// The partition that takes a tenant's decisions.
    pub fn ledger_partition(&self, tenant: TenantId) -> Partition {
        Partition::ledger(self.table(Topic::Ledger).1.partition(slot::of_tenant(tenant)))
    }

    /// The partition that holds a visitor's visits.
    pub fn visits_partition(&self, tenant: TenantId, visitor: VisitorId) -> Partition {
        Partition::visits(
            self.table(Topic::Visits)
                .1
                .partition(slot::of_visitor(tenant, visitor)),
        )
    }

    /// Appends a record. The order of calls is the order in the log. It completes, whether or not it is awaited,
    /// when every in-sync replica (embedded: the disk) has the record.
    ///
    /// A partition takes a limited number of records and bytes at a time; beyond that the answer is
    /// [`AppendError::Not`] at once: whoever appends without waiting must hold back itself.
    pub fn append(&self, partition: Partition, record: Record) -> Appending {
        if partition.index >= self.partitions(partition.topic) {
            return Appending::not(ReadError::NoPartition(partition).to_string());
        }
        if record.size() > MAX_RECORD {
            return Appending::not(format!(
                "a record of {} bytes; at most {MAX_RECORD}",
                record.size()
            ));
        }
        if let Some(disturb) = &self.1 {
            let unknown = || Appending::failed(AppendError::Unknown("disturbed by a test".to_owned()));
            match disturb(partition, &record) {
                Disturbance::None => {}
                Disturbance::LandsUnknown => {
                    drop(self.0.adapter.append(partition, record));
                    return unknown();
                }
                Disturbance::LostUnknown => return unknown(),
                Disturbance::Refused => return Appending::not("refused by a test"),
            }
        }
        self.0.adapter.append(partition, record)
    }

    /// The same log, whose appends through this clone meet what a network does, as a test says. Fault tests use it
    /// where a real fault cannot be had at the right moment.
    #[must_use]
    pub fn disturbed(
        &self,
        disturb: impl Fn(Partition, &Record) -> Disturbance + Send + Sync + 'static,
    ) -> Self {
        Self(self.0.clone(), Some(Arc::new(disturb)))
    }

    /// A reader from an offset on, at most the partition's end.
    ///
    /// # Errors
    /// See [`ReadError`]; an offset beyond the end may be noticed only by [`Reader::next`].
    pub fn reader(&self, partition: Partition, from: Offset) -> Result<Reader, ReadError> {
        self.check(partition)?;
        self.0.adapter.reader(partition, from)
    }

    /// The partition's end (the offset that the next record will have), asked of the log now.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn end(&self, partition: Partition) -> Result<Offset, ReadError> {
        self.check(partition)?;
        self.0.adapter.end(partition).await
    }

    /// Whether several processes may have it open.
    pub fn is_shared(&self) -> bool {
        matches!(self.0.adapter, Adapter::Kafka(_))
    }

    /// Takes part in the sharing of the fenced partitions among processes. A process that is gone without a word is
    /// believed to be there for `session`.
    ///
    /// # Errors
    /// Another session time would be right.
    pub fn join(&self, session: Duration) -> Result<Membership, OpenError> {
        match &self.0.adapter {
            Adapter::Embedded(_) => Ok(Membership::alone(ownership::shared(|topic| {
                self.partitions(topic)
            }))),
            Adapter::Kafka(log) => log.join(session).map(Membership::group).map_err(|error| {
                OpenError::Unavailable(format!("cannot join the group of writers: {error}"))
            }),
        }
    }

    /// Shows the others that this process reads the log, until it is dropped: see [`Self::processes`].
    ///
    /// # Errors
    /// The client cannot be set up.
    pub fn attend(&self) -> Result<Membership, OpenError> {
        match &self.0.adapter {
            Adapter::Embedded(_) => Ok(Membership::none()),
            Adapter::Kafka(log) => log
                .attend(ownership::SESSION)
                .map(Membership::group)
                .map_err(|error| {
                    OpenError::Unavailable(format!("cannot join the group of projectors: {error}"))
                }),
        }
    }

    /// The processes that write or read this log now, and what each knows. One that is gone without a word is among
    /// them until its session ends; one that only just begins may not be yet.
    ///
    /// # Errors
    /// The brokers do not say: for people.
    pub async fn processes(&self) -> Result<Vec<Process>, String> {
        match &self.0.adapter {
            Adapter::Embedded(_) => Ok(vec![Process::this()]),
            Adapter::Kafka(log) => log.processes().await,
        }
    }

    /// Follows who serves which partition.
    pub fn owners(&self) -> Owners {
        match &self.0.adapter {
            Adapter::Embedded(_) => Owners::none(),
            Adapter::Kafka(log) => Owners::follow(log.clone(), self.0.id),
        }
    }

    /// Completes when the log has stopped for good and takes nothing until this process is started anew, and says why:
    /// the embedded one does after a write that failed, since nobody knows then what the disk holds.
    pub async fn stopped(&self) -> String {
        match &self.0.adapter {
            Adapter::Embedded(log) => log.stopped().await,
            Adapter::Kafka(_) => std::future::pending().await,
        }
    }

    /// Stops taking records, waits for those under way and lets go of the store. Other clones of this log answer
    /// with errors from then on.
    pub async fn close(self) {
        match &self.0.adapter {
            Adapter::Embedded(log) => log.close().await,
            Adapter::Kafka(log) => log.close().await,
        }
    }

    fn check(&self, partition: Partition) -> Result<(), ReadError> {
        let exists = partition.index < self.partitions(partition.topic);
        exists.then_some(()).ok_or(ReadError::NoPartition(partition))
    }

    fn table(&self, topic: Topic) -> &(u32, SlotTable) {
        &self.0.tables[topic as usize]
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    pub(crate) fn append(&self, partition: Partition, record: Record) -> Appending {
        match self {
            Self::Embedded(log) => log.append(partition, record),
            Self::Kafka(log) => log.append(partition, record),
        }
    }

    /// Once and in the order of the calls: each record is to stand at one offset. `taken`: when another log took it.
    pub(crate) fn append_once(
        &self,
        partition: Partition,
        record: Record,
        taken: Option<Timestamp>,
    ) -> Appending {
        match self {
            Self::Embedded(log) => log.append_taken(partition, record, taken),
            Self::Kafka(log) => log.append_once(partition, record, taken),
        }
    }

    pub(crate) fn reader(&self, partition: Partition, from: Offset) -> Result<Reader, ReadError> {
        Ok(Reader(match self {
            Self::Embedded(log) => Reading::Embedded(log.reader(partition, from)?),
            Self::Kafka(log) => Reading::Kafka(log.reader(partition, from)?),
        }))
    }

    pub(crate) async fn end(&self, partition: Partition) -> Result<Offset, ReadError> {
        match self {
            Self::Embedded(log) => log.end(partition),
            Self::Kafka(log) => log.end(partition).await,
        }
    }
}

/// An append under way; completes with the record's offset. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "an append may fail"]
pub struct Appending(Promise);

#[derive(Debug)]
enum Promise {
    Pending(oneshot::Receiver<Result<Offset, AppendError>>),
    Failed(Option<AppendError>),
}

impl Appending {
    pub(crate) fn pending(receiver: oneshot::Receiver<Result<Offset, AppendError>>) -> Self {
        Self(Promise::Pending(receiver))
    }

    pub(crate) fn not(reason: impl Into<String>) -> Self {
        Self::failed(AppendError::Not(reason.into()))
    }

    fn failed(error: AppendError) -> Self {
        Self(Promise::Failed(Some(error)))
    }
}

impl Future for Appending {
    type Output = Result<Offset, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = || AppendError::Unknown("the log was closed before it said".to_owned());
        Poll::Ready(match &mut self.0 {
            Promise::Pending(receiver) => ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| Err(lost())),
            Promise::Failed(error) => Err(error.take().unwrap_or_else(lost)),
        })
    }
}

/// Reads one partition in order.
pub struct Reader(Reading);

enum Reading {
    Embedded(embedded::Reader),
    Kafka(kafka::Reader),
}

impl Reader {
    /// Waits until there is at least one record after those already returned, or offsets that hold none, and gives
    /// what is there, up to a few megabytes. Cancelling it loses nothing.
    ///
    /// # Errors
    /// See [`ReadError`]; after [`ReadError::Failed`] it may be called again.
    pub async fn next(&mut self) -> Result<Batch, ReadError> {
        match &mut self.0 {
            Reading::Embedded(reader) => reader.next().await,
            Reading::Kafka(reader) => reader.next().await,
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Writes a record into a folder that no log has opened, genesis or not: what a test of foreign logs needs.
///
/// # Errors
/// As [`Log::open`] and [`Log::append`], as text.
#[doc(hidden)]
pub async fn plant(dir: &std::path::Path, partition: Partition, record: Record) -> Result<Offset, String> {
    let log = Embedded::open(dir).await.map_err(|error| error.to_string())?;
    let offset = log
        .append(partition, record)
        .await
        .map_err(|error| error.to_string());
    log.close().await;
    offset
}
