//! Where a post is read, as its front matter says.

use serde_json::{Map, Value, json};

/// `path` and `aliases` as the API takes them. What is empty is left out, as templates leave fields behind; what is no
/// path, such as a whole URL, stays under another name: a post is not lost for it.
pub(super) fn usable(mut fields: Map<String, Value>) -> Map<String, Value> {
    for (field, as_written) in [("path", "path_as_written"), ("aliases", "aliases_as_written")] {
        let Some(written) = fields.remove(field) else {
            continue;
        };
        let several = written.as_array().filter(|_| field == "aliases");
        let all: Vec<&Value> = several.map_or_else(|| vec![&written], |several| several.iter().collect());
        let paths: Vec<&Value> = all.iter().copied().filter(|one| is_path(one)).collect();
        if let [first, ..] = paths.as_slice() {
            let kept = several.map_or_else(|| (*first).clone(), |_| json!(paths));
            fields.insert(field.to_owned(), kept);
        }
        if all.iter().any(|one| !is_path(one) && !is_empty(one)) {
            fields.insert(as_written.to_owned(), written);
        }
    }
    fields
}

fn is_path(value: &Value) -> bool {
    let text = value.as_str().map(str::trim);
    text.is_some_and(|text| command_api::routes::paths::path(text).is_ok())
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::{super::post::Post, *};

    #[test]
    fn a_post_is_not_lost_for_an_address_that_is_none() {
        for (written, kept) in [
            ("path:\naliases:\n", json!({})),
            ("path: \" \"\naliases: []\n", json!({})),
            (
                "path: /a\naliases: /old\n",
                json!({"path": "/a", "aliases": "/old"}),
            ),
            ("aliases: [/old, null, \"\"]\n", json!({"aliases": ["/old"]})),
            (
                "path: https://a.example/b\naliases: [/old, ../older, /oldest#part]\n",
                json!({
                    "aliases": ["/old"], "path_as_written": "https://a.example/b",
                    "aliases_as_written": ["/old", "../older", "/oldest#part"],
                }),
            ),
            (
                "path: [a]\naliases: 7\n",
                json!({"path_as_written": ["a"], "aliases_as_written": 7}),
            ),
        ] {
            let post = Post::read("a.md", format!("---\n{written}---\n").as_bytes()).unwrap();
            assert_eq!(Value::Object(post.metadata), kept, "{written}");
        }
    }
}
