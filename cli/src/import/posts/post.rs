//! A file becomes a post: which field of the front matter means what.

use chrono::{DateTime, Utc};
use events::content::Language;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    addresses, date,
    front_matter::{self, FrontMatterError},
    slug,
};

/// The longest summary that the API takes; a longer description stays in the metadata.
const SUMMARY_CHARACTERS: usize = 2_000;

/// A post as a file says it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Post {
    pub(crate) slug: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) summary: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) featured: bool,
    pub(crate) language: Option<String>,
    /// Every field of the front matter that has no place of its own: authors, aliases, path, …
    pub(crate) metadata: Map<String, Value>,
    pub(crate) publication: Publication,
}

/// Whether and when readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    Draft,
    /// It carries this date; in the future it is scheduled.
    At(DateTime<Utc>),
    /// No draft, but nothing says a date: published when it is imported.
    Undated,
}

/// Why a file is no post.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("it is not UTF-8 text (byte {0})")]
    Encoding(usize),
    #[error(transparent)]
    FrontMatter(#[from] FrontMatterError),
    #[error("{field} is {value}, expected {expected}")]
    Field {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("no slug can be made of its name; give it one in its front matter")]
    Slug,
}

impl Post {
    /// Reads a file; `path` is where it lies below the folder of the import, with `/` between the parts.
    pub(crate) fn read(path: &str, bytes: &[u8]) -> Result<Self, PostError> {
        let text = std::str::from_utf8(bytes).map_err(|error| PostError::Encoding(error.valid_up_to()))?;
        let front_matter::Document { mut fields, body } = front_matter::parse(text)?;

        let date = take_date(&mut fields, path)?;
        let draft = take_draft(&mut fields)?;
        let slug = take_slug(&mut fields, path)?;
        let title = match take_text(&mut fields, "title")? {
            Some(title) => title,
            None => heading(body).unwrap_or_else(|| slug::name(path)).to_owned(),
        };
        let summary = take_summary(&mut fields)?;
        let publication = match (draft, date) {
            (true, date) => {
                if let Some(date) = date {
                    fields.insert("date".to_owned(), Value::String(date.to_rfc3339()));
                }
                Publication::Draft
            }
            (false, Some(date)) => Publication::At(date),
            (false, None) => Publication::Undated,
        };
        Ok(Self {
            slug,
            title,
            body: body.to_owned(),
            summary,
            tags: take_tags(&mut fields)?,
            featured: take_truth(&mut fields, "featured")?.unwrap_or(false),
            language: match take_text(&mut fields, "language")? {
                Some(language) => Some(language),
                None => take_text(&mut fields, "lang")?,
            }
            // As it will be there; what is no language is for the server to refuse.
            .map(|text| Language::new(&text).map_or(text, String::from)),
            metadata: addresses::usable(fields),
            publication,
        })
    }

    /// The fields that a change may name, all of them: what is absent is said to be so.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let fields = json!({
            "title": self.title, "body": self.body, "summary": self.summary, "tags": self.tags,
            "featured": self.featured, "language": self.language, "metadata": self.metadata,
        });
        match fields {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        }
    }

    /// The body of the command that creates it; absent fields are left out.
    pub(crate) fn creation(&self, site: &str) -> Map<String, Value> {
        let mut fields = self.fields();
        fields.retain(|_, value| !value.is_null());
        fields.insert("site".to_owned(), site.into());
        fields.insert("kind".to_owned(), "post".into());
        fields.insert("slug".to_owned(), self.slug.as_str().into());
        fields
    }

    /// The same for the same site, slug and content: what a repeated run sends as its Idempotency-Key.
    pub(crate) fn idempotency_key(&self, site: &str, step: &str) -> String {
        let content = Value::Object(self.creation(site)).to_string();
        let digest = Sha256::digest(format!("{content}\n{:?}", self.publication));
        format!("import-post-{step}-{}", hex::encode(digest))
    }
}

