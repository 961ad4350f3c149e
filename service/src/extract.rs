//! Requests parsed at the door: what does not fit its type is a [`Problem`](crate::Problem) that names the field.

mod exact;
mod json;
mod params;
mod words;

pub use json::{Json, check_depth, check_type, check_type_among};
pub use params::{NoParams, Path, Query};

/// A pointer and a detail from serde's error text. serde names unknown and missing fields in words only, and
/// the path that serde_path_to_error gives ends at the field for the first and at its parent for the second.
fn field_error(path: &serde_path_to_error::Path, message: &str) -> crate::FieldError {
    let mut pointer = String::new();
    for segment in path {
        let name = match segment {
            serde_path_to_error::Segment::Seq { index } => index.to_string(),
            serde_path_to_error::Segment::Map { key } => key.clone(),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => continue,
        };
        push(&mut pointer, &name);
    }
    if let Some(name) = quoted(message, "missing field `") {
        push(&mut pointer, name);
        return crate::FieldError::new(pointer, "is missing");
    }
    if let Some(name) = quoted(message, "unknown field `") {
        let last = pointer.rsplit('/').next().unwrap_or_default();
        if last != escaped(name) {
            push(&mut pointer, name);
        }
        let known = message
            .rsplit_once("`, expected ")
            .map_or_else(String::new, |(_, known)| known.replace('`', ""));
        let detail = if known.is_empty() {
            "is not a field here".to_owned()
        } else {
            format!("is not a field here; expected {known}")
        };
        return crate::FieldError::new(pointer, detail);
    }
    if let Some(name) = quoted(message, "duplicate field `") {
        push(&mut pointer, name);
        return crate::FieldError::new(pointer, "is there twice");
    }
    crate::FieldError::new(pointer, words::for_people(message))
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    // The last backtick that is followed by the rest of serde's own words: a hostile name may hold backticks.
    let rest = message.strip_prefix(before)?;
    let end = rest
        .find("`, expected ")
        .or_else(|| rest.find("`, there are no fields"))
        .unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('`'))
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&escaped(&name.chars().take(100).collect::<String>()));
}
