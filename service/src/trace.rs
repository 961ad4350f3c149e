//! W3C trace context: the thread that leads from a request through the log into the projectors.
//!
//! <https://www.w3.org/TR/trace-context/>, version 00.

use std::{fmt, str::FromStr};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, request::Parts};

use crate::Problem;

/// The header that carries it.
pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// A trace and a place in it. Its text is `00-<32 hex>-<16 hex>-<2 hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

/// A text that is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent: expected 00-<32 hex>-<16 hex>-<2 hex>")]
pub struct InvalidTraceparent;

impl TraceContext {
    /// A new trace, not sampled elsewhere.
    pub fn start() -> Self {
        let random = || loop {
            let number = rand::random::<u128>();
            if number != 0 {
                return number;
            }
        };
        Self {
            trace: random(),
            span: nonzero(),
            flags: 0,
        }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span: nonzero(),
            ..self
        }
    }

    /// The trace that a request belongs to, with a span of our own: continued from its header, or begun.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        given.map_or_else(Self::start, Self::child)
    }

    /// The trace's id, which log lines carry.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        struct Hex(u128);
        impl fmt::Display for Hex {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        Hex(self.trace)
    }
}

fn nonzero() -> u64 {
    rand::random::<u64>() | 1
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let lower_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut fields = text.split('-');
        let mut field = |length: usize| {
            fields
                .next()
                .filter(|field| field.len() == length && lower_hex(field))
                .ok_or(InvalidTraceparent)
        };
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        // A later version may append fields; ours may not, and ff is forbidden.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return Err(InvalidTraceparent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| InvalidTraceparent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| InvalidTraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceparent)?;
        if trace == 0 || span == 0 {
            return Err(InvalidTraceparent);
        }
        Ok(Self { trace, span, flags })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Problem;

    /// The context that [`http::finish`](crate::http::finish) gave the request.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts
            .extensions
            .get::<Self>()
            .copied()
            .unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_under_a_new_span() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.to_string(), text);
        let child = context.child();
        assert_eq!(child.to_string()[..36], text[..36]);
        assert_ne!(child, context);
        assert_eq!(
            TraceContext::start()
                .to_string()
                .parse::<TraceContext>()
                .map(|_| ()),
            Ok(())
        );
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-öaf7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(InvalidTraceparent), "{wrong}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(later.parse::<TraceContext>().is_ok());
    }
}
