//! A connection that ends in a refusal while the client still sends: closed at once, the system would answer what
//! is still coming with a reset, and the client would lose the refusal before it had read it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What a client sends after a refusal is read, and thrown away, this long at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// And so much of it.
const MOST: usize = 4 * 1024 * 1024;

/// Reads on after a refusal (4xx or 5xx) that was the last answer, until the client has heard it.
pub(super) struct Linger<S> {
    stream: S,
    refused: bool,
    read: usize,
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Linger<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            refused: false,
            read: 0,
            end: None,
        }
    }
}

/// Whether an answer that begins here says no. (hyper writes a head in one piece, from its beginning.)
fn refuses(written: &[u8]) -> Option<bool> {
    let status = written.strip_prefix(b"HTTP/1.1 ")?;
    Some(matches!(status.first(), Some(b'4' | b'5')))
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.refused = refuses(buf).unwrap_or(this.refused);
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.first().and_then(|first| refuses(first));
        this.refused = first.unwrap_or(this.refused);
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if !this.refused {
            return Poll::Ready(Ok(()));
        }
        let end = this.end.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        let mut space = [0; 4096];
        while this.read < MOST {
            let mut part = ReadBuf::new(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut part) {
                Poll::Ready(Ok(())) if !part.filled().is_empty() => this.read += part.filled().len(),
                // The client has closed, in one way or another.
                Poll::Ready(Ok(()) | Err(_)) => break,
                Poll::Pending => {
                    ready!(end.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
