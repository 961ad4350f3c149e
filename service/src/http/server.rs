//! HTTP/1.1 on a listener, hardened, until asked to stop.

mod deadline;
mod linger;
mod shares;
mod taken;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::{
    deadline::{Deadline, Within},
    linger::Linger,
    shares::{Share, Shares},
    taken::Taken,
};
use crate::metrics;

/// A request's head must arrive within this; it is also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A body must bring something within this.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A body must be there as a whole within this, however steadily it trickles.
const WHOLE_BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// Something of an answer must be taken within this, else its connection is closed, and whatever it was read from is let
/// go (as nginx's `send_timeout` has it).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// So many connections are served at a time; the next ones wait with the system until one ends. Each may hold a head
/// of [`MAX_HEAD`], so this bounds memory, and it leaves descriptors for files and engines.
const MAX_CONNECTIONS: usize = 4_096;
/// Of these one stranger has at most so many; what is more is closed.
const MOST_OF_ONE: usize = 256;
/// A request's head is at most this large (431 beyond it; 414 when the address alone is as long).
const MAX_HEAD: usize = 64 * 1024;
/// At most as many header lines.
const MAX_HEADERS: usize = 100;
/// Requests that are being answered when it is time to stop have this long.
const DRAIN: Duration = Duration::from_secs(20);

/// In a request's extensions: cancelled when it is time to stop. An answer that would go on for ever ends then.
/// Shared, because a token is cloned under a lock, and every request has one.
#[derive(Debug, Clone, Default)]
pub struct Stopping(pub Arc<CancellationToken>);

/// Serves the routes until `shutdown`, then answers what has begun, for at most 20 s, and returns.
/// Handlers find the peer's address in [`ConnectInfo<SocketAddr>`], and `shutdown` in [`Stopping`].
///
/// # Errors
/// None after it began: errors of single connections end those connections.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let limits = Limits {
        connections: MAX_CONNECTIONS,
        body: Within {
            next: BODY_TIMEOUT,
            whole: WHOLE_BODY_TIMEOUT,
        },
        answer: ANSWER_TIMEOUT,
    };
    serve_within(limits, listener, router, shutdown).await
}

/// What tests need smaller.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    body: Within,
    answer: Duration,
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let stopping = Stopping(Arc::new(shutdown.clone()));
    let room = Arc::new(Semaphore::new(limits.connections));
    let shares = Shares::default();
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        // No flush is put off for what is pipelined: hyper would never send its refusal of a head, the rest of which
        // it has not read.
        .max_buf_size(MAX_HEAD);
    loop {
        let accepting = async {
            // Never closed, so there is always a permit some day.
            let permit = Arc::clone(&room)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            Ok((permit, stream, peer))
        };
        let (permit, stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepting => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
        };
        let Some(share) = shares.take(peer.ip(), MOST_OF_ONE) else {
            tracing::debug!(%peer, "one connection too many of this address");
            continue;
        };
        connection(
            (stream, permit, share),
            (peer, stopping.clone()),
            &router,
            &builder,
            &graceful,
            limits,
        );
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests took too long to answer and were cut off");
    }
    Ok(())
}

fn connection(
    (stream, permit, share): (TcpStream, OwnedSemaphorePermit, Share),
    (peer, stopping): (SocketAddr, Stopping),
    router: &Router,
    builder: &http1::Builder,
    graceful: &GracefulShutdown,
    limits: Limits,
) {
    // Answers are small and whole: waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let router = router.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(stopping.clone());
        let request = request.map(|body| {
            if hyper::body::Body::is_end_stream(&body) {
                Body::empty()
            } else {
                Body::new(Deadline::new(limits.body, body))
            }
        });
        router.clone().call(request)
    });
    let stream = Linger::new(Taken::new(limits.answer, stream));
    let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
    metrics::CONNECTIONS.inc();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "connection ended with an error");
        }
        metrics::CONNECTIONS.dec();
        drop((permit, share));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        body::Bytes,
        routing::{get, post},
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn start(limits: Limits, router: Router) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_within(limits, listener, router, shutdown.clone()));
        (address, shutdown)
    }

    /// Sends a request on a connection that stays open, and reads its answer of one word.
    async fn ask(stream: &mut TcpStream) {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"served") {
            let read = tokio::time::timeout(LONG, stream.read(&mut part))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..read]);
        }
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_until_another_ends() {
        let served = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&served);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { "served" }
        };
        let limits = Limits {
            connections: 1,
            body: Within {
                next: LONG,
                whole: LONG,
            },
            answer: LONG,
        };
        let (address, shutdown) = start(limits, Router::new().route("/", get(count))).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        ask(&mut first).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let waiting = tokio::spawn(async move { ask(&mut second).await });
        for _ in 0..50 {
            ask(&mut first).await;
        }
        assert_eq!(
            served.load(Ordering::Relaxed),
            51,
            "the second connection was served beside the first"
        );
        drop(first);
        waiting.await.unwrap();
        shutdown.cancel();
    }

    /// What a handler says of a body of which one byte comes now and then; or never, when `every` is long.
    async fn trickle(body: Within, every: Duration) {
        let limits = Limits {
            connections: 1,
            body,
            answer: LONG,
        };
        let route = post(async |body: Result<Bytes, _>| if body.is_ok() { "whole" } else { "given up" });
        let (address, shutdown) = start(limits, Router::new().route("/", route)).await;
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        write
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
            .await
            .unwrap();
        let trickling = tokio::spawn(async move {
            let mut drops = tokio::time::interval(every);
            loop {
                drops.tick().await;
                if write.write_all(b"x").await.is_err() {
                    return;
                }
            }
        });
        let (mut answer, mut part) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"given up") {
            let some = tokio::time::timeout(LONG, read.read(&mut part))
                .await
                .expect("an end of the wait")
                .unwrap();
            assert_ne!(some, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..some]);
        }
        trickling.abort();
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_not_waited_for_without_an_end() {
        let whole = Duration::from_millis(300);
        trickle(Within { next: LONG, whole }, Duration::from_millis(20)).await;
    }

    #[tokio::test]
    async fn a_body_that_stops_is_not_waited_for() {
        let next = Duration::from_millis(300);
        trickle(
            Within {
                next,
                whole: LONG * 2,
            },
            LONG * 2,
        )
        .await;
    }

    /// What nobody takes is given up: then the only place is free, though the connection is still open on this side.
    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_given_up() {
        // More than the system keeps for a connection.
        let large = get(async || vec![b'x'; 64 << 20]);
        let limits = Limits {
            connections: 1,
            body: Within {
                next: LONG,
                whole: LONG,
            },
            answer: Duration::from_millis(300),
        };
        let routes = Router::new()
            .route("/large", large)
            .route("/", get(async || "served"));
        let (address, shutdown) = start(limits, routes).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first
            .write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        first.readable().await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        ask(&mut second).await;
        drop(first);
        shutdown.cancel();
    }
}
