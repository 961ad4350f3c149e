//! The log of the world, and the one history of it.

use std::{fmt, sync::Arc};

use super::Name;
use crate::{
    admission::State,
    genesis::{Genesis, LogId},
    partition::{Offset, Partition},
    record::Record,
};

/// A record, and what it says, as the world understands it by itself.
pub(super) struct Letter {
    pub(super) record: Record,
    pub(super) says: Says,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(super) enum Says {
    Genesis,
    Claim {
        by: Name,
        epoch: u64,
    },
    Commit {
        number: u8,
        epoch: u64,
        seq: u64,
        hash: [u8; 32],
    },
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.says.fmt(f)
    }
}

impl Letter {
    pub(super) fn new(by: Name, record: Record) -> Arc<Self> {
        let text = |header| std::str::from_utf8(record.header(header).expect("written")).expect("text");
        let number = |header| text(header).parse::<u64>().expect("a number");
        let says = match text("annals-kind") {
            "genesis" => Says::Genesis,
            "claim" => Says::Claim {
                by,
                epoch: number("annals-epoch"),
            },
            _ => Says::Commit {
                number: u8::try_from(number("annals-tenant-seq")).expect("few"),
                epoch: number("annals-epoch"),
                seq: number("annals-seq"),
                hash: crate::Hash::from_hex(text("annals-hash")).expect("a hash").0,
            },
        };
        Arc::new(Self { record, says })
    }

    pub(super) fn is_commit(&self) -> bool {
        matches!(self.says, Says::Commit { .. })
    }
}

/// The log, with its one history, as a reader derives it that knows the rule and not our code.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) letters: Vec<Arc<Letter>>,
    /// Before each offset, and at the end.
    pub(super) states: Vec<State>,
    /// Offset and number of each commit.
    pub(super) history: Vec<(Offset, u8)>,
    /// Of each epoch from 1 on.
    pub(super) owners: Vec<Name>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let genesis = Genesis::new(LogId(uuid::Uuid::nil()), Partition::ledger(0), 1).to_record();
        let hash = crate::Hash::default().then(&genesis);
        let begun = State {
            epoch: 0,
            seq: 0,
            hash,
        };
        Self {
            letters: vec![Letter::new((0, 0), genesis)],
            states: vec![State::default(), begun],
            history: Vec::new(),
            owners: Vec::new(),
        }
    }

    pub(super) fn end(&self) -> Offset {
        self.letters.len() as Offset
    }

    fn now(&self) -> State {
        self.states[self.letters.len()]
    }

    /// Whether this never can be history any more, whatever comes.
    pub(super) fn is_past(&self, says: &Says) -> bool {
        let now = self.now();
        match says {
            Says::Genesis => true,
            Says::Claim { epoch, .. } => *epoch <= now.epoch,
            Says::Commit { epoch, seq, .. } => *epoch < now.epoch || *epoch == now.epoch && *seq <= now.seq,
        }
    }

    /// Admitted commits before this offset.
    pub(super) fn before(&self, next: Offset) -> &[(Offset, u8)] {
        &self.history[..self.history.partition_point(|(offset, _)| *offset < next)]
    }

    pub(super) fn land(&mut self, letter: Arc<Letter>) {
        let (now, offset) = (self.now(), self.end());
        let follows = || now.hash.then(&letter.record);
        let after = match letter.says {
            Says::Claim { by, epoch } if epoch == now.epoch + 1 => {
                self.owners.push(by);
                State {
                    epoch,
                    seq: 0,
                    hash: follows(),
                }
            }
            Says::Commit {
                number,
                epoch,
                seq,
                hash,
            } if epoch == now.epoch && seq == now.seq + 1 && hash == follows().0 => {
                self.history.push((offset, number));
                State {
                    epoch,
                    seq,
                    hash: crate::Hash(hash),
                }
            }
            Says::Genesis | Says::Claim { .. } | Says::Commit { .. } => now,
        };
        self.letters.push(letter);
        self.states.push(after);
    }
}
