//! Writing a snapshot: a thread reads the rows and packs them, while the store takes the pieces.

use std::time::Instant;

use events::Timestamp;
use object_store::{ObjectStoreExt, WriteMultipart};
use tokio::sync::mpsc;

use super::{Head, SnapshotError, Snapshots, format};
use crate::{
    log::Log,
    metrics,
    partition::{Offset, Partition},
    state_store::{StateStore, View},
};

/// Pieces between the thread that reads and the store.
const PIECES: usize = 4;
/// Bytes that go to the store at once: S3 takes no fewer, but for the last.
const PART: usize = 5 * 1024 * 1024;
/// Of these, how many are under way.
const PARTS: usize = 2;

/// A snapshot that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Where it stands.
    pub at: Offset,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Snapshots {
    /// Writes what a partition's store holds on the disk now, then removes older snapshots; none, when it holds
    /// nothing. What the log does not have as admitted is not written.
    ///
    /// # Errors
    /// See [`SnapshotError`]. What was begun is taken back, also when `stop` completes first.
    pub async fn write(
        &self,
        store: &StateStore,
        log: &Log,
        partition: Partition,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Written>, SnapshotError> {
        let mut stop = std::pin::pin!(stop);
        let begun = Instant::now();
        let head = tokio::select! {
            biased;
            () = &mut stop => return Err(SnapshotError::Stopped),
            head = self.head(store, log, partition) => head?,
        };
        let Some((view, head, _permit)) = head else {
            return Ok(None);
        };
        let path = self.path(&head.identity, head.standing.at);
        let upload = self.within(self.0.store.put_multipart(&path)).await?;
        let upload = upload.map_err(|error| self.failed(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let sent = tokio::select! {
            biased;
            () = &mut stop => Err(SnapshotError::Stopped),
            sent = self.send(view, head.clone(), &mut upload) => sent,
        };
        let (rows, bytes) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                let _ = self.within(upload.abort()).await;
                return Err(error);
            }
        };
        tokio::select! {
            biased;
            // Complete or not, what is there is good.
            () = &mut stop => return Err(SnapshotError::Stopped),
            finished = self.within(upload.finish()) => finished?.map_err(|error| self.failed(&error))?,
        };
        let written = Written {
            at: head.standing.at,
            rows,
            bytes,
        };
        metrics::snapshot_written(partition, bytes, begun.elapsed());
        tracing::info!(%partition, at = written.at, rows, bytes, seconds = begun.elapsed().as_secs_f64(), "wrote a snapshot");
        let now: Timestamp = chrono::Utc::now().into();
        tokio::select! {
            biased;
            () = stop => {}
            pruned = self.prune(&head.identity, now) => if let Err(error) = pruned {
                tracing::warn!(%partition, %error, "older snapshots are still there");
            },
        }
        Ok(Some(written))
    }

    /// What is to be written, when the log says so, too.
    async fn head(
        &self,
        store: &StateStore,
        log: &Log,
        partition: Partition,
    ) -> Result<Option<(View, Head, tokio::sync::SemaphorePermit<'_>)>, SnapshotError> {
        let permit = self
            .0
            .writing
            .acquire()
            .await
            .map_err(|_| SnapshotError::Stopped)?;
        let Some(view) = store.view()? else {
            return Ok(None);
        };
        let Some(state) = view
            .standing
            .confirm(log, partition)
            .await
            .map_err(super::Refused::from)?
        else {
            let text = format!("offset {} holds another record", view.standing.at);
            return Err(super::Refused::NotAdmitted(text).into());
        };
        let head = Head {
            identity: view.identity.clone(),
            standing: view.standing,
            state,
            before: view.before,
        };
        head.judge(log, partition).await?;
        Ok(Some((view, head, permit)))
    }

    /// Sends everything; rows and bytes.
    async fn send(
        &self,
        view: View,
        head: Head,
        upload: &mut WriteMultipart,
    ) -> Result<(u64, u64), SnapshotError> {
        let (pieces, mut packed) = mpsc::channel(PIECES);
        let reading = tokio::task::spawn_blocking(move || {
            format::write(&head, view.rows(), |piece| {
                pieces.blocking_send(piece).map_err(|_| SnapshotError::Stopped)
            })
        });
        let mut bytes = 0;
        while let Some(piece) = packed.recv().await {
            bytes += piece.len() as u64;
            let room = self.within(upload.wait_for_capacity(PARTS)).await?;
            room.map_err(|error| self.failed(&error))?;
            upload.put(piece.into());
        }
        let rows = reading.await.map_err(|error| self.failed(&error))??;
        Ok((rows, bytes))
    }
}
