//! Generations that stay at one place in the log: a projection as it was at a position or a time.
//!
//! Each is cut: no checkpoint moves beyond its cut, which the database sees to. It has a number like the others, and a
//! name: the schema (in ClickHouse the database) of the views in which analysts find it when it is complete and was
//! found to be what the log says. It never becomes live or kept, which the database sees to as well, so nobody drops it
//! by age. Another release leaves a complete one as it is, and begins an incomplete one anew.

use std::fmt;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Executor as _, Postgres, Transaction};

use super::{Found, Making, find, refill, template};
use crate::{Error, Projection, Reader, Writer, checkpoint::index};

/// What a frozen generation is called: the projection's name, `_at`, and what one likes behind another `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// A text that is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is {0}_at, or {0}_at_ and up to {MOST} small letters, digits and underscores, as in {0}_at_2026_11")]
pub struct InvalidName(Projection);

/// Characters behind `_at_`: with them the longest name has 59, and PostgreSQL takes 63.
const MOST: usize = 42;

/// Where a projection is to be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// For each partition the first offset that is left out.
    Places(Vec<u64>),
    /// A time, whose place in each partition is still to be found.
    Time(DateTime<Utc>),
}

/// A frozen generation that is to be built.
#[derive(Debug, Clone)]
pub struct Freeze<'a> {
    /// Of which projection.
    pub projection: Projection,
    /// Partitions of its topic.
    pub partitions: u32,
    /// Names the version of the fold.
    pub fold: &'a str,
    /// What it is called.
    pub name: &'a Name,
    /// What was asked for, for people.
    pub until: &'a str,
    /// The same, understood.
    pub cut: &'a Cut,
    /// Who asked for it, for people.
    pub why: &'a str,
    /// Events a second at most.
    pub rate: Option<i32>,
}

/// A frozen generation, as queries know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Its number.
    pub generation: i32,
    /// Whether it is complete and was found to be what the log says.
    pub ready: bool,
    /// What was asked for: a position, or a time.
    pub until: String,
}

