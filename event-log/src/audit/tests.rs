//! What an audit says of a partition in order, and of each way in which it may not be.

use events::{Envelope, EventId, Recorded, TenantId, Timestamp, directory::TenantCreated};
use uuid::Uuid;

use super::{Audit, Finding, What};
use crate::{
    admission::State,
    commit::Commit,
    genesis::{Claim, Genesis, LogId},
    log::Stored,
    partition::{Offset, Partition},
    record::Record,
};

const LOG: LogId = LogId(Uuid::nil());

/// The `number`-th commit of a tenant, about the aggregate of that number.
fn commit(number: u64) -> Commit {
    let tenant = TenantId::new(Uuid::from_u128(7));
    let envelope = Envelope {
        id: EventId::new(Uuid::from_u128(number.into())),
        subject: number.to_string(),
        time: time(number),
        tenant,
        aggregate_version: Some(1),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    let event = TenantCreated { name: "a".to_owned() }.into();
    Commit {
        tenant,
        tenant_seq: number,
        command: None,
        events: vec![Recorded { envelope, event }],
    }
}

fn time(second: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(second).expect("small") * 1_000_000).expect("in range")
}

fn claim(epoch: u64) -> Record {
    let owner = "a".to_owned();
    Claim { owner, time: time(0) }.to_record(epoch)
}

/// A partition with a claim and what is appended to it.
struct Bench {
    state: State,
    records: Vec<(Offset, Record)>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            state: State::default(),
            records: Vec::new(),
        };
        bench.land(Genesis::new(LOG, Partition::DIRECTORY, 1).to_record());
        bench.land(claim(1));
        bench
    }

    fn land(&mut self, record: Record) {
        let offset = self.records.last().map_or(0, |(offset, _)| offset + 1);
        self.state.admit(offset, &record);
        self.records.push((offset, record));
    }

    fn commit(&mut self, commit: Commit) {
        let (record, _) = commit.prepare().expect("small").seal(&self.state);
        self.land(record);
    }

    fn findings(&self) -> Vec<Finding> {
        let mut audit = Audit::new(LOG, Partition::DIRECTORY, 1);
        let seen = self.records.iter().flat_map(|(offset, record)| {
            audit.see(&Stored {
                offset: *offset,
                time: None,
                record: record.clone(),
            })
        });
        seen.collect()
    }

    fn finds(&self, offset: Offset, what: What, text: &str) {
        let found = self.findings();
        let [finding] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((finding.offset, finding.what), (offset, what), "{finding:?}");
        assert!(finding.text.contains(text), "{finding:?}");
    }
}

#[test]
fn a_partition_in_order_is_summed_up() {
    let mut bench = Bench::new();
    bench.commit(commit(1));
    bench.land(claim(2));
    bench.commit(commit(2));
    assert_eq!(bench.findings(), []);
    let mut audit = Audit::new(LOG, Partition::DIRECTORY, 1);
    for (offset, record) in bench.records {
        let (time, record) = (None, record.clone());
        audit.see(&Stored { offset, time, record });
    }
    let sum = audit.summary();
    assert_eq!(
        (sum.records, sum.claims, sum.commits, sum.void, sum.next),
        (5, 2, 2, 0, 5)
    );
    assert_eq!(
        (sum.epoch, sum.seq, sum.hash),
        (2, 1, bench.state.hash.to_string())
    );
}

#[test]
fn what_a_fenced_off_writer_left_is_void_and_not_wrong() {
    let mut bench = Bench::new();
    let (late, _) = commit(1).prepare().expect("small").seal(&bench.state);
    bench.land(claim(2));
    bench.land(late);
    bench.finds(3, What::Void, "epoch 1");
}

#[test]
fn a_second_genesis_is_void_and_no_genesis_is_wrong() {
    let mut bench = Bench::new();
    bench.land(Genesis::new(LOG, Partition::DIRECTORY, 1).to_record());
    bench.finds(2, What::Void, "genesis");

    let genesis = Genesis::new(LOG, Partition::visits(0), 1).to_record();
    let stored = |offset, record: &Record| Stored {
        offset,
        time: None,
        record: record.clone(),
    };
    let mut audit = Audit::new(LOG, Partition::visits(0), 1);
    assert_eq!(audit.see(&stored(0, &genesis)), []);
    assert_eq!(audit.see(&stored(1, &genesis))[0].what, What::Void);

    let mut audit = Audit::new(LOG, Partition::DIRECTORY, 1);
    assert_eq!(audit.see(&stored(0, &claim(1)))[0].what, What::Wrong);
}

#[test]
fn an_edited_commit_is_wrong() {
    let mut bench = Bench::new();
    let (mut record, _) = commit(1).prepare().expect("small").seal(&bench.state);
    let edited = String::from_utf8(record.value.to_vec())
        .expect("json")
        .replace("\"a\"", "\"b\"");
    record.value = edited.into_bytes().into();
    bench.land(record);
    bench.finds(2, What::Wrong, "hash");
}

#[test]
fn an_epoch_without_its_claim_is_wrong() {
    let mut bench = Bench::new();
    bench.land(claim(3));
    bench.finds(2, What::Wrong, "epoch 3");
}

#[test]
fn a_missing_offset_is_a_gap_and_a_missing_beginning_is_wrong() {
    let mut bench = Bench::new();
    bench.commit(commit(1));
    bench.records[2].0 = 4;
    bench.finds(2, What::Gap, "2 offsets");
    bench.records.remove(0);
    let found = bench.findings();
    assert!(
        found
            .iter()
            .all(|finding| finding.what == What::Wrong || finding.what == What::Gap)
    );
    assert_eq!((found[0].offset, found[0].what), (0, What::Wrong));
}

#[test]
fn sequences_and_times_are_followed() {
    let mut bench = Bench::new();
    bench.commit(commit(1));
    let mut skipping = commit(3);
    skipping.events[0].envelope.time = time(9);
    bench.commit(skipping);
    bench.finds(3, What::Wrong, "number 3 after 1");

    let mut bench = Bench::new();
    bench.commit(commit(1));
    let mut early = commit(2);
    early.events[0].envelope.time = time(0);
    bench.commit(early);
    bench.finds(3, What::Wrong, "before what stands before it");

    let mut bench = Bench::new();
    bench.commit(commit(1));
    let mut again = commit(2);
    again.events[0].envelope.subject = "1".to_owned();
    bench.commit(again);
    bench.finds(3, What::Wrong, "version 1, after 1");
}

#[test]
fn events_that_this_release_does_not_know_and_strangers_are_named() {
    let mut bench = Bench::new();
    let (record, _) = commit(1).prepare().expect("small").seal(&bench.state);
    let unknown = String::from_utf8(record.value.to_vec()).expect("json");
    let unknown = unknown.replace("tenant.created.v1", "tenant.created.v9");
    let record = Record {
        value: unknown.into_bytes().into(),
        ..record
    };
    bench.land(rehashed(&record, &bench.state));
    bench.finds(2, What::Wrong, "tenant.created.v9");

    let mut bench = Bench::new();
    bench.land(Record::default());
    bench.finds(2, What::Odd, "not ours");
}

/// The same record with the hash that it should have here.
fn rehashed(record: &Record, state: &State) -> Record {
    let hash = state.hash.then(record).to_string();
    let headers = record.headers.iter().map(|(name, value)| match name {
        b"annals-hash" => (name, hash.as_bytes()),
        _ => (name, value),
    });
    Record {
        headers: crate::record::Headers::new(headers),
        ..record.clone()
    }
}
