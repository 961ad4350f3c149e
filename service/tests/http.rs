//! The layers and the server, over a real socket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use serde::Deserialize;
use service::{Health, Json, Problem, TraceContext};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    title: String,
}

async fn explode() -> &'static str {
    panic!("the inside of the process")
}

async fn start() -> (
    String,
    CancellationToken,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let echo = post(async |Json(piece): Json<Piece>| piece.title).layer(DefaultBodyLimit::max(64));
    let shutdown = CancellationToken::new();
    let ends = shutdown.clone();
    let router = Router::new()
        .route("/echo", echo)
        .route("/things/{id}", get(async |trace: TraceContext| trace.to_string()))
        .route("/slow", get(move || ends.clone().cancelled_owned()))
        .route("/panic", get(explode))
        .route("/busy", post(async || http::StatusCode::SERVICE_UNAVAILABLE))
        .route(
            "/fail",
            get(async || Problem::internal(&std::io::Error::other("secret of db-7"))),
        )
        .merge(Health::new().routes());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(service::serve(
        listener,
        service::finish(router),
        shutdown.clone(),
    ));
    (url, shutdown, server)
}

async fn problem(response: reqwest::Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    (
        status,
        body["type"].as_str().unwrap().to_owned(),
        body["detail"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let (url, _shutdown, _server) = start().await;
    let client = reqwest::Client::new();
    let cases = [
        (client.get(format!("{url}/nowhere")), 404, "/problems/not-found"),
        (
            client.delete(format!("{url}/echo")),
            405,
            "/problems/method-not-allowed",
        ),
        (client.get(format!("{url}/panic")), 500, "/problems/internal"),
        (client.get(format!("{url}/fail")), 500, "/problems/internal"),
        (
            client.post(format!("{url}/echo")).body("x"),
            415,
            "/problems/unsupported-media-type",
        ),
        (
            client.post(format!("{url}/echo")).json(&"x".repeat(100)),
            413,
            "/problems/too-large",
        ),
        (
            client
                .post(format!("{url}/echo"))
                .json(&serde_json::json!({"a": 1})),
            422,
            "/problems/invalid",
        ),
    ];
    for (request, status, kind) in cases {
        let (got, got_kind, detail) = problem(request.send().await.unwrap()).await;
        assert_eq!((got, got_kind.as_str()), (status, kind));
        assert!(
            !detail.contains("secret") && !detail.contains("inside"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_trace_goes_on_and_requests_are_counted_by_route() {
    let (url, _shutdown, _server) = start().await;
    let client = reqwest::Client::new();
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = client.get(format!("{url}/things/7")).header("traceparent", given);
    let inside = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(inside[..36], given[..36]);
    assert_ne!(inside, given);
    let metrics = client
        .get(format!("{url}/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let counted =
        r#"annals_http_request_duration_seconds_count{method="GET",route="/things/{id}",status="200"}"#;
    assert!(metrics.contains(counted), "{metrics}");
    let ready = client.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test]
async fn what_has_begun_is_answered_before_the_end() {
    let (url, shutdown, server) = start().await;
    let request = tokio::spawn(reqwest::get(format!("{url}/slow")));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let metrics = reqwest::get(format!("{url}/metrics"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        // The request for metrics is one of them.
        if metrics.contains("annals_http_requests_in_flight 2") || request.is_finished() {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited for the slow request to begin"
        );
    }
    shutdown.cancel();
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(Duration::from_secs(5), server)
        .await
        .expect("the server ends")
        .unwrap()
        .unwrap();
    assert!(reqwest::get(format!("{url}/slow")).await.is_err());
}

/// What is answered to a head that is sent bit by bit, as far as it can be sent.
async fn answer_to(head: &str, url: &str) -> String {
    let address = url.trim_start_matches("http://");
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    for part in head.as_bytes().chunks(8 * 1024) {
        // Between the parts the server has the time to refuse, and to close.
        tokio::time::timeout(Duration::from_millis(20), read.readable())
            .await
            .ok();
        if write.write_all(part).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), read.read_to_end(&mut answer))
        .await
        .expect("an end of the answer")
        .expect("an answer and no reset");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whoever is told to come again later must hear it.
#[tokio::test]
async fn a_body_that_nobody_reads_is_answered_before_the_connection_ends() {
    let (url, _shutdown, _server) = start().await;
    for path in ["/busy", "/nowhere"] {
        let body = "x".repeat(1_000_000);
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = answer_to(&request, &url).await;
        let status = if path == "/busy" { "503" } else { "404" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer:.100}"
        );
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_before_the_connection_ends() {
    let (url, _shutdown, _server) = start().await;
    let header = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(300_000));
    let answer = answer_to(&header, &url).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:.100}");
    for length in [65_600, 66_000, 300_000] {
        let path = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(length));
        let answer = answer_to(&path, &url).await;
        assert!(
            answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
            "{length}: {answer:.100}"
        );
    }
    let path = format!(
        "GET /{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "x".repeat(60_000)
    );
    let answer = answer_to(&path, &url).await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.len() < 2_000,
        "{answer:.100}"
    );
}
