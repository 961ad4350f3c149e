//! The rows of a partition in three layers: what the disk has, what is admitted and not yet on the disk, and what
//! is decided and not yet admitted. Whoever decides sees the topmost; whoever asks how things stand sees what is
//! admitted. Memory is bounded: the second layer is written out when it is full, the third is as large as the log
//! lets appends be under way, and rows of the disk that are used often are kept up to a limit.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
};

use event_log::{StateError, StateStore, state_store::Standing};
use quick_cache::{Weighter, unsync::Cache};

use super::row::{Key, Row};

/// Admitted rows in memory before they are written to the disk.
const FULL: usize = 1_024;
/// Admitted rows that are kept in memory when the disk does not take them.
const OVERFULL: usize = 16 * FULL;
/// Expired keys that are looked for at a time, for each row that is written.
const EXPIRED_PER_ROW: usize = 2;

/// The rows of a partition.
pub struct Layers {
    store: StateStore,
    /// Rows of the store that were used lately, and what was looked for and is not there: whoever decides on something
    /// new asks for it twice.
    recent: RefCell<Cache<Key, Option<Row>, Size>>,
    admitted: HashMap<Key, Option<Row>>,
    decided: HashMap<Key, (u64, Option<Row>)>,
    /// What each commit under way brings, the oldest first.
    under_way: VecDeque<Vec<(Key, Option<Row>)>>,
    /// The number of the commit that is admitted next; under way are it and those that follow.
    next: u64,
    /// The first thing that went wrong with the disk while nobody could be told.
    failed: RefCell<Option<StateError>>,
}

/// Which rows are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Those of admitted history.
    Admitted,
    /// Those that will be, when everything under way is admitted.
    Decided,
}

#[derive(Clone)]
struct Size;

impl Weighter<Key, Option<Row>> for Size {
    fn weight(&self, key: &Key, row: &Option<Row>) -> u64 {
        let text = match (key, row) {
            (Key::Slug(.., slug), _) => slug.as_str().len(),
            (_, Some(Row::Content(content))) => content.piece().map_or(0, |piece| piece.slug.as_str().len()),
            (_, _) => 0,
        };
        (size_of::<Key>() + size_of::<Option<Row>>() + text + 64) as u64
    }
}

impl Layers {
    /// Over a store, with so many bytes for rows that are used often.
    pub fn new(store: StateStore, recent_bytes: u64) -> Self {
        let rows = usize::try_from(recent_bytes / 400).unwrap_or(usize::MAX).max(16);
        Self {
            store,
            recent: RefCell::new(Cache::with_weighter(rows, recent_bytes, Size)),
            admitted: HashMap::new(),
            decided: HashMap::new(),
            under_way: VecDeque::new(),
            next: 0,
            failed: RefCell::new(None),
        }
    }

