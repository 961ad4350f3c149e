//! Processor time of the process that is measured and of the broker beside it: on a machine that others use, too, it
//! says more than a rate.

use std::time::Duration;

use super::footprint::processor_time;

/// Whose processor time is looked at.
pub(super) struct Spent {
    pub(super) annals: Option<u32>,
    pub(super) broker: Option<u32>,
}

impl Spent {
    /// Until now.
    pub(super) fn now(&self) -> [Option<Duration>; 2] {
        [self.annals, self.broker].map(|pid| pid.and_then(processor_time))
    }

    /// Microseconds since then for each of so many, as cells of a table.
    pub(super) fn since(&self, [annals, broker]: [Option<Duration>; 2], count: u64) -> [String; 2] {
        let [annals_now, broker_now] = self.now();
        [(annals_now, annals), (broker_now, broker)].map(|(now, before)| match now.zip(before) {
            Some((now, before)) => format!("{:.1}", (now - before).as_secs_f64() * 1e6 / count as f64),
            None => "–".to_owned(),
        })
    }
}
