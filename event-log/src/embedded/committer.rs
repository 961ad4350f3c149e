//! The one thread that writes: gives offsets, commits a batch with one fsync, then answers all of it.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use events::Timestamp;
use fjall::PersistMode;
use tokio::sync::{mpsc, watch};

use super::{Shard, Store, layout, told};
use crate::{clock::now, gate::Ticket, log::AppendError, partition::Offset, record::Record};

/// A batch holds at most so many records and about so many bytes: it must fit into memory beside the next one.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Tables in memory that wait to be written, of all partitions together: they are most of the memory that the log
/// takes under load. (The store waits on its own, deaf to errors, at 4 of one partition; so we wait before that, and
/// listen.)
const SEALED_MEMTABLES: usize = 3;

/// How long it is waited for room in memory. The store's worker, alone, could wait for a place in its own queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record that waits for its offset.
pub(super) struct Item {
    pub(super) shard: Arc<Shard>,
    pub(super) record: Record,
    /// When another log took it; now, when absent.
    pub(super) taken: Option<Timestamp>,
    pub(super) ticket: Ticket,
}

/// Starts the thread. It ends when the queue is closed and empty, or at the first error, which it leaves in
/// `stopped`: after a failed fsync nobody knows what the disk holds, so nothing is written any more.
pub(super) fn spawn(
    store: Arc<Store>,
    mut items: mpsc::Receiver<Item>,
    stopped: watch::Sender<Option<String>>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("annals-log".to_owned())
        .spawn(move || {
            let mut batch = Vec::new();
            while let Some(first) = items.blocking_recv() {
                let mut bytes = first.record.size();
                batch.push(first);
                while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
                    let Ok(item) = items.try_recv() else { break };
                    bytes += item.record.size();
                    batch.push(item);
                }
                // A panic of the store leaves as little known as an error does.
                let outcome = catch_unwind(AssertUnwindSafe(|| commit(&store, &mut batch)));
                let reason = match outcome {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => told(&error),
                    Err(_) => "its writer panicked; see the log of this process".to_owned(),
                };
                tracing::error!(reason, "the embedded log has stopped for good");
                stopped.send_replace(Some(reason));
                break;
            }
            items.close();
            let reason = stopped
                .borrow()
                .clone()
                .unwrap_or_else(|| "the log is closed".to_owned());
            // What was in the failed batch may be in the journal; what never left the queue is not.
            batch
                .into_iter()
                .for_each(|item| item.ticket.finish(Err(AppendError::Unknown(reason.clone()))));
            while let Ok(item) = items.try_recv() {
                item.ticket.finish(Err(AppendError::Not(reason.clone())));
            }
        })
}

/// Writes the batch, waits for the disk, notes how far it came, shows it to readers, answers. On an error the batch is left as it was.
fn commit(store: &Store, batch: &mut Vec<Item>) -> fjall::Result<()> {
    wait_for_room(store)?;
    let now = now();
    let mut next: HashMap<*const Shard, Offset> = HashMap::new();
    let mut offsets = Vec::with_capacity(batch.len());
    let mut write = fjall::OwnedWriteBatch::with_capacity(store.db.clone(), batch.len())
        .durability(Some(PersistMode::SyncData));
    for Item {
        shard, record, taken, ..
    } in batch.iter()
    {
        let next = next
            .entry(Arc::as_ptr(shard))
            .or_insert_with(|| *shard.end.borrow());
        let stored = layout::encode(record, taken.unwrap_or(now));
        write.insert(&shard.keyspace, layout::key(*next), stored);
        offsets.push(*next);
        *next += 1;
    }
    write.commit()?;
    // Each partition is noted, and its readers woken, once.
    for Item { shard, .. } in batch.iter() {
        if let Some(end) = next.remove(&Arc::as_ptr(shard)) {
            store.ends.note(shard.partition, end)?;
            shard.end.send_replace(end);
        }
    }
    for (item, offset) in batch.drain(..).zip(offsets) {
        item.ticket.finish(Ok(offset));
    }
    Ok(())
}

/// Waits while there is too much to write. Unlike the store's own wait it ends with an error when the store's worker
/// has died (of a full disk, say), or does nothing.
fn wait_for_room(store: &Store) -> fjall::Result<()> {
    let until = Instant::now() + PATIENCE;
    while store.sealed_memtables() >= SEALED_MEMTABLES || store.db.write_buffer_size() > store.most_buffered()
    {
        store.db.persist(PersistMode::Buffer)?;
        if Instant::now() >= until {
            let text = format!(
                "what is in memory was not written within {} s",
                PATIENCE.as_secs()
            );
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
