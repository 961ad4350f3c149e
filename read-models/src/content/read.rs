//! One piece of content, by id or by slug.

use uuid::Uuid;

use super::Content;
use crate::{Error, Snapshot};

/// What a slug leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A piece has it.
    Here(Box<Content>),
    /// A piece had it, and has this one now.
    Moved {
        /// The piece.
        content: Uuid,
        /// Its slug now.
        slug: String,
        /// Its status now.
        status: String,
    },
}

/// A piece of a tenant.
///
/// # Errors
/// A database that cannot be reached.
pub async fn by_id(at: &Snapshot, tenant: Uuid, content: Uuid) -> Result<Option<Content>, Error> {
    let row = sqlx::query_file_as!(Content, "src/content/by_id.sql", tenant, content)
        .fetch_optional(at.pool())
        .await?;
    Ok(row)
}

/// What a slug of a site leads to: the piece that has it, else the piece that had it last.
/// An archived piece has given its slug up: it is found only when nobody else has or had it.
///
/// # Errors
/// A database that cannot be reached.
pub async fn by_slug(
    at: &Snapshot,
    tenant: Uuid,
    site: Uuid,
    kind: &str,
    slug: &str,
) -> Result<Option<Found>, Error> {
    let here = sqlx::query_file_as!(Content, "src/content/by_slug.sql", tenant, site, kind, slug)
        .fetch_optional(at.pool())
        .await?;
    if here.as_ref().is_some_and(|row| row.status != "archived") {
        return Ok(here.map(|row| Found::Here(Box::new(row))));
    }
    let moved = sqlx::query_file!("src/content/by_old_slug.sql", tenant, site, kind, slug)
        .fetch_optional(at.pool())
        .await?
        .map(|row| Found::Moved {
            content: row.content,
            slug: row.slug,
            status: row.status,
        });
    Ok(moved.or(here.map(|row| Found::Here(Box::new(row)))))
}
