//! An answer that is written once and sent often: its bytes, its ETag, where it was read.

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use service::position;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ask::Ask;

/// An answer in JSON, ready to be sent. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    body: Bytes,
    etag: HeaderValue,
}

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Anyone, if they ask again each time.
    Public,
    /// The caller only.
    Private,
}

impl Page {
    /// An aggregate's state: its ETag is its version, as commands take it in `If-Match`.
    pub(crate) fn versioned(value: &impl Serialize, version: i64) -> Self {
        Self {
            body: written(value),
            etag: header_value(&format!("\"{version}\"")),
        }
    }

    /// The state of the aggregate that is at an address now. Another one may be there later, at the same version, and
    /// another release may render the same text otherwise: behind the version the ETag names the aggregate and has a
    /// hash of all of it.
    pub(crate) fn versioned_of(value: &impl Serialize, version: i64, id: Uuid) -> Self {
        let body = written(value);
        let hash = Sha256::digest(&body);
        Self {
            etag: header_value(&format!(
                "\"{version}-{}-{}\"",
                id.simple(),
                hex::encode(&hash[..8])
            )),
            body,
        }
    }

    /// Anything else: its ETag is taken from its bytes.
    pub(crate) fn hashed(value: &impl Serialize) -> Self {
        let body = written(value);
        let hash = Sha256::digest(&body);
        Self {
            etag: header_value(&format!("\"{}\"", hex::encode(&hash[..12]))),
            body,
        }
    }

    /// Bytes that it keeps in memory.
    pub(crate) const fn size(&self) -> usize {
        self.body.len()
    }

    /// 200 with the body, or 304 when the asker has it.
    pub(crate) fn answer(&self, ask: &Ask, audience: Audience, position: Option<HeaderValue>) -> Response {
        let known = ask
            .if_none_match
            .as_ref()
            .is_some_and(|given| matches(given, &self.etag));
        let mut response = if known {
            Response::new(Body::empty())
        } else {
            Response::new(Body::from(self.body.clone()))
        };
        let headers = response.headers_mut();
        headers.reserve(8);
        if !known {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("authorization"));
        headers.insert(header::CACHE_CONTROL, audience.cache_control());
        if let Some(position) = position {
            headers.insert(position::HEADER, position);
        }
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    }
}

impl Audience {
    /// Everyone asks again each time, and is told 304: so nothing stale is shown, and little is sent.
    pub(crate) const fn cache_control(self) -> HeaderValue {
        match self {
            Self::Public => HeaderValue::from_static("public, no-cache"),
            Self::Private => HeaderValue::from_static("private, no-cache"),
        }
    }
}

/// Whether a value of `If-None-Match` names this ETag: `*`, or a list compared weakly (RFC 9110, 13.1.2).
fn matches(given: &HeaderValue, etag: &HeaderValue) -> bool {
    if given == etag {
        return true;
    }
    let (Ok(given), Ok(etag)) = (given.to_str(), etag.to_str()) else {
        return false;
    };
    given
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

fn written(value: &impl Serialize) -> Bytes {
    // Rows of ours: texts, numbers, maps with text keys. This cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_found_in_what_clients_send() {
        let etag = HeaderValue::from_static("\"7\"");
        for (given, found) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("\"1\", \"7\"", true),
            ("*", true),
            ("\"77\"", false),
            ("7", false),
            ("", false),
        ] {
            assert_eq!(
                matches(&HeaderValue::from_str(given).unwrap(), &etag),
                found,
                "{given}"
            );
        }
    }
}
