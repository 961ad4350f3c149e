//! The suite on a real broker, and what only a cluster can do.

use std::{io::Write as _, path::PathBuf};

use event_log::{
    KafkaConfig, Log, LogConfig, OpenError, Partition, Record, Store,
    driver::{Outcome, Start},
    view::view,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};

use crate::{
    ledger::{Answer, Offsets, serve},
    suite::{Bench, config, record, within},
};

/// Topics of one test, under a prefix of its own.
pub(crate) struct Cluster {
    brokers: String,
    prefix: String,
}

impl Cluster {
    fn kafka(&self) -> KafkaConfig {
        KafkaConfig {
            brokers: self.brokers.clone(),
            prefix: self.prefix.clone(),
            replication: None,
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    async fn make(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("admin");
        let name = format!("{}.{topic}", self.prefix);
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let made = admin
            .create_topics([&new], &AdminOptions::new())
            .await
            .expect("asked");
        made[0].as_ref().expect("made");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("admin")
    }

    /// Deletes a topic and waits until the broker no longer knows it.
    pub(crate) async fn remove(&self, topic: &str) {
        let (admin, name) = (self.admin(), format!("{}.{topic}", self.prefix));
        let deleted = admin
            .delete_topics(&[&name], &AdminOptions::new())
            .await
            .expect("asked");
        deleted[0].as_ref().expect("deleted");
        let known = || {
            let metadata = tokio::task::block_in_place(|| admin.inner().fetch_metadata(None, WAIT));
            metadata
                .expect("told")
                .topics()
                .iter()
                .any(|topic| topic.name() == name)
        };
        while known() {
            tokio::task::yield_now().await;
        }
    }

    /// What a topic has been told.
    pub(crate) async fn setting(&self, topic: &str, name: &str) -> String {
        let topic = format!("{}.{topic}", self.prefix);
        let asked = [ResourceSpecifier::Topic(&topic)];
        let told = self
            .admin()
            .describe_configs(&asked, &AdminOptions::new())
            .await
            .expect("asked");
        let found = told[0]
            .as_ref()
            .expect("told")
            .get(name)
            .and_then(|entry| entry.value.clone());
        found.unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The broker is shared by many runs: leave nothing behind. Best effort.
        let Ok(admin) = self.client().create::<AdminClient<DefaultClientContext>>() else {
            return;
        };
        let names =
            ["directory", "ledger", "visits", "owners"].map(|topic| format!("{}.{topic}", self.prefix));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let _ = futures::executor::block_on(admin.delete_topics(&names, &AdminOptions::new()));
    }
}

impl Bench for Cluster {
    fn new() -> Self {
        let brokers =
            std::env::var("ANNALS_TEST_KAFKA").expect("ANNALS_TEST_KAFKA is not set: run ./dev test");
        Self {
            brokers,
            prefix: format!("test-{}", uuid::Uuid::new_v4().simple()),
        }
    }

    fn store(&self) -> Store {
        Store::Kafka(self.kafka())
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn plant(&self, partition: Partition, record: Record) {
        self.make(partition.topic.short(), 2, &[("max.message.bytes", "8388608")])
            .await;
        let producer: FutureProducer = self.client().create().expect("producer");
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header {
                    key: std::str::from_utf8(name).expect("text"),
                    value: Some(value),
                })
            });
        let topic = format!("{}.{}", self.prefix, partition.topic.short());
        let sent = FutureRecord::<(), [u8]>::to(&topic)
            .partition(i32::try_from(partition.index).expect("small"))
            .payload(&record.value)
            .headers(headers);
        producer
            .send(sent, std::time::Duration::from_secs(10))
            .await
            .expect("sent");
    }
}

crate::on_adapter!(cluster, super::Cluster);

/// How long a broker may take.
const WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Puts a record of a stranger's transaction into a partition: its marker takes the offset after it.
async fn transact(bench: &Cluster, partition: Partition) {
    let stranger = begin(bench, partition).await;
    tokio::task::block_in_place(|| stranger.commit_transaction(WAIT)).expect("committed");
}

