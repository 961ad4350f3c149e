//! A request as it arrived, and the header by which one process tells another what it knows of it.
//!
//! The header's value is `JSON.MAC`. The JSON says who called, with which scopes and from where, which id the command
//! has, what its method, target and body hash to, how long its client still waits, and when this was written. The MAC
//! (BLAKE3, keyed by the installation's secret, which processes that share a key store have in common) covers the
//! JSON, method, target and every header that decisions depend on, so nothing of a request can be exchanged for
//! another's; it is compared in constant time. Without the secret nobody can say who called.

use std::{
    borrow::Cow,
    net::IpAddr,
    time::{Duration, Instant},
};

use axum::extract::FromRequestParts;
use bytes::Bytes;
use events::{
    CommandId, PrincipalId, TenantId,
    directory::{Scope, Scopes},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request::Parts, uri::PathAndQuery};
use serde::{Deserialize, Serialize};
use service::{TraceContext, key::SecretHash};
use sha2::{Digest, Sha256};
use url::{Position, Url};
use uuid::Uuid;

use crate::{
    App,
    caller::{Caller, ClientAddress},
    command::{Principal, idempotency_key},
    error::Error,
    partition::{PATIENCE, idempotency::Hash, now},
};

/// The header.
pub const FORWARDED: HeaderName = HeaderName::from_static("annals-forwarded");

/// What decisions and answers depend on; nothing else is passed on, the client's key least of all.
const PASSED_ON: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::IF_MATCH,
    header::USER_AGENT,
    HeaderName::from_static("annals-position"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("x-correlation-id"),
    service::trace::HEADER,
];

/// How far clocks of two processes may be apart, and how old a forwarded request may be.
const SKEW: Duration = Duration::from_secs(300);

/// A request, with all that another process needs to do it.
#[derive(Clone)]
pub struct Arrived {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: String,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Keyed hash of method, target and body.
    pub request: Hash,
    /// Who called.
    pub caller: Caller,
    /// From where.
    pub address: IpAddr,
    /// The id that it was given.
    pub command: CommandId,
    /// The trace, when the client follows one or commands always have one.
    pub trace: Option<TraceContext>,
    /// When its client stops to wait.
    pub until: Instant,
    /// Whether another process sent it: then it goes no further.
    pub was_forwarded: bool,
}

/// A request whose body was not read yet.
pub struct Arriving {
    method: Method,
    target: String,
    headers: HeaderMap,
    caller: Caller,
    address: IpAddr,
    trace: Option<TraceContext>,
    forwarded: Option<Forwarded>,
}

/// What another process of this installation said of a request.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// Who called it.
    pub caller: Caller,
    /// From where.
    pub address: IpAddr,
    command: CommandId,
    request: Hash,
    until: Instant,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    tenant: TenantId,
    principal: PrincipalId,
    scopes: Vec<String>,
    address: IpAddr,
    command: CommandId,
    request: Uuid,
    /// Milliseconds that the client still waits.
    wait: u64,
    /// When this was written, in microseconds since 1970.
    at: i64,
}

/// The keyed hash of a request, by which a retry is known for the same.
pub fn request_hash(app: &App, method: &Method, target: &str, body: &[u8]) -> Hash {
    app.keys()
        .keyed_hash("request", &[method.as_str().as_bytes(), target.as_bytes(), body])
}

/// What stands for an Idempotency-Key where a command that brought none arrives; no client can bring it.
pub fn key_of(command: CommandId) -> Vec<u8> {
    [b"\0", command.uuid().as_bytes().as_slice()].concat()
}

impl Arriving {
    /// Takes a request's headers out of it, after all was read that its route reads from them.
    ///
    /// # Errors
    /// It claims to be forwarded and is not.
    pub async fn new(app: &App, parts: &mut Parts, caller: &Caller) -> Result<Self, Error> {
        let forwarded = Forwarded::of(app, parts)?;
        let Ok(ClientAddress(address)) = ClientAddress::from_request_parts(parts, app).await;
        Ok(Self {
            method: parts.method.clone(),
            target: target(&parts.uri).into_owned(),
            trace: parts.extensions.get().copied(),
            headers: std::mem::take(&mut parts.headers),
            caller: caller.clone(),
            address,
            forwarded,
        })
    }

    /// The Idempotency-Key; the id of a forwarded command that brought none, which no client can bring.
    ///
    /// # Errors
    /// It is empty, too long, or there are two.
    pub fn key(&self) -> Result<Option<Vec<u8>>, Error> {
        let given = idempotency_key(&self.headers)?.map(<[u8]>::to_vec);
        let id = |forwarded: &Forwarded| key_of(forwarded.command);
        Ok(given.or_else(|| self.forwarded.as_ref().map(id)))
    }

