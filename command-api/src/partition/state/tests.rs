//! Whatever is decided, admitted, given up, written to the disk and read from it again: the state is the fold of what
//! was admitted, and decisions are taken on that and what is under way.
//!
//! Longer than a file should be: one made-up history serves all of it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, Ordering},
};

use event_log::{
    Claim, Log, LogConfig, LogId, Partition, Record, Snapshots, StateStores, Store, Verdict,
    snapshot::SnapshotError,
};
use events::{
    CommandId, Envelope, EventId, Recorded,
    content::{Body, Draft, Metadata, Revision, Slug, Tags, Title},
};
use proptest::{prelude::*, test_runner::TestRunner};
use uuid::Uuid;

use super::*;
use crate::partition::idempotency::Seen as Answer;

const DAY: Kept = Kept::hours(24);
const HOUR: i64 = 3_600_000_000;
const TENANT: TenantId = TenantId::new(Uuid::from_u128(1));
const SITE: SiteId = SiteId::new(Uuid::from_u128(2));
const IDS: u128 = 4;
const REQUEST: Hash = [0; 16];
const SLUGS: [&str; 3] = ["a", "b", "c"];

/// What is done to a state.
#[derive(Debug, Clone)]
enum Step {
    Ask(u128, Asked, Option<u8>),
    Admit,
    Forget,
    Write,
    /// The process ends, orderly or not, and another one goes on.
    Reopen,
}

#[derive(Debug, Clone)]
enum Asked {
    Draft(usize),
    Rename(usize),
    Publish(Option<i64>),
    Unpublish,
    Archive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let asked = prop_oneof![
        4 => (0..SLUGS.len()).prop_map(Asked::Draft),
        3 => (0..SLUGS.len()).prop_map(Asked::Rename),
        2 => proptest::option::of(0_i64..100).prop_map(Asked::Publish),
        1 => Just(Asked::Unpublish),
        1 => Just(Asked::Archive),
    ];
    let step = prop_oneof![
        6 => (0..IDS, asked, proptest::option::of(0_u8..5)).prop_map(|(id, asked, key)| Step::Ask(id, asked, key)),
        4 => Just(Step::Admit),
        1 => Just(Step::Forget),
        1 => Just(Step::Write),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 0..60)
}

fn content(id: u128) -> ContentId {
    ContentId::new(Uuid::from_u128(100 + id))
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + micros).unwrap()
}

fn slug(index: usize) -> Slug {
    SLUGS[index].parse().unwrap()
}

fn draft(index: usize) -> content::Command {
    content::Command::Draft(Box::new(Draft {
        site: SITE,
        kind: Kind::Post,
        title: Title::new("A").unwrap(),
        slug: slug(index),
        body: Body::new("b".into()).unwrap(),
        summary: None,
        tags: Tags::new(["t"]).unwrap(),
        featured: false,
        language: None,
        metadata: Metadata::default(),
    }))
}

fn command(asked: &Asked) -> content::Command {
    match asked {
        Asked::Draft(index) => draft(*index),
        Asked::Rename(index) => content::Command::Revise(Box::new(Revision {
            slug: Some(slug(*index)),
            ..Revision::default()
        })),
        Asked::Publish(at) => content::Command::Publish {
            at: at.map(|hours| time(hours * 3_600_000_000)),
        },
        Asked::Unpublish => content::Command::Unpublish,
        Asked::Archive => content::Command::Archive,
    }
}

/// One that folds `past` and nothing else.
fn folded<'a>(past: impl Iterator<Item = &'a (Commit, Option<(Hash, Hash)>)>) -> State {
    let mut state = open(&store());
    for (at, (commit, key)) in (1..).zip(past) {
        state.apply(at, commit, *key).unwrap();
    }
    state
}

