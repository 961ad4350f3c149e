//! Fingerprints of rows: what millions of rows are compared by.
//!
//! A row's fingerprint is the sum of its columns' keyed hashes, so columns come in any order, and a column that only
//! one side has is a difference. The keys are new in every run: nobody can make two rows that look alike. A row as a
//! store shows it, JSON, is hashed as it is read, and nothing of it is kept.

use std::{fmt, hash::Hasher as _};

use read_models::standing::Table;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use uuid::Uuid;

use super::{
    cell::Cell,
    difference::{LONG, shortened},
};

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

impl Keys {
    /// New ones.
    pub(super) fn new() -> Self {
        let (one, other) = Uuid::new_v4().as_u64_pair();
        Self(one, other)
    }

    /// A row of a table that has no columns yet.
    pub(super) fn begin(self, table: &str) -> Printed {
        let key = self.column(table, Cell::Null);
        Printed { key, whole: 0 }
    }

    /// Adds a column.
    pub(super) fn add(self, to: &mut Printed, table: &Table, column: &str, cell: Cell<'_>) {
        self.sum(to, table, column, self.column(column, cell));
    }

    /// A row as a store shows it.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn read(self, table: &Table, line: &[u8]) -> serde_json::Result<Found> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let found = RowOf { keys: self, table }.deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }

    fn sum(self, to: &mut Printed, table: &Table, column: &str, print: u128) {
        to.whole = to.whole.wrapping_add(print);
        if table.key.contains(&column) {
            to.key = to.key.wrapping_add(print);
        }
    }

    fn column(self, name: &str, cell: Cell<'_>) -> u128 {
        let mut hash = Hash::named(self, name);
        hash.cell(cell);
        hash.finish()
    }
}

/// The hash of something with a name.
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

    fn finish(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    fn cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.hasher.write_u8(NULL),
            Cell::Flag(flag) => self.hasher.write(&[FLAG, flag.into()]),
            Cell::Number(number) => self.number(number),
            Cell::Text(text) => self.text(text),
            Cell::Id(id) => self.text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Cell::Json(value) => {
                // What is in memory can always be read.
                let read = Feed(self).deserialize(value);
                debug_assert!(read.is_ok(), "a value cannot be hashed");
            }
        }
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

/// Feeds a value to a hash; says the number when it is one that counts.
struct Feed<'a>(&'a mut Hash);

impl<'de> DeserializeSeed<'de> for Feed<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Feed<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Option<u64>, E> {
        self.0.cell(Cell::Null);
        Ok(None)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<u64>, E> {
        self.0.cell(Cell::Flag(flag));
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<u64>, E> {
        self.0.number(number.into());
        Ok(None)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<u64>, E> {
        self.0.number(number.into());
        Ok(Some(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Option<u64>, E> {
        // A database may write 100 for 1e2.
        if number.fract() == 0.0 && number.abs() < 1e19 {
            self.0.number(number as i128);
        } else {
            self.0.hasher.write_u8(FRACTION);
            self.0.hasher.write_u64(number.to_bits());
        }
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<u64>, E> {
        self.0.text(text);
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<u64>, A::Error> {
        self.0.hasher.write_u8(LIST);
        let mut length = 0;
        while list.next_element_seed(Feed(self.0))?.is_some() {
            length += 1;
        }
        self.0.hasher.write_u64(length);
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<u64>, A::Error> {
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
        Ok(None)
    }
}

/// Reads a row.
struct RowOf<'a> {
    keys: Keys,
    table: &'a Table,
}

impl<'de> DeserializeSeed<'de> for RowOf<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowOf<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut printed = self.keys.begin(self.table.name);
        let mut version = (0, 0);
        // Columns have names that need no escapes.
        while let Some(column) = map.next_key::<&str>()? {
            let mut hash = Hash::named(self.keys, column);
            let number = map.next_value_seed(Feed(&mut hash))?;
            match (column, number) {
                ("log_partition", Some(partition)) => {
                    version.0 = u32::try_from(partition).map_err(A::Error::custom)?;
                }
                ("log_offset", Some(offset)) => version.1 = offset,
                _ => {}
            }
            self.keys.sum(&mut printed, self.table, column, hash.finish());
        }
        Ok(Found { printed, version })
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
        let own = expected.printed(keys, table);
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
            let printed = keys.read(table, line.as_bytes()).unwrap().printed;
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
            expected.printed(Keys::new(), table),
            "another run has other keys"
        );
    }
}
