//! Rows in PostgreSQL's binary form of COPY: several times as fast as an insert, and refused by the same rules.

use sqlx::{Encode, Postgres, encode::IsNull, postgres::PgArgumentBuffer};

use crate::{Error, Write};

/// Rows on their way into one table.
#[derive(Default)]
pub(crate) struct Copy {
    bytes: PgArgumentBuffer,
    /// What could not be encoded, if anything.
    failed: Option<sqlx::Error>,
}

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Instead of a row's number of fields.
const END: i16 = -1;
/// Instead of a field's number of bytes.
const NULL: i32 = -1;

impl Copy {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let mut copy = Self::default();
        copy.bytes.extend_from_slice(HEADER);
        copy
    }

    /// A row of so many fields begins; they follow in the order of the columns.
    pub(crate) fn row(&mut self, fields: i16) -> &mut Self {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        self
    }

    /// The next field.
    pub(crate) fn field<'q>(&mut self, value: impl Encode<'q, Postgres>) -> &mut Self {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&NULL.to_be_bytes());
        match value.encode_by_ref(&mut self.bytes) {
            Ok(IsNull::Yes) => {}
            Ok(IsNull::No) => match i32::try_from(self.bytes.len() - begin - 4) {
                Ok(length) => self.bytes[begin..begin + 4].copy_from_slice(&length.to_be_bytes()),
                Err(error) => self.failed = Some(sqlx::Error::Encode(error.into())),
            },
            Err(error) => self.failed = Some(sqlx::Error::Encode(error)),
        }
        self
    }

    /// Sends the rows; `statement` is a `COPY … FROM STDIN (FORMAT binary)`. Rows written.
    ///
    /// # Errors
    /// [`Error::Refused`] for values that the table does not take.
    pub(crate) async fn write(mut self, write: &mut Write, statement: &str) -> Result<u64, Error> {
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        self.bytes.extend_from_slice(&END.to_be_bytes());
        let mut into = write.connection().copy_in_raw(statement).await?;
        into.send(&self.bytes[..]).await?;
        Ok(into.finish().await?)
    }
}
