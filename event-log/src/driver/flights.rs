//! Records on their way into the log, in their order. While two flights of them are under way to a broker, the next ones
//! gather and leave together: a request with many records costs it about as much as one with one. A lonely record never
//! waits, and nothing waits for the embedded log, which gathers by itself.

use std::collections::VecDeque;

use futures::FutureExt as _;

use crate::{
    log::{AppendError, Appending, Log},
    partition::Offset,
    record::Record,
};

/// Flights under way to a broker before records gather. With one, a partition of two clients would serve one at a time.
const FLIGHTS: usize = 2;
/// Records of so many bytes leave at once: what is large gains nothing by waiting.
const FULL: usize = 64 * 1024;

/// What became of a record.
pub(super) type Report = (u64, Result<Offset, AppendError>);

pub(super) struct Flights {
    /// How many may be under way before records gather; none gathers when absent.
    most: Option<usize>,
    gathered: Vec<(u64, Record)>,
    gathered_bytes: usize,
    /// In order; the first reports first.
    under_way: VecDeque<(u64, Appending)>,
    /// The last record of each flight.
    last: VecDeque<u64>,
}

impl Flights {
    /// Into this log.
    pub(super) fn of(log: &Log) -> Self {
        Self::new(log.is_shared().then_some(FLIGHTS))
    }

    const fn new(most: Option<usize>) -> Self {
        Self {
            most,
            gathered: Vec::new(),
            gathered_bytes: 0,
            under_way: VecDeque::new(),
            last: VecDeque::new(),
        }
    }

    /// Takes a record to the next flight.
    pub(super) fn gather(&mut self, id: u64, record: Record) {
        self.gathered_bytes += record.size();
        self.gathered.push((id, record));
    }

    /// Whether what has gathered is to leave, whatever is under way.
    pub(super) const fn is_due(&self) -> bool {
        self.most.is_none() || self.gathered_bytes >= FULL
    }

    /// Appends what has gathered, when it is time.
    pub(super) fn depart(&mut self, append: impl Fn(Record) -> Appending) {
        if self.is_due() || self.most.is_some_and(|most| self.last.len() < most) {
            self.last.extend(self.gathered.last().map(|(id, _)| *id));
            let appended = self.gathered.drain(..).map(|(id, record)| (id, append(record)));
            self.under_way.extend(appended);
            self.gathered_bytes = 0;
        }
    }

    /// The first record's report; never, when none is under way. Cancelling it loses nothing.
    pub(super) async fn first(&mut self) -> Report {
        let Some((_, appending)) = self.under_way.front_mut() else {
            return std::future::pending().await;
        };
        let outcome = appending.await;
        self.landed(outcome)
    }

    /// The first record's report, when it is there.
    pub(super) fn ready(&mut self) -> Option<Report> {
        let (_, appending) = self.under_way.front_mut()?;
        let outcome = appending.now_or_never()?;
        Some(self.landed(outcome))
    }

    fn landed(&mut self, outcome: Result<Offset, AppendError>) -> Report {
        let id = self.under_way.pop_front().map_or(0, |(id, _)| id);
        self.last.pop_front_if(|last| *last <= id);
        (id, outcome)
    }

    /// Nobody wants their reports any more, and what has gathered is not to be appended.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.most);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;

    type Reports = Mutex<VecDeque<oneshot::Sender<Result<Offset, AppendError>>>>;

    fn record(bytes: usize) -> Record {
        Record {
            value: vec![b'x'; bytes].into(),
            ..Record::default()
        }
    }

    /// Gathers records of so many bytes, and says how many have departed since the beginning.
    fn go(flights: &mut Flights, reports: &Reports, ids: std::ops::Range<u64>, bytes: usize) -> usize {
        for id in ids {
            flights.gather(id, record(bytes));
        }
        flights.depart(|_| {
            let (sender, receiver) = oneshot::channel();
            reports.lock().unwrap().push_back(sender);
            Appending::pending(receiver)
        });
        reports.lock().unwrap().len()
    }

    fn land(reports: &Reports, place: usize) {
        let report = std::mem::replace(&mut reports.lock().unwrap()[place], oneshot::channel().0);
        let _ = report.send(Ok(place as Offset));
    }

    #[test]
    fn two_flights_are_under_way_and_the_next_leaves_when_the_first_has_landed() {
        let (mut flights, reports) = (Flights::new(Some(FLIGHTS)), Reports::default());
        assert_eq!(
            go(&mut flights, &reports, 0..1, 100),
            1,
            "a lonely one leaves at once"
        );
        assert_eq!(
            go(&mut flights, &reports, 1..3, 100),
            3,
            "and so does a second flight"
        );
        assert_eq!(go(&mut flights, &reports, 3..5, 100), 3, "the next ones gather");
        land(&reports, 1);
        assert_eq!(flights.ready(), None, "reports come in order");
        land(&reports, 0);
        assert_eq!(flights.ready(), Some((0, Ok(0))));
        assert_eq!(flights.ready(), Some((1, Ok(1))));
        assert_eq!(
            go(&mut flights, &reports, 5..6, 100),
            6,
            "all that has gathered leaves together"
        );
        land(&reports, 2);
        assert_eq!(flights.ready(), Some((2, Ok(2))));
        assert_eq!(
            go(&mut flights, &reports, 6..7, 100),
            7,
            "the second flight has landed, too"
        );
    }

    #[test]
    fn what_is_large_does_not_wait_and_what_is_forgotten_never_leaves() {
        let (mut flights, reports) = (Flights::new(Some(FLIGHTS)), Reports::default());
        for id in 0..4 {
            assert_eq!(go(&mut flights, &reports, id..id + 1, FULL), id as usize + 1);
        }
        assert_eq!(go(&mut flights, &reports, 4..5, 100), 4);
        flights.forget();
        assert_eq!(go(&mut flights, &reports, 5..5, 100), 4);
        assert_eq!(
            go(&mut flights, &reports, 5..6, 100),
            5,
            "and nothing is under way"
        );
    }
}
