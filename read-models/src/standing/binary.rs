//! Rows as ClickHouse writes them in `RowBinary`: values one after the other, without names, in the form that its type
//! gives each.

use uuid::Uuid;

use super::Cell;

/// How a column comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Flag,
    Id,
    Text,
    Json,
    Signed,
    Unsigned,
    /// Microseconds since 2000, as PostgreSQL has times; ClickHouse is asked for a number.
    Time,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) form: Form,
    /// Whether ClickHouse says first if there is something.
    pub(super) nullable: bool,
}

/// What shows a column, and how it comes.
pub(super) fn shown_by_clickhouse(name: &str, of: &str) -> (String, Column) {
    let within = |of: &str, wrap: &str| {
        let inner = of.strip_prefix(wrap)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.to_owned())
    };
    let of = within(of, "LowCardinality").unwrap_or_else(|| of.to_owned());
    let (of, nullable) = match within(&of, "Nullable") {
        Some(of) => (of, true),
        None => (of, false),
    };
    let (shown, form) = match of.as_str() {
        "Bool" => (format!("`{name}`"), Form::Flag),
        "UUID" => (format!("`{name}`"), Form::Id),
        "String" => (format!("`{name}`"), Form::Text),
        "UInt8" | "UInt16" | "UInt32" | "UInt64" => (format!("toUInt64(`{name}`)"), Form::Unsigned),
        "Int8" | "Int16" | "Int32" | "Int64" => (format!("toInt64(`{name}`)"), Form::Signed),
        of if of.starts_with("DateTime64") => (format!("toUnixTimestamp64Micro(`{name}`)"), Form::Signed),
        of if of.starts_with("Decimal") => (format!("toString(`{name}`)"), Form::Text),
        _ => {
            let shown = format!("ifNull(toJSONString(`{name}`), 'null')");
            let form = Form::Json;
            return (
                shown,
                Column {
                    form,
                    nullable: false,
                },
            );
        }
    };
    (shown, Column { form, nullable })
}

/// The length of the row that begins here, in `RowBinary`; none when not all of it is here.
pub(super) fn length_of(columns: &[Column], bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    for column in columns {
        if column.nullable && take(&mut rest, 1)? != [0] {
            continue;
        }
        let length = match column.form {
            Form::Flag => 1,
            Form::Signed | Form::Unsigned | Form::Time => 8,
            Form::Id => 16,
            Form::Text | Form::Json => length(&mut rest)?,
        };
        take(&mut rest, length)?;
    }
    Some(bytes.len() - rest.len())
}

pub(super) fn in_clickhouse<'a>(column: &Column, rest: &mut &'a [u8]) -> Option<Cell<'a>> {
    if column.nullable && take(rest, 1)? != [0] {
        return Some(Cell::Null);
    }
    let eight = |rest: &mut &[u8]| take(rest, 8)?.try_into().ok();
    Some(match column.form {
        Form::Flag => Cell::Flag(take(rest, 1)? != [0]),
        Form::Signed | Form::Time => i64::from_le_bytes(eight(rest)?).into(),
        Form::Unsigned => u64::from_le_bytes(eight(rest)?).into(),
        // Two numbers, the upper one first.
        Form::Id => {
            let (upper, lower) = (eight(rest)?, eight(rest)?);
            Uuid::from_u64_pair(u64::from_le_bytes(upper), u64::from_le_bytes(lower)).into()
        }
        Form::Text => Cell::Text(text(rest)?),
        Form::Json => Cell::Raw(text(rest)?),
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = length(rest)?;
    std::str::from_utf8(take(rest, length)?).ok()
}

/// A length before a text: seven bits in each byte, the lowest first.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let [byte] = take(rest, 1)? else { return None };
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_clickhouse_is_read_when_all_of_it_is_here() {
        let types = [
            "LowCardinality(String)",
            "Nullable(UUID)",
            "Nullable(UInt8)",
            "DateTime64(6, 'UTC')",
            "Bool",
            "Map(LowCardinality(String), String)",
        ];
        let columns: Vec<Column> = types.map(|of| shown_by_clickhouse("column", of).1).into();
        let (long, id) = (
            "a".repeat(300),
            Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        );
        let (upper, lower) = id.as_u64_pair();
        let mut bytes = vec![0xac, 0x02];
        bytes.extend_from_slice(long.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&upper.to_le_bytes());
        bytes.extend_from_slice(&lower.to_le_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&(-5_i64).to_le_bytes());
        bytes.extend_from_slice(b"\x01\x02{}");
        for end in 0..bytes.len() {
            assert_eq!(length_of(&columns, &bytes[..end]), None, "{end} bytes");
        }
        let length = bytes.len();
        bytes.push(7);
        assert_eq!(length_of(&columns, &bytes), Some(length));
        let mut rest = &bytes[..length];
        let cells: Vec<Cell<'_>> = columns
            .iter()
            .map(|column| in_clickhouse(column, &mut rest).unwrap())
            .collect();
        let [
            Cell::Text(text),
            Cell::Id(found),
            Cell::Null,
            Cell::Number(-5),
            Cell::Flag(true),
            Cell::Raw("{}"),
        ] = cells[..]
        else {
            panic!("{cells:?}")
        };
        assert_eq!((text, found, rest), (long.as_str(), id, &[][..]));
    }
}
