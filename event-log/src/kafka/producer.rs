//! A producer that is replaced when it is beyond repair, and the reports of its deliveries.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use super::log_line;
use crate::{
    gate::Ticket,
    log::AppendError,
    partition::{Offset, Partition},
    record::Record,
};

type Current = Arc<ThreadedProducer<Reports>>;

/// One producer for many partitions: fewer threads and larger batches than one for each.
pub(super) struct Lane {
    config: ClientConfig,
    current: RwLock<Option<Current>>,
    /// Held while a new producer is made, so that one failure makes one.
    replacing: Mutex<()>,
}

/// Passes each delivery to whoever waits for it.
struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        // Every error is taken as unknown: what the library gives up may be in a socket, or on a broker whose answer
        // was lost. An offset below zero says as little.
        ticket.finish(match result {
            Ok(message) => Offset::try_from(message.offset())
                .map_err(|_| AppendError::Unknown("the broker told no offset".to_owned())),
            Err((error, _)) => Err(AppendError::Unknown(error.to_string())),
        });
    }
}

impl Lane {
    pub(super) fn new(config: ClientConfig) -> KafkaResult<Self> {
        let current = RwLock::new(Some(make(&config)?));
        Ok(Self {
            config,
            current,
            replacing: Mutex::default(),
        })
    }

    /// Fetches what the first record would otherwise wait for. Blocks.
    pub(super) fn warm_up(&self, topics: &[&str], timeout: Duration) -> KafkaResult<()> {
        let Some(producer) = self.current() else {
            return Ok(());
        };
        topics
            .iter()
            .try_for_each(|topic| producer.client().fetch_metadata(Some(topic), timeout).map(drop))
    }

    pub(super) fn send(self: &Arc<Self>, topic: &str, partition: Partition, record: &Record, ticket: Ticket) {
        let Some(producer) = self.current() else {
            return ticket.finish(Err(AppendError::Not("the log is closed".to_owned())));
        };
        let mut headers = OwnedHeaders::new_with_capacity(8);
        for (name, value) in record.headers.iter() {
            // Ours are texts; a name that is none cannot be said to this library.
            let key = std::str::from_utf8(name).unwrap_or("not-utf8");
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut outgoing = BaseRecord::<[u8], [u8], Box<Ticket>>::with_opaque_to(topic, Box::new(ticket))
            .partition(i32::try_from(partition.index).unwrap_or(i32::MAX))
            .payload(&record.value)
            .headers(headers);
        if let Some(key) = &record.key {
            outgoing = outgoing.key(key);
        }
        if let Err((error, refused)) = producer.send(outgoing) {
            // It never came into the producer's queue.
            refused
                .delivery_opaque
                .finish(Err(AppendError::Not(error.to_string())));
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                self.replace(producer);
            }
        }
    }

    /// Makes a new producer in a thread of its own and lets the dead one go there: both take their time.
    fn replace(self: &Arc<Self>, dead: Current) {
        let lane = self.clone();
        let replacing = std::thread::Builder::new()
            .name("annals-log-producer".to_owned())
            .spawn(move || {
                let one = lane.replacing.lock().unwrap_or_else(PoisonError::into_inner);
                if lane.current().is_some_and(|current| Arc::ptr_eq(&current, &dead)) {
                    let reason = dead.client().fatal_error();
                    tracing::error!(?reason, "the producer is beyond repair and is replaced");
                    match make(&lane.config) {
                        Ok(new) => {
                            let mut current = lane.current.write().unwrap_or_else(PoisonError::into_inner);
                            if current.is_some() {
                                *current = Some(new);
                            }
                        }
                        Err(error) => tracing::error!(%error, "cannot make another producer"),
                    }
                }
                drop(one);
                drop(dead);
            });
        if let Err(error) = replacing {
            tracing::error!(%error, "cannot start a thread to replace the producer");
        }
    }

    /// Waits for what is under way, then lets the producer go. Blocks.
    pub(super) fn close(&self, patience: Duration) {
        let producer = self
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(producer) = producer
            && let Err(error) = producer.flush(patience)
        {
            tracing::warn!(%error, "closing with records under way");
        }
    }

    fn current(&self) -> Option<Current> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn make(config: &ClientConfig) -> KafkaResult<Current> {
    config.create_with_context(Reports).map(Arc::new)
}
