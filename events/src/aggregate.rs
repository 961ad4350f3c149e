//! What every aggregate has in common, and how a rule says no.

use std::borrow::Cow;

use crate::Timestamp;

/// An aggregate: what the past makes of it, and what it answers to a request, given that past.
///
/// Both are pure: what a rule needs to know of others comes in as `lookup`, the time as `at`.
pub trait Aggregate: Default {
    /// What can happen to it.
    type Event;
    /// What can be asked of it.
    type Command;
    /// Why it may refuse.
    type Rejection;
    /// What its rules need to know of other aggregates of the tenant.
    type Lookup<'a>: ?Sized;

    /// What the past makes of it. An event that makes no sense here changes nothing but the version:
    /// what is in the log has happened.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;

    /// What it answers. No events: everything is as asked for already.
    ///
    /// # Errors
    /// The rule that stands in the way.
    fn decide(
        &self,
        command: Self::Command,
        lookup: &Self::Lookup<'_>,
        at: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// How many events it has behind it: the version that `ETag` shows and `If-Match` asks for.
    fn version(&self) -> u64;
}

/// A text or a value that breaks a limit of the domain; `Display` tells a person what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(Cow<'static, str>);

impl Invalid {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

/// Defines an enum of rejections; each has a kind, stable for programs, and a text for people.
/// `KINDS` lists them all, so that a test notices a rejection that no test reaches.
macro_rules! rejections {
    ($(#[$enum_meta:meta])* pub enum $name:ident {
        $($kind:literal => $(#[$meta:meta])* $variant:ident $({
            $($(#[$field_meta:meta])* $field:ident: $type:ty),+ $(,)?
        })?,)+
    }) => {
        $(#[$enum_meta])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum $name {
            $($(#[$meta])* $variant $({ $($(#[$field_meta])* $field: $type),+ })?,)+
        }

        impl $name {
            /// The kinds of all rejections.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// What kind of rejection it is: stable, for programs.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $kind,)+ }
            }
        }
    };
}

pub(crate) use rejections;

/// One line of text: trimmed, without control characters, of `min` to `max` characters.
pub(crate) fn line(what: &str, text: &str, min: usize, max: usize) -> Result<String, Invalid> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(format!(
            "{what} must not hold line breaks or other control characters"
        )));
    }
    let length = text.chars().count();
    if length < min {
        return Err(Invalid::new(format!("{what} must not be empty")));
    }
    if length > max {
        return Err(Invalid::new(format!(
            "{what} has {length} characters, at most {max} are allowed"
        )));
    }
    Ok(text.to_owned())
}

/// Panics unless the given rejections are of all kinds: a rejection that no test reaches is a defect.
#[cfg(test)]
pub(crate) fn assert_all_kinds(kinds: &[&str], reached: impl IntoIterator<Item = &'static str>) {
    let reached: std::collections::BTreeSet<_> = reached.into_iter().collect();
    let all: std::collections::BTreeSet<_> = kinds.iter().copied().collect();
    assert_eq!(reached, all, "every rejection needs a test that reaches it");
}
