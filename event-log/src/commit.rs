//! A commit: all events of one command, and how they become a record.

use bytes::Bytes;
use events::{
    DecodeError, Recorded, TenantId, envelope,
    feature::{self, NotYet},
};

use crate::{
    admission::State,
    hash::Hash,
    record::{BATCH, CommandHashes, HEADER_ORDER, HeaderBlock, Kind, Record, Slots, write_hex},
};

/// The largest value of a commit, in bytes. Topics take 8 MiB, so that headers always fit beside it.
pub const MAX_COMMIT: usize = 4 * 1024 * 1024;

/// All events of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Whose; the same in every event.
    pub tenant: TenantId,
    /// Its place among the tenant's commits, from 1.
    pub tenant_seq: u64,
    /// Which command made it.
    pub command: Option<CommandHashes>,
    /// What happened; at least one.
    pub events: Vec<Recorded>,
}

/// Why a commit cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its events are more than [`MAX_COMMIT`] bytes.
    #[error("the command's events take {0} bytes; at most {MAX_COMMIT} go into one commit")]
    TooLarge(usize),
    /// A command without an event is no commit.
    #[error("a commit holds at least one event")]
    Empty,
    /// An event of another tenant.
    #[error("a commit of tenant {0} holds an event of tenant {1}")]
    Tenant(TenantId, TenantId),
    /// An event that may not be written yet.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// Why an admitted commit cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Its events.
    #[error(transparent)]
    Events(#[from] DecodeError),
    /// It holds none.
    #[error("a commit without an event")]
    Empty,
    /// Its events name two tenants.
    #[error("a commit with events of two tenants, {0} and {1}")]
    Tenants(TenantId, TenantId),
}

/// A commit whose events are encoded and small enough, so that it may be given a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    tenant: TenantId,
    tenant_seq: u64,
    command: Option<CommandHashes>,
    value: Bytes,
}

impl Commit {
    /// Encodes the events in their current versions.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn prepare(&self) -> Result<Prepared, EncodeError> {
        self.prepare_at(feature::KNOWN)
    }

    /// Encodes the events, in the versions that may be written at this feature level. Done before a number is given,
    /// because a number is never taken back.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn prepare_at(&self, level: u16) -> Result<Prepared, EncodeError> {
        if self.events.is_empty() {
            return Err(EncodeError::Empty);
        }
        if let Some(stranger) = self
            .events
            .iter()
            .find(|event| event.envelope.tenant != self.tenant)
        {
            return Err(EncodeError::Tenant(self.tenant, stranger.envelope.tenant));
        }
        let value = envelope::encode_at(&self.events, level)?;
        if value.len() > MAX_COMMIT {
            return Err(EncodeError::TooLarge(value.len()));
        }
        let Self {
            tenant,
            tenant_seq,
            command,
            ..
        } = *self;
        Ok(Prepared {
            tenant,
            tenant_seq,
            command,
            value: value.into(),
        })
    }

    /// Reads an admitted record.
    ///
    /// # Errors
    /// See [`CommitError`]. The commit keeps its place in history all the same.
    pub fn decode(headers: &crate::CommitHeaders, record: &Record) -> Result<Self, CommitError> {
        let events = envelope::decode(&record.value)?;
        let tenant = events.first().ok_or(CommitError::Empty)?.envelope.tenant;
        if let Some(other) = events.iter().find(|event| event.envelope.tenant != tenant) {
            return Err(CommitError::Tenants(tenant, other.envelope.tenant));
        }
        Ok(Self {
            tenant,
            tenant_seq: headers.tenant_seq,
            command: headers.command,
            events,
        })
    }
}

impl Prepared {
    /// Whose.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Bytes of the encoded events.
    pub fn size(&self) -> usize {
        self.value.len()
    }

