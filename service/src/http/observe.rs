//! One layer for all that is told about a request: its trace, its metrics, the log line when it failed.
//! One, because every boxed layer costs an allocation a request on paths that must stay near a bare handler.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::Method;
use prometheus::IntGauge;
use tower::{Layer, Service};
use tracing::{Instrument, instrument::Instrumented};

use crate::{TraceContext, metrics};

/// Makes [`Observed`] services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observe;

/// A service whose requests are told about.
#[derive(Debug, Clone)]
pub(crate) struct Observed<S>(S);

/// The answer to come, and what is known of its request.
pub(crate) struct Observing<F> {
    inner: Pin<Box<Instrumented<F>>>,
    method: &'static str,
    route: Option<MatchedPath>,
    started: Instant,
    _in_flight: InFlight,
}

struct InFlight(&'static IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed(inner)
    }
}

impl<S: Service<Request, Response = Response<B>>, B> Service<Request> for Observed<S> {
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let trace = TraceContext::of(request.headers());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = name(request.method());
        let span = tracing::info_span!(
            "request",
            method,
            route = route.as_ref().map_or("none", MatchedPath::as_str),
            trace_id = %trace.trace_id(),
        );
        request.extensions_mut().insert(trace);
        metrics::IN_FLIGHT.inc();
        let inner = Box::pin(self.0.call(request).instrument(span));
        Observing {
            inner,
            method,
            route,
            started,
            _in_flight: InFlight(&metrics::IN_FLIGHT),
        }
    }
}

impl<F: Future<Output = Result<Response<B>, E>>, B, E> Future for Observing<F> {
    type Output = Result<Response<B>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = std::task::ready!(self.inner.as_mut().poll(context));
        let elapsed = self.started.elapsed();
        if let Ok(response) = &result {
            let status = response.status();
            let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
            metrics::REQUESTS
                .with_label_values(&[self.method, route, status.as_str()])
                .observe(elapsed.as_secs_f64());
            let _span = self.inner.span().enter();
            if status.is_server_error() {
                tracing::warn!(
                    status = status.as_u16(),
                    ms = elapsed.as_millis() as u64,
                    "answered with an error"
                );
            } else {
                tracing::debug!(
                    status = status.as_u16(),
                    us = elapsed.as_micros() as u64,
                    "answered"
                );
            }
        }
        Poll::Ready(result)
    }
}

/// Methods that clients made up do not become labels.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
