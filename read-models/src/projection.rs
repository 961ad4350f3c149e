//! What is folded from what: the projections, their names, and the topic that each follows.

use std::{fmt, str::FromStr};

/// A topic of the log, without its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Tenants, sites, principals, keys.
    Directory,
    /// Commits of tenants' aggregates.
    Ledger,
    /// Page views and other events of visitors.
    Visits,
}

/// A read model: tables that are the fold of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Who and what exists. PostgreSQL.
    Directory,
    /// What is published, and how it came about. PostgreSQL.
    Content,
    /// Download queues. PostgreSQL.
    Downloads,
    /// Visits and sessions. ClickHouse.
    Visits,
    /// The few facts about content that statistics need. ClickHouse.
    ContentFacts,
}

/// A name that is no topic or projection of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no topic or projection of this release")]
pub struct UnknownName(String);

impl Topic {
    /// As it stands in checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Ledger => "ledger",
            Self::Visits => "visits",
        }
    }
}

impl Projection {
    /// Every projection, in the order in which people read about them.
    pub const ALL: [Self; 5] = [
        Self::Directory,
        Self::Content,
        Self::Downloads,
        Self::Visits,
        Self::ContentFacts,
    ];

    /// As it stands in checkpoints, schemas and databases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Content => "content",
            Self::Downloads => "downloads",
            Self::Visits => "visits",
            Self::ContentFacts => "content_facts",
        }
    }

    /// What it is folded from.
    pub const fn topic(self) -> Topic {
        match self {
            Self::Directory => Topic::Directory,
            Self::Content | Self::Downloads | Self::ContentFacts => Topic::Ledger,
            Self::Visits => Topic::Visits,
        }
    }

    /// The PostgreSQL schema, or the ClickHouse database, of one of its generations.
    pub fn schema(self, generation: i32) -> String {
        format!("{}_{generation}", self.name())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Topic {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Self::Directory, Self::Ledger, Self::Visits]
            .into_iter()
            .find(|topic| topic.name() == text)
            .ok_or_else(|| UnknownName(text.chars().take(64).collect()))
    }
}

impl FromStr for Projection {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|projection| projection.name() == text)
            .ok_or_else(|| UnknownName(text.chars().take(64).collect()))
    }
}
