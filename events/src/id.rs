//! Identities: newtypes with private fields, so that a site's id is never taken for a tenant's.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an identity of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: expected {expected}")]
pub struct InvalidId {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The identity that this UUID names.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID behind it, for columns and keys.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId {
                    kind: $kind,
                    expected: "a UUID",
                    text: text.chars().take(64).collect(),
                })
            }
        }
    )+};
}

uuid_ids! {
    /// Who owns data; in every key, so that one tenant never meets another's.
    TenantId = "tenant id",
    /// A site of a tenant; its domain is unique in the whole installation.
    SiteId = "site id",
    /// Who acts: a person or a program. Events name it, never its name.
    PrincipalId = "principal id",
    /// A piece of content.
    ContentId = "content id",
    /// A queued download.
    DownloadId = "download id",
    /// An import of visits from a file.
    ImportId = "import id",
    /// An event; `UUIDv7` unless a client or an idempotency key gave it.
    EventId = "event id",
    /// A command; the events that it caused name it as their cause.
    CommandId = "command id",
}

/// The public half of an API key: 8 to 32 letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The id as it stands in a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (8..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned())).ok_or_else(|| InvalidId {
            kind: "key id",
            expected: "8 to 32 letters and digits",
            text: text.chars().take(64).collect(),
        })
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for KeyId {
    fn schema_name() -> Cow<'static, str> {
        "KeyId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9A-Za-z]{8,32}$"})
    }
}

/// One visitor of one site on one day: 64 bits of a salted hash, 16 hex digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorId(u64);

impl VisitorId {
    /// The visitor that this hash names.
    pub const fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash, for columns and slots.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for VisitorId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for VisitorId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let hash = fits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        hash.map(Self).ok_or_else(|| InvalidId {
            kind: "visitor id",
            expected: "16 lower-case hex digits",
            text: text.chars().take(64).collect(),
        })
    }
}

impl<'de> Deserialize<'de> for VisitorId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::number::parsed(deserializer)
    }
}

impl JsonSchema for VisitorId {
    fn schema_name() -> Cow<'static, str> {
        "VisitorId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{16}$"})
    }
}
