//! How a secret is held in memory and wrapped for the tables.

use std::{fmt, str::FromStr};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::{Zeroize, Zeroizing};

/// The installation's master key: 32 bytes, 64 hex digits in the configuration. Wraps every other secret.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// A text that is no master key. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 64 hex digits (32 random bytes)")]
pub struct InvalidMasterKey;

/// A secret that does not open: another key, or bytes that were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unopened;

const NONCE: usize = 24;

impl FromStr for MasterKey {
    type Err = InvalidMasterKey;

    fn from_str(text: &str) -> Result<Self, InvalidMasterKey> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut key[..]).map_err(|_| InvalidMasterKey)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// The stored form of a secret: nonce, ciphertext, tag. `purpose` must be the same when it is opened,
    /// so that a row cannot stand in for another.
    pub(crate) fn wrap(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let (nonce, ciphertext) = encrypt(&self.0, purpose.as_bytes(), secret);
        [&nonce[..], &ciphertext].concat()
    }

    pub(crate) fn unwrap<const N: usize>(
        &self,
        purpose: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; N]>, Unopened> {
        let (nonce, ciphertext) = wrapped.split_first_chunk::<NONCE>().ok_or(Unopened)?;
        let secret = decrypt(&self.0, purpose.as_bytes(), nonce, ciphertext)?;
        let secret: &[u8; N] = secret.as_slice().try_into().map_err(|_| Unopened)?;
        Ok(Zeroizing::new(*secret))
    }
}

/// A random nonce and the ciphertext with its tag. 24 random bytes do not repeat within one key's life.
pub(crate) fn encrypt(key: &[u8; 32], associated: &[u8], plain: &[u8]) -> ([u8; NONCE], Vec<u8>) {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload {
        msg: plain,
        aad: associated,
    };
    // Fails only for messages of 256 GiB and more.
    let ciphertext = cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
    (nonce, ciphertext)
}

pub(crate) fn decrypt(
    key: &[u8; 32],
    associated: &[u8],
    nonce: &[u8; NONCE],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload {
        msg: ciphertext,
        aad: associated,
    };
    cipher
        .decrypt(&XNonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| Unopened)
}

/// A new random secret.
pub(crate) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    let secret = Zeroizing::new(bytes);
    bytes.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> MasterKey {
        digit.repeat(64).parse().unwrap()
    }

    #[test]
    fn a_wrapped_secret_opens_with_its_key_and_purpose_only() {
        let secret = random::<32>();
        let wrapped = key("a").wrap("day:2026-11-21", &secret[..]);
        assert_eq!(key("a").unwrap::<32>("day:2026-11-21", &wrapped).unwrap(), secret);
        assert!(key("b").unwrap::<32>("day:2026-11-21", &wrapped).is_err());
        assert!(key("a").unwrap::<32>("day:2026-11-22", &wrapped).is_err());
        assert!(key("a").unwrap::<16>("day:2026-11-21", &wrapped).is_err());
        for place in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[place] ^= 1;
            assert!(
                key("a").unwrap::<32>("day:2026-11-21", &changed).is_err(),
                "byte {place}"
            );
            assert!(
                key("a")
                    .unwrap::<32>("day:2026-11-21", &wrapped[..place])
                    .is_err(),
                "cut at {place}"
            );
        }
    }

    #[test]
    fn a_master_key_is_64_hex_digits_and_is_never_shown() {
        for refused in ["", "aa", &"a".repeat(63), &"a".repeat(66), &"g".repeat(64)] {
            assert!(refused.parse::<MasterKey>().is_err(), "{refused:?}");
        }
        assert!(!format!("{:?}", key("a")).contains("aa"));
    }
}
