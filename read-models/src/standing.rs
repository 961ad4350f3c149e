//! A generation as it stands at one moment, row by row: what a fold that is done again is compared with.
//!
//! A row has every column that somebody wrote (columns that the database makes by itself are left out), in both stores
//! alike: times are microseconds since 1970, decimal numbers are texts. Columns are read from the catalogue, so that one
//! which nobody thought of here is compared all the same.

mod binary;
mod cell;
mod rows;

use std::collections::HashSet;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

pub use self::{
    cell::Cell,
    rows::{Rows, RowsError, row},
};
use crate::{Error, Projection, Writer, checkpoint::index};

/// One row, by column.
pub type Row = Map<String, Value>;

/// A table that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns that a row is known by.
    pub key: &'static [&'static str],
    /// An expression over its columns: the text by whose hash rows are dealt out to slices. No text may be that of
    /// many rows: slices are made smaller until they fit the memory.
    pub slice: &'static str,
}

/// One of so many parts of a generation, by a hash: what is compared at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Which, from 0.
    pub index: u32,
    /// Of how many, from 1.
    pub of: u32,
}

/// Where an event stands: partition, offset, place in its record.
pub type Place = (u32, u64, u32);

/// A generation at one moment. Its rows in PostgreSQL are those of that moment for as long as this is kept.
#[derive(Debug)]
pub struct Standing {
    connection: PgConnection,
    /// Whether the moment was let go.
    resting: bool,
    /// Of which projection.
    pub projection: Projection,
    /// Which generation.
    pub generation: i32,
    /// For each partition the first offset that is not in the tables.
    pub next_offsets: Vec<u64>,
    /// Events that are parked, and so are not in the tables.
    pub parked: HashSet<Place>,
    /// Events that operators let be passed over.
    pub skipped: HashSet<Place>,
    /// Which fold and tables made it.
    pub fold_hash: String,
    /// Of one that stays at a place in the log: for each partition the first offset that is left out. Else empty.
    cuts: Vec<u64>,
}

/// The tables of a projection.
pub const fn tables(projection: Projection) -> &'static [Table] {
    const fn table(name: &'static str, key: &'static [&'static str], slice: &'static str) -> Table {
        Table { name, key, slice }
    }
    const DIRECTORY: &[Table] = &[
        table("tenants", &["tenant"], "tenant::text"),
        table("sites", &["tenant", "site"], "site::text"),
        table("principals", &["tenant", "principal"], "principal::text"),
        table("keys", &["tenant", "key"], "key::text"),
    ];
    const CONTENT: &[Table] = &[
        table("content", &["tenant", "content"], "content::text"),
        table(
            "content_versions",
            &["tenant", "content", "version"],
            "content::text",
        ),
        table("content_redirects", &["tenant", "site", "kind", "slug"], "slug"),
    ];
    const DOWNLOADS: &[Table] = &[table("downloads", &["tenant", "download"], "download::text")];
    const VISITS: &[Table] = &[
        table(
            "events",
            &["log_partition", "log_offset", "log_index"],
            "toString(visitor)",
        ),
        table(
            "sessions",
            &["tenant", "site", "opened", "session"],
            "toString(visitor)",
        ),
    ];
    const FACTS: &[Table] = &[table(
        "facts",
        &["tenant", "site", "content"],
        "toString(content)",
    )];
    match projection {
        Projection::Directory => DIRECTORY,
        Projection::Content => CONTENT,
        Projection::Downloads => DOWNLOADS,
        Projection::Visits => VISITS,
        Projection::ContentFacts => FACTS,
    }
}

impl Slice {
    /// Everything at once.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Whether a row with this text is in it.
    pub fn has(self, text: &str) -> bool {
        if self.of == 1 {
            return true;
        }
        let hash = Sha256::digest(text);
        let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        number % self.of == self.index
    }

    /// The two halves of it.
    pub const fn halves(self) -> [Self; 2] {
        let of = self.of * 2;
        let index = self.index;
        [
            Self { index, of },
            Self {
                index: index + self.of,
                of,
            },
        ]
    }

    fn in_postgres(self, by: &str) -> String {
        let Self { index, of } = self;
        if of == 1 {
            return "true".to_owned();
        }
        format!(
            "('x' || encode(substr(sha256(convert_to({by}, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint % {of} = {index}"
        )
    }

    fn in_clickhouse(self, by: &str) -> String {
        let Self { index, of } = self;
        if of == 1 {
            return "1".to_owned();
        }
        format!("reinterpretAsUInt32(reverse(substring(SHA256({by}), 1, 4))) % {of} = {index}")
    }
}

impl Table {
    /// What a row is called: its key's columns, with slashes between.
    pub fn name_of(&self, row: &Row) -> String {
        let part = |column: &&str| match row.get(*column) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        self.key.iter().map(part).collect::<Vec<_>>().join("/")
    }
}

