//! Which aggregates are parked: a bad event stops its own aggregate and nothing else.

use std::collections::HashSet;

use read_models::{
    Error, Write,
    parking::{Aggregate, Parked},
};

use super::{Entry, SinkError};

/// The parked aggregates of one partition, as far as they are committed.
#[derive(Debug, Default, Clone)]
pub struct Parking {
    aggregates: HashSet<Aggregate>,
    /// Events that operators let be passed over: offset and place in the record.
    skipped: HashSet<(u64, u32)>,
    /// Parked in other partitions of the same generation, when this one was taken over.
    elsewhere: usize,
    limit: usize,
}

/// What a batch parks; nothing of it counts before the batch is committed.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    before: &'a Parking,
    added: HashSet<Aggregate>,
    events: Vec<Parked>,
}

impl Parking {
    /// What is parked in this partition, how many are in the whole generation, how many may be, and what is passed
    /// over.
    pub fn new(
        aggregates: Vec<Aggregate>,
        in_generation: u64,
        limit: usize,
        skipped: HashSet<(u64, u32)>,
    ) -> Self {
        let elsewhere = usize::try_from(in_generation)
            .unwrap_or(usize::MAX)
            .saturating_sub(aggregates.len());
        Self {
            aggregates: aggregates.into_iter().collect(),
            skipped,
            elsewhere,
            limit,
        }
    }

    /// What the tables say now, under the lock of a checkpoint.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn load(write: &mut Write, limit: usize) -> Result<Self, Error> {
        let (aggregates, in_generation) = write.parked().await?;
        Ok(Self::new(
            aggregates,
            in_generation,
            limit,
            write.skipped().await?,
        ))
    }

    /// How many aggregates may be parked.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Begins a batch.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            before: self,
            added: HashSet::new(),
            events: Vec::new(),
        }
    }

    /// The batch that parked these was committed.
    pub fn commit(&mut self, added: HashSet<Aggregate>) {
        self.aggregates.extend(added);
    }

    /// Whether any event may have to be parked or passed over for what is known here.
    pub fn concerns_events(&self) -> bool {
        !(self.aggregates.is_empty() && self.skipped.is_empty())
    }

    /// How many aggregates of this partition are parked.
    pub fn len(&self) -> usize {
        self.aggregates.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.aggregates.is_empty()
    }
}

impl Attempt<'_> {
    /// Parks the event when its aggregate is parked already, and tells whether it is.
    pub fn holds(&mut self, entry: &Entry) -> bool {
        if self.before.aggregates.is_empty() && self.added.is_empty() {
            return false;
        }
        let aggregate = aggregate(entry);
        let held = self.before.aggregates.contains(&aggregate) || self.added.contains(&aggregate);
        if held {
            self.events.push(parked(entry, aggregate, None));
        }
        held
    }

    /// Whether an operator lets the event be passed over.
    pub fn skips(&self, entry: &Entry) -> bool {
        self.before.skipped.contains(&(entry.offset, entry.index))
    }

    /// Parks the event and its aggregate.
    ///
    /// # Errors
    /// [`SinkError::Stop`] when too many aggregates are parked.
    pub fn park(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        let aggregate = aggregate(entry);
        let count = self.before.elsewhere + self.before.aggregates.len() + self.added.len();
        if count >= self.before.limit {
            return Err(SinkError::Stop(format!(
                "{count} aggregates are parked, the most that may be; at offset {} this one would be the next: {reason}",
                entry.offset
            )));
        }
        tracing::error!(
            tenant = %entry.tenant(), subject = entry.subject(), offset = entry.offset, index = entry.index,
            event = entry.event_type(), reason, "parked"
        );
        self.added.insert(aggregate.clone());
        self.events
            .push(parked(entry, aggregate, Some(reason.to_owned())));
        Ok(())
    }

    /// A copy to try a part with: kept when the part was written, thrown away when not.
    #[must_use]
    pub fn branch(&self) -> Self {
        self.clone()
    }

    /// What is to be written, and what to commit afterwards.
    pub fn finish(mut self) -> (Vec<Parked>, HashSet<Aggregate>) {
        self.events.sort_by_key(|event| (event.offset, event.index));
        (self.events, self.added)
    }
}

fn aggregate(entry: &Entry) -> Aggregate {
    Aggregate {
        tenant: entry.tenant().uuid(),
        subject: entry.subject().to_owned(),
    }
}

fn parked(entry: &Entry, aggregate: Aggregate, reason: Option<String>) -> Parked {
    // PostgreSQL takes no NUL in a text, and a bad event may hold anything.
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    Parked {
        aggregate: Aggregate {
            tenant: aggregate.tenant,
            subject: clean(&aggregate.subject),
        },
        offset: entry.offset,
        index: entry.index,
        event_type: clean(entry.event_type()),
        reason: reason.map(|text| clean(&text)),
    }
}
