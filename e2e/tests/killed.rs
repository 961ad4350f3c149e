//! Each engine is killed in the midst of writing and started again, one after another: what was acknowledged is shown,
//! each once, and log and tables are proved right after each of them.
//!
//! A program of its own, since whatever else ran beside it would lose its engines too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it was")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::{
    engines::Engines,
    faults::engines::Engines as Served,
    installation::{Installation, LogKind},
    wait,
};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SITE: &str = "killed.example";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// For engines to start, and for Annals to go on.
const PATIENCE: Duration = Duration::from_secs(120);
/// So much is written before and after.
const SOME: u64 = 40;

/// Somebody who writes pieces and visits, one after another, each until it is acknowledged.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
    writing: JoinHandle<()>,
}

impl Writer {
    fn start(annals: &Installation, key: &str, from: u64) -> Self {
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(from)), CancellationToken::new());
        let (address, key) = (annals.command_address(), key.to_owned());
        let (count, until) = (acknowledged.clone(), stop.clone());
        let writing = tokio::spawn(async move {
            // Nobody hears of what went to a broker that is gone: a new request finds out.
            let http = Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
            while !until.is_cancelled() {
                let number = count.load(Ordering::Relaxed);
                let slug = format!("piece-{number}");
                let piece =
                    json!({"site": SITE, "kind": "post", "title": slug, "slug": slug, "body": "Words."});
                let visit = json!([{
                    "id": uuid::Uuid::from_u128(u128::from(number) + 1), "name": "pageview", "domain": SITE,
                    "url": format!("https://{SITE}/{slug}"), "user_agent": BROWSER, "ip": "192.0.2.1",
                }]);
                for (path, body, wanted) in [
                    ("/api/v1/content", piece, StatusCode::CREATED),
                    ("/api/v1/visits", visit, StatusCode::ACCEPTED),
                ] {
                    let url = format!("http://{address}{path}");
                    acknowledged_at_last(&http, &url, &key, &slug, &body, wanted).await;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            acknowledged,
            stop,
            writing,
        }
    }

    /// Waits until some more was acknowledged.
    async fn some_more(&self) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + SOME;
        let reached = async || (self.acknowledged.load(Ordering::Relaxed) >= goal).then_some(());
        wait::until("acknowledgements", PATIENCE, reached).await.unwrap();
    }

    async fn stop(self) -> u64 {
        self.stop.cancel();
        self.writing.await.unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Sends it again, under the same key, until it is acknowledged. Nothing but "later", "the first is still running" and
/// silence may come before.
async fn acknowledged_at_last(
    http: &Client,
    url: &str,
    key: &str,
    once: &str,
    body: &Value,
    wanted: StatusCode,
) {
    loop {
        let request = http
            .post(url)
            .bearer_auth(key)
            .header("idempotency-key", once)
            .json(body);
        match request.send().await {
            Ok(answer) if answer.status() == wanted => return,
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {}
            Ok(answer) => {
                let (status, said) = (answer.status(), answer.text().await.unwrap_or_default());
                let running = status == StatusCode::CONFLICT && said.contains("/problems/still-running");
                assert!(running, "{url}: {status} {said}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn shown(annals: &Installation, key: &str, count: u64) {
    let mut last = (Value::Null, Value::Null);
    let all = wait::until("all that was acknowledged", PATIENCE, async || {
        let path = format!("/api/v1/content?site={SITE}&size=1");
        let posts = annals.query(&path, key, None).await.ok()?.body["total"].clone();
        let query = json!({"site_id": SITE, "metrics": ["pageviews"], "date_range": "all"});
        let stats = annals.stats(key, query, None).await.ok()?;
        let views = stats.body["results"][0]["metrics"][0].clone();
        last = (posts, views);
        (last == (json!(count), json!(count))).then_some(())
    });
    all.await
        .unwrap_or_else(|error| panic!("{error}: {count}, and {last:?} are shown"));
}

async fn proved(annals: &Installation, arguments: &[&str]) {
    let output = annals.annals(annals.operator_key(), arguments).output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_in_the_midst_of_writing_loses_nothing_and_doubles_nothing() {
    let served = Served::new().await.unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_annals-under-test"));
    let engines = Engines::from_environment().unwrap();
    let mut annals = Installation::new(&engines, binary, LogKind::Kafka).await.unwrap();
    annals.start().await.unwrap();
    let key = annals.tenant("killed", SITE).await.unwrap();
    let mut written = 0;
    let stores = [("clickhouse", "clickhouse"), ("postgres", "postgres")];
    for (name, started_as) in stores.into_iter().chain(served.brokers.iter().copied()) {
        let writer = Writer::start(&annals, &key, written);
        writer.some_more().await;
        served.kill(name).await.unwrap();
        // Commands need the log only, and PostgreSQL for keys that nobody knows yet.
        if served.brokers.iter().all(|(broker, _)| *broker != name) {
            writer.some_more().await;
        }
        served.start(started_as).await.unwrap();
        writer.some_more().await;
        written = writer.stop().await;
        shown(&annals, &key, written).await;
        proved(&annals, &["log", "verify"]).await;
        proved(&annals, &["verify"]).await;
        println!("{name}: {written} acknowledged, all of it shown and proved");
    }
    annals.stop().await.unwrap();
    annals.erase().await.unwrap();
}
