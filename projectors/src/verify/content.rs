//! Content, its versions and its old slugs, folded again.

use read_models::{
    Projection,
    standing::{Table, tables},
};
use serde_json::{Map, Value, json};

use super::{
    rows::{Columns, Expected},
    walk::Happened,
};

const CONTENT: &Table = &tables(Projection::Content)[0];
const VERSIONS: &Table = &tables(Projection::Content)[1];
const REDIRECTS: &Table = &tables(Projection::Content)[2];

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
    let tenant = event.tenant.as_str();
    let key = rows.key(
        CONTENT,
        [("tenant", tenant.into()), ("content", id.as_str().into())],
    );
    slugs(rows, event, what, key, &id);
    if !rows.slice.has(&id) {
        return Ok(());
    }
    let before = rows.get(CONTENT, key);
    let version = follows(before, event)?;
    let mut row = match (before, what) {
        (None, "drafted.v1") => Columns::default(),
        (Some(_), "drafted.v1") => return Err("a piece is drafted once".to_owned()),
        (Some(row), _) => row.clone(),
        (None, _) => return Err("there is no such piece".to_owned()),
    };
    let changed = change(&mut row, event, what, &id)?;
    row.set("updated_at", event.time);
    row.set("updated_by", event.actor.clone());
    row.set("version", version);
    let mut made = rows.make(VERSIONS);
    for field in FIELDS {
        made.add(field, row.get(field).filter(|_| changed.contains(&field)));
    }
    made.add("tenant", tenant);
    made.add("content", id.as_str());
    made.add("version", version);
    made.add("event", event.kind);
    made.add("at", event.time);
    made.add("actor", &event.actor);
    made.add("changed", &Value::from(changed));
    made.add("status", row.get("status"));
    made.add("tenant_seq", event.tenant_seq);
    rows.made(made);
    rows.put(CONTENT, key, row);
    Ok(())
}

/// What an event does to a piece; the names of what it set, in the order of the tables.
fn change(
    row: &mut Columns,
    event: &Happened<'_>,
    what: &str,
    id: &str,
) -> Result<Vec<&'static str>, String> {
    let mut changed = Vec::new();
    let mut set = |row: &mut Columns, column: &'static str, value: Value| {
        row.set(column, value);
        changed.push(column);
    };
    match what {
        "drafted.v1" => {
            let or = |name: &str, absent: Value| event.data.get(name).cloned().unwrap_or(absent);
            row.extend([
                ("tenant", event.tenant.as_str().into()),
                ("content", id.into()),
                ("site", event.field("site")),
                ("kind", event.field("kind")),
                ("published_at", Value::Null),
                ("scheduled_at", Value::Null),
                ("created_at", event.time.into()),
                ("created_by", event.actor.clone()),
            ]);
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
    row.set("path", path);
    row.set("aliases", aliases);
    Ok(changed)
}

/// The version that an event makes, which must follow the one that is there.
pub(super) fn follows(row: Option<&Columns>, event: &Happened<'_>) -> Result<i64, String> {
    let before = row
        .and_then(|row| row.get("version"))
        .and_then(Value::as_i64)
        .unwrap_or_default();
    match event.version {
        Some(version) if version == before + 1 => Ok(version),
        found => Err(format!("version {found:?} does not follow {before}")),
    }
}

/// Old slugs: a slug that is given up leads to its piece until somebody takes it, which may be one of another slice.
fn slugs(rows: &mut Expected, event: &Happened<'_>, what: &str, key: u128, id: &str) {
    let text = |name: &str| {
        let text = event.data.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let tenant = event.tenant.as_str();
    if what == "drafted.v1" {
        let [site, kind, slug] = [text("site"), text("kind"), text("slug")];
        let taken = redirect(rows, [tenant, &site, &kind, &slug]);
        rows.remove(REDIRECTS, taken);
        let ours = ours(rows, &slug);
        rows.know(key, [site, kind], ours);
    }
    let Some(known) = rows.known(key).filter(|_| what == "slug-changed.v1") else {
        return;
    };
    let [site, kind] = known.place.as_ref();
    let give_up = |rows: &mut Expected, slug: &str| {
        if slug.is_empty() || !rows.slice.has(slug) {
            return;
        }
        let mut row = Columns::default();
        row.extend([
            ("tenant", tenant.into()),
            ("site", site.as_str().into()),
            ("kind", kind.as_str().into()),
            ("slug", slug.into()),
            ("content", id.into()),
            ("since", event.time.into()),
            ("tenant_seq", event.tenant_seq.into()),
        ]);
        let place = redirect(rows, [tenant, site, kind, slug]);
        rows.put(REDIRECTS, place, row);
    };
    // After a change that was passed over it has another slug than the next one says.
    give_up(rows, &known.text);
    let to = text("to");
    let taken = redirect(rows, [tenant, site, kind, &to]);
    rows.remove(REDIRECTS, taken);
    give_up(rows, &text("from"));
    let ours = ours(rows, &to);
    rows.remember(key, ours);
}

/// A slug, when it is of this slice: nobody asks for another one.
fn ours<'a>(rows: &Expected, slug: &'a str) -> &'a str {
    if rows.slice.has(slug) { slug } else { "" }
}

/// What an old slug is known by.
fn redirect(rows: &Expected, [tenant, site, kind, slug]: [&str; 4]) -> u128 {
    let columns = [("tenant", tenant), ("site", site), ("kind", kind), ("slug", slug)];
    rows.key(REDIRECTS, columns.map(|(column, text)| (column, text.into())))
}

/// Where a piece is seen: what its metadata name, else kind and slug; and its aliases, other than that.
fn paths(row: &Columns) -> (String, Vec<String>) {
    let nothing = Map::new();
    let metadata = row.get("metadata").and_then(Value::as_object).unwrap_or(&nothing);
    let normal = |path: &str| {
        let path = path.trim();
        (!path.is_empty()).then(|| format!("/{}", path.trim_matches('/')))
    };
    let own = match row.text("kind") {
        "page" => format!("/{}", row.text("slug")),
        kind => format!("/{kind}/{}", row.text("slug")),
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
