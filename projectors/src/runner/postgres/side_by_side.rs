//! Several ranges that follow each other, each in its own transaction and on its own connection: PostgreSQL works on
//! them at the same time, with a core for each, and they are committed in their order.
//!
//! The first one has the checkpoint's lock, as always. The others insert what is new ahead of their turn, without a
//! lock; when the one before is committed they lock, check that position, fence and what is parked are as they should
//! be, and do the rest. Whatever is not plain (an event to be parked, a refused value, somebody who took over) ends this:
//! nothing is judged here, and who called goes on one by one from where the checkpoint stands.

use read_models::{Ahead, Checkpoint, Tables, Write};
use tokio::{sync::oneshot, task::JoinSet};

use super::{Batch, Entry, Failure, Fold, Held, Place, begin};
use crate::runner::go_on_panicking;

/// What was written: how many ranges, and how many rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) ranges: usize,
    pub(super) rows: u64,
}

/// Writes ranges from the first one on, as many as it can.
pub(super) async fn write<F: Fold>(
    tables: &Tables,
    held: &mut Held,
    batches: &[Batch],
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let mut first = begin(tables, held).await?;
    if held.parking.concerns_events() {
        return Ok(written);
    }
    let entries: Vec<&Entry> = batches.iter().flat_map(Batch::entries).collect();
    let mut rows = F::load(&mut first, &entries).await?;
    let mut first = Some(first);
    let mut at = held.checkpoint;
    let (mut writing, mut turn) = (JoinSet::new(), None);
    for (index, batch) in batches.iter().enumerate() {
        if !fold::<F>(&mut rows, batch) {
            break;
        }
        let (done, next) = oneshot::channel();
        let range = Range {
            changes: F::changes(&mut rows),
            to: batch.advance(),
            done,
        };
        let after = at.after(&range.to);
        let before = turn.replace(next);
        match (first.take(), before) {
            (Some(write), _) => {
                writing.spawn(async move { (index, range.in_turn::<F>(write).await) });
            }
            (None, Some(before)) => {
                let Ok(ahead) = tables.begin_ahead(&at).await else {
                    break;
                };
                writing.spawn(async move { (index, range.ahead::<F>(ahead, before).await) });
            }
            (None, None) => break,
        }
        at = after;
    }
    // All of them come to their end: what was not committed must not be in the way of who writes it again.
    drop(turn);
    let mut ends = vec![None; batches.len()];
    while let Some(ended) = writing.join_next().await {
        match ended {
            Ok((index, end)) => ends[index] = end,
            Err(error) => go_on_panicking(error),
        }
    }
    for (checkpoint, rows) in ends.into_iter().map_while(|end| end) {
        held.checkpoint = checkpoint;
        written.ranges += 1;
        written.rows += rows;
    }
    Ok(written)
}

/// Folds a range; false when something of it must be parked.
fn fold<F: Fold>(rows: &mut F::Rows, batch: &Batch) -> bool {
    batch.entries().all(|entry| {
        let place = Place {
            tenant_seq: entry.tenant_seq,
            index: entry.index,
        };
        match &entry.event {
            Ok(recorded) => F::fold(rows, &place, recorded).is_ok(),
            Err(bad) => !is_of::<F>(&bad.event_type),
        }
    })
}

pub(super) fn is_of<F: Fold>(event_type: &str) -> bool {
    F::FAMILIES.iter().any(|family| event_type.starts_with(family))
}

/// A range that was folded.
struct Range<C> {
    changes: C,
    to: read_models::Advance,
    /// Tells the next one that its turn has come.
    done: oneshot::Sender<()>,
}

impl<C> Range<C> {
    /// The one whose turn it is.
    async fn in_turn<F: Fold<Changes = C>>(self, mut write: Write) -> Option<(Checkpoint, u64)> {
        let done = F::insert(&mut write, &self.changes).await;
        let inserted = done.inspect_err(tell).ok()?;
        self.finish::<F>(write, inserted).await
    }

    /// One that comes later.
    async fn ahead<F: Fold<Changes = C>>(
        self,
        mut ahead: Ahead,
        turn: oneshot::Receiver<()>,
    ) -> Option<(Checkpoint, u64)> {
        let done = F::insert(ahead.rows(), &self.changes).await;
        let inserted = done.inspect_err(tell).ok()?;
        // The one before failed: then this one has nothing to follow.
        turn.await.ok()?;
        let turn = ahead.turn().await;
        let write = turn.inspect_err(tell).ok()?;
        self.finish::<F>(write, inserted).await
    }

    async fn finish<F: Fold<Changes = C>>(
        self,
        mut write: Write,
        inserted: u64,
    ) -> Option<(Checkpoint, u64)> {
        let finish = async {
            let updated = F::update(&mut write, &self.changes).await?;
            Ok((write.commit(&self.to).await?, inserted + updated))
        };
        let finished: Result<_, read_models::Error> = finish.await;
        let finished = finished.inspect_err(tell).ok()?;
        // Nobody may follow.
        let _ = self.done.send(());
        Some(finished)
    }
}

fn tell(error: &read_models::Error) {
    tracing::debug!(%error, "written one by one instead");
}
