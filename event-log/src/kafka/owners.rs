//! The topic of hints, followed.

use std::{sync::Arc, time::Duration};

use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::{Kafka, apart::Heard, blocking, reader, watermarks};
use crate::{
    genesis::LogId,
    log::{AppendError, Appending},
    metrics,
    ownership::Hints,
    partition::Partition,
    record::Record,
};

/// What its appends are called in metrics.
const NAME: &str = "owners";
/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_millis(500);

impl Kafka {
    /// Follows the hints until nobody wants to know.
    pub(crate) fn follow_owners(self: &Arc<Self>, log: LogId) -> watch::Receiver<Hints> {
        let (hints, known) = watch::channel(Hints::default());
        let kafka = self.clone();
        tokio::spawn(async move {
            while !hints.is_closed() {
                let error = tokio::select! {
                    () = hints.closed() => return,
                    Err(error) = kafka.read_owners(log, &hints) => error,
                };
                tracing::warn!(error, "cannot follow who serves which partition; trying again");
                tokio::select! {
                    () = hints.closed() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
        known
    }

    /// From the beginning, for it is short: a few records for each partition.
    async fn read_owners(&self, log: LogId, hints: &watch::Sender<Hints>) -> Result<(), String> {
        let said = |error: KafkaError| error.to_string();
        let (admin, topic) = (self.admin.clone(), self.owners.clone());
        let end = blocking(move || watermarks(&admin, &topic, 0)).await?;
        let (first, end) = end.map_err(said)?;
        if first >= end {
            hints.send_modify(|hints| hints.complete = true);
        }
        let reading = reader::start(self, &self.owners, 0, None);
        let mut reading = reading.map_err(|error| format!("no thread to read in: {error}"))?;
        loop {
            let passed = match reading.next().await {
                Heard::Given(passed) => passed.map_err(said)?,
                Heard::Ended => return Err("the reader is closed".to_owned()),
                Heard::Hangs => {
                    metrics::hangs();
                    return Err("the Kafka client does not move any more".to_owned());
                }
            };
            hints.send_modify(|hints| {
                for stored in &passed.records {
                    let record = &stored.record;
                    hints.learn(log, record.key.as_deref().unwrap_or_default(), &record.value);
                }
                hints.complete |= i64::try_from(passed.next).is_ok_and(|next| next >= end);
            });
        }
    }

    /// Writes a hint.
    pub(crate) async fn tell_owner(&self, record: &Record) -> Result<u64, AppendError> {
        let Some((ticket, answer)) = self.hints.enter(NAME, record.size()) else {
            return Err(AppendError::Not("too many hints wait for the broker".to_owned()));
        };
        // Of the topic's only partition, which has the index of the directory's.
        self.fenced
            .send(&self.owners, Partition::DIRECTORY, record, ticket);
        Appending::pending(answer).await
    }
}
