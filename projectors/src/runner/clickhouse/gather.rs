//! One task for each partition reads and folds ahead of the inserts, and hands over what it has when asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_log::{Log, Partition, Reader, Topic};
use events::Timestamp;
use read_models::Checkpoint;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::Failure;
use crate::{
    metrics,
    runner::go_on_panicking,
    visits::{Fold, Piece},
};

/// Rows that are folded ahead, over all partitions: enough for an insert every second or so at full speed,
/// little enough to keep 40 MB at most.
const AHEAD: usize = 131_072;

/// Nor more bytes of records, over all partitions: whoever sends visits chooses their length.
const AHEAD_BYTES: usize = 64 * 1024 * 1024;

/// An insert never has more rows than this: ClickHouse would make several parts of a million.
const MOST_ROWS: usize = 900_000;

/// Under little load an insert is made at once, but not before this long after the last one began.
const PACE: Duration = Duration::from_millis(600);

/// So many folded rows do not wait.
const ENOUGH: usize = AHEAD / 2;

/// A piece that is ready to be written.
pub(crate) struct Ready {
    pub(crate) partition: u32,
    /// Rows are in the blocks.
    pub(crate) piece: Piece,
    pub(crate) rows: usize,
    pub(crate) sessions: usize,
    pub(crate) log_end: u64,
    pub(crate) event_block: Option<Vec<u8>>,
    pub(crate) session_block: Option<Vec<u8>>,
    /// The fold's state at the end of the piece, when it is time to keep it.
    pub(crate) snapshot: Option<Vec<u8>>,
}

/// What partitions have folded and not handed over.
#[derive(Default)]
pub(crate) struct Waiting {
    records: AtomicUsize,
    rows: AtomicUsize,
    changed: Notify,
}

/// The tasks that fold ahead.
pub(crate) struct Gather {
    asks: Vec<mpsc::Sender<oneshot::Sender<Option<Ready>>>>,
    waiting: Arc<Waiting>,
    kept: Vec<Ready>,
    tasks: JoinSet<Result<(), Failure>>,
    last: Option<Instant>,
}

impl Gather {
    /// Begins to fold: each partition from the state that was kept last, up to its checkpoint without a word. After
    /// every so many events of one its state is handed over, to be kept.
    pub(crate) fn begin(
        log: &Log,
        partitions: Vec<(Checkpoint, Fold)>,
        keep_every: usize,
    ) -> Result<Self, Failure> {
        let waiting = Arc::new(Waiting::default());
        let most = (AHEAD / partitions.len().max(1)).max(1);
        let most_bytes = AHEAD_BYTES / partitions.len().max(1);
        let mut tasks = JoinSet::new();
        let mut asks = Vec::new();
        for (checkpoint, fold) in partitions {
            let partition = Partition::visits(checkpoint.partition);
            let reader = log.reader(partition, fold.next_offset())?;
            let (ask, asked) = mpsc::channel(1);
            asks.push(ask);
            let piece = fold.begin();
            let folder = Folder {
                partition: checkpoint.partition,
                until: checkpoint.next_offset,
                cut: checkpoint.cut,
                fold,
                piece,
                reader,
                log_end: 0,
                records: 0,
                bytes: 0,
                since_kept: 0,
                keep_every,
                most,
                most_bytes,
                waiting: Arc::clone(&waiting),
            };
            tasks.spawn(folder.run(asked));
        }
        Ok(Self {
            asks,
            waiting,
            kept: Vec::new(),
            tasks,
            last: None,
        })
    }