impl Name {
    /// Reads a name for a generation of this projection.
    ///
    /// # Errors
    /// See [`InvalidName`].
    pub fn parse(projection: Projection, text: &str) -> Result<Self, InvalidName> {
        let own = |rest: &str| {
            let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_';
            (1..=MOST).contains(&rest.len()) && rest.bytes().all(plain)
        };
        let rest = text
            .strip_prefix(projection.name())
            .and_then(|rest| rest.strip_prefix("_at"))
            .ok_or(InvalidName(projection))?;
        if rest.is_empty() || rest.strip_prefix('_').is_some_and(own) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(projection))
        }
    }

    /// As it stands in SQL: plain characters, so it needs no quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Writer {
    /// Begins to build a frozen generation beside the others: empty tables (of projections in ClickHouse only what
    /// PostgreSQL holds of them), checkpoints at zero, and its name, which nobody else can take from now on.
    ///
    /// # Errors
    /// [`Error::Building`] while another one of the projection is being built, [`Error::NameTaken`],
    /// [`Error::NotLive`] before the projection's first start.
    pub async fn begin_freeze(&self, freeze: &Freeze<'_>) -> Result<i32, Error> {
        let projection = freeze.projection;
        let hash = self.fold_hash(projection, freeze.fold).await?;
        let mut tx = self.begin_making().await?;
        let found = find(&mut tx, projection, freeze.partitions).await?;
        if let Some(freezing) = found.iter().find(|it| it.state == "freezing") {
            return Err(Error::Building {
                projection,
                generation: freezing.number,
            });
        }
        if !found.iter().any(|it| it.state == "live") {
            return Err(Error::NotLive(projection));
        }
        let name = freeze.name.as_str();
        let taken = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM annals.frozen WHERE name = $1) OR to_regnamespace($1) IS NOT NULL AS "it!""#,
            name
        )
        .fetch_one(&mut *tx)
        .await?;
        if taken {
            return Err(Error::NameTaken(name.to_owned()));
        }
        let new = Making::new(&mut tx, projection, freeze.partitions, &hash).await?;
        let number = new.number;
        new.make(&mut tx, "freezing").await?;
        new.announce(&mut tx, freeze.why, freeze.rate).await?;
        let time = match freeze.cut {
            Cut::Places(_) => None,
            Cut::Time(time) => Some(*time),
        };
        sqlx::query!(
            "INSERT INTO annals.frozen (projection, generation, name, until, until_time) VALUES ($1, $2, $3, $4, $5)",
            projection.name(),
            number,
            name,
            freeze.until,
            time
        )
        .execute(&mut *tx)
        .await?;
        let nowhere;
        let places = match freeze.cut {
            Cut::Places(places) => places,
            // Until they are known nothing can be written.
            Cut::Time(_) => {
                nowhere = vec![0; index(freeze.partitions).unsigned_abs() as usize];
                &nowhere
            }
        };
        place(&mut tx, projection, number, places).await?;
        if template(projection).is_some() {
            let make = format!(
                "CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS 'For analysts: {projection} as it was, limited to the tenants in annals.analysts.';"
            );
            (&mut *tx).execute(AssertSqlSafe(make)).await?;
        }
        tx.commit().await?;
        Ok(number)
    }

    /// Says where the time lies that a generation is to be cut at: for each partition the first offset that is left
    /// out. Does nothing when that is known already, or when it is gone.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn cut(&self, projection: Projection, generation: i32, places: &[u64]) -> Result<(), Error> {
        let mut tx = self.control().begin().await?;
        let found = sqlx::query!(
            "UPDATE annals.frozen SET until_time = NULL
             WHERE projection = $1 AND generation = $2 AND until_time IS NOT NULL",
            projection.name(),
            generation
        )
        .execute(&mut *tx)
        .await?;
        if found.rows_affected() == 1 {
            place(&mut tx, projection, generation, places).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Calls a generation frozen that is complete and was found to be what the log says, and shows it to analysts
    /// where they ask PostgreSQL. Does nothing when it is frozen already, or gone.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn freeze(&self, projection: Projection, generation: i32) -> Result<(), Error> {
        // Alone: what is dropped meanwhile may stand behind the same views.
        let mut tx = self.begin_making().await?;
        let frozen = sqlx::query!(
            "UPDATE annals.generations g SET state = 'frozen'
             WHERE projection = $1 AND generation = $2 AND state = 'freezing' AND NOT EXISTS (
                 SELECT 1 FROM annals.checkpoints c
                 WHERE c.projection = g.projection AND c.generation = g.generation AND c.next_offset IS DISTINCT FROM c.cut)",
            projection.name(),
            generation
        )
        .execute(&mut *tx)
        .await?;
        if frozen.rows_affected() == 1 {
            let name = name(&mut tx, projection, generation).await?;
            if let (Some(name), Some(_)) = (name, template(projection)) {
                let schema = projection.schema(generation);
                sqlx::query!("SELECT annals.show_views($1, $2)", schema, name)
                    .execute(&mut *tx)
                    .await?;
            }
            sqlx::query!(
                "DELETE FROM annals.rebuilds WHERE projection = $1 AND generation = $2",
                projection.name(),
                generation
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What a generation is called; none of one that follows the log, or of none.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn name_of(&self, projection: Projection, generation: i32) -> Result<Option<String>, Error> {
        let mut tx = self.control().begin().await?;
        name(&mut tx, projection, generation).await
    }
}

impl Reader {
    /// The frozen generation of that name, if there is one.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn frozen(&self, name: &Name) -> Result<Option<Frozen>, Error> {
        let found = sqlx::query_as!(
            Frozen,
            r#"SELECT generation, state = 'frozen' AS "ready!", until FROM annals.frozen WHERE name = $1"#,
            name.as_str()
        )
        .fetch_optional(self.control())
        .await?;
        Ok(found)
    }
}

async fn name(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    generation: i32,
) -> Result<Option<String>, Error> {
    let name = sqlx::query_scalar!(
        "SELECT name FROM annals.frozen WHERE projection = $1 AND generation = $2",
        projection.name(),
        generation
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(name)
}

async fn place(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    generation: i32,
    places: &[u64],
) -> Result<(), Error> {
    let places: Vec<i64> = places.iter().map(|place| place.cast_signed()).collect();
    sqlx::query!(
        r#"UPDATE annals.checkpoints SET cut = ($3::bigint[])["partition" + 1] WHERE projection = $1 AND generation = $2"#,
        projection.name(),
        generation,
        &places
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Begins an incomplete one anew when its tables are gone, or when this release makes others.
pub(super) async fn mend(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    found: &[Found],
    partitions: u32,
    hash: &str,
) -> Result<(), Error> {
    let Some(freezing) = found.iter().find(|it| it.state == "freezing" && it.placed) else {
        return Ok(());
    };
    if freezing.tables && freezing.fold_hash == hash {
        return Ok(());
    }
    tracing::warn!(%projection, generation = freezing.number, "frozen at a place in the log, but not complete, or of another release: filling it anew");
    sqlx::query!(
        "UPDATE annals.generations SET fold_hash = $3 WHERE projection = $1 AND generation = $2",
        projection.name(),
        freezing.number,
        hash
    )
    .execute(&mut **tx)
    .await?;
    refill(tx, projection, freezing.number, partitions).await
}

/// Removes the views of a generation that is dropped; nothing when it has none.
pub(super) async fn hide(
    tx: &mut Transaction<'_, Postgres>,
    projection: Projection,
    generation: i32,
) -> Result<(), Error> {
    if let (Some(name), Some(_)) = (name(tx, projection, generation).await?, template(projection)) {
        let drop = format!("SET LOCAL client_min_messages = warning; DROP SCHEMA IF EXISTS {name} CASCADE;");
        (&mut **tx).execute(AssertSqlSafe(drop)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_projections() {
        let read = |projection, text| Name::parse(projection, text).is_ok();
        for text in ["content_at", "content_at_2026_11", "content_at__"] {
            assert!(read(Projection::Content, text), "{text}");
        }
        let long = format!("content_facts_at_{}", "x".repeat(MOST));
        assert!(read(Projection::ContentFacts, &long) && long.len() == 59);
        for text in [
            "",
            "content",
            "content_3",
            "content_at_",
            "content_at2",
            "content_at_A",
            "content_at_ä",
            "content_at_1;",
            "content_facts_at",
            "live",
            &format!("content_at_{}", "x".repeat(MOST + 1)),
        ] {
            assert!(!read(Projection::Content, text), "{text}");
        }
        let error = Name::parse(Projection::Visits, "x").unwrap_err().to_string();
        assert!(
            error.starts_with("is visits_at, or visits_at_ and up to 42"),
            "{error}"
        );
    }
}
