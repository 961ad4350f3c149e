//! What describes the API, and what every path shares.

use reqwest::Method;

use crate::stage::Stage;

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    let stage = Stage::start().await;
    let document = stage.get("/openapi/query.json", None).await.ok();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
    for path in [
        "/api/v1/sites",
        "/api/v1/content",
        "/api/v1/content/{id}",
        "/api/v1/content/{id}/history",
        "/api/v1/sites/{domain}/content/{kind}/{slug}",
        "/api/v1/downloads",
        "/api/v1/downloads/queue",
        "/api/v1/downloads/{id}",
        "/api/v1/stats/query",
        "/api/v2/query",
        "/api/v1/stats/realtime",
        "/api/v1/reports/content",
        "/api/v1/projections",
    ] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    for name in ["Problem", "FieldError", "Piece", "Download"] {
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is not described"
        );
    }
    assert!(document["components"]["securitySchemes"]["key"].is_object());
    let page = stage.get("/docs/", None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger"), "{}", page.text);
    stage.end().await;
}

#[tokio::test]
async fn other_methods_and_paths_are_problems_and_browsers_may_ask_first() {
    let stage = Stage::start().await;
    stage
        .send(stage.request(Method::DELETE, "/api/v1/sites"))
        .await
        .problem(405, "method-not-allowed");
    stage.get("/api/v1/nothing", None).await.problem(404, "not-found");
    let asked = stage
        .send(stage.request(Method::OPTIONS, "/api/v1/content"))
        .await;
    assert_eq!(
        (asked.status.as_u16(), asked.header("access-control-allow-origin")),
        (204, "*")
    );
    let missing = stage.get("/api/v1/content", None).await;
    missing.problem(422, "invalid");
    assert_eq!(missing.header("access-control-allow-origin"), "*");
    stage
        .until("it is ready", async |stage| {
            stage.get("/readyz", None).await.status == 200
        })
        .await;
    let ready = stage.get("/readyz", None).await.ok();
    assert_eq!(
        ready["degraded"],
        serde_json::json!(["tables"]),
        "visits have no generation here: {ready}"
    );
    assert!(
        stage
            .get("/metrics", None)
            .await
            .text
            .contains("annals_http_request_duration_seconds")
    );
    stage.end().await;
}
