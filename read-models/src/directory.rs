//! Who and what exists: tenants, sites, principals, keys. Rows, writing, queries.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Error, Snapshot, Write};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub tenant: Uuid,
    /// As operators call it.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Version of the aggregate.
    pub version: i64,
}

/// A site of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Whose it is.
    pub tenant: Uuid,
    /// Its id.
    pub site: Uuid,
    /// Unique in the installation.
    pub domain: String,
    /// As people call it.
    pub name: Option<String>,
    /// IANA name.
    pub timezone: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Version of the aggregate.
    pub version: i64,
}

/// Someone who acts for a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// For whom.
    pub tenant: Uuid,
    /// Its id.
    pub principal: Uuid,
    /// Its name, sealed as in the log.
    pub name: Option<serde_json::Value>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Version of the aggregate.
    pub version: i64,
}

/// An API key; its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose it is.
    pub tenant: Uuid,
    /// Its public half.
    pub key: String,
    /// For whom it was made.
    pub principal: Uuid,
    /// SHA-256 of the secret, 64 hexadecimal digits.
    pub secret_hash: String,
    /// What it may do, by their names on the wire.
    pub scopes: Vec<String>,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// When it was revoked; none while it works.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Version of the aggregate.
    pub version: i64,
}

/// What a batch of events changes: the last state of each row.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// New tenants.
    pub tenants: Vec<Tenant>,
    /// New sites.
    pub sites: Vec<Site>,
    /// New principals.
    pub principals: Vec<Principal>,
    /// New keys.
    pub keys: Vec<Key>,
    /// Keys of earlier batches that were revoked.
    pub revoked: Vec<Revoked>,
    /// Principals of earlier batches that were erased.
    pub erased: Vec<Erased>,
}

/// A principal has no name from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// For whom it acted.
    pub tenant: Uuid,
    /// Which.
    pub principal: Uuid,
    /// Version of the aggregate from then on.
    pub version: i64,
}

/// A key does nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Whose it is.
    pub tenant: Uuid,
    /// Which.
    pub key: String,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Version of the aggregate from then on.
    pub version: i64,
}

/// Writes what a batch changed. Rows, in total.
///
/// # Errors
/// [`Error::Refused`] for values that the tables do not take.
pub async fn apply(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
    let connection = write.connection();
    let mut rows = 0;
    // The directory is small and changes seldom: one statement a row is enough.
    for row in &changes.tenants {
        rows += sqlx::query!(
            "INSERT INTO tenants (tenant, name, created_at, version) VALUES ($1, $2, $3, $4)",
            row.tenant,
            row.name,
            row.created_at,
            row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    for row in &changes.sites {
        rows += sqlx::query!(
            "INSERT INTO sites (tenant, site, domain, name, timezone, created_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            row.tenant,
            row.site,
            row.domain,
            row.name,
            row.timezone,
            row.created_at,
            row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    for row in &changes.principals {
        rows += sqlx::query!(
            "INSERT INTO principals (tenant, principal, name, created_at, version) VALUES ($1, $2, $3, $4, $5)",
            row.tenant, row.principal, row.name, row.created_at, row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    for row in &changes.keys {
        rows += sqlx::query!(
            "INSERT INTO keys (tenant, key, principal, secret_hash, scopes, issued_at, revoked_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            row.tenant,
            row.key,
            row.principal,
            row.secret_hash,
            &row.scopes,
            row.issued_at,
            row.revoked_at,
            row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    for row in &changes.erased {
        rows += sqlx::query!(
            "UPDATE principals SET name = NULL, version = $3 WHERE tenant = $1 AND principal = $2",
            row.tenant,
            row.principal,
            row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    for row in &changes.revoked {
        rows += sqlx::query!(
            "UPDATE keys SET revoked_at = $3, version = $4 WHERE tenant = $1 AND key = $2",
            row.tenant,
            row.key,
            row.at,
            row.version
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    Ok(rows)
}

/// Which part of a tenant's sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What follows so many.
    Skip(u64),
    /// What follows this domain, whether it is there or not.
    After(String),
}

/// Sites of a tenant, by domain, at most `size`.
///
/// # Errors
/// A database that cannot be reached.
pub async fn sites(at: &Snapshot, tenant: Uuid, part: &Part, size: u32) -> Result<Vec<Site>, Error> {
    let (after, skip) = match part {
        Part::Skip(skip) => (None, i64::try_from(*skip).unwrap_or(i64::MAX)),
        Part::After(domain) => (Some(domain.as_str()), 0),
    };
    let rows = sqlx::query_as!(
        Site,
        "SELECT tenant, site, domain, name, timezone, created_at, version FROM sites
         WHERE tenant = $1 AND ($2::text IS NULL OR domain > $2) ORDER BY domain LIMIT $3 OFFSET $4",
        tenant,
        after,
        i64::from(size),
        skip
    )
    .fetch_all(at.pool())
    .await?;
    Ok(rows)
}

/// How many sites a tenant has.
///
/// # Errors
/// A database that cannot be reached.
pub async fn count_sites(at: &Snapshot, tenant: Uuid) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM sites WHERE tenant = $1"#,
        tenant
    )
    .fetch_one(at.pool())
    .await?;
    Ok(count)
}

/// A site of a tenant by its id.
///
/// # Errors
/// A database that cannot be reached.
pub async fn site_by_id(at: &Snapshot, tenant: Uuid, site: Uuid) -> Result<Option<Site>, Error> {
    let row = sqlx::query_as!(
        Site,
        "SELECT tenant, site, domain, name, timezone, created_at, version FROM sites WHERE tenant = $1 AND site = $2",
        tenant,
        site
    )
    .fetch_optional(at.pool())
    .await?;
    Ok(row)
}

/// The site of a domain, whoever has it.
///
/// # Errors
/// A database that cannot be reached.
pub async fn site_by_domain(at: &Snapshot, domain: &str) -> Result<Option<Site>, Error> {
    let row = sqlx::query_as!(
        Site,
        "SELECT tenant, site, domain, name, timezone, created_at, version FROM sites WHERE domain = $1",
        domain
    )
    .fetch_optional(at.pool())
    .await?;
    Ok(row)
}

/// A key by its public half, revoked or not: the caller compares the hash and looks at `revoked_at`.
///
/// # Errors
/// A database that cannot be reached.
pub async fn key(at: &Snapshot, key: &str) -> Result<Option<Key>, Error> {
    let row = sqlx::query_as!(
        Key,
        "SELECT tenant, key, principal, secret_hash, scopes, issued_at, revoked_at, version FROM keys WHERE key = $1",
        key
    )
    .fetch_optional(at.pool())
    .await?;
    Ok(row)
}
