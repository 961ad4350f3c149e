//! Reading the log from a cursor on, a bounded piece at a time: few records of many may be the tenant's.

use std::time::Duration;

use event_log::{Log, Offset, Partition, ReadError, Verdict};
use events::TenantId;
use tokio::time::Instant;

use super::{
    cursor::Cursor,
    entry::{Entry, Piece, Room},
    marks::{EVERY, Marks},
    types::Types,
};
use crate::error::Error;

/// At most so many records, about, are looked at for one piece, once its beginning is found.
const RECORDS: u64 = 65_536;
/// And for about so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is read, for whom.
pub(super) struct Reading<'a> {
    pub(super) log: &'a Log,
    pub(super) marks: &'a Marks,
    pub(super) partition: Partition,
    /// Where the partition ended a moment ago.
    pub(super) end: Offset,
    pub(super) tenant: TenantId,
    pub(super) types: &'a Types,
}

/// What was read.
pub(super) struct Chunk {
    pub(super) events: Vec<Piece>,
    pub(super) cursor: Cursor,
    /// Whether there was no room for the next event.
    pub(super) full: bool,
}

impl Reading<'_> {
    /// Reads until the end, or there is no room, or enough was looked at.
    pub(super) async fn chunk(&self, from: &Cursor, room: &mut Room) -> Result<Chunk, Error> {
        let (start, mut state) = match from.state {
            Some(state) => (from.next, state),
            None => self.marks.before(self.partition, from.next),
        };
        let mut at = start;
        let mut events = Vec::new();
        if at < self.end {
            let deadline = Instant::now() + PATIENCE;
            let mut reader = self
                .log
                .reader(self.partition, at)
                .map_err(|error| failed(&error))?;
            while at < self.end
                && at.saturating_sub(start.max(from.next)) < RECORDS
                && !room.is_full()
                && Instant::now() < deadline
            {
                let Ok(batch) = tokio::time::timeout_at(deadline, reader.next()).await else {
                    break;
                };
                let batch = batch.map_err(|error| failed(&error))?;
                for stored in &batch.records {
                    if stored.offset.is_multiple_of(EVERY) {
                        self.marks.keep(self.partition, stored.offset, state);
                    }
                    let before = state;
                    let verdict = state.admit(stored.offset, &stored.record);
                    at = stored.offset + 1;
                    if stored.offset < from.next || !matches!(verdict, Verdict::Commit(_)) {
                        continue;
                    }
                    let Some(entry) = Entry::of(stored, before, state).filter(|it| it.tenant == self.tenant)
                    else {
                        continue;
                    };
                    let skip = if stored.offset == from.next { from.skip } else { 0 };
                    if let Some(cursor) = entry.give(self.types, skip, room, &mut events) {
                        let full = true;
                        return Ok(Chunk { events, cursor, full });
                    }
                }
                at = at.max(batch.next);
            }
            self.marks.keep(self.partition, at, state);
        }
        if at == start && at < self.end {
            return Err(Error::NotServed("the log cannot be read in time"));
        }
        if at < from.next {
            return Err(Error::NotServed(
                "the log is being read up to this position; ask again",
            ));
        }
        Ok(Chunk {
            events,
            cursor: Cursor::before(at, state),
            full: false,
        })
    }
}

fn failed(error: &ReadError) -> Error {
    Error::outside("reading the log", error.clone())
}
