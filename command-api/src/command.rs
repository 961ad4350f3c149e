//! What every command carries beside its body: who, with which key, expecting which version, in which trace.

use std::time::Instant;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
};
use events::{CommandId, PrincipalId, TenantId, directory::Scope};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use service::{Json, Position, Problem, TraceContext, extract::check_type, http::bodies::Held};
use uuid::Uuid;

use crate::{
    App,
    caller::Caller,
    error::Error,
    forward::arrived::{Arrived, Arriving},
    partition::idempotency::Hash,
};

/// Who acts, and in whose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// Whose data.
    pub tenant: TenantId,
    /// Who.
    pub id: PrincipalId,
}

impl Principal {
    /// Tenant and id, for hashes.
    pub fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.tenant.uuid().as_bytes());
        bytes[16..].copy_from_slice(self.id.uuid().as_bytes());
        bytes
    }
}

/// What a command carries beside what it asks for.
#[derive(Clone)]
pub struct Context {
    /// Given by the process that first received it; the events that it causes name it.
    pub id: CommandId,
    /// Who asks.
    pub principal: Principal,
    /// Keyed hash of tenant, principal and Idempotency-Key, when it brought one.
    pub key: Option<Hash>,
    /// Keyed hash of method, path and body.
    pub request: Hash,
    /// The versions that `If-Match` names.
    pub expected: Expected,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// What the caller says belongs together: `X-Correlation-Id`, when it is a UUID.
    pub correlation: Option<Uuid>,
    /// When its client stops to wait.
    pub until: Instant,
    /// The request as it came, for the process that decides it, where there may be another one.
    pub arrived: Option<Box<Arrived>>,
    /// Room for what came, when it is large: a client that hangs up frees nothing while the command waits.
    pub held: Option<Held>,
}

/// What `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expected {
    /// The header is absent or `*`.
    #[default]
    Any,
    /// One of these versions; a text that no version has matches none.
    OneOf(Vec<u64>),
}

impl Expected {
    /// Whether this version will do.
    pub fn allows(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }

    /// What a request's `If-Match` says.
    ///
    /// # Errors
    /// It is no entity tag.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Error> {
        let mut versions = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| if_match())?;
            for tag in text.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Self::Any);
                }
                let weak = tag.starts_with("W/");
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                let quoted = opaque
                    .strip_prefix('"')
                    .and_then(|tag| tag.strip_suffix('"'))
                    .ok_or_else(if_match)?;
                // Of a piece that was read by its slug the tag goes on with its id.
                let version = quoted.split_once('-').map_or(quoted, |(version, _)| version);
                // If-Match compares strongly (RFC 9110, 13.1.1): a weak tag fits nothing.
                versions.push(if weak { 0 } else { version.parse().unwrap_or(0) });
            }
        }
        Ok(if versions.is_empty() {
            Self::Any
        } else {
            Self::OneOf(versions)
        })
    }
}

/// Refuses `If-Match` where nothing has a version, and a position that this log does not have.
///
/// # Errors
/// 412, 400.
pub async fn check_unversioned(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    if Expected::parse(headers)? != Expected::Any {
        return Err(Error::NoVersion);
    }
    check_position(app, headers).await
}

async fn check_position(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    match Position::from_headers(headers).map_err(Problem::from)? {
        Some(position) => app.check(&position).await,
        None => Ok(()),
    }
}

fn if_match() -> Error {
    Error::Header {
        name: "If-Match",
        detail: "expected an entity tag in quotes, as in \"3\"".into(),
    }
}

/// The longest Idempotency-Key, in bytes.
const KEY_MAX: usize = 255;

/// The Idempotency-Key of a request, when it brings one.
///
/// # Errors
/// It is empty, too long, or there are two.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Error> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let wrong = |detail: &'static str| Error::Header {
        name: "Idempotency-Key",
        detail: detail.into(),
    };
    if keys.next().is_some() {
        return Err(wrong("it came twice"));
    }
    match key.len() {
        0 => Err(wrong("it is empty")),
        1..=KEY_MAX => Ok(Some(key.as_bytes())),
        _ => Err(wrong("it is longer than 255 characters")),
    }
}

/// What stands for tenant, principal and Idempotency-Key, whose text is kept nowhere.
pub fn idempotency_hash(app: &App, principal: Principal, key: &[u8]) -> Hash {
    app.keys()
        .keyed_hash("idempotency key", &[&principal.bytes(), key])
}

