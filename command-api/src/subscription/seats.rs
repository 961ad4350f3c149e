//! How many may listen, and how many may read the log at a time: all together, and of one tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use events::TenantId;
use http::StatusCode;
use service::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{error::Error, metrics::TURNED_AWAY};

/// Feeds of all tenants: a quarter of the connections that a process serves.
const FEEDS: usize = 1024;
/// Feeds of one tenant.
pub(super) const FEEDS_OF_ONE: usize = 64;
/// Feeds that read the log, of all tenants.
const READING: usize = 8;
/// Feeds of one tenant that read the log.
const READING_OF_ONE: usize = 2;
/// How long one waits for a turn to read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who sits where.
pub(super) struct Seats {
    tenants: Arc<Mutex<HashMap<TenantId, Tenant>>>,
    free: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

struct Tenant {
    feeds: usize,
    reading: Arc<Semaphore>,
}

/// The right to a feed.
pub(super) struct Seat {
    tenant: TenantId,
    tenants: Arc<Mutex<HashMap<TenantId, Tenant>>>,
    reading: [Arc<Semaphore>; 2],
    _free: OwnedSemaphorePermit,
}

/// The right to read the log for a while.
pub(super) struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            tenants: Arc::default(),
            free: Arc::new(Semaphore::new(FEEDS)),
            reading: Arc::new(Semaphore::new(READING)),
        }
    }
}

impl Seats {
    /// A seat for a feed of this tenant.
    ///
    /// # Errors
    /// 429: the tenant has too many; 503: all have.
    pub(super) fn take(&self, tenant: TenantId) -> Result<Seat, Error> {
        let turned_away = || TURNED_AWAY.with_label_values(&["events"]).inc();
        let Ok(free) = self.free.clone().try_acquire_owned() else {
            turned_away();
            return Err(Error::Busy);
        };
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = tenants.entry(tenant).or_insert_with(|| Tenant {
            feeds: 0,
            reading: Arc::new(Semaphore::new(READING_OF_ONE)),
        });
        if entry.feeds >= FEEDS_OF_ONE {
            turned_away();
            let detail = format!(
                "this tenant listens to its events {FEEDS_OF_ONE} times already; end one of these first"
            );
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-subscriptions", detail);
            return Err(Error::Problem(problem.retry_after(5)));
        }
        entry.feeds += 1;
        Ok(Seat {
            tenant,
            reading: [entry.reading.clone(), self.reading.clone()],
            tenants: self.tenants.clone(),
            _free: free,
        })
    }
}

impl Seat {
    /// Waits for a turn to read the log: first among the tenant's own feeds, then among all.
    pub(super) async fn turn(&self) -> Result<Turn, Error> {
        let [own, all] = self.reading.clone();
        let both = async {
            Ok::<_, tokio::sync::AcquireError>([own.acquire_owned().await?, all.acquire_owned().await?])
        };
        match tokio::time::timeout(PATIENCE, both).await {
            Ok(Ok(_permits)) => Ok(Turn { _permits }),
            Ok(Err(_)) | Err(_) => {
                TURNED_AWAY.with_label_values(&["events"]).inc();
                Err(Error::Busy)
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get_mut(&self.tenant) {
            tenant.feeds -= 1;
            if tenant.feeds == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_tenant_has_so_many_feeds_and_reads_so_many_times_and_others_are_not_in_its_way() {
        let seats = Seats::default();
        let [one, other] = [1, 2].map(|id| TenantId::new(Uuid::from_u128(id)));
        let mut taken: Vec<_> = (0..FEEDS_OF_ONE).map(|_| seats.take(one).unwrap()).collect();
        let Err(Error::Problem(problem)) = seats.take(one) else {
            panic!("one too many")
        };
        assert_eq!(problem.status(), 429);
        let theirs = seats.take(other).unwrap();
        let turns = [taken[0].turn().await.unwrap(), taken[1].turn().await.unwrap()];
        assert!(taken[2].turn().now_or_never().is_none(), "it waits");
        theirs.turn().await.unwrap();
        drop(turns);
        taken[2].turn().await.unwrap();
        taken.pop();
        seats.take(one).unwrap();
        drop((taken, theirs));
        assert!(seats.tenants.lock().unwrap().is_empty());
    }
}