    /// The row of this key. When the disk fails it is none, and [`Self::check`] tells.
    pub fn get(&self, key: &Key, seen: Seen) -> Option<Row> {
        if seen == Seen::Decided
            && let Some((_, row)) = self.decided.get(key)
        {
            return row.clone();
        }
        if let Some(row) = self.admitted.get(key) {
            return row.clone();
        }
        if let Some(row) = self.recent.borrow().get(key) {
            return row.clone();
        }
        match self.read(key) {
            Ok(row) => {
                self.recent.borrow_mut().insert(key.clone(), row.clone());
                row
            }
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn read(&self, key: &Key) -> Result<Option<Row>, StateError> {
        let bytes = self.store.get(&key.bytes())?;
        bytes
            .map(|bytes| Row::read(bytes.as_ref()).map_err(StateError::damaged))
            .transpose()
    }

    /// Whether every row since the last time could be read.
    ///
    /// # Errors
    /// The disk failed: what was made of those rows is void.
    pub fn check(&self) -> Result<(), StateError> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// The next commit is decided; rows that are put from now on are its.
    pub fn begin(&mut self) {
        self.under_way.push_back(Vec::new());
    }

    /// Puts a row: into the commit that was begun last, or into admitted history.
    pub fn put(&mut self, key: Key, row: Option<Row>, seen: Seen) {
        match seen {
            Seen::Decided => {
                let number = self.next + self.under_way.len() as u64;
                self.decided.insert(key.clone(), (number, row.clone()));
                if let Some(commit) = self.under_way.back_mut() {
                    commit.push((key, row));
                }
            }
            Seen::Admitted => {
                self.recent.borrow_mut().remove(&key);
                self.admitted.insert(key, row);
            }
        }
    }

    /// The oldest commit under way is admitted.
    pub fn admit(&mut self) {
        let Some(rows) = self.under_way.pop_front() else {
            return;
        };
        self.next += 1;
        for (key, row) in rows {
            if self
                .decided
                .get(&key)
                .is_some_and(|(number, _)| *number == self.next)
            {
                self.decided.remove(&key);
            }
            self.put(key, row, Seen::Admitted);
        }
    }

    /// The commit that was begun last is not decided after all. Gives the keys of its rows.
    pub fn undo(&mut self) -> impl Iterator<Item = Key> + use<> {
        let undone = self.under_way.pop_back().unwrap_or_default();
        self.decided.clear();
        for (number, rows) in (self.next + 1..).zip(&self.under_way) {
            for (key, row) in rows {
                self.decided.insert(key.clone(), (number, row.clone()));
            }
        }
        undone.into_iter().map(|(key, _)| key)
    }

    /// Nothing of what is under way ever was. Gives the keys of the rows that it would have made.
    pub fn forget(&mut self) -> impl Iterator<Item = Key> + use<> {
        self.under_way.clear();
        std::mem::take(&mut self.decided).into_keys()
    }

    /// Whether there is enough to write to the disk.
    pub fn is_full(&self) -> bool {
        self.admitted.len() >= FULL
    }

    /// Whether the disk has not taken what it should for so long that no more is to be kept in memory.
    pub fn is_overfull(&self) -> bool {
        self.admitted.len() >= OVERFULL
    }

    /// Writes what is admitted, up to and with that commit, and removes keys of commands from before that time.
    ///
    /// # Errors
    /// The disk failed; everything is still in memory.
    pub fn write(&mut self, standing: Standing, forgotten_before: i64) -> Result<(), StateError> {
        let mut rows = Vec::with_capacity(self.admitted.len() * 2);
        for (key, row) in &self.admitted {
            let bytes = row.as_ref().map(Row::bytes).transpose();
            rows.push((key.bytes(), bytes.map_err(StateError::damaged)?));
            if let (Key::Command(hash), Some(Row::Command(used))) = (key, row) {
                rows.push((Key::expiry(used.time, hash), Some(Vec::new())));
            }
        }
        for entry in self
            .store
            .prefix(&Key::EXPIRIES)
            .take(rows.len() * EXPIRED_PER_ROW)
        {
            let (bytes, _) = entry?;
            let Some((time, hash)) = Key::of_expiry(&bytes).filter(|(time, _)| *time < forgotten_before)
            else {
                break;
            };
            let key = Key::Command(hash);
            // A key that was used anew has a younger row, which stays.
            let last = match self.get(&key, Seen::Admitted) {
                Some(Row::Command(used)) => used.time.micros(),
                Some(_) | None => time,
            };
            if last == time {
                self.recent.borrow_mut().remove(&key);
                rows.push((key.bytes(), None));
            }
            rows.push((bytes, None));
        }
        self.check()?;
        self.store.write(rows.into_iter(), standing)?;
        let mut recent = self.recent.borrow_mut();
        for (key, row) in self.admitted.drain() {
            recent.insert(key, row);
        }
        Ok(())
    }

    /// Every row in the store whose key begins so.
    ///
    /// # Errors
    /// The disk failed.
    pub fn stored(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Row), StateError>> + use<> {
        self.store.prefix(prefix).map(|entry| {
            let (key, row) = entry?;
            Ok((key, Row::read(&row).map_err(StateError::damaged)?))
        })
    }
}
