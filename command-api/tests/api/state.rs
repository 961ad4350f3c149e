//! The state that decisions are taken on, kept on the disk: it shortens a start, and never tells another story than
//! the log.

use std::{fs, io, path::Path};

use reqwest::Method;
use serde_json::json;
use service::health::State;

use crate::world::{OPERATOR, Process, Tenant, World};

pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

pub(crate) fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy(from, to).unwrap();
}

async fn revise(api: &Process, tenant: &Tenant, id: &str, title: &str) -> crate::world::Answer {
    let path = format!("/api/v1/content/{id}");
    let call = api.call(Method::PATCH, &path).key(&tenant.key);
    call.json(&json!({"title": title})).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_behind_of_another_log_or_lost_is_made_good_from_the_log() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let id = world.process.draft(&tenant, "Old").await;
    let other = World::new().await;
    other.process.tenant().await;
    let other = other.restart().await;
    let foreign = other.dir().join("state");
    let old = tempfile::TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| copy(&dir.join("state"), old.path()).unwrap())
        .await;
    let third = revise(&world.process, &tenant, &id, "New").await.expect(200);
    assert_eq!(third.header("etag"), "\"2\"");
    let others = other.process;
    others.stop().await;

    // Behind, as after a crash of the machine; of another log; gone.
    let mut world = world;
    for (version, meanwhile) in (3..).zip([Some(old.path()), Some(foreign.as_path()), None]) {
        world = world
            .restart_after(|dir| match meanwhile {
                Some(from) => replace(from, &dir.join("state")),
                None => fs::remove_dir_all(dir.join("state")).unwrap(),
            })
            .await;
        let body = json!({"site": tenant.domain, "kind": "post", "title": "Other", "slug": "old"});
        let taken = world
            .process
            .post("/api/v1/content", &tenant.key, &body)
            .send()
            .await;
        taken.problem(409, "slug-taken");
        let revised = revise(&world.process, &tenant, &id, &format!("Version {version}")).await;
        assert_eq!(revised.expect(200).header("etag"), format!("\"{version}\""));
    }
}

fn says_what_is_lost(world: &World, check: &str) {
    let readiness = world.process.health.readiness();
    let lost = readiness
        .checks
        .iter()
        .find(|(name, found)| name.starts_with(check) && found.state == State::Down);
    let detail = lost.and_then(|(_, check)| check.detail.clone()).unwrap();
    assert!(
        detail.contains("ANNALS_STATE_DIR") && detail.contains("has no offset"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_has_lost_admitted_commits_is_not_written_to() {
    let world = World::new().await;
    world.process.tenant().await;
    let earlier = tempfile::TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| copy(&dir.join("log"), earlier.path()).unwrap())
        .await;
    world.process.tenant().await;
    let world = world
        .restart_after(|dir| replace(earlier.path(), &dir.join("log")))
        .await;
    let name = json!({"name": "on top"});
    let refused = world
        .process
        .post("/api/v1/tenants", OPERATOR, &name)
        .send()
        .await;
    refused.problem(503, "not-served");
    says_what_is_lost(&world, "commands directory/");

    let world = world
        .restart_after(|dir| fs::remove_dir_all(dir.join("state")).unwrap())
        .await;
    world.process.tenant().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_lost_admitted_commits_is_not_written_to() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let id = world.process.draft(&tenant, "Kept").await;
    let earlier = tempfile::TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| copy(&dir.join("log"), earlier.path()).unwrap())
        .await;
    for title in ["Lost", "Lost too", "And this"] {
        revise(&world.process, &tenant, &id, title).await.expect(200);
    }
    let world = world
        .restart_after(|dir| replace(earlier.path(), &dir.join("log")))
        .await;
    revise(&world.process, &tenant, &id, "On top")
        .await
        .problem(503, "not-served");
    says_what_is_lost(&world, "commands ledger/");

    let world = world
        .restart_after(|dir| fs::remove_dir_all(dir.join("state")).unwrap())
        .await;
    let accepted = revise(&world.process, &tenant, &id, "On purpose")
        .await
        .expect(200);
    assert_eq!(accepted.header("etag"), "\"2\"");
}
