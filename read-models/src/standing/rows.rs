//! The rows of a table, one after the other, as they come from a store.
//!
//! Stores send them in their own binary form, not as JSON: millions of rows are compared, and most of what that costs
//! would be to write and to read texts.

use std::{pin::Pin, sync::Arc};

use ::clickhouse::query::BytesCursor;
use futures::{Stream, TryStreamExt as _};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, ValueRef as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Cell, Row, Slice, Standing, Table,
    binary::{Column, Form, in_clickhouse, length_of, shown_by_clickhouse},
};
use crate::{Error, Projection, clickhouse};

/// 2000-01-01, from which PostgreSQL counts, in microseconds since 1970.
const POSTGRES_EPOCH: i128 = 946_684_800_000_000;

/// The rows of a table in a slice.
pub struct Rows<'a> {
    names: Arc<[String]>,
    columns: Vec<Column>,
    source: Source<'a>,
}

enum Source<'a> {
    Postgres {
        rows: Pin<Box<dyn Stream<Item = sqlx::Result<PgRow>> + Send + 'a>>,
        row: Option<PgRow>,
    },
    ClickHouse {
        answer: BytesCursor,
        limit: std::time::Duration,
        table: &'static str,
        /// What came, and how much of it was given.
        bytes: Vec<u8>,
        given: usize,
    },
}

/// Why rows do not come.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// PostgreSQL.
    #[error("the tables cannot be read")]
    Tables(#[from] Error),
    /// ClickHouse.
    #[error("ClickHouse cannot be read")]
    Rows(#[from] clickhouse::Error),
}

impl From<serde_json::Error> for RowsError {
    fn from(error: serde_json::Error) -> Self {
        Self::Tables(sqlx::Error::Decode(error.into()).into())
    }
}

impl Rows<'_> {
    /// The columns, in the order in which every row has them.
    pub fn names(&self) -> Arc<[String]> {
        self.names.clone()
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// A store that does not answer, or says what cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Cell<'_>>>, RowsError> {
        let Self { columns, source, .. } = self;
        match source {
            Source::Postgres { rows, row } => {
                *row = rows.try_next().await.map_err(Error::from)?;
                let Some(row) = row else { return Ok(None) };
                let cells = columns
                    .iter()
                    .enumerate()
                    .map(|(at, it)| in_postgres(row, at, it));
                Ok(Some(cells.collect::<sqlx::Result<_>>().map_err(Error::from)?))
            }
            Source::ClickHouse {
                answer,
                limit,
                table,
                bytes,
                given,
            } => {
                let length = loop {
                    if let Some(length) = length_of(columns, &bytes[*given..]) {
                        break length;
                    }
                    bytes.drain(..*given);
                    *given = 0;
                    // However long all of it takes, something comes within the time of a write.
                    let what = || format!("rows of {table}");
                    match clickhouse::within(*limit, what, answer.next()).await? {
                        Some(more) => bytes.extend_from_slice(&more),
                        None if bytes.is_empty() => return Ok(None),
                        None => return Err(unreadable(bytes).into()),
                    }
                };
                let row = &bytes[*given..*given + length];
                *given += length;
                let mut rest = row;
                let cells = columns.iter().map(|it| in_clickhouse(it, &mut rest));
                let cells: Option<Vec<_>> = cells.collect();
                Ok(Some(cells.ok_or_else(|| unreadable(row))?))
            }
        }
    }

    /// All that are left, by column: for a table that is known to be small.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn all(mut self) -> Result<Vec<Row>, RowsError> {
        let (names, mut all) = (self.names(), Vec::new());
        while let Some(cells) = self.next().await? {
            all.push(row(&names, &cells)?);
        }
        Ok(all)
    }
}

