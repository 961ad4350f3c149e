//! The Kafka adapter. (Being built: it refuses to open.)

use crate::{
    log::{Appending, Batch, KafkaConfig, LogConfig, OpenError, ReadError},
    partition::{Offset, Partition, Topic},
    record::Record,
};
use std::sync::Arc;

pub(crate) struct Kafka;
pub(crate) struct Reader;

impl Kafka {
    pub(crate) async fn open(_: &KafkaConfig, _: &LogConfig) -> Result<Arc<Self>, OpenError> {
        Err(OpenError::Unavailable(
            "the Kafka adapter is not there yet".to_owned(),
        ))
    }
    pub(crate) fn partitions(&self, _: Topic) -> u32 {
        1
    }
    pub(crate) fn append(&self, _: Partition, _: Record) -> Appending {
        Appending::not("the Kafka adapter is not there yet")
    }
    pub(crate) fn reader(&self, partition: Partition, _: Offset) -> Result<Reader, ReadError> {
        Err(ReadError::NoPartition(partition))
    }
    pub(crate) async fn end(&self, partition: Partition) -> Result<Offset, ReadError> {
        Err(ReadError::NoPartition(partition))
    }
    pub(crate) async fn close(&self) {}
}

impl Reader {
    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        Err(ReadError::NoPartition(Partition::DIRECTORY))
    }
}
