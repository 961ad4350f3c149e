//! Content: its rows, and writing them. Queries are in [`list`], [`read`] and [`history`].

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Write, copy::write_rows};

pub mod history;
pub mod list;
pub mod read;

/// A piece of content in its latest state.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Whose it is.
    pub tenant: Uuid,
    /// Its id.
    pub content: Uuid,
    /// The site that it belongs to.
    pub site: Uuid,
    /// `post`, `project`, `idea`, `page` or `resume`.
    pub kind: String,
    /// `draft`, `scheduled`, `published`, `unpublished` or `archived`.
    pub status: String,
    /// Its title.
    pub title: String,
    /// Its name in addresses.
    pub slug: String,
    /// The path of its page, without a slash at the end.
    pub path: String,
    /// Further paths of its page.
    pub aliases: Vec<String>,
    /// Markdown.
    pub body: String,
    /// Plain text.
    pub summary: Option<String>,
    /// In the writer's order.
    pub tags: Vec<String>,
    /// Shown first by those who feature things.
    pub featured: bool,
    /// BCP 47.
    pub language: Option<String>,
    /// A JSON object.
    pub metadata: Value,
    /// The date that it carries, or last carried, as published.
    pub published_at: Option<DateTime<Utc>>,
    /// When it will be published.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When it was drafted.
    pub created_at: DateTime<Utc>,
    /// By whom.
    pub created_by: Option<Uuid>,
    /// Time of its latest event.
    pub updated_at: DateTime<Utc>,
    /// Who caused it.
    pub updated_by: Option<Uuid>,
    /// Version of the aggregate.
    pub version: i64,
}

/// One version of a piece: who changed what, and when. A field is set only where `changed` names it.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "as in Content")]
pub struct Version {
    pub tenant: Uuid,
    pub content: Uuid,
    /// From 1.
    pub version: i64,
    /// What happened: an event's name on the wire.
    pub event: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The principal that did it; of a scheduled publication, who scheduled it.
    pub actor: Option<Uuid>,
    /// Names of the fields that it set.
    pub changed: Vec<String>,
    /// Status from this version on.
    pub status: String,
    pub title: Option<String>,
    pub slug: Option<String>,
    pub body: Option<String>,
    pub summary: Option<String>,
    pub tags: Option<Vec<String>>,
    pub featured: Option<bool>,
    pub language: Option<String>,
    pub metadata: Option<Value>,
    pub published_at: Option<DateTime<Utc>>,
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Place of its commit among all of the tenant.
    pub tenant_seq: i64,
}

/// Where an old slug is: what a redirect is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "as in Content")]
pub struct Slug {
    pub tenant: Uuid,
    pub site: Uuid,
    pub kind: String,
    pub slug: String,
}

/// Where an old slug leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The old slug.
    pub from: Slug,
    /// The piece that had it last.
    pub content: Uuid,
    /// When that piece gave it up.
    pub since: DateTime<Utc>,
    /// Place of that commit among all of the tenant.
    pub tenant_seq: i64,
}

/// A slug that a piece took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The slug.
    pub slug: Slug,
    /// Place of that commit among all of the tenant.
    pub tenant_seq: i64,
}

/// What a batch of events changes: the last state of each row.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Pieces that are not in the table yet.
    pub inserted: Vec<Content>,
    /// Pieces that are, and have other words now: title, summary, body or language.
    pub updated: Vec<Content>,
    /// Pieces that are, and have the words that they had: these are not taken apart for the search again.
    pub kept: Vec<Content>,
    /// Versions; each is written once.
    pub versions: Vec<Version>,
    /// Old slugs that lead somewhere from now on.
    pub redirects: Vec<Redirect>,
    /// Old slugs that were taken again.
    pub taken: Vec<Taken>,
}

/// The rows of these pieces as they are before a batch: pairs of tenant and content.
///
/// # Errors
/// A database that cannot be reached.
pub async fn load(write: &mut Write, ids: &[(Uuid, Uuid)]) -> Result<Vec<Content>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, pieces): (Vec<Uuid>, Vec<Uuid>) = ids.iter().copied().unzip();
    let rows = sqlx::query_file_as!(Content, "src/content/load.sql", &tenants, &pieces)
        .fetch_all(write.connection())
        .await?;
    Ok(rows)
}

/// Writes what a batch changed. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn apply(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    Ok(insert(write, changes).await? + update(write, changes).await?)
}

