//! Which projectors run on these tables: each says again and again that it is there, and hears who else is.
//!
//! By the database's clock, which all share. Nothing rests on it: whoever writes where another one does is stopped by
//! the fence of the checkpoint.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{Error, Projection, Writer};

/// A projector that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Of one run of one process.
    pub id: Uuid,
    /// The fold hash that its release gives to each projection, by the projection's name.
    pub fills: BTreeMap<String, String>,
}

/// This projector among the others. It has a connection of its own: nothing else keeps it from being heard, and when
/// the process ends without a word, the connection does too.
#[derive(Debug)]
pub struct Presence {
    me: Member,
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Member {
    /// Whether it fills generations that this fold made.
    pub fn fills(&self, projection: Projection, hash: &str) -> bool {
        self.fills.get(projection.name()).is_some_and(|it| it == hash)
    }
}

impl Writer {
    /// For a projector that is to be heard of; it says nothing yet.
    pub fn presence(&self, me: Member) -> Presence {
        Presence {
            me,
            options: self.options().clone().options([("synchronous_commit", "off")]),
            connection: None,
        }
    }
}

impl Presence {
    /// Says that it is there, and gives the others that are: those that were heard of within `session`, or within
    /// `cut_off` when their connection is gone. After an error, or when nobody waits for the answer, the next call
    /// makes another connection.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn tell(&mut self, session: Duration, cut_off: Duration) -> Result<Vec<Member>, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let rows = sqlx::query_file!(
            "src/members/tell.sql",
            self.me.id,
            serde_json::json!(self.me.fills),
            session.as_secs_f64(),
            cut_off.as_secs_f64()
        )
        .fetch_all(&mut connection)
        .await?;
        self.connection = Some(connection);
        let member = |id, fills| Member {
            id,
            // What nobody of ours wrote there fills nothing.
            fills: serde_json::from_value(fills).unwrap_or_default(),
        };
        Ok(rows.into_iter().map(|row| member(row.id, row.fills)).collect())
    }

    /// Says that it is not there any more.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn leave(mut self) -> Result<(), Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        sqlx::query!("DELETE FROM annals.projectors WHERE id = $1", self.me.id)
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }
}
