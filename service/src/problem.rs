//! The one body of every error: RFC 9457 problem details.

use std::{borrow::Cow, error::Error};

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

/// The media type of [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, in a form for programs and for people. Small, because every handler may return one.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: &'static str,
    status: StatusCode,
    detail: Cow<'static, str>,
    rest: Option<Box<Rest>>,
}

/// What few problems have.
#[derive(Debug, Clone, Default)]
struct Rest {
    errors: Vec<FieldError>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A problem as it is written.
#[derive(Serialize, ToSchema)]
struct Body<'a> {
    /// Stable, for programs: `/problems/<kind>`.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid")]
    kind: String,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What a person can do about it.
    detail: &'a str,
    /// Which fields are wrong, when fields are.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
    /// What else programs may want to know, such as a free slug.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Option<&'a Map<String, Value>>,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the body; of query parameters, `/name`. Empty for the body as a whole.
    #[schema(example = "/tags/3")]
    pub pointer: String,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// The field at this pointer is wrong.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    fn in_words(&self) -> String {
        if self.pointer.is_empty() {
            self.detail.clone()
        } else {
            format!("{}: {}", self.pointer, self.detail)
        }
    }
}

impl Problem {
    /// A problem of type `/problems/<kind>`.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            status,
            detail: detail.into(),
            rest: None,
        }
    }

    /// 400: cannot be read at all.
    pub fn unreadable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable", detail)
    }

    /// 401: no key, or none that we know.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: the key lacks a scope.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: nothing here, or nothing of the caller's.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 422: can be read, but these fields are wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [] => "the request is not valid".to_owned(),
            [only] => only.in_words(),
            [first, more @ ..] => format!("{}; and {} more, see errors", first.in_words(), more.len()),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).with_errors(errors)
    }

    /// 500: our fault. The cause and its sources are logged here, once, and do not leave the process.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "request failed");
        Self::internal_logged()
    }

    /// 500 whose cause was logged already.
    pub(crate) fn internal_logged() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side; it was logged under this request's trace id",
        )
    }

    /// 503 with `Retry-After`: something that we need is away. The cause is logged here, once.
    pub fn unavailable(cause: &(dyn Error + 'static)) -> Self {
        tracing::warn!(error = %chain(cause), "cannot serve");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "a part of the service is away; try again",
        )
        .retry_after(1)
    }

    /// Which fields are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.rest().errors = errors;
        self
    }

    /// One more member of the body.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.rest().more.insert(name.to_owned(), value.into());
        self
    }

    /// One more header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.rest().headers.push((name, value));
        self
    }

    /// Trying again makes sense after this many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The last part of the stable type, `/problems/<kind>`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// What a person can do about it.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Which fields are wrong.
    pub fn errors(&self) -> &[FieldError] {
        self.rest.as_ref().map_or(&[], |rest| &rest.errors)
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = Body {
            kind: format!("/problems/{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: self.errors(),
            more: self.rest.as_ref().map(|rest| &rest.more),
        };
        body.serialize(serializer)
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Body::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Body::schemas(schemas);
    }
}

/// An error and its sources on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let headers = self
            .rest
            .as_mut()
            .map(|rest| std::mem::take(&mut rest.headers))
            .unwrap_or_default();
        // Texts and numbers only: this cannot fail, and if it did, the status still tells.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        // What is not there, or not allowed, may be in a moment: no cache between us and its reader keeps that.
        let not_kept = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut response = (self.status, [content_type, not_kept], body).into_response();
        response.headers_mut().extend(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_written_as_rfc_9457_has_it() {
        let problem = Problem::invalid(vec![FieldError::new("/slug", "is taken")]).with("suggestion", "a-2");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "/problems/invalid", "title": "Unprocessable Entity", "status": 422,
                "detail": "/slug: is taken", "errors": [{"pointer": "/slug", "detail": "is taken"}],
                "suggestion": "a-2",
            })
        );
    }

    #[test]
    fn a_cause_of_ours_stays_inside() {
        let problem = Problem::internal(&std::io::Error::other("password of the database"));
        assert!(!serde_json::to_string(&problem).unwrap().contains("password"));
        let response = Problem::unavailable(&std::io::Error::other("host db-7")).into_response();
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
    }
}
