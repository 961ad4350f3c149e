//! Where a subscriber stands, and how that becomes a position that it carries.
//!
//! The note of such a position has how many events of the next commit were given already, and what admission knew
//! there: with a keyed hash, so that nobody can make a void record count by writing a note of his own. A note
//! without it, or with another's, says nothing about admission; then a place before is looked for.

use event_log::{Hash, LogId, Offset, Partition, State};
use key_store::KeyStore;
use service::{Position, Topic};

/// Before which record of the partition one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The offset of that record.
    pub next: Offset,
    /// How many events of that commit were given (or passed over) already.
    pub skip: u32,
    /// What admission knows before that record, when it is known.
    pub state: Option<State>,
}

const SKIP: usize = size_of::<u32>();
const STATE: usize = 2 * size_of::<u64>() + 32;
const PROOF: usize = 16;

impl Cursor {
    /// Before a whole record.
    pub const fn before(next: Offset, state: State) -> Self {
        Self {
            next,
            skip: 0,
            state: Some(state),
        }
    }

    /// After a position, as far as it is about this partition.
    pub(super) fn of(after: Option<&Position>, partition: Partition, keys: &KeyStore) -> Self {
        let next = after.and_then(|after| after.get(Topic::Ledger, partition.index).filter(|next| *next > 0));
        let Some((after, next)) = after.zip(next) else {
            return Self::before(0, State::default());
        };
        let (skip, rest) = after
            .note()
            .split_first_chunk::<SKIP>()
            .unwrap_or((&[0; SKIP], &[]));
        let proved = rest.split_first_chunk::<STATE>().filter(|(state, proof)| {
            *proof == prove(LogId(after.log()), partition, (next, skip, state), keys)
        });
        Self {
            next,
            skip: u32::from_be_bytes(*skip),
            state: proved.map(|(state, _)| decode(state)),
        }
    }

    /// As clients carry it.
    pub(super) fn position(&self, log: LogId, partition: Partition, keys: &KeyStore) -> Position {
        let position = Position::new(log.0).at(Topic::Ledger, partition.index, self.next);
        let skip = self.skip.to_be_bytes();
        let mut note = Vec::with_capacity(SKIP + STATE + PROOF);
        match &self.state {
            Some(state) => {
                let state = encode(state);
                note.extend_from_slice(&skip);
                note.extend_from_slice(&state);
                note.extend_from_slice(&prove(log, partition, (self.next, &skip, &state), keys));
            }
            None if self.skip > 0 => note.extend_from_slice(&skip),
            None => {}
        }
        position.with_note(note)
    }
}

fn prove(
    log: LogId,
    partition: Partition,
    (next, skip, state): (Offset, &[u8; SKIP], &[u8; STATE]),
    keys: &KeyStore,
) -> [u8; PROOF] {
    let partition = partition.to_string();
    let next = next.to_be_bytes();
    let parts: [&[u8]; 5] = [log.0.as_bytes(), partition.as_bytes(), &next, skip, state];
    keys.keyed_hash("event position", &parts)
}

fn encode(state: &State) -> [u8; STATE] {
    let mut bytes = [0; STATE];
    bytes[..8].copy_from_slice(&state.epoch.to_be_bytes());
    bytes[8..16].copy_from_slice(&state.seq.to_be_bytes());
    bytes[16..].copy_from_slice(&state.hash.0);
    bytes
}

fn decode(bytes: &[u8; STATE]) -> State {
    let (mut epoch, mut seq, mut hash) = ([0; 8], [0; 8], [0; 32]);
    epoch.copy_from_slice(&bytes[..8]);
    seq.copy_from_slice(&bytes[8..16]);
    hash.copy_from_slice(&bytes[16..]);
    State {
        epoch: u64::from_be_bytes(epoch),
        seq: u64::from_be_bytes(seq),
        hash: Hash(hash),
    }
}
