//! Who and what exists, folded again.

use read_models::{
    Projection,
    standing::{Table, tables},
};
use serde_json::Value;

use super::{
    rows::{Columns, Expected},
    walk::Happened,
};

const TENANTS: &Table = &tables(Projection::Directory)[0];
const SITES: &Table = &tables(Projection::Directory)[1];
const PRINCIPALS: &Table = &tables(Projection::Directory)[2];
const KEYS: &Table = &tables(Projection::Directory)[3];

/// What an event of the directory makes of the rows.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let own = match event.kind.split('.').next() {
        Some("key") => event.field("key").as_str().unwrap_or_default().to_owned(),
        Some("site" | "principal") => event.id()?,
        Some(_) | None => event.tenant.clone(),
    };
    if !rows.slice.has(&own) {
        return Ok(());
    }
    let tenant = ("tenant", event.tenant.as_str().into());
    let of_subject = |rows: &Expected, table: &'static Table, column: &'static str| {
        let id = event.id()?;
        Ok::<_, String>(rows.key(table, [tenant, (column, id.as_str().into())]))
    };
    let of_key = |rows: &Expected| {
        let key = event.field("key");
        rows.key(KEYS, [tenant, ("key", (&key).into())])
    };
    let mut row = Columns::default();
    row.set("tenant", event.tenant.as_str());
    row.set("version", event.version);
    let (table, key) = match event.kind {
        "tenant.created.v1" => {
            row.extend([("name", event.field("name")), ("created_at", event.time.into())]);
            (TENANTS, rows.key(TENANTS, [tenant]))
        }
        "site.created.v1" => {
            row.extend([
                ("site", event.id()?.into()),
                ("domain", event.field("domain")),
                ("name", event.field("name")),
                ("timezone", event.field("timezone")),
                ("created_at", event.time.into()),
            ]);
            (SITES, of_subject(rows, SITES, "site")?)
        }
        "principal.created.v1" => {
            row.extend([
                ("principal", event.id()?.into()),
                ("name", event.field("name")),
                ("created_at", event.time.into()),
            ]);
            (PRINCIPALS, of_subject(rows, PRINCIPALS, "principal")?)
        }
        "key.issued.v1" => {
            row.extend([
                ("key", event.field("key")),
                ("principal", event.field("principal")),
                ("secret_hash", event.field("secret_hash")),
                ("scopes", event.field("scopes")),
                ("issued_at", event.time.into()),
                ("revoked_at", Value::Null),
            ]);
            (KEYS, of_key(rows))
        }
        "principal.erased.v1" => {
            let key = of_subject(rows, PRINCIPALS, "principal")?;
            // A principal that nobody made has no row.
            if let Some(mut row) = rows.get(PRINCIPALS, key).cloned() {
                row.set("name", Value::Null);
                row.set("version", event.version);
                rows.put(PRINCIPALS, key, row);
            }
            return Ok(());
        }
        "key.revoked.v1" => {
            let key = of_key(rows);
            // A key that nobody issued has no row.
            if let Some(mut row) = rows.get(KEYS, key).cloned() {
                row.set("revoked_at", event.time);
                row.set("version", event.version);
                rows.put(KEYS, key, row);
            }
            return Ok(());
        }
        // Of the installation, which has no row.
        "installation.feature-level-raised.v1" => return Ok(()),
        other => return Err(format!("verification does not know {other}")),
    };
    if rows.get(table, key).is_some() {
        return Err(format!("{} has this row already", table.name));
    }
    rows.put(table, key, row);
    Ok(())
}
