//! The directory: tenants, sites, principals and their keys. One order for the whole installation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{KeyId, PrincipalId, Sealed, Sha256};

/// A tenant exists from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantCreated {
    /// As operators call it; unique in the installation, so that `--tenant NAME` finds it;
    /// 1 to 100 characters.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
}

/// A site exists from now on, and its domain is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteCreated {
    /// Lower case, without `www.` added or removed, in ASCII (punycode); at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub domain: String,
    /// As people call it; at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub name: Option<String>,
    /// IANA name, such as `Europe/Berlin`; days of its statistics are days there.
    pub timezone: String,
}

/// Someone or something that acts exists from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalCreated {
    /// What people call it, sealed: it may be a person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
}

/// What a key may do. Within its tenant, but for `operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// Draft, revise, publish, archive.
    #[serde(rename = "content:write")]
    ContentWrite,
    /// Queue, order, cancel.
    #[serde(rename = "downloads:write")]
    DownloadsWrite,
    /// Record visits in batches; import them.
    #[serde(rename = "visits:write")]
    VisitsWrite,
    /// Every query of the tenant.
    #[serde(rename = "read")]
    Read,
    /// Sites and keys of the tenant, and everything above.
    #[serde(rename = "admin")]
    Admin,
    /// Above tenants: makes them, sees projections and the log.
    #[serde(rename = "operator")]
    Operator,
}

/// A key was made for a principal. Its secret was shown once and is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyIssued {
    /// Its public half; also the subject of this event.
    pub key: KeyId,
    /// For whom.
    pub principal: PrincipalId,
    /// SHA-256 of the secret. The secret has 190 random bits, so a fast hash is enough.
    pub secret_hash: Sha256,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A key does nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoked {
    /// Which.
    pub key: KeyId,
}
