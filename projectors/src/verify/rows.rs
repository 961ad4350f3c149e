//! Rows that are expected: columns of what is folded on, and fingerprints of what is final.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use read_models::standing::{Cell, Row, Slice, Table};
use serde_json::Value;

use super::{
    difference::shorten,
    print::{Keys, Printed, Shape},
};

/// What a row takes of which the fingerprint is kept, in bytes: both hashes, and its place in the table of them.
const PRINT: usize = 80;

/// The columns of a row that is expected.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns(Vec<(&'static str, Value)>);

impl Columns {
    pub(super) fn get(&self, column: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(name, _)| *name == column);
        found.map(|(_, value)| value)
    }

    /// The text in a column; empty when there is none.
    pub(super) fn text(&self, column: &str) -> &str {
        self.get(column).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a column. A long text becomes what it is known by: thousands of versions of one body are compared at a
    /// time.
    pub(super) fn set(&mut self, column: &'static str, value: impl Into<Value>) {
        let mut value = value.into();
        shorten(&mut value);
        match self.0.iter_mut().find(|(name, _)| *name == column) {
            Some((_, before)) => *before = value,
            None => self.0.push((column, value)),
        }
    }

    /// Sets several columns.
    pub(super) fn extend<const N: usize>(&mut self, columns: [(&'static str, Value); N]) {
        self.0.reserve(N);
        for (column, value) in columns {
            self.set(column, value);
        }
    }

    pub(super) fn row(&self) -> Row {
        let column = |(name, value): &(&str, Value)| ((*name).to_owned(), value.clone());
        self.0.iter().map(column).collect()
    }

    pub(super) fn printed(&self, shape: &mut Shape) -> Printed {
        let mut printed = shape.begin();
        for (column, value) in &self.0 {
            shape.add(&mut printed, column, value.into());
        }
        printed
    }

    /// A value takes about this much, and a text its length.
    fn weight(&self) -> usize {
        fn texts(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len(),
                Value::Array(values) => values.iter().map(|value| 32 + texts(value)).sum(),
                Value::Object(values) => values
                    .iter()
                    .map(|(name, value)| 96 + name.len() + texts(value))
                    .sum(),
                Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            }
        }
        PRINT + self.0.iter().map(|(_, value)| 64 + texts(value)).sum::<usize>()
    }
}

/// What is kept of a row that is expected.
pub(super) enum Kept {
    /// What is folded on, or is to be told.
    Columns(Columns),
    /// What is final, and only compared.
    Whole(u128),
}

impl Kept {
    pub(super) fn whole(&self, shape: &mut Shape) -> u128 {
        match self {
            Self::Columns(columns) => columns.printed(shape).whole,
            Self::Whole(whole) => *whole,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.weight(),
            Self::Whole(_) => PRINT,
        }
    }
}

/// A row that is final, as it is made.
pub(super) struct Making {
    table: &'static Table,
    shape: Shape,
    printed: Printed,
    /// When rows are told.
    columns: Option<Columns>,
}

impl Making {
    /// Adds a column.
    pub(super) fn add<'a>(&mut self, column: &'static str, cell: impl Into<Cell<'a>>) {
        let cell = cell.into();
        self.shape.add(&mut self.printed, column, cell);
        if let Some(columns) = &mut self.columns {
            // What is in memory can always be read.
            columns.set(column, Value::try_from(cell).unwrap_or_default());
        }
    }
}

/// Rows that a second look is taken at, by their keys; none at the first.
pub(super) type Wanted = Option<Arc<HashSet<u128>>>;

/// The rows of a slice as the log says they are.
pub(super) struct Expected {
    pub(super) slice: Slice,
    keys: Keys,
    wanted: Wanted,
    tables: HashMap<&'static str, HashMap<u128, Kept>>,
    /// Of final rows, by table.
    shapes: HashMap<&'static str, Shape>,
    held: usize,
    /// What a fold has to know of every aggregate, in any slice: some eighty bytes each, and a text in its own slice.
    known: HashMap<u128, Known>,
    /// Few, for many aggregates.
    places: HashSet<Arc<[String; 2]>>,
}

/// What is known of an aggregate beside its rows.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Its site and its kind.
    pub(super) place: Arc<[String; 2]>,
    /// Empty, when it is of another slice.
    pub(super) text: Box<str>,
}