/// Writes the rows that are new. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn insert(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    let mut rows = 0;
    if !changes.inserted.is_empty() {
        rows += write_rows!(write, "content", changes.inserted;
            tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured, language,
            metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version)
        .await?;
    }
    if !changes.versions.is_empty() {
        rows += write_rows!(write, "content_versions", changes.versions;
            tenant, content, version, event, at, actor, changed, status, title, slug, body, summary, tags, featured,
            language, metadata, published_at, scheduled_at, tenant_seq)
        .await?;
    }
    Ok(rows)
}

/// Writes what becomes of rows that were there. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn update(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    let mut rows = update_words(write, &changes.updated).await?;
    rows += update_but_words(write, &changes.kept).await?;
    if !changes.taken.is_empty() {
        let all = &changes.taken;
        rows += sqlx::query_file!(
            "src/content/redirect_taken.sql",
            &column(all, |row| row.slug.tenant),
            &column(all, |row| row.slug.site),
            &column(all, |row| row.slug.kind.clone()),
            &column(all, |row| row.slug.slug.clone()),
            &column(all, |row| row.tenant_seq)
        )
        .execute(write.connection())
        .await?
        .rows_affected();
    }
    if !changes.redirects.is_empty() {
        let all = &changes.redirects;
        rows += sqlx::query_file!(
            "src/content/redirect.sql",
            &column(all, |row| row.from.tenant),
            &column(all, |row| row.from.site),
            &column(all, |row| row.from.kind.clone()),
            &column(all, |row| row.from.slug.clone()),
            &column(all, |row| row.content),
            &column(all, |row| row.since),
            &column(all, |row| row.tenant_seq)
        )
        .execute(write.connection())
        .await?
        .rows_affected();
    }
    Ok(rows)
}

async fn update_words(write: &mut Write, pieces: &[Content]) -> Result<u64, Error> {
    if pieces.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query_file!(
        "src/content/update.sql",
        &column(pieces, |row| row.tenant),
        &column(pieces, |row| row.content),
        &column(pieces, |row| row.status.as_str()) as &[&str],
        &column(pieces, |row| row.title.as_str()) as &[&str],
        &column(pieces, |row| row.slug.as_str()) as &[&str],
        &column(pieces, |row| row.path.as_str()) as &[&str],
        &column(pieces, |row| array(&row.aliases)),
        &column(pieces, |row| row.body.as_str()) as &[&str],
        &column(pieces, |row| row.summary.as_deref()) as &[Option<&str>],
        &column(pieces, |row| array(&row.tags)),
        &column(pieces, |row| row.featured),
        &column(pieces, |row| row.language.as_deref()) as &[Option<&str>],
        &column(pieces, |row| row.metadata.to_string()),
        &column(pieces, |row| row.published_at) as &[Option<DateTime<Utc>>],
        &column(pieces, |row| row.scheduled_at) as &[Option<DateTime<Utc>>],
        &column(pieces, |row| row.updated_at),
        &column(pieces, |row| row.updated_by) as &[Option<Uuid>],
        &column(pieces, |row| row.version)
    )
    .execute(write.connection())
    .await?;
    Ok(done.rows_affected())
}

/// PostgreSQL makes the column `search` anew when a column that it is made of is set, be it to what it was.
async fn update_but_words(write: &mut Write, pieces: &[Content]) -> Result<u64, Error> {
    if pieces.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query_file!(
        "src/content/update_but_words.sql",
        &column(pieces, |row| row.tenant),
        &column(pieces, |row| row.content),
        &column(pieces, |row| row.status.as_str()) as &[&str],
        &column(pieces, |row| row.slug.as_str()) as &[&str],
        &column(pieces, |row| row.path.as_str()) as &[&str],
        &column(pieces, |row| array(&row.aliases)),
        &column(pieces, |row| array(&row.tags)),
        &column(pieces, |row| row.featured),
        &column(pieces, |row| row.metadata.to_string()),
        &column(pieces, |row| row.published_at) as &[Option<DateTime<Utc>>],
        &column(pieces, |row| row.scheduled_at) as &[Option<DateTime<Utc>>],
        &column(pieces, |row| row.updated_at),
        &column(pieces, |row| row.updated_by) as &[Option<Uuid>],
        &column(pieces, |row| row.version)
    )
    .execute(write.connection())
    .await?;
    Ok(done.rows_affected())
}

/// One column of rows, for `unnest`.
pub(crate) fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// A text array as PostgreSQL writes it: `unnest` flattens arrays of arrays, so they travel as text.
pub(crate) fn array(texts: &[String]) -> String {
    let mut literal = String::from("{");
    for (n, text) in texts.iter().enumerate() {
        literal.push_str(if n == 0 { "\"" } else { ",\"" });
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}
