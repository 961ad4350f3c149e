//! Many clients over several tenants: with and without Idempotency-Keys, retrying what nobody answered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use service::{Position, position::Topic};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::history::{Attempt, Beside, Command, Done, Entry, History, Outcome, Read};

/// How long a client waits for an answer, and for one at all.
const PATIENCE: Duration = Duration::from_secs(3);
const PERSISTENCE: Duration = Duration::from_secs(20);
/// So many slugs a tenant has: writers are to get in each other's way.
const SLUGS: u32 = 12;
/// So many pieces of a tenant are written to at a time.
const PIECES: usize = 8;

/// Whoever has another name counts as a bot.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";

/// A tenant, and what its clients know of it.
#[derive(Debug)]
pub struct Tenant {
    /// With every scope.
    pub key: String,
    /// Its only one.
    pub site: String,
    /// Pieces with the last version that was heard of.
    pieces: Mutex<VecDeque<(Uuid, u64)>>,
}

impl Tenant {
    /// One of whom nothing is known yet.
    pub fn new(key: String, site: String) -> Self {
        Self {
            key,
            site,
            pieces: Mutex::default(),
        }
    }

    fn heard(&self, piece: Uuid, version: u64) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        match pieces.iter_mut().find(|(known, _)| *known == piece) {
            Some((_, known)) => *known = version.max(*known),
            None => pieces.push_back((piece, version)),
        }
        if pieces.len() > PIECES {
            pieces.pop_front();
        }
    }

    fn some_piece(&self, random: &mut StdRng) -> Option<(Uuid, u64)> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let place = random.random_range(0..pieces.len().max(1));
        pieces.get(place).copied()
    }
}

/// What all clients share.
#[derive(Debug)]
pub struct World {
    /// Everybody.
    pub tenants: Vec<Tenant>,
    /// Processes that take commands: host and port.
    pub writers: Vec<String>,
    /// The process that answers queries.
    pub query: String,
    /// Where everything is kept.
    pub history: History,
    number: AtomicU64,
}

impl World {
    /// Nobody has asked for anything yet.
    pub fn new(tenants: Vec<Tenant>, writers: Vec<String>, query: String) -> Self {
        Self {
            tenants,
            writers,
            query,
            history: History::default(),
            number: AtomicU64::new(0),
        }
    }
}

/// Writes for a tenant until told to stop. An operation that has begun is brought to its end.
///
/// # Errors
/// There is no HTTP client.
pub async fn write(
    world: Arc<World>,
    tenant: usize,
    seed: u64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut client = Client::new(world, tenant, seed)?;
    while !stop.is_cancelled() {
        client.operation(&stop).await;
        client.aside().await;
        let pause = client.random.random_range(1..20);
        let _ = stop
            .run_until_cancelled(tokio::time::sleep(Duration::from_millis(pause)))
            .await;
    }
    Ok(())
}

/// Somebody who writes for a tenant, to any of the processes.
pub struct Client {
    http: reqwest::Client,
    random: StdRng,
    world: Arc<World>,
    tenant: usize,
}

