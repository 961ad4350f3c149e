//! Snapshots of the decision state of partitions in an object store (a folder, or what speaks S3), for a process that
//! has no state of its own on its disk: a new machine, or one that takes a partition over that it never folded.
//!
//! A snapshot is the rows of one partition's [`crate::state_store`] at one place of the log: admitted history only. It
//! says of which log, partition and fold it is, where it stands and what admission knew there; a checksum covers all of
//! it. Whatever does not fit itself ([`format`]) or the log ([`judge`]) is passed over with a warning that names it,
//! and the next older one is looked at; without any, the log is folded from its beginning. So snapshots shorten a
//! start, and no more: deleting all of them loses nothing.
//!
//! They lie under `LOG/TOPIC-INDEX/FOLD/OFFSET.snapshot`. A store shows an object whole or not at all, so a crash
//! while one is written leaves nothing that is looked at.

mod format;
mod judge;
mod load;
mod write;

use std::{sync::Arc, time::Duration};

use events::Timestamp;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, path::Path};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    admission::State,
    log::OpenError,
    partition::Offset,
    state_store::{Identity, Standing, StateError},
};

pub use judge::Refused;
pub use load::Restored;
pub use write::Written;

/// Snapshots of one partition and fold that are kept.
const KEPT: usize = 3;
/// How long those of other folds are kept: until the release that makes them is surely gone.
const OTHERS_KEPT: chrono::TimeDelta = chrono::TimeDelta::days(7);
/// How long the store may take for a small answer, or for the next piece of a large one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Snapshots of a process that are written at the same time: each takes a thread and some megabytes.
const AT_A_TIME: usize = 2;

/// Where snapshots are kept. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots(Arc<Opened>);

struct Opened {
    store: Box<dyn ObjectStore>,
    folder: Path,
    /// The URL, as people may see it.
    shown: String,
    writing: Semaphore,
}

/// A snapshot that is there; what it holds is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    path: Path,
    /// Where it stands, as its name says.
    pub at: Offset,
    /// Its bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub written: Timestamp,
}

/// What a snapshot says of itself, before its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    identity: Identity,
    /// The last commit in it.
    #[serde(flatten)]
    standing: Standing,
    /// What admission knew after that.
    state: State,
    /// A commit some way before it, from which on the log is asked whether that one was admitted; none: from its
    /// beginning.
    before: Option<Standing>,
}

