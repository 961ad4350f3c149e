//! Topics, partitions, offsets: places in the log.

use std::fmt;

/// A place in a partition, from 0.
pub type Offset = u64;

/// What a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Tenants, sites, principals and keys: one partition, fenced.
    Directory,
    /// Commits of tenants' aggregates: fenced.
    Ledger,
    /// Page views and the like: not fenced, since nothing is decided on them.
    Visits,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Directory, Self::Ledger, Self::Visits];

    /// The name in the format: in genesis records, and on brokers unless another prefix is configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "annals.directory",
            Self::Ledger => "annals.ledger",
            Self::Visits => "annals.visits",
        }
    }

    /// The name without its prefix.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Ledger => "ledger",
            Self::Visits => "visits",
        }
    }

    /// Whether its partitions have one writer each, so that admission applies.
    pub const fn is_fenced(self) -> bool {
        matches!(self, Self::Directory | Self::Ledger)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl std::str::FromStr for Topic {
    type Err = InvalidPartition;

    fn from_str(text: &str) -> Result<Self, InvalidPartition> {
        Self::ALL
            .into_iter()
            .find(|topic| topic.short() == text || topic.name() == text)
            .ok_or_else(|| InvalidPartition(text.chars().take(64).collect()))
    }
}

/// One partition of one topic; as text `ledger/0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// Which of its partitions, from 0.
    pub index: u32,
}

impl Partition {
    /// The only partition of the directory.
    pub const DIRECTORY: Self = Self {
        topic: Topic::Directory,
        index: 0,
    };

    /// A partition of the ledger.
    pub const fn ledger(index: u32) -> Self {
        Self {
            topic: Topic::Ledger,
            index,
        }
    }

    /// A partition of the visits.
    pub const fn visits(index: u32) -> Self {
        Self {
            topic: Topic::Visits,
            index,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// A text that names no partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a partition: expected directory/0, ledger/N or visits/N")]
pub struct InvalidPartition(String);

impl std::str::FromStr for Partition {
    type Err = InvalidPartition;

    fn from_str(text: &str) -> Result<Self, InvalidPartition> {
        let invalid = || InvalidPartition(text.chars().take(64).collect());
        let (topic, index) = text.split_once('/').ok_or_else(invalid)?;
        Ok(Self {
            topic: topic.parse()?,
            index: index.parse().map_err(|_| invalid())?,
        })
    }
}
