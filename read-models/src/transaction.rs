//! A transaction of a projector, which may be cut off between any two messages.
//!
//! One that was not committed takes its connection with it. A COPY that is cut off leaves answers on the way that nobody
//! waits for, and sqlx (0.9) would take them for those to the next statement.

use std::ops::{Deref, DerefMut};

use sqlx::{Executor as _, PgConnection, PgPool, Postgres, pool::PoolConnection};

/// A connection within a transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    connection: PoolConnection<Postgres>,
    committed: bool,
}

impl Transaction {
    pub(crate) async fn begin(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let mut begun = Self {
            connection: pool.acquire().await?,
            committed: false,
        };
        begun.deref_mut().execute("BEGIN").await?;
        Ok(begun)
    }

    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.deref_mut().execute("COMMIT").await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
