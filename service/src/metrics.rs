//! The metrics of HTTP, and `/metrics` over prometheus' default registry, where every crate registers its own.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::header;
use prometheus::{Encoder, HistogramVec, IntGauge, TextEncoder, register_histogram_vec, register_int_gauge};

use crate::Problem;

/// Seconds from a request's head to its answer's head, by method, route (its pattern, never its path) and status.
/// Its `_count` counts requests.
pub(crate) static REQUESTS: LazyLock<HistogramVec> = LazyLock::new(|| {
    registered(register_histogram_vec!(
        "annals_http_request_duration_seconds",
        "Seconds from a request's head to the head of its answer",
        &["method", "route", "status"],
        vec![
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0
        ]
    ))
});

/// Requests that are being answered now.
pub(crate) static IN_FLIGHT: LazyLock<IntGauge> = LazyLock::new(|| {
    registered(register_int_gauge!(
        "annals_http_requests_in_flight",
        "Requests that are being answered now"
    ))
});

/// Open connections.
pub(crate) static CONNECTIONS: LazyLock<IntGauge> =
    LazyLock::new(|| registered(register_int_gauge!("annals_http_connections", "Open connections")));

/// Registration fails only when a name is taken twice or malformed, which no input can bring about.
fn registered<T>(result: prometheus::Result<T>) -> T {
    result.expect("metric names are written out and unique")
}

/// Everything in the default registry, in Prometheus' text format.
pub async fn text() -> Result<impl IntoResponse, Problem> {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    encoder
        .encode(&prometheus::gather(), &mut body)
        .map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], body))
}
