//! Who and what exists, folded again.

use serde_json::{Value, json};

use super::{rows::Expected, walk::Happened};

/// What an event of the directory makes of the rows.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    if !rows.slice.has(&event.tenant) {
        return Ok(());
    }
    let tenant = event.tenant.as_str();
    let (table, key, row) = match event.kind {
        "tenant.created.v1" => (
            "tenants",
            tenant.to_owned(),
            json!({"name": event.field("name"), "created_at": event.time}),
        ),
        "site.created.v1" => (
            "sites",
            format!("{tenant}/{}", event.id()?),
            json!({
                "site": event.id()?, "domain": event.field("domain"), "name": event.field("name"),
                "timezone": event.field("timezone"), "created_at": event.time,
            }),
        ),
        "principal.created.v1" => (
            "principals",
            format!("{tenant}/{}", event.id()?),
            json!({"principal": event.id()?, "name": event.field("name"), "created_at": event.time}),
        ),
        "key.issued.v1" => (
            "keys",
            format!("{tenant}/{}", text(&event.field("key"))),
            json!({
                "key": event.field("key"), "principal": event.field("principal"),
                "secret_hash": event.field("secret_hash"), "scopes": event.field("scopes"),
                "issued_at": event.time, "revoked_at": null,
            }),
        ),
        "principal.erased.v1" => {
            let key = format!("{tenant}/{}", event.id()?);
            // A principal that nobody made has no row.
            if let Some(mut row) = rows.get("principals", &key).cloned() {
                row.insert("name".to_owned(), Value::Null);
                row.insert("version".to_owned(), event.version.into());
                rows.put("principals", key, row);
            }
            return Ok(());
        }
        "key.revoked.v1" => {
            let key = format!("{tenant}/{}", text(&event.field("key")));
            // A key that nobody issued has no row.
            if let Some(mut row) = rows.get("keys", &key).cloned() {
                row.insert("revoked_at".to_owned(), event.time.into());
                row.insert("version".to_owned(), event.version.into());
                rows.put("keys", key, row);
            }
            return Ok(());
        }
        // Of the installation, which has no row.
        "installation.feature-level-raised.v1" => return Ok(()),
        other => return Err(format!("verification does not know {other}")),
    };
    let Value::Object(mut row) = row else {
        return Ok(());
    };
    row.insert("tenant".to_owned(), tenant.into());
    row.insert("version".to_owned(), event.version.into());
    if rows.get(table, &key).is_some() {
        return Err(format!("{table} has {key} already"));
    }
    rows.put(table, key, row);
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
