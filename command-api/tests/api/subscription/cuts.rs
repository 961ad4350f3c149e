//! Any cut gives the same events as a whole read: property test over histories with takeovers and void records.

use command_api::{
    ends::Ends,
    subscription::{Room, Subscriptions, Types},
};
use event_log::{Log, Partition};
use events::TenantId;
use key_store::KeyStore;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use service::{Health, Position, Topic};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    world::{embedded, key_store, within},
    writer::{Seen, Writer, fold, garbage, some_events},
};

/// What writers do, the living one and the dead one.
#[derive(Debug, Clone)]
enum Act {
    Commit { ours: bool, events: usize },
    Late { ours: bool, events: usize },
    TakeOver,
    LateClaim { ahead: u64 },
    Again,
    Garbage,
}

/// What a subscriber does between two writes.
#[derive(Debug, Clone)]
struct Ask {
    /// How many it asks for.
    events: usize,
    bytes: usize,
    /// Whether a process asks that was just started.
    anew: bool,
    /// Whether it carries what admission knew.
    proved: bool,
}

fn acts() -> impl Strategy<Value = Vec<(Act, Vec<Ask>)>> {
    let act = prop_oneof![
        5 => (any::<bool>(), 1..5_usize).prop_map(|(ours, events)| Act::Commit { ours, events }),
        2 => (any::<bool>(), 1..5_usize).prop_map(|(ours, events)| Act::Late { ours, events }),
        2 => Just(Act::TakeOver),
        1 => (0..3_u64).prop_map(|ahead| Act::LateClaim { ahead }),
        1 => Just(Act::Again),
        1 => Just(Act::Garbage),
    ];
    let ask = (
        1..6_usize,
        prop_oneof![Just(1_usize), Just(2000), Just(1 << 20)],
        any::<bool>(),
        any::<bool>(),
    );
    let ask = ask.prop_map(|(events, bytes, anew, proved)| Ask {
        events,
        bytes,
        anew,
        proved,
    });
    proptest::collection::vec((act, proptest::collection::vec(ask, 0..3)), 1..40)
}

