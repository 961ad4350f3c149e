//! Work with the client library in a thread of its own, watched from outside.
//!
//! Much of what the library does for its caller it asks a thread of its own to do, and waits for the answer without an
//! end: assigning, subscribing, telling a position, letting a client go. Under load that takes long, and when two of
//! the library's locks are taken in either order (librdkafka's issues 5476 and 5490, in what follows the loss of a
//! broker) it takes for ever. On a thread of the runtime, such a call holds up whatever else was to be done there: as
//! many of them as there are processors, and the process answers nobody. So nothing of that happens there. Whoever
//! waits for such a thread sees whether it still moves, and goes on with another one if it does not; the one that
//! hangs is left behind.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

/// A thread that has not moved for so long hangs: longer than anything that the library was told to wait for.
pub(super) const HANGS: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile. More than once, so that a process that was stopped as a whole does not take its
/// threads for hanging when it goes on.
const LOOKS: u32 = 3;

/// What comes from a thread. Dropped, it tells the thread to end.
pub(super) struct Apart<T> {
    given: mpsc::Receiver<T>,
    beats: Arc<AtomicU64>,
    patience: Duration,
    /// As it was at the last look; kept, as the next look is, because who waits may wait anew all the time.
    seen: u64,
    still: u32,
    look: Instant,
}

/// The thread's side.
pub(super) struct Inside<T> {
    giving: mpsc::Sender<T>,
    beats: Arc<AtomicU64>,
}

/// What is heard of a thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<T> {
    Given(T),
    /// It has ended.
    Ended,
    /// It does not move.
    Hangs,
}

impl<T: Send + 'static> Apart<T> {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(
        name: &str,
        patience: Duration,
        work: impl FnOnce(&Inside<T>) + Send + 'static,
    ) -> io::Result<Self> {
        // One is waited with: what is read ahead is bounded.
        let (giving, given) = mpsc::channel(1);
        let beats = Arc::new(AtomicU64::new(0));
        let inside = Inside {
            giving,
            beats: beats.clone(),
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&inside))?;
        Ok(Self {
            given,
            beats,
            patience,
            seen: 0,
            still: 0,
            look: Instant::now() + patience / LOOKS,
        })
    }

    /// Waits for the next thing. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Heard<T> {
        loop {
            tokio::select! {
                biased;
                given = self.given.recv() => return given.map_or(Heard::Ended, Heard::Given),
                () = tokio::time::sleep_until(self.look) => {
                    self.look = Instant::now() + self.patience / LOOKS;
                    let beats = self.beats.load(Ordering::Relaxed);
                    self.still = if beats == self.seen { self.still + 1 } else { 0 };
                    self.seen = beats;
                    if self.still >= LOOKS {
                        return Heard::Hangs;
                    }
                }
            }
        }
    }
}

impl<T> Inside<T> {
    /// Says that it moves, which it is to do again and again. False, when nobody waits any more.
    pub(super) fn goes_on(&self) -> bool {
        self.beats.fetch_add(1, Ordering::Relaxed);
        !self.giving.is_closed()
    }

    /// Gives something, when what was given before is taken. False, when nobody waits any more.
    pub(super) fn give(&self, what: T) -> bool {
        self.giving.blocking_send(what).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as threads;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(90);
    const LONG: Duration = Duration::from_secs(30);

    async fn next<T: Send + 'static>(apart: &mut Apart<T>) -> Heard<T> {
        tokio::time::timeout(LONG, apart.next())
            .await
            .expect("something is heard within half a minute")
    }

    #[tokio::test]
    async fn what_a_thread_gives_arrives_in_order_and_its_end_is_heard() {
        let work = |inside: &Inside<u32>| {
            for number in 0..3 {
                inside.give(number);
            }
        };
        let mut apart = Apart::start("gives", LONG, work).unwrap();
        for number in 0..3 {
            assert_eq!(next(&mut apart).await, Heard::Given(number));
        }
        assert_eq!(next(&mut apart).await, Heard::Ended);
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_noticed_by_one_who_waits_anew_all_the_time() {
        let (let_go, held) = threads::sync_channel::<()>(1);
        let mut apart = Apart::start("hangs", PATIENCE, move |_: &Inside<()>| {
            let _ = held.recv();
        })
        .unwrap();
        let hangs = async {
            loop {
                let heard = tokio::time::timeout(Duration::from_millis(1), apart.next()).await;
                if let Ok(heard) = heard {
                    return heard;
                }
            }
        };
        let heard = tokio::time::timeout(LONG, hangs).await;
        assert_eq!(heard.expect("noticed within half a minute"), Heard::Hangs);
        drop(let_go);
    }

    #[tokio::test]
    async fn a_thread_that_moves_is_waited_for() {
        // Long enough that even a busy machine lets the thread move in between.
        let patience = PATIENCE * 10;
        let mut apart = Apart::start("moves", patience, move |inside: &Inside<()>| {
            let began = std::time::Instant::now();
            while began.elapsed() < patience * 2 && inside.goes_on() {
                std::thread::yield_now();
            }
        })
        .unwrap();
        assert_eq!(next(&mut apart).await, Heard::Ended);
    }

    #[tokio::test]
    async fn a_thread_hears_that_nobody_waits_any_more() {
        let (ended, end) = threads::sync_channel(1);
        let apart = Apart::start("ends", LONG, move |inside: &Inside<()>| {
            // The first waits in the channel, the second for its place.
            inside.give(());
            let taken = inside.give(());
            ended.send((taken, inside.goes_on())).unwrap();
        })
        .unwrap();
        drop(apart);
        let ended = tokio::task::spawn_blocking(move || end.recv_timeout(LONG));
        assert_eq!(ended.await.unwrap(), Ok((false, false)));
    }
}
