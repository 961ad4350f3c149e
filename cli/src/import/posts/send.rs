//! One post is brought to what its file says: looked up, then created, changed or left as it is.

use std::{collections::HashSet, time::Duration};

use chrono::DateTime;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::post::{Post, Publication};
use crate::client::{Client, ClientError, Request};

/// What an import did to a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Done {
    Created,
    Changed,
    Unchanged,
}

/// What became of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) done: Done,
    /// What the file says of its publication that is otherwise here, and stays so: people have decided it.
    pub(crate) otherwise: Option<String>,
}

/// Sends the posts of one site.
pub(crate) struct Sender {
    client: Client,
    site: String,
    /// The slugs of all files of this import.
    slugs: HashSet<String>,
}

/// What is there under a slug.
enum Found {
    Post(Value),
    /// Nothing but an old address of the post with this id, which another file is of.
    Another(String),
    Nothing,
}

/// How long the read model is given to show what an earlier run has written.
const READ_MODEL_PAUSES: [u64; 6] = [50, 100, 200, 400, 800, 1_600];

impl Sender {
    pub(crate) fn new(client: Client, site: String, slugs: HashSet<String>) -> Self {
        Self { client, site, slugs }
    }

    /// Looks the post up and does what is missing. A conflict means that the read model does not show yet what the
    /// log has, for an earlier run was interrupted a moment ago: it is looked up again.
    pub(crate) async fn send(&self, post: &Post) -> Result<Outcome, ClientError> {
        let mut pauses = READ_MODEL_PAUSES.into_iter();
        loop {
            let result = match self.find(&post.slug).await? {
                Found::Post(existing) => self.change(post, &existing).await,
                Found::Another(id) => self.create(post, &format!("-beside-{id}")).await,
                Found::Nothing => self.create(post, "").await,
            };
            match (result, pauses.next()) {
                (Err(error), Some(pause)) if matches!(error.status(), Some(409 | 412)) => {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                (result, _) => return result,
            }
        }
    }

    /// The post with this slug, or that once had it, unless another file is the one of that post now.
    async fn find(&self, slug: &str) -> Result<Found, ClientError> {
        let path = format!("api/v1/sites/{}/content/post/{slug}", self.site);
        match self.client.send(Request::query(path)).await {
            Ok(answer) => match answer.location {
                Some(location) if answer.status.is_redirection() => {
                    let moved = self.client.send(Request::query(location)).await?.body;
                    Ok(if self.slugs.contains(text(&moved["slug"])) {
                        Found::Another(text(&moved["id"]).to_owned())
                    } else {
                        Found::Post(moved)
                    })
                }
                Some(_) | None => Ok(Found::Post(answer.body)),
            },
            Err(error) if error.status() == Some(404) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// `beside` tells it apart from an earlier creation, when the post of that one has another slug now.
    async fn create(&self, post: &Post, beside: &str) -> Result<Outcome, ClientError> {
        let body = Value::Object(post.creation(&self.site));
        let request = Request::command(Method::POST, "api/v1/content", Some(body));
        let answer = self
            .client
            .send(request.idempotency_key(post.idempotency_key(&self.site, "create") + beside))
            .await?;
        self.publish(post, &answer.body, None, beside).await?;
        Ok(Outcome {
            done: Done::Created,
            otherwise: None,
        })
    }

    /// Changes the fields that differ, and publishes what is a draft here and none in the file. What was published,
    /// unpublished or archived by people stays so.
    async fn change(&self, post: &Post, existing: &Value) -> Result<Outcome, ClientError> {
        if existing["status"] == "archived" {
            return Ok(Outcome {
                done: Done::Unchanged,
                otherwise: Some("archived here".to_owned()),
            });
        }
        let fields = differing(&post.fields(), existing);
        let unpublished = existing["status"] == "draft" && post.publication != Publication::Draft;
        let mut version = existing["version"].clone();
        if !fields.is_empty() {
            let path = format!("api/v1/content/{}", text(&existing["id"]));
            let request = Request::command(Method::PATCH, path, Some(Value::Object(fields.clone())))
                .idempotency_key(format!(
                    "{}-{version}",
                    post.idempotency_key(&self.site, "change")
                ))
                .header("if-match", format!("\"{version}\""));
            version = self.client.send(request).await?.body["version"].clone();
        }
        if unpublished {
            self.publish(post, existing, Some(&version), "").await?;
        }
        let done = if fields.is_empty() && !unpublished {
            Done::Unchanged
        } else {
            Done::Changed
        };
        let otherwise = otherwise(post.publication, existing);
        Ok(Outcome { done, otherwise })
    }

    /// Publishes what the file does not keep as a draft; of this version, when it is one that was read: if an earlier
    /// run has published it meanwhile, that is a conflict and no change.
    async fn publish(
        &self,
        post: &Post,
        existing: &Value,
        version: Option<&Value>,
        beside: &str,
    ) -> Result<(), ClientError> {
        let body = match post.publication {
            Publication::Draft => return Ok(()),
            Publication::At(date) => json!({ "at": date }),
            Publication::Undated => json!({}),
        };
        let path = format!("api/v1/content/{}/publish", text(&existing["id"]));
        let request = Request::command(Method::POST, path, Some(body));
        let key = post.idempotency_key(&self.site, "publish") + beside;
        let request = match version {
            None => request.idempotency_key(key),
            Some(version) => request
                .idempotency_key(format!("{key}-{version}"))
                .header("if-match", format!("\"{version}\"")),
        };
        self.client.send(request).await?;
        Ok(())
    }
}

/// How the publication that a file wants differs from what people decided of a post here.
fn otherwise(wanted: Publication, existing: &Value) -> Option<String> {
    let (is, field) = match text(&existing["status"]) {
        "published" => ("published", "published_at"),
        "scheduled" => ("scheduled", "scheduled_at"),
        "unpublished" if wanted != Publication::Draft => {
            return Some("published in the file, withdrawn here".to_owned());
        }
        _ => return None,
    };
    let at = text(&existing[field]);
    match wanted {
        Publication::Draft => Some(format!("a draft in the file, {is} here")),
        Publication::At(date) => {
            let here = DateTime::parse_from_rfc3339(at).ok()?;
            // The tables keep microseconds.
            let same = here.timestamp_micros() == date.timestamp_micros();
            (!same).then(|| format!("dated {} in the file, {is} here for {at}", date.to_rfc3339()))
        }
        Publication::Undated => None,
    }
}

/// Those of the wanted fields that are not so; an absent field is null, an empty list or an empty object.
fn differing(wanted: &Map<String, Value>, existing: &Value) -> Map<String, Value> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(truth) => !truth,
        Value::Number(_) | Value::String(_) => false,
    };
    let differs = |name: &str, value: &Value| {
        let there = &existing[name];
        there != value && !(empty(there) && empty(value))
    };
    let fields = wanted.iter().filter(|(name, value)| differs(name, value));
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_or_a_draft_that_is_otherwise_here_is_said() {
        let at = |text: &str| Publication::At(text.parse().unwrap());
        let published = json!({"status": "published", "published_at": "2025-06-26T00:00:00Z"});
        assert_eq!(otherwise(at("2025-06-26T00:00:00Z"), &published), None);
        assert_eq!(otherwise(Publication::Undated, &published), None);
        assert_eq!(
            otherwise(at("2025-06-27T00:00:00Z"), &published).unwrap(),
            "dated 2025-06-27T00:00:00+00:00 in the file, published here for 2025-06-26T00:00:00Z"
        );
        assert_eq!(
            otherwise(Publication::Draft, &published).unwrap(),
            "a draft in the file, published here"
        );
        let scheduled = json!({"status": "scheduled", "scheduled_at": "2035-06-26T00:00:00Z"});
        assert_eq!(otherwise(at("2035-06-26T00:00:00Z"), &scheduled), None);
        assert!(otherwise(at("2035-06-27T00:00:00Z"), &scheduled).is_some());
        let date = at("2035-06-27T00:00:00Z");
        assert_eq!(otherwise(date, &json!({"status": "draft"})), None);
        let withdrawn = json!({"status": "unpublished"});
        assert!(otherwise(date, &withdrawn).is_some());
        assert_eq!(otherwise(Publication::Draft, &withdrawn), None);
    }

    #[test]
    fn only_what_differs_is_sent() {
        let wanted =
            json!({"title": "A", "summary": null, "tags": [], "featured": false, "metadata": {"a": 1}});
        let Value::Object(wanted) = wanted else {
            panic!("an object")
        };
        let same = json!({"id": "x", "title": "A", "metadata": {"a": 1}, "status": "draft"});
        assert_eq!(differing(&wanted, &same), Map::new());
        let other = json!({"title": "B", "summary": "s", "metadata": {"a": 1}});
        assert_eq!(
            Value::Object(differing(&wanted, &other)),
            json!({"title": "A", "summary": null})
        );
    }
}
