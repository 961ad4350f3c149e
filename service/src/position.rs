//! A place in the log that a client carries from an answer to its next question.
//!
//! `Annals-Position` of a command says where its commit is; a query that carries it is answered from a read
//! model that has it. The text is opaque: base64url without padding of version (1), log id (16 bytes), then
//! for each partition a topic letter, the partition and the next offset (LEB128 both), then, when there is one, the
//! letter `n`, the length and the bytes of a note, then the CRC-16/XMODEM of all before it, so that a cut or mistyped
//! text is refused instead of waited for.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::Problem;

/// The header that carries a position, in both directions.
pub const HEADER: HeaderName = HeaderName::from_static("annals-position");

/// More text than this is no position of ours.
const MAX_TEXT: usize = 8 * 1024;
/// More partitions than this are in no log of ours.
const MAX_PARTS: usize = 1024;
/// No note of ours has more bytes.
const MAX_NOTE: usize = 128;
const NOTE: u8 = b'n';
const VERSION: u8 = 1;
const CHECK: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// Which topic a part of a position is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Tenants, sites, principals, keys.
    Directory,
    /// Commits of a tenant's aggregates.
    Ledger,
    /// Page views, engagement, custom events.
    Visits,
}

impl Topic {
    const fn letter(self) -> u8 {
        match self {
            Self::Directory => b'd',
            Self::Ledger => b'l',
            Self::Visits => b'v',
        }
    }

    const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'd' => Some(Self::Directory),
            b'l' => Some(Self::Ledger),
            b'v' => Some(Self::Visits),
            _ => None,
        }
    }

    /// `directory`, `ledger` or `visits`, as in the log's own names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Ledger => "ledger",
            Self::Visits => "visits",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Directory, Self::Ledger, Self::Visits]
            .into_iter()
            .find(|topic| topic.name() == name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in one log: for some of its partitions the offset up to which, exclusively, everything is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    log: Uuid,
    parts: BTreeMap<(Topic, u32), u64>,
    note: Vec<u8>,
}

/// Why a text is no position that we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPosition {
    /// Cut, mistyped or made up.
    #[error("the position cannot be read; pass on an Annals-Position as it was given")]
    Unreadable,
    /// More text or partitions than any log of ours has.
    #[error("the position is too long: at most {MAX_TEXT} characters and {MAX_PARTS} partitions")]
    TooLong,
    /// Positions of several logs are joined, or it is of a log other than ours.
    #[error("the position is of another log")]
    OtherLog,
    /// The log has no such offset or partition.
    #[error("the position is beyond the end of the log; pass on an Annals-Position as it was given")]
    BeyondEnd,
}

impl From<InvalidPosition> for Problem {
    fn from(error: InvalidPosition) -> Self {
        Self::new(http::StatusCode::BAD_REQUEST, "position", error.to_string())
    }
}

impl Position {
    /// The beginning of this log.
    pub const fn new(log: Uuid) -> Self {
        Self {
            log,
            parts: BTreeMap::new(),
            note: Vec::new(),
        }
    }

    /// This position and also everything of the partition before `next`.
    #[must_use]
    pub fn at(mut self, topic: Topic, partition: u32, next: u64) -> Self {
        self.include(topic, partition, next);
        self
    }

    /// This position with a note of whoever gives it out, for its like who gets it back: at most 128 bytes, which
    /// mean nothing to anybody else and are lost when the position is joined with others or moved.
    #[must_use]
    pub fn with_note(mut self, note: Vec<u8>) -> Self {
        debug_assert!(note.len() <= MAX_NOTE);
        self.note = note;
        self
    }

    /// The note; empty when there is none.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Means also everything of the partition before `next`.
    pub fn include(&mut self, topic: Topic, partition: u32, next: u64) {
        self.note.clear();
        let known = self.parts.entry((topic, partition)).or_default();
        *known = next.max(*known);
    }

    /// Which log it is of.
    pub const fn log(&self) -> Uuid {
        self.log
    }

    /// Whether it means nothing but the log's beginning.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Topic, partition and next offset of each part, in order.
    pub fn parts(&self) -> impl Iterator<Item = (Topic, u32, u64)> {
        self.parts
            .iter()
            .map(|((topic, partition), next)| (*topic, *partition, *next))
    }

    /// The next offset of a partition, when it is part of this position.
    pub fn get(&self, topic: Topic, partition: u32) -> Option<u64> {
        self.parts.get(&(topic, partition)).copied()
    }

    /// Means also what `other` means.
    ///
    /// # Errors
    /// The other position is of another log.
    pub fn merge(&mut self, other: &Self) -> Result<(), InvalidPosition> {
        if self.log != other.log {
            return Err(InvalidPosition::OtherLog);
        }
        self.note.clear();
        for (topic, partition, next) in other.parts() {
            self.include(topic, partition, next);
        }
        Ok(())
    }

    /// Whether whoever is here has everything that `other` means.
    pub fn covers(&self, other: &Self) -> bool {
        self.log == other.log
            && other
                .parts()
                .all(|(topic, partition, next)| self.get(topic, partition).unwrap_or(0) >= next)
    }

