//! Reads one partition, assigned by hand: no group, no rebalance, offsets kept by whoever reads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use events::Timestamp;
use futures::{FutureExt, StreamExt};
use rdkafka::{
    ClientContext, Message, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{Consumer, ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode,
};

use super::{Kafka, log_line, settings};
use crate::{
    log::{Batch, ReadError, Stored},
    partition::{Offset, Partition},
    record::{HeaderBlock, Record},
};

/// A batch holds at most so many records and about so many bytes.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How old the known end of the partition may be.
const END_AGE: Duration = Duration::from_secs(1);
/// How often a reader that waits looks whether the library went past offsets that hold no record.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Reader {
    kafka: Arc<Kafka>,
    partition: Partition,
    next: Offset,
    consumer: Assigned,
    /// The end as the broker last told it, asked for beside reading.
    end: Arc<AtomicU64>,
    asked: Option<Instant>,
    /// When to look next whether it stands beyond what it was given; kept, because who reads may ask anew all the time.
    look: Instant,
    /// What the library met behind the records that were given. After a damaged batch it goes on with the next one, so
    /// this reader is at its end: another one begins where it stands, and meets the same.
    failure: Option<KafkaError>,
}

/// A consumer of one partition, assigned by hand.
pub(super) struct Assigned(pub(super) Option<StreamConsumer<Context>>);

pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka reader");
    }
}

impl ConsumerContext for Context {}

impl Reader {
    pub(super) fn new(kafka: Arc<Kafka>, partition: Partition, from: Offset) -> Result<Self, ReadError> {
        let failed = |error: KafkaError| ReadError::Failed {
            partition,
            reason: error.to_string(),
        };
        let consumer = consumer(&kafka, partition, from).map_err(failed)?;
        Ok(Self {
            kafka,
            partition,
            next: from,
            consumer,
            end: Arc::default(),
            asked: None,
            look: Instant::now() + LOOK,
            failure: None,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        if let Some(failure) = &self.failure {
            return Err(self.failed(failure).await);
        }
        self.ask_end();
        let partition = self.partition;
        let closed = || ReadError::Failed {
            partition,
            reason: "the reader is closed".to_owned(),
        };
        let consumer = self.consumer.0.as_ref().ok_or_else(closed)?;
        let mut stream = consumer.stream();
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut arrived = loop {
            tokio::select! {
                biased;
                arrived = stream.next() => break arrived,
                () = tokio::time::sleep_until(self.look.into()) => {
                    self.look = Instant::now() + LOOK;
                    // Nothing waits to be given, so whatever the library has passed over is no record.
                    if let Some(at) = position(consumer).filter(|at| *at > self.next) {
                        self.next = at;
                        let end = self.end.load(Ordering::Relaxed).max(at);
                        return Ok(Batch { records, next: at, end });
                    }
                }
            }
        };
        self.failure = loop {
            match arrived {
                Some(Ok(message)) => {
                    let stored = stored(&message);
                    bytes += stored.record.size();
                    // Offsets only go up; a jump can only be a stranger's transaction marker, which is no record.
                    if stored.offset >= self.next {
                        self.next = stored.offset + 1;
                        records.push(stored);
                    }
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
            if records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                break None;
            }
            match stream.next().now_or_never() {
                Some(more) => arrived = more,
                None => break None,
            }
        };
        drop(stream);
        if !records.is_empty() {
            let end = self.end.load(Ordering::Relaxed).max(self.next);
            return Ok(Batch {
                records,
                next: self.next,
                end,
            });
        }
        match &self.failure {
            Some(failure) => Err(self.failed(failure).await),
            None => Err(self.unread("nothing arrived")),
        }
    }

    /// What is said of a failure at the offset where this reader stands.
    async fn failed(&self, failure: &KafkaError) -> ReadError {
        let (partition, offset) = (self.partition, self.next);
        match failure.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                match self.kafka.ends(partition).await {
                    Ok((first, end)) => ReadError::OutOfRange {
                        partition,
                        offset,
                        first,
                        end,
                    },
                    Err(error) => error,
                }
            }
            Some(RDKafkaErrorCode::BadMessage) => self.unread(&format!(
                "at offset {offset} stands a batch whose checksum does not fit: the broker's disk or memory has \
                 damaged it. Nothing behind it is read: let another replica lead, or restore the partition"
            )),
            Some(_) | None => self.unread(&failure.to_string()),
        }
    }

    fn unread(&self, reason: &str) -> ReadError {
        ReadError::Failed {
            partition: self.partition,
            reason: reason.to_owned(),
        }
    }

    /// Asks for the partition's end, beside reading, when what is known is old.
    fn ask_end(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < END_AGE) {
            return;
        }
        self.asked = Some(Instant::now());
        let (kafka, partition, known) = (self.kafka.clone(), self.partition, self.end.clone());
        tokio::spawn(async move {
            if let Ok((_, end)) = kafka.ends(partition).await {
                known.fetch_max(end, Ordering::Relaxed);
            }
        });
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        // Ending a consumer takes a while; whoever reads does not wait for it.
        let consumer = self.0.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(consumer));
        }
    }
}

