//! The fields of a piece, within their limits. What is stored in PostgreSQL must not hold U+0000.

use serde_json::{Map, Value};

use crate::aggregate::{Invalid, line};

/// One line, 1 to 300 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title(String);

/// Markdown, at most 512 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body(String);

/// Plain text, at most 2,000 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary(String);

/// At most 50 lines of at most 100 characters, in the writer's order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Vec<String>);

/// BCP 47 in its usual case: `en`, `pt-BR`, `zh-Hant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language(String);

/// A JSON object, at most 64 KiB and 32 levels: what else a writer keeps with a piece. Kept as its text, for commands
/// wait, and as values it may take a hundred times as much memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(String);

/// Longest body, in bytes.
pub const BODY_MAX: usize = 512 * 1024;
/// Largest metadata, in bytes of JSON.
pub const METADATA_MAX: usize = 64 * 1024;
/// Deepest metadata: well below what a JSON reader takes (128), which reads it inside an event.
pub const METADATA_DEPTH_MAX: usize = 32;

impl Title {
    /// Trims, and checks.
    ///
    /// # Errors
    /// Empty, too long, or of several lines.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        line("a title", text, 1, 300).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Body {
    /// Checks, and changes nothing.
    ///
    /// # Errors
    /// Too long, or with a U+0000.
    pub fn new(text: String) -> Result<Self, Invalid> {
        no_nul("a body", &text)?;
        let length = text.len();
        if length > BODY_MAX {
            return Err(Invalid::new(format!(
                "a body has {length} bytes, at most {BODY_MAX} are allowed"
            )));
        }
        Ok(Self(text))
    }
}

impl Summary {
    /// Trims, and checks.
    ///
    /// # Errors
    /// Empty, too long, or with a U+0000.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        no_nul("a summary", text)?;
        let text = text.trim();
        match text.chars().count() {
            0 => Err(Invalid::new(
                "a summary must not be empty: leave it out or give null",
            )),
            1..=2000 => Ok(Self(text.to_owned())),
            length => Err(Invalid::new(format!(
                "a summary has {length} characters, at most 2000 are allowed"
            ))),
        }
    }
}

impl Tags {
    /// Trims each, drops repetitions, and checks.
    ///
    /// # Errors
    /// Too many, or one that is empty, too long or of several lines; the text names it by its place.
    pub fn new<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut each_once: Vec<String> = Vec::new();
        for (index, tag) in tags.into_iter().enumerate() {
            let tag = line(&format!("tag {index}"), tag, 1, 100)?;
            if !each_once.contains(&tag) {
                each_once.push(tag);
            }
            if each_once.len() > 50 {
                return Err(Invalid::new("there are more than 50 tags"));
            }
        }
        Ok(Self(each_once))
    }
}

impl Language {
    /// Brings it to its usual case, and checks its form (not that such a language is spoken).
    ///
    /// # Errors
    /// Not of the form of BCP 47.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("a language is a BCP 47 tag, as in en or pt-BR");
        if text.len() > 35 {
            return Err(invalid());
        }
        let mut parts = text.split('-');
        let primary = parts
            .next()
            .filter(|part| (2..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphabetic()));
        let mut tag = primary.ok_or_else(invalid)?.to_ascii_lowercase();
        for part in parts {
            if !(1..=8).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(invalid());
            }
            tag.push('-');
            match part.len() {
                2 => tag.push_str(&part.to_ascii_uppercase()),
                4 if part.bytes().all(|b| b.is_ascii_alphabetic()) => {
                    tag.push_str(&part[..1].to_ascii_uppercase());
                    tag.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => tag.push_str(&part.to_ascii_lowercase()),
            }
        }
        Ok(Self(tag))
    }
}

