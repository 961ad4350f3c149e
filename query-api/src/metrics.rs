//! The metrics of the read side.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounterVec, register_histogram_vec, register_int_counter_vec};

/// Answers given from memory (`hit`), confirmed or read again (`read`), by cache.
pub(crate) static CACHE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "annals_query_cache_total",
        "Look-ups by cache and by whether memory answered (hit) or the tables (read)",
        &["cache", "outcome"]
    ))
});

/// Seconds that positioned reads waited, by outcome.
pub(crate) static WAITS: LazyLock<HistogramVec> = LazyLock::new(|| {
    registered(register_histogram_vec!(
        "annals_query_position_wait_seconds",
        "Seconds that a read waited for its position, by outcome (reached, refused)",
        &["outcome"],
        vec![
            0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0
        ]
    ))
});

/// Registration fails only when a name is taken twice or malformed, which no input can bring about.
fn registered<T>(result: prometheus::Result<T>) -> T {
    result.expect("metric names are written out and unique")
}
