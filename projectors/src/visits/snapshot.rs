//! The state of a fold as bytes, so that a restart does not read the whole log.
//!
//! Form (little-endian): the text of [`FOLD`](super::FOLD), which says what made it; the fold's numbers; then ids, marks
//! and sessions, each with their count before them. Any other beginning is not ours, and any length that does
//! not fit is an error: a snapshot is only ever a shortcut, so what cannot be read is left aside.

use uuid::Uuid;

use super::recent::{Marks, Recent};
use super::session::{Key, Open, Session, TEXTS, Texts};
use super::{FOLD, Fold};

/// Bytes that are no snapshot of this release's fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot of this release's fold of visits")]
pub struct NotASnapshot;

impl Fold {
    /// Everything that the fold remembers.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024 + 16 * self.recent.len() + 320 * self.open.len());
        text(&mut bytes, FOLD);
        for number in [u64::from(self.partition), self.next_offset, self.events] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.latest.to_le_bytes());
        count(&mut bytes, self.recent.len());
        self.recent
            .iter()
            .for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
        count(&mut bytes, self.marks.0.len());
        for (import, line) in &self.marks.0 {
            bytes.extend_from_slice(import.as_bytes());
            bytes.extend_from_slice(&line.to_le_bytes());
        }
        count(&mut bytes, self.open.len());
        self.open
            .iter()
            .for_each(|session| put_session(&mut bytes, session));
        bytes
    }

    /// The fold that a snapshot was taken of.
    ///
    /// # Errors
    /// Bytes that are something else.
    pub fn restore(bytes: &[u8]) -> Result<Self, NotASnapshot> {
        let mut from = Source(bytes);
        if from.text()? != FOLD {
            return Err(NotASnapshot);
        }
        let mut fold = Self::new(u32::try_from(from.u64()?).map_err(|_| NotASnapshot)?);
        fold.next_offset = from.u64()?;
        fold.events = from.u64()?;
        fold.latest = from.i64()?;
        let mut recent = Recent::default();
        for _ in 0..from.u64()? {
            recent.restore(u128::from_le_bytes(from.array()?));
        }
        let mut marks = Marks::default();
        for _ in 0..from.u64()? {
            marks.0.insert(from.uuid()?, from.u64()?);
        }
        let mut open = Open::default();
        for _ in 0..from.u64()? {
            open.restore(from.session()?);
        }
        (fold.recent, fold.marks, fold.open) = (recent, marks, open);
        if from.0.is_empty() {
            Ok(fold)
        } else {
            Err(NotASnapshot)
        }
    }
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&(count as u64).to_le_bytes());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_session(bytes: &mut Vec<u8>, session: &Session) {
    bytes.extend_from_slice(session.key.tenant.as_bytes());
    bytes.extend_from_slice(session.key.site.as_bytes());
    for number in [session.key.visitor, session.id, session.offset, session.touched] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let times = [
        session.opened,
        session.start,
        session.last,
        session.origin_at,
        session.entry_at,
        session.exit_at,
    ];
    times
        .iter()
        .for_each(|time| bytes.extend_from_slice(&time.to_le_bytes()));
    let counts = [session.pageviews, session.events, session.interactive];
    counts
        .iter()
        .chain(&session.texts.ends)
        .for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes.push(session.import.is_some().into());
    bytes.extend_from_slice(session.import.unwrap_or_default().as_bytes());
    text(bytes, &session.texts.all);
}

/// What is still to be read.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotASnapshot> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(NotASnapshot)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u64(&mut self) -> Result<u64, NotASnapshot> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, NotASnapshot> {
        self.array().map(i64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, NotASnapshot> {
        self.array().map(u32::from_le_bytes)
    }

    fn uuid(&mut self) -> Result<Uuid, NotASnapshot> {
        self.array().map(Uuid::from_bytes)
    }

    fn text(&mut self) -> Result<&'a str, NotASnapshot> {
        let length = usize::try_from(self.u64()?).map_err(|_| NotASnapshot)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(NotASnapshot)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| NotASnapshot)
    }

    fn session(&mut self) -> Result<Session, NotASnapshot> {
        let key = |tenant, site, visitor| Key {
            tenant,
            site,
            visitor,
        };
        let key = key(self.uuid()?, self.uuid()?, self.u64()?);
        let (id, offset, touched) = (self.u64()?, self.u64()?, self.u64()?);
        let (opened, start, last) = (self.i64()?, self.i64()?, self.i64()?);
        let (origin_at, entry_at, exit_at) = (self.i64()?, self.i64()?, self.i64()?);
        let (pageviews, events, interactive) = (self.u32()?, self.u32()?, self.u32()?);
        let mut ends = [0; TEXTS];
        for end in &mut ends {
            *end = self.u32()?;
        }
        let imported = self.array::<1>()? == [1];
        let import = Some(self.uuid()?).filter(|_| imported);
        let texts = Texts {
            all: self.text()?.into(),
            ends,
        };
        Ok(Session {
            key,
            id,
            opened,
            start,
            last,
            pageviews,
            events,
            interactive,
            origin_at,
            entry_at,
            exit_at,
            import,
            texts,
            offset,
            touched,
            dirty: false,
        })
    }
}
