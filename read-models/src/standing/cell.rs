//! What a column of a row says, in whatever form a store or a fold has it.

use serde_json::Value;
use uuid::Uuid;

/// What a column says.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A whole number; of a time microseconds since 1970.
    Number(i128),
    /// A text, or a decimal number.
    Text(&'a str),
    /// An id, which is a text in its usual form.
    Id(Uuid),
    /// JSON as a fold has it.
    Json(&'a Value),
    /// JSON as a store writes it.
    Raw(&'a str),
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Cell<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Cell<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<Uuid> for Cell<'_> {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Value> for Cell<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Json(value)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::Null, Into::into)
    }
}

impl TryFrom<Cell<'_>> for Value {
    /// What a store wrote is no JSON.
    type Error = serde_json::Error;

    fn try_from(cell: Cell<'_>) -> Result<Self, Self::Error> {
        Ok(match cell {
            Cell::Null => Self::Null,
            Cell::Flag(flag) => flag.into(),
            Cell::Number(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => number.to_string().into(),
            },
            Cell::Text(text) => text.into(),
            Cell::Id(id) => id.to_string().into(),
            Cell::Json(value) => value.clone(),
            Cell::Raw(text) => return serde_json::from_str(text),
        })
    }
}
