//! Parameters of the query and of the path.

use axum::extract::{FromRequestParts, rejection::PathRejection};
use http::request::Parts;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{FieldError, Problem};

/// Query parameters. What does not fit, is unknown (with `deny_unknown_fields`) or holds a NUL character is 422
/// with `/name` as its pointer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::from_text(parts.uri.query().unwrap_or_default())
    }
}

impl<T: DeserializeOwned> Query<T> {
    /// The parameters in this text, the part of a URL after `?`.
    ///
    /// # Errors
    /// 422, as above.
    pub fn from_text(query: &str) -> Result<Self, Problem> {
        if query.contains("%00")
            && let Some(error) = form(query).find_map(|(name, value)| nul(&name, &value))
        {
            return Err(Problem::invalid(vec![error]));
        }
        let deserializer = serde_urlencoded::Deserializer::new(form(query));
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| {
                let message = error.inner().to_string();
                Problem::invalid(vec![super::field_error(error.path(), &message)])
            })
    }
}

/// The parameters of a route that has none: whatever is asked for is unknown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

fn nul(name: &str, value: &str) -> Option<FieldError> {
    if name.contains('\0') {
        return Some(FieldError::new(
            "",
            "a parameter has a name with the character U+0000",
        ));
    }
    let mut pointer = String::new();
    super::push(&mut pointer, name);
    value
        .contains('\0')
        .then(|| FieldError::new(pointer, "holds the character U+0000"))
}

fn form(query: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query.as_bytes())
}

/// Parts of the path. What does not fit is 404: no such thing has that name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(Problem::not_found("there is nothing of that name"));
        }
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Problem::not_found("there is nothing of that name"))
            }
            Err(other) => Err(Problem::internal(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct List {
        page: Option<u32>,
        total: Option<bool>,
        search: Option<String>,
    }

    #[test]
    fn parameters_are_read_and_what_is_wrong_is_pointed_at() {
        let Query(list) = Query::<List>::from_text("page=3&search=a%20b%26").unwrap();
        assert_eq!(
            (list.page, list.total, list.search.as_deref()),
            (Some(3), None, Some("a b&"))
        );
        for (text, pointer) in [
            ("page=x", "/page"),
            ("page=-1", "/page"),
            ("page=1&page=2", "/page"),
            ("total=perhaps", "/total"),
            ("size=3", "/size"),
            ("a%00=1", ""),
            ("page=1&search=a%00", "/search"),
            ("search=a&a~b=%00", "/a~0b"),
        ] {
            let problem = Query::<List>::from_text(text).unwrap_err();
            assert_eq!(problem.status(), 422);
            assert_eq!(problem.errors()[0].pointer, pointer, "{text}");
        }
        assert!(Query::<NoParams>::from_text("").is_ok());
        let problem = Query::<NoParams>::from_text("size=3").unwrap_err();
        assert_eq!(problem.detail(), "/size: is not a field here");
    }
}
