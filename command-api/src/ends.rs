//! Where partitions end, asked of the log for many at a time.
//!
//! A partition has one question under way, however many want to know: it answers all who came before it began, and
//! those who come meanwhile share the next one. So a log that is away is asked once at a time, and nobody stands in
//! a line behind others' patience. Who waits does so for a limited time, and only so many may.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use event_log::{Log, Offset, Partition, ReadError, Topic};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{Semaphore, watch};

use crate::error::Error;

/// How long one waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many may wait, over all partitions.
const WAITING: usize = 1_024;

type Answer = Result<Offset, ReadError>;
type Ask = dyn Fn(Partition) -> BoxFuture<'static, Answer> + Send + Sync;

/// Asks for ends. Cheap to clone.
#[derive(Clone)]
pub struct Ends(Arc<Shared>);

struct Shared {
    ask: Box<Ask>,
    lanes: HashMap<Partition, Mutex<Lane>>,
    waiting: Semaphore,
    patience: Duration,
}

/// The questions of one partition.
#[derive(Default)]
struct Lane {
    asking: bool,
    /// Who waits for the question that has not begun.
    next: Option<watch::Sender<Option<Answer>>>,
}

/// Who asks for a partition; one that panics leaves it to the next, and those who waited hear that there is no answer.
struct Serving {
    ends: Ends,
    partition: Partition,
    done: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.done
            && let Some(mut lane) = self.ends.lane(self.partition)
        {
            *lane = Lane::default();
        }
    }
}

impl Ends {
    /// Of every partition of a log.
    pub fn new(log: &Log) -> Self {
        let partitions: Vec<_> = Topic::ALL.iter().flat_map(|topic| log.all(*topic)).collect();
        let log = log.clone();
        Self::asking(partitions, (WAITING, PATIENCE), move |partition| {
            let log = log.clone();
            async move { log.end(partition).await }.boxed()
        })
    }

    fn asking(
        partitions: impl IntoIterator<Item = Partition>,
        (waiting, patience): (usize, Duration),
        ask: impl Fn(Partition) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    ) -> Self {
        let lanes = partitions
            .into_iter()
            .map(|partition| (partition, Mutex::default()));
        Self(Arc::new(Shared {
            ask: Box::new(ask),
            lanes: lanes.collect(),
            waiting: Semaphore::new(waiting),
            patience,
        }))
    }

    /// The offset that the next record will have, asked of the log after this was called.
    ///
    /// # Errors
    /// Too many wait already; the log does not answer in time, or with an error.
    pub async fn end(&self, partition: Partition) -> Result<Offset, Error> {
        let Ok(_permit) = self.0.waiting.try_acquire() else {
            return Err(Error::Busy);
        };
        let mut answer = self
            .join(partition)
            .ok_or(Error::NotServed("there is no such partition"))?;
        let failed = |error: &ReadError| Error::outside("reading a partition's end", error.clone());
        match tokio::time::timeout(self.0.patience, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => match answer.as_ref() {
                Some(Ok(end)) => Ok(*end),
                Some(Err(error)) => Err(failed(error)),
                None => Err(Error::NotServed(SILENT)),
            },
            Ok(Err(_)) | Err(_) => Err(Error::NotServed(SILENT)),
        }
    }

    fn join(&self, partition: Partition) -> Option<watch::Receiver<Option<Answer>>> {
        let mut lane = self.lane(partition)?;
        if let Some(next) = &lane.next {
            return Some(next.subscribe());
        }
        let (sender, receiver) = watch::channel(None);
        lane.next = Some(sender);
        if !std::mem::replace(&mut lane.asking, true) {
            tokio::spawn(self.clone().serve(partition));
        }
        Some(receiver)
    }

    /// Asks until nobody waits any more.
    async fn serve(self, partition: Partition) {
        let mut serving = Serving {
            ends: self,
            partition,
            done: false,
        };
        while let Some(waiting) = serving.ends.begin(partition) {
            waiting.send_replace(Some((serving.ends.0.ask)(partition).await));
        }
        serving.done = true;
    }

    fn begin(&self, partition: Partition) -> Option<watch::Sender<Option<Answer>>> {
        let mut lane = self.lane(partition)?;
        let waiting = lane.next.take();
        lane.asking = waiting.is_some();
        waiting
    }

    fn lane(&self, partition: Partition) -> Option<std::sync::MutexGuard<'_, Lane>> {
        let lane = self.0.lanes.get(&partition)?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const SILENT: &str = "the log does not say where it ends";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;

    use super::*;

    /// A log that answers when it is let, with the number of the question.
    fn slow(waiting: usize, patience: Duration) -> (Ends, Arc<Semaphore>, Arc<AtomicU64>) {
        let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let (through, count) = (gate.clone(), asked.clone());
        let ends = Ends::asking([Partition::DIRECTORY], (waiting, patience), move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let through = through.clone();
            async move {
                through.acquire().await.unwrap().forget();
                Ok(number)
            }
            .boxed()
        });
        (ends, gate, asked)
    }

    #[tokio::test]
    async fn one_question_at_a_time_answers_all_who_came_before_it_began() {
        let (ends, gate, asked) = slow(100, Duration::from_secs(60));
        let ask = |count: usize| {
            let ends = ends.clone();
            let all = (0..count).map(move |_| {
                let ends = ends.clone();
                async move { ends.end(Partition::DIRECTORY).await.unwrap() }
            });
            tokio::spawn(join_all(all.collect::<Vec<_>>()))
        };
        let first = ask(1);
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The first question has begun: it proves nothing for these.
        let others = ask(50);
        while ends.lane(Partition::DIRECTORY).unwrap().next.is_none() {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), [1]);
        assert_eq!(others.await.unwrap(), [2; 50]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_silent_log_keeps_nobody_for_long_and_only_so_many_wait() {
        let (ends, _gate, asked) = slow(3, Duration::from_millis(50));
        let answers = join_all((0..10).map(|_| ends.end(Partition::DIRECTORY))).await;
        let busy = answers.iter().filter(|it| matches!(it, Err(Error::Busy))).count();
        let silent = answers
            .iter()
            .filter(|it| matches!(it, Err(Error::NotServed(SILENT))))
            .count();
        assert_eq!((busy, silent), (7, 3));
        assert!(matches!(
            ends.end(Partition::DIRECTORY).await,
            Err(Error::NotServed(SILENT))
        ));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_question_that_panics_is_no_end_of_asking() {
        let asked = AtomicU64::new(0);
        let limits = (3, Duration::from_secs(60));
        let ends = Ends::asking([Partition::DIRECTORY], limits, move |_| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(number > 0, "the first one");
                Ok(number)
            }
            .boxed()
        });
        let first = ends.end(Partition::DIRECTORY).await;
        assert!(matches!(first, Err(Error::NotServed(SILENT))), "{first:?}");
        assert_eq!(ends.end(Partition::DIRECTORY).await.unwrap(), 1);
    }
}
