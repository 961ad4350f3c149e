//! What statistics know about content, folded again.

use read_models::{
    Projection,
    standing::{Table, tables},
};
use serde_json::Value;

use super::{
    rows::{Columns, Expected},
    walk::Happened,
};

/// Paths that a piece is remembered by, at most.
const FORMER: usize = 100;

const FACTS: &Table = &tables(Projection::ContentFacts)[0];

/// What an event of content makes of its piece's row.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let Some(what) = event.of("content") else {
        return Ok(());
    };
    let id = event.id()?;
    if !rows.slice.has(&id) {
        return Ok(());
    }
    let tenant = ("tenant", event.tenant.as_str().into());
    let content = ("content", id.as_str().into());
    // The row is known by its site as well, which only the first event names.
    let piece = rows.key(FACTS, [tenant, content]);
    if what == "drafted.v1" {
        let site = event.data.get("site").and_then(Value::as_str).unwrap_or_default();
        let mut row = Columns::default();
        row.extend([
            ("tenant", event.tenant.as_str().into()),
            ("site", site.into()),
            ("content", id.as_str().into()),
            ("kind", event.field("kind")),
            ("title", event.field("title")),
            ("status", "draft".into()),
            ("published_at", Value::Null),
        ]);
        let key = rows.key(FACTS, [tenant, ("site", site.into()), content]);
        rows.put(FACTS, key, row);
        rows.know(piece, [site.to_owned(), String::new()], "");
    }
    let known = rows.known(piece);
    let key = known.map(|known| rows.key(FACTS, [tenant, ("site", known.place[0].as_str().into()), content]));
    let found = key.and_then(|key| rows.get(FACTS, key).cloned().map(|row| (key, row)));
    let Some((key, mut row)) = found else {
        return Err("an event of a piece that was never drafted".to_owned());
    };
    let is_known = row.get("published_at").is_some_and(|at| !at.is_null());
    let was = list(row.get("paths").filter(|_| is_known));
    let mut set = |column: &'static str, value: Value| row.set(column, value);
    let mut path = None;
    let metadata = event.data.get("metadata").filter(|value| !value.is_null());
    match what {
        "drafted.v1" => {
            set("slug", event.field("slug"));
            path = Some(named(&mut set, metadata.unwrap_or(&Value::Null)));
        }
        "revised.v1" => {
            if let Some(title) = event.data.get("title").filter(|title| !title.is_null()) {
                set("title", title.clone());
            }
            if let Some(metadata) = metadata {
                path = Some(named(&mut set, metadata));
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
    if let Some(path) = path {
        rows.remember(piece, &path);
    }
    let named = rows.known(piece).unwrap_or_default().text;
    let mut paths: Vec<String> = Vec::new();
    // As it was named: a column keeps a long text shortened.
    let own = match (named.as_ref(), row.text("kind")) {
        ("", "page") => row.text("slug").to_owned(),
        ("", kind) => format!("{kind}/{}", row.text("slug")),
        (path, _) => path.to_owned(),
    };
    let aliases = row.get("aliases").and_then(Value::as_array).into_iter().flatten();
    for path in std::iter::once(own.as_str()).chain(aliases.filter_map(Value::as_str)) {
        let path = format!("/{}", path.trim_matches('/'));
        // Visits have no escapes, where what they stand for is a text.
        let text = percent_encoding::percent_decode_str(&path).decode_utf8();
        let text = text.ok().filter(|text| !text.contains(char::is_control));
        let path = text.map_or_else(|| path.clone(), |text| text.into_owned());
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut former = list(row.get("former"));
    former.retain(|path| !was.contains(path));
    former.extend(was);
    former.retain(|path| {
        path.as_str()
            .is_some_and(|path| !paths.iter().any(|own| own == path))
    });
    row.set("former", former.split_off(former.len().saturating_sub(FORMER)));
    row.set("paths", paths);
    rows.put(FACTS, key, row);
    Ok(())
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// What the metadata say of paths: texts, of aliases also one alone, without a slash at the end. Gives back the path.
fn named(set: &mut impl FnMut(&'static str, Value), metadata: &Value) -> String {
    let normal = |path: &Value| {
        let path = path.as_str()?.trim();
        (!path.is_empty()).then(|| format!("/{}", path.trim_matches('/')))
    };
    let path = normal(&metadata["path"]).unwrap_or_default();
    set("path", path.as_str().into());
    let several = metadata["aliases"].as_array().into_iter().flatten();
    let aliases = std::iter::once(&metadata["aliases"])
        .chain(several)
        .filter_map(normal);
    set("aliases", aliases.collect::<Vec<_>>().into());
    path
}
