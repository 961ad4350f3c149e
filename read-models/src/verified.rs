//! How far verification in the background is with each generation, and what it has found.
//!
//! A slice is one process's: whoever compares it holds a lock on its projection, which goes with the connection, so
//! also with a process that is killed. What came out counts only when the row still names that slice: a
//! process whose connection broke meanwhile, so that another compared the same slice, counts nothing twice.

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::{Error, Projection, Writer, standing::Slice};

/// The first half of our locks' names: "vrfy" in ASCII. The second is the projection's place among them.
const LOCK: i32 = 0x76_72_66_79;

/// A slice that this process is to compare. Dropping it lets others take it.
#[derive(Debug)]
pub struct Taken {
    connection: PgConnection,
    projection: Projection,
    generation: i32,
    slice: Slice,
}

impl Writer {
    /// Takes the slice of a generation that is compared next; none while another process compares one of this
    /// projection.
    ///
    /// # Errors
    /// A database that cannot be reached, or a generation that there is not.
    pub async fn take_slice(&self, projection: Projection, generation: i32) -> Result<Option<Taken>, Error> {
        // A connection of its own: it may be held for an hour, idle and without a transaction.
        let mut connection = self.options().connect().await?;
        let place = Projection::ALL.iter().position(|it| *it == projection);
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(LOCK)
            .bind(place.and_then(|place| i32::try_from(place).ok()))
            .fetch_one(&mut connection)
            .await?;
        if !free {
            connection.close().await?;
            return Ok(None);
        }
        let next = sqlx::query!(
            "INSERT INTO annals.verified AS v (projection, generation) VALUES ($1, $2)
             ON CONFLICT (projection, generation) DO UPDATE SET slices = v.slices
             RETURNING next_slice, slices",
            projection.name(),
            generation
        )
        .fetch_one(&mut connection)
        .await?;
        let slice = Slice {
            index: next.next_slice.cast_unsigned(),
            of: next.slices.cast_unsigned(),
        };
        Ok(Some(Taken {
            connection,
            projection,
            generation,
            slice,
        }))
    }
}

impl Taken {
    /// Which slice it is.
    pub const fn slice(&self) -> Slice {
        self.slice
    }

    /// It was compared: so many rows, so many of them not what the log says.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn compared(mut self, rows: u64, differing: u64) -> Result<(), Error> {
        sqlx::query_file!(
            "src/verified/compared.sql",
            self.projection.name(),
            self.generation,
            self.slice.index.cast_signed(),
            self.slice.of.cast_signed(),
            rows.cast_signed(),
            differing.cast_signed()
        )
        .execute(&mut self.connection)
        .await?;
        Ok(self.connection.close().await?)
    }

    /// It is too much for the memory: a round of slices half as large begins.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn halved(mut self) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE annals.verified SET slices = slices * 2, next_slice = 0, compared = 0, differing = 0
             WHERE projection = $1 AND generation = $2 AND slices = $3",
            self.projection.name(),
            self.generation,
            self.slice.of.cast_signed()
        )
        .execute(&mut self.connection)
        .await?;
        Ok(self.connection.close().await?)
    }
}
