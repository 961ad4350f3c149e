//! Rows that are expected, and how they differ from those that are there.

use std::collections::{BTreeSet, HashMap, HashSet};

use read_models::standing::{Place, Row, Slice, Table};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Error, TOLD, Told};

/// Longer texts are cut when a difference is told.
const SHOWN: usize = 200;

/// Texts of more bytes than this are not kept.
const LONG: usize = 512;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The log says that it should be there.
    Missing,
    /// The log knows nothing of it.
    Additional,
    /// It says something else than the log.
    Differs,
    /// No row: an event that cannot be folded, and is not parked.
    NotParked,
}

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The row: its key's columns with slashes between; of an event its partition, offset and place in the record.
    pub row: String,
    /// Whose it is; of an event that cannot be read, nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What is wrong.
    pub what: What,
    /// What the log says; of a row that differs only the columns that do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Row>,
    /// What the store says, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Row>,
    /// Why an event cannot be folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Difference {
    fn new(table: &Table, row: &Row, what: What) -> Self {
        Self {
            table: table.name,
            row: table.name_of(row),
            tenant: row.get("tenant").and_then(Value::as_str).map(str::to_owned),
            what,
            log: None,
            store: None,
            reason: None,
        }
    }

    /// A row that the log knows nothing of.
    pub(super) fn additional(table: &Table, row: &Row) -> Self {
        Self {
            store: Some(shown(row)),
            ..Self::new(table, row, What::Additional)
        }
    }

    /// A row that is not there.
    pub(super) fn missing(table: &Table, row: &Row) -> Self {
        Self {
            log: Some(shown(row)),
            ..Self::new(table, row, What::Missing)
        }
    }

    /// An event that cannot be folded.
    pub(super) fn unfit((partition, offset, index): Place, tenant: Option<Uuid>, reason: String) -> Self {
        Self {
            table: "parked",
            row: format!("{partition}/{offset}/{index}"),
            tenant: tenant.as_ref().map(Uuid::to_string),
            what: What::NotParked,
            log: None,
            store: None,
            reason: Some(reason),
        }
    }

    /// How a row that is there differs from the one that is expected, if it does.
    pub(super) fn between(table: &Table, expected: &Row, found: &Row) -> Option<Self> {
        if as_expected(expected, found) {
            return None;
        }
        let columns: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let absent = Value::String("(no such column)".to_owned());
        let (mut log, mut store) = (Row::new(), Row::new());
        for column in columns {
            let mut theirs = found.get(column).cloned();
            // Expected rows have it done already.
            theirs.iter_mut().for_each(shorten);
            let (ours, theirs) = (expected.get(column), theirs.as_ref());
            let same_both = matches!((ours, theirs), (Some(ours), Some(theirs)) if same(ours, theirs));
            if !same_both {
                log.insert(column.clone(), cut(ours.unwrap_or(&absent)));
                store.insert(column.clone(), cut(theirs.unwrap_or(&absent)));
            }
        }
        (!log.is_empty()).then(|| Self {
            log: Some(log),
            store: Some(store),
            ..Self::new(table, expected, What::Differs)
        })
    }
}

/// Whether a row is what it should be. Most are, and then nothing is copied to find that out.
fn as_expected(expected: &Row, found: &Row) -> bool {
    let mut columns = expected.iter().zip(found);
    expected.len() == found.len()
        && columns.all(|((column, ours), (other, theirs))| {
            let long = theirs.as_str().is_some_and(|text| text.len() > LONG);
            column == other
                && if long {
                    let mut theirs = theirs.clone();
                    shorten(&mut theirs);
                    *ours == theirs
                } else {
                    same(ours, theirs)
                }
        })
}

/// Equal, whatever form a number has: a database may write 100 for 1e2.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(one, other)| same(one, other))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, one)| b.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

fn shown(row: &Row) -> Row {
    row.iter()
        .map(|(column, value)| (column.clone(), cut(value)))
        .collect()
}

