//! Pages of other origins may read what is public.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Lets a page of any origin read this answer, errors too. A key is sent in `Authorization`, which no browser
/// adds by itself, so an open answer gives nobody more than they could fetch themselves.
pub(crate) fn open(result: Result<Response, crate::error::Error>) -> Response {
    let mut response = result.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("annals-position, etag, location"),
    );
    response
}

/// The answer to a browser that asks before it sends headers of its own.
pub(crate) async fn preflight() -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, annals-position, prefer, if-none-match, traceparent"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    (StatusCode::NO_CONTENT, headers)
}
