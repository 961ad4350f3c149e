//! The write side as clients meet it: the real router on a port of its own, on a log of its own, with a key store.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use command_api::{App, Config, app::Deps};
use event_log::{Log, LogConfig, Snapshots, StateStores, Store};
use key_store::KeyStore;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use service::Health;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const OPERATOR: &str = "the operator key of these tests";
const MASTER: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";
/// What a person's browser says.
pub(crate) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// A process that serves the write side.
pub(crate) struct Process {
    pub(crate) app: App,
    pub(crate) base: String,
    pub(crate) health: Health,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

/// A log, its key store and one process on it.
pub(crate) struct World {
    pub(crate) process: Process,
    pub(crate) log: Log,
    keys: KeyStore,
    dir: TempDir,
    config: Config,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

/// A tenant with a site and a key that may do everything.
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) domain: String,
}

pub(crate) async fn key_store() -> KeyStore {
    // One database for all tests here, made by whoever comes first.
    static FIRST: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _first = FIRST.lock().await;
    let url = std::env::var("ANNALS_TEST_POSTGRES").expect("no ANNALS_TEST_POSTGRES: run ./dev test");
    KeyStore::connect(&url, MASTER.parse().unwrap()).await.unwrap()
}

pub(crate) async fn embedded(dir: PathBuf) -> Log {
    let config = LogConfig {
        store: Store::Embedded { dir },
        ledger_partitions: None,
        visits_partitions: None,
        development: true,
    };
    Log::open(config).await.unwrap()
}

pub(crate) fn config() -> Config {
    Config {
        operator_key: Some(OPERATOR.to_owned()),
        ..Config::default()
    }
}

impl Process {
    pub(crate) async fn start(log: Log, keys: KeyStore, config: &Config) -> Self {
        let health = Health::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let deps = Deps {
            log,
            keys,
            health: health.clone(),
            state: StateStores::open(config.state_dir.as_deref()).unwrap(),
            snapshots: config.snapshots.as_ref().map(|url| Snapshots::open(url).unwrap()),
        };
        let app = App::start(deps, &config.clone().reached_at(address));
        let shutdown = CancellationToken::new();
        let routes = service::finish(command_api::router(app.clone()));
        let server = tokio::spawn(service::serve(listener, routes, shutdown.clone()));
        Self {
            app,
            base: format!("http://{address}"),
            health,
            shutdown,
            server,
        }
    }

    /// As `command_api::serve` does at a shutdown.
    pub(crate) async fn stop(self) {
        self.app.hand_over().await;
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
        self.app.stop().await;
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        let http = reqwest::Client::new();
        Call(http.request(method, format!("{}{path}", self.base)))
    }

    pub(crate) fn post(&self, path: &str, key: &str, body: &Value) -> Call {
        self.call(Method::POST, path).key(key).json(body)
    }

    /// A tenant of a name that no other has.
    pub(crate) async fn tenant(&self) -> Tenant {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = json!({"name": format!("tenant {number}")});
        let tenant = self
            .post("/api/v1/tenants", OPERATOR, &name)
            .send()
            .await
            .expect(201);
        let id = tenant.body["id"].as_str().unwrap().to_owned();
        let key = self.issue(&id, &["admin"]).await;
        let domain = format!("site{number}.example");
        self.post("/api/v1/sites", &key, &json!({"domain": domain}))
            .send()
            .await
            .expect(201);
        Tenant { id, key, domain }
    }

    pub(crate) async fn issue(&self, tenant: &str, scopes: &[&str]) -> String {
        let body = json!({"tenant": tenant, "scopes": scopes});
        let key = self
            .post("/api/v1/keys", OPERATOR, &body)
            .send()
            .await
            .expect(201);
        key.body["key"].as_str().unwrap().to_owned()
    }

