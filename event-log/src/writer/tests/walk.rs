//! Long random walks through a world without bounds: what a small world is too small for, such as many appends in
//! flight, late records of epochs long gone, snapshots of snapshots. The promises are those of [`super::model`].

use proptest::prelude::*;

use super::{
    bug::Bug,
    world::{Told, World},
};

/// Goes where the choices lead: of each, the lower bits say what kind of thing happens, the others which.
fn walk(bug: Bug, choices: &[u16]) -> World {
    let mut world = World::new(3, bug);
    let mut actions = Vec::new();
    for choice in choices {
        actions.clear();
        match choice % 64 {
            0..48 => world.work(&mut actions),
            48..54 => world.requests(&mut actions),
            54..57 => world.drifts(&mut actions),
            57..60 => world.assignments(&mut actions),
            60 => world.snapshots(&mut actions),
            _ => world.troubles(&mut actions),
        }
        if actions.is_empty() {
            world.requests(&mut actions);
        }
        if actions.is_empty() {
            world.assignments(&mut actions);
        }
        if let Some(last) = actions.len().checked_sub(1) {
            world.act(actions[usize::from(choice >> 6) % (last + 1)]);
        }
        if world.broken.is_some() {
            return world;
        }
    }
    world
}

fn keeps_every_promise(world: &World) -> bool {
    world.broken.is_none() && world.recovers(true) && world.recovers(false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn long_walks_keep_every_promise(choices in prop::collection::vec(any::<u16>(), 0..800)) {
        let world = walk(Bug::None, &choices);
        prop_assert!(keeps_every_promise(&world), "{world:#?}");
    }
}

/// Choices from a small generator, so that these tests walk the same ways on every run.
fn choices(seed: u64) -> Vec<u16> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u16
    };
    (0..800).map(|_| next()).collect()
}

#[test]
fn walks_notice_each_forgotten_rule() {
    for bug in Bug::ALL {
        let found = (0..500).find(|seed| walk(bug, &choices(*seed)).broken.is_some());
        assert!(found.is_some(), "{bug:?} went unnoticed");
    }
}

#[test]
fn walks_go_far() {
    let worlds: Vec<_> = (0..50).map(|seed| walk(Bug::None, &choices(seed))).collect();
    let acknowledged: usize = worlds.iter().map(World::acknowledged).sum();
    assert!(acknowledged > 200, "{acknowledged} acknowledged");
    let many = |what: &str, holds: &dyn Fn(&World) -> bool| {
        let count = worlds.iter().filter(|world| holds(world)).count();
        assert!(count > 10, "only {count} of 50 have {what}");
    };
    many("three writers of one history", &|world| world.authors() > 2);
    many("void commits", &World::has_void_commits);
    many("commands that were not done", &|world| world.told(Told::NotDone));
}