/// A store that nobody has used.
fn store() -> StateStore {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Of the test's thread, so that the folder goes with it.
    thread_local!(static STORES: StateStores = StateStores::open(None).unwrap());
    let partition = Partition::ledger(NEXT.fetch_add(1, Ordering::Relaxed));
    STORES.with(|stores| {
        stores
            .store(LogId(Uuid::from_u128(9)), partition, &fold(DAY))
            .unwrap()
    })
}

fn open(store: &StateStore) -> State {
    State::new(store.clone(), 4_000, DAY).unwrap()
}

fn ask(state: &State, id: u128, asked: &Asked, at: Timestamp) -> Result<Decision, String> {
    let command = tenant::Command::Content(content(id), command(asked));
    let decided = state.decide(TENANT, command.into(), &Expected::Any, at);
    decided.map_err(|error| format!("{error:?}"))
}

fn commit(state: &State, changes: Vec<Change>, at: Timestamp, id: u128) -> Commit {
    let recorded = |change: Change| Recorded {
        envelope: Envelope {
            id: EventId::new(Uuid::from_u128(1_000 + id)),
            subject: change.subject,
            time: at,
            tenant: TENANT,
            aggregate_version: Some(change.version),
            actor: None,
            causation: Some(CommandId::new(Uuid::from_u128(id))),
            correlation: None,
            traceparent: None,
        },
        event: change.event,
    };
    Commit {
        tenant: TENANT,
        tenant_seq: state.next_seq(TENANT).unwrap(),
        command: None,
        events: changes.into_iter().map(recorded).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_state_is_the_fold_of_what_was_admitted(steps in steps()) {
        let store = store();
        let mut state = open(&store);
        let mut past: Vec<(Commit, Option<(Hash, Hash)>)> = Vec::new();
        let mut under_way: VecDeque<(Commit, Option<(Hash, Hash)>)> = VecDeque::new();
        for (n, step) in (0_u32..).zip(steps) {
            match step {
                Step::Ask(id, asked, key) => {
                    let at = state.commit_time(time(i64::from(n)));
                    if let Ok(Decision::Commit(changes)) = ask(&state, id, &asked, at) {
                        let commit = commit(&state, changes, at, n.into());
                        let key = key.map(|key| ([key; 16], [n as u8; 16]));
                        state.decided(&commit, key).unwrap();
                        under_way.push_back((commit, key));
                    }
                }
                Step::Admit => {
                    if let Some((commit, key)) = under_way.pop_front() {
                        state.admitted(past.len() as u64 + 1, &commit, key).unwrap();
                        past.push((commit, key));
                    }
                }
                Step::Forget => {
                    under_way.clear();
                    state.forget();
                }
                Step::Write => state.write().unwrap(),
                Step::Reopen => {
                    drop(state);
                    under_way.clear();
                    state = open(&store);
                    let stands = state.standing.map_or(0, |standing| standing.at);
                    for (at, (commit, key)) in (1..).zip(&past).filter(|(at, _)| *at > stands) {
                        state.apply(at, commit, *key).unwrap();
                    }
                }
            }
        }
        let admitted = folded(past.iter());
        for id in 0..IDS {
            prop_assert_eq!(
                state.piece(TENANT, content(id)).unwrap(),
                admitted.piece(TENANT, content(id)).unwrap()
            );
        }
        for key in 0..5 {
            prop_assert_eq!(
                state.used([key; 16], Seen::Admitted).unwrap(),
                admitted.used([key; 16], Seen::Admitted).unwrap()
            );
        }
        let decided = folded(past.iter().chain(&under_way));
        let later = time(1_000_000);
        prop_assert_eq!(state.next_seq(TENANT).unwrap(), decided.next_seq(TENANT).unwrap());
        prop_assert_eq!(state.next_due(), decided.next_due());
        prop_assert_eq!(state.commit_time(time(0)), decided.commit_time(time(0)));
        for id in 0..=IDS {
            for asked in (0..SLUGS.len()).flat_map(|slug| [Asked::Draft(slug), Asked::Rename(slug)]) {
                prop_assert_eq!(ask(&state, id, &asked, later), ask(&decided, id, &asked, later));
            }
        }
    }
}

/// Where a commit stands, what admission knew then, the commit, and the key that it had.
type Admitted = (Offset, event_log::State, Commit, Option<(Hash, Hash)>);

/// What a partition of a real log holds, and what each record left admission at.
struct Past {
    log: Log,
    partition: Partition,
    admission: event_log::State,
    commits: Vec<Admitted>,
}

impl Past {
    async fn begin(log: &Log, partition: Partition) -> Self {
        let mut past = Self {
            log: log.clone(),
            partition,
            admission: event_log::State::default(),
            commits: Vec::new(),
        };
        let mut reader = log.reader(partition, 0).unwrap();
        for stored in reader.next().await.unwrap().records {
            past.admission.admit(stored.offset, &stored.record);
        }
        past.claim(1).await;
        past
    }

    async fn append(&mut self, record: Record) -> (Offset, Verdict) {
        let at = self.log.append(self.partition, record.clone()).await.unwrap();
        (at, self.admission.admit(at, &record))
    }

    /// Somebody claims; of the current epoch it counts for nothing.
    async fn claim(&mut self, ahead: u64) {
        let claim = Claim {
            owner: "a test".to_owned(),
            time: time(0),
        };
        let record = claim.to_record(self.admission.epoch + ahead);
        self.append(record).await;
    }

    async fn commit(&mut self, commit: Commit, key: Option<(Hash, Hash)>) -> Offset {
        let (record, _) = commit.prepare().unwrap().seal(&self.admission);
        let (at, verdict) = self.append(record.clone()).await;
        assert!(matches!(verdict, Verdict::Commit(_)), "{verdict:?}");
        self.commits.push((at, self.admission, commit, key));
        // As a retry of a producer would leave it: the second counts for nothing.
        if at % 3 == 0 {
            self.append(record).await;
        }
        at
    }
}

/// All rows. Of the entries for expiry, those of first uses that were followed by others depend on when was written.
fn rows_of(store: &StateStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let expiries: Vec<_> = store.prefix(&Key::EXPIRIES).map(Result::unwrap).collect();
    let all = (1..=10).filter(|tag| *tag != Key::EXPIRIES[0]);
    let rows: Vec<_> = all
        .flat_map(|tag| store.prefix(&[tag]))
        .map(Result::unwrap)
        .collect();
    for (key, row) in &rows {
        if let Some(used) = Row::read(row).unwrap().command() {
            let expiry = Key::expiry(used.time, key[1..].try_into().unwrap());
            assert!(expiries.iter().any(|(key, _)| *key == expiry), "{used:?} expires");
        }
    }
    rows
}

/// Folds a history with claims and void records in between, writing a snapshot now and then; then whoever has nothing
/// but the log and the snapshots.
async fn from_snapshots(
    steps: Vec<Step>,
    (log, partition): (&Log, Partition),
    snapshots: &Snapshots,
    [here, there]: [&StateStores; 2],
) -> Result<(), TestCaseError> {
    let fresh = |stores: &StateStores| stores.store(log.id(), partition, FOLD).unwrap();
    let (store, mut past) = (fresh(here), Past::begin(log, partition).await);
    let mut state = open(&store);
    let mut newest = None;
    for (n, step) in (0_u32..).zip(steps) {
        match step {
            Step::Ask(id, asked, key) => {
                let at = state.commit_time(time(i64::from(n)));
                if let Ok(Decision::Commit(changes)) = ask(&state, id, &asked, at) {
                    let commit = commit(&state, changes, at, n.into());
                    let key = key.map(|key| ([key; 16], [n as u8; 16]));
                    let at = past.commit(commit.clone(), key).await;
                    state.apply(at, &commit, key).unwrap();
                }
            }
            Step::Admit => state.write().unwrap(),
            Step::Forget => past.claim(0).await,
            Step::Reopen => past.claim(1).await,
            Step::Write => {
                state.write().unwrap();
                if state.standing.is_some() {
                    let stopped = snapshots
                        .write(&store, log, partition, std::future::ready(()))
                        .await;
                    prop_assert!(matches!(stopped, Err(SnapshotError::Stopped)), "{stopped:?}");
                }
                let written = snapshots
                    .write(&store, log, partition, std::future::pending())
                    .await;
                newest = written.unwrap().map(|written| written.at);
                prop_assert_eq!(newest, state.standing.map(|standing| standing.at));
            }
        }
    }
    let restored = snapshots.restore(there, fresh(there), log, partition, None).await;
    prop_assert_eq!(restored.start.map(|start| start.next - 1), newest);
    let start = restored.start.unwrap_or_default();
    for (at, admission, ..) in &past.commits {
        prop_assert!(*at + 1 != start.next || *admission == start.state);
    }
    let mut other = open(&restored.store);
    for (at, _, commit, key) in &past.commits {
        if *at >= start.next {
            other.apply(*at, commit, *key).unwrap();
        }
    }
    prop_assert_eq!(other.next_due(), state.next_due());
    state.write().unwrap();
    other.write().unwrap();
    prop_assert_eq!(rows_of(&restored.store), rows_of(&store));
    Ok(())
}

#[test]
fn a_state_goes_on_from_any_snapshot() {
    const CASES: u32 = 24;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = LogConfig {
        store: Store::Embedded {
            dir: dir.path().join("log"),
        },
        // Failed cases are tried again, shorter.
        ledger_partitions: Some(2 * CASES),
        visits_partitions: Some(1),
        development: true,
    };
    let log = runtime.block_on(Log::open(log)).unwrap();
    let url = url::Url::from_file_path(dir.path().join("snapshots")).unwrap();
    let snapshots = Snapshots::open(&url).unwrap();
    let [here, there] = [(); 2].map(|()| StateStores::open(None).unwrap());
    let next = AtomicU32::new(0);
    let mut runner = TestRunner::new(ProptestConfig {
        max_shrink_iters: CASES - 1,
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    });
    let tried = runner.run(&steps(), |steps| {
        let partition = Partition::ledger(next.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(from_snapshots(
            steps,
            (&log, partition),
            &snapshots,
            [&here, &there],
        ))
    });
    tried.unwrap();
    runtime.block_on(log.close());
}

/// Asks for what nothing stands in the way of.
fn asked(state: &State, id: u128, asked: &Asked, at: Timestamp) -> Commit {
    match ask(state, id, asked, at) {
        Ok(Decision::Commit(changes)) => commit(state, changes, at, id),
        other => panic!("{asked:?} of {id}: {other:?}"),
    }
}

#[test]
fn keys_of_commands_leave_the_disk_after_their_time_unless_they_were_used_anew() {
    let store = store();
    let mut state = open(&store);
    let day = 24 * 3_600 * 1_000_000;
    let mut at = 0;
    let mut use_key = |key: u8, micros: i64| {
        at += 1;
        for (step, key) in [
            (Asked::Draft(0), Some(([key; 16], [0; 16]))),
            (Asked::Archive, None),
        ] {
            let commit = asked(&state, at.into(), &step, time(micros));
            state.apply(at, &commit, key).unwrap();
        }
        state.write().unwrap();
    };
    let known = |key: u8| store.get(&Key::Command([key; 16]).bytes()).unwrap().is_some();
    let expiries = || store.prefix(&Key::EXPIRIES).count();
    use_key(1, 0);
    use_key(2, 1);
    assert!(known(1) && known(2));
    use_key(3, day);
    assert!(!known(1) && known(2) && known(3));
    use_key(2, day + 1);
    assert!(known(2), "its first use has expired, its second has not");
    assert_eq!(expiries(), 2);
}

#[test]
fn a_longer_time_for_keys_is_made_good_from_the_log() {
    let stores = StateStores::open(None).unwrap();
    let store = |kept| {
        let log = LogId(Uuid::from_u128(9));
        stores.store(log, Partition::ledger(0), &fold(kept)).unwrap()
    };
    let state = |kept| State::new(store(kept), 4_000, kept).unwrap();
    let seen = |state: &State, hours: i64| {
        let used = state.used([1; 16], Seen::Admitted).unwrap();
        used.map(|used| used.seen(&REQUEST, time(hours * HOUR), state.kept()))
    };
    let (short, long) = (Kept::hours(1), Kept::hours(3));
    let mut first = state(short);
    let mut past = Vec::new();
    for (at, step, key, hours) in [(1, Asked::Draft(0), 1, 0), (2, Asked::Archive, 2, 2)] {
        let commit = asked(&first, 0, &step, time(hours * HOUR));
        let key = Some(([key; 16], REQUEST));
        first.apply(at, &commit, key).unwrap();
        first.write().unwrap();
        past.push((at, commit, key));
    }
    assert_eq!(seen(&first, 2), None, "it has left the disk");
    drop(first);
    let mut second = state(long);
    assert_eq!(
        second.standing, None,
        "what was kept for another time is no beginning"
    );
    for (at, commit, key) in &past {
        second.apply(*at, commit, *key).unwrap();
    }
    second.write().unwrap();
    drop(second);
    let third = state(long);
    assert_eq!(third.standing.map(|standing| standing.at), Some(2));
    assert_eq!(seen(&third, 2), Some(Answer::Answered(1)));
    assert_eq!(seen(&third, 3), Some(Answer::New));
}

#[test]
fn a_timer_that_is_given_up_rings_as_before() {
    let mut state = folded(std::iter::empty());
    let hour = 3_600_000_000;
    for (at, step) in (1..).zip([Asked::Draft(0), Asked::Publish(Some(5))]) {
        let commit = asked(&state, 0, &step, time(0));
        state.apply(at, &commit, None).unwrap();
    }
    let unpublished = asked(&state, 0, &Asked::Unpublish, time(0));
    state.decided(&unpublished, None).unwrap();
    assert_eq!(state.next_due(), None);
    state.forget();
    assert_eq!(state.next_due(), Some(time(5 * hour)));
    let due = state.first_due(time(6 * hour)).unwrap();
    assert_eq!(
        due.map(|(_, id, timer)| (id, timer.at)),
        Some((content(0), time(5 * hour)))
    );
    let moved = asked(&state, 0, &Asked::Publish(Some(2)), time(0));
    state.decided(&moved, None).unwrap();
    assert_eq!(state.next_due(), Some(time(2 * hour)));
    state.forget();
    assert_eq!(state.first_due(time(3 * hour)).unwrap(), None);
}

#[test]
fn the_rows_of_a_fold_are_those_of_its_name() {
    let mut state = folded(std::iter::empty());
    let mut at = 0;
    for (id, asked) in [
        (0, Asked::Draft(0)),
        (0, Asked::Publish(Some(50))),
        (1, Asked::Draft(1)),
        (1, Asked::Rename(2)),
        (2, Asked::Draft(1)),
        (2, Asked::Archive),
    ] {
        at += 1;
        let Ok(Decision::Commit(changes)) = ask(&state, id, &asked, time(0)) else {
            panic!("nothing stands in the way of {asked:?}")
        };
        let commit = commit(&state, changes, time(0), at.into());
        state.apply(at, &commit, Some(([at as u8; 16], [0; 16]))).unwrap();
    }
    state.write().unwrap();
    let rows: String = (1..=10)
        .flat_map(|tag| {
            state
                .rows
                .stored(&[tag])
                .filter_map(Result::ok)
                .collect::<Vec<_>>()
        })
        .map(|(key, row)| format!("{key:?} {:?}\n", row.bytes().unwrap()))
        .collect();
    let print = format!("{FOLD} {}", hex(&rows));
    assert_eq!(
        print, "1 ebf9c9e9fafaf707",
        "the fold makes other rows: give it another name, so that no process goes on with the old ones"
    );
}

fn hex(rows: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(rows.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
