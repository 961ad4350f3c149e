//! What a key may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Invalid;

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

/// What a key may do: a set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether a key with these may do what needs `scope`: `admin` may do everything within its tenant.
    pub const fn allow(self, scope: Scope) -> bool {
        let admin = match scope {
            Scope::Operator => false,
            Scope::ContentWrite | Scope::DownloadsWrite | Scope::VisitsWrite | Scope::Read | Scope::Admin => {
                self.0 & bit(Scope::Admin) != 0
            }
        };
        admin || self.0 & bit(scope) != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of their definition.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.0 & bit(*scope) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

const fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

impl Scope {
    /// All that exist.
    pub const ALL: [Self; 6] = [
        Self::ContentWrite,
        Self::DownloadsWrite,
        Self::VisitsWrite,
        Self::Read,
        Self::Admin,
        Self::Operator,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ContentWrite => "content:write",
            Self::DownloadsWrite => "downloads:write",
            Self::VisitsWrite => "visits:write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or_else(|| {
                Invalid::new(format!(
                    "a scope is one of {}",
                    Self::ALL.map(Self::name).join(", ")
                ))
            })
    }
}
