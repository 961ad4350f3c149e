//! Erasures carried out: the key store follows the directory.
//!
//! The event comes first, then the key is destroyed. So whatever happens in between, the log says what is to be
//! done, and every process does it: when it hears of it, when it starts, and every hour again. That is also how a
//! key store that was restored from a backup forgets again.

use std::time::Duration;

use key_store::KeyStore;
use service::health::Reporter;
use tokio::time::{Instant, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;

/// So many are destroyed at once.
const TOGETHER: usize = 1_000;
/// Every so often all of them are destroyed again: a key store may be restored while this runs.
const AGAIN: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_secs(2);

/// Destroys the keys of all who were erased, and goes on until told to stop.
pub(crate) async fn carry_out(
    directory: Directory,
    keys: KeyStore,
    reporter: Reporter,
    stop: CancellationToken,
) {
    let mut changes = directory.changes();
    let mut again = interval_at(Instant::now() + AGAIN, AGAIN);
    let mut done = 0;
    loop {
        changes.mark_unchanged();
        let waiting = directory.erasures(done, TOGETHER);
        let subjects: Vec<_> = waiting.iter().map(|(tenant, id)| (*tenant, id.uuid())).collect();
        match destroy(&keys, &subjects).await {
            Ok(()) => {
                done += subjects.len();
                reporter.ok();
                if !subjects.is_empty() {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(
                    waiting = subjects.len(),
                    error,
                    "cannot carry out erasures; they are tried again"
                );
                reporter.degraded("erasures cannot be carried out: the key store does not answer");
                if stop.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                    return;
                }
                continue;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            _ = again.tick() => done = 0,
        }
    }
}

async fn destroy(keys: &KeyStore, subjects: &[(events::TenantId, uuid::Uuid)]) -> Result<(), String> {
    if subjects.is_empty() {
        return Ok(());
    }
    let destroyed = keys.destroy_subjects(subjects).await;
    let destroyed = destroyed.map_err(|error| service::problem::chain(&error))?;
    if destroyed > 0 {
        tracing::info!(destroyed, "destroyed the keys of who was erased");
    }
    Ok(())
}
