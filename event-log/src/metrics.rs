//! Every metric of the log, in the default Prometheus registry.

use std::{sync::LazyLock, time::Duration};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge_vec,
};

use crate::{
    log::AppendError,
    partition::{Offset, Partition, Topic},
    snapshot::Found,
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

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static HANGS: LazyLock<IntCounter> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_log_client_hangs_total",
        "Readers whose Kafka client did not move any more, and that were replaced; each leaves some threads behind.",
    );
    register_int_counter!(opts).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static SNAPSHOTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_snapshots_total",
        "Snapshots of decision state, by partition and outcome: written, failed (not written), loaded, and those \
         passed over: unreadable, damaged, foreign, not_admitted.",
    );
    register_int_counter_vec!(opts, &["partition", "outcome"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static SNAPSHOT_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
    let opts = HistogramOpts::new(
        "annals_snapshot_seconds",
        "Seconds that a snapshot took, by what was done (written, loaded).",
    );
    register_histogram_vec!(opts.buckets(buckets), &["outcome"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static SNAPSHOT_BYTES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_snapshot_bytes",
        "Bytes of the snapshot that this process wrote or loaded last.",
    );
    register_int_gauge_vec!(opts, &["partition"]).expect("registered once")
});

#[expect(
    clippy::expect_used,
    reason = "the names are constants; a test registers them"
)]
static SNAPSHOT_TIME: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "annals_snapshot_timestamp_seconds",
        "When the snapshot was written that this process wrote or loaded last, in seconds since 1970: its age is \
         time() minus this.",
    );
    register_int_gauge_vec!(opts, &["partition"]).expect("registered once")
});

pub(crate) fn snapshot_written(partition: Partition, bytes: u64, took: Duration) {
    let now = chrono::Utc::now().timestamp();
    snapshot(partition, "written", (bytes, now), took);
}

pub(crate) fn snapshot_loaded(partition: Partition, found: &Found, took: Duration) {
    let written = found.written.micros() / 1_000_000;
    snapshot(partition, "loaded", (found.size, written), took);
}

fn snapshot(partition: Partition, outcome: &str, (bytes, written): (u64, i64), took: Duration) {
    let partition = partition.to_string();
    SNAPSHOTS.with_label_values(&[partition.as_str(), outcome]).inc();
    SNAPSHOT_SECONDS
        .with_label_values(&[outcome])
        .observe(took.as_secs_f64());
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    SNAPSHOT_BYTES.with_label_values(&[&partition]).set(bytes);
    SNAPSHOT_TIME.with_label_values(&[&partition]).set(written);
}

/// Counts a snapshot that was passed over, and why.
pub(crate) fn snapshot_refused(partition: Partition, why: &str) {
    SNAPSHOTS
        .with_label_values(&[partition.to_string().as_str(), why])
        .inc();
}

/// Counts a snapshot that could not be written.
pub fn snapshot_failed(partition: Partition) {
    snapshot_refused(partition, "failed");
}

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

/// Counts a client of Kafka that does not move any more and was left behind.
pub(crate) fn hangs() {
    HANGS.inc();
}

/// Counts a void record. Whoever folds a partition calls it where it also logs partition and offset.
pub fn void(partition: Partition) {
    VOID.with_label_values(&[partition.topic.short(), &partition.index.to_string()])
        .inc();
}