impl Writer {
    /// A generation of a projection as it is now; the live one unless another is named.
    ///
    /// # Errors
    /// [`Error::NotLive`] when there is none, [`Error::NoGeneration`] when there is none of this number.
    pub async fn standing(&self, projection: Projection, generation: Option<i32>) -> Result<Standing, Error> {
        // A connection of its own: it may be held for an hour.
        let mut connection = self.options().connect().await?;
        sqlx::query("SET idle_in_transaction_session_timeout = 0")
            .execute(&mut connection)
            .await?;
        let Moment {
            generation,
            next_offsets,
            parked,
            skipped,
        } = Moment::begin(&mut connection, projection, generation).await?;
        let known = self.generations(Some(projection)).await?;
        let known = known.into_iter().find(|known| known.generation == generation);
        let known = known.ok_or(Error::NoGeneration {
            projection,
            generation,
        })?;
        Ok(Standing {
            connection,
            resting: false,
            projection,
            generation,
            next_offsets,
            parked,
            skipped,
            fold_hash: known.fold_hash,
            cuts: known.cuts.into_iter().map(i64::cast_unsigned).collect(),
        })
    }
}

/// What a snapshot that has just begun says of a generation.
struct Moment {
    generation: i32,
    next_offsets: Vec<u64>,
    parked: HashSet<Place>,
    skipped: HashSet<Place>,
}

impl Moment {
    async fn begin(
        connection: &mut PgConnection,
        projection: Projection,
        generation: Option<i32>,
    ) -> Result<Self, Error> {
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *connection)
            .await?;
        let generation = match generation {
            Some(generation) => generation,
            None => sqlx::query_scalar!(
                "SELECT generation FROM annals.live WHERE projection = $1",
                projection.name()
            )
            .fetch_optional(&mut *connection)
            .await?
            .ok_or(Error::NotLive(projection))?,
        };
        let next_offsets: Vec<u64> = sqlx::query_scalar!(
            r#"SELECT next_offset FROM annals.checkpoints
               WHERE projection = $1 AND generation = $2 AND topic = $3 ORDER BY "partition""#,
            projection.name(),
            generation,
            projection.topic().name()
        )
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(i64::cast_unsigned)
        .collect();
        if next_offsets.is_empty() {
            return Err(Error::NoGeneration {
                projection,
                generation,
            });
        }
        let parked = sqlx::query!(
            r#"SELECT "partition", "offset", event_index FROM annals.parked WHERE projection = $1 AND generation = $2"#,
            projection.name(),
            generation
        )
        .fetch_all(&mut *connection)
        .await?;
        let place = |(partition, offset, index): (i32, i64, i32)| {
            (
                partition.cast_unsigned(),
                offset.cast_unsigned(),
                index.cast_unsigned(),
            )
        };
        let parked = parked
            .into_iter()
            .map(|row| place((row.partition, row.offset, row.event_index)))
            .collect();
        let skipped = sqlx::query!(
            r#"SELECT "partition", "offset", event_index FROM annals.skipped WHERE projection = $1"#,
            projection.name()
        )
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(|row| place((row.partition, row.offset, row.event_index)))
        .collect();
        Ok(Self {
            generation,
            next_offsets,
            parked,
            skipped,
        })
    }
}

impl Standing {
    /// Lets go of the moment, but not of what is known of it: nothing is kept from being cleaned up while the log is
    /// read slowly. [`Self::renew`] takes hold of a later one.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn rest(&mut self) -> Result<(), Error> {
        if !self.resting {
            sqlx::query("COMMIT").execute(&mut self.connection).await?;
            self.resting = true;
        }
        Ok(())
    }

    /// The same generation as it is now. False when an event that the earlier moment had passed was parked, tried
    /// again or passed over since: what was folded without knowing that is worth nothing.
    ///
    /// # Errors
    /// A database that cannot be reached, or a generation that is gone.
    pub async fn renew(&mut self) -> Result<bool, Error> {
        self.rest().await?;
        let now = Moment::begin(&mut self.connection, self.projection, Some(self.generation)).await?;
        self.resting = false;
        let same = |before: &HashSet<Place>, after: &HashSet<Place>| {
            let mut changed = before.symmetric_difference(after);
            !changed.any(|(partition, offset, _)| *offset < self.next_offset(*partition))
        };
        let same = same(&self.parked, &now.parked) && same(&self.skipped, &now.skipped);
        self.next_offsets = now.next_offsets;
        self.parked = now.parked;
        self.skipped = now.skipped;
        Ok(same)
    }

    /// The first offset of a partition that is not in the tables.
    pub fn next_offset(&self, partition: u32) -> u64 {
        let place = usize::try_from(index(partition)).unwrap_or(usize::MAX);
        self.next_offsets.get(place).copied().unwrap_or_default()
    }

    /// The first offset of a partition that is in no table, of a log that ends there.
    pub fn end_of(&self, partition: u32, log_end: u64) -> u64 {
        let place = usize::try_from(index(partition)).unwrap_or(usize::MAX);
        self.cuts.get(place).map_or(log_end, |cut| log_end.min(*cut))
    }

    /// Lets go of that moment.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn end(self) -> Result<(), Error> {
        Ok(self.connection.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::Slice;

    #[test]
    fn every_text_is_in_one_half_of_its_slice() {
        let slice = Slice { index: 1, of: 3 };
        let halves = slice.halves();
        for text in (0..200).map(|number: u32| number.to_string()) {
            let found = halves.iter().filter(|half| half.has(&text)).count();
            assert_eq!(found, usize::from(slice.has(&text)), "{text}");
        }
    }
}
