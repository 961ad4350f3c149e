//! The JSON Schema of a whole event, CloudEvents attributes included.

use serde_json::{Value, json};

const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// The schema of the event with this wire name, whose `data` has this schema.
/// Attributes that are not named here may be there: CloudEvents asks readers to pass over them.
pub(crate) fn schema_of(name: &str, mut data: Value) -> Value {
    let inner = data.as_object_mut().expect("a schema is an object");
    inner.remove("$schema");
    inner.remove("title");
    let description = inner.remove("description");
    let definitions = inner.remove("$defs");
    let id = || json!({"type": "string", "pattern": UUID});
    let mut properties = json!({
        "specversion": {"const": "1.0"},
        "id": describe(id(), "Unique with the source; where nobody gave it, a UUIDv7."),
        "source": {"const": "/annals"},
        "type": {"const": name},
        "subject": describe(subject(name), "The aggregate that it happened to; of visits, the site."),
        "time": describe(
            json!({"type": "string", "format": "date-time", "pattern": "Z$"}),
            "When it happened: of a commit, the time of deciding; of a visit, its own. UTC, six decimals."
        ),
        "tenant": describe(id(), "Whose it is."),
        "actor": describe(id(), "The principal who did it."),
        "causationid": describe(id(), "The command that caused it."),
        "correlationid": describe(id(), "What belongs together across commands."),
        "traceparent": describe(
            json!({"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}),
            "W3C trace context of the request."
        ),
        "data": data,
    });
    let mut required = vec![
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "tenant",
        "data",
    ];
    if !name.starts_with("visit.") {
        required.push("aggregateversion");
        properties["aggregateversion"] = describe(
            json!({"type": "string", "pattern": "^[1-9][0-9]{0,19}$"}),
            "The aggregate's version after this event, from 1.",
        );
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "required": required,
        "properties": properties,
    });
    if let Some(description) = description {
        schema["description"] = description;
    }
    if let Some(definitions) = definitions {
        schema["$defs"] = definitions;
    }
    schema
}

fn subject(name: &str) -> Value {
    match name.split_once('.') {
        Some(("key", _)) => json!({"type": "string", "pattern": "^[0-9A-Za-z]{8,32}$"}),
        Some(("installation", _)) => json!({"const": "installation"}),
        _ => json!({"type": "string", "pattern": UUID}),
    }
}

fn describe(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}
