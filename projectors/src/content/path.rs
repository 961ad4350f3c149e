//! The paths of a piece's page: what page views are matched by.

use events::{content::Kind, visit::plain_path};
use serde_json::{Map, Value};

/// Paths without a slash at the end: of the page, and what else leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `metadata.path` where it is a text; else `/<kind>/<slug>`, of a page `/<slug>`.
    pub path: String,
    /// `metadata.aliases`: texts, or one text.
    pub aliases: Vec<String>,
}

/// What metadata say of paths, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `metadata.path` where it is a text.
    pub path: Option<String>,
    /// `metadata.aliases`: texts, or one text.
    pub aliases: Vec<String>,
}

impl Paths {
    /// The paths of a piece.
    pub fn of(kind: Kind, slug: &str, metadata: &Map<String, Value>) -> Self {
        Self::new(kind_name(kind), slug, Named::of(metadata))
    }

    /// The paths of a piece of the kind with this name, of whose metadata this is known.
    pub fn new(kind: &str, slug: &str, named: Named) -> Self {
        let path = named.path.unwrap_or_else(|| {
            if kind == kind_name(Kind::Page) {
                format!("/{slug}")
            } else {
                format!("/{kind}/{slug}")
            }
        });
        let mut aliases = named.aliases;
        aliases.retain(|alias| *alias != path);
        Self { path, aliases }
    }

    /// The page's, then what else leads to it, each once: as visits have them, also where they are written as in a URL.
    pub fn all(self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for path in std::iter::once(self.path).chain(self.aliases) {
            let plain = plain_path(&path);
            if !all.iter().any(|known| *known == plain) {
                all.push(plain.into_owned());
            }
        }
        all
    }
}

impl Named {
    /// What these metadata say.
    pub fn of(metadata: &Map<String, Value>) -> Self {
        let path = metadata.get("path").and_then(Value::as_str).and_then(self::path);
        let aliases: Vec<String> = match metadata.get("aliases") {
            Some(Value::Array(several)) => several
                .iter()
                .filter_map(Value::as_str)
                .filter_map(self::path)
                .collect(),
            Some(Value::String(one)) => self::path(one).into_iter().collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        };
        Self { path, aliases }
    }
}

/// The name of a kind, as tables and addresses have it.
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Post => "post",
        Kind::Project => "project",
        Kind::Idea => "idea",
        Kind::Page => "page",
        Kind::Resume => "resume",
    }
}

/// A leading slash, none at the end; nothing of an empty text.
fn path(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let inner = text.trim_matches('/');
    Some(format!("/{inner}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(kind: Kind, metadata: Value) -> Paths {
        let Value::Object(metadata) = metadata else {
            panic!("metadata is an object")
        };
        Paths::of(kind, "a-b", &metadata)
    }

    #[test]
    fn a_page_is_where_its_metadata_say_or_where_its_slug_says() {
        assert_eq!(paths(Kind::Post, json!({})).path, "/post/a-b");
        assert_eq!(paths(Kind::Page, json!({"path": 7})).path, "/a-b");
        assert_eq!(
            paths(Kind::Post, json!({"path": "2015/05/x/"})).path,
            "/2015/05/x"
        );
        assert_eq!(paths(Kind::Page, json!({"path": "/"})).path, "/");
        let aliases = json!({"path": "/x", "aliases": ["/old/", "x/", 3, ""]});
        assert_eq!(paths(Kind::Post, aliases).aliases, ["/old"]);
        assert_eq!(paths(Kind::Post, json!({"aliases": "one"})).aliases, ["/one"]);
    }
}
