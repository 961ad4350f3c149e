//! Every metric of the write side, with its unit in the name and a help sentence.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, register_histogram,
    register_histogram_vec, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

use crate::{
    routes::{event, view, visits},
    visit::Dropped,
};

/// From a fifth of a millisecond, which a pipelined append takes, to what clients still wait for.
const SECONDS: &[f64] = &[
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// Two metrics of one name are a mistake in this file, which the first start would show.
#[expect(
    clippy::expect_used,
    reason = "two metrics of one name are a mistake that the first start shows"
)]
fn registered<T>(metric: Result<T, prometheus::Error>) -> T {
    metric.expect("each metric is registered once")
}

/// Commands by partition and outcome: admitted, stored, refused, unavailable.
pub static COMMANDS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_commands_total",
        "Commands answered, by partition and outcome (admitted, unchanged, stored, refused, unavailable).",
        &["partition", "outcome"]
    ))
});

/// From a command's arrival at its partition to its answer.
pub static COMMAND_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    registered(register_histogram_vec!(
        "annals_command_seconds",
        "Seconds from a command's arrival at its partition to its answer.",
        &["partition"],
        SECONDS.to_vec()
    ))
});

/// Commands that wait for their answer.
pub static WAITING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    registered(register_int_gauge_vec!(
        "annals_commands_waiting",
        "Commands decided and not yet answered, by partition.",
        &["partition"]
    ))
});

/// Commands turned away at the door because too many wait.
pub static TURNED_AWAY: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_turned_away_total",
        "Commands, visits and subscribers turned away because too many wait, by where.",
        &["where"]
    ))
});

/// Claims of a partition that were admitted, and how their epochs ended.
pub static CLAIMS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_claims_total",
        "Claims of a partition and how their epochs ended (serving, recovering, stepped_down).",
        &["partition", "outcome"]
    ))
});

/// Whether this process serves the partition.
pub static SERVING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    registered(register_int_gauge_vec!(
        "annals_partition_serving",
        "1 while this process serves the partition, else 0.",
        &["partition"]
    ))
});

/// Commands that came for another process.
pub static FORWARDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_forwarded_total",
        "Attempts to pass a request on to the process that serves its partition, by outcome (answered, misdirected, unreachable, unknown, no_owner, turned_away).",
        &["outcome"]
    ))
});

/// Visits that the log has.
pub static VISITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_visits_total",
        "Visits that the log acknowledged, by the door they came through (event, batch, view).",
        &["door"]
    ))
});

/// The same, of trackers: looked up once, for it is counted at every hit.
pub static HITS: LazyLock<IntCounter> = LazyLock::new(|| VISITS.with_label_values(&["event"]));

/// Visits that were not kept.
pub static DROPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_visits_dropped_total",
        "Visits that were not kept, by the door they came through and the reason.",
        &["door", "reason"]
    ))
});

/// Lets the counters of what is dropped begin at zero: a rate is told from their first value on.
pub fn begin() {
    let all = || Dropped::ALL.map(Dropped::reason).into_iter();
    // Who cannot find out whether there is a site refuses the whole batch.
    let of_batches = || all().filter(|reason| *reason != Dropped::Unavailable.reason());
    // A piece is of a site that is known.
    let of_pieces = of_batches().filter(|reason| *reason != Dropped::UnknownSite.reason());
    let series = [
        (event::DOOR, all().collect::<Vec<_>>()),
        (view::DOOR, of_pieces.collect()),
        (visits::DOOR, of_batches().chain(visits::REASONS).collect()),
    ];
    for (door, reasons) in series {
        for reason in reasons {
            DROPPED.with_label_values(&[door, reason]);
        }
    }
}

/// From a visit's arrival to the log's acknowledgement.
pub static VISIT_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    registered(register_histogram!(
        "annals_visit_append_seconds",
        "Seconds that an append of visits took until the log acknowledged it.",
        SECONDS.to_vec()
    ))
});

/// Those who ask for events, or wait for them.
pub static SUBSCRIBERS: LazyLock<IntGauge> = LazyLock::new(|| {
    registered(register_int_gauge!(
        "annals_subscribers",
        "Requests for events under way: batches that wait, and streams."
    ))
});

/// Events that went out to subscribers.
pub static EVENTS_GIVEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_events_given_total",
        "Events given to subscribers, by where they were taken from (follower, log).",
        &["from"]
    ))
});
