//! What the broker takes by itself: records one by one through librdkafka, and in transactions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::sync::{mpsc, oneshot};

use super::load::Measured;
use crate::engines::Engines;

/// Records of one size, each client with one on its way.
#[derive(Debug, Clone)]
pub struct Load {
    /// Made when it is not there.
    pub topic: String,
    /// Of the topic; clients take turns.
    pub partitions: u32,
    /// Each waits for its acknowledgement before it sends the next record.
    pub clients: usize,
    /// Bytes of a record.
    pub size: usize,
    /// Measured time, after a fifth of it unmeasured.
    pub duration: Duration,
}

/// How a client's record is sent.
pub trait Way: Clone + Send + 'static {
    /// Completes when the record is acknowledged.
    fn send(&self, client: usize) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The broker's process, when this run's engines have one.
pub fn pid() -> Option<u32> {
    let state = std::path::PathBuf::from(std::env::var_os("ANNALS_TEST_STATE")?);
    let file = std::fs::read_to_string(state.join("run/kafka1")).ok()?;
    file.split_whitespace().next()?.parse().ok()
}

/// So many clients send as fast as they hear.
///
/// # Errors
/// A record is not acknowledged.
pub async fn measure(clients: usize, duration: Duration, way: impl Way) -> anyhow::Result<Measured> {
    let begin = Instant::now() + duration / 5;
    let end = begin + duration;
    let mut senders = tokio::task::JoinSet::new();
    for client in 0..clients {
        let way = way.clone();
        senders.spawn(async move {
            let mut latencies = Vec::with_capacity(1 << 16);
            loop {
                let start = Instant::now();
                if start >= end {
                    return anyhow::Ok(latencies);
                }
                way.send(client).await?;
                if start >= begin {
                    latencies.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
        });
    }
    let mut latencies = Vec::new();
    for of_one in senders.join_all().await {
        latencies.append(&mut of_one?);
    }
    Ok(Measured::of(latencies, duration))
}

/// Librdkafka alone. The broker's numbers bound what is under way, so that records go together; without them, and with the
/// library's own bound, each record is a request of its own, which is a tenth of it.
///
/// # Errors
/// The broker refuses.
pub async fn raw_producer(engines: &Engines, load: &Load) -> anyhow::Result<Measured> {
    topic(engines, load).await?;
    let mut config = client(engines);
    config.set("enable.idempotence", "true");
    let raw = Raw {
        producer: config.create()?,
        topic: load.topic.as_str().into(),
        partitions: load.partitions,
        payload: vec![b'x'; load.size].into(),
    };
    measure(load.clients, load.duration, raw).await
}

#[derive(Clone)]
struct Raw {
    producer: FutureProducer,
    topic: Arc<str>,
    partitions: u32,
    payload: Arc<[u8]>,
}

impl Raw {
    fn record(&self, client: usize) -> FutureRecord<'_, (), [u8]> {
        let partition = client % self.partitions as usize;
        let partition = i32::try_from(partition).unwrap_or_default();
        FutureRecord::to(&self.topic)
            .payload(&*self.payload)
            .partition(partition)
    }
}

impl Way for Raw {
    async fn send(&self, client: usize) -> anyhow::Result<()> {
        let sent = self
            .producer
            .send(self.record(client), Duration::from_secs(5))
            .await;
        sent.map(drop).map_err(|(error, _)| error.into())
    }
}

/// The same in transactions: what arrives within `each` shares one; with none, each record has its own.
///
/// # Errors
/// The broker refuses.
pub async fn transactions(
    engines: &Engines,
    load: &Load,
    each: Option<Duration>,
) -> anyhow::Result<Measured> {
    topic(engines, load).await?;
    let mut config = client(engines);
    config.set(
        "transactional.id",
        format!("{}-{}", load.topic, uuid::Uuid::new_v4()),
    );
    let raw = Raw {
        producer: config.create()?,
        topic: load.topic.as_str().into(),
        partitions: load.partitions,
        payload: vec![b'x'; load.size].into(),
    };
    let (records, arriving) = mpsc::channel(load.clients);
    let commits = tokio::task::spawn_blocking(move || commit(&raw, arriving, each));
    let measured = measure(load.clients, load.duration, Transacted(records)).await?;
    commits.await??;
    Ok(measured)
}

type Arrived = (usize, oneshot::Sender<()>);

/// Commits until nobody sends any more.
fn commit(raw: &Raw, mut arriving: mpsc::Receiver<Arrived>, each: Option<Duration>) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let runtime = tokio::runtime::Handle::current();
    raw.producer.init_transactions(PATIENCE)?;
    while let Some(first) = arriving.blocking_recv() {
        let mut together = vec![first];
        if let Some(each) = each {
            let until = Instant::now() + each;
            let mut next = || runtime.block_on(tokio::time::timeout_at(until.into(), arriving.recv()));
            while let Ok(Some(more)) = next() {
                together.push(more);
            }
        }
        raw.producer.begin_transaction()?;
        let mut reports = Vec::with_capacity(together.len());
        for (client, _) in &together {
            let enqueued = raw.producer.send_result(raw.record(*client));
            reports.push(enqueued.map_err(|(error, _)| error)?);
        }
        // The commit waits for them as well, but in steps of 100 ms.
        for report in reports {
            futures::executor::block_on(report)?.map_err(|(error, _)| error)?;
        }
        // A report comes a moment before its record counts as gone, and for that moment, too.
        while raw.producer.in_flight_count() > 0 {
            std::thread::yield_now();
        }
        raw.producer.commit_transaction(PATIENCE)?;
        for (_, sender) in together {
            // Whoever asked may have come to its end.
            let _ = sender.send(());
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Transacted(mpsc::Sender<Arrived>);

impl Way for Transacted {
    async fn send(&self, client: usize) -> anyhow::Result<()> {
        let (sender, committed) = oneshot::channel();
        self.0.send((client, sender)).await?;
        Ok(committed.await?)
    }
}

fn client(engines: &Engines) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &engines.kafka)
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true");
    config
}

async fn topic(engines: &Engines, load: &Load) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(engines).create()?;
    let count = i32::try_from(load.partitions)?;
    // It may exist from the last round.
    admin
        .create_topics(
            [&NewTopic::new(&load.topic, count, TopicReplication::Fixed(1))],
            &AdminOptions::new(),
        )
        .await?;
    Ok(())
}