/// A body that asks for something: which scope it needs, and whether it may be left out.
pub trait Body: DeserializeOwned {
    /// The caller needs one of these.
    const SCOPES: &'static [Scope];
    /// Whether no body means `{}`.
    const OPTIONAL: bool = false;
}

/// A command as it arrived: its body parsed, its caller allowed.
pub struct CommandRequest<T> {
    /// Who called.
    pub caller: Caller,
    /// What it carries.
    pub context: Context,
    /// What it asks for.
    pub body: T,
    /// The Idempotency-Key itself.
    pub key: Option<Vec<u8>>,
}

impl<T: Body> FromRequest<App> for CommandRequest<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, app).await?;
        let principal = allowed(&caller, T::SCOPES)?;
        let expected = Expected::parse(&parts.headers)?;
        check_position(app, &parts.headers).await?;
        let declared = check_type(&parts.headers);
        let trace = parts.extensions.get::<TraceContext>().copied();
        let held = parts.extensions.get::<Held>().cloned();
        let correlation = parts.headers.get("x-correlation-id");
        let correlation = correlation.and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
        let arriving = Arriving::new(app, &mut parts, &caller).await?;
        let key = arriving.key()?;
        let bytes = Bytes::from_request(Request::from_parts(parts, body), app)
            .await
            .map_err(unread)?;
        let key_hash = key.as_ref().map(|key| idempotency_hash(app, principal, key));
        let arrived = arriving.with(app, bytes.clone())?;
        let context = Context {
            id: arrived.command,
            principal,
            key: key_hash,
            request: arrived.request,
            expected,
            traceparent: trace.map(|trace| trace.to_string()),
            correlation,
            until: arrived.until,
            arrived: app.is_shared().then(|| Box::new(arrived)),
            held,
        };
        let body = if bytes.is_empty() && T::OPTIONAL {
            Json::from_bytes(b"{}")?.0
        } else {
            declared?;
            Json::from_object(&bytes)?.0
        };
        Ok(Self {
            caller,
            context,
            body,
            key,
        })
    }
}

/// What is said of a body that could not be taken in.
pub fn unread(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(
            rejection.status(),
            "too-large",
            "the body is larger than this route takes",
        )
    } else {
        Problem::unreadable("the body could not be read to its end")
    }
}

/// The principal, when it has one of these scopes; the error names the first.
fn allowed(caller: &Caller, scopes: &[Scope]) -> Result<Principal, Error> {
    let mut refused = Error::Unauthenticated;
    for scope in scopes.iter().rev() {
        match caller.may(*scope) {
            Ok(principal) => return Ok(principal),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// An id in the path; a text that is none names nothing, so it is 404.
pub struct Id<T>(pub T);

impl<T: std::str::FromStr + Send> FromRequestParts<App> for Id<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut http::request::Parts, app: &App) -> Result<Self, Error> {
        let text = Path::<String>::from_request_parts(parts, app).await;
        if let Some(id) = text.ok().and_then(|Path(text)| text.parse().ok()) {
            return Ok(Self(id));
        }
        // Who may not ask is told that first, whatever was asked.
        Caller::from_request_parts(parts, app).await?;
        Err(Error::NotFound("thing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            name.parse().expect("a name"),
            http::HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn if_match_names_versions_in_quotes() {
        let parse = |value| Expected::parse(&headers("if-match", value)).ok();
        assert_eq!(parse("\"3\""), Some(Expected::OneOf(vec![3])));
        assert_eq!(parse("\"3\", \"4\""), Some(Expected::OneOf(vec![3, 4])));
        assert_eq!(parse("*"), Some(Expected::Any));
        assert!(!parse("W/\"3\"").expect("readable").allows(3));
        assert!(!parse("\"abc\"").expect("readable").allows(1));
        assert_eq!(parse("3"), None);
        assert_eq!(parse("\"3"), None);
    }

    #[test]
    fn an_idempotency_key_has_1_to_255_bytes() {
        let read = |value| {
            idempotency_key(&headers("idempotency-key", value))
                .map(|key| key.map(<[u8]>::len))
                .ok()
        };
        assert_eq!(read("a"), Some(Some(1)));
        assert_eq!(read(""), None);
        let long: &'static str = String::leak("k".repeat(256));
        assert_eq!(read(long), None);
        assert_eq!(read(&long[1..]), Some(Some(255)));
    }
}
