//! The disk on which one of two processes keeps what it decides on is full: it gives its partitions up, the other one
//! takes them over, and whoever retries hears what was said before.

use std::{fs::File, io::Write as _, path::Path, sync::Arc};

use e2e::{
    faults::{
        self,
        checker::check,
        clients::{Client, Tenant, World},
        history::{Command, Outcome},
    },
    installation::{Installation, LogKind, Role},
};
use reqwest::Method;
use serde_json::json;
use service::{Position, position::Topic};
use tokio_util::sync::CancellationToken;

use crate::{
    PATIENCE,
    disk::{Mounted, memory},
    fleet::{alone, served, shared},
};

/// So many write at a time: the process keeps some thousand pieces in memory before it gives up.
const CLIENTS: u64 = 32;

/// Of so many pieces one is asked for again.
const RETRIED: usize = 20;

/// A tenant whose commands this process decides.
async fn tenant_of(annals: &Installation, role: Role) -> Tenant {
    let served = served(annals, role).await;
    for number in 0..100 {
        let site = format!("site{number}.example");
        let key = annals.tenant(&format!("tenant {number}"), &site).await.unwrap();
        // Titles say which command it was.
        let body = json!({"site": site, "kind": "post", "title": site});
        let made = annals.command(Method::POST, "/api/v1/content", &key, body);
        let answer = made.await.unwrap();
        let position: Position = answer.position.unwrap().parse().unwrap();
        let mut ledger = position.parts().filter(|(topic, ..)| *topic == Topic::Ledger);
        let (_, partition, _) = ledger.next().unwrap();
        if served.contains(&format!("ledger/{partition}")) {
            return Tenant::new(key, site);
        }
    }
    panic!("{role:?} serves {served:?}, and of a hundred tenants none is there");
}

/// Takes all the room that is left.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("of-somebody-else");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
    path
}

/// Drafts pieces until told to stop: their names.
async fn write(mut client: Client, number: u64, stop: CancellationToken) -> (Client, Vec<String>) {
    let mut pieces = Vec::new();
    while !stop.is_cancelled() {
        let name = format!("piece-{number}-{}", pieces.len());
        ask(&mut client, &name).await;
        pieces.push(name);
    }
    (client, pieces)
}

async fn ask(client: &mut Client, name: &str) {
    let draft = Command::Draft {
        slug: name.to_owned(),
    };
    let outcome = client.insist(name, None, &draft, PATIENCE).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{name}: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_state_disk_is_full_is_replaced_by_the_other() {
    let mut annals = crate::prepared(LogKind::Kafka).await;
    let folder = annals.state_folder(Role::Command);
    std::fs::create_dir_all(&folder).unwrap();
    if !memory(&folder, "size=64m") {
        println!("not run: only root may mount a small file system");
        return crate::finish(annals).await;
    }
    let mounted = Mounted(&folder);
    let both = [Role::Command, Role::AnotherCommand];
    for role in both {
        annals.spawn(role).unwrap();
        annals.ready(role).await.unwrap();
    }
    shared(&annals).await;
    let tenant = tenant_of(&annals, Role::Command).await;
    let writers = both.map(|role| annals.address(&[role])).to_vec();
    let world = Arc::new(World::new(vec![tenant], writers, String::new()));

    let filler = fill(&folder);
    let stop = CancellationToken::new();
    let mut writing = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::new(world.clone(), 0, number).unwrap();
        writing.push(tokio::spawn(write(client, number, stop.clone())));
    }
    alone(&annals, Role::AnotherCommand).await;
    stop.cancel();
    let mut retrying = Vec::new();
    for written in writing {
        let (mut client, pieces) = written.await.unwrap();
        retrying.push(tokio::spawn(async move {
            for name in pieces.iter().step_by(RETRIED) {
                ask(&mut client, name).await;
            }
        }));
    }
    for retried in retrying {
        retried.await.unwrap();
    }
    let said = std::fs::read_to_string(annals.log_file(Role::Command)).unwrap();
    assert!(said.contains("the disk under ANNALS_STATE_DIR fails"), "{said}");

    let ledger = faults::ledger(&annals).await.unwrap();
    let (looked, violations) = check(&world.history.entries(), &ledger);
    assert_eq!(violations, []);
    println!("{looked:?}");
    assert!(
        looked.acknowledged > 1_000 && looked.repeated >= looked.acknowledged / RETRIED,
        "{looked:?}"
    );

    // As it says: see to the disk, then start it anew.
    std::fs::remove_file(filler).unwrap();
    annals.stop_one(Role::Command).await.unwrap();
    annals.spawn(Role::Command).unwrap();
    annals.ready(Role::Command).await.unwrap();
    shared(&annals).await;
    annals.stop().await.unwrap();
    drop(mounted);
    annals.erase().await.unwrap();
}