    /// The position of a request's headers, if it has one: several headers and several positions joined with
    /// commas are one position.
    ///
    /// # Errors
    /// Any of them is none of ours; they are of several logs.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, InvalidPosition> {
        let mut joined: Option<Self> = None;
        for value in headers.get_all(HEADER) {
            let position: Self = value.to_str().map_err(|_| InvalidPosition::Unreadable)?.parse()?;
            match &mut joined {
                None => joined = Some(position),
                Some(joined) => joined.merge(&position)?,
            }
        }
        Ok(joined)
    }

    /// As a header's value.
    pub fn to_header(&self) -> HeaderValue {
        // Base64url is always a header's value; the empty one is never written.
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn from_one(text: &str) -> Result<Self, InvalidPosition> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| InvalidPosition::Unreadable)?;
        let (content, check) = bytes.split_last_chunk::<2>().ok_or(InvalidPosition::Unreadable)?;
        if CHECK.checksum(content) != u16::from_be_bytes(*check) {
            return Err(InvalidPosition::Unreadable);
        }
        let (head, mut rest) = content
            .split_first_chunk::<17>()
            .ok_or(InvalidPosition::Unreadable)?;
        if head[0] != VERSION {
            return Err(InvalidPosition::Unreadable);
        }
        let log = Uuid::from_slice(&head[1..]).map_err(|_| InvalidPosition::Unreadable)?;
        let mut position = Self::new(log);
        while let Some((letter, after)) = rest.split_first() {
            if *letter == NOTE {
                let (length, note) = leb128(after).ok_or(InvalidPosition::Unreadable)?;
                if note.is_empty() || note.len() > MAX_NOTE || note.len() as u64 != length {
                    return Err(InvalidPosition::Unreadable);
                }
                return Ok(position.with_note(note.to_vec()));
            }
            let topic = Topic::from_letter(*letter).ok_or(InvalidPosition::Unreadable)?;
            let (partition, after) = leb128(after).ok_or(InvalidPosition::Unreadable)?;
            let (next, after) = leb128(after).ok_or(InvalidPosition::Unreadable)?;
            let partition = u32::try_from(partition).map_err(|_| InvalidPosition::Unreadable)?;
            position.include(topic, partition, next);
            rest = after;
        }
        Ok(position)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    /// One position, or several joined with commas.
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text.len() > MAX_TEXT {
            return Err(InvalidPosition::TooLong);
        }
        let mut several = text.split(',').map(str::trim);
        let mut joined = Self::from_one(several.next().unwrap_or_default())?;
        for one in several {
            joined.merge(&Self::from_one(one)?)?;
        }
        if joined.parts.len() > MAX_PARTS {
            return Err(InvalidPosition::TooLong);
        }
        Ok(joined)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.log.as_bytes());
        for (topic, partition, next) in self.parts() {
            bytes.push(topic.letter());
            push_leb128(&mut bytes, u64::from(partition));
            push_leb128(&mut bytes, next);
        }
        if !self.note.is_empty() {
            bytes.push(NOTE);
            push_leb128(&mut bytes, self.note.len() as u64);
            bytes.extend_from_slice(&self.note);
        }
        let check = CHECK.checksum(&bytes);
        bytes.extend_from_slice(&check.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn push_leb128(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn positions() -> impl Strategy<Value = Position> {
        let topic = prop_oneof![Just(Topic::Directory), Just(Topic::Ledger), Just(Topic::Visits)];
        let parts = proptest::collection::vec((topic, any::<u32>(), any::<u64>()), 0..8);
        let note = proptest::collection::vec(any::<u8>(), 0..=MAX_NOTE);
        (parts, note).prop_map(|(parts, note)| {
            let mut position = Position::new(Uuid::from_u128(7));
            parts
                .into_iter()
                .for_each(|(topic, partition, next)| position.include(topic, partition, next));
            position.with_note(note)
        })
    }

    proptest! {
        #[test]
        fn a_position_comes_back_from_its_text(position in positions()) {
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn joined_positions_cover_each_of_them(a in positions(), b in positions()) {
            let joined: Position = format!("{a}, {b}").parse().unwrap();
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            prop_assert!(joined.note().is_empty(), "it was about one of them");
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,64}") {
            let _ = text.parse::<Position>();
        }

        #[test]
        fn a_changed_character_is_noticed(position in positions(), at in any::<prop::sample::Index>()) {
            let mut text = position.to_string().into_bytes();
            let at = at.index(text.len());
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            prop_assert!(String::from_utf8(text).unwrap().parse::<Position>().is_err());
        }
    }

    #[test]
    fn positions_of_two_logs_cannot_be_joined() {
        let (a, b) = (
            Position::new(Uuid::from_u128(1)),
            Position::new(Uuid::from_u128(2)),
        );
        assert_eq!(
            format!("{a},{b}").parse::<Position>(),
            Err(InvalidPosition::OtherLog)
        );
        assert!(!a.covers(&b));
        assert_eq!(
            "x".repeat(9000).parse::<Position>(),
            Err(InvalidPosition::TooLong)
        );
        assert_eq!("".parse::<Position>(), Err(InvalidPosition::Unreadable));
    }
}
