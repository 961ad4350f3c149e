//! A body that must go on, and come to its end, in time.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

pin_project! {
    /// Fails when nothing comes for too long, or the body's end does not. Both count from when the body was first
    /// waited for: most are there with their heads, and cost no timer.
    pub(super) struct Deadline<B> {
        #[pin]
        body: B,
        #[pin]
        pause: Option<Sleep>,
        #[pin]
        end: Option<Sleep>,
        within: Within,
    }
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    /// From one piece of it to the next.
    pub(super) next: Duration,
    /// As a whole, however steadily it trickles.
    pub(super) whole: Duration,
}

/// The deadline came first.
#[derive(Debug, thiserror::Error)]
enum Late {
    #[error("nothing of the body came within {0:?}")]
    Next(Duration),
    #[error("the body was not there within {0:?}")]
    Whole(Duration),
}

impl<B> Deadline<B> {
    pub(super) const fn new(within: Within, body: B) -> Self {
        Self {
            body,
            pause: None,
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
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            this.pause.set(None);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Within { next, whole } = *this.within;
        for (mut timer, limit, late) in [
            (this.pause, next, Late::Next(next)),
            (this.end, whole, Late::Whole(whole)),
        ] {
            if timer.is_none() {
                timer.set(Some(sleep(limit)));
            }
            if let Some(timer) = timer.as_mut().as_pin_mut()
                && timer.poll(cx).is_ready()
            {
                return Poll::Ready(Some(Err(late.into())));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
