//! The cases, for any adapter.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use event_log::{
    AppendError, Genesis, Headers, Log, LogConfig, LogId, MAX_COMMIT, OpenError, Partition, ReadError,
    Reader, Record, State, Store, Stored, Topic, Verdict, Why, log::MAX_RECORD,
};
use futures::future::join_all;

use crate::ledger::Offsets as _;
pub(crate) use crate::ledger::{
    a_commit_that_the_log_never_takes_holds_up_no_other, a_second_writer_takes_over_and_the_first_steps_down,
    an_unknown_outcome_is_learnt_from_the_log, commands_are_answered_from_admitted_history,
    the_log_is_shown_as_people_read_it, who_cannot_keep_more_answers_what_is_under_way_and_gives_up,
    who_cannot_keep_what_stands_there_leaves_it_to_others,
};

/// A place for logs of one test.
pub(crate) trait Bench: Send + Sync {
    fn new() -> Self
    where
        Self: Sized;
    fn store(&self) -> Store;
    /// Whether several logs may be open on it at a time.
    fn is_shared(&self) -> bool;
    /// Writes a record into a partition of a store that no log has opened.
    fn plant(&self, partition: Partition, record: Record) -> impl Future<Output = ()> + Send;
}

pub(crate) fn config(store: Store) -> LogConfig {
    LogConfig {
        store,
        ledger_partitions: Some(2),
        visits_partitions: Some(1),
        development: true,
    }
}

pub(crate) async fn open(bench: &impl Bench) -> Log {
    Log::open(config(bench.store())).await.expect("opens")
}

/// No case waits longer than this for anything.
pub(crate) async fn within<T>(case: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), case)
        .await
        .expect("the case ends within two minutes")
}

pub(crate) fn record(text: impl Into<String>) -> Record {
    let headers = Headers::new([(b"x".as_slice(), b"y".as_slice()), (b"empty", b"")]);
    Record {
        key: Some(Bytes::from_static(b"k")),
        headers,
        value: text.into().into(),
    }
}

pub(crate) async fn read(reader: &mut Reader, count: usize) -> Vec<Stored> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = reader.next().await.expect("reads");
        assert!(!batch.records.is_empty());
        assert!(batch.end > batch.records.last().expect("some").offset);
        records.extend(batch.records);
    }
    records
}

const LEDGER: Partition = Partition::ledger(0);
const OTHER: Partition = Partition::ledger(1);

