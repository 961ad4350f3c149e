//! Proof: the tables are what the log says, an operator can ask at any time, and a changed row is named.

use e2e::{
    engines::Engines,
    installation::{Installation, LogKind},
};
use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _};

use crate::sample::{self, SITE, run};

#[tokio::test]
async fn the_tables_are_what_the_log_says_on_the_embedded_log() {
    the_tables_are_what_the_log_says(LogKind::Embedded).await;
}

#[tokio::test]
async fn the_tables_are_what_the_log_says_on_kafka() {
    the_tables_are_what_the_log_says(LogKind::Kafka).await;
}

async fn the_tables_are_what_the_log_says(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let (posts, access_log) = (sample::posts(), sample::log_file());
    for import in [
        ["posts", posts.to_str().unwrap()],
        ["access-log", access_log.to_str().unwrap()],
    ] {
        let (code, text) = run(&annals, &key, &["import", import[0], import[1], "--site", SITE]).await;
        assert_eq!(code, Some(0), "{text}");
    }
    sample::posts_shown(&annals, &key, SITE, sample::POSTS).await;

    let operator = annals.operator_key();
    let (code, text) = run(&annals, operator, &["verify"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches(": equal, ").count(), 5, "{text}");
    let (code, text) = run(&annals, operator, &["verify", "visits", "--sample", "7"]).await;
    assert_eq!(code, Some(0), "{text}");

    exported(&annals, &key).await;
    rebuilt(&annals, &key).await;
    damage(&annals).await;
    let (code, text) = run(&annals, operator, &["verify"]).await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("content generation 2: 1 DIFFERENCES"), "{text}");
    assert!(text.contains(r#"the store says   {"title":"by hand"}"#), "{text}");
    assert!(text.contains("visits.events 0/"), "{text}");
    assert!(text.contains("directory generation 1: equal"), "{text}");

    refused(&annals, &key).await;
    crate::finish(annals).await;
}

/// Views of both stores as files, whole or not there.
async fn exported(annals: &Installation, key: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let export = async |view: &str, name: &str, key: &str| {
        let path = file(name);
        run(annals, key, &["export", view, "--out", path.to_str().unwrap()]).await
    };
    for view in ["content_redirects", "events"] {
        let name = format!("{view}.parquet");
        let (code, text) = export(view, &name, key).await;
        assert_eq!(code, Some(0), "{text}");
        let parquet = std::fs::read(file(&name)).unwrap();
        let whole = parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1");
        assert!(whole, "{view}: {} bytes", parquet.len());
    }
    let (code, text) = export("content_versions", "versions.csv", key).await;
    assert_eq!(code, Some(0), "{text}");
    let versions = std::fs::read_to_string(file("versions.csv")).unwrap();
    assert!(versions.starts_with("tenant,content,version,"), "{versions}");
    assert!(versions.lines().count() > sample::POSTS as usize, "{versions}");
    for (view, name, key, why) in [
        ("nothing", "nothing.csv", key, "there is no view \"nothing\""),
        ("events", "events.csv", "ann_nobody_at_all", "401"),
        ("events", "events.xls", key, "--format"),
    ] {
        let (code, text) = export(view, name, key).await;
        assert!(code != Some(0) && text.contains(why), "{view} as {name}: {text}");
    }
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["content_redirects.parquet", "events.parquet", "versions.csv"]
    );
}

/// Tables of both stores built anew while the others answer, and the way back for one.
async fn rebuilt(annals: &Installation, key: &str) {
    let operator = annals.operator_key();
    let before = sample::answers(annals, key, SITE).await;
    for projection in ["content", "visits"] {
        let (code, text) = run(annals, operator, &["rebuild", projection]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(&format!("{projection} generation 2 answers")),
            "{text}"
        );
    }
    let after = sample::answers(annals, key, SITE).await;
    assert_eq!(before, after);
    let (_, text) = run(annals, operator, &["generations", "list", "content"]).await;
    assert!(text.contains("kept") && text.contains("live"), "{text}");
    let (code, text) = run(annals, operator, &["rollback", "visits"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(before, sample::answers(annals, key, SITE).await);
    let (code, text) = run(annals, operator, &["generations", "drop", "visits", "2"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(annals, operator, &["rollback", "visits"]).await;
    assert!(
        code != Some(0) && text.contains("no earlier generation"),
        "{text}"
    );
    let (code, text) = run(annals, operator, &["rebuild", "downloads", "--cancel"]).await;
    assert!(
        code != Some(0) && text.contains("no generation of downloads is being built"),
        "{text}"
    );
}

/// One row in each store.
async fn damage(annals: &Installation) {
    let mut database = sqlx::PgConnection::connect(&annals.database()).await.unwrap();
    let one = "UPDATE content_2.content SET title = 'by hand' WHERE slug = (SELECT min(slug) FROM content_2.content)";
    database.execute(one).await.unwrap();
    let engines = Engines::from_environment().unwrap();
    let table = format!("{}_visits_1.events", annals.name());
    let gone = format!(
        "DELETE FROM {table} WHERE (log_partition, log_offset, log_index) = \
         (SELECT min((log_partition, log_offset, log_index)) FROM {table} WHERE log_partition = 0)"
    );
    engines.clickhouse(&gone).await.unwrap();
}

/// Whoever is no operator, and what does not exist.
async fn refused(annals: &Installation, tenant: &str) {
    let ask = async |path: &str, key: &str| {
        let request = reqwest::Client::new().get(format!("http://{}{path}", annals.projector_address()));
        request.bearer_auth(key).send().await.unwrap()
    };
    let path = "/api/v1/projections/content/verify";
    let operator = annals.operator_key();
    for (path, key, status) in [
        (path, "", StatusCode::UNAUTHORIZED),
        (path, "ann_nobody_at_all", StatusCode::UNAUTHORIZED),
        (path, tenant, StatusCode::FORBIDDEN),
        (
            "/api/v1/projections/nothing/verify",
            operator,
            StatusCode::NOT_FOUND,
        ),
        (
            "/api/v1/projections/content/verify?generation=99",
            operator,
            StatusCode::NOT_FOUND,
        ),
        (
            "/api/v1/projections/content/verify?sample=x",
            operator,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let answer = ask(path, key).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(
            answer.headers()["content-type"],
            "application/problem+json",
            "{path}"
        );
    }
}