struct Story {
    log: Log,
    keys: KeyStore,
    tenants: [TenantId; 2],
    partition: Partition,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Story {
    fn started(&self) -> Subscriptions {
        let (keys, ends) = (self.keys.clone(), Ends::new(&self.log));
        Subscriptions::new(
            self.log.clone(),
            (keys, ends),
            Health::new(),
            &self.tasks,
            self.stop.clone(),
        )
    }

    async fn play(&self, acts: &[(Act, Vec<Ask>)], types: &Types) -> (Vec<String>, Vec<Seen>) {
        let mut living = Writer::of(&self.log, self.partition).await;
        living.claim(1).await;
        let mut dead = Writer::of(&self.log, self.partition).await;
        let mut last = garbage();
        let (mut subscriptions, mut after, mut heard) = (self.started(), None, Vec::new());
        for (act, asks) in acts {
            match act {
                Act::Commit { ours, events } => {
                    last = living.seal(some_events(self.tenants[usize::from(!ours)], *events));
                    living.append(last.clone()).await;
                }
                Act::Late { ours, events } => {
                    dead.commit(some_events(self.tenants[usize::from(!ours)], *events))
                        .await;
                }
                Act::TakeOver => {
                    dead.state = living.state;
                    living.claim(living.state.epoch + 1).await;
                }
                Act::LateClaim { ahead } => {
                    let epoch = living.state.epoch + 2 * ahead;
                    dead.claim(epoch.max(1)).await;
                }
                Act::Again => {
                    living.append(last.clone()).await;
                }
                Act::Garbage => {
                    living.append(garbage()).await;
                }
            }
            // What a reader derives is what counts, whoever of the two believed what.
            living = Writer::of(&self.log, self.partition).await;
            for ask in asks {
                if ask.anew {
                    subscriptions = self.started();
                }
                self.ask(&subscriptions, ask, types, &mut after, &mut heard).await;
            }
        }
        let rest = Ask {
            events: 3,
            bytes: 1 << 20,
            anew: false,
            proved: true,
        };
        while self
            .ask(&subscriptions, &rest, types, &mut after, &mut heard)
            .await
        {}
        let (_, whole) = fold(&self.log, self.partition, Some(self.tenants[0])).await;
        (heard, whole)
    }

    /// Asks once; says whether anything came.
    async fn ask(
        &self,
        subscriptions: &Subscriptions,
        ask: &Ask,
        types: &Types,
        after: &mut Option<Position>,
        heard: &mut Vec<String>,
    ) -> bool {
        let whole_commits = after
            .as_ref()
            .is_some_and(|after| after.note().starts_with(&[0; 4]));
        if !ask.proved && whole_commits {
            *after = after.clone().map(|after| after.with_note(Vec::new()));
        }
        let feed = subscriptions
            .feed(self.tenants[0], types.clone(), after.as_ref())
            .await;
        let mut feed = feed.unwrap();
        let room = Room {
            events: ask.events,
            bytes: ask.bytes,
        };
        let found = within("the log is read", feed.now(room)).await.unwrap();
        assert!(found.events.len() <= ask.events);
        if let Some(last) = found.events.last()
            && found.more
        {
            assert_eq!(feed.position_of(&last.next).parts().count(), 1);
        }
        assert!(heard.len() < 10_000, "it goes round in a circle");
        heard.extend(
            found
                .events
                .iter()
                .map(|event| String::from_utf8(event.json.to_vec()).unwrap()),
        );
        // Through its text, as clients carry it.
        *after = Some(feed.position().to_string().parse().unwrap());
        !found.events.is_empty() || found.more
    }
}

fn wanted(types: &Types, seen: &str) -> bool {
    let event: serde_json::Value = serde_json::from_str(seen).unwrap();
    types.want(event["type"].as_str().unwrap())
}

#[test]
fn any_cut_gives_what_a_whole_read_gives() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let keys = runtime.block_on(key_store());
    let dir = TempDir::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let filters = prop_oneof![
        Just(None),
        Just(Some("download.queued.*")),
        Just(Some("download.cancelled.v1,content.*"))
    ];
    let outcome = runner.run(&(acts(), filters), |(acts, filter)| {
        let types = Types::parse(filter).unwrap();
        runtime.block_on(async {
            let log = embedded(dir.path().join(Uuid::now_v7().to_string())).await;
            let one = TenantId::new(Uuid::now_v7());
            let partition = log.ledger_partition(one);
            let other = std::iter::repeat_with(|| TenantId::new(Uuid::now_v7()));
            let other = other.filter(|tenant| log.ledger_partition(*tenant) == partition);
            let story = Story {
                keys: keys.clone(),
                tenants: [one, other.take(1).next().unwrap()],
                partition,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                log,
            };
            let (heard, whole) = story.play(&acts, &types).await;
            let expected: Vec<_> = whole
                .iter()
                .map(|(_, text)| text.clone())
                .filter(|text| wanted(&types, text))
                .collect();
            prop_assert_eq!(heard, expected);
            // From every offset, by a process that knows nothing and a position that says nothing more.
            let (end, mut next) = (story.log.end(partition).await.unwrap(), 0);
            while next <= end {
                let after = Position::new(story.log.id().0).at(Topic::Ledger, partition.index, next);
                let mut feed = story
                    .started()
                    .feed(one, types.clone(), Some(&after))
                    .await
                    .unwrap();
                let found = feed
                    .now(Room {
                        events: 1000,
                        bytes: 1 << 30,
                    })
                    .await
                    .unwrap();
                let heard: Vec<_> = found
                    .events
                    .iter()
                    .map(|event| String::from_utf8(event.json.to_vec()).unwrap())
                    .collect();
                let expected: Vec<_> = whole
                    .iter()
                    .filter(|(offset, text)| *offset >= next && wanted(&types, text))
                    .map(|(_, text)| text.clone())
                    .collect();
                prop_assert_eq!(heard, expected, "from offset {}", next);
                next += 5;
            }
            story.stop.cancel();
            story.tasks.close();
            within("the followers end", story.tasks.wait()).await;
            story.log.close().await;
            Ok(())
        })
    });
    outcome.unwrap();
}
