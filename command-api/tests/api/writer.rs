//! Another writer of a partition, by hand: it claims, commits, and does what a process that came back from the dead
//! does; and a reader that folds a partition from its beginning, to compare with.

use event_log::{
    CommandHashes, CommandName, Commit, Headers, Log, Partition, Record, State, Verdict, genesis::Claim,
};
use events::{
    DownloadId, Envelope, Event, EventId, Recorded, TenantId, Timestamp,
    directory::PrincipalErased,
    download::{Cancelled, Queued},
};
use serde_json::value::RawValue;
use uuid::Uuid;

/// An event as it stands in the log: offset and text.
pub(crate) type Seen = (u64, String);

/// A writer of one partition.
pub(crate) struct Writer {
    log: Log,
    pub(crate) partition: Partition,
    /// What it believes.
    pub(crate) state: State,
}

fn time() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).unwrap()
}

fn recorded(tenant: TenantId, event: impl Into<Event>) -> Recorded {
    let envelope = Envelope {
        id: EventId::new(Uuid::now_v7()),
        subject: DownloadId::new(Uuid::now_v7()).to_string(),
        time: time(),
        tenant,
        aggregate_version: Some(1),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    Recorded {
        envelope,
        event: event.into(),
    }
}

/// So many events of two types, in turns, the first of which is `download.queued.v1`.
pub(crate) fn some_events(tenant: TenantId, count: usize) -> Vec<Recorded> {
    let queued = |number: usize| Queued {
        title: format!("Book {number} — \"quoted\", ünïcode"),
        url: format!("https://example.org/{number}"),
        author: None,
        format: None,
        sha256: None,
        priority: 100,
    };
    (0..count)
        .map(|number| match number % 2 {
            0 => recorded(tenant, queued(number)),
            _ => recorded(tenant, Cancelled {}),
        })
        .collect()
}

/// The erasure of a principal.
pub(crate) fn erasure(tenant: TenantId, principal: Uuid) -> Vec<Recorded> {
    let mut erased = recorded(tenant, PrincipalErased {});
    erased.envelope.subject = principal.to_string();
    erased.envelope.aggregate_version = Some(2);
    vec![erased]
}

impl Writer {
    /// Of a partition, believing what stands in it now.
    pub(crate) async fn of(log: &Log, partition: Partition) -> Self {
        let (state, _) = fold(log, partition, None).await;
        Self {
            log: log.clone(),
            partition,
            state,
        }
    }

    /// Appends a record as it is; gives its offset.
    pub(crate) async fn append(&self, record: Record) -> u64 {
        self.log.append(self.partition, record).await.unwrap()
    }

    /// Claims this epoch.
    pub(crate) async fn claim(&mut self, epoch: u64) -> u64 {
        let owner = "another".to_owned();
        let record = Claim { owner, time: time() }.to_record(epoch);
        let offset = self.append(record.clone()).await;
        self.state.admit(offset, &record);
        offset
    }

    /// A commit of these events at its own state, which moves on; not appended.
    pub(crate) fn seal(&mut self, events: Vec<Recorded>) -> Record {
        let commit = Commit {
            tenant: events[0].envelope.tenant,
            tenant_seq: 1,
            command: Some(CommandHashes {
                name: CommandName::Id(*Uuid::now_v7().as_bytes()),
                request: [7; 16],
            }),
            events,
        };
        let (record, state) = commit.prepare().unwrap().seal(&self.state);
        self.state = state;
        record
    }

    /// Commits; gives the offset.
    pub(crate) async fn commit(&mut self, events: Vec<Recorded>) -> u64 {
        let record = self.seal(events);
        self.append(record).await
    }
}

/// A record that is nobody's.
pub(crate) fn garbage() -> Record {
    Record {
        key: None,
        headers: Headers::new([(b"annals-kind".as_slice(), b"coup".as_slice())]),
        value: "[".into(),
    }
}

/// Folds a partition from its first record to its end: what admission knows there, and the events of a tenant.
pub(crate) async fn fold(log: &Log, partition: Partition, tenant: Option<TenantId>) -> (State, Vec<Seen>) {
    let end = log.end(partition).await.unwrap();
    let (mut state, mut next, mut seen) = (State::default(), 0, Vec::new());
    let mut reader = log.reader(partition, 0).unwrap();
    while next < end {
        let batch = reader.next().await.unwrap();
        for stored in batch.records {
            if let Verdict::Commit(headers) = state.admit(stored.offset, &stored.record) {
                let commit = Commit::decode(&headers, &stored.record).unwrap();
                if Some(commit.tenant) == tenant {
                    let texts: Vec<&RawValue> = serde_json::from_slice(&stored.record.value).unwrap();
                    seen.extend(texts.iter().map(|text| (stored.offset, text.get().to_owned())));
                }
            }
        }
        next = batch.next;
    }
    (state, seen)
}
