//! A person is erased: the name is in no file of any store, before and after, and what was sealed opens no more.

use std::path::{Path, PathBuf};

use e2e::{
    installation::{Installation, LogKind, Role},
    wait,
};
use memchr::memmem::Finder;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection, Row};

/// As nobody else is called.
const NAME: &str = "Zenobia Quillfeather-Oyelaran";
/// What is no secret, to see that the search finds what is there: a slug, and in the site's domain.
const SLUG: &str = "quite-unmistakable";
const DOMAIN: &str = "quite-unmistakable.example";

/// Every file below a folder that holds this text. Files may come and go meanwhile.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let finder = Finder::new(text);
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let bytes = std::fs::read(entry.path()).unwrap_or_default();
                    if finder.find(&bytes).is_some() {
                        found.push(entry.path());
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    found
}

async fn live(database: &mut PgConnection) -> i32 {
    sqlx::query("SELECT generation FROM annals.live WHERE projection = 'directory'")
        .fetch_one(database)
        .await
        .unwrap()
        .get("generation")
}

async fn sealed_name(database: &mut PgConnection, principal: &str) -> Option<serde_json::Value> {
    let live = live(database).await;
    let select = format!("SELECT name FROM directory_{live}.principals WHERE principal = '{principal}'");
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .fetch_one(database)
        .await
        .unwrap();
    row.get("name")
}

async fn erase(annals: &Installation, key: &str, principal: &str) {
    let output = annals
        .annals(key, &["erase", principal, "--yes"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn an_erased_person_is_nowhere_and_stays_erased() {
    let mut annals = crate::prepared(LogKind::Embedded).await;
    let snapshots = tempfile::tempdir().unwrap();
    annals.set(
        "ANNALS_SNAPSHOTS",
        &format!("file://{}", snapshots.path().display()),
    );
    annals.set("ANNALS_SNAPSHOT_COMMITS", "1");
    annals.start().await.unwrap();
    crate::answering(&annals).await;
    let key = annals.tenant("forgetful", DOMAIN).await.unwrap();
    let mut principals = Vec::new();
    for name in [NAME, "Somebody Else"] {
        let operator = annals.operator_key().to_owned();
        let body = json!({"tenant": "forgetful", "scopes": ["read"], "name": name});
        let issued = annals
            .command(reqwest::Method::POST, "/api/v1/keys", &operator, body)
            .await
            .unwrap();
        assert_eq!(issued.status, 201, "{issued:?}");
        principals.push(issued.body["principal"].as_str().unwrap().to_owned());
        // The directory's tables have it.
        let read = annals
            .query("/api/v1/sites", &key, issued.position.as_deref())
            .await
            .unwrap();
        assert_eq!(read.status, 200, "{read:?}");
    }
    let draft = json!({"site": DOMAIN, "kind": "post", "title": "a title", "slug": SLUG});
    let drafted = annals
        .command(reqwest::Method::POST, "/api/v1/content", &key, draft)
        .await
        .unwrap();
    assert_eq!(drafted.status, 201, "{drafted:?}");
    let hit = json!({"name": "pageview", "url": format!("https://{DOMAIN}/"), "domain": DOMAIN});
    let visit = annals
        .command(reqwest::Method::POST, "/api/v1/visits", &key, json!([hit]))
        .await
        .unwrap();
    assert_eq!(visit.status, 202, "{visit:?}");
    let query = json!({"site_id": DOMAIN, "metrics": ["pageviews"], "date_range": "all"});
    let counted = annals
        .stats(&key, query, visit.position.as_deref())
        .await
        .unwrap();
    assert_eq!(counted.status, 200, "{counted:?}");

    let mut database = PgConnection::connect(&annals.database()).await.unwrap();
    let mut keys = PgConnection::connect(&annals.keys_database()).await.unwrap();
    let [zenobia, other] = [&principals[0], &principals[1]];
    assert!(sealed_name(&mut database, zenobia).await.is_some());
    let select = format!("SELECT wrapped FROM keystore.subject_keys WHERE subject = '{zenobia}'");
    let wrapped = async |database: &mut PgConnection| -> Option<Vec<u8>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(select.clone()))
            .fetch_one(database)
            .await
            .unwrap();
        row.get("wrapped")
    };
    let backup = wrapped(&mut keys).await.unwrap();

    erase(&annals, &key, zenobia).await;
    erase(&annals, &key, zenobia).await;
    assert_eq!(wrapped(&mut keys).await, None);
    wait::until("the table's name is blank", crate::PATIENCE, async || {
        sealed_name(&mut database, zenobia).await.is_none().then_some(())
    })
    .await
    .unwrap();
    assert!(sealed_name(&mut database, other).await.is_some());
    // From the log, too, there come no tables with it.
    let generation_before = live(&mut database).await;
    for operation in [&["rebuild", "directory"][..], &["verify"]] {
        let done = annals
            .annals(annals.operator_key(), operation)
            .output()
            .await
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    assert_eq!(live(&mut database).await, generation_before + 1);
    assert!(sealed_name(&mut database, zenobia).await.is_none());
    assert!(sealed_name(&mut database, other).await.is_some());

    // A key store from before the erasure, and a start.
    annals.stop().await.unwrap();
    let restore = format!(
        "UPDATE keystore.subject_keys SET wrapped = $1, destroyed_at = NULL WHERE subject = '{zenobia}'"
    );
    sqlx::query(sqlx::AssertSqlSafe(restore))
        .bind(&backup)
        .execute(&mut keys)
        .await
        .unwrap();
    annals.start().await.unwrap();
    wait::until("the key is destroyed again", crate::PATIENCE, async || {
        wrapped(&mut keys).await.is_none().then_some(())
    })
    .await
    .unwrap();

    // Whatever the stores keep beside their tables, such as write-ahead logs, is in their folders as well.
    database.execute("CHECKPOINT").await.unwrap();
    let folder: String = sqlx::query("SHOW data_directory")
        .fetch_one(&mut database)
        .await
        .unwrap()
        .get(0);
    let clickhouse = std::env::var("ANNALS_TEST_CLICKHOUSE_FOLDER").unwrap();
    drop((database, keys));
    annals.stop().await.unwrap();
    for folder in [
        PathBuf::from(folder),
        annals.log_folder(),
        PathBuf::from(clickhouse),
        snapshots.path().to_owned(),
        annals.state_folder(Role::All),
    ] {
        assert!(
            !holding(&folder, SLUG).is_empty(),
            "the search finds nothing in {}",
            folder.display()
        );
        assert_eq!(holding(&folder, NAME), Vec::<PathBuf>::new());
    }
    let said = std::fs::read_to_string(annals.log_file(Role::All)).unwrap();
    assert!(!said.contains(NAME), "a process has said it");
    annals.erase().await.unwrap();
}
