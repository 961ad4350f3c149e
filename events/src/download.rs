//! A download in a tenant's queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sha256, Whole};

/// It waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queued {
    /// At most 300 characters.
    #[schemars(length(min = 1, max = 300))]
    pub title: String,
    /// http or https, without user or password, at most 2,048 characters.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// Of the work, as a catalogue has it; at most 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub author: Option<String>,
    /// Such as `epub`; at most 50 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub format: Option<String>,
    /// What the file must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// A lower number goes first; equal ones in the order of queueing.
    pub priority: i32,
}

/// Its place in the queue changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reprioritised {
    /// The new priority.
    pub priority: i32,
}

/// A worker took it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {}

/// The file is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Whole>,
    /// What the file hashes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// The worker gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// For people, at most 1,000 characters.
    #[schemars(length(max = 1000))]
    pub reason: String,
}

/// Nobody wants it any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancelled {}

/// It is back in the queue, behind its equals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retried {}
