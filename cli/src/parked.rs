//! `annals parked`: events that cannot be projected, and what to do about them.

use std::{process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Connection, Request};

/// See to events that cannot be projected: each waits with every later one of its aggregate.
#[derive(Debug, clap::Args)]
pub(crate) struct Parked {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show what is parked, one aggregate a line. An operator sees all, an admin the tenant's.
    List {
        /// Such as content; every projection when absent.
        projection: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show an aggregate, the error, and every event that waits.
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Try again, in order. Needs an operator's key.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Let the first event be passed over, now and in every later generation, and try the others. Needs an operator's
    /// key.
    Skip {
        #[command(flatten)]
        which: Which,
        /// Why, for those who read it later.
        #[arg(long)]
        why: String,
    },
    /// Show what was passed over, by whom, and why, one event a line. An operator sees all, an admin the tenant's.
    Skipped {
        /// Such as content; every projection when absent.
        projection: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Such as content.
    projection: String,
    /// The aggregate, as `annals parked list` shows it.
    subject: String,
    /// Whose; needed only where several tenants have an aggregate of that id.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// What `retry` and `skip` end with when something of the aggregate is still parked.
const STILL_PARKED: u8 = 3;

impl Which {
    fn path(&self, verb: &str) -> String {
        let encoded: String = self.subject.bytes().map(encode).collect();
        let tenant = self.tenant.as_ref();
        let tenant = tenant
            .map(|tenant| format!("?tenant={tenant}"))
            .unwrap_or_default();
        format!("api/v1/parked/{}/{encoded}{verb}{tenant}", self.projection)
    }

    async fn see_to(&self, verb: &str, body: Option<Value>) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, Duration::from_secs(2))?;
        let request = Request::operation(Method::POST, self.path(verb), body);
        // The next event of the aggregate is another one, and it was not looked at.
        let request = if verb == "/skip" { request.once() } else { request };
        let answer = client.send(request).await?.body;
        println!("{}", came_of(verb, answer["done"].as_u64().unwrap_or_default()));
        Ok(match answer["parked"].as_str() {
            None => ExitCode::SUCCESS,
            Some(why) => {
                println!("still parked: {why}");
                ExitCode::from(STILL_PARKED)
            }
        })
    }
}

/// What came of it, in words: of what is skipped the first is passed over, and the others follow.
fn came_of(verb: &str, done: u64) -> String {
    if verb == "/skip" && done > 0 {
        format!(
            "1 event is passed over, {} events after it are projected",
            done - 1
        )
    } else if done == 1 {
        "1 event is projected".to_owned()
    } else {
        format!("{done} events are projected")
    }
}

impl Parked {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::List {
                projection,
                connection,
            } => {
                if !print_all("parked", projection.as_deref(), &connection, line).await? {
                    println!("nothing is parked");
                }
                Ok(ExitCode::SUCCESS)
            }
            Verb::Skipped {
                projection,
                connection,
            } => {
                if !print_all("skipped", projection.as_deref(), &connection, skipped_line).await? {
                    println!("nothing was passed over");
                }
                Ok(ExitCode::SUCCESS)
            }
            Verb::Show { which } => {
                let client = Client::new(&which.connection, Duration::from_secs(2))?;
                let answer = client.send(Request::query(which.path(""))).await?;
                println!("{}", serde_json::to_string_pretty(&answer.body)?);
                Ok(ExitCode::SUCCESS)
            }
            Verb::Retry { which } => which.see_to("/retry", None).await,
            Verb::Skip { which, why } => {
                let client = Client::new(&which.connection, Duration::from_secs(2))?;
                let first = client.send(Request::query(which.path(""))).await?.body;
                println!("{}", line(&first));
                let body = json!({ "why": why, "offset": first["offset"], "index": first["index"] });
                which.see_to("/skip", Some(body)).await
            }
        }
    }
}

/// Prints every item of a list, a line each; false when there is none.
async fn print_all(
    list: &str,
    projection: Option<&str>,
    connection: &Connection,
    line: impl Fn(&Value) -> String,
) -> anyhow::Result<bool> {
    let client = Client::new(connection, Duration::from_secs(2))?;
    let of = projection
        .map(|it| format!("&projection={it}"))
        .unwrap_or_default();
    let mut found = false;
    for page in 1.. {
        let path = format!("api/v1/{list}?size=100&page={page}{of}");
        let answer = client.send(Request::query(path)).await?.body;
        for item in answer["items"].as_array().into_iter().flatten() {
            found = true;
            println!("{}", line(item));
        }
        if answer["total_pages"].as_u64().unwrap_or_default() <= page {
            break;
        }
    }
    Ok(found)
}

/// A byte as it stands in a path.
fn encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// `content 0193…  ledger/0 17.0  content.revised.v1 of tenant 0193…, 3 wait, 1 attempts: the tables refuse a value`
fn line(parked: &Value) -> String {
    let text = |name: &str| parked[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{} {}  {} {}.{}  {} of tenant {}, {} wait, {} attempts: {}",
        text("projection"),
        text("subject"),
        text("partition"),
        parked["offset"],
        parked["index"],
        text("event"),
        text("tenant"),
        parked["events"],
        parked["attempts"],
        text("reason")
    )
}

/// `content 0193…  ledger/0 17.0  content.revised.v1 of tenant 0193…: no such slug; passed over TIME by k7Qm2ZxA: "why"`
fn skipped_line(skipped: &Value) -> String {
    let text = |name: &str| skipped[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{} {}  {} {}.{}  {} of tenant {}: {}; passed over {} by {}: {}",
        text("projection"),
        text("subject"),
        text("partition"),
        skipped["offset"],
        skipped["index"],
        text("event"),
        text("tenant"),
        text("reason"),
        text("skipped_at"),
        text("by"),
        skipped["why"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_any_form_is_one_part_of_the_path() {
        let encoded: String = "visits/0@5.0 ü".bytes().map(encode).collect();
        assert_eq!(encoded, "visits%2F0%405.0%20%C3%BC");
    }

    #[test]
    fn what_is_passed_over_is_not_called_projected() {
        assert_eq!(came_of("/retry", 1), "1 event is projected");
        assert_eq!(
            came_of("/skip", 1),
            "1 event is passed over, 0 events after it are projected"
        );
        assert_eq!(came_of("/skip", 0), "0 events are projected");
    }

    #[test]
    fn a_line_says_what_where_and_why() {
        let parked = json!({"projection": "content", "subject": "x", "tenant": "t", "partition": "ledger/0", "offset": 17, "index": 0,
            "event": "content.revised.v1", "events": 3, "attempts": 1, "reason": "no"});
        assert_eq!(
            line(&parked),
            "content x  ledger/0 17.0  content.revised.v1 of tenant t, 3 wait, 1 attempts: no"
        );
        let skipped = json!({"projection": "content", "subject": "x", "tenant": "t", "partition": "ledger/0", "offset": 17, "index": 0,
            "event": "content.revised.v1", "reason": "no", "by": "k7Qm2ZxA", "why": "a\ntest", "skipped_at": "then"});
        assert_eq!(
            skipped_line(&skipped),
            "content x  ledger/0 17.0  content.revised.v1 of tenant t: no; passed over then by k7Qm2ZxA: \"a\\ntest\""
        );
    }
}
