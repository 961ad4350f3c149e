//! Turns to ask what costs a store much: so many at a time, of which one tenant has no more than its share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use service::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::error::Error;

/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who waits, and for what.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// So many for a tenant.
    share: usize,
    /// Of tenants that ask or wait.
    tenants: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    of: Arc<Turns>,
    tenant: Uuid,
    places: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Turns {
    /// So many at a time, and so many for each.
    pub(crate) fn new(all: usize, share: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(all)),
            share,
            tenants: Mutex::default(),
        })
    }

    /// A turn for a tenant; its own questions wait for each other before they wait for those of others.
    ///
    /// # Errors
    /// Others take too long: 503.
    pub(crate) async fn take(self: &Arc<Self>, tenant: Uuid) -> Result<Turn, Error> {
        let own = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            let share = || Arc::new(Semaphore::new(self.share));
            tenants.entry(tenant).or_insert_with(share).clone()
        };
        // From here on: whoever waits in vain is forgotten as well.
        let mut turn = Turn {
            of: self.clone(),
            tenant,
            places: None,
        };
        let taking = async {
            let own = own.acquire_owned().await.ok()?;
            Some((own, self.all.clone().acquire_owned().await.ok()?))
        };
        turn.places = tokio::time::timeout(PATIENCE, taking).await.ok().flatten();
        if turn.places.is_some() {
            return Ok(turn);
        }
        let text = "too many questions of this kind are being answered; try again";
        let busy = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text);
        Err(busy.retry_after(5).into())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.places = None;
        let mut tenants = self.of.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has a part of it: it is taken, and cloned, under this lock only.
        if tenants
            .get(&self.tenant)
            .is_some_and(|own| Arc::strong_count(own) == 1)
        {
            tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_tenant_leaves_turns_to_others() {
        let turns = Turns::new(3, 2);
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let first = turns.take(one).await.unwrap();
        let second = turns.take(one).await.unwrap();
        assert!(turns.take(one).now_or_never().is_none(), "it has its share");
        let third = turns.take(other).await.unwrap();
        assert!(turns.take(other).now_or_never().is_none(), "there are no more");
        drop(first);
        let fourth = turns.take(other).await.unwrap();
        drop((second, third, fourth));
        assert!(turns.tenants.lock().unwrap().is_empty());
    }
}
