//! What the API's description says of visits, and of what each command takes.

use serde_json::{Value, json};

fn operation<'a>(api: &'a Value, method: &str, path: &str) -> &'a Value {
    let operation = &api["paths"][path][method];
    assert!(operation.is_object(), "{method} {path}");
    operation
}

fn headers(operation: &Value) -> Vec<&str> {
    let parameters = operation["parameters"].as_array().unwrap();
    let of_header = parameters.iter().filter(|parameter| parameter["in"] == "header");
    of_header
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect()
}

#[test]
fn visits_are_described_as_other_commands_are() {
    let api: Value = serde_json::from_str(&command_api::openapi().to_json().unwrap()).unwrap();
    let event = operation(&api, "post", "/api/event");
    let dropped = &event["responses"]["202"]["headers"];
    assert!(
        dropped["x-plausible-dropped"].is_object() && dropped["x-annals-dropped"].is_object(),
        "{event}"
    );
    for kind in ["application/json", "text/plain"] {
        let schema = &event["requestBody"]["content"][kind]["schema"];
        assert_eq!(
            schema,
            &json!({"$ref": "#/components/schemas/TrackerHit"}),
            "{event}"
        );
    }
    let visits = operation(&api, "post", "/api/v1/visits");
    let content = &visits["requestBody"]["content"];
    let visit = json!({"$ref": "#/components/schemas/Visit"});
    assert_eq!(content["application/json"]["schema"]["items"], visit, "{visits}");
    assert_eq!(content["application/x-ndjson"]["schema"], visit, "{visits}");
    let schemas = &api["components"]["schemas"];
    for (schema, fields) in [
        (
            "Visit",
            [
                "id",
                "name",
                "url",
                "domain",
                "referrer",
                "timestamp",
                "user_agent",
                "ip",
                "props",
                "import",
                "line",
            ]
            .as_slice(),
        ),
        (
            "TrackerHit",
            &[
                "name",
                "url",
                "domain",
                "referrer",
                "props",
                "revenue",
                "interactive",
            ],
        ),
        ("Revenue", &["amount", "currency"]),
    ] {
        for field in fields {
            assert!(
                schemas[schema]["properties"][field].is_object(),
                "{schema} {field}: {}",
                schemas[schema]
            );
        }
    }
    for path in ["/api/v1/visits", "/api/v1/content/{id}/view"] {
        let operation = operation(&api, "post", path);
        for header in ["Idempotency-Key", "Annals-Position"] {
            assert!(headers(operation).contains(&header), "{path} {header}");
        }
        assert!(
            operation["responses"]["202"]["headers"]["Annals-Position"].is_object(),
            "{path}"
        );
    }
    for path in [
        "/api/v1/imports/{id}",
        "/api/v1/tenants/{id}",
        "/api/v1/keys/{keyid}",
    ] {
        let operation = operation(&api, "get", path);
        assert!(
            operation["security"].is_array() && operation["responses"]["default"].is_object(),
            "{path}"
        );
    }
}
