//! A tenant's events, in batches or as a stream without end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use event_log::{Offset, record::BATCH};
use events::{KeyId, directory::Scope};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use service::{Position, Problem, Query, Stopping, position, prefer};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use crate::{
    App,
    caller::Caller,
    directory::Directory,
    error::Error,
    subscription::{Feed, Found, Room, Types},
};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// An `Annals-Position`; absent: what the header says, else from the first event on.
    after: Option<String>,
    /// Types and beginnings of types, separated by commas: `content.published.v1,download.*`; absent: all.
    types: Option<String>,
    /// How many at most, 1 to 1000; 100 when absent. Of batches only.
    limit: Option<usize>,
}

/// The most events of a batch.
const MOST: usize = 1000;
/// Events of one piece of a stream.
const PIECE: usize = 256;
/// Bytes of commits that one answer, or one piece of a stream, is made of, beyond the last one.
const BYTES: usize = 1024 * 1024;
/// How long a batch waits at most, whatever it prefers.
const WAIT: Duration = Duration::from_secs(30);
/// A stream says something this often, also when nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);

const STREAM: &str = "text/event-stream";

/// The tenant's events after a position, in order: of content, downloads and imports, each as it stands in the log.
///
/// The answer is a batch of CloudEvents, with the position to go on from in `Annals-Position`. It may be empty, also
/// with a position that moved on: ask again with that. `Prefer: wait=SECONDS` (at most 30) waits while there is
/// none. With `Accept: text/event-stream` it is a stream without end: a message for each event, whose `id` is the
/// position after it (`Last-Event-ID` goes on there), and a comment now and then.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", operation_id = "events",
    params(Which,
           ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`: waits so long, at most 30, while there is no event"),
           ("Annals-Position" = Option<String>, Header, description = "the same as `after`; both must agree"),
           ("Last-Event-ID" = Option<String>, Header, description = "of streams: goes on after it, whatever `after` says")),
    responses((status = 200, content((Vec<serde_json::Value> = "application/cloudevents-batch+json"), (String = "text/event-stream")),
        headers(("Annals-Position" = String, description = "where to go on"),
                ("Preference-Applied" = String, description = "of `Prefer: wait`: how long it would have waited")))))]
pub async fn events(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    stopping: Option<Extension<Stopping>>,
    Query(which): Query<Which>,
) -> Result<Response, Error> {
    let tenant = caller.may(Scope::Read)?.tenant;
    let limit = which.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::field("/limit", format!("1 to {MOST}")));
    }
    let types = Types::parse(which.types.as_deref())?;
    let streamed = accepts_stream(&headers);
    let last = headers.get("last-event-id").filter(|_| streamed);
    let last = last
        .map(|id| {
            id.to_str()
                .map_err(|_| Problem::from(position::InvalidPosition::Unreadable))
        })
        .transpose()?;
    let last: Option<Position> = last.map(str::parse).transpose().map_err(Problem::from)?;
    let known = Position::from_headers(&headers).map_err(Problem::from)?;
    let after = match last {
        Some(last) => Some(last),
        None => after(&which, known)?,
    };
    if let Some(after) = &after {
        app.check(after).await?;
    }
    let mut watched = Watched {
        feed: app.subscriptions().feed(tenant, types, after.as_ref()).await?,
        stopping: stopping
            .map(|Extension(Stopping(token))| token)
            .unwrap_or_default(),
        key: KeyWatch {
            changes: app.directory().changes(),
            directory: app.directory().clone(),
            key: caller.key().cloned(),
        },
    };
    if streamed {
        let found = watched.feed.now(ROOM).await?;
        return Ok(streaming(watched, found));
    }
    let wait = prefer::wait(&headers, WAIT);
    let room = Room {
        events: limit,
        bytes: BYTES,
    };
    let found = watched.batch(room, wait.unwrap_or_default()).await?;
    let mut response = batch(&found).into_response();
    let headers = response.headers_mut();
    headers.insert(position::HEADER, watched.feed.position().to_header());
    if let Some(applied) =
        wait.and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok())
    {
        headers.insert(HeaderName::from_static("preference-applied"), applied);
    }
    Ok(response)
}

/// Where to go on: `after`, or what every request may bring in a header.
fn after(which: &Which, header: Option<Position>) -> Result<Option<Position>, Error> {
    let named = which.after.as_deref().map(str::parse::<Position>);
    let named = named.transpose().map_err(Problem::from)?;
    match (named, header) {
        (Some(named), Some(header)) if !(named.covers(&header) && header.covers(&named)) => {
            Err(Error::Header {
                name: "Annals-Position",
                detail: "it is another position than `after`: send one of them".into(),
            })
        }
        (Some(named), _) => Ok(Some(named)),
        (None, header) => Ok(header),
    }
}

const ROOM: Room = Room {
    events: PIECE,
    bytes: BYTES,
};

/// A feed, and what ends it.
struct Watched {
    feed: Feed,
    stopping: Arc<CancellationToken>,
    key: KeyWatch,
}

/// The key that a feed was asked for with.
struct KeyWatch {
    directory: Directory,
    changes: watch::Receiver<Offset>,
    key: Option<KeyId>,
}

impl KeyWatch {
    /// Whether the key is good, as far as anyone may believe what is known of keys here.
    async fn is_good(&self) -> Result<bool, Error> {
        match &self.key {
            Some(key) => Ok(self.directory.key(key).await?.is_some()),
            None => Ok(true),
        }
    }

    /// Completes when the key is good no more.
    async fn revoked(&mut self) {
        loop {
            self.changes.mark_unchanged();
            if self.key.as_ref().is_some_and(|key| !self.directory.holds(key)) {
                return;
            }
            if self.changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Why one waits no more.
enum Woken {
    Perhaps,
    Late,
    Stopping,
    Revoked,
}

impl Watched {
    async fn wait(&mut self, until: Instant) -> Woken {
        let Self { feed, stopping, key } = self;
        tokio::select! {
            biased;
            () = stopping.cancelled() => Woken::Stopping,
            () = key.revoked() => Woken::Revoked,
            () = feed.changed() => Woken::Perhaps,
            () = sleep_until(until) => Woken::Late,
        }
    }

    /// What there is, or comes within this time.
    async fn batch(&mut self, room: Room, wait: Duration) -> Result<Found, Error> {
        let until = Instant::now() + wait;
        loop {
            let found = self.feed.now(room).await?;
            if !found.events.is_empty() || found.more || Instant::now() >= until {
                return Ok(found);
            }
            match self.wait(until).await {
                Woken::Perhaps | Woken::Late => {}
                Woken::Stopping => return Ok(found),
                Woken::Revoked => return Err(Error::Unauthenticated),
            }
        }
    }
}

/// A JSON array of the events.
fn batch(found: &Found) -> impl IntoResponse + use<> {
    let size: usize = found.events.iter().map(|event| event.json.len() + 1).sum();
    let mut body = BytesMut::with_capacity(size + 2);
    body.put_u8(b'[');
    for (index, event) in found.events.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&event.json);
    }
    body.put_u8(b']');
    let headers = [(header::CONTENT_TYPE, BATCH), (header::CACHE_CONTROL, "no-store")];
    (headers, body.freeze())
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(STREAM))
}

/// A stream under way; none after its last piece.
struct Stream {
    watched: Watched,
    /// What was found before it began.
    first: Option<Found>,
    /// When it said something.
    said: Instant,
}

fn streaming(watched: Watched, first: Found) -> Response {
    let begin = Stream {
        watched,
        first: Some(first),
        said: Instant::now(),
    };
    // Whoever reads pulls: nothing is read ahead, and nothing is kept for one who does not.
    let pieces = stream::unfold(Some(begin), async |streamed| {
        let (piece, rest) = streamed?.piece().await;
        Some((Ok::<_, Infallible>(piece), rest))
    });
    let headers = [
        (header::CONTENT_TYPE, STREAM),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Stream {
    /// The next piece, and the rest.
    async fn piece(mut self) -> (Bytes, Option<Self>) {
        loop {
            // Also while there is always something to say: a stream may be years behind.
            if self.watched.stopping.is_cancelled() {
                return (STOPPED, None);
            }
            match self.watched.key.is_good().await {
                Ok(true) => {}
                Ok(false) => return (failed(Error::Unauthenticated), None),
                Err(error) => return (failed(error), None),
            }
            let begins = self.first.is_some();
            let found = match self.first.take() {
                Some(found) => Ok(found),
                None => self.watched.feed.now(ROOM).await,
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => return (failed(error), None),
            };
            let quiet = self.said.elapsed() >= HEARTBEAT;
            if begins || quiet || !found.events.is_empty() {
                self.said = Instant::now();
                return (self.messages(&found, begins), Some(self));
            }
            if found.more {
                continue;
            }
            match self.watched.wait(self.said + HEARTBEAT).await {
                Woken::Perhaps | Woken::Late => {}
                Woken::Stopping => return (STOPPED, None),
                Woken::Revoked => return (failed(Error::Unauthenticated), None),
            }
        }
    }

    /// Each event as a message, then where the stream stands: an id alone is no message, yet the client goes on from
    /// there when it comes back.
    fn messages(&self, found: &Found, begins: bool) -> Bytes {
        let feed = &self.watched.feed;
        let mut text = BytesMut::new();
        text.put_slice(if begins {
            b"retry: 2000\n: events\n"
        } else {
            b": still here\n"
        });
        for event in &found.events {
            message(&mut text, &feed.position_of(&event.next), &event.json);
        }
        text.put_slice(format!("id: {}\n\n", feed.position()).as_bytes());
        text.freeze()
    }
}

const STOPPED: Bytes = Bytes::from_static(b": the server stops; come back with Last-Event-ID\n\n");

fn message(text: &mut BytesMut, next: &Position, json: &[u8]) {
    text.put_slice(format!("id: {next}\n").as_bytes());
    // What others wrote may have ends of lines between its parts.
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.put_slice(b"data: ");
        text.put_slice(line);
        text.put_u8(b'\n');
    }
    text.put_u8(b'\n');
}

/// The last piece of a stream that cannot go on.
fn failed(error: Error) -> Bytes {
    let problem = serde_json::to_string(&error.problem()).unwrap_or_default();
    format!("event: problem\ndata: {problem}\n\n").into()
}
