//! A new user's first commands: a tenant, a key, a site, an import that is interrupted, and the end of the key.

use e2e::{installation::LogKind, wait};

use crate::sample::{self, SITE, run};

#[tokio::test]
async fn a_tenant_begins_by_the_command_line() {
    let annals = crate::running(LogKind::Embedded).await;
    let operator = annals.operator_key().to_owned();
    let (code, said) = run(&annals, &operator, &["tenants", "create", "beginner"]).await;
    assert_eq!(code, Some(0), "{said}");
    let create = [
        "keys",
        "create",
        "--tenant",
        "beginner",
        "--scopes",
        "content:write,read,admin",
        "--quiet",
    ];
    let made = annals.annals(&operator, &create).output().await.unwrap();
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(made.status.success() && key.starts_with("ann_"), "{key}");
    let (code, said) = run(&annals, &key, &["sites", "create", SITE]).await;
    assert_eq!(code, Some(0), "{said}");

    // Interrupted as people do it: what is on its way ends, and the same command goes on.
    let posts = sample::posts();
    let import = [
        "import",
        "posts",
        posts.to_str().unwrap(),
        "--site",
        SITE,
        "--at-once",
        "1",
    ];
    let mut importing = annals.annals(&key, &import);
    importing
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let importing = importing.spawn().unwrap();
    let list = format!("/api/v1/content?site={SITE}&size=1");
    wait::until("the first posts", crate::PATIENCE, async || {
        let answer = annals.query(&list, &key, None).await.ok()?;
        answer.body["total"].as_u64().filter(|total| *total >= 3)
    })
    .await
    .unwrap();
    let pid = importing.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    let ended = importing.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(
        said.contains("finishing what is on its way") && said.contains("interrupted, run it again to go on"),
        "{said}"
    );
    let (code, said) = run(&annals, &key, &import).await;
    assert_eq!(code, Some(0), "{said}");
    sample::posts_shown(&annals, &key, SITE, sample::POSTS).await;

    // A revoked key does nothing, here and there.
    let (code, said) = run(&annals, &operator, &["keys", "revoke", &key]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(&key), "a secret is on the screen: {said}");
    let (code, said) = run(&annals, &key, &["sites", "create", "another.example"]).await;
    assert!(code != Some(0) && said.contains("key"), "{said}");
    wait::until("the query side to know", crate::PATIENCE, async || {
        let answer = annals.query("/api/v1/sites", &key, None).await.ok()?;
        (answer.status == 401).then_some(())
    })
    .await
    .unwrap();
    crate::finish(annals).await;
}
