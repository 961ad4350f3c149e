//! Download queues, folded again.

use serde_json::{Value, json};

use super::{content::follows, rows::Expected, walk::Happened};

/// What an event of a download makes of its row.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let Some(what) = event.of("download") else {
        return Ok(());
    };
    let id = event.id()?;
    if !rows.slice.has(&id) {
        return Ok(());
    }
    let key = format!("{}/{id}", event.tenant);
    let version = follows(rows.get("downloads", &key), event)?;
    let mut row = match (rows.get("downloads", &key), what) {
        (None, "queued.v1") => {
            let made = json!({
                "tenant": event.tenant, "download": id, "title": event.field("title"), "url": event.field("url"),
                "author": event.field("author"), "format": event.field("format"), "sha256": event.field("sha256"),
                "priority": event.field("priority"), "attempts": 0, "failure": null, "fetched_size": null,
                "fetched_sha256": null, "queued_at": event.time, "queued_by": event.actor, "started_at": null,
                "finished_at": null,
            });
            let Value::Object(made) = made else { return Ok(()) };
            made
        }
        (Some(_), "queued.v1") => return Err("a download is first queued once".to_owned()),
        (Some(row), _) => row.clone(),
        (None, _) => return Err("there is no such download".to_owned()),
    };
    let mut set = |column: &str, value: Value| {
        row.insert(column.to_owned(), value);
    };
    match what {
        "queued.v1" | "retried.v1" => {
            set("status", "queued".into());
            set("queue_seq", event.tenant_seq.into());
            set("queue_index", event.place.2.into());
            set("finished_at", Value::Null);
            set("failure", Value::Null);
        }
        "reprioritised.v1" => set("priority", event.field("priority")),
        "started.v1" => set("status", "running".into()),
        "completed.v1" => {
            set("status", "completed".into());
            // Whole numbers are texts in the log.
            let size = event.field("size");
            let size: Option<i64> = size.as_str().and_then(|size| size.parse().ok());
            set("fetched_size", size.into());
            set("fetched_sha256", event.field("sha256"));
        }
        "failed.v1" => {
            set("status", "failed".into());
            set("failure", event.field("reason"));
        }
        "cancelled.v1" => set("status", "cancelled".into()),
        other => return Err(format!("verification does not know download.{other}")),
    }
    match what {
        "completed.v1" | "failed.v1" | "cancelled.v1" => set("finished_at", event.time.into()),
        "started.v1" => set("started_at", event.time.into()),
        _ => {}
    }
    set("updated_at", event.time.into());
    set("updated_by", event.actor.clone());
    set("version", version.into());
    if what == "started.v1" {
        let attempts = row.get("attempts").and_then(Value::as_i64).unwrap_or_default();
        row.insert("attempts".to_owned(), (attempts + 1).into());
    }
    rows.put("downloads", key, row);
    Ok(())
}
