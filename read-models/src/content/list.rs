//! Lists of content: filters, sorting, pages by number or by cursor, an optional total.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Snapshot};

/// Which pieces a list shows. Absent fields let everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Whose; always.
    pub tenant: Uuid,
    /// Of one site.
    pub site: Option<Uuid>,
    /// Of one kind.
    pub kind: Option<String>,
    /// With one status.
    pub status: Option<String>,
    /// With one tag.
    pub tag: Option<String>,
    /// Featured, or not.
    pub featured: Option<bool>,
    /// In one language; `en` has `en-GB` too.
    pub language: Option<String>,
    /// With these words, as web searches write them: `two words`, `"a phrase"`, `or`, `-without`.
    pub search: Option<String>,
}

/// What a list is sorted by; equal ones by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Field {
    /// The date that a piece carries: when it was published, else when it was drafted.
    #[default]
    Date,
    /// Its latest event.
    Updated,
    /// When it was drafted.
    Created,
    /// Its title, by code points.
    Title,
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sort {
    /// By what.
    pub field: Field,
    /// The greatest first.
    pub descending: bool,
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Page {
    /// What follows so many.
    Skip(u64),
    /// What follows a row, however far that is.
    After(Cursor),
}

/// A row's place in an order. Its text is opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    sort: Sort,
    key: Key,
    id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Time(DateTime<Utc>),
    Text(String),
}

/// A text that is no cursor, or one of a list in another order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

/// A piece as lists show it: without its body.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in Content")]
pub struct Listed {
    pub content: Uuid,
    pub site: Uuid,
    pub kind: String,
    pub status: String,
    pub title: String,
    pub slug: String,
    pub path: String,
    pub summary: Option<String>,
    pub tags: Vec<String>,
    pub featured: bool,
    pub language: Option<String>,
    pub metadata: Value,
    pub published_at: Option<DateTime<Utc>>,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    /// What [`Field::Date`] sorts by.
    pub dated_at: DateTime<Utc>,
}

impl Default for Sort {
    /// The latest first.
    fn default() -> Self {
        Self {
            field: Field::Date,
            descending: true,
        }
    }
}

impl Field {
    /// The names that clients sort by.
    pub const NAMES: [&str; 4] = ["published_at", "updated_at", "created_at", "title"];

    const fn name(self) -> &'static str {
        match self {
            Self::Date => "published_at",
            Self::Updated => "updated_at",
            Self::Created => "created_at",
            Self::Title => "title",
        }
    }
}

impl Sort {
    /// Reads `field` or `-field`; none for a field that lists do not sort by.
    pub fn parse(text: &str) -> Option<Self> {
        let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let field = [Field::Date, Field::Updated, Field::Created, Field::Title]
            .into_iter()
            .find(|field| field.name() == name)?;
        Some(Self { field, descending })
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            if self.descending { "-" } else { "" },
            self.field.name()
        )
    }
}

impl Listed {
    /// Where this row stands in an order: what [`Page::After`] goes on from.
    pub fn cursor(&self, sort: Sort) -> Cursor {
        let key = match sort.field {
            Field::Date => Key::Time(self.dated_at),
            Field::Updated => Key::Time(self.updated_at),
            Field::Created => Key::Time(self.created_at),
            Field::Title => Key::Text(self.title.clone()),
        };
        Cursor {
            sort,
            key,
            id: self.content,
        }
    }
}

impl Cursor {
    /// The order that it is a place in: a list that goes on from it has the same.
    pub const fn sort(&self) -> Sort {
        self.sort
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            Key::Time(time) => time.timestamp_micros().to_string(),
            Key::Text(text) => hex::encode(text),
        };
        write!(f, "{}~{key}~{}", self.sort, self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.split('~');
        let (Some(sort), Some(key), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidCursor);
        };
        let sort = Sort::parse(sort).ok_or(InvalidCursor)?;
        let key = match sort.field {
            Field::Date | Field::Updated | Field::Created => {
                let micros: i64 = key.parse().map_err(|_| InvalidCursor)?;
                // 1900 to 2199, as dates of content are; PostgreSQL refuses much earlier ones.
                if !(-2_208_988_800_000_000..7_258_118_400_000_000).contains(&micros) {
                    return Err(InvalidCursor);
                }
                Key::Time(DateTime::from_timestamp_micros(micros).ok_or(InvalidCursor)?)
            }
            Field::Title => {
                let bytes = hex::decode(key).map_err(|_| InvalidCursor)?;
                let text = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
                if text.contains('\0') {
                    return Err(InvalidCursor);
                }
                Key::Text(text)
            }
        };
        let id = Uuid::try_parse(id).map_err(|_| InvalidCursor)?;
        Ok(Self { sort, key, id })
    }
}

/// A page of a list, of at most `size` rows. With [`Page::After`] the cursor's order counts.
///
/// # Errors
/// A database that cannot be reached.
pub async fn list(
    at: &Snapshot,
    filter: &Filter,
    sort: Sort,
    page: &Page,
    size: u32,
) -> Result<Vec<Listed>, Error> {
    let (sort, time, text, id, skip) = match page {
        Page::Skip(skip) => (sort, None, None, None, i64::try_from(*skip).unwrap_or(i64::MAX)),
        Page::After(Cursor {
            sort,
            key: Key::Time(time),
            id,
        }) => (*sort, Some(*time), None, Some(*id), 0),
        Page::After(Cursor {
            sort,
            key: Key::Text(text),
            id,
        }) => (*sort, None, Some(text.as_str()), Some(*id), 0),
    };
    let rows = sqlx::query_file_as!(
        Listed,
        "src/content/list.sql",
        filter.tenant,
        filter.site,
        filter.kind.as_deref(),
        filter.status.as_deref(),
        filter.tag.as_deref(),
        filter.featured,
        filter.language.as_deref(),
        filter.search.as_deref(),
        sort.field.name(),
        sort.descending,
        id,
        time,
        text,
        i64::from(size),
        skip
    )
    .fetch_all(at.pool())
    .await?;
    Ok(rows)
}

/// How many pieces a list has.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count(at: &Snapshot, filter: &Filter) -> Result<i64, Error> {
    let count = sqlx::query_file_scalar!(
        "src/content/count.sql",
        filter.tenant,
        filter.site,
        filter.kind.as_deref(),
        filter.status.as_deref(),
        filter.tag.as_deref(),
        filter.featured,
        filter.language.as_deref(),
        filter.search.as_deref()
    )
    .fetch_one(at.pool())
    .await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_text() {
        for (field, key) in [
            (
                Field::Date,
                Key::Time(DateTime::from_timestamp_micros(-5).unwrap()),
            ),
            (Field::Title, Key::Text("a ~ ü".into())),
        ] {
            for descending in [false, true] {
                let cursor = Cursor {
                    sort: Sort { field, descending },
                    key: key.clone(),
                    id: Uuid::from_u128(9),
                };
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
        for text in [
            "",
            "a~b",
            "title~zz~0",
            "title~00~00000000000000000000000000000009",
            "-date~1~2~3",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
