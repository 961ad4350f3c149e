use std::{sync::Arc, time::Duration};

use event_log::{Commit, Headers, Log, LogConfig, Record, Store, Verdict, genesis::Claim};
use events::{Envelope, Event, EventId, Recorded, TenantId, Timestamp, download, envelope};
use futures::FutureExt as _;
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, TestRunner},
};
use read_models::Projection;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const LEDGER: Partition = Partition::ledger(0);

/// Enough for anything that is waited for here.
const LONG: Duration = Duration::from_secs(60);

/// A log, and what anyone must find in its ledger: admission before each offset, and the events that count there.
struct World {
    log: Log,
    states: Vec<State>,
    events: Vec<Vec<Recorded>>,
    _folder: TempDir,
}

impl World {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig {
            store: Store::Embedded {
                dir: folder.path().to_owned(),
            },
            ledger_partitions: Some(1),
            visits_partitions: Some(1),
            development: true,
        };
        let log = Log::open(config).await.unwrap();
        let genesis = log.reader(LEDGER, 0).unwrap().next().await.unwrap();
        let mut world = Self {
            log,
            states: vec![State::default()],
            events: Vec::new(),
            _folder: folder,
        };
        world.know(&genesis.records[0].record);
        world.claim().await;
        world
    }

    fn end(&self) -> Offset {
        self.events.len() as Offset
    }

    fn state(&self, at: Offset) -> State {
        self.states[usize::try_from(at).unwrap()]
    }

    fn know(&mut self, record: &Record) {
        let mut state = self.state(self.end());
        let counts = matches!(state.admit(self.end(), record), Verdict::Commit(_));
        let events = counts.then(|| envelope::decode(&record.value).unwrap_or_default());
        self.events.push(events.unwrap_or_default());
        self.states.push(state);
    }

    async fn append(&mut self, record: Record) {
        self.log.append(LEDGER, record.clone()).await.unwrap();
        self.know(&record);
    }

    async fn claim(&mut self) {
        let claim = Claim {
            owner: "test".to_owned(),
            time: Timestamp::from_micros(0).unwrap(),
        };
        let epoch = self.state(self.end()).epoch + 1;
        self.append(claim.to_record(epoch)).await;
    }

    fn sealed(&self, events: usize) -> Record {
        let tenant = TenantId::new(Uuid::from_u128(1));
        let event = |n: usize| Recorded {
            envelope: Envelope {
                id: EventId::new(Uuid::from_u128(n as u128)),
                subject: Uuid::from_u128(self.end().into()).to_string(),
                time: Timestamp::from_micros(n as i64).unwrap(),
                tenant,
                aggregate_version: Some(1),
                actor: None,
                causation: None,
                correlation: None,
                traceparent: None,
            },
            event: Event::from(download::Started {}),
        };
        let commit = Commit {
            tenant,
            tenant_seq: self.end(),
            command: None,
            events: (0..events).map(event).collect(),
        };
        commit.prepare().unwrap().seal(&self.state(self.end())).0
    }

    async fn commits(&mut self, count: usize) {
        for n in 0..count {
            let record = self.sealed(n % 3 + 1);
            self.append(record).await;
        }
    }

    /// A record that does not count.
    async fn void(&mut self) {
        let mut record = self.sealed(1);
        record.headers = Headers::new([(&b"annals-kind"[..], &b"commit"[..])]);
        self.append(record).await;
    }

    fn feed(&self, windows: &Windows, at: Offset, events: usize) -> Follower {
        let State { epoch, seq, hash } = self.state(at);
        let checkpoint = Checkpoint {
            projection: Projection::Content,
            generation: 1,
            partition: 0,
            next_offset: at,
            epoch,
            seq,
            hash: hash.0,
            fence: 1,
            parking: 0,
            since: chrono::DateTime::UNIX_EPOCH,
            cut: None,
        };
        let gather = Gather {
            events,
            ..Gather::AT_ONCE
        };
        Follower {
            feed: Feed::new(windows, &checkpoint, gather),
            next: at,
        }
    }
}

/// One who knows where he is.
struct Follower {
    feed: Feed,
    next: Offset,
}

