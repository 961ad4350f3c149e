//! The HTTP APIs as a client sees them: a key, patience with a busy server, and problems that a person can read.
//!
//! A little longer than a file should be: a request, patience and problems are one conversation.

use std::{fmt, time::Duration};

use futures::StreamExt as _;
use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

/// Where the APIs are and who calls.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connection {
    /// Where commands go: command-api, or a process that serves everything.
    #[arg(
        long,
        env = "ANNALS_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    pub(crate) url: Url,
    /// Where queries go; the same place unless the services are separate.
    #[arg(long, env = "ANNALS_QUERY_URL", global = true)]
    pub(crate) query_url: Option<Url>,
    /// Where verification and rebuilds are; the same place unless the services are separate.
    #[arg(long, env = "ANNALS_PROJECTOR_URL", global = true)]
    pub(crate) projector_url: Option<Url>,
    /// The key of the caller, `ann_…`.
    #[arg(long, env = "ANNALS_KEY", hide_env_values = true, global = true)]
    pub(crate) key: Option<String>,
}

/// A client of both APIs; clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    commands: Url,
    queries: Url,
    projectors: Url,
    key: Option<String>,
    /// For how long a server that is away or busy is asked again.
    patience: Duration,
}

/// How long an answer in lines may take.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// One request, before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    to: Service,
    path: String,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
    /// Whether it is never sent again once it may have come through.
    once: bool,
}

/// Who answers a request, where the services are separate.
#[derive(Debug, Clone, Copy)]
enum Service {
    Command,
    Query,
    Projector,
}

/// What came back, when it was no problem.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Where a redirect leads.
    pub(crate) location: Option<String>,
    /// Where in the log it stands.
    pub(crate) position: Option<String>,
    pub(crate) body: Value,
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "cannot reach {url}: {cause}\nIs it running (`annals serve`, `./dev up`)? Are ANNALS_URL and, with separate services, ANNALS_QUERY_URL and ANNALS_PROJECTOR_URL right?"
    )]
    Unreachable { url: Url, cause: String },
    #[error("{url} did not answer ({cause}): what was asked may have been done. Look before you ask again")]
    Unanswered { url: Url, cause: String },
    #[error("https is not built in: {0}; give the address of the service itself or of a proxy beside it")]
    Https(Url),
    #[error("this needs a key, and none was given: set ANNALS_KEY, or say --key ann_…")]
    NoKey,
    #[error("{0}")]
    Problem(Problem),
    #[error("{url} did not answer with JSON: {cause}")]
    NotJson { url: Url, cause: String },
}

/// The body of an error, RFC 9457.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    errors: Vec<FieldError>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct FieldError {
    pointer: String,
    detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        write!(f, "{} {text}", self.status)?;
        for FieldError { pointer, detail } in &self.errors {
            let field = format!("{pointer}: {detail}");
            // The text names the first of them already.
            if !text.contains(&field) {
                write!(f, "; {field}")?;
            }
        }
        Ok(())
    }
}

impl Request {
    /// A command, with an Idempotency-Key of its own, so that asking again is not a second command.
    pub(crate) fn command(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        let key = uuid::Uuid::new_v4().to_string();
        Self {
            method,
            to: Service::Command,
            path: path.into(),
            body,
            headers: Vec::new(),
            once: false,
        }
        .idempotency_key(key)
    }

    /// A query.
    pub(crate) fn query(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            to: Service::Query,
            path: path.into(),
            body: None,
            headers: Vec::new(),
            once: false,
        }
    }

    /// A question that command-api answers, because it is about the log.
    pub(crate) fn operator(path: impl Into<String>) -> Self {
        Self {
            to: Service::Command,
            ..Self::query(path)
        }
    }

    /// A question that the projectors answer.
    pub(crate) fn projector(path: impl Into<String>) -> Self {
        Self {
            to: Service::Projector,
            ..Self::query(path)
        }
    }

    /// Work on projections, which the projectors do.
    pub(crate) fn operation(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self {
            method,
            body,
            ..Self::projector(path)
        }
    }

    /// That may have done something though no answer came, and would do something else the next time: it is not sent
    /// again.
    pub(crate) const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// The same command for every run that says this key.
    pub(crate) fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header("idempotency-key", key.into())
    }

    /// Replaces a header.
    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }
}

