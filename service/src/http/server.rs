//! HTTP/1.1 on a listener, hardened, until asked to stop.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::timeout::TimeoutBody;

use crate::metrics;

/// A request's head must arrive within this; it is also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A body must bring something within this.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head is at most this large (431 beyond it).
const MAX_HEAD: usize = 64 * 1024;
/// At most as many header lines.
const MAX_HEADERS: usize = 100;
/// Requests that are being answered when it is time to stop have this long.
const DRAIN: Duration = Duration::from_secs(20);

/// Serves the routes until `shutdown`, then answers what has begun, for at most 20 s, and returns.
/// Handlers find the peer's address in [`ConnectInfo<SocketAddr>`].
///
/// # Errors
/// None after it began: errors of single connections end those connections.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .pipeline_flush(true);
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
        };
        connection(stream, peer, &router, &builder, &graceful);
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests took too long to answer and were cut off");
    }
    Ok(())
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: &Router,
    builder: &http1::Builder,
    graceful: &GracefulShutdown,
) {
    // Answers are small and whole: waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let router = router.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let request = request.map(|body| {
            if hyper::body::Body::is_end_stream(&body) {
                Body::empty()
            } else {
                Body::new(TimeoutBody::new(BODY_TIMEOUT, body))
            }
        });
        router.clone().call(request)
    });
    let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
    metrics::CONNECTIONS.inc();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "connection ended with an error");
        }
        metrics::CONNECTIONS.dec();
    });
}

/// A connection that broke before it was taken says nothing about the next one; anything else, such as no file
/// descriptors left, passes only with time.
async fn refused(error: &io::Error) {
    let theirs = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !theirs {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
