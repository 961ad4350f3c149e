//! A log that has stopped for good: nothing but a new start helps, so readiness says down.

use serde_json::json;
use service::health::State;

use crate::world::{World, until};

/// In a process of its own, since the limit that stops the log is one of the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_stopped_for_good_is_down_and_commands_are_answered() {
    let output = tokio::process::Command::new("sh")
        // The signal that a too long file raises must become an error of the write, as on a full disk.
        .args([
            "-c",
            r#"trap "" XFSZ; exec "$0" --exact "$1" --ignored --nocapture"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("stopped::a_process_whose_disk_fills_up")
        .output();
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_log_that_has_stopped_for_good_is_down_and_commands_are_answered"]
async fn a_process_whose_disk_fills_up() {
    let world = World::new().await;
    let (api, tenant) = (&world.process, world.process.tenant().await);
    let limit = format!("--pid={}", std::process::id());
    let limited = tokio::process::Command::new("prlimit")
        .args([&limit, "--fsize=3000000"])
        .status();
    assert!(limited.await.unwrap().success());
    let filler: String = (0..10_000).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let mut kept = 0;
    let refused = loop {
        let body =
            json!({"site": tenant.domain, "kind": "post", "title": format!("Long {kept}"), "body": filler});
        let answer = api.post("/api/v1/content", &tenant.key, &body).send().await;
        if answer.status != 201 {
            break answer;
        }
        kept += 1;
        assert!(kept < 100, "the limit did nothing");
    };
    refused.problem(503, "not-served");
    let readiness = until("the log is down", async || {
        Some(api.health.readiness()).filter(|it| it.checks["log"].state == State::Down)
    })
    .await;
    assert_eq!(readiness.state, State::Down);
    let detail = readiness.checks["log"].detail.clone().unwrap();
    assert!(detail.contains("start it anew"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_that_does_not_answer_is_told() {
    let world = World::new().await;
    let check = || world.process.health.readiness().checks.get("key store").cloned();
    until("the key store is well", async || {
        check().filter(|check| check.state == State::Ok)
    })
    .await;
    world.close_keys().await;
    until("the key store is away", async || {
        check().filter(|check| check.state == State::Degraded)
    })
    .await;
}
