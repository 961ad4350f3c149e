//! The disk under the embedded log is full: nothing is acknowledged that is not there, it says what to do, and goes on
//! when that is done.

use std::path::Path;

use e2e::installation::{Answer, Installation, LogKind, Role};
use reqwest::{Method, StatusCode};
use serde_json::json;

const SITE: &str = "full.example";

/// A file system in memory, of this size from now on. Says whether this machine lets us.
pub(crate) fn memory(folder: &Path, options: &str) -> bool {
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "annals-full-disk"])
        .arg(folder)
        .status();
    mounted.is_ok_and(|status| status.success())
}

/// Unmounts it also when the test fails.
pub(crate) struct Mounted<'a>(pub(crate) &'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.0)
            .status();
    }
}

async fn draft(annals: &Installation, key: &str, number: usize) -> anyhow::Result<Answer> {
    // What does not get smaller.
    let text: String = (0..12_000)
        .map(|_| uuid::Uuid::new_v4().simple().to_string())
        .collect();
    let body = json!({
        "site": SITE, "kind": "post", "title": "A piece", "slug": format!("piece-{number}"), "body": text,
    });
    annals.command(Method::POST, "/api/v1/content", key, body).await
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mut annals = crate::prepared(LogKind::Embedded).await;
    let folder = annals.log_folder();
    std::fs::create_dir_all(&folder).unwrap();
    if !memory(&folder, "size=24m") {
        println!("not run: only root may mount a small file system");
        return crate::finish(annals).await;
    }
    let mounted = Mounted(&folder);
    annals.start().await.unwrap();
    let key = annals.tenant("full", SITE).await.unwrap();
    let mut acknowledged = Vec::new();
    let mut refused = None;
    for number in 0..100 {
        let answer = draft(&annals, &key, number).await.unwrap();
        match answer.status {
            StatusCode::CREATED => acknowledged.push(number),
            StatusCode::SERVICE_UNAVAILABLE => {
                refused = Some(number);
                break;
            }
            other => panic!("{other}: {answer:?}"),
        }
    }
    let refused = refused.expect("24 MB hold no 40 MB");
    assert!(!acknowledged.is_empty());
    assert!(
        !annals.is_ready(Role::All).await,
        "it takes nothing, and says that it is well"
    );
    // The one who writes meets it, or whoever writes what lay in memory does.
    let said = annals.said(Role::All);
    assert!(
        said.contains("full disk") || said.contains("disk is full"),
        "{said}"
    );
    assert!(memory(&folder, "remount,size=200m"));
    // What the disk holds after a write that failed nobody knows before it is read anew.
    annals.kill(Role::All).await.unwrap();
    annals.start().await.unwrap();
    for number in acknowledged {
        let answer = draft(&annals, &key, number).await.unwrap();
        assert_eq!(answer.status, StatusCode::CONFLICT, "{number}: {answer:?}");
    }
    // Nobody said what became of it: it is there, or it is not, and its slug with it.
    let answer = draft(&annals, &key, refused).await.unwrap();
    assert!(
        matches!(answer.status, StatusCode::CREATED | StatusCode::CONFLICT),
        "{answer:?}"
    );
    for arguments in [&["log", "verify"][..], &["verify"]] {
        let output = annals
            .annals(annals.operator_key(), arguments)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    annals.stop().await.unwrap();
    drop(mounted);
    annals.erase().await.unwrap();
}
