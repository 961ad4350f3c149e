//! How much of a partition may be on its way at a time: the log's queues push back instead of growing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::oneshot;

use crate::{log::AppendError, metrics, partition::Offset};

/// Records of a partition under way.
pub(crate) const MAX_RECORDS: usize = 8_192;
/// Bytes of a partition under way. One record always goes in, so that the largest commit fits.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What of one partition is under way.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// An append that was let in. Its end, whatever it is, makes room for another.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    /// Its topic's short name, for the metrics.
    topic: &'static str,
    bytes: usize,
    began: std::time::Instant,
    answer: Option<oneshot::Sender<Result<Offset, AppendError>>>,
}

impl Gate {
    /// Lets a record in, or says that too many are under way.
    pub(crate) fn enter(
        self: &Arc<Self>,
        topic: &'static str,
        bytes: usize,
    ) -> Option<(Ticket, oneshot::Receiver<Result<Offset, AppendError>>)> {
        let records = self.records.fetch_add(1, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut ticket = Ticket {
            gate: self.clone(),
            topic,
            bytes,
            began: std::time::Instant::now(),
            answer: Some(sender),
        };
        if records > 0 && (records >= MAX_RECORDS || waiting + bytes > MAX_BYTES) {
            ticket.answer = None; // and the drop takes back what was added
            return None;
        }
        Some((ticket, receiver))
    }
}

impl Ticket {
    /// Tells what became of the append.
    pub(crate) fn finish(mut self, outcome: Result<Offset, AppendError>) {
        metrics::appended(self.topic, self.bytes, self.began.elapsed(), &outcome);
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have gone; the record stays where it is.
            let _ = answer.send(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.records.fetch_sub(1, Ordering::Relaxed);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
