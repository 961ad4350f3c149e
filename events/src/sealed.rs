//! Personal fields as they stand in the log: never in the clear.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A personal field, encrypted with a key of its subject that lives outside the log and can be destroyed.
/// Sealing and opening are the key store's business; the domain carries the sealed form and never looks inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Which key of the key store: a UUID.
    pub kid: uuid::Uuid,
    /// The AEAD, by its name: `xchacha20poly1305`.
    pub alg: String,
    /// Base64url without padding.
    pub nonce: String,
    /// Ciphertext and tag, base64url without padding.
    pub ct: String,
}
