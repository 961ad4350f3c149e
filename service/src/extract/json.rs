//! A JSON body of a known type.

use axum::{
    body::Bytes,
    extract::{FromRequest, OptionalFromRequest, Request, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::exact;
use crate::{FieldError, Problem};

/// A JSON body. As an extractor it refuses, always as a [`Problem`]:
/// another content type, charset or encoding with 415; more than the route's
/// [`DefaultBodyLimit`](axum::extract::DefaultBodyLimit) (axum's default is 2 MiB) with 413; what is not JSON,
/// or nested deeper than 127, with 400; what is no object or does not fit `T`, would not come back as it was sent (a name that stands
/// twice, a number that is rounded), or has a NUL character in a text (which the tables cannot hold), with 422 and a
/// pointer. Unknown fields are refused when `T` says `deny_unknown_fields`.
///
/// As an answer it is `application/json`. `Option<Json<T>>` takes an absent body for `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unread(&error))?;
        Self::from_object(&bytes)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let declared = request.headers().contains_key(header::CONTENT_TYPE);
        if declared {
            check_type(request.headers())?;
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unread(&error))?;
        match (bytes.is_empty(), declared) {
            (true, _) => Ok(None),
            (false, true) => Self::from_object(&bytes).map(Some),
            (false, false) => Err(unsupported("the body has no Content-Type; send application/json")),
        }
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// The value in these bytes, which must be an object: serde takes a list for one, its items for the fields in their
    /// order; we do not.
    ///
    /// # Errors
    /// 400 or 422, as above.
    pub fn from_object(bytes: &[u8]) -> Result<Self, Problem> {
        let value = Self::from_bytes(bytes)?;
        match bytes.trim_ascii_start().first() {
            Some(b'{') => Ok(value),
            Some(_) | None => Err(Problem::invalid(vec![FieldError::new("", "must be an object")])),
        }
    }

    /// The value in these bytes, for bodies that arrive in another way.
    ///
    /// # Errors
    /// 400 or 422, as above.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.trim_ascii().is_empty() {
            return Err(Problem::unreadable("the body is empty"));
        }
        // Following the path costs as much as reading: only what is refused is read again with it.
        let value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(_) => pointed(bytes).map_err(|problem| nearer(problem, bytes))?,
        };
        match exact::flaw(bytes) {
            None => Ok(Self(value)),
            Some(flaw) => Err(Problem::invalid(vec![flaw])),
        }
    }
}

/// Reads, and points at what cannot be read.
fn pointed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (path, cause) = (error.path().clone(), error.into_inner());
        let message = cause.to_string();
        let message = without_place(&message);
        match cause.classify() {
            serde_json::error::Category::Syntax if message == TOO_DEEP => {
                too_deep(super::field_error(&path, message).pointer)
            }
            // JSON knows no largest number, so it is JSON.
            serde_json::error::Category::Syntax if message == OUT_OF_RANGE => {
                Problem::invalid(vec![super::field_error(&path, message)])
            }
            serde_json::error::Category::Data if message == TOO_DEEP => {
                too_deep(super::field_error(&path, message).pointer)
            }
            serde_json::error::Category::Data => Problem::invalid(vec![super::field_error(&path, message)]),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => not_json(&cause),
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Points into a field that was read apart, of which nothing is known but that it cannot be read.
fn nearer(problem: Problem, bytes: &[u8]) -> Problem {
    let is_within = |flaw: &FieldError| match problem.errors() {
        [field] => flaw.pointer.starts_with(&format!("{}/", field.pointer)),
        _ => false,
    };
    match exact::flaw(bytes).filter(is_within) {
        Some(flaw) => Problem::invalid(vec![flaw]),
        None => problem,
    }
}

/// As serde_json says it.
const TOO_DEEP: &str = "recursion limit exceeded";
const OUT_OF_RANGE: &str = "number out of range";
/// The deepest that it reads.
const DEEPEST: usize = 127;

/// Points at the outermost field, for the innermost has a hundred names.
fn too_deep(mut pointer: String) -> Problem {
    let detail = format!("is nested deeper than {DEEPEST} levels");
    let whole = Problem::unreadable(format!("the body {detail}"));
    let outermost = pointer.match_indices('/').nth(1).map(|(at, _)| at);
    pointer.truncate(outermost.unwrap_or(pointer.len()));
    whole.with_errors(vec![FieldError::new(pointer, detail)])
}

/// Whether nothing in this JSON is nested deeper than bodies may be, for readers that pass over parts of it: passing
/// over knows no limit. Makes nothing of it: as values it would take a hundred times as much memory.
///
/// # Errors
/// 400 with a pointer. What is not JSON is left to the reader.
pub fn check_depth(json: &[u8]) -> Result<(), Problem> {
    let opened = memchr::memchr2_iter(b'[', b'{', json).take(DEEPEST + 1).count();
    if opened <= DEEPEST {
        return Ok(());
    }
    exact::deeper_than(DEEPEST, json).map_or(Ok(()), |pointer| Err(too_deep(pointer)))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Whether a body is declared as JSON in UTF-8 and unencoded, for those who read bodies in another way.
///
/// # Errors
/// 415.
pub fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |essence: &str| {
        essence.eq_ignore_ascii_case("application/json")
            || (essence.len() > 17
                && essence.is_char_boundary(12)
                && essence[..12].eq_ignore_ascii_case("application/")
                && essence.to_ascii_lowercase().ends_with("+json"))
    };
    check_type_among(headers, is_json, "the body must be application/json")
}

/// The same of other types, which `is_known` knows and `detail` names.
///
/// # Errors
/// 415.
pub fn check_type_among(
    headers: &HeaderMap,
    is_known: impl FnOnce(&str) -> bool,
    detail: &'static str,
) -> Result<(), Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(unsupported(
            "an encoded body is not taken here; send it without Content-Encoding",
        ));
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if !is_known(essence) {
        return Err(unsupported(detail));
    }
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
            && !matches!(
                value.trim().trim_matches('"').to_ascii_lowercase().as_str(),
                "utf-8" | "utf8"
            )
        {
            return Err(unsupported("the body must be in UTF-8"));
        }
    }
    Ok(())
}

