//! Who may see what.

use std::time::{Duration, Instant};

use service::key::Key;
use uuid::Uuid;

use crate::stage::{OPERATOR, Stage, by_slug, post};

#[tokio::test]
async fn a_tenant_sees_its_own_only() {
    let mut stage = Stage::start().await;
    let (ours, theirs) = (stage.tenant("ours").await, stage.tenant("theirs").await);
    let piece = post(&theirs, "secret");
    let id = piece.content;
    stage.draft(piece).await;
    stage.with_visits().await;
    let sites = stage.read("/api/v1/sites", Some(&ours.key)).await.ok();
    assert_eq!(sites["total"], 1);
    assert_eq!(sites["items"][0]["domain"], "ours.example");
    for path in [
        format!("/api/v1/content/{id}"),
        format!("/api/v1/content/{id}/history"),
        format!("/api/v1/content/{id}/history?version=1"),
        format!("/api/v1/content?site={}", theirs.domain),
        by_slug(&theirs, "secret"),
        by_slug(&theirs, "nothing"),
        format!("/api/v1/downloads/{id}"),
        format!("/api/v1/stats/realtime?site={}", theirs.domain),
        format!("/api/v1/reports/content?site={}", theirs.domain),
    ] {
        stage.read(&path, Some(&ours.key)).await.problem(404, "not-found");
        // Also from memory, when the owner has just read it.
        stage.read(&path, Some(&theirs.key)).await;
        stage.get(&path, Some(&ours.key)).await.problem(404, "not-found");
    }
    let question =
        serde_json::json!({"site_id": theirs.domain, "metrics": ["visitors"], "date_range": "all"});
    stage
        .post("/api/v2/query", &ours.key, &question)
        .await
        .problem(404, "not-found");
    assert_eq!(
        stage.read("/api/v1/content", Some(&ours.key)).await.ok()["total"],
        0
    );
    assert_eq!(
        stage.read("/api/v1/downloads", Some(&ours.key)).await.ok()["total"],
        0
    );
    stage.end().await;
}

#[tokio::test]
async fn no_key_a_wrong_one_and_a_weak_one_are_told_apart() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let writer = stage.key(tenant.id, &["content:write"]).await;
    let admin = stage.key(tenant.id, &["admin"]).await;
    let operator = stage.key(Uuid::nil(), &["operator"]).await;
    let other_secret = {
        // The id of one key with the secret of another: the checksum covers both, so it must be made anew.
        let key: Key = tenant.key.parse().unwrap();
        let mut text = format!("ann_{}_{}", key.id(), "0".repeat(38));
        while text.parse::<Key>().is_err() {
            let random: String = Uuid::new_v4().simple().to_string();
            text = format!("ann_{}_{random}{}", key.id(), checksum(key.id(), &random));
        }
        text
    };
    for path in [
        "/api/v1/sites",
        "/api/v1/downloads",
        "/api/v1/downloads/queue",
        "/api/v1/projections",
    ] {
        let answer = stage.get(path, None).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        for wrong in [
            "nonsense",
            "ann_aaaaaaaa_b",
            &tenant.key[..tenant.key.len() - 1],
            &other_secret,
        ] {
            stage.get(path, Some(wrong)).await.problem(401, "unauthorized");
        }
        stage.read(path, Some(&writer)).await.problem(403, "forbidden");
    }
    stage.read("/api/v1/sites", Some(&tenant.key)).await.ok();
    stage.read("/api/v1/sites", Some(&admin)).await.ok();
    stage
        .read("/api/v1/sites", Some(&operator))
        .await
        .problem(403, "forbidden");
    stage
        .read("/api/v1/sites", Some(OPERATOR))
        .await
        .problem(403, "forbidden");
    stage
        .read("/api/v1/projections", Some(&admin))
        .await
        .problem(403, "forbidden");
    let projections = stage.read("/api/v1/projections", Some(&operator)).await.ok();
    assert_eq!(projections["items"].as_array().unwrap().len(), 3, "{projections}");
    let status = stage.read("/api/v1/projections", Some(OPERATOR)).await.ok();
    let directory = status["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["projection"] == "directory")
        .unwrap();
    assert_eq!(directory["state"], "live");
    assert_eq!(directory["partitions"][0]["lag_events"], 0);
    assert!(directory["partitions"][0]["position"].as_i64().unwrap() > 0);
    stage.end().await;
}

/// What a projector wrote last is not what is so now.
#[tokio::test]
async fn a_projector_that_is_silent_lags() {
    let stage = Stage::start().await;
    stage
        .sql("UPDATE annals.checkpoints SET updated_at = now() - interval '42 seconds' WHERE projection = 'content'")
        .await;
    let status = stage.get("/api/v1/projections", Some(OPERATOR)).await.ok();
    for projection in status["items"].as_array().unwrap() {
        let partition = &projection["partitions"][0];
        let seconds = |field: &str| partition[field].as_f64().unwrap();
        assert_eq!(partition["lag_events"], 0);
        if projection["projection"] == "content" {
            assert!(seconds("silent_seconds") >= 42.0, "{partition}");
            assert!(seconds("lag_seconds") >= 42.0, "{partition}");
        } else {
            assert!(seconds("silent_seconds") < 42.0, "{partition}");
        }
    }
    stage.end().await;
}

