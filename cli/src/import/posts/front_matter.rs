//! What stands before a post's text: TOML between `+++` lines or YAML between `---` lines.

use serde_json::{Map, Number, Value};

/// A file taken apart.
#[derive(Debug, PartialEq)]
pub(crate) struct Document<'a> {
    /// The front matter; empty when the file has none.
    pub(crate) fields: Map<String, Value>,
    /// Everything after it, without the empty lines between.
    pub(crate) body: &'a str,
}

/// Why the front matter cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontMatterError {
    #[error("the front matter opened by {0:?} in line 1 is never closed")]
    Unclosed(&'static str),
    #[error("the front matter is not TOML: {0}")]
    Toml(String),
    #[error("the front matter is not YAML: {0}")]
    Yaml(String),
    #[error("the front matter is not a list of fields")]
    NoFields,
}

/// Takes a file apart. A file that begins with neither `+++` nor `---` is all body.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, FrontMatterError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for delimiter in ["+++", "---"] {
        let Some(rest) = after_delimiter(text, delimiter) else {
            continue;
        };
        let (matter, body) = until_delimiter(rest, delimiter).ok_or(FrontMatterError::Unclosed(delimiter))?;
        let fields = if delimiter == "+++" {
            toml_fields(matter)?
        } else {
            yaml_fields(matter)?
        };
        return Ok(Document {
            fields,
            body: body.trim_start_matches(['\r', '\n']),
        });
    }
    Ok(Document {
        fields: Map::new(),
        body: text,
    })
}

/// What follows the first line, when that is the delimiter.
fn after_delimiter<'a>(text: &'a str, delimiter: &str) -> Option<&'a str> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.trim_end() == delimiter).then_some(rest)
}

/// What stands before and after the first line that is the delimiter.
fn until_delimiter<'a>(text: &'a str, delimiter: &str) -> Option<(&'a str, &'a str)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == delimiter {
            return Some((&text[..start], &text[start + line.len()..]));
        }
        start += line.len();
    }
    None
}

fn toml_fields(text: &str) -> Result<Map<String, Value>, FrontMatterError> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| FrontMatterError::Toml(one_line(&error.to_string())))?;
    Ok(table
        .into_iter()
        .map(|(name, value)| (name, from_toml(value)))
        .collect())
}

/// The same in JSON: a time becomes its text, a number that JSON cannot say becomes its name.
fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => {
            Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => Value::Object(
            table
                .into_iter()
                .map(|(name, value)| (name, from_toml(value)))
                .collect(),
        ),
    }
}

fn yaml_fields(text: &str) -> Result<Map<String, Value>, FrontMatterError> {
    let value: Value =
        serde_norway::from_str(text).map_err(|error| FrontMatterError::Yaml(one_line(&error.to_string())))?;
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(FrontMatterError::NoFields)
        }
    }
}

/// Parsers draw the place over several lines; a list of files wants one.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn toml_and_yaml_say_the_same() {
        let toml =
            "+++\ntitle = \"A\"\ndate = 2020-01-02\ntags = [\"x\", \"y\"]\n[extra]\nn = 1\n+++\n\nBody\n";
        let yaml = "---\ntitle: A\ndate: 2020-01-02\ntags: [x, y]\nextra:\n  n: 1\n---\n\nBody\n";
        let expected = json!({"title": "A", "date": "2020-01-02", "tags": ["x", "y"], "extra": {"n": 1}});
        for text in [toml, yaml] {
            let document = parse(text).unwrap();
            assert_eq!(Value::Object(document.fields), expected);
            assert_eq!(document.body, "Body\n");
        }
    }

    #[test]
    fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
        let document = parse("\u{feff}+++\r\ntitle = \"A\"\r\n+++\r\n\r\nBody\r\n").unwrap();
        assert_eq!(document.fields["title"], "A");
        assert_eq!(document.body, "Body\r\n");
    }

    #[test]
    fn a_rule_in_the_text_is_no_delimiter() {
        let document = parse("---\ntitle: A\n---\nOne\n\n---\n\nTwo").unwrap();
        assert_eq!(document.body, "One\n\n---\n\nTwo");
        assert_eq!(
            parse("Just text\n---\nmore").unwrap().body,
            "Just text\n---\nmore"
        );
    }

    #[test]
    fn what_cannot_be_read_says_why_in_one_line() {
        for text in [
            "+++\ntitle = \"A\"\n",
            "+++\ntitle = \n+++\n",
            "---\na: [\n---\n",
            "---\n- a\n---\n",
            "---\n7\n---\n",
        ] {
            let reason = parse(text).unwrap_err().to_string();
            assert!(!reason.contains('\n') && !reason.is_empty(), "{reason:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)(\\+\\+\\+|---)?.{0,200}") {
            drop(parse(&text));
        }

        #[test]
        fn any_title_and_body_come_back(title in "\\PC{0,80}", body in "[a-z][a-z \\n]{0,80}") {
            let quoted = serde_json::to_string(&title).unwrap();
            let text = format!("---\ntitle: {quoted}\n---\n{body}");
            let document = parse(&text).unwrap();
            prop_assert_eq!(&document.fields["title"], &Value::String(title));
            prop_assert_eq!(document.body, body);
        }
    }
}
