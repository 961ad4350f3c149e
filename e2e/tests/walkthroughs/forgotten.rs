//! A process that has forgotten Idempotency-Keys when it takes over does again what was done, and the checker of
//! histories sees it: so it would see it, too, if Annals ever did that.

use std::{path::Path, sync::Arc};

use command_api::partition::{idempotency::Kept, row::Key, state::fold};
use e2e::{
    faults::{
        self,
        checker::check,
        clients::{Client, Tenant, World},
        history::{Command, Outcome},
    },
    installation::{Installation, LogKind, Role},
};
use event_log::{Log, StateStores, Topic};

use crate::PATIENCE;

const SITE: &str = "retries.example";

/// What the state has that the next owner takes over with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    All,
    None,
}

/// Takes what is remembered of keys out of the state that a process has left in a folder.
fn forget(folder: &Path, log: &Log) {
    let stores = StateStores::open(Some(folder)).unwrap();
    let commands = &Key::Command([0; 16]).bytes()[..1];
    let mut forgotten = 0;
    for partition in log.all(Topic::Ledger) {
        let store = stores.store(log.id(), partition, &fold(Kept::hours(24))).unwrap();
        let Some(standing) = store.standing().unwrap() else {
            continue;
        };
        let rows = store.prefix(commands).chain(store.prefix(&Key::EXPIRIES));
        let rows: Vec<_> = rows.map(|row| (row.unwrap().0, None)).collect();
        forgotten += rows.len();
        store.write(rows.into_iter(), standing).unwrap();
    }
    assert!(forgotten > 0, "{} holds no keys", folder.display());
}

fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

/// Commands with keys are done by one process and asked for again of the next, which begins with the state of the
/// first: what the checker makes of that.
async fn found_after_a_takeover(keys: Keys) -> Vec<&'static str> {
    let mut annals = crate::prepared(LogKind::Kafka).await;
    for role in [Role::Command, Role::AnotherCommand] {
        annals.spawn(role).unwrap();
        annals.ready(role).await.unwrap();
    }
    let tenant = Tenant::new(annals.tenant("retries", SITE).await.unwrap(), SITE.to_owned());
    annals.stop_one(Role::Command).await.unwrap();
    let writers = [Role::Command, Role::AnotherCommand].map(|role| annals.address(&[role]));
    let world = Arc::new(World::new(vec![tenant], writers.to_vec(), String::new()));
    let mut client = Client::new(world.clone(), 0, 7).unwrap();

    let draft = Command::Draft {
        slug: "once".to_owned(),
    };
    let drafted = client.insist("first", None, &draft, PATIENCE).await.unwrap();
    let Outcome::Done(drafted) = drafted else {
        panic!("{drafted:?}")
    };
    let retitle = || (Some(drafted.piece), Command::Retitle { version: None });
    let commands = [
        ("first", (None, draft)),
        ("second", retitle()),
        ("third", retitle()),
    ];
    for (mark, (piece, command)) in &commands {
        client.insist(mark, *piece, command, PATIENCE).await.unwrap();
    }

    annals.stop_one(Role::AnotherCommand).await.unwrap();
    let next = annals.state_folder(Role::Command);
    copy(&annals.state_folder(Role::AnotherCommand), &next);
    if keys == Keys::None {
        let log = annals.open_log().await.unwrap();
        forget(&next, &log);
        log.close().await;
    }
    annals.spawn(Role::Command).unwrap();
    annals.ready(Role::Command).await.unwrap();
    for (mark, (piece, command)) in &commands {
        client.insist(mark, *piece, command, PATIENCE).await.unwrap();
    }

    let found = judged(&annals, &world).await;
    crate::finish(annals).await;
    found
}

async fn judged(annals: &Installation, world: &World) -> Vec<&'static str> {
    let ledger = faults::ledger(annals).await.unwrap();
    let (looked, violations) = check(&world.history.entries(), &ledger);
    assert_eq!(looked.acknowledged, 3, "{looked:?}");
    violations.iter().map(|violation| violation.what).collect()
}

#[tokio::test]
async fn the_next_owner_gives_a_retry_the_first_answer() {
    assert_eq!(found_after_a_takeover(Keys::All).await, [""; 0]);
}

#[tokio::test]
async fn a_takeover_that_forgets_keys_is_found_by_the_checker() {
    let found = found_after_a_takeover(Keys::None).await;
    for what in ["a command took effect twice", "a retry was answered otherwise"] {
        assert!(found.contains(&what), "{found:?}");
    }
}