impl Client {
    /// A client that waits this long for a server that is away or busy.
    pub(crate) fn new(connection: &Connection, patience: Duration) -> Result<Self, ClientError> {
        let commands = connection.url.clone();
        let queries = connection.query_url.clone().unwrap_or_else(|| commands.clone());
        let projectors = connection
            .projector_url
            .clone()
            .unwrap_or_else(|| commands.clone());
        for url in [&commands, &queries, &projectors] {
            if url.scheme() == "https" {
                return Err(ClientError::Https(url.clone()));
            }
        }
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("annals/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Unreachable {
                url: commands.clone(),
                cause: chain(&error),
            })?;
        Ok(Self {
            http,
            commands,
            queries,
            projectors,
            key: connection.key.clone(),
            patience,
        })
    }

    /// Sends a request until it is answered, refused, or patience is at its end.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, ClientError> {
        let url = self.place(&request)?;
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(100);
        loop {
            let (error, asked) = match self.once(&url, &request).await {
                Ok(Outcome::Answer(answer)) => return Ok(answer),
                // Half of it may be done.
                Ok(Outcome::Busy(problem, _)) if request.once => return Err(ClientError::Problem(problem)),
                Ok(Outcome::Busy(problem, asked)) => (ClientError::Problem(problem), asked),
                Err(ClientError::Unanswered { url, cause }) if !request.once => {
                    (ClientError::Unreachable { url, cause }, None)
                }
                Err(error @ ClientError::Unreachable { .. }) => (error, None),
                Err(error) => return Err(error),
            };
            let wait = asked.unwrap_or(pause);
            if Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!(%url, %error, ?wait, "asking again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// What a refusal means to whoever sits before this client.
    fn refused(&self, problem: Problem) -> ClientError {
        let keyless = self.key.as_deref().unwrap_or_default().is_empty();
        if problem.status == 401 && keyless {
            return ClientError::NoKey;
        }
        ClientError::Problem(problem)
    }

    fn place(&self, request: &Request) -> Result<Url, ClientError> {
        let base = match request.to {
            Service::Command => &self.commands,
            Service::Query => &self.queries,
            Service::Projector => &self.projectors,
        };
        // Below the address, which may have a path of its own; whoever answers does not know of that.
        let mut below = base.clone();
        if !below.path().ends_with('/') {
            below.set_path(&format!("{}/", base.path()));
        }
        below
            .join(request.path.trim_start_matches('/'))
            .map_err(|error| ClientError::Unreachable {
                url: base.clone(),
                cause: error.to_string(),
            })
    }

    /// Sends a request that is answered with JSON lines, however long that takes, and shows each as it comes.
    pub(crate) async fn lines(
        &self,
        request: Request,
        mut show: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let url = self.place(&request)?;
        let json = |line: &[u8]| {
            serde_json::from_slice(line).map_err(|error| ClientError::NotJson {
                url: url.clone(),
                cause: error.to_string(),
            })
        };
        self.texts(request, |line| show(json(line)?)).await
    }

    /// As [`Self::lines`], each line as it is, its end included.
    pub(crate) async fn texts(
        &self,
        request: Request,
        mut show: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut rest: Vec<u8> = Vec::new();
        let take = |more: &[u8]| {
            // What was there before has no end of a line.
            let searched = rest.len();
            rest.extend_from_slice(more);
            let Some(last) = rest[searched..].iter().rposition(|byte| *byte == b'\n') else {
                return Ok(());
            };
            let after = rest.split_off(searched + last + 1);
            for line in rest.split_inclusive(|byte| *byte == b'\n') {
                show(line)?;
            }
            rest = after;
            Ok(())
        };
        self.bytes(request, take).await
    }

    /// Sends a request that is answered with a file, however long that takes, and gives each piece as it comes; an
    /// error when the answer is cut off.
    pub(crate) async fn bytes(
        &self,
        request: Request,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let url = self.place(&request)?;
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: url.clone(),
            cause: chain(&error),
        };
        let builder = self.http.request(request.method.clone(), url.clone());
        let builder = builder
            .timeout(LONGEST)
            .bearer_auth(self.key.as_deref().unwrap_or_default());
        let response = builder.send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let mut problem: Problem = response.json().await.unwrap_or_default();
            problem.status = status.as_u16();
            return Err(self.refused(problem).into());
        }
        let mut pieces = response.bytes_stream();
        while let Some(more) = pieces.next().await {
            take(&more.map_err(unreachable)?)?;
        }
        Ok(())
    }

    async fn once(&self, url: &Url, request: &Request) -> Result<Outcome, ClientError> {
        let unreachable = |error: reqwest::Error| {
            let (url, cause) = (url.clone(), chain(&error));
            if error.is_connect() {
                ClientError::Unreachable { url, cause }
            } else {
                ClientError::Unanswered { url, cause }
            }
        };
        let mut builder = self.http.request(request.method.clone(), url.clone());
        if let Some(key) = &self.key {
            builder = builder.bearer_auth(key);
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(unreachable)?;
        let status = response.status();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let location = header("location");
        let position = header("annals-position");
        let asked = header(RETRY_AFTER.as_str())
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        let bytes = response.bytes().await.map_err(unreachable)?;
        let body: Value = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(error) if status.is_success() => {
                return Err(ClientError::NotJson {
                    url: url.clone(),
                    cause: error.to_string(),
                });
            }
            Err(_) => Value::Null,
        };
        if status.is_success() || status.is_redirection() {
            return Ok(Outcome::Answer(Answer {
                status,
                location,
                position,
                body,
            }));
        }
        let mut problem: Problem = serde_json::from_value(body).unwrap_or_default();
        problem.status = status.as_u16();
        if problem.title.is_empty() {
            problem.title = status.canonical_reason().unwrap_or("refused").to_owned();
        }
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Ok(Outcome::Busy(problem, asked))
            }
            _ => Err(self.refused(problem)),
        }
    }
}

enum Outcome {
    Answer(Answer),
    Busy(Problem, Option<Duration>),
}

impl ClientError {
    /// The status that the server refused with, if it did.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::NoKey => Some(401),
            Self::Unreachable { .. } | Self::Unanswered { .. } | Self::Https(_) | Self::NotJson { .. } => {
                None
            }
        }
    }
}

/// The causes of an error, outermost first: reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