    /// Drafts a piece and gives its id.
    pub(crate) async fn draft(&self, tenant: &Tenant, title: &str) -> String {
        let body = json!({"site": tenant.domain, "kind": "post", "title": title});
        let drafted = self
            .post("/api/v1/content", &tenant.key, &body)
            .send()
            .await
            .expect(201);
        drafted.body["id"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let dir = TempDir::new().unwrap();
        let log = embedded(dir.path().join("log")).await;
        let keys = key_store().await;
        let config = Config {
            state_dir: Some(dir.path().join("state")),
            ..config
        };
        let process = Process::start(log.clone(), keys.clone(), &config).await;
        within("the partitions are served", process.app.ready())
            .await
            .unwrap();
        Self {
            process,
            log,
            keys,
            dir,
            config,
        }
    }

    /// Where its log (`log`) and its state (`state`) are kept.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops everything, opens the log anew and serves it again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|_| ()).await
    }

    /// The same, with something done to its folder in between.
    pub(crate) async fn restart_after(self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.restart_with(async |dir| meanwhile(dir)).await
    }

    /// The same, with something done that takes its time.
    pub(crate) async fn restart_with(self, meanwhile: impl AsyncFnOnce(&Path)) -> Self {
        let Self {
            process,
            log,
            keys,
            dir,
            config,
        } = self;
        process.stop().await;
        log.close().await;
        meanwhile(dir.path()).await;
        let log = embedded(dir.path().join("log")).await;
        let process = Process::start(log.clone(), keys.clone(), &config).await;
        within("the partitions are served again", process.app.ready())
            .await
            .unwrap();
        Self {
            process,
            log,
            keys,
            dir,
            config,
        }
    }

    /// Its key store answers nobody any more.
    pub(crate) async fn close_keys(&self) {
        self.keys.close().await;
    }

    /// A second process on the same log.
    pub(crate) async fn second(&self) -> Process {
        Process::start(self.log.clone(), self.keys.clone(), &config()).await
    }

    /// Everything that the log's record at this place says, as operators see it.
    pub(crate) async fn records(&self, topic: &str, partition: u32) -> Vec<Value> {
        let path = format!("/api/v1/log/{topic}/{partition}?from=0&limit=200");
        let page = self
            .process
            .call(Method::GET, &path)
            .key(OPERATOR)
            .send()
            .await
            .expect(200);
        page.body["records"].as_array().unwrap().clone()
    }

    /// How many records the ledger and the directory hold.
    pub(crate) async fn commits(&self) -> usize {
        let mut count = self.records("directory", 0).await.len();
        for partition in 0..4 {
            count += self.records("ledger", partition).await.len();
        }
        count
    }
}

/// A request to be sent.
pub(crate) struct Call(reqwest::RequestBuilder);

impl Call {
    pub(crate) fn key(self, key: &str) -> Self {
        Self(self.0.bearer_auth(key))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub(crate) fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header("content-type", content_type).body(body))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// A header that need not be a text.
    pub(crate) fn raw_header(self, name: &str, value: &[u8]) -> Self {
        Self(self.0.header(name, value))
    }

    /// The answer, its body to come.
    pub(crate) async fn open(self) -> reqwest::Response {
        within("an answer", self.0.send()).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.open().await;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer {
            status,
            headers,
            text,
            body,
        }
    }
}

impl Answer {
    /// The answer, when it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// The answer, when it is a problem of this status and kind.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(
            answer.body["type"],
            format!("/problems/{kind}"),
            "{}",
            answer.text
        );
        assert_eq!(answer.body["status"], status);
        assert!(
            answer.body["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        );
        answer
    }

    /// The answer, when it is a problem that names this field.
    #[track_caller]
    pub(crate) fn names(self, pointer: &str) -> Self {
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        assert!(
            errors.iter().any(|error| error["pointer"] == pointer),
            "{pointer}: {}",
            self.text
        );
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
    waited.unwrap_or_else(|_| panic!("waited 30 s for this: {what}"))
}

/// Asks again until it is so, but not for ever.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
