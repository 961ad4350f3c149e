//! A body that must be there as a whole by some time.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

pin_project! {
    /// Fails when the deadline comes before the body's end. It counts from the first look at the body.
    pub(super) struct Deadline<B> {
        #[pin]
        body: B,
        #[pin]
        end: Option<Sleep>,
        within: Duration,
    }
}

/// The deadline came first.
#[derive(Debug, thiserror::Error)]
#[error("the body was not there within {0:?}")]
struct Late(Duration);

impl<B> Deadline<B> {
    pub(super) const fn new(within: Duration, body: B) -> Self {
        Self {
            body,
            end: None,
            within,
        }
    }
}

impl<B> Body for Deadline<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if this.end.is_none() {
            this.end.set(Some(tokio::time::sleep(*this.within)));
        }
        if let Some(end) = this.end.as_pin_mut()
            && end.poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Late(*this.within).into())));
        }
        this.body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
