//! What a writer wants done.

use std::fmt;

use crate::{
    admission::Why,
    partition::Offset,
    record::{CommitHeaders, Record},
};

/// Something to do, in the order in which it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<T> {
    /// Append a claim of this epoch; report it with `appended`.
    AppendClaim {
        /// Names the append in the report.
        id: u64,
        /// The epoch to claim.
        epoch: u64,
    },
    /// Append this commit, after all that was to be appended before; report it with `appended`.
    AppendCommit {
        /// Names the append in the report.
        id: u64,
        /// The record.
        record: Record,
    },
    /// Ask the log for the partition's end, now; report it with `ended`.
    ReadEnd {
        /// Names the question in the report.
        query: u64,
        /// How often it failed in a row: wait longer each time.
        attempt: u32,
    },
    /// Read these records and feed them to `read`. A further one only moves the end.
    ReadTo {
        /// The next offset to fold.
        from: Offset,
        /// The first that is not wanted.
        to: Offset,
    },
    /// Fold this admitted commit into the decision state; nothing is speculated at this point.
    Apply {
        /// Where it stands.
        offset: Offset,
        /// Its headers.
        commit: CommitHeaders,
        /// All of it.
        record: Record,
    },
    /// Bring the decision state back to admitted history before this offset.
    Forget {
        /// The next offset after admitted history.
        next: Offset,
    },
    /// This commit is in history: answer.
    Acknowledge {
        /// Who waits.
        ticket: T,
        /// Where it stands.
        offset: Offset,
    },
    /// This answer appends nothing and may be given.
    Answer {
        /// Who waits.
        ticket: T,
        /// The next offset after all that it rests on.
        next: Offset,
    },
    /// Decide this again: what it was decided on, or itself, did not come into history.
    Redecide {
        /// Who waits.
        ticket: T,
    },
    /// Tell that this is not the owner (any more).
    Refuse {
        /// Who waits.
        ticket: T,
        /// Whether the commit may be in history all the same.
        unknown: bool,
    },
    /// The partition is served from here on.
    Serving {
        /// In this epoch.
        epoch: u64,
    },
    /// Appending stopped until a new claim is read.
    Recovering {
        /// Because of this.
        why: String,
    },
    /// The partition is not served by this process any more.
    SteppedDown {
        /// Because of this.
        down: Down,
    },
    /// A record was found void: log it with its partition and offset.
    Void {
        /// Where it stands.
        offset: Offset,
        /// Why it means nothing.
        why: Why,
    },
}

/// Why a process is not the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// Another writer claimed a higher epoch.
    HigherEpoch {
        /// That epoch.
        epoch: u64,
        /// Its owner, where the claim says it.
        owner: Option<String>,
    },
    /// Another writer's claim came before its own.
    ClaimVoid {
        /// The epoch that holds.
        epoch: u64,
        /// Its owner, where the claim says it.
        owner: Option<String>,
    },
    /// The log ends before what was already read from it.
    Truncated {
        /// The next offset after what was read.
        next: Offset,
        /// Where the log says that it ends.
        end: Offset,
    },
    /// A commit that this release cannot read.
    Unreadable(String),
    /// What is decided cannot be kept.
    Unkept(String),
    /// A record that no writer makes where it stands ([`Why::is_damage`]).
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        why: Why,
    },
    /// It was told to give the partition up.
    Released,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = |owner: &Option<String>| {
            owner
                .clone()
                .unwrap_or_else(|| "a writer without a name".to_owned())
        };
        match self {
            Self::HigherEpoch { epoch, owner: by } => write!(f, "{} took over with epoch {epoch}", owner(by)),
            Self::ClaimVoid { epoch, owner: by } => {
                write!(f, "{} was first to claim epoch {epoch}", owner(by))
            }
            Self::Truncated { next, end } => write!(
                f,
                "the log ends at {end}, but was read up to {next}: it lost records"
            ),
            Self::Unreadable(what) | Self::Unkept(what) => f.write_str(what),
            Self::Damaged { offset, why } => write!(
                f,
                "at offset {offset} history is damaged ({why}): somebody changed the log, or it lost records. Nothing is \
                 written on top of that. Look at it with `annals log verify` and restore the partition; to go on \
                 with what stands there, name it in ANNALS_ACCEPT_DAMAGE"
            ),
            Self::Released => f.write_str("this process is ending"),
        }
    }
}