impl Expected {
    pub(super) fn new(slice: Slice, keys: Keys, wanted: Wanted) -> Self {
        Self {
            slice,
            keys,
            wanted,
            tables: HashMap::new(),
            shapes: HashMap::new(),
            held: 0,
            known: HashMap::new(),
            places: HashSet::new(),
        }
    }

    /// The same, with no row expected.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.slice, self.keys, self.wanted.clone())
    }

    /// Takes the rows of another part of the same slice.
    pub(super) fn join(&mut self, part: Self) {
        self.held += part.held;
        self.known.extend(part.known);
        for (table, rows) in part.tables {
            self.tables.entry(table).or_default().extend(rows);
        }
    }

    /// Bytes that its rows take, about.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// What a row is known by: the columns of its key.
    pub(super) fn key<const N: usize>(&self, table: &'static Table, columns: [(&str, Cell<'_>); N]) -> u128 {
        self.keys.key(table, columns)
    }

    /// What is known of an aggregate.
    pub(super) fn known(&self, aggregate: u128) -> Option<Known> {
        self.known.get(&aggregate).cloned()
    }

    /// Remembers where an aggregate is.
    pub(super) fn know(&mut self, aggregate: u128, place: [String; 2], text: &str) {
        let place = self.places.get(&place).cloned().unwrap_or_else(|| {
            let place = Arc::new(place);
            self.places.insert(place.clone());
            place
        });
        self.known.entry(aggregate).or_default().place = place;
        self.remember(aggregate, text);
    }

    /// Remembers another text of one that is known.
    pub(super) fn remember(&mut self, aggregate: u128, text: &str) {
        if let Some(known) = self.known.get_mut(&aggregate) {
            self.held = (self.held + text.len()).saturating_sub(known.text.len());
            known.text = text.into();
        }
    }

    /// The row that is folded on.
    pub(super) fn get(&self, table: &Table, key: u128) -> Option<&Columns> {
        match self.tables.get(table.name)?.get(&key)? {
            Kept::Columns(columns) => Some(columns),
            Kept::Whole(_) => None,
        }
    }

    /// Puts a row that is folded on in its place.
    pub(super) fn put(&mut self, table: &Table, key: u128, row: Columns) {
        self.keep(table, key, Kept::Columns(row));
    }

    /// Begins a row that is final.
    pub(super) fn make(&mut self, table: &'static Table) -> Making {
        let known = self.shapes.remove(table.name);
        let mut shape = known.unwrap_or_else(|| Shape::of(self.keys, table));
        Making {
            table,
            printed: shape.begin(),
            shape,
            columns: self.wanted.is_some().then(Columns::default),
        }
    }

    /// Puts a row that is final in its place.
    pub(super) fn made(&mut self, row: Making) {
        let Printed { key, whole } = row.printed;
        let wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&key));
        let columns = row.columns.filter(|_| wanted);
        self.shapes.insert(row.table.name, row.shape);
        self.keep(row.table, key, columns.map_or(Kept::Whole(whole), Kept::Columns));
    }

    /// The fingerprint of a row that is final, which is not kept.
    pub(super) fn printed(&mut self, row: Making) -> u128 {
        self.shapes.insert(row.table.name, row.shape);
        row.printed.whole
    }

    fn keep(&mut self, table: &Table, key: u128, row: Kept) {
        self.held += row.weight();
        if let Some(before) = self.tables.entry(table.name).or_default().insert(key, row) {
            self.held = self.held.saturating_sub(before.weight());
        }
    }

    pub(super) fn remove(&mut self, table: &Table, key: u128) {
        if let Some(before) = self.tables.get_mut(table.name).and_then(|rows| rows.remove(&key)) {
            self.held = self.held.saturating_sub(before.weight());
        }
    }

    /// What is expected of a table, and with which keys.
    pub(super) fn of(&self, table: &Table) -> (Keys, Option<&HashMap<u128, Kept>>) {
        (self.keys, self.tables.get(table.name))
    }

    /// Which rows a second look is taken at.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    /// Whether it is not yet known which rows differ.
    pub(super) const fn is_first_look(&self) -> bool {
        self.wanted.is_none()
    }
}