fn cut(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if text.chars().count() > SHOWN => {
            Value::String(text.chars().take(SHOWN).collect::<String>() + "…")
        }
        Some(_) | None => value.clone(),
    }
}

/// A long text becomes its beginning and its hash; of equal texts both are equal.
fn shorten(value: &mut Value) {
    if let Value::String(text) = value
        && text.len() > LONG
    {
        let beginning: String = text.chars().take(SHOWN / 2).collect();
        let (bytes, hash) = (text.len(), hex::encode(Sha256::digest(text.as_bytes())));
        *text = format!("{beginning}… ({bytes} bytes, SHA-256 {hash})");
    }
}

/// Partition and offset of a row that has versions.
pub(super) fn version(row: &Row) -> (u32, u64) {
    let number = |column: &str| row.get(column).and_then(Value::as_u64).unwrap_or_default();
    (
        u32::try_from(number("log_partition")).unwrap_or(u32::MAX),
        number("log_offset"),
    )
}

/// The rows of a slice as the log says they are.
pub(super) struct Expected {
    pub(super) slice: Slice,
    tables: HashMap<&'static str, HashMap<String, Row>>,
    held: usize,
    /// What a fold has to know of every aggregate, in any slice; about a hundred bytes each.
    pub(super) known: HashMap<String, [String; 3]>,
}

impl Expected {
    pub(super) fn new(slice: Slice) -> Self {
        Self {
            slice,
            tables: HashMap::new(),
            held: 0,
            known: HashMap::new(),
        }
    }

    /// Bytes that its rows take, about.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) fn get(&self, table: &str, key: &str) -> Option<&Row> {
        self.tables.get(table)?.get(key)
    }

    /// Puts a row in its place. Long texts become what they are known by: thousands of versions of one body are
    /// compared at a time.
    pub(super) fn put(&mut self, table: &'static str, key: String, mut row: Row) {
        row.values_mut().for_each(shorten);
        self.held += weight(&row);
        if let Some(before) = self.tables.entry(table).or_default().insert(key, row) {
            self.held = self.held.saturating_sub(weight(&before));
        }
    }

    pub(super) fn remove(&mut self, table: &str, key: &str) {
        if let Some(before) = self.tables.get_mut(table).and_then(|rows| rows.remove(key)) {
            self.held = self.held.saturating_sub(weight(&before));
        }
    }

    /// Begins to compare a table.
    pub(super) fn compare<'a>(&'a self, table: &'a Table) -> Comparison<'a> {
        Comparison {
            table,
            expected: self.tables.get(table.name),
            found: HashSet::new(),
            outcome: Compared::default(),
        }
    }

    /// How a row that is there differs from what is expected now, if it does.
    pub(super) fn differs(&self, table: &Table, row: &Row) -> Option<Difference> {
        match self.get(table.name, &table.name_of(row)) {
            Some(expected) => Difference::between(table, expected, row),
            None => Some(Difference::additional(table, row)),
        }
    }
}

/// A map's node, a name and a value take about this much, and a text its length.
fn weight(row: &Row) -> usize {
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
    200 + row.values().map(|value| 96 + texts(value)).sum::<usize>()
}

/// Rows that were compared, and what came out.
#[derive(Default)]
pub(super) struct Compared {
    rows: u64,
    differences: u64,
    told: Vec<Difference>,
}

/// A table that is being compared.
pub(super) struct Comparison<'a> {
    table: &'a Table,
    expected: Option<&'a HashMap<String, Row>>,
    found: HashSet<&'a str>,
    outcome: Compared,
}

impl Compared {
    pub(super) fn add(&mut self, difference: Difference) {
        self.differences += 1;
        if (self.told.len() as u64) < TOLD {
            self.told.push(difference);
        }
    }

    pub(super) const fn row(&mut self) {
        self.rows += 1;
    }
}