fn consumer(kafka: &Kafka, partition: Partition, from: Offset) -> KafkaResult<Assigned> {
    let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
    let offset = rdkafka::Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
    assigned(kafka, kafka.topic(partition.topic), index, offset)
}

/// A consumer of one partition, from this offset on.
pub(super) fn assigned(
    kafka: &Kafka,
    topic: &str,
    index: i32,
    offset: rdkafka::Offset,
) -> KafkaResult<Assigned> {
    let consumer: StreamConsumer<Context> = settings::reader(&kafka.brokers).create_with_context(Context)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, index, offset)?;
    consumer.assign(&assignment)?;
    Ok(Assigned(Some(consumer)))
}

/// Where the library stands: after the last record that it gave, and after markers that it keeps to itself.
fn position(consumer: &StreamConsumer<Context>) -> Option<Offset> {
    let positions = consumer.position().ok()?;
    match positions.elements().first()?.offset() {
        rdkafka::Offset::Offset(at) => Offset::try_from(at).ok(),
        rdkafka::Offset::Beginning
        | rdkafka::Offset::End
        | rdkafka::Offset::Stored
        | rdkafka::Offset::Invalid
        | rdkafka::Offset::OffsetTail(_) => None,
    }
}

/// Copies a message into one block of memory, which key, headers and value share.
fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let (key, value) = (message.key(), message.payload().unwrap_or_default());
    let mut block = BytesMut::with_capacity(key.map_or(0, <[u8]>::len) + value.len());
    block.extend_from_slice(key.unwrap_or_default());
    block.extend_from_slice(value);
    let mut value = block.freeze();
    let key = key.map(|key| value.split_to(key.len()));
    let mut headers = HeaderBlock::with_capacity(448);
    // The library panics over a header name that is no UTF-8. Nobody but a stranger writes one; such a record must
    // be void, not the end of its reader.
    let copied = catch_unwind(AssertUnwindSafe(|| {
        for header in message.headers().into_iter().flat_map(|all| all.iter()) {
            headers.put(header.key.as_bytes(), header.value.unwrap_or_default());
        }
    }));
    let headers = if copied.is_ok() {
        headers.finish()
    } else {
        HeaderBlock::with_capacity(0).finish()
    };
    let time = message
        .timestamp()
        .to_millis()
        .and_then(|millis| Timestamp::from_micros(millis.saturating_mul(1000)).ok());
    let record = Record {
        key,
        headers,
        value: if value.is_empty() { Bytes::new() } else { value },
    };
    Stored {
        offset: Offset::try_from(message.offset()).unwrap_or_default(),
        time,
        record,
    }
}
