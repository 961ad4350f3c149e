//! Fingerprints of rows: what millions of rows are compared by.
//!
//! A row's fingerprint is the sum of its columns' keyed hashes, so columns come in any order, and a column that only
//! one side has is a difference. The keys are new in every run: nobody can make two rows that look alike. A row of a
//! store is hashed as it is read, and nothing of it is kept.
//!
//! A little longer than a file should be, by its tests.

use std::{fmt, hash::Hasher as _};

use read_models::standing::{Cell, Table};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use uuid::Uuid;

use super::difference::{LONG, shortened};

/// The keys of a run.
#[derive(Clone, Copy)]
pub(super) struct Keys(u64, u64);

/// What a row is known by and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Printed {
    /// The table and the columns of its key.
    pub(super) key: u128,
    /// All of its columns.
    pub(super) whole: u128,
}

/// A row of a store, read once.
pub(super) struct Found {
    pub(super) printed: Printed,
    /// Partition and offset of a row that has versions.
    pub(super) version: (u32, u64),
}

/// The columns of a table, each with the beginning of its hash: they come in the same order again and again.
pub(super) struct Shape {
    keys: Keys,
    table: &'static Table,
    empty: Printed,
    columns: Vec<Named>,
    /// Which column is likely to come now.
    next: usize,
}

struct Named {
    name: String,
    is_key: bool,
    begun: Hash,
    /// What a column prints that has nothing, and an empty text: most do.
    nothing: u128,
    empty: u128,
    /// What it printed last: in many rows it says the same again.
    last: Option<(Said, u128)>,
}

/// What a column said, when it is short.
#[derive(PartialEq)]
enum Said {
    Flag(bool),
    Number(i128),
    Text(String),
    Id(Uuid),
    Raw(String),
}

/// Longer texts are not likely to come twice in a row.
const SAID: usize = 64;

impl Keys {
    /// New ones.
    pub(super) fn new() -> Self {
        let (one, other) = Uuid::new_v4().as_u64_pair();
        Self(one, other)
    }

    /// What a row is known by.
    pub(super) fn key<const N: usize>(self, table: &'static Table, columns: [(&str, Cell<'_>); N]) -> u128 {
        let mut key = Hash::of_table(self, table);
        for (column, cell) in columns {
            debug_assert!(
                table.key.contains(&column),
                "{column} is not of the key of {}",
                table.name
            );
            let mut hash = Hash::named(self, column);
            let read = hash.cell(cell);
            debug_assert!(read.is_ok(), "what is in memory can always be read");
            key = key.wrapping_add(hash.finish());
        }
        key
    }
}

impl Shape {
    /// Of a table's rows, whose columns are not known yet.
    pub(super) fn of(keys: Keys, table: &'static Table) -> Self {
        Self {
            keys,
            table,
            empty: Printed {
                key: Hash::of_table(keys, table),
                whole: 0,
            },
            columns: Vec::new(),
            next: 0,
        }
    }

    /// A row that has no columns yet.
    pub(super) const fn begin(&mut self) -> Printed {
        self.next = 0;
        self.empty
    }

    /// Adds a column that a fold made.
    pub(super) fn add(&mut self, to: &mut Printed, column: &str, cell: Cell<'_>) {
        let place = match self.columns.get(self.next) {
            Some(likely) if likely.name == column => self.next,
            Some(_) | None => self.place(column),
        };
        self.next = place + 1;
        let read = self.column(to, place, cell);
        debug_assert!(read.is_ok(), "what is in memory can always be read");
    }

    /// A row of a store; all rows have the same columns in the same order.
    ///
    /// # Errors
    /// The store wrote something as JSON that is none.
    pub(super) fn read(&mut self, names: &[String], cells: &[Cell<'_>]) -> serde_json::Result<Found> {
        let mut printed = self.begin();
        let mut version = (0, 0);
        for (place, (column, cell)) in names.iter().zip(cells).enumerate() {
            if place == self.columns.len() {
                self.place(column);
            }
            self.column(&mut printed, place, *cell)?;
            if let Cell::Number(number) = cell {
                match column.as_str() {
                    "log_partition" => version.0 = u32::try_from(*number).unwrap_or(u32::MAX),
                    "log_offset" => version.1 = u64::try_from(*number).unwrap_or(u64::MAX),
                    _ => {}
                }
            }
        }
        Ok(Found { printed, version })
    }

    fn column(&mut self, to: &mut Printed, place: usize, cell: Cell<'_>) -> serde_json::Result<()> {
        let column = &mut self.columns[place];
        let print = column.print(cell)?;
        to.whole = to.whole.wrapping_add(print);
        if column.is_key {
            to.key = to.key.wrapping_add(print);
        }
        Ok(())
    }

    fn place(&mut self, name: &str) -> usize {
        let known = self.columns.iter().position(|column| column.name == name);
        known.unwrap_or_else(|| {
            self.columns
                .push(Named::new(self.keys, name, self.table.key.contains(&name)));
            self.columns.len() - 1
        })
    }
}

impl Named {
    fn new(keys: Keys, name: &str, is_key: bool) -> Self {
        let begun = Hash::named(keys, name);
        let (mut nothing, mut empty) = (begun.clone(), begun.clone());
        nothing.null();
        empty.text("");
        Self {
            name: name.to_owned(),
            is_key,
            begun,
            nothing: nothing.finish(),
            empty: empty.finish(),
            last: None,
        }
    }

