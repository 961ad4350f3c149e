//! A record as it stands in the log, and what its headers say. `schemas/LEDGER.md` is the norm.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    admission::Malformed,
    hash::{Hash, lower_hex},
};

/// Media type of commits and visits: a JSON array of CloudEvents.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// Media type of genesis and claims.
pub const JSON: &str = "application/json";

/// The headers that have a meaning, in the order in which they are hashed; `annals-hash` is the last and is
/// not hashed itself.
pub const HEADER_ORDER: [&str; 7] = [
    "content-type",
    "annals-kind",
    "annals-epoch",
    "annals-seq",
    "annals-tenant-seq",
    "annals-command",
    "annals-hash",
];

/// What a record is, by its `annals-kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first record of a partition.
    Genesis,
    /// A writer takes a partition over.
    Claim,
    /// All events of one command.
    Commit,
    /// Events of visits; nobody decided them.
    Visits,
}

impl Kind {
    /// The header's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::Claim => "claim",
            Self::Commit => "commit",
            Self::Visits => "visits",
        }
    }
}

/// A record as it is appended and as it is read, whoever wrote it: anything may stand in a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The tenant's id as text, of commits and visits; a hint for tools, never trusted.
    pub key: Option<Bytes>,
    /// Names and values, in the order of writing.
    pub headers: Headers,
    /// JSON, when it is ours.
    pub value: Bytes,
}

/// Headers in one block of memory: for each, u32 big-endian length and bytes of its name, then of its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Bytes);

impl Headers {
    /// Packs names and values.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut block = HeaderBlock::with_capacity(256);
        pairs.into_iter().for_each(|(name, value)| block.put(name, value));
        block.finish()
    }

    /// Names and values, in order. A block that was cut short ends early.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }

    /// The block itself, as the embedded adapter stores it.
    pub(crate) fn block(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn from_block(block: Bytes) -> Self {
        Self(block)
    }
}

/// Builds a [`Headers`] without an allocation for each.
pub(crate) struct HeaderBlock(BytesMut);

impl HeaderBlock {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    pub(crate) fn put(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, value] {
            self.0.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            self.0.put_slice(part);
        }
    }

    pub(crate) fn finish(self) -> Headers {
        Headers(self.0.freeze())
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

/// The values of the headers that have a meaning, by their place in [`HEADER_ORDER`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slots<'a>(pub(crate) [Option<&'a [u8]>; 7]);

impl<'a> Slots<'a> {
    /// All but the hash.
    pub(crate) fn hashed(&self) -> &[Option<&'a [u8]>] {
        &self.0[..6]
    }
}

/// What the headers of a well-formed record say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// `annals-kind: genesis`.
    Genesis,
    /// `annals-kind: claim`.
    Claim {
        /// The epoch that it claims.
        epoch: u64,
    },
    /// `annals-kind: commit`.
    Commit(CommitHeaders),
    /// `annals-kind: visits`.
    Visits,
}

/// The headers of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitHeaders {
    /// The writer's epoch, from 1.
    pub epoch: u64,
    /// Its place in the epoch, from 1.
    pub seq: u64,
    /// Its place among the tenant's commits, from 1.
    pub tenant_seq: u64,
    /// Which command made it.
    pub command: Option<CommandHashes>,
    /// Hash of the predecessor, these headers and the value.
    pub hash: Hash,
}

/// Keyed hashes of what the client sent, so that a retry is found again without keeping what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandHashes {
    /// Of the name of the command.
    pub name: CommandName,
    /// Of the request.
    pub request: [u8; 16],
}

/// Who named the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandName {
    /// The client, by an Idempotency-Key.
    Key([u8; 16]),
    /// The process that received it, by an id.
    Id([u8; 16]),
}

