//! Columns as ClickHouse's Native format wants them.
//!
//! Rows are written column by column, because the engine then has less to parse: of the 31 columns of `events`
//! it took 10 to 70 % more rows a second than as `RowBinary` (200,000 rows an insert, two busy cores). What it
//! makes of a catch-up from zero stands in BENCHMARKS.md.
//! Format: <https://clickhouse.com/docs/interfaces/formats/Native>.

use std::collections::HashMap;

use uuid::Uuid;

/// One column that grows by appending.
#[derive(Debug, Default, Clone)]
pub struct Column {
    values: Vec<u8>,
    /// Of a nullable column: 1 where the value is null.
    nulls: Vec<u8>,
}

impl Column {
    pub(crate) fn size(&self) -> usize {
        self.values.len() + self.nulls.len()
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.nulls.clear();
    }

    /// `UInt8`, `Bool`.
    pub fn u8(&mut self, value: u8) {
        self.values.push(value);
    }

    /// `UInt32`.
    pub fn u32(&mut self, value: u32) {
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    /// `UInt64`.
    pub fn u64(&mut self, value: u64) {
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    /// `DateTime64(6)`: microseconds since 1970.
    pub fn micros(&mut self, value: i64) {
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    /// `String`: its length as a variable-length integer, then its bytes.
    pub fn text(&mut self, value: &str) {
        varint(&mut self.values, value.len() as u64);
        self.values.extend_from_slice(value.as_bytes());
    }

    /// `UUID`: two little-endian halves, the high one first.
    pub fn uuid(&mut self, value: Uuid) {
        let (high, low) = value.as_u64_pair();
        self.u64(high);
        self.u64(low);
    }

    /// `Nullable(UUID)`.
    pub fn optional_uuid(&mut self, value: Option<Uuid>) {
        self.nulls.push(u8::from(value.is_none()));
        self.uuid(value.unwrap_or_default());
    }

    /// `Nullable(UInt8)`.
    pub fn optional_u8(&mut self, value: Option<u8>) {
        self.nulls.push(u8::from(value.is_none()));
        self.u8(value.unwrap_or_default());
    }

    /// `Nullable(Int128)`, also as the unscaled value of `Nullable(Decimal(38, …))`.
    pub fn optional_i128(&mut self, value: Option<i128>) {
        self.nulls.push(u8::from(value.is_none()));
        self.values
            .extend_from_slice(&value.unwrap_or_default().to_le_bytes());
    }

    /// `Nullable(DateTime64(6))`.
    pub fn optional_micros(&mut self, value: Option<i64>) {
        self.nulls.push(u8::from(value.is_none()));
        self.micros(value.unwrap_or_default());
    }
}

/// A column of `Array(String)`, or of `Map(String, String)` (an array of keys and one of values).
#[derive(Debug, Default, Clone)]
pub struct Lists {
    /// Where each row's elements end, counted over all rows.
    ends: Vec<u8>,
    elements: u64,
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Lists {
    pub(crate) fn size(&self) -> usize {
        self.ends.len() + self.first.len() + self.second.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ends.clear();
        self.elements = 0;
        self.first.clear();
        self.second.clear();
    }

    /// A row of `Array(String)`.
    pub fn array<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        for value in values {
            varint(&mut self.first, value.len() as u64);
            self.first.extend_from_slice(value.as_bytes());
            self.elements += 1;
        }
        self.ends.extend_from_slice(&self.elements.to_le_bytes());
    }

    /// A row of `Map(String, String)`.
    pub fn map<'a>(&mut self, values: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (key, value) in values {
            varint(&mut self.first, key.len() as u64);
            self.first.extend_from_slice(key.as_bytes());
            varint(&mut self.second, value.len() as u64);
            self.second.extend_from_slice(value.as_bytes());
            self.elements += 1;
        }
        self.ends.extend_from_slice(&self.elements.to_le_bytes());
    }
}

/// A column of `LowCardinality(String)`: each text once, and of each row the number of its text. The engine takes it
/// as it is; of a `String` it would look up every row.
#[derive(Debug, Default, Clone)]
pub struct Dictionary {
    /// By their numbers.
    texts: Column,
    numbers: HashMap<Box<str>, u32>,
    rows: Vec<u32>,
    /// The text of the last row: most rows have the same one as the row before.
    last: String,
}

impl Dictionary {
    /// A row.
    pub fn text(&mut self, text: &str) {
        // Two empty texts are not compared byte by byte: they have addresses that nothing stands at, and `memcmp` took a
        // hundred times as long over these.
        let same = self.last.is_empty() && text.is_empty() || self.last == text;
        let number = match self.rows.last() {
            Some(number) if same => *number,
            _ => self.number(text),
        };
        self.rows.push(number);
    }

