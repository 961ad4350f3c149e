//! Looking at the rows that are there. A slice is looked at once by fingerprints. Only when some of them are not the
//! same it is looked at again, for these rows alone, to say what each side says.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    ops::Range,
};

use read_models::standing::{Cell, Row, Rows, RowsError, Table, row};
use tokio::sync::mpsc;

use super::{
    Error, Progress, Short, TOLD, Told,
    difference::Difference,
    print::{Found, Printed, Shape},
    rows::{Expected, Kept, Wanted},
};

/// Rows that a second look is taken at, at most.
const LOOKED_AT: usize = 10_000;

/// Rows that are looked at between two rests, of which there are some when the cost is bounded.
const AT_ONCE: u64 = 256;

/// What a row takes that is left for later, in bytes, about: it is kept as it was read.
const LEFT: usize = 4 * 1024;

/// A row that is there, and is compared when the fold has come to its version.
pub(super) struct Left {
    table: &'static Table,
    printed: Printed,
    pub(super) row: Row,
    /// Partition and offset.
    pub(super) version: (u32, u64),
}

/// What came of looking at rows.
pub(super) struct Look {
    wanted: Wanted,
    rows: u64,
    /// At the first look: rows that are not the same, and how many more there are.
    suspects: HashSet<u128>,
    more: u64,
    /// At the second; and rows that were not the same at the first, and are now.
    differences: u64,
    passing: u64,
    told: Vec<Difference>,
}

impl Look {
    /// That has seen nothing yet.
    pub(super) fn at(expected: &Expected) -> Self {
        Self {
            wanted: expected.wanted(),
            rows: 0,
            suspects: HashSet::new(),
            more: 0,
            differences: 0,
            passing: 0,
            told: Vec::new(),
        }
    }

    fn suspect(&mut self, key: u128) {
        if self.suspects.len() < LOOKED_AT {
            self.suspects.insert(key);
        } else {
            self.more += 1;
        }
    }

    fn tell(&mut self, difference: Difference) {
        self.differences += 1;
        if (self.told.len() as u64) < TOLD {
            self.told.push(difference);
        }
    }

    fn compare<E>(
        &mut self,
        table: &Table,
        shape: &mut Shape,
        expected: Option<&Kept>,
        found: Printed,
        row: impl FnOnce() -> Result<Row, E>,
    ) -> Result<(), E> {
        let Some(wanted) = &self.wanted else {
            if expected.is_none_or(|kept| kept.whole(shape) != found.whole) {
                self.suspect(found.key);
            }
            return Ok(());
        };
        if wanted.contains(&found.key) {
            let row = row()?;
            let same = expected.is_some_and(|kept| kept.whole(shape) == found.whole);
            self.passing += u64::from(same);
            let difference = match expected {
                Some(Kept::Columns(expected)) => Difference::between(table, &expected.row(), &row),
                Some(Kept::Whole(_)) | None => Some(Difference::additional(table, &row)),
            };
            difference.into_iter().for_each(|it| self.tell(it));
        }
        Ok(())
    }

    /// Compares a row that was left with what is expected now.
    pub(super) fn later(&mut self, expected: &Expected, left: Left) {
        let Left {
            table, printed, row, ..
        } = left;
        let (keys, rows) = expected.of(table);
        let expected = rows.and_then(|rows| rows.get(&printed.key));
        let mut shape = Shape::of(keys, table);
        let Ok(()) = self.compare(table, &mut shape, expected, printed, || Ok::<_, Infallible>(row));
    }

    /// A row that stands where the log has nothing.
    pub(super) fn nowhere(&mut self, left: Left) {
        match &self.wanted {
            None => self.suspect(left.printed.key),
            Some(wanted) if wanted.contains(&left.printed.key) => {
                self.tell(Difference::additional(left.table, &left.row));
            }
            Some(_) => {}
        }
    }

    fn missing(&mut self, table: &Table, key: u128, expected: &Kept) {
        match (&self.wanted, expected) {
            (None, _) => self.suspect(key),
            (Some(wanted), Kept::Columns(row)) if wanted.contains(&key) => {
                self.tell(Difference::missing(table, &row.row()));
            }
            (Some(_), _) => {}
        }
    }
}

/// A table that is being compared.
pub(super) struct Comparison<'a> {
    table: &'static Table,
    /// Of rows that are there, and of those that are expected.
    shapes: [Shape; 2],
    expected: Option<&'a HashMap<u128, Kept>>,
    found: HashSet<u128>,
    look: Look,
}

impl<'a> Comparison<'a> {
    /// Begins to compare a table.
    pub(super) fn of(table: &'static Table, expected: &'a Expected) -> Self {
        let (keys, rows) = expected.of(table);
        Self {
            table,
            shapes: [Shape::of(keys, table), Shape::of(keys, table)],
            expected: rows,
            found: HashSet::new(),
            look: Look::at(expected),
        }
    }

    /// Compares all rows that are there with those that are expected; gives what is to be left, if that takes so many
    /// bytes at most.
    pub(super) async fn all(
        &mut self,
        mut rows: Rows<'_>,
        progress: &Progress,
        budget: usize,
        is_beyond: impl Fn((u32, u64)) -> bool,
    ) -> Result<Vec<Left>, Short> {
        let (names, mut left) = (rows.names(), Vec::new());
        let mut looked_at = 0;
        while let Some(cells) = rows.next().await? {
            let row = self.row(&names, &cells, &is_beyond);
            left.extend(row.map_err(RowsError::from)?);
            if left.len() * LEFT > budget {
                return Err(Short::Full);
            }
            looked_at += 1;
            if looked_at == AT_ONCE {
                progress.spent(std::mem::take(&mut looked_at)).await;
            }
        }
        progress.spent(looked_at).await;
        Ok(left)
    }

