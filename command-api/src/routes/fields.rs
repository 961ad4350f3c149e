//! Checking the fields of a body, so that one answer names everything that is wrong.

use std::fmt::Display;

use service::FieldError;

use crate::error::Error;

/// What was found wrong so far.
#[derive(Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// The checked value; or remembers why this field has none.
    pub fn check<T>(&mut self, pointer: &str, checked: Result<T, impl Display>) -> Option<T> {
        checked
            .map_err(|error| self.0.push(FieldError::new(pointer, error.to_string())))
            .ok()
    }

    /// The same of a field that may be absent.
    pub fn optional<F, T, E: Display>(
        &mut self,
        pointer: &str,
        field: Option<F>,
        check: impl FnOnce(F) -> Result<T, E>,
    ) -> Option<T> {
        field.and_then(|field| self.check(pointer, check(field)))
    }

    /// The value, when no field was wrong.
    ///
    /// # Errors
    /// 422, with every wrong field.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(Error::Invalid(self.0)),
        }
    }
}