    pub(crate) fn size(&self) -> usize {
        self.texts.size() + self.rows.len() * size_of::<u32>() + 4 * size_of::<u64>()
    }

    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.numbers.clear();
        self.rows.clear();
    }

    fn number(&mut self, text: &str) -> u32 {
        text.clone_into(&mut self.last);
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // Blocks have fewer rows than there are numbers.
        let number = self.numbers.len() as u32;
        self.numbers.insert(text.into(), number);
        self.texts.text(text);
        number
    }
}

/// Version of a dictionary's form: it stands in the block itself.
const DICTIONARY_IN_BLOCK: u64 = 1;
/// Says so once more, and that it is complete. The lowest byte is the width of the numbers: 0 for 8 bits, 1 for 16, 2
/// for 32.
const TEXTS_FOLLOW: u64 = 1 << 9 | 1 << 10;

/// Puts one block together: name, type and values of each column.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// A block of this many columns and rows, of about so many bytes; every column must follow, with as many values.
    pub fn new(columns: usize, rows: usize, size: usize) -> Self {
        let mut bytes = Vec::with_capacity(size);
        varint(&mut bytes, columns as u64);
        varint(&mut bytes, rows as u64);
        Self { bytes }
    }

    /// The next column.
    pub fn column(&mut self, name: &str, kind: &str, column: &Column) {
        self.head(name, kind);
        self.bytes.extend_from_slice(&column.nulls);
        self.bytes.extend_from_slice(&column.values);
    }

    /// The next column, of arrays or maps.
    pub fn lists(&mut self, name: &str, kind: &str, lists: &Lists) {
        self.head(name, kind);
        self.bytes.extend_from_slice(&lists.ends);
        self.bytes.extend_from_slice(&lists.first);
        self.bytes.extend_from_slice(&lists.second);
    }

    /// The next column, of `LowCardinality(String)`. Its form is that of the engine's `SerializationLowCardinality`.
    pub fn dictionary(&mut self, name: &str, kind: &str, dictionary: &Dictionary) {
        let (texts, rows) = (dictionary.numbers.len(), &dictionary.rows);
        let width = match texts {
            ..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        self.head(name, kind);
        for number in [DICTIONARY_IN_BLOCK, TEXTS_FOLLOW | width, texts as u64] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(&dictionary.texts.values);
        self.bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        match width {
            0 => self.bytes.extend(rows.iter().map(|number| *number as u8)),
            1 => self
                .bytes
                .extend(rows.iter().flat_map(|number| (*number as u16).to_le_bytes())),
            _ => self
                .bytes
                .extend(rows.iter().flat_map(|number| number.to_le_bytes())),
        }
    }

    fn head(&mut self, name: &str, kind: &str) {
        for text in [name, kind] {
            varint(&mut self.bytes, text.len() as u64);
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    /// The block as it is sent.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// LEB128, as everywhere in ClickHouse's formats.
fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Declares a struct of columns with its `input(…)` structure and its block, so that a column stands in
/// one place only.
#[macro_export]
#[doc(hidden)]
macro_rules! native_columns {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $holder:ident $kind:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone)]
        pub struct $name {
            rows: usize,
            $($column: $crate::clickhouse::native::native_columns!(@type $holder),)+
        }

        impl $name {
            /// `name type, …`, for `input(…)`.
            const STRUCTURE: &'static str = concat!("", $(stringify!($column), " ", $kind, ", "),+);
            /// `name, …`, for the list of columns.
            const NAMES: &'static str = concat!("", $(stringify!($column), ", "),+);

            /// How many rows it holds.
            pub fn rows(&self) -> usize {
                self.rows
            }

            /// Forgets its rows, and keeps its memory for the next ones.
            pub fn clear(&mut self) {
                self.rows = 0;
                $(self.$column.clear();)+
            }

            /// As it is sent.
            pub fn block(&self) -> Vec<u8> {
                let columns = [$(stringify!($column)),+].len();
                let size = Self::STRUCTURE.len() + 16 $(+ self.$column.size())+;
                let mut block = $crate::clickhouse::native::Block::new(columns, self.rows, size);
                $($crate::clickhouse::native::native_columns!(@put $holder block self $column $kind);)+
                block.finish()
            }
        }
    };
    (@type column) => { $crate::clickhouse::native::Column };
    (@type dictionary) => { $crate::clickhouse::native::Dictionary };
    (@type lists) => { $crate::clickhouse::native::Lists };
    (@put column $block:ident $self:ident $column:ident $kind:literal) => {
        $block.column(stringify!($column), $kind, &$self.$column)
    };
    (@put dictionary $block:ident $self:ident $column:ident $kind:literal) => {
        $block.dictionary(stringify!($column), $kind, &$self.$column)
    };
    (@put lists $block:ident $self:ident $column:ident $kind:literal) => {
        $block.lists(stringify!($column), $kind, &$self.$column)
    };
}
pub use native_columns;