    /// The whole request.
    ///
    /// # Errors
    /// It was forwarded with another body.
    pub fn with(self, app: &App, body: Bytes) -> Result<Arrived, Error> {
        let request = request_hash(app, &self.method, &self.target, &body);
        if self.forwarded.as_ref().is_some_and(|it| it.request != request) {
            return Err(Error::Unauthenticated);
        }
        let forwarded = self.forwarded.as_ref();
        Ok(Arrived {
            body,
            request,
            command: forwarded.map_or_else(|| CommandId::new(Uuid::now_v7()), |it| it.command),
            until: forwarded.map_or_else(|| Instant::now() + PATIENCE, |it| it.until),
            was_forwarded: forwarded.is_some(),
            method: self.method,
            target: self.target,
            headers: self.headers,
            caller: self.caller,
            address: self.address,
            trace: self.trace,
        })
    }
}

impl Arrived {
    /// The headers that go along.
    pub(super) fn passed_on(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(PASSED_ON.len());
        for name in PASSED_ON {
            for value in self.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(trace) = self.trace
            && let Ok(trace) = HeaderValue::try_from(trace.to_string())
        {
            headers.insert(service::trace::HEADER, trace);
        }
        headers
    }

    /// What tells the owner all this.
    pub(super) fn stamp(&self, app: &App, left: Duration) -> Option<HeaderValue> {
        let principal = self.caller.principal();
        let stamp = Stamp {
            tenant: principal.tenant,
            principal: principal.id,
            scopes: self
                .caller
                .scopes()
                .iter()
                .map(|scope| scope.name().to_owned())
                .collect(),
            address: self.address,
            command: self.command,
            request: Uuid::from_bytes(self.request),
            wait: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            at: now().micros(),
        };
        let json = serde_json::to_string(&stamp).ok()?;
        let mac = mac(app, &self.method, &self.target, &self.passed_on(), &json);
        let mut value = HeaderValue::try_from(format!("{json}.{}", Uuid::from_bytes(mac).simple())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Forwarded {
    /// What another process says of this request; none, when it came from a client.
    ///
    /// # Errors
    /// Someone says it who is no process of this installation, or said it long ago.
    pub fn of(app: &App, parts: &Parts) -> Result<Option<Self>, Error> {
        let mut stamps = parts.headers.get_all(FORWARDED).iter();
        match (stamps.next(), stamps.next()) {
            (None, _) => Ok(None),
            (Some(stamp), None) => Self::read(app, parts, stamp)
                .ok_or(Error::Unauthenticated)?
                .map(Some),
            (Some(_), Some(_)) => Err(Error::Unauthenticated),
        }
    }

    /// None when no process of this installation has made it. One that is genuine and too old is no fault of the
    /// client, whose key was good.
    fn read(app: &App, parts: &Parts, stamp: &HeaderValue) -> Option<Result<Self, Error>> {
        let (json, given) = stamp.to_str().ok()?.rsplit_once('.')?;
        let mac = mac(app, &parts.method, &target(&parts.uri), &parts.headers, json);
        let hidden = |mac: &[u8]| SecretHash::new(Sha256::digest(mac).into());
        // Hashes of both, so that comparing them takes the same time whatever was given.
        if hidden(&mac) != hidden(Uuid::try_parse(given).ok()?.as_bytes()) {
            return None;
        }
        let stamp: Stamp = serde_json::from_str(json).ok()?;
        let age = now().micros().abs_diff(stamp.at);
        if u128::from(age) > SKEW.as_micros() {
            tracing::warn!(
                age,
                "a forwarded request is too old, or the clocks of two processes differ"
            );
            return Some(Err(Error::NotServed(
                "the clocks of two processes differ by more than five minutes: nothing was done",
            )));
        }
        let scopes: Option<Scopes> = stamp
            .scopes
            .iter()
            .map(|name| name.parse::<Scope>().ok())
            .collect();
        let principal = Principal {
            tenant: stamp.tenant,
            id: stamp.principal,
        };
        Some(Ok(Self {
            caller: Caller::known(principal, scopes?),
            address: stamp.address,
            command: stamp.command,
            request: stamp.request.into_bytes(),
            until: Instant::now() + Duration::from_millis(stamp.wait).min(PATIENCE),
        }))
    }
}

/// Path and query as a URL has them: a process that passes a request on sends it so, whatever stood there (`'` becomes
/// `%27` in a query).
fn target(uri: &Uri) -> Cow<'_, str> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_~?&=%:,+@".contains(&byte);
    if target.bytes().all(plain) {
        return target.into();
    }
    match Url::parse(&format!("http://any{target}")) {
        Ok(url) => url[Position::BeforePath..Position::AfterQuery].to_owned().into(),
        Err(_) => target.into(),
    }
}

/// Of everything that a forwarded request says, its body's hash included, which stands in the JSON.
fn mac(app: &App, method: &Method, target: &str, headers: &HeaderMap, json: &str) -> Hash {
    let mut passed_on = Vec::new();
    let mut put = |bytes: &[u8]| {
        passed_on.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        passed_on.extend_from_slice(bytes);
    };
    for name in PASSED_ON {
        let values: Vec<_> = headers.get_all(&name).iter().collect();
        put(name.as_str().as_bytes());
        put(&values.len().to_be_bytes());
        values.iter().for_each(|value| put(value.as_bytes()));
    }
    let parts = [
        method.as_str().as_bytes(),
        target.as_bytes(),
        &passed_on,
        json.as_bytes(),
    ];
    app.keys().keyed_hash("forwarded request", &parts)
}
