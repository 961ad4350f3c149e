//! How a row differs from the one that is expected.

use std::collections::BTreeSet;

use read_models::standing::{Place, Row, Table};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Longer texts are cut when a difference is told.
const SHOWN: usize = 200;

/// Texts of more bytes than this are not kept.
pub(super) const LONG: usize = 512;

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
pub(super) fn shorten(value: &mut Value) {
    if let Value::String(text) = value
        && text.len() > LONG
    {
        *text = shortened(text);
    }
}

pub(super) fn shortened(text: &str) -> String {
    let beginning: String = text.chars().take(SHOWN / 2).collect();
    let (bytes, hash) = (text.len(), hex::encode(Sha256::digest(text.as_bytes())));
    format!("{beginning}… ({bytes} bytes, SHA-256 {hash})")
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
