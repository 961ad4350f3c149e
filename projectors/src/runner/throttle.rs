//! A bound on what a generation may cost while others serve: so many events a second, over all its partitions.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// A bound that can be changed while it holds. Cheap to clone; all clones are the same. Without a bound by default.
#[derive(Debug, Clone, Default)]
pub struct Throttle(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Events a second; 0 for no bound.
    rate: AtomicU32,
    /// When what was done so far would have been done at that rate.
    next: Mutex<Option<Instant>>,
    /// Wakes who waits by a bound that no longer holds.
    changed: Notify,
}

impl Throttle {
    /// So many events a second from now on; 0 for no bound. Whoever waits by another bound goes on at once.
    pub fn bound(&self, rate: u32) {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.rate.swap(rate, Ordering::Relaxed) != rate {
            *next = None;
            self.0.changed.notify_waiters();
        }
    }

    /// Whether there is a bound.
    pub fn is_bound(&self) -> bool {
        self.0.rate.load(Ordering::Relaxed) != 0
    }

    /// How many events should be written at once: what may be done within such a time.
    pub fn most(&self, within: Duration) -> usize {
        match self.0.rate.load(Ordering::Relaxed) {
            0 => usize::MAX,
            rate => {
                let most = u128::from(rate) * within.as_millis() / 1_000;
                usize::try_from(most).unwrap_or(usize::MAX).max(1)
            }
        }
    }

    /// Waits until so many more events may have been written. Cancelling it is no harm.
    pub async fn spent(&self, events: usize) {
        let changed = self.0.changed.notified();
        if let Some(until) = self.due(events, Instant::now()) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = changed => {}
            }
        }
    }

    /// When so many more events will have been due.
    fn due(&self, events: usize, now: Instant) -> Option<Instant> {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = self.0.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let takes = Duration::from_secs(events as u64) / rate;
        let until = next.map_or(now, |next| next.max(now)) + takes;
        *next = Some(until);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_events_a_second_over_all_partitions() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let other = throttle.clone();
        assert_eq!(throttle.due(1_000_000, now), None, "no bound");
        throttle.bound(100);
        let second = Duration::from_secs(1);
        assert_eq!((throttle.most(second), throttle.most(second / 20)), (100, 5));
        assert_eq!(throttle.most(Duration::ZERO), 1);
        assert_eq!(throttle.due(100, now), Some(now + second));
        assert_eq!(other.due(300, now), Some(now + 4 * second));
        // What was not used is not saved up.
        assert_eq!(throttle.due(100, now + 9 * second), Some(now + 10 * second));
    }

    #[tokio::test]
    async fn another_bound_holds_at_once() {
        let throttle = Throttle::default();
        throttle.bound(1);
        let waiting = throttle.spent(1_000_000);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        throttle.bound(1);
        assert!(futures::poll!(&mut waiting).is_pending(), "it is the same");
        throttle.bound(1_000_000);
        assert!(futures::poll!(&mut waiting).is_ready());
        throttle.spent(1).await;
    }
}
