//! API keys: `ann_<keyid>_<secret>`.
//!
//! The secret is 32 random characters of 62 (190 bits) and 6 that are the CRC-32 of `<keyid>_<those 32>`, so that
//! a scanner can tell a leaked key from other texts, and a mistyped one never costs a look-up. Only the SHA-256
//! of the secret is kept.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 12;
const RANDOM: usize = 32;
const CHECK: usize = 6;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// A key whose checksum fits. Its `Debug` form leaves the secret out; [`Key::reveal`] is the one way to it.
#[derive(Clone)]
pub struct Key {
    text: String,
    id: usize,
}

/// A text that is not a key of ours. It does not repeat the text: it may be someone's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Annals key: expected ann_<id>_<secret>, as it was given")]
pub struct InvalidKey;

/// SHA-256 of a key's secret. Compared in constant time.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl Key {
    /// A new random key.
    pub fn make() -> Self {
        Self::from_random(&rand::random())
    }

    /// The key that these bytes make, which nobody must be able to guess: two bytes for each character.
    pub fn from_random(bytes: &[u8; 2 * (ID + RANDOM)]) -> Self {
        let characters = bytes.chunks_exact(2).map(|two| {
            let number = usize::from(two[0]) << 8 | usize::from(two[1]);
            char::from(ALPHABET[number % ALPHABET.len()])
        });
        let (id, secret): (String, String) = (
            characters.clone().take(ID).collect(),
            characters.skip(ID).collect(),
        );
        let check = checksum(&id, &secret);
        Self {
            id: id.len(),
            text: format!("ann_{id}_{secret}{check}"),
        }
    }

    /// Its public half: 8 to 32 letters and digits.
    pub fn id(&self) -> &str {
        &self.text[4..4 + self.id]
    }

    /// The whole key, to be shown once to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is kept of the secret.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(&self.text.as_bytes()[4 + self.id + 1..]).into())
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (id, secret) = text
            .strip_prefix("ann_")
            .and_then(|rest| rest.split_once('_'))
            .ok_or(InvalidKey)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !(8..=32).contains(&id.len()) || secret.len() != RANDOM + CHECK || !plain(id) || !plain(secret) {
            return Err(InvalidKey);
        }
        let (random, check) = secret.split_at(RANDOM);
        if checksum(id, random) != check {
            return Err(InvalidKey);
        }
        Ok(Self {
            text: text.to_owned(),
            id: id.len(),
        })
    }
}

impl SecretHash {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(ann_{}_…)", self.id())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id() && self.hash() == other.hash()
    }
}

impl Eq for Key {}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for SecretHash {
    type Err = hex::FromHexError;

    /// From 64 hex digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// CRC-32 in base 62, the highest digit first.
fn checksum(id: &str, random: &str) -> String {
    let mut digest = CRC.digest();
    digest.update(id.as_bytes());
    digest.update(b"_");
    digest.update(random.as_bytes());
    let mut rest = digest.finalize() as usize;
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % 62];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_read_again_and_has_one_hash() {
        let key = Key::make();
        let again: Key = key.reveal().parse().unwrap();
        assert_eq!(again, key);
        assert_eq!(again.id().len(), 12);
        assert_eq!(
            again.hash().to_string().parse::<SecretHash>().unwrap(),
            key.hash()
        );
        assert_ne!(Key::make(), key);
    }

    #[test]
    fn what_is_mistyped_cut_or_foreign_is_no_key() {
        let key = Key::make();
        let text = key.reveal();
        let other_end = if text.ends_with('0') { "1" } else { "0" };
        for wrong in [
            "",
            "ann_",
            "ann__",
            "ghp_abcdefghijkl",
            &text[..text.len() - 1],
            &format!("{text}0"),
            &format!("{}{other_end}", &text[..text.len() - 1]),
            &text.replacen("ann_", "ann_x", 1),
            &text.replace("ann_", "ANN_"),
            &"ann_ööööööööö_".repeat(5),
        ] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_does_not_show_its_secret() {
        let key = Key::make();
        assert!(!format!("{key:?}").contains(&key.reveal()[20..]));
    }

    #[test]
    fn a_known_key_keeps_its_checksum() {
        // Scanners elsewhere compute this: it never changes.
        assert_eq!(checksum("abcdefgh", &"0".repeat(32)), "4DpteO");
    }
}