    /// Waits until there is something to write, and takes it. Not to be cancelled: what was handed over
    /// would be lost.
    pub(crate) async fn next(&mut self) -> Result<Vec<Ready>, Failure> {
        loop {
            self.wait().await?;
            self.last = Some(Instant::now());
            let mut ready = std::mem::take(&mut self.kept);
            for ask in &self.asks {
                let (answer, answered) = oneshot::channel();
                let sent = ask.send(answer).await.is_ok();
                match answered.await {
                    Ok(Some(piece)) if sent => ready.push(piece),
                    Ok(_) => {}
                    // Whoever does not answer has ended, and says why.
                    Err(_) => return Err(self.ended().await),
                }
            }
            let mut rows = 0;
            let mut taken: Vec<Ready> = Vec::new();
            for piece in ready {
                rows += piece.rows;
                // What does not fit, or follows another piece of its partition, is next.
                let fits = taken.is_empty() || rows <= MOST_ROWS;
                if fits && taken.iter().all(|other| other.partition != piece.partition) {
                    taken.push(piece);
                } else {
                    self.kept.push(piece);
                }
            }
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    async fn ended(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(ended) => failure_of(ended),
            None => Failure::Ended,
        }
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        loop {
            let changed = self.waiting.changed.notified();
            let (records, rows) = (
                self.waiting.records.load(Ordering::Acquire),
                self.waiting.rows.load(Ordering::Acquire),
            );
            let due = self
                .last
                .map(|last| last + PACE)
                .filter(|due| *due > Instant::now());
            if !self.kept.is_empty() || rows >= ENOUGH || (records > 0 && due.is_none()) {
                return Ok(());
            }
            let pause = async {
                match due.filter(|_| records > 0) {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = pause => {}
                Some(ended) = self.tasks.join_next() => return Err(failure_of(ended)),
            }
        }
    }
}

/// Why a folder has ended. A panic goes on: folding the same again would only panic again.
fn failure_of(ended: Result<Result<(), Failure>, JoinError>) -> Failure {
    match ended {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => Failure::Ended,
        Err(error) => {
            go_on_panicking(error);
            Failure::Ended
        }
    }
}

/// One partition.
struct Folder {
    partition: u32,
    /// What is before it is in the tables: folded for the state only.
    until: u64,
    /// What is from it on is left out for ever.
    cut: Option<u64>,
    fold: Fold,
    piece: Piece,
    reader: Reader,
    log_end: u64,
    records: usize,
    /// Of what was folded and not handed over.
    bytes: usize,
    since_kept: usize,
    keep_every: usize,
    most: usize,
    most_bytes: usize,
    waiting: Arc<Waiting>,
}

impl Folder {
    async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<Option<Ready>>>) -> Result<(), Failure> {
        loop {
            tokio::select! {
                ask = asked.recv() => {
                    let Some(answer) = ask else { return Ok(()) };
                    let (folder, ready) = in_background(self, Self::hand_over).await?;
                    self = folder;
                    // Whoever asked may be gone: then everything is taken over again.
                    drop(answer.send(ready));
                }
                batch = self.reader.next(),
                if self.piece.events.rows() < self.most && self.bytes < self.most_bytes && self.fold.next_offset() < self.before(u64::MAX) => {
                    let batch = batch?;
                    metrics::READ
                        .with_label_values(&[Topic::Visits.short()])
                        .inc_by(batch.records.len() as u64);
                    self.log_end = self.before(batch.end);
                    self = in_background(self, move |folder| folder.fold(&batch)).await?.0;
                }
            }
        }
    }

    /// As much of an offset as is before its cut.
    fn before(&self, offset: u64) -> u64 {
        self.cut.map_or(offset, |cut| cut.min(offset))
    }

    fn fold(&mut self, batch: &event_log::Batch) {
        let (rows, kept) = (self.piece.events.rows(), self.records);
        let next = self.before(batch.next);
        for stored in batch.records.iter().take_while(|stored| stored.offset < next) {
            if stored.offset >= self.until && self.piece.from < self.until {
                self.fold.pass(self.until, &mut self.piece);
                self.forget_rows();
            }
            self.fold.apply(stored.offset, &stored.record, &mut self.piece);
            // Lag is counted from when a record was appended: what was imported may have happened years ago.
            let appended = stored.time.map(Timestamp::micros);
            self.piece.last_time = appended.or(self.piece.last_time);
            self.records += 1;
            self.bytes += stored.record.value.len();
        }
        if next >= self.until && self.piece.from < self.until {
            self.fold.pass(self.until, &mut self.piece);
            self.forget_rows();
        }
        if self.fold.pass(next, &mut self.piece) {
            // Nothing to write, but the checkpoint moves.
            self.records += 1;
        }
        if self.fold.next_offset() <= self.until {
            self.forget_rows();
            self.waiting.changed.notify_one();
            return;
        }
        self.waiting
            .rows
            .fetch_add(self.piece.events.rows().saturating_sub(rows), Ordering::AcqRel);
        self.waiting
            .records
            .fetch_add(self.records.saturating_sub(kept), Ordering::AcqRel);
        self.waiting.changed.notify_one();
    }

    /// What was folded is in the tables already.
    fn forget_rows(&mut self) {
        let piece = std::mem::replace(&mut self.piece, self.fold.begin());
        // The next state that is kept spares folding these again.
        self.since_kept += piece.events.rows();
        drop(self.fold.finish(piece));
        self.piece = self.fold.begin();
        (self.records, self.bytes) = (0, 0);
    }

    fn hand_over(&mut self) -> Option<Ready> {
        if self.records == 0 {
            return None;
        }
        self.bytes = 0;
        let next = self.fold.begin();
        let mut piece = self.fold.finish(std::mem::replace(&mut self.piece, next));
        let (mut events, mut changed) = (
            std::mem::take(&mut piece.events),
            std::mem::take(&mut piece.sessions),
        );
        let (rows, sessions) = (events.rows(), changed.rows());
        let event_block = (rows > 0).then(|| events.block());
        let session_block = (sessions > 0).then(|| changed.block());
        if rows >= self.most / 2 {
            // As many will follow, and memory that is used again is not cleared by the system before.
            events.clear();
            changed.clear();
            (self.piece.events, self.piece.sessions) = (events, changed);
        }
        self.waiting.rows.fetch_sub(rows, Ordering::AcqRel);
        self.waiting
            .records
            .fetch_sub(std::mem::take(&mut self.records), Ordering::AcqRel);
        self.since_kept += rows;
        let snapshot = (self.since_kept >= self.keep_every).then(|| {
            self.since_kept = 0;
            self.fold.snapshot()
        });
        Some(Ready {
            partition: self.partition,
            rows,
            sessions,
            log_end: self.log_end,
            event_block,
            session_block,
            snapshot,
            piece,
        })
    }
}

/// Folding takes the processor for milliseconds: not on a thread that others wait for.
async fn in_background<T: Send + 'static>(
    mut folder: Folder,
    work: impl FnOnce(&mut Folder) -> T + Send + 'static,
) -> Result<(Folder, T), Failure> {
    let work = move || {
        let done = work(&mut folder);
        (folder, done)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        go_on_panicking(error);
        Failure::Ended
    })
}
