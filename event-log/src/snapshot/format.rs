//! The bytes of a snapshot, in pieces, so that neither who writes nor who reads holds all of it.
//!
//! `annals 1\n`, then pieces: u32 little-endian bytes as they follow, u32 bytes unpacked, an LZ4 block. The first piece
//! is the head, as JSON; the others are rows: u32 length of the key, the key, u32 length of the value, the value, in
//! the order of their keys. A piece of no bytes ends it; then a u64 counts the rows, and SHA-256 of everything before
//! are the last 32 bytes.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::Head;
use crate::state_store::{Row, StateError};

const MAGIC: &[u8; 9] = b"annals 1\n";
/// Unpacked bytes after which a piece is complete.
const PIECE: usize = 256 * 1024;
/// Unpacked bytes that a reader takes for a piece: one row may be longer than a piece, but not so long.
const MOST: usize = 16 * 1024 * 1024;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 32;

/// Gives the bytes of a snapshot, piece by piece, to who takes them, and how many rows there were.
///
/// # Errors
/// A row cannot be read, or whoever takes the bytes wants no more.
pub(super) fn write<E: From<StateError>>(
    head: &Head,
    rows: impl Iterator<Item = Result<Row, StateError>>,
    mut take: impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut hasher = Sha256::new();
    let mut give = |bytes: Vec<u8>| {
        hasher.update(&bytes);
        take(bytes)
    };
    let mut first = MAGIC.to_vec();
    let head = serde_json::to_vec(head).map_err(StateError::damaged)?;
    first.extend(packed(&head));
    give(first)?;
    let mut count: u64 = 0;
    let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
    for row in rows {
        let (key, value) = row?;
        for part in [&key, &value] {
            piece.extend(length(part.len()));
            piece.extend_from_slice(part);
        }
        count += 1;
        if piece.len() >= PIECE {
            give(packed(&piece))?;
            piece.clear();
        }
    }
    if !piece.is_empty() {
        give(packed(&piece))?;
    }
    let mut last = [0; 8].to_vec();
    last.extend(count.to_le_bytes());
    give(last)?;
    take(hasher.finalize().to_vec())?;
    Ok(count)
}

fn packed(piece: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(piece);
    let mut bytes = Vec::with_capacity(block.len() + 8);
    bytes.extend(length(block.len()));
    bytes.extend(length(piece.len()));
    bytes.extend(block);
    bytes
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Sees to it that what comes in pieces ends with the checksum of what came before.
pub(super) struct Checked {
    hasher: Sha256,
    /// The last bytes that came: perhaps the checksum.
    last: Vec<u8>,
}

impl Checked {
    pub(super) fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            last: Vec::with_capacity(CHECKSUM),
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        let before = (self.last.len() + bytes.len()).saturating_sub(CHECKSUM);
        let of_last = before.min(self.last.len());
        self.hasher.update(&self.last[..of_last]);
        self.last.drain(..of_last);
        let (old, new) = bytes.split_at(before - of_last);
        self.hasher.update(old);
        self.last.extend_from_slice(new);
    }

    pub(super) fn fits(self) -> bool {
        self.hasher.finalize()[..] == self.last[..]
    }
}

/// The rows of a snapshot whose checksum fits, one piece in memory at a time.
pub(super) struct Rows<R> {
    from: R,
    piece: Vec<u8>,
    /// How far it was read.
    at: usize,
    last: Vec<u8>,
    count: u64,
    ended: bool,
}

/// Opens a snapshot: its head, and then its rows.
///
/// # Errors
/// It is none.
pub(super) fn read<R: Read>(mut from: R) -> io::Result<(Head, Rows<R>)> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it begins as no snapshot of this release does"));
    }
    let head = piece(&mut from)?.ok_or_else(|| damaged("no head"))?;
    let head = serde_json::from_slice(&head).map_err(|error| damaged(&format!("its head: {error}")))?;
    let rows = Rows {
        from,
        piece: Vec::new(),
        at: 0,
        last: Vec::new(),
        count: 0,
        ended: false,
    };
    Ok((head, rows))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn number(from: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

/// The next piece, unpacked; none after the last.
fn piece(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let (packed, unpacked) = (number(from)?, number(from)?);
    if packed == 0 {
        return Ok(None);
    }
    if packed > MOST || unpacked > MOST {
        return Err(damaged("a piece is too long"));
    }
    let mut block = vec![0; packed];
    from.read_exact(&mut block)?;
    let piece = lz4_flex::block::decompress(&block, unpacked);
    piece.map(Some).map_err(|error| damaged(&error.to_string()))
}

impl<R: Read> Rows<R> {
    fn row(&mut self) -> io::Result<Option<Row>> {
        while self.at == self.piece.len() {
            let Some(piece) = piece(&mut self.from)? else {
                let mut count = [0; 8];
                self.from.read_exact(&mut count)?;
                if u64::from_le_bytes(count) != self.count {
                    return Err(damaged("it has another number of rows than it says"));
                }
                return Ok(None);
            };
            (self.piece, self.at) = (piece, 0);
        }
        let (key, value) = (self.part()?, self.part()?);
        if self.count > 0 && key <= self.last {
            return Err(damaged("its rows are not in order"));
        }
        self.last.clone_from(&key);
        self.count += 1;
        Ok(Some((key, value)))
    }

    fn part(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = &self.piece[self.at..];
        let length = number(&mut rest)?;
        let part = rest.get(..length).ok_or_else(|| damaged("a row is cut off"))?;
        self.at += 4 + length;
        Ok(part.to_vec())
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<io::Result<Row>> {
        if self.ended {
            return None;
        }
        let row = self.row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}