    fn print(&mut self, cell: Cell<'_>) -> serde_json::Result<u128> {
        match (cell, &self.last) {
            (Cell::Null, _) => return Ok(self.nothing),
            (Cell::Text(""), _) => return Ok(self.empty),
            (cell, Some((said, print))) if said.is(cell) => return Ok(*print),
            (..) => {}
        }
        let mut hash = self.begun.clone();
        hash.cell(cell)?;
        let print = hash.finish();
        let said = match cell {
            Cell::Flag(flag) => Some(Said::Flag(flag)),
            Cell::Number(number) => Some(Said::Number(number)),
            Cell::Id(id) => Some(Said::Id(id)),
            Cell::Text(text) if text.len() <= SAID => Some(Said::Text(text.to_owned())),
            Cell::Raw(text) if text.len() <= SAID => Some(Said::Raw(text.to_owned())),
            Cell::Text(_) | Cell::Null | Cell::Json(_) | Cell::Raw(_) => None,
        };
        if let Some(said) = said {
            self.last = Some((said, print));
        }
        Ok(print)
    }
}

impl Said {
    fn is(&self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Flag(one), Cell::Flag(other)) => *one == other,
            (Self::Number(one), Cell::Number(other)) => *one == other,
            (Self::Text(one), Cell::Text(other)) => one == other,
            (Self::Id(one), Cell::Id(other)) => *one == other,
            (Self::Raw(one), Cell::Raw(other)) => one == other,
            (Self::Flag(_) | Self::Number(_) | Self::Text(_) | Self::Id(_) | Self::Raw(_), _) => false,
        }
    }
}

/// The hash of something with a name.
#[derive(Clone)]
struct Hash {
    keys: Keys,
    hasher: SipHasher13,
}

/// What is hashed says first what it is.
const NULL: u8 = 0;
const FLAG: u8 = 1;
const NUMBER: u8 = 2;
const FRACTION: u8 = 3;
const TEXT: u8 = 4;
const LIST: u8 = 5;
const MAP: u8 = 6;
const END: u8 = 7;

/// Whole numbers from here on are read as such that may have a fraction.
const WHOLE: f64 = 18_446_744_073_709_551_616.0;

impl Hash {
    fn new(keys: Keys) -> Self {
        let hasher = SipHasher13::new_with_keys(keys.0, keys.1);
        Self { keys, hasher }
    }

    fn named(keys: Keys, name: &str) -> Self {
        let mut hash = Self::new(keys);
        hash.text(name);
        hash
    }

    /// What every row of a table has in common.
    fn of_table(keys: Keys, table: &Table) -> u128 {
        let mut hash = Self::named(keys, table.name);
        hash.null();
        hash.finish()
    }