/// As `service::key` makes it.
fn checksum(id: &str, random: &str) -> String {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = u32::MAX;
    for byte in format!("{id}_{random}").bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    let mut rest = !crc as usize;
    let mut digits = [0_u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % 62];
        rest /= 62;
    }
    String::from_utf8(digits.to_vec()).unwrap()
}

#[tokio::test]
async fn a_revoked_key_does_nothing_within_a_second() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    stage.read("/api/v1/sites", Some(&tenant.key)).await.ok();
    stage.revoke(tenant.id, &tenant.key).await;
    let revoked = Instant::now();
    stage
        .until("the key stops", async |stage| {
            stage.get("/api/v1/sites", Some(&tenant.key)).await.status == 401
        })
        .await;
    assert!(
        revoked.elapsed() < Duration::from_secs(1),
        "{:?}",
        revoked.elapsed()
    );
    // With the position of the revocation, at once.
    stage
        .read("/api/v1/sites", Some(&tenant.key))
        .await
        .problem(401, "unauthorized");
    stage.end().await;
}

#[tokio::test]
async fn a_key_made_just_now_is_waited_for() {
    let mut stage = Stage::start().await;
    let tenant = stage.tenant("a").await;
    let key = Key::make();
    let (request, text) = (
        stage.request(reqwest::Method::GET, "/api/v1/sites"),
        key.reveal().to_owned(),
    );
    let early = tokio::spawn(request.bearer_auth(text).send());
    stage.issue(tenant.id, &key, &["read"]).await;
    assert_eq!(early.await.unwrap().unwrap().status(), 200);
    // One that nobody made is refused after a short while.
    let began = Instant::now();
    stage
        .get("/api/v1/sites", Some(Key::make().reveal()))
        .await
        .problem(401, "unauthorized");
    assert!(began.elapsed() < Duration::from_secs(2));
    stage.end().await;
}

#[tokio::test]
async fn a_key_is_not_called_unknown_by_who_has_not_read_the_directory() {
    let stage = Stage::unfilled().await;
    let request = async |stage: &Stage| stage.get("/api/v1/sites", Some(Key::make().reveal())).await;
    request(&stage).await.problem(503, "starting");
    // It was at the end once, and nobody knows whether it still is.
    stage
        .sql("UPDATE annals.checkpoints SET filled = true WHERE projection = 'directory'; NOTIFY annals_live")
        .await;
    stage
        .until("the directory answers", async |stage| {
            !request(stage).await.text.contains("/problems/starting")
        })
        .await;
    let answer = stage.get("/api/v1/sites", Some(Key::make().reveal())).await;
    answer.problem(503, "projection-behind");
    assert_eq!(answer.header("retry-after"), "1");
    stage.end().await;
}

/// A revocation may be among what the directory's tables lack while nobody fills them.
#[tokio::test]
async fn keys_do_not_count_while_nobody_hears_of_revocations() {
    let mut stage = Stage::doubting_after(3).await;
    let tenant = stage.tenant("a").await;
    stage.draft(post(&tenant, "seen")).await;
    let status = async |stage: &Stage| stage.get("/api/v1/sites", Some(&tenant.key)).await.status;
    stage.directory_is_complete().await;
    stage
        .until("the key counts", async |stage| status(stage).await == 200)
        .await;
    stage
        .until("the key is doubted", async |stage| status(stage).await == 503)
        .await;
    let answer = stage.get("/api/v1/sites", Some(&tenant.key)).await;
    answer.problem(503, "projection-behind");
    assert_eq!(answer.header("retry-after"), "5");
    // A wrong key is wrong all the same, the first operator needs no directory, and readers need no key.
    let operator = stage.get("/api/v1/projections", Some(OPERATOR)).await;
    assert_eq!(operator.status, 200, "{}", operator.text);
    stage.get(&by_slug(&tenant, "seen"), None).await.ok();
    // Who asks whether all is well hears of it.
    let keys = async |stage: &Stage| stage.get("/readyz", None).await.json()["checks"]["keys"].clone();
    stage
        .until("readiness says so", async |stage| {
            keys(stage).await["state"] == "degraded"
        })
        .await;
    let why = keys(&stage).await["detail"].to_string();
    assert!(why.contains("more than 3 s"), "{why}");
    stage.directory_is_complete().await;
    stage
        .until("the key counts again", async |stage| status(stage).await == 200)
        .await;
    stage
        .until("readiness says so, too", async |stage| {
            keys(stage).await["state"] == "ok"
        })
        .await;
    stage.end().await;
}
