//! The switch: another generation answers from one moment on. One row, for both stores.
//!
//! It happens in one transaction that holds the checkpoints of the generation that answers now: its writer waits,
//! and the other one passes it. So nobody who saw a position in the one misses it in the other.

use std::time::Duration;

use super::{Known, show, tell};
use crate::{Error, Projection, Writer};

/// How long the writer of the live generation may be held up, while the other one comes up to it. ClickHouse is
/// written about once a second, and what was read before that is written first.
const fn held(projection: Projection) -> Duration {
    match projection {
        Projection::Directory | Projection::Content | Projection::Downloads => Duration::from_secs(1),
        Projection::Visits | Projection::ContentFacts => Duration::from_secs(3),
    }
}

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

impl Writer {
    /// Makes a generation live that has come as far as the one that is, and has parked nothing that that one has
    /// not. It must be being built, or be kept. Gives the number of the one that answered before.
    ///
    /// # Errors
    /// [`Error::Behind`] when it does not come up in time (try again), [`Error::ParkedMore`],
    /// [`Error::NoGeneration`], [`Error::Frozen`].
    pub async fn switch(&self, projection: Projection, to: i32) -> Result<i32, Error> {
        let name = projection.name();
        let mut tx = self.control().begin().await?;
        let live = sqlx::query_scalar!(
            "SELECT generation FROM annals.live WHERE projection = $1 FOR UPDATE",
            name
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(Error::NotLive(projection))?;
        if live == to {
            return Ok(live);
        }
        let state = sqlx::query_scalar!(
            "SELECT state FROM annals.generations WHERE projection = $1 AND generation = $2 FOR UPDATE",
            name,
            to
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(Error::NoGeneration {
            projection,
            generation: to,
        })?;
        // Of one that stays at its cut the table annals.frozen would refuse it; this says it in words.
        if state == "freezing" || state == "frozen" {
            return Err(Error::Frozen {
                projection,
                generation: to,
            });
        }
        let held: Vec<i64> = sqlx::query_scalar!(
            r#"SELECT next_offset FROM annals.checkpoints WHERE projection = $1 AND generation = $2
               ORDER BY "partition" FOR UPDATE"#,
            name,
            live
        )
        .fetch_all(&mut *tx)
        .await?;
        let deadline = tokio::time::Instant::now() + self::held(projection);
        loop {
            let reached: Vec<i64> = sqlx::query_scalar!(
                r#"SELECT next_offset FROM annals.checkpoints WHERE projection = $1 AND generation = $2
                   ORDER BY "partition""#,
                name,
                to
            )
            .fetch_all(&mut *tx)
            .await?;
            if reached.len() == held.len() && reached.iter().zip(&held).all(|(to, from)| to >= from) {
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::Behind {
                    projection,
                    generation: to,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        if state == "building" {
            let more = sqlx::query_scalar!(
                "SELECT subject FROM annals.parked_aggregates n WHERE projection = $1 AND generation = $2 AND NOT EXISTS (
                     SELECT 1 FROM annals.parked_aggregates o
                     WHERE o.projection = $1 AND o.generation = $3 AND o.subject = n.subject
                       -- Older releases did not know whose visits are that cannot be read.
                       AND o.tenant IN (n.tenant, '00000000-0000-0000-0000-000000000000'))
                 LIMIT 1",
                name,
                to,
                live
            )
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(subject) = more {
                return Err(Error::ParkedMore {
                    projection,
                    generation: to,
                    subject,
                });
            }
        }
        sqlx::query!(
            "UPDATE annals.generations
             SET state = CASE generation WHEN $2 THEN 'live' ELSE 'kept' END,
                 kept_since = CASE generation WHEN $2 THEN NULL ELSE now() END
             WHERE projection = $1 AND generation IN ($2, $3)",
            name,
            to,
            live
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE annals.live SET generation = $2 WHERE projection = $1",
            name,
            to
        )
        .execute(&mut *tx)
        .await?;
        // It may have come up to the other one without ever seeing the log's end.
        sqlx::query!(
            r#"UPDATE annals.checkpoints n SET filled = true FROM annals.checkpoints o
               WHERE n.projection = $1 AND n.generation = $2 AND NOT n.filled
                 AND o.projection = $1 AND o.generation = $3 AND o."partition" = n."partition" AND o.filled"#,
            name,
            to,
            live
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "DELETE FROM annals.rebuilds WHERE projection = $1 AND generation = $2",
            name,
            to
        )
        .execute(&mut *tx)
        .await?;
        tell(&mut tx, projection, to).await?;
        tx.commit().await?;
        Ok(live)
    }

    /// The generation that answers.
    ///
    /// # Errors
    /// [`Error::NotLive`] when none does.
    pub async fn live(&self, projection: Projection) -> Result<i32, Error> {
        sqlx::query_scalar!(
            "SELECT generation FROM annals.live WHERE projection = $1",
            projection.name()
        )
        .fetch_optional(self.control())
        .await?
        .ok_or(Error::NotLive(projection))
    }

    /// The generation that answered before the live one, if it is kept.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn before(&self, projection: Projection) -> Result<Option<Known>, Error> {
        let mut kept = self.generations(Some(projection)).await?;
        kept.retain(|it| it.state == "kept");
        Ok(kept.into_iter().max_by_key(|it| it.kept_since))
    }

    /// Leads the analysts' views to the live generation. Does not wait long for a question that is being answered
    /// through them: then it is an error, to be tried again.
    ///
    /// # Errors
    /// A database that cannot be reached, or views that are in use.
    pub async fn show_live(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        // Alone: what is dropped meanwhile may stand behind the same views.
        let mut tx = self.begin_making().await?;
        sqlx::query("SET LOCAL lock_timeout = '2s'")
            .execute(&mut *tx)
            .await?;
        show(&mut tx, projection, generation).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The analysts' views that somebody has replaced by hand, or dropped.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn shown_otherwise(
        &self,
        projection: Projection,
        generation: i32,
    ) -> Result<Vec<String>, Error> {
        let names = sqlx::query_scalar("SELECT annals.shown_otherwise($1)")
            .bind(projection.schema(generation))
            .fetch_all(self.control())
            .await?;
        Ok(names)
    }

    /// Says that the analysts' views, which are in another store, lead to this generation.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn shown(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE annals.live SET shown = $2 WHERE projection = $1",
            projection.name(),
            generation
        )
        .execute(self.control())
        .await?;
        Ok(())
    }
}