pub(crate) async fn records_come_back_in_order_without_a_gap(bench: impl Bench) {
    let log = open(&bench).await;
    let appends = (0..2_000).map(|n| {
        let partition = if n % 2 == 0 { LEDGER } else { OTHER };
        log.append(partition, record(n.to_string()))
    });
    let offsets: Vec<_> = join_all(appends.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(|o| o.expect("appended"))
        .collect();
    for (partition, parity) in [(LEDGER, 0), (OTHER, 1)] {
        let own: Vec<_> = offsets.iter().skip(parity).step_by(2).copied().collect();
        assert_eq!(
            own,
            (1..=1_000).collect::<Vec<_>>(),
            "after the genesis, contiguous"
        );
        let read = read(&mut log.reader(partition, 1).expect("reader"), 1_000).await;
        for (place, stored) in read.iter().enumerate() {
            assert_eq!(stored.offset, place as u64 + 1);
            assert_eq!(stored.record, record((2 * place + parity).to_string()));
            assert!(stored.time.is_some());
        }
        assert_eq!(log.end(partition).await, Ok(1_001));
    }
    let middle = read(&mut log.reader(LEDGER, 500).expect("reader"), 1).await;
    assert_eq!(middle[0].offset, 500);
    log.close().await;
}

pub(crate) async fn a_reader_waits_and_is_told_of_more(bench: impl Bench) {
    let log = open(&bench).await;
    let mut reader = log.reader(LEDGER, 1).expect("reader");
    for round in 0..5 {
        let waiting = tokio::spawn(async move {
            let batch = reader.next().await.expect("reads");
            (reader, batch)
        });
        let offset = log.append(LEDGER, record("more")).await.expect("appended");
        let (kept, batch) = waiting.await.expect("ends");
        reader = kept;
        assert_eq!((batch.records.len(), batch.records[0].offset), (1, offset));
        assert_eq!(offset, round + 1);
    }
    log.close().await;
}

pub(crate) async fn a_reader_that_is_cancelled_loses_nothing(bench: impl Bench) {
    let log = open(&bench).await;
    let mut reader = log.reader(LEDGER, 1).expect("reader");
    let writing = tokio::spawn({
        let log = log.clone();
        async move {
            for n in 0..300 {
                log.append(LEDGER, record(n.to_string())).await.expect("appended");
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 300 {
        // Cancelled again and again, wherever it stands.
        if let Ok(batch) = tokio::time::timeout(Duration::from_micros(200), reader.next()).await {
            seen.extend(
                batch
                    .expect("reads")
                    .records
                    .into_iter()
                    .map(|stored| stored.offset),
            );
        }
    }
    assert_eq!(seen, (1..=300).collect::<Vec<_>>());
    writing.await.expect("ends");
    log.close().await;
}

pub(crate) async fn reading_keeps_up_while_many_append(bench: impl Bench) {
    let log = open(&bench).await;
    let mut reader = log.reader(LEDGER, 1).expect("reader");
    let reading = tokio::spawn(async move { read(&mut reader, 4_000).await });
    let writers = (0..4).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for chunk in 0..10 {
                let appends: Vec<_> = (0..100)
                    .map(|n| log.append(LEDGER, record(format!("{writer} {}", chunk * 100 + n))))
                    .collect();
                join_all(appends)
                    .await
                    .into_iter()
                    .for_each(|offset| assert!(offset.is_ok(), "{offset:?}"));
            }
        })
    });
    join_all(writers)
        .await
        .into_iter()
        .for_each(|ended| ended.expect("ends"));
    let read = reading.await.expect("ends");
    let mut next = [0; 4];
    for (place, stored) in read.iter().enumerate() {
        assert_eq!(stored.offset, place as u64 + 1);
        let text = std::str::from_utf8(&stored.record.value).expect("text");
        let (writer, number) = text.split_once(' ').expect("two");
        let writer: usize = writer.parse().expect("number");
        assert_eq!(number.parse(), Ok(next[writer]), "each writer's order is kept");
        next[writer] += 1;
    }
    log.close().await;
}

pub(crate) async fn a_restart_finds_everything_and_the_same_log(bench: impl Bench) {
    let log = open(&bench).await;
    let id = log.id();
    let value = "v".repeat(10_000);
    let appends: Vec<_> = (0..500)
        .map(|_| log.append(OTHER, record(value.clone())))
        .collect();
    join_all(appends)
        .await
        .into_iter()
        .for_each(|offset| assert!(offset.is_ok()));
    log.close().await;
    let mut config = config(bench.store());
    (config.ledger_partitions, config.visits_partitions) = (None, None);
    let log = Log::open(config).await.expect("opens again");
    assert_eq!(log.id(), id);
    assert_eq!(
        (log.partitions(Topic::Ledger), log.partitions(Topic::Visits)),
        (2, 1)
    );
    assert_eq!(log.end(OTHER).await, Ok(501));
    assert_eq!(log.append(OTHER, record("next")).await, Ok(501));
    let read = read(&mut log.reader(OTHER, 0).expect("reader"), 502).await;
    assert!(
        read.iter()
            .skip(1)
            .take(500)
            .all(|stored| stored.record.value.len() == 10_000)
    );
    log.close().await;
}

pub(crate) async fn a_log_of_another_shape_is_refused(bench: impl Bench) {
    open(&bench).await.close().await;
    let mut config = config(bench.store());
    config.ledger_partitions = Some(3);
    let Err(OpenError::Foreign(why)) = Log::open(config).await else {
        panic!("opened")
    };
    assert!(why.contains("2 ledger partitions and 3 are configured"), "{why}");
    open(&bench).await.close().await;
}

pub(crate) async fn a_foreign_genesis_is_refused(bench: impl Bench) {
    let other = LogId(uuid::Uuid::new_v4());
    bench
        .plant(LEDGER, Genesis::new(other, LEDGER, 2).to_record())
        .await;
    let Err(OpenError::Foreign(why)) = Log::open(config(bench.store())).await else {
        panic!("opened")
    };
    assert!(why.contains(&format!("ledger/0 belongs to log {other}")), "{why}");
}

pub(crate) async fn two_first_starts_make_one_log(bench: impl Bench) {
    if !bench.is_shared() {
        // A folder has one process; the race is between opening and being refused.
        let (first, second) =
            tokio::join!(Log::open(config(bench.store())), Log::open(config(bench.store())));
        let refused = [first, second]
            .into_iter()
            .filter_map(Result::err)
            .collect::<Vec<_>>();
        assert!(matches!(refused[..], [OpenError::InUse(_)]), "{refused:?}");
        return;
    }
    let opened = join_all((0..3).map(|_| Log::open(config(bench.store())))).await;
    let ids: HashSet<_> = opened
        .iter()
        .map(|log| log.as_ref().expect("opens").id())
        .collect();
    assert_eq!(ids.len(), 1);
}

pub(crate) async fn garbage_is_void_and_named_and_the_next_commit_counts(bench: impl Bench) {
    let log = open(&bench).await;
    let garbage = [
        Record::default(),
        record("not ours"),
        Record {
            headers: Headers::new([(b"annals-kind".as_slice(), b"\xff\xfe".as_slice())]),
            ..record("\u{0}")
        },
    ];
    let mut offsets = Vec::new();
    for garbage in garbage {
        offsets.push(log.append(LEDGER, garbage).await.expect("appended"));
    }
    let (decider, served) = crate::ledger::serve(&log, LEDGER, "a").await;
    let outcome = served.command(1).await;
    assert_eq!(
        outcome.offset(),
        Some(5),
        "genesis, three of garbage, claim, commit"
    );
    let mut state = State::default();
    let read = read(&mut log.reader(LEDGER, 0).expect("reader"), 6).await;
    let void: Vec<_> = read
        .iter()
        .filter(|stored| {
            matches!(
                state.admit(stored.offset, &stored.record),
                Verdict::Void(Why::Malformed(_))
            )
        })
        .map(|stored| stored.offset)
        .collect();
    assert_eq!(void, offsets);
    assert_eq!((state.epoch, state.seq), (1, 1));
    drop(served);
    decider.await.expect("ends");
    log.close().await;
}

pub(crate) async fn an_offset_beyond_the_end_is_an_error(bench: impl Bench) {
    let log = open(&bench).await;
    let error = match log.reader(LEDGER, 10) {
        Err(error) => error,
        Ok(mut reader) => reader.next().await.expect_err("nothing is there"),
    };
    assert_eq!(
        error,
        ReadError::OutOfRange {
            partition: LEDGER,
            offset: 10,
            first: 0,
            end: 1
        }
    );
    log.close().await;
}

pub(crate) async fn the_largest_commit_fits_and_more_is_refused(bench: impl Bench) {
    let log = open(&bench).await;
    let largest = Record {
        value: vec![b' '; MAX_COMMIT + 4_096].into(),
        ..record("")
    };
    assert_eq!(log.append(LEDGER, largest.clone()).await, Ok(1));
    let too_large = Record {
        value: vec![b' '; MAX_RECORD + 1].into(),
        ..record("")
    };
    assert!(matches!(
        log.append(LEDGER, too_large).await,
        Err(AppendError::Not(_))
    ));
    assert_eq!(
        log.append(LEDGER, record("small")).await,
        Ok(2),
        "the partition goes on"
    );
    let read = read(&mut log.reader(LEDGER, 1).expect("reader"), 2).await;
    assert_eq!(read[0].record, largest);
    log.close().await;
}

pub(crate) async fn too_much_at_once_is_pushed_back_and_the_rest_is_in_order(bench: impl Bench) {
    let log = open(&bench).await;
    // Far more than may be under way, faster than any disk or broker takes it.
    let large = Record {
        value: vec![b' '; 1024 * 1024].into(),
        ..record("")
    };
    let appends: Vec<_> = (0..100).map(|_| log.append(LEDGER, large.clone())).collect();
    let outcomes = join_all(appends).await;
    let done: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.clone().ok())
        .collect();
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(AppendError::Not(_))))
        .count();
    assert!(refused > 0, "all of 100 MiB was taken in at once");
    assert_eq!(done.len() + refused, 100, "no outcome is unknown");
    assert_eq!(done, (1..=done.len() as u64).collect::<Vec<_>>());
    assert_eq!(
        log.append(LEDGER, record("after")).await,
        Ok(done.len() as u64 + 1),
        "room is made again"
    );
    log.close().await;
}

pub(crate) async fn a_partition_that_is_not_there_is_an_error(bench: impl Bench) {
    let log = open(&bench).await;
    let nowhere = Partition::ledger(2);
    assert!(matches!(
        log.append(nowhere, record("x")).await,
        Err(AppendError::Not(_))
    ));
    assert_eq!(log.end(nowhere).await, Err(ReadError::NoPartition(nowhere)));
    assert_eq!(
        log.reader(nowhere, 0).err(),
        Some(ReadError::NoPartition(nowhere))
    );
    log.close().await;
}

pub(crate) async fn a_closed_log_says_so(bench: impl Bench) {
    let log = open(&bench).await;
    let other = log.clone();
    let under_way: Vec<_> = (0..100)
        .map(|n| log.append(LEDGER, record(n.to_string())))
        .collect();
    log.close().await;
    assert!(
        join_all(under_way).await.iter().all(Result::is_ok),
        "what was under way was waited for"
    );
    assert!(matches!(
        other.append(LEDGER, record("late")).await,
        Err(AppendError::Not(_))
    ));
    open(&bench).await.close().await;
}
