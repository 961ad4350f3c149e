//! Content, its versions and its old slugs, folded again.

use read_models::standing::Row;
use serde_json::{Map, Value, json};

use super::{rows::Expected, walk::Happened};

/// Fields that a version has where it set them.
const FIELDS: [&str; 10] = [
    "title",
    "slug",
    "body",
    "summary",
    "tags",
    "featured",
    "language",
    "metadata",
    "published_at",
    "scheduled_at",
];

/// What an event of content makes of the rows.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let Some(what) = event.of("content") else {
        return Ok(());
    };
    let id = event.id()?;
    let key = format!("{}/{id}", event.tenant);
    // Old slugs are a few rows, and one piece may take another's: all of them are in the first slice.
    if rows.slice.index == 0 {
        slugs(rows, event, what, &key);
    }
    if !rows.slice.has(&id) {
        return Ok(());
    }
    let version = follows(rows.get("content", &key), event)?;
    let mut row = match (rows.get("content", &key), what) {
        (None, "drafted.v1") => Row::new(),
        (Some(_), "drafted.v1") => return Err("a piece is drafted once".to_owned()),
        (Some(row), _) => row.clone(),
        (None, _) => return Err("there is no such piece".to_owned()),
    };
    let changed = change(&mut row, event, what, &id)?;
    row.insert("updated_at".to_owned(), event.time.into());
    row.insert("updated_by".to_owned(), event.actor.clone());
    row.insert("version".to_owned(), version.into());
    let mut made = Row::new();
    for field in FIELDS {
        let value = changed
            .contains(&field)
            .then(|| row.get(field).cloned())
            .flatten();
        made.insert(field.to_owned(), value.unwrap_or(Value::Null));
    }
    for (column, value) in [
        ("tenant", event.tenant.as_str().into()),
        ("content", id.into()),
        ("version", version.into()),
        ("event", event.kind.into()),
        ("at", event.time.into()),
        ("actor", event.actor.clone()),
        ("changed", changed.into()),
        ("status", row.get("status").cloned().unwrap_or(Value::Null)),
        ("tenant_seq", event.tenant_seq.into()),
    ] {
        made.insert(column.to_owned(), value);
    }
    rows.put("content_versions", format!("{key}/{version}"), made);
    rows.put("content", key, row);
    Ok(())
}

/// What an event does to a piece; the names of what it set, in the order of the tables.
fn change(row: &mut Row, event: &Happened<'_>, what: &str, id: &str) -> Result<Vec<&'static str>, String> {
    let mut changed = Vec::new();
    let mut set = |row: &mut Row, column: &'static str, value: Value| {
        row.insert(column.to_owned(), value);
        changed.push(column);
    };
    match what {
        "drafted.v1" => {
            let or = |name: &str, absent: Value| event.data.get(name).cloned().unwrap_or(absent);
            for (column, value) in [
                ("tenant", event.tenant.as_str().into()),
                ("content", id.into()),
                ("site", event.field("site")),
                ("kind", event.field("kind")),
                ("published_at", Value::Null),
                ("scheduled_at", Value::Null),
                ("created_at", event.time.into()),
                ("created_by", event.actor.clone()),
            ] {
                row.insert(column.to_owned(), value);
            }
            set(row, "status", "draft".into());
            set(row, "title", event.field("title"));
            set(row, "slug", event.field("slug"));
            set(row, "body", event.field("body"));
            set(row, "summary", event.field("summary"));
            set(row, "tags", or("tags", json!([])));
            set(row, "featured", or("featured", false.into()));
            set(row, "language", event.field("language"));
            set(row, "metadata", or("metadata", json!({})));
        }
        "revised.v1" => {
            for column in [
                "title", "body", "summary", "tags", "featured", "language", "metadata",
            ] {
                let Some(value) = event.data.get(column).filter(|value| !value.is_null()) else {
                    continue;
                };
                let value = match column {
                    // These can be taken away: {} says so, {"is": …} says something else.
                    "summary" | "language" => value.get("is").cloned().unwrap_or(Value::Null),
                    _ => value.clone(),
                };
                set(row, column, value);
            }
        }
        "slug-changed.v1" => set(row, "slug", event.field("to")),
        "scheduled.v1" => {
            set(row, "status", "scheduled".into());
            set(row, "scheduled_at", event.instant("at")?);
        }
        "published.v1" => {
            set(row, "status", "published".into());
            set(row, "published_at", event.instant("at")?);
        }
        "unpublished.v1" => set(row, "status", "unpublished".into()),
        "archived.v1" => set(row, "status", "archived".into()),
        other => return Err(format!("verification does not know content.{other}")),
    }
    let scheduled = row.get("scheduled_at").is_some_and(|at| !at.is_null());
    if scheduled && matches!(what, "published.v1" | "unpublished.v1" | "archived.v1") {
        set(row, "scheduled_at", Value::Null);
    }
    let (path, aliases) = paths(row);
    row.insert("path".to_owned(), path.into());
    row.insert("aliases".to_owned(), aliases.into());
    Ok(changed)
}

