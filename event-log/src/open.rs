//! Opening a log: find or make the store, write or adopt the genesis of every partition, refuse what is foreign.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, future::try_join, stream};
use uuid::Uuid;

use crate::{
    embedded::Embedded,
    genesis::{Genesis, LogId},
    kafka::Kafka,
    log::{
        Adapter, AppendError, Batch, DEFAULT_PARTITIONS, EMBEDDED_PARTITIONS, Inner, LogConfig, OpenError,
        ReadError, Store,
    },
    partition::{Offset, Partition, Topic},
    record::Stated,
    slot::{SLOTS, SlotTable},
};

/// How long a store may take to give the first record of a partition.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(20);
/// Partitions looked at together.
const TOGETHER: usize = 16;

/// What is done about a partition without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Its genesis is written.
    Make,
    /// The log is not opened.
    Refuse,
}

pub(crate) async fn open(config: LogConfig, missing: Missing) -> Result<Inner, OpenError> {
    for (name, count) in [
        ("ledger", config.ledger_partitions),
        ("visits", config.visits_partitions),
    ] {
        if count.is_some_and(|count| count == 0 || count > u32::from(SLOTS)) {
            return Err(OpenError::Foreign(format!(
                "the number of {name} partitions must be 1 to {SLOTS}"
            )));
        }
    }
    let adapter = match &config.store {
        Store::Embedded { dir } => {
            few_enough(&config)?;
            Adapter::Embedded(Embedded::open(dir).await?)
        }
        Store::Kafka(kafka) => Adapter::Kafka(Kafka::open(kafka, &config).await?),
    };
    match adopt(&adapter, &config, missing).await {
        Ok((id, tables)) => Ok(Inner { id, tables, adapter }),
        Err(error) => {
            match adapter {
                Adapter::Embedded(log) => log.close().await,
                Adapter::Kafka(log) => log.close().await,
            }
            Err(error)
        }
    }
}

/// Whether the embedded store opens again with what is asked for. (A log that has more is opened when nothing is asked
/// for, and perhaps waits for ever.)
fn few_enough(config: &LogConfig) -> Result<(), OpenError> {
    let [ledger, visits] =
        [config.ledger_partitions, config.visits_partitions].map(|count| count.unwrap_or(DEFAULT_PARTITIONS));
    if ledger.saturating_add(visits) <= EMBEDDED_PARTITIONS {
        return Ok(());
    }
    Err(OpenError::Foreign(format!(
        "an embedded log has at most {EMBEDDED_PARTITIONS} partitions, those of ledger and visits together: {ledger} and \
         {visits} are too many; ask for fewer (4 of each serve one process), or use Kafka. A log that was made with more is \
         opened when neither number is set"
    )))
}

/// The directory first, because its genesis names the log; then every other partition.
async fn adopt(
    adapter: &Adapter,
    config: &LogConfig,
    missing: Missing,
) -> Result<(LogId, [(u32, SlotTable); 3]), OpenError> {
    let new = Genesis::new(LogId(Uuid::new_v4()), Partition::DIRECTORY, 1);
    let directory = first_record(adapter, Partition::DIRECTORY, &new, missing).await?;
    check(&directory, directory.log, Partition::DIRECTORY, Some(1))?;
    let id = directory.log;
    let ledger = adopt_topic(adapter, id, Topic::Ledger, config.ledger_partitions, missing);
    let visits = adopt_topic(adapter, id, Topic::Visits, config.visits_partitions, missing);
    let (ledger, visits) = try_join(ledger, visits).await?;
    Ok((id, [(1, directory.slots), ledger, visits]))
}

