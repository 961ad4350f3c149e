//! One layer for all that is done about a request: its trace, its metrics, the log line when it failed, and the
//! answer when its handler panicked. One, because every boxed layer costs an allocation a request on paths that
//! must stay near a bare handler (`./dev bench`, reads, cached).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
};
use http::{Method, header::ACCESS_CONTROL_ALLOW_ORIGIN};
use pin_project_lite::pin_project;
use prometheus::IntGauge;
use tower::{Layer, Service};
use tracing::Span;

use super::bodies::{self, Held};
use crate::{Problem, TraceContext, metrics};

/// Makes [`Observed`] services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observe;

/// A service whose requests are observed.
#[derive(Debug, Clone)]
pub(crate) struct Observed<S>(S);

pin_project! {
    /// The answer to come, and what is known of its request.
    pub(crate) struct Observing<F> {
        // None when the handler panicked before it began to wait.
        #[pin]
        inner: Option<F>,
        held: Option<Held>,
        told: Told,
        // Made when the answer is not there at once: an answer from memory needs none, and making one costs as
        // much as such an answer. What changes something has one from the beginning.
        span: Option<Span>,
        started: Instant,
        in_flight: InFlight,
    }
}

/// What log lines and metrics say of a request.
struct Told {
    method: &'static str,
    route: Option<MatchedPath>,
    trace: TraceContext,
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

impl<S: Service<Request, Response = Response>> Service<Request> for Observed<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let trace = TraceContext::of(request.headers());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let told = Told {
            method: name(request.method()),
            route,
            trace,
        };
        let span = (!matches!(*request.method(), Method::GET | Method::HEAD)).then(|| told.span());
        request.extensions_mut().insert(trace);
        metrics::IN_FLIGHT.inc();
        let in_flight = InFlight(&metrics::IN_FLIGHT);
        let held = bodies::count(&mut request);
        let inner = catch_unwind(AssertUnwindSafe(|| {
            let _entered = span.as_ref().map(Span::enter);
            self.0.call(request)
        }));
        if let Err(cause) = &inner {
            told.panicked(cause.as_ref());
        }
        let inner = inner.ok();
        Observing {
            inner,
            held,
            told,
            span,
            started,
            in_flight,
        }
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Observing<F> {
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.inner.as_pin_mut() {
            None => Poll::Ready(Ok(unanswered())),
            Some(inner) => {
                let _entered = this.span.as_ref().map(Span::enter);
                catch_unwind(AssertUnwindSafe(|| inner.poll(context))).unwrap_or_else(|cause| {
                    this.told.panicked(cause.as_ref());
                    Poll::Ready(Ok(unanswered()))
                })
            }
        };
        match result {
            Poll::Pending => {
                this.span.get_or_insert_with(|| this.told.span());
                Poll::Pending
            }
            Poll::Ready(mut result) => {
                // Whoever read it saw only that it broke off.
                if let (Some(problem), Ok(response)) =
                    (this.held.as_ref().and_then(Held::refusal), &mut result)
                {
                    let mut refused = problem.into_response();
                    // A page's script may read why.
                    if let Some(origin) = response.headers_mut().remove(ACCESS_CONTROL_ALLOW_ORIGIN) {
                        refused.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                    }
                    *response = refused;
                }
                if let Ok(response) = &result {
                    this.told.answered(this.span.as_ref(), *this.started, response);
                }
                Poll::Ready(result)
            }
        }
    }
}

impl Told {
    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }

    fn span(&self) -> Span {
        tracing::info_span!("request", method = self.method, route = self.route(), trace_id = %self.trace.trace_id())
    }

    fn answered(&self, span: Option<&Span>, started: Instant, response: &Response) {
        let elapsed = started.elapsed();
        let status = response.status();
        metrics::REQUESTS
            .with_label_values(&[self.method, self.route(), status.as_str()])
            .observe(elapsed.as_secs_f64());
        // Not being ready is an answer, given again and again to whoever waits for it.
        if status.is_server_error() && self.route() != "/readyz" {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let tell = || tracing::warn!(status = status.as_u16(), ms, "answered with an error");
            span.map_or_else(|| self.span().in_scope(tell), |span| span.in_scope(tell));
        } else if tracing::enabled!(tracing::Level::DEBUG) {
            let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let tell = || tracing::debug!(status = status.as_u16(), us, "answered");
            span.map_or_else(|| self.span().in_scope(tell), |span| span.in_scope(tell));
        }
    }

    fn panicked(&self, cause: &(dyn Any + Send)) {
        let text = cause.downcast_ref::<&str>().copied();
        let text = text
            .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        self.span()
            .in_scope(|| tracing::error!(panic = text, "a handler panicked"));
    }
}

/// What whoever asked is told when a handler panicked.
fn unanswered() -> Response {
    Problem::internal_logged().into_response()
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