/// Why snapshots cannot be written or looked at.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The object store.
    #[error("the snapshots in {shown}: {reason}")]
    Store {
        /// The URL.
        shown: String,
        /// What the store said.
        reason: String,
    },
    /// The local state.
    #[error(transparent)]
    State(#[from] StateError),
    /// What the disk holds does not fit the log.
    #[error("the decision state on this process' disk: {0}")]
    Refused(#[from] Refused),
    /// It was to stop.
    #[error("stopped before it was complete")]
    Stopped,
}

impl Snapshots {
    /// Opens `file:///…` or `s3://bucket/prefix`. Credentials and region come from the environment (`AWS_*`).
    ///
    /// # Errors
    /// The URL is no such thing, or this program was built without S3.
    pub fn open(url: &Url) -> Result<Self, OpenError> {
        let unavailable = |why: String| OpenError::Unavailable(format!("cannot keep snapshots there: {why}"));
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(unavailable(
                "the URL must hold no credentials and no query; AWS_ACCESS_KEY_ID and the other variables of AWS \
                 are read from the environment"
                    .to_owned(),
            ));
        }
        let settings = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            let value = value.into_string().ok()?;
            Some((name, value)).filter(|(name, value)| name.starts_with("aws_") && !value.is_empty())
        });
        let (store, folder) = object_store::parse_url_opts(url, settings).map_err(|error| {
            let hint = if cfg!(feature = "s3") {
                ""
            } else {
                "; this program was built without S3 (`--features s3`), only file:///FOLDER is taken"
            };
            unavailable(format!("{url}: {error}{hint}"))
        })?;
        Ok(Self(Arc::new(Opened {
            store,
            folder,
            shown: url.to_string(),
            writing: Semaphore::new(AT_A_TIME),
        })))
    }

    /// Those of a partition and fold, the furthest first.
    ///
    /// # Errors
    /// The store.
    pub async fn list(&self, identity: &Identity) -> Result<Vec<Found>, SnapshotError> {
        let mut found = self.look(&self.folder(identity)).await?;
        found.sort_by_key(|found| std::cmp::Reverse(found.at));
        Ok(found)
    }

    async fn look(&self, folder: &Path) -> Result<Vec<Found>, SnapshotError> {
        let listed = self.0.store.list(Some(folder));
        let all: Vec<_> = self
            .within(listed.map_err(|error| self.failed(&error)).try_collect())
            .await??;
        let found = |meta: object_store::ObjectMeta| {
            let at = meta
                .location
                .filename()?
                .strip_suffix(".snapshot")?
                .parse()
                .ok()?;
            Some(Found {
                at,
                size: meta.size,
                written: meta.last_modified.into(),
                path: meta.location,
            })
        };
        Ok(all.into_iter().filter_map(found).collect())
    }

    /// Removes what is not needed any more: of this fold all but the last that were written, of other folds what is
    /// old.
    async fn prune(&self, identity: &Identity, now: Timestamp) -> Result<(), SnapshotError> {
        let own = self.folder(identity);
        let mut of_partition = self.look(&self.partition_folder(identity)).await?;
        // Not by where they stand: after the log was cut back on purpose the furthest would never go.
        of_partition.sort_by_key(|found| std::cmp::Reverse((found.written, found.at)));
        let (ours, others): (Vec<_>, Vec<_>) = of_partition
            .into_iter()
            .partition(|found| found.path.prefix_matches(&own));
        let oldest = now.micros() - OTHERS_KEPT.num_microseconds().unwrap_or(i64::MAX);
        let old = others
            .into_iter()
            .filter(move |found| found.written.micros() < oldest);
        let gone = ours.into_iter().skip(KEPT).chain(old).map(|found| Ok(found.path));
        let removed = self.0.store.delete_stream(futures::stream::iter(gone).boxed());
        let removed = removed.filter_map(async |removed| match removed {
            // Another process removed it.
            Ok(_) | Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => Some(Err(self.failed(&error))),
        });
        self.within(removed.try_collect::<()>()).await?
    }

    fn partition_folder(&self, identity: &Identity) -> Path {
        let folder = self.0.folder.clone().join(identity.log.to_string());
        folder.join(identity.partition.replace('/', "-"))
    }

    fn folder(&self, identity: &Identity) -> Path {
        self.partition_folder(identity).join(identity.fold.as_str())
    }

    fn path(&self, identity: &Identity, at: Offset) -> Path {
        self.folder(identity).join(format!("{at:020}.snapshot"))
    }

    /// A path with the store's URL, for people.
    fn shown(&self, path: &Path) -> String {
        let inside = path.prefix_match(&self.0.folder);
        let inside: Vec<_> = inside.into_iter().flatten().collect();
        let inside: Vec<_> = inside.iter().map(AsRef::as_ref).collect();
        format!("{}/{}", self.0.shown.trim_end_matches('/'), inside.join("/"))
    }

    fn failed(&self, error: &dyn std::error::Error) -> SnapshotError {
        SnapshotError::Store {
            shown: self.0.shown.clone(),
            reason: error.to_string(),
        }
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, SnapshotError> {
        let done = tokio::time::timeout(PATIENCE, work).await;
        done.map_err(|_| SnapshotError::Store {
            shown: self.0.shown.clone(),
            reason: format!("it has not answered for {} s", PATIENCE.as_secs()),
        })
    }
}

#[cfg(test)]
mod tests;