impl CommandHashes {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (label, name) = match &self.name {
            CommandName::Key(name) => ("key=", name),
            CommandName::Id(name) => ("id=", name),
        };
        out.extend_from_slice(label.as_bytes());
        write_hex(name, out);
        out.extend_from_slice(b";request=");
        write_hex(&self.request, out);
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (name, request) = text.split_at_checked(text.iter().position(|b| *b == b';')?)?;
        let name = match name.strip_prefix(b"key=") {
            Some(key) => CommandName::Key(lower_hex(key)?),
            None => CommandName::Id(lower_hex(name.strip_prefix(b"id=")?)?),
        };
        Some(Self {
            name,
            request: lower_hex(request.strip_prefix(b";request=")?)?,
        })
    }
}

pub(crate) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

impl Record {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(this, _)| *this == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Bytes of key, headers and value.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.0.len() + self.value.len()
    }

    pub(crate) fn slots(&self) -> Result<Slots<'_>, Malformed> {
        let mut slots = Slots::default();
        for (name, value) in self.headers.iter() {
            let Some(place) = HEADER_ORDER.iter().position(|known| known.as_bytes() == name) else {
                continue;
            };
            if slots.0[place].replace(value).is_some() {
                return Err(Malformed::Twice(HEADER_ORDER[place]));
            }
        }
        Ok(slots)
    }

    /// What the headers say. Headers of other names are passed over.
    ///
    /// # Errors
    /// A header is missing, twice, not in its one canonical form, or out of place for the kind.
    pub fn stated(&self) -> Result<Stated, Malformed> {
        self.slots()?.stated()
    }
}

impl Slots<'_> {
    pub(crate) fn stated(&self) -> Result<Stated, Malformed> {
        let [content_type, kind, epoch, seq, tenant_seq, command, hash] = self.0;
        let (kind, expected) = match kind.ok_or(Malformed::Missing("annals-kind"))? {
            b"genesis" => (Kind::Genesis, JSON),
            b"claim" => (Kind::Claim, JSON),
            b"commit" => (Kind::Commit, BATCH),
            b"visits" => (Kind::Visits, BATCH),
            other => return Err(Malformed::form("annals-kind", other)),
        };
        match content_type {
            Some(found) if found == expected.as_bytes() => {}
            Some(found) => return Err(Malformed::form("content-type", found)),
            None => return Err(Malformed::Missing("content-type")),
        }
        let only_in_commits = [
            ("annals-seq", seq),
            ("annals-tenant-seq", tenant_seq),
            ("annals-command", command),
            ("annals-hash", hash),
        ];
        let stated = match kind {
            Kind::Commit => {
                return Ok(Stated::Commit(CommitHeaders {
                    epoch: number("annals-epoch", epoch)?,
                    seq: number("annals-seq", seq)?,
                    tenant_seq: number("annals-tenant-seq", tenant_seq)?,
                    command: match command {
                        None => None,
                        Some(text) => Some(
                            CommandHashes::parse(text)
                                .ok_or_else(|| Malformed::form("annals-command", text))?,
                        ),
                    },
                    hash: {
                        let text = hash.ok_or(Malformed::Missing("annals-hash"))?;
                        lower_hex(text)
                            .map(Hash)
                            .ok_or_else(|| Malformed::form("annals-hash", text))?
                    },
                }));
            }
            Kind::Claim => Stated::Claim {
                epoch: number("annals-epoch", epoch)?,
            },
            Kind::Genesis => Stated::Genesis,
            Kind::Visits => Stated::Visits,
        };
        if matches!(kind, Kind::Genesis | Kind::Visits) && epoch.is_some() {
            return Err(Malformed::OutOfPlace("annals-epoch"));
        }
        match only_in_commits.iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(Malformed::OutOfPlace(name)),
            None => Ok(stated),
        }
    }
}

/// A decimal number from 1 to 2⁶⁴−1, without sign and leading zeros.
fn number(name: &'static str, text: Option<&[u8]>) -> Result<u64, Malformed> {
    let text = text.ok_or(Malformed::Missing(name))?;
    let canonical = matches!(text, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    canonical
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
        .ok_or_else(|| Malformed::form(name, text))
}
