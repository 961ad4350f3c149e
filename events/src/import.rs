//! An import of visits from a file: known by the fingerprint of its source, so that no file is taken twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sha256, SiteId, Whole};

/// The first lines are about to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Whose visits they are.
    pub site: SiteId,
    /// Where they come from, for people: such as the file's name.
    #[schemars(length(max = 300))]
    pub source: String,
    /// What makes the source the same: the hash of its content. Unique within the site.
    pub fingerprint: Sha256,
}

/// Every line before `next` is in the log, or was told to be dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advanced {
    /// The first line that the log may not have, from 0.
    pub next: Whole,
}

/// Every line is in the log; the import's salt is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completed {}