    /// Passes by all rows that are there, and tells each, without comparing it.
    pub(super) async fn pass(
        &mut self,
        mut rows: Rows<'_>,
        progress: &Progress,
        mut tell: impl FnMut(Found),
    ) -> Result<(), Error> {
        let (names, mut looked_at) = (rows.names(), 0);
        let [there, _] = &mut self.shapes;
        while let Some(cells) = rows.next().await? {
            tell(there.read(&names, &cells).map_err(RowsError::from)?);
            self.look.rows += 1;
            looked_at += 1;
            if looked_at == AT_ONCE {
                progress.spent(std::mem::take(&mut looked_at)).await;
            }
        }
        progress.spent(looked_at).await;
        Ok(())
    }

    /// A row that is there. It comes back when it is to be left.
    ///
    /// # Errors
    /// It cannot be read.
    fn row(
        &mut self,
        names: &[String],
        cells: &[Cell<'_>],
        is_beyond: impl FnOnce((u32, u64)) -> bool,
    ) -> serde_json::Result<Option<Left>> {
        self.look.rows += 1;
        let [there, own] = &mut self.shapes;
        let Found { printed, version } = there.read(names, cells)?;
        let expected = self.expected.and_then(|rows| rows.get(&printed.key));
        // The same key twice is one row too many.
        let expected = expected.filter(|_| self.found.insert(printed.key));
        let row = || row(names, cells);
        if is_beyond(version) {
            return Ok(Some(Left {
                table: self.table,
                printed,
                row: row()?,
                version,
            }));
        }
        self.look.compare(self.table, own, expected, printed, row)?;
        Ok(None)
    }

    /// All rows were there.
    pub(super) fn finish(mut self) -> Look {
        for (key, row) in self.expected.into_iter().flatten() {
            if !self.found.contains(key) {
                self.look.missing(self.table, *key, row);
            }
        }
        self.look
    }
}

/// What was found, over all slices; tells it as it comes.
pub(super) struct Findings {
    pub(super) rows: u64,
    pub(super) differences: u64,
    /// Of the slice that is looked at: rows that were not the same at the first look only.
    pub(super) passing: u64,
    /// Of the slice that is looked at: what a second look is to be taken at.
    pub(super) suspects: HashSet<u128>,
    /// Likewise of events of visits: at which offsets of which partition they are.
    pub(super) places: HashMap<u32, Vec<Range<u64>>>,
    /// What was told: of a slice that is begun again in halves, once.
    told: HashSet<(&'static str, String)>,
    /// Of the slice that is looked at: what is to be told when it counts.
    untold: Vec<Difference>,
    tell: mpsc::Sender<Told>,
}

impl Findings {
    pub(super) fn new(tell: mpsc::Sender<Told>) -> Self {
        Self {
            rows: 0,
            differences: 0,
            passing: 0,
            suspects: HashSet::new(),
            places: HashMap::new(),
            told: HashSet::new(),
            untold: Vec::new(),
            tell,
        }
    }

    /// Nothing found yet, of a part of the same look.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.tell.clone())
    }

    /// Takes what a part has found.
    pub(super) fn join(&mut self, part: Self) {
        self.rows += part.rows;
        self.differences += part.differences;
        self.passing += part.passing;
        self.suspect(part.suspects);
        self.places.extend(part.places);
        let place = usize::try_from(TOLD)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.untold.len());
        self.untold.extend(part.untold.into_iter().take(place));
    }

    /// A second look is taken at so many.
    fn suspect(&mut self, keys: HashSet<u128>) {
        for key in keys {
            if self.suspects.len() < LOOKED_AT {
                self.suspects.insert(key);
            } else {
                self.differences += 1;
            }
        }
    }

    pub(super) fn differs(&mut self, difference: Difference) {
        self.differences += 1;
        if (self.untold.len() as u64) < TOLD {
            self.untold.push(difference);
        }
    }

    /// The slice counts: what was found is told.
    pub(super) async fn counts(&mut self) -> Result<(), Error> {
        for difference in std::mem::take(&mut self.untold) {
            let name = (difference.table, difference.row.clone());
            if (self.told.len() as u64) < TOLD && self.told.insert(name) {
                let told = Told::Difference(Box::new(difference));
                self.tell.send(told).await.map_err(|_| Error::Unheard)?;
            }
        }
        Ok(())
    }

    /// The slice is looked at again: as it was after so many rows and differences.
    pub(super) fn back_to(&mut self, rows: u64, differences: u64) {
        (self.rows, self.differences) = (rows, differences);
        self.untold.clear();
    }

    pub(super) fn take(&mut self, look: Look) {
        if look.wanted.is_none() {
            self.rows += look.rows;
            // More than are looked at again differ for certain but for a number in two forms.
            self.differences += look.more;
            self.suspect(look.suspects);
        }
        self.passing += look.passing;
        let untold = look.differences - look.told.len() as u64;
        look.told
            .into_iter()
            .for_each(|difference| self.differs(difference));
        self.differences += untold;
    }
}
