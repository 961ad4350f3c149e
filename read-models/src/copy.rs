//! New rows with COPY, in PostgreSQL's binary form: half of what `INSERT … SELECT … FROM unnest` of the same rows costs
//! (`./dev bench catch-up`), which unpacks arrays into rows, and keeps these aside before it inserts them.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
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

/// A value as it travels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Datum<'a> {
    Null,
    Uuid(Uuid),
    Text(&'a str),
    Texts(&'a [String]),
    Json(&'a Value),
    Bool(bool),
    Int(i32),
    Long(i64),
    Time(DateTime<Utc>),
}

/// Rows as they travel.
pub(crate) fn encode<'a, const COLUMNS: usize>(
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

/// Copies rows into the columns of a table, which are words of our own; gives how many.
pub(crate) async fn copy(
    connection: &mut PgConnection,
    table: &str,
    columns: &[&str],
    rows: Vec<u8>,
) -> Result<u64, Error> {
    let columns = columns.join(", ");
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
            Self::Null => {
                into[place..].copy_from_slice(&(-1_i32).to_be_bytes());
                return Ok(());
            }
            Self::Uuid(id) => into.extend(id.as_bytes()),
            Self::Text(text) => into.extend(text.as_bytes()),
            Self::Texts(texts) => {
                let dimensions = u32::from(!texts.is_empty());
                for number in [dimensions, 0, TEXT] {
                    into.extend(number.to_be_bytes());
                }
                if dimensions > 0 {
                    into.extend(length(texts.len())?);
                    into.extend(1_u32.to_be_bytes());
                }
                for text in texts {
                    Datum::Text(text).write(into)?;
                }
            }
            Self::Json(value) => {
                // The version of the form, then the text.
                into.push(1);
                serde_json::to_writer(&mut *into, value).map_err(unwritable)?;
            }
            Self::Bool(value) => into.push(value.into()),
            Self::Int(value) => into.extend(value.to_be_bytes()),
            Self::Long(value) => into.extend(value.to_be_bytes()),
            Self::Time(at) => into.extend((at.timestamp_micros() - EPOCH).to_be_bytes()),
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
    fn datum(&self) -> Datum<'_>;
}

macro_rules! datum {
    ($($type:ty => |$value:ident| $datum:expr),+ $(,)?) => {$(
        impl AsDatum for $type {
            fn datum(&self) -> Datum<'_> {
                let $value = self;
                $datum
            }
        }
    )+};
}
datum!(
    Uuid => |id| Datum::Uuid(*id),
    String => |text| Datum::Text(text),
    Vec<String> => |texts| Datum::Texts(texts),
    Value => |value| Datum::Json(value),
    bool => |value| Datum::Bool(*value),
    i32 => |value| Datum::Int(*value),
    i64 => |value| Datum::Long(*value),
    DateTime<Utc> => |at| Datum::Time(*at),
);

impl<T: AsDatum> AsDatum for Option<T> {
    fn datum(&self) -> Datum<'_> {
        self.as_ref().map_or(Datum::Null, T::datum)
    }
}

/// Copies rows whose fields are called like the columns: a macro, so that each name is written once.
macro_rules! copy_rows {
    ($write:expr, $table:literal, $rows:expr; $($column:ident),+ $(,)?) => {{
        let rows = $rows.iter().map(|row| [$($crate::copy::AsDatum::datum(&row.$column)),+]);
        let rows = $crate::copy::encode(rows)?;
        $crate::copy::copy($write.connection(), $table, &[$(stringify!($column)),+], rows)
    }};
}
pub(crate) use copy_rows;

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
        assert_eq!(written(Datum::Null), [255; 4]);
        assert_eq!(written(7_i32.datum()), [0, 0, 0, 4, 0, 0, 0, 7]);
        assert_eq!(written(json!({}).datum()), [0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(
            written(Datum::Texts(&[])),
            [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]
        );
        let one = written(Datum::Texts(&["a".to_owned()]));
        let dimension = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(
            one,
            [&[0, 0, 0, 25][..], &dimension, &[0, 0, 0, 1, b'a']].concat()
        );
        let at = DateTime::from_timestamp(946_684_801, 0).unwrap();
        assert_eq!(written(Some(at).datum())[4..], 1_000_000_i64.to_be_bytes());
    }
}
