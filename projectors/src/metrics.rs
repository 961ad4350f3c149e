//! Every metric of the projectors, in the default Prometheus registry.

use std::{collections::HashMap, sync::LazyLock, time::Instant};

use chrono::{DateTime, Utc};
use event_log::{Offset, Partition};
use prometheus::{
    HistogramVec, IntCounterVec, IntGaugeVec, register_histogram_vec, register_int_counter_vec,
    register_int_gauge_vec,
};
use read_models::Projection;

use crate::runner::Batch;

/// Defines metrics that are registered when they are first used. Their names are constants, and a test registers
/// them all: that cannot fail later.
macro_rules! metrics {
    ($($name:ident: $type:ty = $register:ident($text:literal, $help:literal, $labels:expr $(, $more:expr)?);)+) => {$(
        #[doc = $help]
        pub(crate) static $name: LazyLock<$type> =
            LazyLock::new(|| $register!($text, $help, $labels $(, $more)?).expect("registered once"));
    )+

        #[cfg(test)]
        #[test]
        fn every_metric_can_be_registered() {
            $(LazyLock::force(&$name);)+
        }
    };
}

metrics! {
    BATCHES: IntCounterVec = register_int_counter_vec(
        "annals_projector_batches_total", "Batches written, by projection.", &["projection"]);
    EVENTS: IntCounterVec = register_int_counter_vec(
        "annals_projector_events_total", "Events folded, by projection.", &["projection"]);
    ROWS: IntCounterVec = register_int_counter_vec(
        "annals_projector_rows_total", "Rows written, by projection.", &["projection"]);
    SECONDS: HistogramVec = register_histogram_vec(
        "annals_projector_batch_seconds", "Seconds to fold and write a batch, by projection.", &["projection"],
        vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
    RETRIES: IntCounterVec = register_int_counter_vec(
        "annals_projector_retries_total", "Times a projection began again after an outage.", &["projection"]);
    PARKED: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_parked_aggregates", "Aggregates that are parked, by projection, generation and partition.",
        &["projection", "generation", "partition"]);
    LAG_EVENTS: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_lag_events", "Records of the log that are not in the tables yet.",
        &["projection", "generation", "partition"]);
    LAG_SECONDS: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_lag_seconds", "Age of the last event in the tables (before the first one, of the tables), while there are later ones; else 0.",
        &["projection", "generation", "partition"]);
    VERIFIED: IntCounterVec = register_int_counter_vec(
        "annals_projector_verified_rows_total",
        "Rows that verification in the background has compared with the log here, by projection.", &["projection"]);
    DIFFERING: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_differing_rows",
        "Rows of the live generation that were not what the log says when last verified in the background.",
        &["projection"]);
    WHOLE_ROWS: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_verified_whole_rows",
        "Rows of the live generation that were compared when it was last verified whole; 0 before.", &["projection"]);
    WHOLE_AT: IntGaugeVec = register_int_gauge_vec(
        "annals_projector_verified_whole_timestamp_seconds",
        "When the live generation was last verified whole, in seconds since 1970; 0 before.", &["projection"]);
    READ: IntCounterVec = register_int_counter_vec(
        "annals_projector_records_read_total",
        "Records that were read from the log to be folded, by topic: once for all projections that go along together.",
        &["topic"]);
    VOID: IntCounterVec = register_int_counter_vec(
        "annals_projector_void_records_total", "Records that were read and do not count, by topic.", &["topic"]);
    ODD: IntCounterVec = register_int_counter_vec(
        "annals_projector_odd_events_total",
        "What stands in well-formed records and is no event of theirs: passed over, by topic.", &["topic"]);
}

/// Batches that are being written.
pub(crate) struct Batches {
    projection: Projection,
    generation: i32,
    begun: Instant,
    events: usize,
    ends: HashMap<Partition, Ends>,
}

struct Ends {
    next: Offset,
    end: Offset,
    time: Option<DateTime<Utc>>,
}

impl Batches {
    pub(crate) fn begin(projection: Projection, generation: i32, batches: &[Batch]) -> Self {
        let ends = |it: &Batch| Ends {
            next: it.next,
            end: it.end,
            time: it.time.map(events::Timestamp::to_utc),
        };
        Self {
            projection,
            generation,
            begun: Instant::now(),
            events: batches.iter().map(|it| it.events).sum(),
            ends: batches.iter().map(|it| (it.partition, ends(it))).collect(),
        }
    }

    /// Where a partition's checkpoint is when they are written; 0 when they hold nothing of it.
    pub(crate) fn reached(&self, partition: Partition) -> Offset {
        self.ends.get(&partition).map_or(0, |ends| ends.next)
    }

    pub(crate) fn end(self, rows: u64) {
        let label = [self.projection.name()];
        BATCHES.with_label_values(&label).inc();
        EVENTS.with_label_values(&label).inc_by(self.events as u64);
        ROWS.with_label_values(&label).inc_by(rows);
        SECONDS
            .with_label_values(&label)
            .observe(self.begun.elapsed().as_secs_f64());
        for (partition, ends) in &self.ends {
            let of = (self.projection, self.generation);
            lag(of, *partition, ends.next, ends.end, ends.time);
        }
    }
}

/// How far behind a partition is. `since` is what its checkpoint counts from; without it the seconds stay as they
/// were told before, for nothing says that they are fewer.
pub(crate) fn lag(
    (projection, generation): (Projection, i32),
    partition: Partition,
    next: Offset,
    end: Offset,
    since: Option<DateTime<Utc>>,
) {
    let (partition, generation) = (partition.to_string(), generation.to_string());
    let labels = [projection.name(), generation.as_str(), partition.as_str()];
    let events = end.saturating_sub(next);
    LAG_EVENTS
        .with_label_values(&labels)
        .set(i64::try_from(events).unwrap_or(i64::MAX));
    let age = since.map(|since| Utc::now().signed_duration_since(since).num_seconds().max(0));
    if let Some(age) = if events == 0 { Some(0) } else { age } {
        LAG_SECONDS.with_label_values(&labels).set(age);
    }
}

/// How many aggregates of a partition are parked.
pub(crate) fn parked((projection, generation): (Projection, i32), partition: Partition, aggregates: usize) {
    let aggregates = i64::try_from(aggregates).unwrap_or(i64::MAX);
    PARKED
        .with_label_values(&[projection.name(), &generation.to_string(), &partition.to_string()])
        .set(aggregates);
}

/// These partitions of a generation are not filled here any more.
pub(crate) fn forget(
    (projection, generation): (Projection, i32),
    partitions: impl Iterator<Item = Partition>,
) {
    for partition in partitions {
        let (generation, partition) = (generation.to_string(), partition.to_string());
        let labels = [projection.name(), generation.as_str(), partition.as_str()];
        for gauge in [&PARKED, &LAG_EVENTS, &LAG_SECONDS] {
            // Nothing was told of it: then there is nothing to forget.
            let _ = gauge.remove_label_values(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_that_stands_still_is_as_old_as_its_last_event() {
        // No generation of another test.
        let (of, partition) = ((Projection::Content, -1), Partition::ledger(0));
        let told = || {
            let labels = ["content", "-1", &partition.to_string()];
            LAG_SECONDS.with_label_values(&labels).get()
        };
        let hour_ago = Utc::now() - chrono::Duration::hours(1);
        lag(of, partition, 5, 7, Some(hour_ago));
        assert!(told() >= 3_600, "{}", told());
        lag(of, partition, 5, 8, None);
        assert!(told() >= 3_600, "{}", told());
        lag(of, partition, 8, 8, Some(hour_ago));
        assert_eq!(told(), 0);
    }
}