/// A row by column.
///
/// # Errors
/// A store wrote something as JSON that is none.
pub fn row(names: &[String], cells: &[Cell<'_>]) -> serde_json::Result<Row> {
    let column = |(name, cell): (&String, &Cell<'_>)| Ok((name.clone(), (*cell).try_into()?));
    names.iter().zip(cells).map(column).collect()
}

fn in_postgres<'a>(row: &'a PgRow, at: usize, column: &Column) -> sqlx::Result<Cell<'a>> {
    // What is asked for has this type.
    Ok(match column.form {
        Form::Flag => row.try_get_unchecked::<Option<bool>, _>(at)?.into(),
        Form::Id => row.try_get_unchecked::<Option<Uuid>, _>(at)?.into(),
        Form::Text => row.try_get_unchecked::<Option<&str>, _>(at)?.into(),
        Form::Json => {
            let text = row.try_get_unchecked::<Option<&str>, _>(at)?;
            text.map_or(Cell::Null, Cell::Raw)
        }
        Form::Time => {
            let value = row.try_get_raw(at)?;
            if value.is_null() {
                return Ok(Cell::Null);
            }
            let since = <[u8; 8]>::try_from(value.as_bytes().map_err(sqlx::Error::Decode)?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            Cell::Number(i128::from(i64::from_be_bytes(since)) + POSTGRES_EPOCH)
        }
        Form::Signed | Form::Unsigned => row.try_get_unchecked::<Option<i64>, _>(at)?.into(),
    })
}

fn unreadable(bytes: &[u8]) -> clickhouse::Error {
    let text: String = String::from_utf8_lossy(bytes).chars().take(300).collect();
    clickhouse::Error::Custom(format!("not a row: {text}"))
}

impl Standing {
    /// Every row of a table in PostgreSQL that is in a slice.
    ///
    /// # Errors
    /// A database that cannot be reached, a table that is not there.
    pub async fn rows(&mut self, table: &'static Table, slice: Slice) -> Result<Rows<'_>, Error> {
        let schema = self.projection.schema(self.generation);
        // Names of our own templates: plain words, so they may stand in a statement.
        let known: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT attname::text,
                    format(CASE WHEN form = 'number' THEN '%1$I::bigint'
                                WHEN form = 'other' THEN 'to_json(%1$I)::text'
                                WHEN form = 'text' OR form = 'json' THEN '%1$I::text'
                                ELSE '%1$I' END, attname),
                    form
             FROM (SELECT attname, attnum, CASE atttypid::regtype::text
                              WHEN 'boolean' THEN 'flag' WHEN 'uuid' THEN 'id'
                              WHEN 'text' THEN 'text' WHEN 'character varying' THEN 'text'
                              WHEN 'smallint' THEN 'number' WHEN 'integer' THEN 'number' WHEN 'bigint' THEN 'number'
                              WHEN 'timestamp with time zone' THEN 'time'
                              WHEN 'jsonb' THEN 'json' WHEN 'json' THEN 'json'
                              ELSE 'other' END AS form
                   FROM pg_attribute
                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '') columns
             ORDER BY attnum",
        )
        .bind(format!("{schema}.{}", table.name))
        .fetch_all(&mut self.connection)
        .await?;
        if known.is_empty() {
            let text = format!("the table {schema}.{} is not there", table.name);
            return Err(Error::Configuration(text));
        }
        let shown: Vec<&str> = known.iter().map(|(_, shown, _)| shown.as_str()).collect();
        let statement = format!(
            "SELECT {} FROM {schema}.{} WHERE {}",
            shown.join(", "),
            table.name,
            slice.in_postgres(table.slice)
        );
        let column = |form: &str| Column {
            form: match form {
                "flag" => Form::Flag,
                "id" => Form::Id,
                "text" => Form::Text,
                "number" => Form::Signed,
                "time" => Form::Time,
                _ => Form::Json,
            },
            nullable: true,
        };
        let columns = known.iter().map(|(_, _, form)| column(form)).collect();
        let connection: &mut PgConnection = &mut self.connection;
        Ok(Rows {
            names: known.into_iter().map(|(name, ..)| name).collect(),
            columns,
            source: Source::Postgres {
                rows: sqlx::query(AssertSqlSafe(statement)).fetch(connection),
                row: None,
            },
        })
    }
}

impl clickhouse::Writer {
    /// Every row of a table in ClickHouse that is in a slice and fulfils a condition, which is SQL of our own making. Of
    /// rows with versions (`sessions`, `facts`) the last one.
    ///
    /// # Errors
    /// When ClickHouse does not answer, or the table is not there.
    pub async fn rows(
        &self,
        projection: Projection,
        generation: i32,
        table: &'static Table,
        slice: Slice,
        condition: &str,
    ) -> Result<Rows<'static>, clickhouse::Error> {
        let client = match projection {
            Projection::Visits => self.visits(generation),
            Projection::ContentFacts => self.facts(generation),
            Projection::Directory | Projection::Content | Projection::Downloads => {
                let text = format!("{projection} has no tables in ClickHouse");
                return Err(clickhouse::Error::Custom(text));
            }
        };
        let known: Vec<(String, String)> = client
            .query_raw(
                "SELECT name, type FROM system.columns \
                 WHERE database = currentDatabase() AND table = {table:String} ORDER BY position",
            )
            .param("table", table.name)
            .fetch_all()
            .await?;
        if known.is_empty() {
            let text = format!(
                "the table {}.{} is not there",
                projection.schema(generation),
                table.name
            );
            return Err(clickhouse::Error::Custom(text));
        }
        let (shown, columns): (Vec<String>, Vec<Column>) = known
            .iter()
            .map(|(name, of)| shown_by_clickhouse(name, of))
            .unzip();
        let versions = match table.name {
            "sessions" | "facts" => " FINAL",
            _ => "",
        };
        let statement = format!(
            "SELECT {} FROM {}{versions} WHERE {} AND {condition}",
            shown.join(", "),
            table.name,
            slice.in_clickhouse(table.slice),
        );
        Ok(Rows {
            names: known.into_iter().map(|(name, _)| name).collect(),
            columns,
            source: Source::ClickHouse {
                answer: client.query_raw(&statement).fetch_bytes("RowBinary")?,
                limit: self.limits().write,
                table: table.name,
                bytes: Vec::new(),
                given: 0,
            },
        })
    }
}