async fn adopt_topic(
    adapter: &Adapter,
    id: LogId,
    topic: Topic,
    asked: Option<u32>,
    missing: Missing,
) -> Result<(u32, SlotTable), OpenError> {
    let made = match adapter {
        Adapter::Embedded(_) => None,
        Adapter::Kafka(log) => Some(log.partitions(topic)),
    };
    let zero = Partition { topic, index: 0 };
    let new = Genesis::new(id, zero, made.or(asked).unwrap_or(DEFAULT_PARTITIONS));
    let first = first_record(adapter, zero, &new, missing).await?;
    check(&first, id, zero, asked.or(made))?;
    if let Some(made) = made.filter(|made| *made != first.partitions) {
        let counted = first.partitions;
        return Err(OpenError::Foreign(format!(
            "the topic {topic} has {made} partitions, but its genesis says {counted}; partitions are never added to a topic of Annals"
        )));
    }
    let others = (1..first.partitions).map(async |index| {
        let partition = Partition { topic, index };
        let genesis = Genesis {
            partition: index,
            ..first.clone()
        };
        let found = first_record(adapter, partition, &genesis, missing).await?;
        check(&found, id, partition, Some(genesis.partitions))?;
        if found.slots != genesis.slots {
            return Err(OpenError::Foreign(format!(
                "{partition} has another slot table than {zero}"
            )));
        }
        Ok(())
    });
    // Together, because each waits for the store.
    stream::iter(others)
        .buffer_unordered(TOGETHER)
        .try_collect::<()>()
        .await?;
    Ok((first.partitions, first.slots))
}

fn check(found: &Genesis, id: LogId, partition: Partition, partitions: Option<u32>) -> Result<(), OpenError> {
    let foreign = |what: String| Err(OpenError::Foreign(what));
    if found.log != id {
        return foreign(format!(
            "{partition} belongs to log {}, but the directory to log {id}: these are parts of two logs",
            found.log
        ));
    }
    if found.topic != partition.topic.name() || found.partition != partition.index {
        return foreign(format!(
            "{partition} begins with the genesis of {} {}",
            found.topic, found.partition
        ));
    }
    match partitions {
        Some(asked) if asked != found.partitions => foreign(format!(
            "the log has {} {} partitions and {asked} are configured; the number is chosen once, at the first start",
            found.partitions, partition.topic
        )),
        _ => Ok(()),
    }
}

/// The genesis that stands at offset 0, after writing this one when the partition is empty. When two processes
/// race here, the first record counts and both adopt it.
async fn first_record(
    adapter: &Adapter,
    partition: Partition,
    genesis: &Genesis,
    missing: Missing,
) -> Result<Genesis, OpenError> {
    let unavailable = |error: ReadError| OpenError::Unavailable(error.to_string());
    if first_end(adapter, partition).await.map_err(unavailable)? == 0 {
        if missing == Missing::Refuse {
            return Err(OpenError::Foreign(format!(
                "{partition} is empty: it has lost its genesis, or never had one"
            )));
        }
        match adapter.append(partition, genesis.to_record()).await {
            Ok(_) => {}
            Err(AppendError::Not(reason) | AppendError::Unknown(reason)) => {
                return Err(OpenError::Unavailable(format!(
                    "cannot write to {partition}: {reason}"
                )));
            }
        }
    }
    let batch = tokio::time::timeout(PATIENCE, first_batch(adapter, partition))
        .await
        .map_err(|_| OpenError::Unavailable(format!("{partition} gave no record within {PATIENCE:?}")))?
        .map_err(unavailable)?;
    let first = batch
        .records
        .first()
        .filter(|first| first.offset == 0)
        .ok_or_else(|| {
            OpenError::Foreign(format!(
                "{partition} has lost its first record; its retention must be infinite"
            ))
        })?;
    let foreign =
        |what: String| OpenError::Foreign(format!("{partition} is not a partition of Annals: {what}"));
    match first.record.stated() {
        Ok(Stated::Genesis) => Genesis::from_value(&first.record.value).map_err(foreign),
        Ok(Stated::Claim { .. } | Stated::Commit(_) | Stated::Visits) => {
            Err(foreign("its first record is no genesis".to_owned()))
        }
        Err(malformed) => Err(foreign(format!("its first record is {malformed}"))),
    }
}

/// The first records. A connection that fails meanwhile is made anew: a store that is busy closes some, and the
/// client library calls that an error of the reader.
async fn first_batch(adapter: &Adapter, partition: Partition) -> Result<Batch, ReadError> {
    let mut reader = adapter.reader(partition, 0)?;
    loop {
        match reader.next().await {
            Err(error @ ReadError::Failed { .. }) => {
                tracing::debug!(%error, "reading again");
                tokio::time::sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// The end of a partition that may have been made a moment ago: its leader may not know yet that it leads.
pub(crate) async fn first_end(adapter: &Adapter, partition: Partition) -> Result<Offset, ReadError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match adapter.end(partition).await {
            Err(error @ ReadError::Failed { .. }) if tokio::time::Instant::now() < deadline => {
                tracing::debug!(%error, "asking again");
                tokio::time::sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}
