//! What statistics know about content, folded again.

use serde_json::{Value, json};

use super::{rows::Expected, walk::Happened};

/// What an event of content makes of its piece's row.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let Some(what) = event.of("content") else {
        return Ok(());
    };
    let id = event.id()?;
    if !rows.slice.has(&id) {
        return Ok(());
    }
    if what == "drafted.v1" {
        let site = event.data.get("site").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{}/{site}/{id}", event.tenant);
        let row = json!({
            "tenant": event.tenant, "site": site, "content": id, "kind": event.field("kind"),
            "title": event.field("title"), "status": "draft", "published_at": null,
        });
        if let Value::Object(row) = row {
            rows.put("facts", key.clone(), row);
        }
        // The row is known by its site as well, which only this event names.
        rows.known.insert(id.clone(), [key, String::new(), String::new()]);
    }
    let key = rows.known.get(&id).map(|[key, ..]| key.clone());
    let found = key.and_then(|key| rows.get("facts", &key).cloned().map(|row| (key, row)));
    let Some((key, mut row)) = found else {
        return Err("an event of a piece that was never drafted".to_owned());
    };
    let mut set = |column: &str, value: Value| {
        row.insert(column.to_owned(), value);
    };
    let metadata = event.data.get("metadata").filter(|value| !value.is_null());
    match what {
        "drafted.v1" => {
            set("slug", event.field("slug"));
            named(&mut set, metadata.unwrap_or(&Value::Null));
        }
        "revised.v1" => {
            if let Some(title) = event.data.get("title").filter(|title| !title.is_null()) {
                set("title", title.clone());
            }
            if let Some(metadata) = metadata {
                named(&mut set, metadata);
            }
        }
        "slug-changed.v1" => set("slug", event.field("to")),
        "published.v1" => {
            set("status", "published".into());
            set("published_at", event.instant("at")?);
        }
        "scheduled.v1" | "unpublished.v1" | "archived.v1" => {
            set("status", what.trim_end_matches(".v1").into());
        }
        other => return Err(format!("verification does not know content.{other}")),
    }
    set("log_partition", event.place.0.into());
    set("log_offset", event.place.1.into());
    let mut paths: Vec<String> = Vec::new();
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let own = match (text("path"), text("kind")) {
        ("", "page") => text("slug").to_owned(),
        ("", kind) => format!("{kind}/{}", text("slug")),
        (path, _) => path.to_owned(),
    };
    let aliases = row.get("aliases").and_then(Value::as_array).into_iter().flatten();
    for path in std::iter::once(own.as_str()).chain(aliases.filter_map(Value::as_str)) {
        let path = format!("/{}", path.trim_matches('/'));
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    row.insert("paths".to_owned(), paths.into());
    rows.put("facts", key, row);
    Ok(())
}

/// What the metadata say of paths: texts, of aliases also one alone, without a slash at the end.
fn named(set: &mut impl FnMut(&str, Value), metadata: &Value) {
    let normal = |path: &Value| {
        let path = path.as_str()?.trim();
        (!path.is_empty()).then(|| format!("/{}", path.trim_matches('/')))
    };
    set("path", normal(&metadata["path"]).unwrap_or_default().into());
    let several = metadata["aliases"].as_array().into_iter().flatten();
    let aliases = std::iter::once(&metadata["aliases"])
        .chain(several)
        .filter_map(normal);
    set("aliases", aliases.collect::<Vec<_>>().into());
}
