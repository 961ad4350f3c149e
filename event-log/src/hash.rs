//! The chain: each admitted record's hash covers its predecessor's, its headers and its value.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::record::{HEADER_ORDER, Record, Slots};

/// SHA-256 of an admitted record and all before it; zeros before the genesis.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Hash(pub [u8; 32]);

/// The name of this construction in a genesis record.
pub const RECORD_HASH: &str = "sha256";

impl Hash {
    /// Reads 64 lower-case hex digits; any other text is none.
    pub fn from_hex(text: &str) -> Option<Self> {
        lower_hex(text.as_bytes()).map(Self)
    }

    /// The hash of a record that follows a record of this hash: SHA-256 over this hash, each known header
    /// but `annals-hash` in the order of [`HEADER_ORDER`] (u32 big-endian length and bytes of its name, then of
    /// its value), then u64 big-endian length and bytes of the record's value.
    pub fn then(self, record: &Record) -> Self {
        let slots = record.slots().unwrap_or_default();
        self.then_slots(&slots, &record.value)
    }

    pub(crate) fn then_slots(self, slots: &Slots<'_>, value: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        for (name, header) in HEADER_ORDER.iter().zip(slots.hashed()) {
            let Some(header) = header else { continue };
            hasher.update(length(name.len()));
            hasher.update(name.as_bytes());
            hasher.update(length(header.len()));
            hasher.update(header);
        }
        hasher.update((value.len() as u64).to_be_bytes());
        hasher.update(value);
        Self(hasher.finalize().into())
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Bytes of exactly `2 * N` lower-case hex digits. One value has one text, so that equal headers are equal bytes.
pub(crate) fn lower_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let lower = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}
