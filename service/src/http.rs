//! The layers around every route, and the server.

mod observe;
mod server;

use std::any::Any;

use axum::{
    Router,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, Uri};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::Problem;

pub use server::serve;

/// Puts around a process's routes what all of them share: a problem for an unknown path (404) or method (405),
/// a caught panic (500), the trace, the log line of a failure, and the metrics. Called once, on the merged routes.
pub fn finish(router: Router) -> Router {
    let layers = ServiceBuilder::new()
        .layer(observe::Observe)
        .layer(CatchPanicLayer::custom(panicked));
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
}

async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::not_found(format!("there is nothing at {path}"))
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{method} is not possible here; see the Allow header"),
    )
}

fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| cause.downcast_ref::<String>().map(String::as_str));
    let error = std::io::Error::other(format!("panicked: {}", text.unwrap_or("no message")));
    Problem::internal(&error).into_response()
}