/// A text field; numbers and truths are taken as they are written, as YAML guesses them.
fn take_text(fields: &mut Map<String, Value>, field: &'static str) -> Result<Option<String>, PostError> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(value.to_string())),
        Some(value @ (Value::Array(_) | Value::Object(_))) => Err(wrong(field, &value, "a text")),
    }
}

fn take_truth(fields: &mut Map<String, Value>, field: &'static str) -> Result<Option<bool>, PostError> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(truth)),
        Some(value) => Err(wrong(field, &value, "true or false")),
    }
}

/// `draft: true` (Zola, Hugo) or `published: false` (Jekyll).
fn take_draft(fields: &mut Map<String, Value>) -> Result<bool, PostError> {
    let draft = take_truth(fields, "draft")?.unwrap_or(false);
    let unpublished = fields.get("published") == Some(&Value::Bool(false));
    fields.retain(|name, value| name != "published" || !value.is_boolean());
    Ok(draft || unpublished)
}

/// `date`, or the date in `path`, or the one in the file's place and name.
fn take_date(fields: &mut Map<String, Value>, path: &str) -> Result<Option<DateTime<Utc>>, PostError> {
    if let Some(text) = take_text(fields, "date")? {
        let date = date::parse(&text);
        return date
            .map(Some)
            .ok_or_else(|| wrong("date", &text.into(), "a date such as 2020-01-31"));
    }
    let own_path = fields.get("path").and_then(Value::as_str);
    Ok(own_path.and_then(date::in_path).or_else(|| date::in_path(path)))
}

/// The front matter's slug, or one made of the file's name. One that had to be changed is kept in the metadata.
fn take_slug(fields: &mut Map<String, Value>, path: &str) -> Result<String, PostError> {
    let Some(own) = take_text(fields, "slug")? else {
        return slug::of_path(path).ok_or(PostError::Slug);
    };
    let slug = slug::of_text(&own).ok_or(PostError::Slug)?;
    if slug != own {
        fields.insert("slug".to_owned(), own.into());
    }
    Ok(slug)
}

/// `summary`, or `description`.
fn take_summary(fields: &mut Map<String, Value>) -> Result<Option<String>, PostError> {
    let (field, text) = match take_text(fields, "summary")? {
        Some(summary) => ("summary", Some(summary)),
        None => ("description", take_text(fields, "description")?),
    };
    match text {
        Some(long) if long.chars().count() > SUMMARY_CHARACTERS => {
            fields.insert(field.to_owned(), long.into());
            Ok(None)
        }
        other => Ok(other),
    }
}

/// `tags` and `taxonomies.tags`, a list or a text with commas, each once, in the writer's order.
fn take_tags(fields: &mut Map<String, Value>) -> Result<Vec<String>, PostError> {
    let mut found = vec![fields.remove("tags")];
    if let Some(Value::Object(taxonomies)) = fields.get_mut("taxonomies") {
        found.push(taxonomies.remove("tags"));
        if taxonomies.is_empty() {
            fields.remove("taxonomies");
        }
    }
    let mut tags: Vec<String> = Vec::new();
    for value in found.into_iter().flatten() {
        let texts: Vec<String> = match value {
            Value::Null => Vec::new(),
            Value::String(text) => text.split(',').map(str::to_owned).collect(),
            Value::Array(items) => items.iter().map(tag).collect::<Result<_, _>>()?,
            other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return Err(wrong("tags", &other, "a list of texts"));
            }
        };
        for text in texts {
            let text = text.trim();
            if !text.is_empty() && !tags.iter().any(|known| known == text) {
                tags.push(text.to_owned());
            }
        }
    }
    Ok(tags)
}

fn tag(item: &Value) -> Result<String, PostError> {
    match item {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(item.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong("tags", item, "a list of texts")),
    }
}

