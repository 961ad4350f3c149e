//! The layers around every route, and the server.

pub mod bodies;
mod observe;
mod server;

use axum::Router;
use http::{Method, StatusCode, Uri};

use crate::Problem;

pub use server::{Stopping, serve};

/// Puts around a process's routes what all of them share: a problem for an unknown path (404) or method (405),
/// a caught panic (500), room for large bodies (503 without), the trace, the log line of a failure, and the metrics. Called once, on the merged routes.
pub fn finish(router: Router) -> Router {
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(observe::Observe)
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