/// The same, not yet committed.
async fn begin(bench: &Cluster, partition: Partition) -> FutureProducer {
    let mut config = bench.client();
    let id = uuid::Uuid::new_v4().to_string();
    let producer: FutureProducer = config.set("transactional.id", &id).create().expect("producer");
    let topic = format!("{}.{}", bench.prefix, partition.topic.short());
    tokio::task::block_in_place(|| producer.init_transactions(WAIT)).expect("begins");
    producer.begin_transaction().expect("begun");
    let sent = FutureRecord::<(), str>::to(&topic)
        .partition(i32::try_from(partition.index).expect("small"))
        .payload("of a stranger");
    producer.send(sent, WAIT).await.expect("sent");
    producer
}

/// The partition's end, when it has come to this; `within` bounds the wait.
async fn end_from(log: &Log, partition: Partition, wanted: u64) -> u64 {
    loop {
        let end = log.end(partition).await.expect("told");
        if end >= wanted {
            return end;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_beyond_what_a_stranger_has_not_committed() {
    within(async {
        let bench = Cluster::new();
        let log = Log::open(config(bench.store())).await.expect("opens");
        let stranger = begin(&bench, Partition::ledger(0)).await;
        assert_eq!(log.end(Partition::ledger(0)).await, Ok(2));
        tokio::task::block_in_place(|| stranger.abort_transaction(WAIT)).expect("aborted");
        log.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_transaction_marker_at_the_end_holds_nobody_up() {
    within(async {
        let bench = Cluster::new();
        let log = Log::open(config(bench.store())).await.expect("opens");
        let partition = Partition::ledger(0);
        transact(&bench, partition).await;
        // Genesis, record, marker; the broker writes the last of them after it has answered.
        assert_eq!(end_from(&log, partition, 3).await, 3);
        let mut reader = log.reader(partition, 0).expect("reader");
        let (mut offsets, mut next) = (Vec::new(), 0);
        while next < 3 {
            let batch = reader.next().await.expect("reads");
            offsets.extend(batch.records.iter().map(|stored| stored.offset));
            next = batch.next;
        }
        assert_eq!(offsets, [0, 1]);
        let shown = view(&log, partition, 0, 10, Start::default())
            .await
            .expect("shown");
        assert_eq!((shown.lines.len(), shown.next, shown.end), (2, 3, 3));
        // A writer catches up, is served, and refuses, which wants the end read.
        let (_, served) = serve(&log, partition, "one").await;
        assert_eq!(served.command(1).await.offset(), Some(4));
        transact(&bench, partition).await;
        assert_eq!(end_from(&log, partition, 7).await, 7);
        assert_eq!(
            served.command(2).await,
            Outcome::Settled {
                answer: Answer::Refused(1),
                next: 7
            }
        );
        // And a second one, which reads all of it.
        let (_, other) = serve(&log, partition, "two").await;
        assert!(other.command(3).await.offset().is_some());
        log.close().await;
    })
    .await;
}

/// The file that the only broker keeps a partition in.
fn segment(bench: &Cluster, partition: Partition) -> PathBuf {
    let state = std::env::var_os("ANNALS_TEST_STATE").expect("ANNALS_TEST_STATE is not set: run ./dev test");
    let folder = format!("{}.{}-{}", bench.prefix, partition.topic.short(), partition.index);
    let brokers = std::fs::read_dir(state)
        .expect("a folder")
        .map(|entry| entry.expect("read").path());
    let mut files = brokers.map(|broker| broker.join(&folder).join("00000000000000000000.log"));
    files
        .find(|file| file.exists())
        .expect("a broker has the partition")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_broker_s_disk_damaged_is_named_and_nothing_behind_it_is_read() {
    within(async {
        let bench = Cluster::new();
        let log = Log::open(config(bench.store())).await.expect("opens");
        for partition in [Partition::ledger(0), Partition::visits(0)] {
            for text in ["one", "two", "damaged", "four"] {
                // One after the other, so that each is a batch.
                log.append(partition, record(text.repeat(100)))
                    .await
                    .expect("appended");
            }
            let file = segment(&bench, partition);
            let mut bytes = std::fs::read(&file).expect("read");
            // The last bytes of the one before the last.
            let behind = batches(&bytes)[4];
            bytes[behind - 5] ^= 1;
            // In place, for the broker has it open.
            let mut open = std::fs::OpenOptions::new()
                .write(true)
                .open(&file)
                .expect("opens");
            open.write_all(&bytes).expect("written");
            for from in [0, 2, 3] {
                let mut reader = log.reader(partition, from).expect("reader");
                let mut given = Vec::new();
                let error = loop {
                    match reader.next().await {
                        Ok(batch) => given.extend(batch.records.iter().map(|stored| stored.offset)),
                        Err(error) => break error,
                    }
                };
                assert_eq!(given, (from..3).collect::<Vec<_>>(), "{partition} from {from}");
                assert!(
                    error.to_string().contains("at offset 3 stands a batch"),
                    "{error}"
                );
                assert_eq!(reader.next().await.expect_err("it is at its end"), error);
            }
        }
        log.close().await;
    })
    .await;
}

/// Where the batches of a segment begin.
fn batches(segment: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    // The base offset has 8 bytes, the length of what follows 4.
    while let Some(length) = segment
        .get(starts[starts.len() - 1] + 8..)
        .and_then(|rest| rest.first_chunk())
    {
        let length = u32::from_be_bytes(*length) as usize;
        starts.push(starts[starts.len() - 1] + 12 + length);
    }
    starts
}

fn production(bench: &Cluster) -> LogConfig {
    LogConfig {
        development: false,
        ..config(bench.store())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_may_lose_acknowledged_records_is_refused_outside_development() {
    let bench = Cluster::new();
    Log::open(config(bench.store()))
        .await
        .expect("taken in development")
        .close()
        .await;
    let Err(OpenError::Unsafe(why)) = Log::open(production(&bench)).await else {
        panic!("taken")
    };
    assert!(why.contains("min.insync.replicas is 1, expected 2"), "{why}");
    assert!(why.contains("1 replicas, expected 3"), "{why}");
    assert!(why.contains("ANNALS_ENV=development"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_forgets_or_whose_leader_may_be_behind_is_refused_outside_development() {
    for (setting, value, told) in [
        (
            "retention.ms",
            "604800000",
            "retention.ms is 604800000, expected -1",
        ),
        (
            "retention.bytes",
            "1073741824",
            "retention.bytes is 1073741824, expected -1",
        ),
        (
            "unclean.leader.election.enable",
            "true",
            "unclean.leader.election.enable is not false",
        ),
        (
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime, expected LogAppendTime",
        ),
    ] {
        let bench = Cluster::new();
        bench
            .make(
                "directory",
                1,
                &[("max.message.bytes", "8388608"), (setting, value)],
            )
            .await;
        let weak = Log::open(config(bench.store())).await;
        weak.expect("taken in development").close().await;
        let why = match Log::open(production(&bench)).await {
            Err(OpenError::Unsafe(why)) => why,
            other => panic!("{setting}: {:?}", other.err()),
        };
        assert!(why.contains(told), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_compacts_or_is_too_small_is_refused_everywhere() {
    for (setting, value, told) in [
        ("cleanup.policy", "compact", "compaction removes history"),
        ("max.message.bytes", "1048576", "expected at least 8388608"),
    ] {
        let bench = Cluster::new();
        bench.make("directory", 1, &[(setting, value)]).await;
        let Err(OpenError::Unsafe(why)) = Log::open(config(bench.store())).await else {
            panic!("taken")
        };
        assert!(why.contains(told), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_got_more_partitions_is_refused() {
    let bench = Cluster::new();
    bench.make("visits", 3, &[("max.message.bytes", "8388608")]).await;
    let Err(OpenError::Foreign(why)) = Log::open(config(bench.store())).await else {
        panic!("opened")
    };
    assert!(why.contains("3 visits partitions and 1 are configured"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_there_is_told() {
    let nowhere = KafkaConfig {
        brokers: "127.0.0.1:1".to_owned(),
        ..Cluster::new().kafka()
    };
    let Err(error) = Log::open(config(Store::Kafka(nowhere))).await else {
        panic!("opened")
    };
    assert!(matches!(error, OpenError::Unavailable(_)));
    assert!(
        error.to_string().contains("the Kafka cluster does not answer"),
        "{error}"
    );
}
