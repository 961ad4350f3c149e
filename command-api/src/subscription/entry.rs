//! An admitted commit as subscribers see it: whose it is, and its events as they stand there.

use std::borrow::Cow;

use bytes::Bytes;
use event_log::{Offset, State, Stored};
use events::TenantId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{cursor::Cursor, types::Types};

/// A commit.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its place.
    pub(super) offset: Offset,
    /// Whose.
    pub(super) tenant: TenantId,
    /// What admission knew before it and after it.
    before: State,
    after: State,
    /// Its events, a JSON array.
    value: Bytes,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Byte for byte as in the log.
    pub json: Bytes,
    /// Where to go on after it.
    pub next: Cursor,
}

/// How much an answer takes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Events.
    pub events: usize,
    /// Bytes of the commits that they are from, about: the first one always has room.
    pub bytes: usize,
}

impl Room {
    /// Whether nothing more goes in.
    pub const fn is_full(&self) -> bool {
        self.events == 0 || self.bytes == 0
    }
}

#[derive(Deserialize)]
struct Whose {
    tenant: TenantId,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
}

impl Entry {
    /// An admitted commit; none when its events are not of one tenant. The key of the record is not asked: only
    /// the events say whose they are.
    pub(super) fn of(stored: &Stored, before: State, after: State) -> Option<Self> {
        let value = stored.record.value.clone();
        let whose: Vec<Whose> = serde_json::from_slice(&value).ok()?;
        let tenant = whose.first()?.tenant;
        whose.iter().all(|event| event.tenant == tenant).then_some(Self {
            offset: stored.offset,
            tenant,
            before,
            after,
            value,
        })
    }

    /// Bytes of its events.
    pub(super) fn size(&self) -> usize {
        self.value.len()
    }

    /// Puts its events of these types, after the first `skip` ones, behind the others. When the room ends before
    /// they do, says where to go on.
    pub(super) fn give(
        &self,
        types: &Types,
        skip: u32,
        room: &mut Room,
        given: &mut Vec<Piece>,
    ) -> Option<Cursor> {
        let events: Vec<&RawValue> = serde_json::from_slice(&self.value).unwrap_or_default();
        let mut first = true;
        for (index, event) in (0_u32..).zip(&events).skip(skip as usize) {
            let wanted = matches!(types, Types::All)
                || serde_json::from_str(event.get()).is_ok_and(|Kind { name }| types.want(&name));
            if !wanted {
                continue;
            }
            if room.events == 0 || (first && room.bytes == 0) {
                return Some(self.after_events(index, events.len()));
            }
            if std::mem::take(&mut first) {
                // A commit is held as a whole, so it is counted as a whole.
                room.bytes = room.bytes.saturating_sub(self.value.len());
            }
            room.events -= 1;
            given.push(Piece {
                json: self.value.slice_ref(event.get().as_bytes()),
                next: self.after_events(index + 1, events.len()),
            });
        }
        None
    }

    /// After so many of its events.
    fn after_events(&self, count: u32, of: usize) -> Cursor {
        if count as usize >= of {
            return Cursor::before(self.offset + 1, self.after);
        }
        Cursor {
            next: self.offset,
            skip: count,
            state: Some(self.before),
        }
    }
}