impl Follower {
    /// What follows, which must be what stands there, and no more than was asked for.
    async fn take(&mut self, world: &World) -> Batch {
        let fed = tokio::time::timeout(LONG, self.feed.next()).await;
        self.check(world, fed.expect("something within a minute"))
    }

    fn check(&mut self, world: &World, fed: Fed) -> Batch {
        let Fed::Batch(batch) = fed else {
            panic!("{fed:?}");
        };
        assert_eq!(batch.from, self.next);
        assert!(batch.next > batch.from && batch.next <= world.end() && batch.end >= batch.next);
        assert_eq!(batch.state, world.state(batch.next));
        let expected = (batch.from..batch.next).flat_map(|offset| {
            let events = world.events[usize::try_from(offset).unwrap()].iter();
            (0..)
                .zip(events)
                .map(move |(index, event)| (offset, index, event))
        });
        let found = batch
            .entries()
            .map(|it| (it.offset, it.index, it.event.as_ref().unwrap()));
        assert!(found.eq(expected), "{batch:?}");
        assert_eq!(batch.entries().count(), batch.events);
        let last = batch.records.last().map_or(0, |last| last.entries.len());
        assert!(batch.events - last < self.feed.gather.events);
        self.next = batch.next;
        batch
    }

    async fn catch_up(&mut self, world: &World) {
        while self.next < world.end() {
            self.take(world).await;
        }
    }

    /// Why it does not go on.
    async fn stops(&mut self) -> String {
        let fed = tokio::time::timeout(LONG, self.feed.next()).await;
        let Fed::Stopped { partition, reason } = fed.expect("something within a minute") else {
            panic!("it went on")
        };
        assert_eq!(partition, LEDGER);
        reason
    }

    /// As one whose task is ended while it waits, after so many turns of the runtime.
    async fn is_cancelled(&mut self, world: &World, turns: u8) {
        let cancelled = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        let fed = tokio::select! {
            biased;
            fed = self.feed.next() => Some(fed),
            () = cancelled => None,
        };
        if let Some(fed) = fed {
            self.check(world, fed);
        }
    }
}

/// Whether two got the very same records.
fn shared(one: &Batch, other: &Batch) -> bool {
    let pairs = || one.records.iter().zip(&other.records);
    one.records.len() == other.records.len() && pairs().all(|(one, other)| Arc::ptr_eq(one, other))
}

type Action = (u8, u8, u8);

async fn in_any_order(most: usize, actions: &[Action]) {
    let mut world = World::make().await;
    let windows = Windows::keeping(world.log.clone(), most);
    let mut followers: Vec<Follower> = Vec::new();
    for (what, which, how) in actions {
        let count = followers.len().max(1);
        let follower = followers.get_mut(usize::from(*which) % count);
        match (what % 8, follower) {
            (0, _) => world.commits(usize::from(which % 8)).await,
            (1, _) => world.void().await,
            (2, _) => world.claim().await,
            (3, _) | (_, None) => {
                let at = world.end() * u64::from(*which) / 255;
                followers.push(world.feed(&windows, at, usize::from(how % 16) + 1));
            }
            (4, Some(follower)) => follower.is_cancelled(&world, how % 8).await,
            (5, Some(_)) => drop(followers.swap_remove(usize::from(*which) % count)),
            (_, Some(follower)) if follower.next < world.end() => drop(follower.take(&world).await),
            (_, Some(_)) => {}
        }
        let (kept, _, open) = windows.sizes();
        assert!(kept <= most, "{kept} bytes are kept, of at most {most}");
        assert!(open <= followers.len(), "{open} are open for {}", followers.len());
    }
    for follower in &mut followers {
        follower.catch_up(&world).await;
    }
    // Those who are at the end wait for the same: one after the other they come together.
    for _ in 0..followers.len() {
        world.commits(1).await;
        for follower in &mut followers {
            follower.catch_up(&world).await;
        }
    }
    assert!(windows.sizes().2 <= 1);
    drop(followers);
    assert_eq!(windows.sizes(), (0, 0, 0));
    world.log.close().await;
}

