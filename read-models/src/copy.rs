//! New rows with COPY, in PostgreSQL's binary form: half of what `INSERT … SELECT … FROM unnest` of the same rows costs
//! (`./dev bench catch-up`), which unpacks arrays into rows, and keeps these aside before it inserts them.
//!
//! Few rows are inserted all the same. What ends a COPY is a small packet of its own, which the system keeps back until
//! the one before is acknowledged (sqlx does not switch Nagle's algorithm off), and that takes PostgreSQL's side 40 ms.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, QueryBuilder, types::Json};
use uuid::Uuid;

use crate::Error;

/// What a file of that form begins with: its name, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH: i64 = 946_684_800_000_000;

/// The type `text`, as arrays name their elements'.
const TEXT: u32 = 25;

/// So many bytes are handed over at once.
const CHUNK: usize = 1 << 16;

/// So many rows are few.
const FEW: usize = 64;

/// A value as it travels; each may be null.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Datum<'a> {
    Uuid(Option<Uuid>),
    Text(Option<&'a str>),
    Texts(Option<&'a [String]>),
    Json(Option<&'a Value>),
    Bool(Option<bool>),
    Int(Option<i32>),
    Long(Option<i64>),
    Time(Option<DateTime<Utc>>),
}

/// Writes rows into the columns of a table, all of which are words of our own; gives how many.
pub(crate) async fn write<'a, const COLUMNS: usize>(
    connection: &mut PgConnection,
    table: &str,
    columns: &[&str; COLUMNS],
    rows: impl ExactSizeIterator<Item = [Datum<'a>; COLUMNS]>,
) -> Result<u64, Error> {
    let columns = columns.join(", ");
    if rows.len() > FEW {
        copy(connection, table, &columns, encode(rows)?).await
    } else {
        let mut insert = QueryBuilder::new(format!("INSERT INTO {table} ({columns}) "));
        insert.push_values(rows, |mut values, row| {
            for datum in row {
                match datum {
                    Datum::Uuid(value) => values.push_bind(value),
                    Datum::Text(value) => values.push_bind(value),
                    Datum::Texts(value) => values.push_bind(value),
                    Datum::Json(value) => values.push_bind(value.map(Json)),
                    Datum::Bool(value) => values.push_bind(value),
                    Datum::Int(value) => values.push_bind(value),
                    Datum::Long(value) => values.push_bind(value),
                    Datum::Time(value) => values.push_bind(value),
                };
            }
        });
        // Each number of rows is another statement: none of them is kept.
        let insert = insert.build().persistent(false);
        Ok(insert.execute(connection).await?.rows_affected())
    }
}

/// Rows as they travel.
fn encode<'a, const COLUMNS: usize>(
    rows: impl Iterator<Item = [Datum<'a>; COLUMNS]>,
) -> Result<Vec<u8>, Error> {
    let mut bytes = HEADER.to_vec();
    for row in rows {
        bytes.extend((COLUMNS as i16).to_be_bytes());
        for datum in row {
            datum.write(&mut bytes)?;
        }
    }
    // No row follows.
    bytes.extend((-1_i16).to_be_bytes());
    Ok(bytes)
}

async fn copy(
    connection: &mut PgConnection,
    table: &str,
    columns: &str,
    rows: Vec<u8>,
) -> Result<u64, Error> {
    let statement = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&statement).await?;
    for chunk in rows.chunks(CHUNK) {
        copy.send(chunk).await?;
    }
    Ok(copy.finish().await?)
}

impl Datum<'_> {
    fn write(self, into: &mut Vec<u8>) -> Result<(), Error> {
        let place = into.len();
        into.extend([0; 4]);
        match self {
            Self::Uuid(Some(id)) => into.extend(id.as_bytes()),
            Self::Text(Some(text)) => into.extend(text.as_bytes()),
            Self::Texts(Some(texts)) => {
                let dimensions = u32::from(!texts.is_empty());
                for number in [dimensions, 0, TEXT] {
                    into.extend(number.to_be_bytes());
                }
                if dimensions > 0 {
                    into.extend(length(texts.len())?);
                    into.extend(1_u32.to_be_bytes());
                }
                for text in texts {
                    text.datum().write(into)?;
                }
            }
            Self::Json(Some(value)) => {
                // The version of the form, then the text.
                into.push(1);
                serde_json::to_writer(&mut *into, value).map_err(unwritable)?;
            }
            Self::Bool(Some(value)) => into.push(value.into()),
            Self::Int(Some(value)) => into.extend(value.to_be_bytes()),
            Self::Long(Some(value)) => into.extend(value.to_be_bytes()),
            Self::Time(Some(at)) => into.extend((at.timestamp_micros() - EPOCH).to_be_bytes()),
            Self::Uuid(None)
            | Self::Text(None)
            | Self::Texts(None)
            | Self::Json(None)
            | Self::Bool(None)
            | Self::Int(None)
            | Self::Long(None)
            | Self::Time(None) => {
                into[place..].copy_from_slice(&(-1_i32).to_be_bytes());
                return Ok(());
            }
        }
        let length = length(into.len() - place - 4)?;
        into[place..place + 4].copy_from_slice(&length);
        Ok(())
    }
}

