//! How much memory the bodies of requests may take together, from their first byte until nobody needs them.
//!
//! Counted by what a head says is to come, before any of it is read. Small ones are bounded by the number of
//! connections already.

use std::sync::{Arc, LazyLock};

use axum::body::{Body, HttpBody as _};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Problem;

/// All together.
const TOTAL_KIB: usize = 256 * 1024;
/// What is no larger is not counted.
const SMALL: u64 = 16 * 1024;
/// No route takes more, and so much is counted where the head does not say how long it will be.
const MOST: u64 = 4 * 1024 * 1024;

static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(TOTAL_KIB)));

/// In a request's extensions when its body is large: whoever keeps what was in it keeps this beside it. The room is
/// free again when the request is answered and the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Held(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// Room for a body; none for a small one.
///
/// # Errors
/// There is no more: 503.
pub(super) fn hold(body: &Body) -> Result<Option<Held>, Problem> {
    hold_in(&ROOM, body.size_hint().upper())
}

fn hold_in(room: &Arc<Semaphore>, length: Option<u64>) -> Result<Option<Held>, Problem> {
    let length = length.unwrap_or(MOST).min(MOST);
    if length <= SMALL {
        return Ok(None);
    }
    let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
    match room.clone().try_acquire_many_owned(kib) {
        Ok(permit) => Ok(Some(Held(Arc::new(permit)))),
        Err(_) => {
            let text = "as many large bodies are on their way here as there is memory for; try again";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_have_room_together() {
        let room = Arc::new(Semaphore::new(5 * 1024));
        assert!(hold_in(&room, Some(SMALL)).unwrap().is_none());
        let whole = hold_in(&room, None).unwrap().unwrap();
        assert_eq!(room.available_permits(), 1024);
        let kept = whole.clone();
        drop(whole);
        let large = hold_in(&room, Some(1024 * 1024)).unwrap().unwrap();
        let refused = hold_in(&room, Some(SMALL + 1)).unwrap_err();
        assert_eq!(refused.status(), 503);
        assert!(hold_in(&room, Some(10)).unwrap().is_none(), "small ones pass");
        drop((kept, large));
        assert_eq!(room.available_permits(), 5 * 1024);
    }
}
