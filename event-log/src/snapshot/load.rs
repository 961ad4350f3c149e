//! Loading a snapshot: it is fetched into a file and checked as a whole, against itself and the log, before anything
//! of this process' own state is touched; then its rows go into the local store all at once.

use std::{
    fs::File,
    io::{BufReader, Seek, Write},
    time::{Duration, Instant},
};

use object_store::ObjectStoreExt;

use super::{Found, Head, Refused, Snapshots, format};
use crate::{
    driver::Start,
    log::Log,
    metrics,
    partition::{Offset, Partition},
    state_store::{StateError, StateStore, StateStores},
};

/// How long to wait before a log that cannot be read is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Bytes that are fetched at once.
const PART: u64 = 4 * 1024 * 1024;

/// What became of a store.
pub struct Restored {
    /// The store: as it was, or with the rows of a snapshot and no others.
    pub store: StateStore,
    /// Where to go on, when it has those of a snapshot.
    pub start: Option<Start>,
    /// Where the furthest snapshot stands that was not refused, loaded or not; none, when there is none or nobody
    /// knows.
    pub newest: Option<Offset>,
}

type Rows = format::Rows<BufReader<File>>;

impl Snapshots {
    /// Fills a partition's store from the furthest snapshot that is good, if that lies further than `beyond`. Trouble
    /// with snapshots is told in warnings only.
    pub async fn restore(
        &self,
        stores: &StateStores,
        mut store: StateStore,
        log: &Log,
        partition: Partition,
        beyond: Option<Offset>,
    ) -> Restored {
        let listed = self.list(store.identity()).await;
        let listed = listed.unwrap_or_else(|error| {
            tracing::warn!(%partition, %error, "going on without snapshots");
            Vec::new()
        });
        for found in listed {
            let newest = Some(found.at);
            if beyond.is_some_and(|beyond| found.at <= beyond) {
                let start = None;
                return Restored { store, start, newest };
            }
            let begun = Instant::now();
            let filled = match self.fetch(stores, &store, log, partition, &found).await {
                Ok((head, start, rows)) => {
                    let filled;
                    (store, filled) = fill(store, head, rows).await;
                    filled.map(|()| start)
                }
                Err(refused) => Err(refused),
            };
            match filled {
                Ok(start) => {
                    let took = begun.elapsed();
                    metrics::snapshot_loaded(partition, &found, took);
                    tracing::info!(%partition, snapshot = self.shown(&found.path), bytes = found.size, seconds = took.as_secs_f64(), "loaded a snapshot");
                    let start = Some(start);
                    return Restored { store, start, newest };
                }
                Err(refused) => {
                    metrics::snapshot_refused(partition, refused.reason());
                    tracing::warn!(%partition, snapshot = self.shown(&found.path), why = %refused, "passing over a snapshot");
                }
            }
        }
        Restored {
            store,
            start: None,
            newest: None,
        }
    }

    /// A snapshot that fits itself, this store and the log: what it says of itself, where to go on, its rows.
    async fn fetch(
        &self,
        stores: &StateStores,
        store: &StateStore,
        log: &Log,
        partition: Partition,
        found: &Found,
    ) -> Result<(Head, Start, Rows), Refused> {
        let mut file = stores.scratch().map_err(unreadable)?;
        let mut checked = format::Checked::new();
        let mut at = 0;
        while at < found.size {
            let part = at..(at + PART).min(found.size);
            at = part.end;
            let part = self.within(self.0.store.get_range(&found.path, part)).await;
            let part = part.map_err(unreadable)?.map_err(unreadable)?;
            checked.take(&part);
            file.write_all(&part).map_err(unreadable)?;
        }
        if !checked.fits() {
            return Err(Refused::Damaged("its checksum does not fit".to_owned()));
        }
        file.rewind().map_err(unreadable)?;
        let read = format::read(BufReader::new(file));
        let (head, rows) = read.map_err(|error| Refused::Damaged(error.to_string()))?;
        if head.identity != *store.identity() {
            return Err(Refused::Foreign(Box::new(head.identity)));
        }
        loop {
            match head.judge(log, partition).await {
                Ok(start) => return Ok((head, start, rows)),
                Err(Refused::Log(error)) => {
                    tracing::warn!(%partition, %error, "looking again");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(refused) => return Err(refused),
            }
        }
    }
}

/// The store with these rows; on an error with none.
async fn fill(store: StateStore, head: Head, rows: Rows) -> (StateStore, Result<(), Refused>) {
    let mut filling = store.clone();
    let filled = tokio::task::spawn_blocking(move || {
        let rows = rows.map(|row| match row {
            Ok((key, _)) if key.first().is_none_or(|tag| *tag == 0) => Err(Refused::Damaged(
                "a row under a key that is the store's own".to_owned(),
            )),
            Ok(row) => Ok(row),
            Err(error) => Err(Refused::Damaged(error.to_string())),
        });
        let filled = filling.refill(head.standing, head.before, rows);
        (filling, filled)
    });
    // Only a panic, which ends the process, keeps it from saying what became of it.
    let panicked = |error| (store, Err(unreadable(error)));
    filled.await.unwrap_or_else(panicked)
}

impl From<StateError> for Refused {
    fn from(error: StateError) -> Self {
        unreadable(error)
    }
}

fn unreadable(error: impl std::fmt::Display) -> Refused {
    Refused::Unreadable(error.to_string())
}
