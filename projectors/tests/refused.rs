//! What somebody did to the tables, and a log or a release that does not fit them: each is refused or named, with what to
//! do about it, and no table is touched.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use projectors::runner::Until;
use read_models::{Projection, Reader, export::View, status, verify};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use world::World;

/// Projectors that run.
struct Running {
    task: JoinHandle<Result<(), projectors::Error>>,
    shutdown: CancellationToken,
}

impl Running {
    fn start(world: &World) -> Self {
        let shutdown = CancellationToken::new();
        let run = projectors::run(
            world.dependencies(Until::Shutdown),
            world.config(),
            shutdown.clone(),
        );
        Self {
            task: tokio::spawn(run),
            shutdown,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Waits for a text that says what is wrong, and gives it.
async fn told(what: &str, look: impl AsyncFn() -> Option<String>) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(text) = look().await {
            return text;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What readiness says of the part whose name begins so.
fn degraded(world: &World, part: &str, with: &str) -> Option<String> {
    let readiness = serde_json::to_value(world.health.readiness()).unwrap();
    let checks = readiness["checks"].as_object().unwrap().clone();
    let mut found = checks
        .into_iter()
        .filter(|(name, _)| name.starts_with(part))
        .filter_map(|(_, check)| check["detail"].as_str().map(str::to_owned));
    found.find(|detail| detail.contains(with))
}

/// What the content's tables hold.
async fn content(world: &World) -> String {
    let writer = world.writer().await;
    let rows = verify::fingerprints(&writer.tables(Projection::Content, 1, 1))
        .await
        .unwrap();
    format!("{rows:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_ahead_of_the_log_stops_its_projection() {
    let mut world = World::make().await;
    world.live(31).await;
    world.fold().await;
    let before = content(&world).await;
    world
        .control
        .execute("UPDATE annals.checkpoints SET next_offset = next_offset + 1000 WHERE projection IN ('content', 'visits')")
        .await
        .unwrap();
    let running = Running::start(&world);
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    for projection in ["content", "visits"] {
        let why = told("the partition says why it has stopped", async || {
            let rows = status::projections(&reader).await.unwrap();
            rows.into_iter().find(|row| row.projection == projection)?.stopped
        })
        .await;
        assert!(
            why.contains("the tables know more than the log has, which was replaced or cut off"),
            "{why}"
        );
    }
    told("readiness says it too", async || {
        degraded(&world, "projection content", "replaced or cut off")
    })
    .await;
    assert_eq!(before, content(&world).await, "tables were touched");
    running.stop().await;
    world.erase().await;
}

/// A log that was cut off, or replaced, and is as long again: its end tells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_of_the_same_length_stops_its_projections() {
    let mut world = World::make().await;
    world.live(34).await;
    world.fold().await;
    let before = content(&world).await;
    world
        .control
        .execute("UPDATE annals.checkpoints SET hash = sha256('another commit') WHERE projection = 'content' AND seq > 0")
        .await
        .unwrap();
    let running = Running::start(&world);
    let reader = Reader::connect(&world.control.reader_url(), 1).unwrap();
    let why = told("the partition says why it has stopped", async || {
        let rows = status::projections(&reader).await.unwrap();
        let stopped = |row: &&status::PartitionStatus| row.projection == "content" && row.stopped.is_some();
        rows.iter().find(stopped)?.stopped.clone()
    })
    .await;
    assert!(
        why.contains("stands another record than the last one that these tables were made of"),
        "{why}"
    );
    assert_eq!(before, content(&world).await, "tables were touched");
    running.stop().await;
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_release_are_refused() {
    let mut world = World::make().await;
    world.live(32).await;
    world.fold().await;
    let before = content(&world).await;
    world
        .control
        .execute("INSERT INTO annals._sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'of the future', true, '\\x00', 1)")
        .await
        .unwrap();
    let projectors::Error::ReadModels(refused) = Running::start(&world).task.await.unwrap().unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("control migration 9999 is not known") && text.contains("start that release"),
        "{text}"
    );
    assert_eq!(before, content(&world).await, "tables were touched");
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_somebody_replaced_are_made_anew_and_tables_in_their_place_are_named() {
    let mut world = World::make().await;
    world.live(33).await;
    world.fold().await;
    let live = format!("live_{}", world.rows.writer.prefix.trim_end_matches('_'));
    // Views without their condition: everybody would see everything.
    world
        .control
        .execute("CREATE OR REPLACE VIEW live.downloads AS SELECT * FROM downloads_1.downloads; DROP VIEW live.content; CREATE TABLE live.content (mine text); DROP VIEW live.content_versions")
        .await
        .unwrap();
    for statement in [
        format!("DROP TABLE {live}.events"),
        format!("CREATE TABLE {live}.events (mine String) ENGINE = MergeTree ORDER BY mine"),
        format!("INSERT INTO {live}.events VALUES ('of an analyst')"),
        format!(
            "CREATE OR REPLACE VIEW {live}.content AS SELECT * FROM {}content_facts_1.facts",
            world.rows.writer.prefix
        ),
    ] {
        world.rows.execute(&statement).await.unwrap();
    }
    let running = Running::start(&world);
    let why = told(
        "the table in the place of PostgreSQL's view is named",
        async || degraded(&world, "analysts' views of content", "is not a view"),
    )
    .await;
    assert!(why.contains("\"content\""), "{why}");
    let why = told(
        "the table in the place of ClickHouse's view is named",
        async || degraded(&world, "analysts' views of visits", "is a table (MergeTree)"),
    )
    .await;
    assert!(why.contains("rename it"), "{why}");
    told("the view of downloads is as it was", async || {
        let otherwise = world
            .writer()
            .await
            .shown_otherwise(Projection::Downloads, 1)
            .await
            .unwrap();
        otherwise.is_empty().then(String::new)
    })
    .await;
    told("ClickHouse's view of content is as it was", async || {
        // Nobody has let this analyst in.
        let rows: u64 = world
            .rows
            .live()
            .query("SELECT count() FROM content")
            .fetch_one()
            .await
            .unwrap_or(1);
        (rows == 0).then(String::new)
    })
    .await;
    // Nothing of the analyst's is gone; out of the way, the views come back.
    world
        .control
        .execute("ALTER TABLE live.content RENAME TO mine")
        .await
        .unwrap();
    world
        .rows
        .execute(&format!("RENAME TABLE {live}.events TO {live}.mine"))
        .await
        .unwrap();
    told("all views are back", async || {
        let otherwise = world
            .writer()
            .await
            .shown_otherwise(Projection::Content, 1)
            .await
            .unwrap();
        let events = world
            .rows
            .live()
            .query("SELECT count() FROM events")
            .fetch_one::<u64>()
            .await;
        (otherwise.is_empty() && events.is_ok() && degraded(&world, "analysts' views", "").is_none())
            .then(String::new)
    })
    .await;
    // And so while it runs: a view without its condition does not stay.
    world
        .control
        .execute("CREATE OR REPLACE VIEW live.downloads AS SELECT * FROM downloads_1.downloads")
        .await
        .unwrap();
    told("what was replaced while it ran is as it was", async || {
        let writer = world.writer().await;
        let otherwise = writer.shown_otherwise(Projection::Downloads, 1).await.unwrap();
        otherwise.is_empty().then(String::new)
    })
    .await;
    let kept: u64 = world
        .rows
        .live()
        .query("SELECT count() FROM mine")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(kept, 1);
    assert!(
        View::find("mine", None).is_none(),
        "what is exported is no list of what there is"
    );
    running.stop().await;
    world.erase().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_without_deduplication_is_named_until_it_is_there() {
    let mut world = World::make().await;
    world.live(34).await;
    world.fold().await;
    let events = format!("{}visits_1.events", world.rows.writer.prefix);
    let before = world.verify(Projection::Visits).await.0.rows;
    world
        .rows
        .execute(&format!(
            "ALTER TABLE {events} MODIFY SETTING non_replicated_deduplication_window = 0"
        ))
        .await
        .unwrap();
    world.visits(&mut world::Numbers(3), 30).await;
    let running = Running::start(&world);
    let why = told("what is missing is named", async || {
        degraded(&world, "projection visits", "deduplication")
    })
    .await;
    let statement = format!("ALTER TABLE {events} MODIFY SETTING non_replicated_deduplication_window = 1000");
    assert!(why.contains(&statement), "{why}");
    assert_eq!(
        world.verify(Projection::Visits).await.0.rows,
        before,
        "tables were touched"
    );
    world.rows.execute(&statement).await.unwrap();
    told("it goes on", async || {
        (world.verify(Projection::Visits).await.0.rows > before).then(String::new)
    })
    .await;
    running.stop().await;
    world.erase().await;
}

/// What operators are answered who show this key.
async fn answered(address: SocketAddr, key: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/projections/content/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A revocation may be among what the directory's tables lack while nobody fills them.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_is_not_believed_for_ever_while_nobody_hears_of_revocations() {
    const CONFIGURED: &str = "the operator key of the configuration";
    let mut world = World::make().await;
    world.live(34).await;
    world.fold().await;
    let key = service::key::Key::make();
    let issued = format!(
        "INSERT INTO directory_1.keys (tenant, key, principal, secret_hash, scopes, issued_at, version)
         SELECT tenant, '{}', gen_random_uuid(), '{}', '{{operator}}', now(), 1 FROM directory_1.tenants LIMIT 1",
        key.id(),
        key.hash()
    );
    world.control.execute(&issued).await.unwrap();
    let config = projectors::Config {
        keys_unconfirmed_seconds: 2,
        ..world.config()
    };
    let app = projectors::api::App::new(&config, &world.dependencies(Until::Shutdown), Some(CONFIGURED));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let routes = service::finish(projectors::api::router(app.unwrap()));
    let serving = tokio::spawn(service::serve(listener, routes, shutdown.clone()));

    let running = Running::start(&world);
    told("the key counts while the directory is followed", async || {
        let answer = answered(address, key.reveal()).await;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    })
    .await;
    running.stop().await;
    let refused = told("the key is doubted", async || {
        let answer = answered(address, key.reveal()).await;
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await;
    assert!(
        refused.contains("whether this key still counts cannot be told"),
        "{refused}"
    );
    let answer = answered(address, CONFIGURED).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    world.erase().await;
}