impl Client {
    /// One of a tenant's, by its number.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn new(world: Arc<World>, tenant: usize, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            // A connection each time would hide what becomes of one that is cut.
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            random: StdRng::seed_from_u64(seed),
            world,
            tenant,
        })
    }

    /// Sends a command with its key until somebody says what became of it.
    ///
    /// # Errors
    /// After the deadline.
    pub async fn insist(
        &mut self,
        mark: &str,
        piece: Option<Uuid>,
        command: &Command,
        deadline: Duration,
    ) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        loop {
            let outcome = self.attempt(mark, piece, command, true).await;
            if !matches!(outcome, Outcome::Unknown(_)) {
                return Ok(outcome);
            }
            anyhow::ensure!(
                began.elapsed() < deadline,
                "waited {deadline:?} in vain for an answer to {mark}: {outcome:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn tenant(&self) -> &Tenant {
        &self.world.tenants[self.tenant]
    }

    fn choose(&mut self) -> (Option<Uuid>, Command) {
        let slug = format!("slug-{}", self.random.random_range(0..SLUGS));
        let world = self.world.clone();
        let Some((piece, version)) = world.tenants[self.tenant].some_piece(&mut self.random) else {
            return (None, Command::Draft { slug });
        };
        let command = match self.random.random_range(0..100) {
            0..25 => return (None, Command::Draft { slug }),
            25..40 => Command::Rename { slug },
            40..55 => Command::Retitle { version: None },
            55..70 => Command::Retitle {
                version: Some(version),
            },
            70..80 => Command::Publish,
            80..88 => Command::Unpublish,
            _ => Command::Archive,
        };
        (Some(piece), command)
    }

    /// A command, its retries where it has a key, sometimes one more where it was answered, and a read.
    async fn operation(&mut self, stop: &CancellationToken) {
        let (piece, command) = self.choose();
        let keyed = self.random.random_bool(0.6);
        let number = self.world.number.fetch_add(1, Ordering::Relaxed);
        let mark = format!("mark {number}");
        let began = Instant::now();
        let (mut again, mut last) = (self.random.random_bool(0.2), None);
        loop {
            let outcome = self.attempt(&mark, piece, &command, keyed).await;
            let answered = !matches!(outcome, Outcome::Unknown(_));
            if let Outcome::Done(done) = outcome {
                self.tenant().heard(done.piece, done.version);
                last = Some(done);
            } else if answered {
                // What is refused is not remembered: the same key may well succeed later.
                break;
            }
            if !keyed || began.elapsed() > PERSISTENCE || (answered && !again) {
                break;
            }
            again &= !answered;
            let pause = Duration::from_millis(self.random.random_range(10..200));
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        if let Some(done) = last
            && command != Command::Archive
            && self.random.random_bool(0.2)
        {
            self.read(&done).await;
        }
    }

    /// What gives the other projections something to fold.
    async fn aside(&mut self) {
        let site = self.tenant().site.clone();
        let number = self.world.number.fetch_add(1, Ordering::Relaxed);
        let (mark, path, body) = match self.random.random_range(0..10) {
            0..2 => (
                format!("/{number}"),
                "/api/event",
                json!({"name": "pageview", "url": format!("https://{site}/{number}"), "domain": site}),
            ),
            2 => (
                format!("book {number}"),
                "/api/v1/downloads",
                json!({"title": format!("book {number}"), "url": format!("https://{site}/{number}.epub")}),
            ),
            _ => return,
        };
        let asked = self
            .world
            .writers
            .choose(&mut self.random)
            .cloned()
            .unwrap_or_default();
        let request = self.http.post(format!("http://{asked}{path}"));
        let request = request.header(header::USER_AGENT, BROWSER).json(&body);
        let answer = request.bearer_auth(&self.tenant().key).send().await;
        let acknowledged = answer.is_ok_and(|answer| {
            let counts = !answer.headers().contains_key("x-annals-dropped");
            answer.status().is_success() && counts
        });
        self.world
            .history
            .keep(Entry::Beside(Beside { mark, acknowledged }));
    }

    async fn attempt(&mut self, mark: &str, piece: Option<Uuid>, command: &Command, keyed: bool) -> Outcome {
        let asked = self
            .world
            .writers
            .choose(&mut self.random)
            .cloned()
            .unwrap_or_default();
        let tenant = self.tenant();
        let id = piece.unwrap_or_default();
        let (method, path, body) = match command {
            Command::Draft { slug } => (
                Method::POST,
                "/api/v1/content".to_owned(),
                json!({"site": tenant.site, "kind": "post", "title": mark, "slug": slug}),
            ),
            Command::Rename { slug } => (
                Method::PATCH,
                format!("/api/v1/content/{id}"),
                json!({"slug": slug, "title": mark}),
            ),
            Command::Retitle { .. } => (
                Method::PATCH,
                format!("/api/v1/content/{id}"),
                json!({"title": mark}),
            ),
            Command::Publish => (Method::POST, format!("/api/v1/content/{id}/publish"), json!({})),
            Command::Unpublish => (Method::POST, format!("/api/v1/content/{id}/unpublish"), json!({})),
            Command::Archive => (Method::POST, format!("/api/v1/content/{id}/archive"), json!({})),
        };
        let mut request = self
            .http
            .request(method, format!("http://{asked}{path}"))
            .bearer_auth(&tenant.key)
            .json(&body);
        if keyed {
            request = request.header("idempotency-key", mark);
        }
        if let Command::Retitle {
            version: Some(version),
        } = command
        {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        let sent = self.world.history.now();
        let outcome = told(request)
            .await
            .unwrap_or_else(|error| Outcome::Unknown(error.to_string()));
        let attempt = Attempt {
            mark: mark.to_owned(),
            tenant: self.tenant,
            piece,
            command: command.clone(),
            keyed,
            asked,
            sent,
            done: self.world.history.now(),
            outcome: outcome.clone(),
        };
        self.world.history.keep(Entry::Attempt(attempt));
        outcome
    }

    async fn read(&mut self, done: &Done) {
        let Some(position) = done.headers.get(service::position::HEADER.as_str()) else {
            return;
        };
        let url = format!("http://{}/api/v1/content/{}", self.world.query, done.piece);
        let request = self
            .http
            .get(url)
            .bearer_auth(&self.tenant().key)
            .header(service::position::HEADER, position)
            .header("prefer", "wait=2");
        let sent = self.world.history.now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            anyhow::Ok((status, response.json::<Value>().await?))
        };
        let answer = answer.await.ok();
        let found = answer.as_ref().filter(|(status, _)| *status == StatusCode::OK);
        let found = found.map(|(_, body)| {
            let version = body["version"].as_u64().unwrap_or(0);
            (version, body["title"].as_str().unwrap_or_default().to_owned())
        });
        self.world.history.keep(Entry::Read(Read {
            piece: done.piece,
            written: done.version,
            sent,
            done: self.world.history.now(),
            status: answer.map_or(0, |(status, _)| status.as_u16()),
            found,
        }));
    }
}

/// The headers of an acknowledgement that a retry is told as well.
const TOLD: [&str; 4] = ["annals-position", "content-type", "etag", "location"];

/// What the answer to a command means to its client: only some refusals are for good.
async fn told(request: reqwest::RequestBuilder) -> anyhow::Result<Outcome> {
    let response = request.send().await?;
    let status = response.status();
    let told = |name: &&str| {
        let value = response.headers().get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    };
    let headers: BTreeMap<_, _> = TOLD.iter().filter_map(told).collect();
    let body: Value = serde_json::from_str(&response.text().await?)?;
    if status.is_server_error() || matches!(status.as_u16(), 408 | 421 | 425 | 429) {
        return Ok(Outcome::Unknown(format!("{status} {body}")));
    }
    if !status.is_success() {
        let problem = body["type"].as_str().unwrap_or_default();
        let problem = problem.trim_start_matches("/problems/").to_owned();
        // The first attempt with this key has no end yet.
        if problem == "still-running" {
            return Ok(Outcome::Unknown(problem));
        }
        return Ok(Outcome::Refused {
            status: status.as_u16(),
            problem,
        });
    }
    let text = headers
        .get(service::position::HEADER.as_str())
        .ok_or_else(|| anyhow::anyhow!("{status} without a position: {body}"))?;
    let place: Position = text.parse()?;
    let place = place.parts().find(|(topic, ..)| *topic == Topic::Ledger);
    let (_, partition, next) = place.ok_or_else(|| anyhow::anyhow!("{text} says nothing of the ledger"))?;
    Ok(Outcome::Done(Done {
        status: status.as_u16(),
        partition,
        offset: next.saturating_sub(1),
        piece: body["id"].as_str().unwrap_or_default().parse()?,
        version: body["version"].as_u64().unwrap_or(0),
        headers,
        body,
    }))
}