/// The text of a first-level heading that begins the body.
fn heading(body: &str) -> Option<&str> {
    let first = body.lines().find(|line| !line.trim().is_empty())?;
    first
        .strip_prefix("# ")
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn wrong(field: &'static str, value: &Value, expected: &'static str) -> PostError {
    let value: String = value.to_string().chars().take(60).collect();
    PostError::Field {
        field,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> Post {
        Post::read(path, text.as_bytes()).unwrap()
    }

    #[test]
    fn a_post_of_zola_keeps_everything() {
        let post = read(
            "Rust-1.88.0.md",
            "+++\npath = \"2025/06/26/Rust-1.88.0\"\ntitle = \"Announcing\"\nauthors = [\"A\"]\ndescription = \"D\"\n\
             aliases = [\"releases/1.88.0\"]\n[taxonomies]\ntags = [\"x\"]\n[extra]\nrelease = true\n+++\n\nBody\n",
        );
        assert_eq!(post.slug, "rust-1-88-0");
        assert_eq!(post.title, "Announcing");
        assert_eq!(post.body, "Body\n");
        assert_eq!(post.summary.as_deref(), Some("D"));
        assert_eq!(post.tags, ["x"]);
        assert_eq!(
            post.publication,
            Publication::At("2025-06-26T00:00:00Z".parse().unwrap())
        );
        let metadata = json!({
            "path": "2025/06/26/Rust-1.88.0", "authors": ["A"], "aliases": ["releases/1.88.0"],
            "extra": {"release": true},
        });
        assert_eq!(Value::Object(post.metadata), metadata);
    }

    #[test]
    fn a_post_of_jekyll_keeps_everything() {
        let post = read(
            "_posts/2016-07-25-Conf Lineup.md",
            "---\nlayout: post\ntitle: 2016\ntags: a, b , a\npublished: false\nlang: DE-at\n---\nBody",
        );
        assert_eq!(post.slug, "conf-lineup");
        assert_eq!(post.title, "2016");
        assert_eq!(post.tags, ["a", "b"]);
        assert_eq!(post.language.as_deref(), Some("de-AT"));
        assert_eq!(post.publication, Publication::Draft);
        assert_eq!(post.metadata["date"], "2016-07-25T00:00:00+00:00");
        assert_eq!(post.metadata["layout"], "post");
    }

    #[test]
    fn without_a_title_the_heading_or_the_name_is_the_title() {
        assert_eq!(read("a-b.md", "# Of *birds*\n\ntext").title, "Of *birds*");
        assert_eq!(
            read("releases/latest.md", "+++\ntemplate = \"t\"\n+++\n").title,
            "latest"
        );
        assert_eq!(read("a-b.md", "text").publication, Publication::Undated);
    }

    #[test]
    fn a_slug_of_its_own_wins_and_its_first_form_is_kept() {
        let post = read("x.md", "---\nslug: My_Slug\n---\n");
        assert_eq!(
            (post.slug.as_str(), &post.metadata["slug"]),
            ("my-slug", &json!("My_Slug"))
        );
        assert!(
            !read("x.md", "---\nslug: my-slug\n---\n")
                .metadata
                .contains_key("slug")
        );
    }

    #[test]
    fn what_is_of_the_wrong_type_is_refused_by_name() {
        for (text, field) in [
            ("---\ntitle: [a]\n---\n", "title"),
            ("---\ndate: soon\n---\n", "date"),
            ("---\ntags: {a: b}\n---\n", "tags"),
            ("---\ndraft: maybe\n---\n", "draft"),
        ] {
            let reason = Post::read("x.md", text.as_bytes()).unwrap_err().to_string();
            assert!(reason.starts_with(field), "{reason}");
        }
        assert!(
            Post::read("x.md", b"ab\xff")
                .unwrap_err()
                .to_string()
                .contains("byte 2")
        );
    }

    #[test]
    fn the_key_of_a_step_follows_the_content() {
        let (one, same, other) = (read("x.md", "a"), read("x.md", "a"), read("x.md", "b"));
        assert_eq!(
            one.idempotency_key("s", "create"),
            same.idempotency_key("s", "create")
        );
        assert_ne!(
            one.idempotency_key("s", "create"),
            other.idempotency_key("s", "create")
        );
        assert_ne!(
            one.idempotency_key("s", "create"),
            one.idempotency_key("t", "create")
        );
        assert_ne!(
            one.idempotency_key("s", "create"),
            one.idempotency_key("s", "publish")
        );
    }
}