#[test]
fn everyone_gets_what_stands_in_the_log_whatever_the_others_do() {
    let mut runner = TestRunner::new(Config {
        cases: 30,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let any_actions = (0..20_000_usize, vec(any::<Action>(), 1..200));
    let run = |(most, actions): (usize, Vec<Action>)| {
        runtime.block_on(in_any_order(most, &actions));
        Ok(())
    };
    runner.run(&any_actions, run).unwrap();
}

/// Really at the same time, and ended at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_follow_at_once_while_others_come_and_go() {
    let mut world = World::make().await;
    world.commits(600).await;
    let windows = Windows::keeping(world.log.clone(), 40_000);
    let world = Arc::new(world);
    let following: Vec<_> = (0..12_u64)
        .map(|n| {
            let (world, windows) = (world.clone(), windows.clone());
            tokio::spawn(async move {
                let mut at = n % 4 * 100;
                while at < world.end() {
                    let mut follower = world.feed(&windows, at, usize::try_from(n * 7 % 30).unwrap() + 1);
                    for turn in 0..20 {
                        if turn % 4 == n % 4 && follower.next < world.end() {
                            follower.is_cancelled(&world, (turn % 5) as u8).await;
                        }
                        if follower.next < world.end() {
                            follower.take(&world).await;
                        }
                    }
                    at = follower.next;
                }
            })
        })
        .collect();
    for task in following {
        task.await.unwrap();
    }
    assert_eq!(windows.sizes(), (0, 0, 0));
}

#[tokio::test]
async fn a_record_is_decoded_once_for_all_who_begin_at_the_same_place() {
    let mut world = World::make().await;
    world.commits(50).await;
    let windows = Windows::new(world.log.clone());
    let mut first = world.feed(&windows, 0, usize::MAX);
    let all = first.take(&world).await;
    assert_eq!(all.next, world.end());
    // Who begins later finds them too.
    let mut later = world.feed(&windows, 0, usize::MAX);
    assert!(shared(&all, &later.take(&world).await));
    world.commits(3).await;
    let (one, other) = (first.take(&world).await, later.take(&world).await);
    assert!(shared(&one, &other));
    assert_eq!(windows.sizes().2, 1);
}

#[tokio::test]
async fn one_that_stands_still_holds_up_nobody_and_comes_back() {
    let mut world = World::make().await;
    world.commits(20).await;
    let windows = Windows::keeping(world.log.clone(), 5_000);
    let (mut slow, mut quick) = (world.feed(&windows, 0, 5), world.feed(&windows, 0, 5));
    assert!(shared(&slow.take(&world).await, &quick.take(&world).await));
    for _ in 0..10 {
        world.commits(10).await;
        quick.catch_up(&world).await;
    }
    assert_eq!(windows.sizes().2, 1, "it has its seat, and its place is gone");
    slow.take(&world).await;
    assert_eq!(windows.sizes().2, 2, "it reads for itself");
    slow.catch_up(&world).await;
    world.commits(1).await;
    slow.take(&world).await;
    quick.take(&world).await;
    world.commits(1).await;
    assert!(shared(&slow.take(&world).await, &quick.take(&world).await));
    assert_eq!(windows.sizes().2, 1);
}

#[tokio::test]
async fn one_who_is_ended_while_it_reads_for_all_takes_nothing_from_the_others() {
    let mut world = World::make().await;
    let windows = Windows::new(world.log.clone());
    let (mut ended, mut other) = (world.feed(&windows, 0, 9), world.feed(&windows, 0, 9));
    ended.catch_up(&world).await;
    other.catch_up(&world).await;
    // It reads, the other waits for it.
    let waits = async {
        ended.is_cancelled(&world, 3).await;
        drop(ended);
        world.commits(1).await;
    };
    let fed = tokio::time::timeout(LONG, async { tokio::join!(waits, other.feed.next()).1 });
    let fed = fed.await.expect("it goes on within a minute");
    other.check(&world, fed);
}

/// The other may wait long for what comes next.
#[tokio::test]
async fn who_comes_late_to_what_was_read_does_not_wait_for_what_comes_next() {
    let mut world = World::make().await;
    let windows = Windows::new(world.log.clone());
    let (at, state) = (world.end(), world.state(world.end()));
    let (mut quick, mut slow) = (world.feed(&windows, at, 9), world.feed(&windows, at, 9));
    quick.feed.seat.take(at, &state, 9, 9);
    assert!(matches!(slow.feed.seat.take(at, &state, 9, 9), Taken::AtEnd));
    world.commits(1).await;
    quick.take(&world).await;
    let mut next = std::pin::pin!(quick.feed.next());
    assert!(futures::poll!(&mut next).is_pending());
    let read = slow.feed.seat.read(at, state).now_or_never();
    assert!(read.is_some(), "it waits for the one who reads");
    slow.take(&world).await;
    // Nor does one who waits for it when it is read.
    let (at, state) = (world.end(), world.state(world.end()));
    let mut reading = std::pin::pin!(slow.feed.seat.read(at, state));
    assert!(futures::poll!(&mut reading).is_pending());
    world.commits(1).await;
    let read = tokio::time::timeout(LONG, async { tokio::join!(next, reading) });
    assert!(matches!(read.await, Ok((Fed::Batch(_), ()))));
}

/// Then either the log or the checkpoint is damaged; nobody else is to be told what follows from that.
#[tokio::test]
async fn one_whose_admission_is_another_stops_alone() {
    let mut world = World::make().await;
    world.commits(9).await;
    let windows = Windows::new(world.log.clone());
    let mut good = world.feed(&windows, 0, usize::MAX);
    good.catch_up(&world).await;
    let mut damaged = world.feed(&windows, 4, usize::MAX);
    damaged.feed.state.hash.0[0] ^= 1;
    damaged.feed.seat = windows.seat(LEDGER, 4, &damaged.feed.state);
    let reason = damaged.stops().await;
    assert!(
        reason.contains("before offset 4 of ledger/0 stands another record"),
        "{reason}"
    );
    assert_eq!(windows.sizes().2, 2);
    let mut another = world.feed(&windows, 4, usize::MAX);
    another.catch_up(&world).await;
    assert_eq!(windows.sizes().2, 2);
}

#[tokio::test]
async fn an_event_of_a_future_version_stops_all_who_come_to_it() {
    let mut world = World::make().await;
    world.commits(1).await;
    let offset = world.end();
    let mut record = world.sealed(1);
    let text = String::from_utf8(record.value.to_vec()).unwrap();
    record.value = text.replace("started.v1", "started.v9").into();
    let state = world.state(offset);
    let hash = state.hash.then(&record).to_string();
    let pairs = record.headers.iter().map(|(name, value)| match name {
        b"annals-hash" => (name, hash.as_bytes()),
        _ => (name, value),
    });
    record.headers = Headers::new(pairs);
    world.append(record).await;
    assert_ne!(world.state(offset + 1), state, "it is admitted");
    let windows = Windows::new(world.log.clone());
    let (mut one, mut other) = (world.feed(&windows, 0, 9), world.feed(&windows, 0, 9));
    for follower in [&mut one, &mut other] {
        assert_eq!(follower.take(&world).await.next, offset);
        let reason = follower.stops().await;
        assert!(
            reason.contains(&format!("offset {offset}: ")) && reason.contains("started.v9"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn one_who_is_beyond_the_log_stops_alone() {
    let mut world = World::make().await;
    world.commits(1).await;
    let windows = Windows::new(world.log.clone());
    let mut good = world.feed(&windows, 0, 9);
    good.catch_up(&world).await;
    world.states.resize(20, State::default());
    let mut beyond = world.feed(&windows, 19, 9);
    let reason = beyond.stops().await;
    assert!(
        reason.contains("the tables know more than the log has"),
        "{reason}"
    );
    world.states.truncate(world.events.len() + 1);
    world.commits(1).await;
    good.take(&world).await;
}

/// A transaction's marker takes an offset and is no record; a checkpoint may stand anywhere among several.
#[tokio::test]
async fn a_place_between_records_is_found() {
    let mut world = World::make().await;
    world.commits(1).await;
    let windows = Windows::new(world.log.clone());
    let state = world.state(3);
    let seat = windows.seat(LEDGER, 3, &state);
    let read = event_log::Batch {
        records: Vec::new(),
        next: 7,
        end: 9,
    };
    seat.add(decode::digest(LEDGER, 3, state, read));
    for at in 3..7 {
        let mut other = windows.seat(LEDGER, at, &state);
        let Taken::Records { records, end } = other.take(at, &state, 9, 9) else {
            panic!("nothing at {at}")
        };
        assert_eq!((records.len(), records[0].next, end), (1, 7, 9));
    }
    assert_eq!(windows.sizes().2, 1);
}