fn length(of: usize) -> Result<[u8; 4], Error> {
    Ok(i32::try_from(of).map_err(unwritable)?.to_be_bytes())
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    sqlx::Error::Encode(Box::new(error)).into()
}

/// What a column may be made of.
pub(crate) trait AsDatum {
    const NULL: Datum<'static>;

    fn datum(&self) -> Datum<'_>;
}

macro_rules! datum {
    ($($type:ty => $datum:ident |$value:ident| $of:expr),+ $(,)?) => {$(
        impl AsDatum for $type {
            const NULL: Datum<'static> = Datum::$datum(None);

            fn datum(&self) -> Datum<'_> {
                let $value = self;
                Datum::$datum(Some($of))
            }
        }
    )+};
}
datum!(
    Uuid => Uuid |id| *id,
    String => Text |text| text,
    Vec<String> => Texts |texts| texts,
    Value => Json |value| value,
    bool => Bool |value| *value,
    i32 => Int |value| *value,
    i64 => Long |value| *value,
    DateTime<Utc> => Time |at| *at,
);

impl<T: AsDatum> AsDatum for Option<T> {
    const NULL: Datum<'static> = T::NULL;

    fn datum(&self) -> Datum<'_> {
        self.as_ref().map_or(T::NULL, T::datum)
    }
}

/// Writes rows whose fields are called like the columns: a macro, so that each name is written once.
macro_rules! write_rows {
    ($write:expr, $table:literal, $rows:expr; $($column:ident),+ $(,)?) => {{
        let rows = $rows.iter().map(|row| [$($crate::copy::AsDatum::datum(&row.$column)),+]);
        $crate::copy::write($write.connection(), $table, &[$(stringify!($column)),+], rows)
    }};
}
pub(crate) use write_rows;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_its_length_and_its_bytes() {
        let written = |datum: Datum<'_>| {
            let mut bytes = Vec::new();
            datum.write(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(written(None::<String>.datum()), [255; 4]);
        assert_eq!(written(7_i32.datum()), [0, 0, 0, 4, 0, 0, 0, 7]);
        assert_eq!(written(json!({}).datum()), [0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(
            written(Vec::<String>::new().datum()),
            [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]
        );
        let one = written(vec!["a".to_owned()].datum());
        let dimension = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(
            one,
            [&[0, 0, 0, 25][..], &dimension, &[0, 0, 0, 1, b'a']].concat()
        );
        let at = DateTime::from_timestamp(946_684_801, 0).unwrap();
        assert_eq!(written(Some(at).datum())[4..], 1_000_000_i64.to_be_bytes());
    }
}
