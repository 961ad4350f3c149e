//! Reads one partition, assigned by hand: no group, no rebalance, offsets kept by whoever reads.
//!
//! The consumer lives in a thread of its own ([`super::apart`]), which gives what it reads in batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use events::Timestamp;
use rdkafka::{
    ClientConfig, ClientContext, Message, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode,
};

use super::{
    Kafka,
    apart::{Apart, HANGS, Heard, Inside},
    log_line, settings,
};
use crate::{
    log::{Batch, ReadError, Stored},
    metrics,
    partition::{Offset, Partition},
    record::{HeaderBlock, Headers, Record},
};

/// A batch holds at most so many records and about so many bytes.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How old the known end of the partition may be.
const END_AGE: Duration = Duration::from_secs(1);
/// How often a reader that waits looks whether the library went past offsets that hold no record, and whether anybody
/// still waits with it.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Reader {
    kafka: Arc<Kafka>,
    partition: Partition,
    next: Offset,
    /// None after a failure: after a damaged batch the library goes on with the next one, so another consumer begins
    /// where this one stood, and meets the same.
    reading: Option<Reading>,
    end: Arc<End>,
    asked: Option<Instant>,
}

/// The end of a partition as the broker last told it, asked for beside reading.
#[derive(Default)]
struct End {
    known: AtomicU64,
    asking: AtomicBool,
}

/// A consumer of one partition, in its thread.
pub(super) type Reading = Apart<KafkaResult<Passed>>;

/// What a consumer has read.
pub(super) struct Passed {
    /// In order; none, when it only went past offsets that hold none.
    pub(super) records: Vec<Stored>,
    /// The first offset that it has not looked at.
    pub(super) next: Offset,
}

struct Context;

type Member = BaseConsumer<Context>;

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
        let reading = Some(of_partition(&kafka, partition, from)?);
        Ok(Self {
            kafka,
            partition,
            next: from,
            reading,
            end: Arc::default(),
            asked: None,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        loop {
            self.ask_end();
            let reading = match &mut self.reading {
                Some(reading) => reading,
                none => none.insert(of_partition(&self.kafka, self.partition, self.next)?),
            };
            match reading.next().await {
                Heard::Given(Ok(Passed { records, next })) => {
                    self.next = next;
                    let end = self.end.known.load(Ordering::Relaxed).max(next);
                    return Ok(Batch { records, next, end });
                }
                Heard::Given(Err(failure)) => {
                    self.reading = None;
                    return Err(self.failed(&failure).await);
                }
                Heard::Ended => {
                    self.reading = None;
                    return Err(self.unread("the reader has ended"));
                }
                Heard::Hangs => {
                    metrics::hangs();
                    tracing::error!(partition = %self.partition, "the Kafka client does not move any more: reading on with another one");
                    self.reading = None;
                }
            }
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
        let is_new = self.asked.is_some_and(|asked| asked.elapsed() < END_AGE);
        // One question at a time, however long a broker takes.
        if is_new || self.end.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        self.asked = Some(Instant::now());
        let (kafka, partition, end) = (self.kafka.clone(), self.partition, self.end.clone());
        tokio::spawn(async move {
            if let Ok((_, told)) = kafka.ends(partition).await {
                end.known.fetch_max(told, Ordering::Relaxed);
            }
            end.asking.store(false, Ordering::Relaxed);
        });
    }
}

fn of_partition(kafka: &Kafka, partition: Partition, from: Offset) -> Result<Reading, ReadError> {
    let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
    start(kafka, kafka.topic(partition.topic), index, Some(from)).map_err(|error| ReadError::Failed {
        partition,
        reason: format!("no thread to read in: {error}"),
    })
}

/// Reads a partition from this offset on, or from its beginning.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(
    kafka: &Kafka,
    topic: &str,
    index: i32,
    from: Option<Offset>,
) -> std::io::Result<Reading> {
    let (config, topic) = (settings::reader(&kafka.brokers), topic.to_owned());
    Apart::start("annals-log-reader", HANGS, move |inside| {
        match assigned(&config, &topic, index, from) {
            Ok(consumer) => read(inside, &consumer, from.unwrap_or_default()),
            Err(error) => {
                inside.give(Err(error));
            }
        }
    })
}

fn assigned(config: &ClientConfig, topic: &str, index: i32, from: Option<Offset>) -> KafkaResult<Member> {
    let consumer: Member = config.create_with_context(Context)?;
    let offset = from.map_or(rdkafka::Offset::Beginning, |from| {
        rdkafka::Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX))
    });
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, index, offset)?;
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// Reads until nobody waits any more, or something fails.
fn read(inside: &Inside<KafkaResult<Passed>>, consumer: &Member, mut next: Offset) {
    let mut failure = None;
    while inside.goes_on() {
        let arrived = match failure.take() {
            Some(error) => Some(Err(error)),
            None => consumer.poll(LOOK),
        };
        let given = match arrived {
            Some(Ok(first)) => {
                let records = batch(consumer, first, &mut next, &mut failure);
                Ok(Passed { records, next })
            }
            Some(Err(error)) => Err(error),
            // Nothing waits to be given, so whatever the library has passed over is no record.
            None => match position(consumer).filter(|at| *at > next) {
                Some(at) => {
                    next = at;
                    Ok(Passed {
                        records: Vec::new(),
                        next,
                    })
                }
                None => continue,
            },
        };
        let is_over = given.is_err();
        if !inside.give(given) || is_over {
            return;
        }
    }
}

/// The first message and, without waiting, those after it, up to a failure.
fn batch(
    consumer: &Member,
    first: BorrowedMessage<'_>,
    next: &mut Offset,
    failure: &mut Option<KafkaError>,
) -> Vec<Stored> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut arrived = Some(Ok(first));
    while let Some(message) = arrived {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                *failure = Some(error);
                break;
            }
        };
        let stored = stored(&message);
        // Offsets only go up; a jump can only be a stranger's transaction marker, which is no record.
        if stored.offset >= *next {
            *next = stored.offset + 1;
            bytes += stored.record.size();
            records.push(stored);
        }
        if records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            break;
        }
        arrived = consumer.poll(Duration::ZERO);
    }
    records
}

/// Where the library stands: after the last record that it gave, and after markers that it keeps to itself.
fn position(consumer: &Member) -> Option<Offset> {
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

/// When another log took a record of visits, in microseconds since 1970: a broker stamps what is imported anew. It is
/// no part of the record.
const TAKEN: &str = "annals-taken";

/// The record as it is sent, with that time.
pub(super) fn with_taken(record: &Record, taken: Timestamp) -> Record {
    let taken = taken.micros().to_string();
    let headers = record
        .headers
        .iter()
        .chain([(TAKEN.as_bytes(), taken.as_bytes())]);
    Record {
        headers: Headers::new(headers),
        ..record.clone()
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
    let mut taken: Option<i64> = None;
    // The library panics over a header name that is no UTF-8. Nobody but a stranger writes one; such a record must
    // be void, not the end of its reader.
    let copied = catch_unwind(AssertUnwindSafe(|| {
        for header in message.headers().into_iter().flat_map(|all| all.iter()) {
            let value = header.value.unwrap_or_default();
            match header.key {
                TAKEN => taken = str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                name => headers.put(name.as_bytes(), value),
            }
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
        .map(|millis| millis.saturating_mul(1000));
    let time = taken
        .or(time)
        .and_then(|micros| Timestamp::from_micros(micros).ok());
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
