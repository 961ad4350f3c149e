//! Every interleaving of two and three owners of one partition, in a world small enough to be explored completely:
//! so many requests of clients, faults, assignments and snapshots, in any order and at any moment. [`super::world`]
//! says what can happen; the code explored is [`crate::writer::Writer`] and [`crate::admission::State`] as they run.
//!
//! The promises stand in [`Model::properties`]. Progress needs no fairness: wherever nothing is left to happen by
//! itself, all must be answered; and from states picked by their hash the world, left alone, must come to serve.
//!
//! `cargo test -p event-log model` explores the small worlds of CI. `ANNALS_MODEL=owners,requests,troubles,assignments`
//! such as `ANNALS_MODEL=2,2,2,3` explores one of that size instead, with a snapshot.
//! State counts and depth go to the standard error.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    time::Instant,
};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{
    bug::Bug,
    world::{Action, Broken, Told, World},
};

/// How large a world is, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    owners: u8,
    /// Commands and questions of clients, repeated ones included.
    requests: u8,
    /// Appends failed, repeated or out of order, ends too short, crashes, releases.
    troubles: u8,
    /// Assignments, right or wrong.
    assignments: u8,
    snapshots: u8,
    /// Recovery is tested from one state in so many.
    recoveries: u64,
    bug: Bug,
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.owners, self.bug)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        world.work(actions);
        world.drifts(actions);
        if world.requests < self.requests {
            world.requests(actions);
        }
        if world.troubles < self.troubles {
            world.troubles(actions);
        }
        if world.assignments < self.assignments {
            world.assignments(actions);
        }
        if world.snapshots < self.snapshots {
            world.snapshots(actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Land { repeated: true, .. }
            | Action::Overtake { .. }
            | Action::Fail { .. }
            | Action::Shrink(_)
            | Action::Crash(_)
            | Action::Release(_) => world.troubles += 1,
            Action::Assign(_) => world.assignments += 1,
            Action::Snapshot(_) => world.snapshots += 1,
            Action::Ask { .. } | Action::Retry { .. } => world.requests += 1,
            Action::Land { repeated: false, .. }
            | Action::Drift(_)
            | Action::Report { .. }
            | Action::Measure(_)
            | Action::Hear(_)
            | Action::Read(_) => {}
        }
        world.act(action);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("what is acknowledged is in history, at that place", |_, world| {
                world.broken != Some(Broken::Acknowledged)
            }),
            Property::<Self>::always("no command is in history twice", |_, world| {
                world.broken != Some(Broken::Repeated)
            }),
            Property::<Self>::always("every process folds the one history", |_, world| {
                world.broken != Some(Broken::Folded)
            }),
            Property::<Self>::always("no answer rests on what is void", |_, world| {
                world.broken != Some(Broken::RestsOnVoid)
            }),
            Property::<Self>::always(
                "a refusal was right at some moment while it was waited for",
                |_, world| world.broken != Some(Broken::Unjustified),
            ),
            Property::<Self>::always(
                "an epoch is served and acknowledged by its owner only",
                |_, world| world.broken != Some(Broken::OtherOwner),
            ),
            Property::<Self>::always("what is said not to be done is never in history", |_, world| {
                world.broken != Some(Broken::Denied)
            }),
            Property::<Self>::always("when nothing is left to happen, all are answered", |_, world| {
                let mut work = Vec::new();
                world.work(&mut work);
                !work.is_empty() || world.broken.is_some() || world.is_settled()
            }),
            Property::<Self>::always("left alone, one process comes to serve", |bounds, world| {
                let mut hasher = DefaultHasher::new();
                world.hash(&mut hasher);
                let picked = hasher.finish().is_multiple_of(bounds.recoveries) && world.broken.is_none();
                !picked || world.recovers(true) && world.recovers(false)
            }),
            Property::<Self>::sometimes("all are acknowledged", |bounds, world| {
                world.acknowledged() == usize::from(bounds.requests)
            }),
            Property::<Self>::sometimes("two processes have written history", |bounds, world| {
                bounds.requests < 2 || world.authors() > 1
            }),
            Property::<Self>::sometimes("a commit is void", |_, world| world.has_void_commits()),
            Property::<Self>::sometimes("an outcome is unknown", |_, world| world.told(Told::Unknown)),
            Property::<Self>::sometimes("a command is asked for again", |bounds, world| {
                bounds.requests < 2 || world.told(Told::NothingAgain)
            }),
        ]
    }
}

/// To the test's output, captured or not.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn explore(bounds: Bounds) {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = bounds.checker().threads(threads).spawn_dfs().join();
    say(&format!(
        "{bounds:?}: {} states, {} of them different, depth {}, in {:.1?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed()
    ));
    checker.assert_properties();
}

const SMALL: Bounds = Bounds {
    owners: 2,
    requests: 2,
    troubles: 1,
    assignments: 3,
    snapshots: 0,
    recoveries: 64,
    bug: Bug::None,
};

#[test]
fn every_interleaving_of_a_few_owners_keeps_every_promise() {
    let Ok(text) = std::env::var("ANNALS_MODEL") else {
        explore(SMALL);
        explore(Bounds {
            owners: 3,
            requests: 1,
            ..SMALL
        });
        // One that goes on from a snapshot.
        explore(Bounds {
            snapshots: 1,
            ..SMALL
        });
        return;
    };
    let numbers: Vec<u8> = text
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
        .collect();
    let [owners, requests, troubles, assignments] = numbers[..] else {
        panic!("ANNALS_MODEL is {text:?}; say owners,requests,troubles,assignments, such as 2,2,2,3");
    };
    explore(Bounds {
        owners,
        requests,
        troubles,
        assignments,
        snapshots: 1,
        ..SMALL
    });
}

#[test]
fn each_forgotten_rule_is_found() {
    for bug in Bug::ALL {
        let bounds = Bounds {
            bug,
            troubles: 2,
            snapshots: u8::from(bug == Bug::SnapshotSpeculation),
            // It would find them too, but what is broken on the way says more.
            recoveries: u64::MAX,
            ..SMALL
        };
        let checker = bounds
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let failures: Vec<_> = bounds
            .properties()
            .into_iter()
            .filter(|property| property.expectation != stateright::Expectation::Sometimes)
            .filter_map(|property| Some((property.name, checker.discovery(property.name)?)))
            .collect();
        let Some((broken, path)) = failures.first() else {
            panic!(
                "{bug:?} went unnoticed in {} states",
                checker.unique_state_count()
            );
        };
        let actions = path.clone().into_actions();
        say(&format!(
            "{bug:?}, after {} steps ({} states): {broken}",
            actions.len(),
            checker.unique_state_count()
        ));
    }
}
