//! Generations that stay at one place in the log: where a time lies in it, and the last look before one is frozen.

use event_log::{Partition, State, Stored, Topic, Verdict, visits};
use events::Timestamp;
use read_models::Projection;
use serde::Deserialize;

use super::Proof;
use crate::{run::topic, runner::feed::chain};

impl Proof {
    /// Finds where a time lies in each partition and writes it down: what was committed later is left out.
    pub(super) async fn cut(&self, time: Timestamp) -> Result<(), String> {
        let mut places = Vec::new();
        for partition in self.dependencies.log.all(topic(self.projection)) {
            places.push(self.place(partition, time).await?);
        }
        let (projection, generation) = (self.projection, self.generation);
        tracing::info!(%projection, generation, %time, ?places, "a time was found in the log");
        let cut = self.control.cut(projection, generation, &places).await;
        cut.map_err(|error| chain(&error))
    }

    /// The offset of the first record that counts and is later than this; the end when there is none. Times never go
    /// backwards within a partition, so everything behind it is later too.
    async fn place(&self, partition: Partition, time: Timestamp) -> Result<u64, String> {
        let log = &self.dependencies.log;
        let end = log.end(partition).await.map_err(|error| chain(&error))?;
        let mut reader = log.reader(partition, 0).map_err(|error| chain(&error))?;
        let (mut state, mut next) = (State::default(), 0);
        while next < end {
            let batch = reader.next().await.map_err(|error| chain(&error))?;
            for stored in &batch.records {
                if counts(partition.topic, &mut state, stored)
                    && committed(partition.topic, stored) > Some(time)
                {
                    return Ok(stored.offset);
                }
            }
            next = batch.next;
        }
        Ok(end)
    }

    /// Freezes a generation that has come to its cut, when it is what the log says; else why it is not.
    pub(super) async fn freeze(&self) -> Result<Option<String>, String> {
        let (projection, generation) = (self.projection, self.generation);
        if let Some(difference) = self.compare().await? {
            return Ok(Some(difference));
        }
        match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => {}
            Projection::Visits | Projection::ContentFacts => {
                let name = self.control.name_of(projection, generation).await;
                let Some(name) = name.map_err(|error| chain(&error))? else {
                    return Ok(None);
                };
                let shown = self.rows.show_frozen(projection, generation, &name).await;
                shown.map_err(|error| chain(&error))?;
            }
        }
        let frozen = self.control.freeze(projection, generation).await;
        frozen.map_err(|error| chain(&error))?;
        tracing::info!(%projection, generation, "frozen");
        Ok(None)
    }
}

fn counts(topic: Topic, state: &mut State, stored: &Stored) -> bool {
    let verdict = if topic.is_fenced() {
        state.admit(stored.offset, &stored.record)
    } else {
        visits::admit(stored.offset, &stored.record)
    };
    match verdict {
        Verdict::Commit(_) | Verdict::Visits => true,
        Verdict::Genesis(_) | Verdict::Claimed(_) | Verdict::Void(_) => false,
    }
}

/// When a record was committed: a commit says so itself. A visit says when it happened, which may be long ago; it was
/// recorded when the log took it.
fn committed(topic: Topic, stored: &Stored) -> Option<Timestamp> {
    /// All that is looked at of an event.
    #[derive(Deserialize)]
    struct Stub {
        time: Timestamp,
    }
    let stated = || {
        let events: Vec<Stub> = serde_json::from_slice(&stored.record.value).ok()?;
        events.into_iter().map(|event| event.time).max()
    };
    match topic {
        Topic::Visits => stored.time.or_else(stated),
        Topic::Directory | Topic::Ledger => stated().or(stored.time),
    }
}
