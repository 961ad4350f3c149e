//! How much memory the bodies of requests may take together, from their first byte until nobody needs them.
//!
//! Counted as they arrive: whoever announces much and sends it slowly takes no room from others. Small ones are bounded
//! by the number of connections already.

use std::{
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use http::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Problem;

/// All together.
const TOTAL_KIB: usize = 256 * 1024;
/// What is no larger is not counted.
const SMALL: u64 = 16 * 1024;
/// Room is taken in pieces of this.
const STEP_KIB: u64 = 64;

static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(TOTAL_KIB)));

/// In a request's extensions when its body may be large: whoever keeps what was in it keeps this beside it. The room is
/// free again when the request is answered and the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Held(Arc<Growing>);

#[derive(Debug)]
struct Growing {
    room: Arc<Semaphore>,
    taken: Mutex<Option<OwnedSemaphorePermit>>,
    refused: AtomicBool,
}

/// There is no room for what comes.
#[derive(Debug, thiserror::Error)]
#[error("{FULL}")]
struct Full;

const FULL: &str = "as many large bodies are on their way here as there is memory for; try again";

/// Counts a request's body from now on, if it is not known to be small.
pub(super) fn count(request: &mut Request) -> Option<Held> {
    count_in(&ROOM, request)
}

fn count_in(room: &Arc<Semaphore>, request: &mut Request) -> Option<Held> {
    if request
        .body()
        .size_hint()
        .upper()
        .is_some_and(|length| length <= SMALL)
    {
        return None;
    }
    let held = Held(Arc::new(Growing {
        room: room.clone(),
        taken: Mutex::new(None),
        refused: AtomicBool::new(false),
    }));
    request.extensions_mut().insert(held.clone());
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Counted {
        body,
        arrived: 0,
        held: held.clone(),
    });
    Some(held)
}

impl Held {
    /// What to answer, when there was no room for the rest of the body: 503.
    pub(super) fn refusal(&self) -> Option<Problem> {
        let refused = self.0.refused.load(Ordering::Relaxed);
        refused.then(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", FULL).retry_after(1))
    }

    /// Takes room for so many bytes in all.
    fn cover(&self, bytes: u64) -> Result<(), Full> {
        if bytes <= SMALL {
            return Ok(());
        }
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let has = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let needs = bytes.div_ceil(1024).next_multiple_of(STEP_KIB);
        if needs <= has {
            return Ok(());
        }
        let more = u32::try_from(needs - has).unwrap_or(u32::MAX);
        let Ok(more) = self.0.room.clone().try_acquire_many_owned(more) else {
            self.0.refused.store(true, Ordering::Relaxed);
            return Err(Full);
        };
        match &mut *taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        Ok(())
    }
}

struct Counted {
    body: Body,
    arrived: u64,
    held: Held,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.arrived += bytes.len() as u64;
            if let Err(full) = self.held.cover(self.arrived) {
                return Poll::Ready(Some(Err(axum::Error::new(full))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Comes piece by piece, of no announced length.
    struct Pieces(VecDeque<usize>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|length| Ok(Frame::data(vec![0; length].into()))))
        }
    }

    fn request<const N: usize>(pieces: [usize; N]) -> Request {
        Request::new(Body::new(Pieces(pieces.into())))
    }

    async fn read(request: Request) -> Result<usize, axum::Error> {
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        bytes.map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn large_bodies_have_room_together_as_they_arrive() {
        const KIB: usize = 1024;
        let room = Arc::new(Semaphore::new(256));
        let mut small = Request::new(Body::from(vec![0; 16 * KIB]));
        assert!(count_in(&room, &mut small).is_none(), "small ones pass");

        // Of whatever was announced nothing counts before it is there.
        let mut large = request([100 * KIB, 50 * KIB]);
        let held = count_in(&room, &mut large).unwrap();
        assert_eq!(room.available_permits(), 256);
        assert_eq!(read(large).await.unwrap(), 150 * KIB);
        assert_eq!(room.available_permits(), 256 - 192);
        let kept = held.clone();
        drop(held);

        let mut other = request([60 * KIB, 60 * KIB]);
        let held = count_in(&room, &mut other).unwrap();
        assert!(held.refusal().is_none());
        read(other).await.unwrap_err();
        assert_eq!(held.refusal().unwrap().status(), 503);
        drop((kept, held));
        assert_eq!(room.available_permits(), 256);
    }
}
