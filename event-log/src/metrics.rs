//! Every metric of the log, in the default Prometheus registry.

use std::{sync::LazyLock, time::Duration};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, Opts, register_histogram_vec, register_int_counter_vec,
};

use crate::{
    log::AppendError,
    partition::{Offset, Partition, Topic},
};

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static APPENDS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_log_appends_total",
        "Records appended, by topic and outcome (done, not, unknown, full).",
    );
    register_int_counter_vec!(opts, &["topic", "outcome"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static APPENDED_BYTES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_log_appended_bytes_total",
        "Bytes of keys, headers and values that were appended.",
    );
    register_int_counter_vec!(opts, &["topic"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static APPEND_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
    ];
    let opts = HistogramOpts::new(
        "annals_log_append_seconds",
        "Time from handing a record over until its outcome.",
    );
    register_histogram_vec!(opts.buckets(buckets), &["topic"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static VOID: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_log_void_records_total",
        "Records that a reader of this process found void.",
    );
    register_int_counter_vec!(opts, &["topic", "partition"]).expect("registered once")
});

pub(crate) fn appended(
    topic: &'static str,
    bytes: usize,
    took: Duration,
    outcome: &Result<Offset, AppendError>,
) {
    let label = match outcome {
        Ok(_) => "done",
        Err(AppendError::Not(_)) => "not",
        Err(AppendError::Unknown(_)) => "unknown",
    };
    APPENDS.with_label_values(&[topic, label]).inc();
    APPEND_SECONDS
        .with_label_values(&[topic])
        .observe(took.as_secs_f64());
    if outcome.is_ok() {
        APPENDED_BYTES.with_label_values(&[topic]).inc_by(bytes as u64);
    }
}

pub(crate) fn full(topic: Topic) {
    APPENDS.with_label_values(&[topic.short(), "full"]).inc();
}

/// Counts a void record. Whoever folds a partition calls it where it also logs partition and offset.
pub fn void(partition: Partition) {
    VOID.with_label_values(&[partition.topic.short(), &partition.index.to_string()])
        .inc();
}
