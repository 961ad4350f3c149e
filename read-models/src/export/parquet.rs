//! Rows of PostgreSQL as Apache Parquet. A row group is written when it is full, so no more than one is in memory.

use chrono::{DateTime, Utc};
use parquet::{
    basic::Compression,
    data_type::{
        BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
        Int64Type,
    },
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::ExportError;
use crate::Error;

/// Rows of a group, and bytes of their texts, at most, a row more or less.
const ROWS: usize = 50_000;
const BYTES: usize = 8 << 20;

/// A file that is being written. Every column may be null.
pub(super) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// A column of the row group that is being gathered, with its levels as Parquet defines them.
struct Column {
    values: Values,
    definition: Vec<i16>,
    /// Of lists.
    repetition: Option<Vec<i16>>,
}

enum Values {
    Booleans(Vec<bool>),
    Integers(Vec<i32>),
    Longs(Vec<i64>),
    /// Microseconds since 1970.
    Times(Vec<i64>),
    Uuids(Vec<FixedLenByteArray>),
    Texts(Vec<ByteArray>),
    Lists(Vec<ByteArray>),
}

impl Writer {
    /// For columns of these names and types, the latter as PostgreSQL says them.
    ///
    /// # Errors
    /// There is no Parquet for one of the types.
    pub(super) fn new(columns: &[(String, String)]) -> Result<Self, ExportError> {
        let mut message = String::new();
        let mut gathered = Vec::with_capacity(columns.len());
        for (name, kind) in columns {
            let (field, values) = match kind.as_str() {
                "boolean" => ("boolean NAME", Values::Booleans(Vec::new())),
                "integer" => ("int32 NAME", Values::Integers(Vec::new())),
                "bigint" => ("int64 NAME", Values::Longs(Vec::new())),
                "timestamp with time zone" => {
                    ("int64 NAME (TIMESTAMP(MICROS,true))", Values::Times(Vec::new()))
                }
                "uuid" => ("fixed_len_byte_array(16) NAME (UUID)", Values::Uuids(Vec::new())),
                "text" => ("binary NAME (STRING)", Values::Texts(Vec::new())),
                "jsonb" => ("binary NAME (JSON)", Values::Texts(Vec::new())),
                "text[]" => (
                    "group NAME (LIST) { repeated group list { required binary element (STRING); } }",
                    Values::Lists(Vec::new()),
                ),
                other => {
                    let text = format!("there is no Parquet for the column {name} of the type {other}");
                    return Err(Error::Configuration(text).into());
                }
            };
            let end = if kind == "text[]" { "" } else { ";" };
            message.push_str(&format!("optional {}{end} ", field.replace("NAME", name)));
            let repetition = matches!(values, Values::Lists(_)).then(Vec::new);
            gathered.push(Column {
                values,
                definition: Vec::new(),
                repetition,
            });
        }
        let schema = parse_message_type(&format!("message live {{ {message}}}"))?;
        let properties = WriterProperties::builder().set_compression(Compression::LZ4_RAW);
        Ok(Self {
            file: SerializedFileWriter::new(Vec::new(), schema.into(), properties.build().into())?,
            columns: gathered,
            rows: 0,
            bytes: 0,
        })
    }

    /// Takes a row; whether the group is full.
    pub(super) fn take(&mut self, row: &PgRow) -> Result<bool, ExportError> {
        for (index, column) in self.columns.iter_mut().enumerate() {
            self.bytes += column.take(row, index).map_err(Error::from)?;
        }
        self.rows += 1;
        Ok(self.rows >= ROWS || self.bytes >= BYTES)
    }

    /// Writes the group; gives the bytes that the file has now beyond those given before.
    pub(super) fn group(&mut self) -> Result<Vec<u8>, ExportError> {
        if self.rows > 0 {
            let mut group = self.file.next_row_group()?;
            for column in &mut self.columns {
                column.write(&mut group)?;
            }
            group.close()?;
            (self.rows, self.bytes) = (0, 0);
        }
        Ok(std::mem::take(self.file.inner_mut()))
    }

    /// The rest of the file.
    pub(super) fn end(mut self) -> Result<Vec<u8>, ExportError> {
        let mut rest = self.group()?;
        rest.extend(self.file.into_inner()?);
        Ok(rest)
    }
}

impl Column {
    /// Takes a value; gives about as many bytes as it has.
    fn take(&mut self, row: &PgRow, index: usize) -> Result<usize, sqlx::Error> {
        let Self {
            values,
            definition,
            repetition,
        } = self;
        let mut bytes = 8;
        let present = match values {
            Values::Booleans(values) => push(values, row.try_get(index)?),
            Values::Integers(values) => push(values, row.try_get(index)?),
            Values::Longs(values) => push(values, row.try_get(index)?),
            Values::Times(values) => {
                let time: Option<DateTime<Utc>> = row.try_get(index)?;
                push(values, time.map(|time| time.timestamp_micros()))
            }
            Values::Uuids(values) => {
                let id: Option<Uuid> = row.try_get(index)?;
                push(values, id.map(|id| id.as_bytes().to_vec().into()))
            }
            Values::Texts(values) => {
                let text: Option<String> = row.try_get(index)?;
                bytes += text.as_ref().map_or(0, String::len);
                push(values, text.map(|text| text.into_bytes().into()))
            }
            Values::Lists(values) => {
                let list: Option<Vec<String>> = row.try_get(index)?;
                let first = values.len();
                if let Some(list) = &list {
                    bytes += list.iter().map(|text| 8 + text.len()).sum::<usize>();
                    values.extend(list.iter().map(|text| ByteArray::from(text.as_str())));
                }
                let repetition = repetition.get_or_insert_default();
                // Two: an element; one: an empty list; none: no list.
                for element in first..values.len() {
                    definition.push(2);
                    repetition.push((element > first).into());
                }
                if values.len() == first {
                    definition.push(list.is_some().into());
                    repetition.push(0);
                }
                return Ok(bytes);
            }
        };
        definition.push(present.into());
        Ok(bytes)
    }

    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError> {
        let levels = (&*self.definition, self.repetition.as_deref());
        match &mut self.values {
            Values::Booleans(values) => write::<BoolType>(group, values, levels)?,
            Values::Integers(values) => write::<Int32Type>(group, values, levels)?,
            Values::Longs(values) | Values::Times(values) => write::<Int64Type>(group, values, levels)?,
            Values::Uuids(values) => write::<FixedLenByteArrayType>(group, values, levels)?,
            Values::Texts(values) | Values::Lists(values) => write::<ByteArrayType>(group, values, levels)?,
        }
        self.definition.clear();
        if let Some(repetition) = &mut self.repetition {
            repetition.clear();
        }
        Ok(())
    }
}

/// Whether there is a value.
fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let present = value.is_some();
    values.extend(value);
    present
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &mut Vec<T::T>,
    (definition, repetition): (&[i16], Option<&[i16]>),
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a column that the schema lacks".to_owned()));
    };
    column
        .typed::<T>()
        .write_batch(values, Some(definition), repetition)?;
    values.clear();
    column.close()
}