fn unsupported(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        detail,
    )
}

fn unread(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "the body is larger than this route takes",
        )
    } else {
        Problem::unreadable("the body could not be read to its end")
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::unreadable(format!("the body is not JSON: {error}"))
}

/// serde_json appends ` at line 1 column 7`; a pointer says it better.
fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Piece {
        title: String,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        inner: Option<Box<Piece>>,
    }

    fn pointer(body: &str) -> (u16, String) {
        let problem = Json::<Piece>::from_bytes(body.as_bytes()).unwrap_err();
        let pointer = problem
            .errors()
            .first()
            .map(|error| error.pointer.clone())
            .unwrap_or_default();
        (problem.status().as_u16(), pointer)
    }

    #[test]
    fn what_does_not_fit_is_422_and_points_there() {
        assert_eq!(pointer(r#"{"title": 3}"#), (422, "/title".into()));
        assert_eq!(
            pointer(r#"{"title": "a", "tags": ["a", 1]}"#),
            (422, "/tags/1".into())
        );
        assert_eq!(pointer(r#"{"title": "a", "nope": 1}"#), (422, "/nope".into()));
        assert_eq!(
            pointer(r#"{"title": "a", "a/b~`c": 1}"#),
            (422, "/a~1b~0`c".into())
        );
        assert_eq!(pointer(r"{}"), (422, "/title".into()));
        assert_eq!(
            pointer(r#"{"title": "a", "inner": {}}"#),
            (422, "/inner/title".into())
        );
        assert_eq!(
            pointer(r#"{"title": "a", "inner": {"title": "b", "x": 1}}"#),
            (422, "/inner/x".into())
        );
        assert_eq!(pointer(r#"{"title": "a", "title": "b"}"#), (422, "/title".into()));
        assert_eq!(pointer("[]").0, 422);
    }

    #[test]
    fn what_is_not_json_is_400() {
        for body in ["", "{", "{\"title\": \"a\"} x", "\u{0}", "nonsense"] {
            assert_eq!(pointer(body).0, 400, "{body:?}");
        }
        let not_utf8 = Json::<Piece>::from_bytes(b"{\"title\": \"\xff\"}").unwrap_err();
        assert_eq!(not_utf8.status(), 400);
    }

    #[test]
    fn a_thousand_levels_are_400_and_no_overflow() {
        let deep = "[".repeat(100_000);
        assert_eq!(
            Json::<serde_json::Value>::from_bytes(deep.as_bytes())
                .unwrap_err()
                .status(),
            400
        );
        let deep = format!("{}{}", r#"{"title":"a","inner":"#.repeat(1000), "1");
        assert_eq!(pointer(&deep), (400, "/inner".into()));
        assert!(check_depth(deep.as_bytes()).is_err());
        let flat = format!("[{}]", vec!["[]"; 1000].join(","));
        assert!(check_depth(flat.as_bytes()).is_ok());
    }

    #[test]
    fn a_nul_character_is_refused_and_a_backslash_before_its_name_is_not() {
        assert_eq!(pointer(r#"{"title": "a\u0000"}"#), (422, "/title".into()));
        assert_eq!(
            pointer(r#"{"title": "a", "tags": ["a\\\u0000"]}"#),
            (422, "/tags/0".into())
        );
        assert!(Json::<Piece>::from_bytes(br#"{"title": "a\\u0000"}"#).is_ok());
        let list = Json::<Vec<u8>>::from_object(b" [1]").unwrap_err();
        assert_eq!(list.status(), 422);
    }

    async fn with_type(content_type: Option<&str>) -> Result<Json<Piece>, Problem> {
        let mut request = Request::builder();
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Body::from(r#"{"title": "a"}"#)).unwrap();
        <Json<Piece> as FromRequest<()>>::from_request(request, &()).await
    }

    #[tokio::test]
    async fn another_type_or_charset_is_415() {
        for right in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
        ] {
            assert!(with_type(Some(right)).await.is_ok(), "{right}");
        }
        for wrong in [
            "text/plain",
            "application/json; charset=latin1",
            "application/+json",
            "",
            "application/x",
        ] {
            assert_eq!(with_type(Some(wrong)).await.unwrap_err().status(), 415, "{wrong}");
        }
        assert_eq!(with_type(None).await.unwrap_err().status(), 415);
    }
}
