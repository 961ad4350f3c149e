//! The least that a server could do: read the same bodies into typed fields, answer, keep nothing.

use axum::{
    Json, Router,
    extract::Query,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::net::TcpListener;

/// As the body of `POST /api/v1/content`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading the fields is the work that is measured")]
struct Draft {
    site: String,
    kind: String,
    title: String,
    slug: Option<String>,
    body: Option<String>,
    summary: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    featured: bool,
    language: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Serialize)]
struct Drafted {
    id: uuid::Uuid,
    slug: String,
    status: &'static str,
    version: u64,
}

/// As the body of `POST /api/event`.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading the fields is the work that is measured")]
struct Visit {
    name: String,
    url: String,
    domain: String,
    referrer: Option<String>,
    user_agent: Option<String>,
    ip: Option<String>,
    props: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Bytes {
    bytes: usize,
}

/// Serves until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/api/v1/content", post(draft))
        .route("/api/event", post(event))
        .route("/api/v1/visits", post(visits))
        .route("/bytes", get(bytes));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // A failure costs speed only.
        drop(stream.set_nodelay(true));
    });
    Ok(axum::serve(listener, router).await?)
}

async fn draft(Json(draft): Json<Draft>) -> (StatusCode, Json<Drafted>) {
    let slug = draft.slug.unwrap_or(draft.title);
    (
        StatusCode::CREATED,
        Json(Drafted {
            id: uuid::Uuid::now_v7(),
            slug,
            status: "draft",
            version: 1,
        }),
    )
}

async fn event(Json(_visit): Json<Visit>) -> (StatusCode, &'static str) {
    (StatusCode::ACCEPTED, "ok")
}

async fn visits(Json(visits): Json<Vec<Visit>>) -> (StatusCode, Json<Value>) {
    (
        StatusCode::ACCEPTED,
        Json(serde_json::json!({"accepted": visits.len(), "dropped": [], "rejected": []})),
    )
}

async fn bytes(
    Query(Bytes { bytes }): Query<Bytes>,
) -> ([(axum::http::HeaderName, &'static str); 1], Vec<u8>) {
    (
        [(CONTENT_TYPE, "application/json")],
        vec![b'x'; bytes.min(1 << 20)],
    )
}
