//! One suite, two adapters: whatever the port promises holds for both.
//!
//! The Kafka half needs a broker (`ANNALS_TEST_KAFKA`); `./dev test` starts one.

#[path = "conformance/busy.rs"]
mod busy;
#[path = "conformance/embedded.rs"]
mod embedded;
#[path = "conformance/kafka.rs"]
mod kafka;
#[path = "conformance/ledger.rs"]
mod ledger;
#[path = "conformance/lost.rs"]
mod lost;
#[path = "conformance/sharing.rs"]
mod sharing;
#[path = "conformance/suite.rs"]
mod suite;

/// Runs every case of the suite on one adapter.
macro_rules! on_adapter {
    ($adapter:ident, $bench:ty) => {
        mod $adapter {
            crate::cases!($bench;
                records_come_back_in_order_without_a_gap,
                a_reader_waits_and_is_told_of_more,
                a_reader_that_is_cancelled_loses_nothing,
                reading_keeps_up_while_many_append,
                a_restart_finds_everything_and_the_same_log,
                a_log_of_another_shape_is_refused,
                a_foreign_genesis_is_refused,
                two_first_starts_make_one_log,
                garbage_is_void_and_named_and_the_next_commit_counts,
                an_offset_beyond_the_end_is_an_error,
                the_largest_commit_fits_and_more_is_refused,
                too_much_at_once_is_pushed_back_and_the_rest_is_in_order,
                a_partition_that_is_not_there_is_an_error,
                commands_are_answered_from_admitted_history,
                who_cannot_keep_more_answers_what_is_under_way_and_gives_up,
                who_cannot_keep_what_stands_there_leaves_it_to_others,
                a_commit_that_the_log_never_takes_holds_up_no_other,
                a_second_writer_takes_over_and_the_first_steps_down,
                an_unknown_outcome_is_learnt_from_the_log,
                a_closed_log_says_so,
                the_log_is_shown_as_people_read_it,
            );
        }
    };
}
pub(crate) use on_adapter;

macro_rules! cases {
    ($bench:ty; $($case:ident),+ $(,)?) => {
        use crate::suite::Bench as _;
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::suite::within(crate::suite::$case(<$bench>::new())).await;
            }
        )+
    };
}
pub(crate) use cases;