/// The version that an event makes, which must follow the one that is there.
pub(super) fn follows(row: Option<&Row>, event: &Happened<'_>) -> Result<i64, String> {
    let before = row
        .and_then(|row| row.get("version"))
        .and_then(Value::as_i64)
        .unwrap_or_default();
    match event.version {
        Some(version) if version == before + 1 => Ok(version),
        found => Err(format!("version {found:?} does not follow {before}")),
    }
}

/// Old slugs: a slug that is given up leads to its piece until somebody takes it.
fn slugs(rows: &mut Expected, event: &Happened<'_>, what: &str, key: &str) {
    const TABLE: &str = "content_redirects";
    let text = |name: &str| {
        event
            .data
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if what == "drafted.v1" {
        let [site, kind, slug] = [text("site"), text("kind"), text("slug")];
        rows.remove(TABLE, &format!("{}/{site}/{kind}/{slug}", event.tenant));
        rows.known.insert(key.to_owned(), [site, kind, slug]);
    }
    let Some([site, kind, had]) = rows.known.get(key).cloned().filter(|_| what == "slug-changed.v1") else {
        return;
    };
    let place = |slug: &str| format!("{}/{site}/{kind}/{slug}", event.tenant);
    let content = key.rsplit('/').next().unwrap_or_default();
    let give_up = |rows: &mut Expected, slug: &str| {
        let row = json!({
            "tenant": event.tenant, "site": site, "kind": kind, "slug": slug, "content": content,
            "since": event.time, "tenant_seq": event.tenant_seq,
        });
        if let Value::Object(row) = row {
            rows.put(TABLE, place(slug), row);
        }
    };
    // After a change that was passed over it has another slug than the next one says.
    give_up(rows, &had);
    rows.remove(TABLE, &place(&text("to")));
    give_up(rows, &text("from"));
    rows.known
        .insert(key.to_owned(), [site.clone(), kind.clone(), text("to")]);
}

/// Where a piece is seen: what its metadata name, else kind and slug; and its aliases, other than that.
fn paths(row: &Row) -> (String, Vec<String>) {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let nothing = Map::new();
    let metadata = row.get("metadata").and_then(Value::as_object).unwrap_or(&nothing);
    let normal = |path: &str| {
        let path = path.trim();
        (!path.is_empty()).then(|| format!("/{}", path.trim_matches('/')))
    };
    let own = match text("kind") {
        "page" => format!("/{}", text("slug")),
        kind => format!("/{kind}/{}", text("slug")),
    };
    let named = metadata.get("path").and_then(Value::as_str).and_then(normal);
    let path = named.unwrap_or(own);
    let aliases = match metadata.get("aliases") {
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    };
    let aliases = aliases
        .into_iter()
        .filter_map(normal)
        .filter(|alias| *alias != path);
    let aliases = aliases.collect();
    (path, aliases)
}
