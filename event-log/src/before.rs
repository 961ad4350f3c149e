//! Whether a log is still the one that something was folded from.

use crate::{
    admission::State,
    log::{Log, ReadError},
    partition::{Offset, Partition},
    record::{Record, Stated},
};

/// Records that are looked at before one is given up: what was admitted last is among them, whatever void records of
/// writers that were out of office stand behind it.
const MOST: Offset = 65_536;

/// Whether the last record that was admitted before an offset is the one that a state of admission speaks of. Of visits,
/// which no record speaks of, it is not known: true.
///
/// # Errors
/// The log cannot be read, or ends before that ([`ReadError::OutOfRange`]).
pub async fn holds(log: &Log, partition: Partition, next: Offset, state: &State) -> Result<bool, ReadError> {
    if !partition.topic.is_fenced() || !state.has_begun() {
        return Ok(true);
    }
    let end = log.end(partition).await?;
    if next > end {
        // A reader at the end would wait for the next record.
        return Err(ReadError::OutOfRange {
            partition,
            offset: next,
            first: 0,
            end,
        });
    }
    let (mut from, mut look) = (next, 16);
    while from > next.saturating_sub(MOST) {
        let until = from;
        from = from.saturating_sub(look);
        look *= 8;
        let (mut reader, mut at) = (log.reader(partition, from)?, from);
        while at < until {
            let batch = reader.next().await?;
            let mut records = batch.records.iter().filter(|stored| stored.offset < until);
            if records.any(|stored| is_spoken_of(&stored.record, state)) {
                return Ok(true);
            }
            at = batch.next;
        }
    }
    Ok(false)
}

fn is_spoken_of(record: &Record, state: &State) -> bool {
    match record.stated() {
        Ok(Stated::Commit(commit)) => {
            (commit.epoch, commit.seq, commit.hash) == (state.epoch, state.seq, state.hash)
        }
        // What follows it is chained to it: another one is found there.
        Ok(Stated::Claim { epoch }) => (epoch, 0) == (state.epoch, state.seq),
        Ok(Stated::Genesis) => (0, 0) == (state.epoch, state.seq),
        Ok(Stated::Visits) | Err(_) => false,
    }
}