impl Metadata {
    /// Checks, and changes nothing.
    ///
    /// # Errors
    /// Too large, nested too deep, or with a U+0000 in a key or a text.
    pub fn new(map: Map<String, Value>) -> Result<Self, Invalid> {
        check_values(map.values(), 1)?;
        map.keys().try_for_each(|key| no_nul("metadata", key))?;
        let text = serde_json::to_string(&map)
            .map_err(|error| Invalid::new(format!("metadata cannot be written: {error}")))?;
        let size = text.len();
        if size > METADATA_MAX {
            return Err(Invalid::new(format!(
                "metadata has {size} bytes of JSON, at most {METADATA_MAX} are allowed"
            )));
        }
        Ok(Self(text))
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl From<Metadata> for Map<String, Value> {
    fn from(metadata: Metadata) -> Self {
        // It was written from such a map.
        serde_json::from_str(&metadata.0).unwrap_or_default()
    }
}

/// Goes no deeper than the limit, so that hostile nesting costs no stack.
fn check_values<'a>(values: impl IntoIterator<Item = &'a Value>, depth: usize) -> Result<(), Invalid> {
    if depth > METADATA_DEPTH_MAX {
        return Err(Invalid::new(format!(
            "metadata is nested deeper than {METADATA_DEPTH_MAX} levels"
        )));
    }
    values.into_iter().try_for_each(|value| match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => no_nul("metadata", text),
        Value::Array(items) => check_values(items, depth + 1),
        Value::Object(map) => {
            map.keys().try_for_each(|key| no_nul("metadata", key))?;
            check_values(map.values(), depth + 1)
        }
    })
}

fn no_nul(what: &str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::new(format!("{what} must not hold the character U+0000")));
    }
    Ok(())
}

macro_rules! into_recorded {
    ($($name:ident => $type:ty),+ $(,)?) => {$(
        impl From<$name> for $type {
            fn from(field: $name) -> Self {
                field.0
            }
        }
    )+};
}

into_recorded! {
    Title => String,
    Body => String,
    Summary => String,
    Tags => Vec<String>,
    Language => String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_trimmed_line_of_at_most_300_characters() {
        assert_eq!(Title::new("  Hello ").unwrap().as_str(), "Hello");
        assert!(Title::new(&"é".repeat(300)).is_ok());
        for refused in ["", " \t ", "a\nb", "a\0b", &"é".repeat(301)] {
            assert!(Title::new(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_body_keeps_its_bytes_but_holds_no_nul_and_has_a_limit() {
        assert_eq!(String::from(Body::new(" # a\r\n".into()).unwrap()), " # a\r\n");
        assert!(Body::new("x".repeat(BODY_MAX)).is_ok());
        assert!(Body::new("x".repeat(BODY_MAX + 1)).is_err());
        assert!(Body::new("a\0".into()).is_err());
    }

    #[test]
    fn tags_keep_their_order_and_stand_once() {
        assert_eq!(Vec::from(Tags::new(["b", " a ", "b"]).unwrap()), ["b", "a"]);
        assert!(Tags::new([""]).is_err());
        let many: Vec<_> = (0..51).map(|number| number.to_string()).collect();
        assert!(Tags::new(many.iter().map(String::as_str)).is_err());
        assert!(Tags::new(many[..50].iter().map(String::as_str)).is_ok());
    }

    #[test]
    fn a_language_is_brought_to_its_usual_case() {
        for (given, expected) in [
            ("EN", "en"),
            ("pt-br", "pt-BR"),
            ("ZH-hant-tw", "zh-Hant-TW"),
            ("de-1996", "de-1996"),
        ] {
            assert_eq!(String::from(Language::new(given).unwrap()), expected);
        }
        for refused in ["", "e", "english", "en_US", "en-", "en--US", "é"] {
            assert!(Language::new(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn metadata_is_neither_deep_nor_large_nor_holds_a_nul() {
        let nested = |levels: usize| {
            let inner = (1..levels).fold(Value::from(1), |value, _| Value::Array(vec![value]));
            Map::from_iter([("a".to_owned(), inner)])
        };
        assert!(Metadata::new(nested(METADATA_DEPTH_MAX)).is_ok());
        assert!(Metadata::new(nested(METADATA_DEPTH_MAX + 1)).is_err());
        let one = |key: &str, value: &str| Map::from_iter([(key.to_owned(), Value::from(value))]);
        assert!(Metadata::new(one("a", &"x".repeat(METADATA_MAX))).is_err());
        assert!(Metadata::new(one("a", "\0")).is_err());
        assert!(Metadata::new(one("\0", "a")).is_err());
    }
}