    /// The record that follows this state in its epoch, and the state after it.
    pub fn seal(self, at: &State) -> (Record, State) {
        let (epoch, seq) = (at.epoch, at.seq + 1);
        let mut text = Vec::with_capacity(256);
        let mut ends = [0_usize; 7];
        let mut part = |place: usize, write: &mut dyn FnMut(&mut Vec<u8>)| {
            write(&mut text);
            ends[place] = text.len();
        };
        part(0, &mut |out| out.extend_from_slice(BATCH.as_bytes()));
        part(1, &mut |out| {
            out.extend_from_slice(Kind::Commit.as_str().as_bytes())
        });
        part(2, &mut |out| write_number(epoch, out));
        part(3, &mut |out| write_number(seq, out));
        part(4, &mut |out| write_number(self.tenant_seq, out));
        part(5, &mut |out| {
            if let Some(command) = &self.command {
                command.write(out);
            }
        });
        let mut slots = Slots::default();
        let mut start = 0;
        for (place, end) in ends.iter().take(6).enumerate() {
            slots.0[place] = (place != 5 || self.command.is_some()).then(|| &text[start..*end]);
            start = *end;
        }
        let hash: Hash = at.hash.then_slots(&slots, &self.value);
        let mut hex = Vec::with_capacity(64);
        write_hex(&hash.0, &mut hex);
        slots.0[6] = Some(&hex);
        let mut headers = HeaderBlock::with_capacity(448);
        for (name, value) in HEADER_ORDER.iter().zip(slots.0) {
            if let Some(value) = value {
                headers.put(name.as_bytes(), value);
            }
        }
        let key = Bytes::from(self.tenant.to_string());
        (
            Record {
                key: Some(key),
                headers: headers.finish(),
                value: self.value,
            },
            State { epoch, seq, hash },
        )
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use events::directory::TenantCreated;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Verdict,
        record::{CommandName, Stated},
        visits,
        writer::tests::commit,
    };

    fn commits() -> impl Strategy<Value = Commit> {
        let name = prop_oneof![
            any::<[u8; 16]>().prop_map(CommandName::Key),
            any::<[u8; 16]>().prop_map(CommandName::Id),
        ];
        let command = (name, any::<[u8; 16]>()).prop_map(|(name, request)| CommandHashes { name, request });
        let names = prop::collection::vec(".{0,40}", 1..6);
        (1..=u64::MAX, prop::option::of(command), names).prop_map(|(tenant_seq, command, names)| {
            let recorded = commit(1).events.remove(0);
            let events = names.into_iter().map(|name| Recorded {
                event: TenantCreated { name }.into(),
                ..recorded.clone()
            });
            Commit {
                tenant_seq,
                command,
                events: events.collect(),
                ..commit(1)
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_commit_comes_back_from_its_record(commit in commits(), epoch in 1..u64::MAX, seq in 0..u64::MAX - 1, hash: [u8; 32]) {
            let mut at = State { epoch, seq, hash: Hash(hash) };
            prop_assume!(at.has_begun());
            let (record, after) = commit.prepare().expect("small").seal(&at);
            prop_assert_eq!(record.key.clone(), Some(commit.tenant.to_string().into()));
            let Ok(Stated::Commit(headers)) = record.stated() else { panic!("{:?}", record.stated()) };
            prop_assert_eq!((headers.epoch, headers.seq, headers.hash), (epoch, seq + 1, after.hash));
            prop_assert_eq!(&Commit::decode(&headers, &record).expect("ours"), &commit);
            prop_assert_eq!(at.admit(1, &record), Verdict::Commit(headers));
            prop_assert_eq!(at, after);
            prop_assert_eq!(at.hash, State { epoch, seq, hash: Hash(hash) }.hash.then(&record));
        }

        #[test]
        fn visits_come_back_from_their_record(commit in commits()) {
            let record = visits::encode(commit.tenant, &commit.events);
            prop_assert_eq!(visits::admit(1, &record), Verdict::Visits);
            prop_assert_eq!(visits::decode(&record).expect("ours"), commit.events);
        }

        #[test]
        fn parcels_share_a_record(commits in proptest::collection::vec(commits(), 0..4)) {
            let parcels: Vec<_> = commits
                .iter()
                .map(|commit| visits::Parcel::new(commit.tenant, &commit.events))
                .collect();
            let all: Vec<_> = commits.into_iter().flat_map(|commit| commit.events).collect();
            let record = visits::record(&parcels);
            prop_assert_eq!(record.is_none(), all.is_empty());
            if let Some(record) = record {
                prop_assert_eq!(visits::admit(1, &record), Verdict::Visits);
                prop_assert_eq!(visits::decode(&record).expect("ours"), all);
            }
        }
    }

    #[test]
    fn what_cannot_be_a_commit_is_refused_before_it_has_a_number() {
        let good = commit(1);
        assert_eq!(
            Commit {
                events: vec![],
                ..good
            }
            .prepare(),
            Err(EncodeError::Empty)
        );
        let other = TenantId::new(uuid::Uuid::from_u128(99));
        let strange = Commit {
            tenant: other,
            ..good.clone()
        };
        assert_eq!(strange.prepare(), Err(EncodeError::Tenant(other, good.tenant)));
        let mut large = good;
        large.events[0].event = TenantCreated {
            name: "x".repeat(MAX_COMMIT),
        }
        .into();
        assert!(matches!(large.prepare(), Err(EncodeError::TooLarge(size)) if size > MAX_COMMIT));
    }
}