impl Comparison<'_> {
    /// A row that is there.
    pub(super) fn row(&mut self, row: &Row) {
        self.outcome.row();
        let name = self.table.name_of(row);
        match self.expected.and_then(|rows| rows.get_key_value(name.as_str())) {
            // The same key twice is one row too many.
            Some((key, expected)) if self.found.insert(key) => {
                if let Some(difference) = Difference::between(self.table, expected, row) {
                    self.outcome.add(difference);
                }
            }
            Some(_) | None => self.outcome.add(Difference::additional(self.table, row)),
        }
    }

    /// A row that is there and is compared later.
    pub(super) fn leave(&mut self, row: &Row) {
        self.outcome.row();
        let name = self.table.name_of(row);
        if let Some((key, _)) = self.expected.and_then(|rows| rows.get_key_value(name.as_str())) {
            self.found.insert(key);
        }
    }

    /// All rows were there.
    pub(super) fn finish(mut self) -> Compared {
        for (key, row) in self.expected.into_iter().flatten() {
            if !self.found.contains(key.as_str()) {
                self.outcome.add(Difference::missing(self.table, row));
            }
        }
        self.outcome
    }
}

/// What was found, over all slices; tells it as it comes.
pub(super) struct Findings {
    pub(super) rows: u64,
    pub(super) differences: u64,
    /// What was told: of a slice that is begun again in halves, once.
    told: HashSet<(&'static str, String)>,
    tell: mpsc::Sender<Told>,
}

impl Findings {
    pub(super) fn new(tell: mpsc::Sender<Told>) -> Self {
        Self {
            rows: 0,
            differences: 0,
            told: HashSet::new(),
            tell,
        }
    }

    pub(super) async fn differs(&mut self, difference: Difference) -> Result<(), Error> {
        self.differences += 1;
        let name = (difference.table, difference.row.clone());
        if (self.told.len() as u64) < TOLD && self.told.insert(name) {
            let told = Told::Difference(Box::new(difference));
            self.tell.send(told).await.map_err(|_| Error::Unheard)?;
        }
        Ok(())
    }

    pub(super) async fn take(&mut self, compared: Compared) -> Result<(), Error> {
        let untold = compared.differences - compared.told.len() as u64;
        self.rows += compared.rows;
        for difference in compared.told {
            self.differs(difference).await?;
        }
        self.differences += untold;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_as_expected_or_says_what_differs() {
        let row = |value: Value| value.as_object().unwrap().clone();
        let long = "a".repeat(LONG + 1);
        let mut body = Value::from(long.clone());
        shorten(&mut body);
        let expected = row(json!({"body": body, "n": 1}));
        let table = &read_models::standing::tables(read_models::Projection::Content)[0];
        let between = |found| Difference::between(table, &expected, &row(found));
        assert_eq!(between(json!({"n": 1.0, "body": long})), None);
        for (found, differs) in [
            (json!({"n": 2, "body": long}), vec!["n"]),
            (json!({"n": 1, "body": long + "b"}), vec!["body"]),
            (json!({"n": 1, "boody": body}), vec!["body", "boody"]),
            (json!({"n": 1}), vec!["body"]),
            (json!({"n": 1, "body": body, "more": null}), vec!["more"]),
        ] {
            let columns: Vec<String> = between(found).unwrap().log.unwrap().keys().cloned().collect();
            assert_eq!(columns, differs);
        }
    }

    #[test]
    fn a_number_is_the_same_in_any_form_and_nothing_else_is() {
        assert!(same(&json!({"a": [1e2, 0.5]}), &json!({"a": [100, 0.5]})));
        assert!(!same(
            &json!(9_007_199_254_740_993_u64),
            &json!(9_007_199_254_740_992_u64)
        ));
        assert!(!same(&json!(1), &json!("1")));
        assert!(!same(&json!([1]), &json!([1, 1])));
        assert!(!same(&json!(null), &json!(false)));
    }
}
