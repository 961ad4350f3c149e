//! Download queues, folded again.

use read_models::{
    Projection,
    standing::{Table, tables},
};
use serde_json::Value;

use super::{
    content::follows,
    rows::{Columns, Expected},
    walk::Happened,
};

const DOWNLOADS: &Table = &tables(Projection::Downloads)[0];

/// What an event of a download makes of its row.
pub(super) fn take(rows: &mut Expected, event: &Happened<'_>) -> Result<(), String> {
    let Some(what) = event.of("download") else {
        return Ok(());
    };
    let id = event.id()?;
    if !rows.slice.has(&id) {
        return Ok(());
    }
    let tenant = event.tenant.as_str();
    let key = rows.key(
        DOWNLOADS,
        [("tenant", tenant.into()), ("download", id.as_str().into())],
    );
    let before = rows.get(DOWNLOADS, key);
    let version = follows(before, event)?;
    let mut row = match (before, what) {
        (None, "queued.v1") => {
            let mut made = Columns::default();
            made.extend([
                ("tenant", tenant.into()),
                ("download", id.into()),
                ("title", event.field("title")),
                ("url", event.field("url")),
                ("author", event.field("author")),
                ("format", event.field("format")),
                ("sha256", event.field("sha256")),
                ("priority", event.field("priority")),
                ("attempts", 0.into()),
                ("failure", Value::Null),
                ("fetched_size", Value::Null),
                ("fetched_sha256", Value::Null),
                ("queued_at", event.time.into()),
                ("queued_by", event.actor.clone()),
                ("started_at", Value::Null),
                ("finished_at", Value::Null),
            ]);
            made
        }
        (Some(_), "queued.v1") => return Err("a download is first queued once".to_owned()),
        (Some(row), _) => row.clone(),
        (None, _) => return Err("there is no such download".to_owned()),
    };
    let mut set = |column: &'static str, value: Value| row.set(column, value);
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
            let size: Option<u64> = size.as_str().and_then(|size| size.parse().ok());
            // What no column holds is the largest there is; the command API takes none since.
            set(
                "fetched_size",
                size.map(|size| size.min(i64::MAX.cast_unsigned())).into(),
            );
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
        row.set("attempts", attempts + 1);
    }
    rows.put(DOWNLOADS, key, row);
    Ok(())
}