    fn finish(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    fn cell(&mut self, cell: Cell<'_>) -> serde_json::Result<()> {
        match cell {
            Cell::Null => self.null(),
            Cell::Flag(flag) => self.flag(flag),
            Cell::Number(number) => self.number(number),
            Cell::Text(text) => self.text(text),
            Cell::Id(id) => self.text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Cell::Json(value) => Feed(self).deserialize(value)?,
            Cell::Raw(text) => {
                let mut json = serde_json::Deserializer::from_str(text);
                Feed(self).deserialize(&mut json)?;
                json.end()?;
            }
        }
        Ok(())
    }

    fn null(&mut self) {
        self.hasher.write_u8(NULL);
    }

    fn flag(&mut self, flag: bool) {
        self.hasher.write(&[FLAG, flag.into()]);
    }

    fn number(&mut self, number: i128) {
        self.hasher.write_u8(NUMBER);
        self.hasher.write(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        if text.len() > LONG {
            return self.text(&shortened(text));
        }
        self.hasher.write_u8(TEXT);
        self.hasher.write_u64(text.len() as u64);
        self.hasher.write(text.as_bytes());
    }
}

/// Feeds a value to a hash.
struct Feed<'a>(&'a mut Hash);

impl<'de> DeserializeSeed<'de> for Feed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Feed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.null();
        Ok(())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.0.flag(flag);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.0.number(number.into());
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.number(number.into());
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        // A database may write 100 for 1e2: the digits that are there, and then as many zeros as it takes. What has more of
        // them than a whole number may have is read as it was written here.
        let whole = number.fract() == 0.0 && number.abs() < WHOLE;
        match whole.then(|| number.to_string().parse()) {
            Some(Ok(number)) => self.0.number(number),
            Some(Err(_)) | None => {
                self.0.hasher.write_u8(FRACTION);
                self.0.hasher.write_u64(number.to_bits());
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.hasher.write_u8(LIST);
        let mut length = 0;
        while list.next_element_seed(Feed(self.0))?.is_some() {
            length += 1;
        }
        self.0.hasher.write_u8(END);
        self.0.hasher.write_u64(length);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut sum = 0_u128;
        loop {
            let mut entry = Hash::new(self.0.keys);
            if map.next_key_seed(Feed(&mut entry))?.is_none() {
                break;
            }
            map.next_value_seed(Feed(&mut entry))?;
            sum = sum.wrapping_add(entry.finish());
        }
        self.0.hasher.write_u8(MAP);
        self.0.hasher.write(&sum.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::{
        super::{difference::Difference, rows::Columns},
        *,
    };

    /// A row as a store gives it: lists and objects as texts.
    fn stored(row: &serde_json::Map<String, serde_json::Value>) -> (Vec<String>, Vec<String>) {
        row.iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .unzip()
    }

    #[test]
    fn a_fingerprint_tells_what_a_comparison_tells() {
        let table = &read_models::standing::tables(read_models::Projection::Content)[1];
        let keys = Keys::new();
        let long = "ä".repeat(LONG);
        let mut expected = Columns::default();
        expected.extend([
            ("tenant", "one".into()),
            ("version", 3.into()),
            ("body", long.clone().into()),
            ("metadata", json!({"a": [1e2, {"b": null, "c": false}], "d": 0.5})),
        ]);
        let own = expected.printed(&mut Shape::of(keys, table));
        let mut differing = HashSet::new();
        for (found, same_key, same_row) in [
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": false, "b": null}]}, "body": long, "version": 3.0, "tenant": "one"}),
                true,
                true,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": false, "b": null}]}, "body": long, "version": 4, "tenant": "one"}),
                false,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": true, "b": null}]}, "body": long, "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": null, "b": false}]}, "body": long, "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [{"c": false, "b": null}, 100]}, "body": long, "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": ["100", {"c": false, "b": null}]}, "body": long, "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.25, "a": [100, {"c": false, "b": null}]}, "body": long, "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": false, "b": null}]}, "body": format!("{long}."), "version": 3, "tenant": "one"}),
                true,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": false, "b": null}]}, "body": "one", "version": 3, "tenant": long}),
                false,
                false,
            ),
            (
                json!({"metadata": {"d": 0.5, "a": [100, {"c": false, "b": null}]}, "body": long, "version": 3, "tenant": "one", "more": null}),
                true,
                false,
            ),
            (json!({"body": long, "version": 3, "tenant": "one"}), true, false),
        ] {
            let line = found.to_string();
            let (names, texts) = stored(found.as_object().unwrap());
            let cells: Vec<Cell<'_>> = texts.iter().map(|text| Cell::Raw(text)).collect();
            let printed = Shape::of(keys, table).read(&names, &cells).unwrap().printed;
            assert_eq!(printed.key == own.key, same_key, "{line}");
            assert_eq!(printed.whole == own.whole, same_row, "{line}");
            let row = serde_json::from_str(&line).unwrap();
            assert_eq!(
                Difference::between(table, &expected.row(), &row).is_none(),
                same_row,
                "{line}"
            );
            assert!(differing.insert(printed.whole), "{line}");
        }
        assert_ne!(
            own,
            expected.printed(&mut Shape::of(Keys::new(), table)),
            "another run has other keys"
        );
    }

    #[test]
    fn a_cell_is_what_it_would_be_in_json() {
        let table = &read_models::standing::tables(read_models::Projection::Content)[0];
        let mut shape = Shape::of(Keys::new(), table);
        let mut printed = |cell: Cell<'_>| {
            let mut printed = shape.begin();
            shape.add(&mut printed, "title", cell);
            printed.whole
        };
        let (id, long) = (Uuid::new_v4(), "ä".repeat(LONG));
        let texts = [format!("\"{id}\""), format!("\"{long}\"")];
        for (cell, json) in [
            (Cell::Null, "null"),
            (Cell::Flag(true), "true"),
            (Cell::Number(-7), "-7"),
            (Cell::Number(u64::MAX.into()), "18446744073709551615"),
            (Cell::Text(""), "\"\""),
            (Cell::Text("a\"b\n"), "\"a\\\"b\\n\""),
            (Cell::Id(id), &texts[0]),
            (Cell::Text(&long), &texts[1]),
            (Cell::Json(&json!({"a": [1, "b"]})), r#" {"a":[1.0,"b"]}"#),
            (Cell::Json(&json!(1.2345678901234568e18)), "1234567890123456800"),
            (Cell::Json(&json!(1.8e19)), "18000000000000000000"),
            (Cell::Json(&json!(-1.2e19)), "-12000000000000000000"),
            (Cell::Json(&json!(1.2345678901234568e20)), "123456789012345680000"),
        ] {
            assert_eq!(printed(cell), printed(Cell::Raw(json)), "{json}");
        }
    }
}
