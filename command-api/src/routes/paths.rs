//! Where a piece is read, as its metadata say: `path`, and `aliases` that lead there. They become public addresses.

use serde_json::{Map, Value};

use super::fields::Fields;

/// Longest path, in characters: as trackers have it.
const LONGEST: usize = 2000;

/// Checks what metadata say of paths, if they do.
pub(super) fn check(fields: &mut Fields, metadata: Option<&Map<String, Value>>) {
    let Some(metadata) = metadata else { return };
    // Null says as little as what is absent.
    let said = |name| metadata.get(name).filter(|value| !value.is_null());
    if let Some(path) = said("path") {
        fields.check("/metadata/path", of_value(path));
    }
    match said("aliases") {
        None => {}
        Some(Value::Array(several)) => {
            for (index, alias) in several.iter().enumerate() {
                fields.check(&format!("/metadata/aliases/{index}"), of_value(alias));
            }
        }
        Some(one) => {
            fields.check("/metadata/aliases", of_value(one));
        }
    }
}

fn of_value(value: &Value) -> Result<(), &'static str> {
    let text = value
        .as_str()
        .ok_or("must be a path, as in /2015/a-piece/: a text")?;
    path(text.trim())
}

/// Whether a text is a path that may become a public address.
///
/// # Errors
/// Why not.
pub fn path(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty: leave it out");
    }
    if text.chars().count() > LONGEST {
        return Err("has more than 2000 characters");
    }
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters");
    }
    if text.contains(['\\', '?', '#']) {
        return Err("must be a path only, without \\, ? and #");
    }
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let first = inner.split('/').next().unwrap_or_default();
    if !text.starts_with('/') && first.contains(':') {
        return Err("must be a path, as in /2015/a-piece/, and no whole address");
    }
    for part in inner.split('/') {
        match part.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." | ".." => return Err("must not hold the parts . and .."),
            "" if !inner.is_empty() => return Err("must not hold two slashes in a row"),
            _ => {}
        }
    }
    Ok(())
}
