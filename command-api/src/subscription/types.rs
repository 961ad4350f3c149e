//! Which events a subscriber wants: `content.published.v1,download.*`.

use std::collections::BTreeSet;

use events::{
    event::{ContentEvent, DownloadEvent, ImportEvent},
    upcast,
};

use crate::error::Error;

/// At most so many types at once.
const MOST: usize = 64;

/// Which events, by their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Types {
    /// Every one, also of types that come to be later.
    All,
    /// Those that one of these names.
    Some(Vec<Pattern>),
}

/// One or several types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The one of this name.
    Exactly(String),
    /// All that begin so, also those that come to be later.
    Under(String),
}

impl Types {
    /// Names and beginnings (`content.*`, `content.published.*`) separated by commas.
    ///
    /// # Errors
    /// 422, naming what is unknown and what exists; there are too many.
    pub fn parse(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text else { return Ok(Self::All) };
        let known = known();
        let (mut patterns, mut unknown) = (Vec::new(), Vec::new());
        for name in text.split(',').map(str::trim) {
            if patterns.len() + unknown.len() == MOST {
                return Err(Error::field("/types", format!("at most {MOST} types")));
            }
            match Pattern::parse(name, &known) {
                Some(pattern) => patterns.push(pattern),
                None => unknown.push(format!("{:?}", name.chars().take(64).collect::<String>())),
            }
        }
        if unknown.is_empty() {
            return Ok(Self::Some(patterns));
        }
        let known: Vec<_> = known.into_iter().collect();
        Err(Error::field(
            "/types",
            format!(
                "no event here is of the type {}; there are {}, and beginnings such as content.*",
                unknown.join(", "),
                known.join(", ")
            ),
        ))
    }

    /// Whether an event of this type is wanted.
    pub fn want(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(patterns) => patterns.iter().any(|pattern| match pattern {
                Pattern::Exactly(this) => this == name,
                Pattern::Under(beginning) => name.starts_with(beginning.as_str()),
            }),
        }
    }
}

impl Pattern {
    fn parse(name: &str, known: &BTreeSet<&str>) -> Option<Self> {
        match name.strip_suffix('*') {
            Some(beginning) => (beginning.ends_with('.')
                && known.iter().any(|known| known.starts_with(beginning)))
            .then(|| Self::Under(beginning.to_owned())),
            None => known.contains(name).then(|| Self::Exactly(name.to_owned())),
        }
    }
}

/// Every type that may stand in the ledger: the current ones, and the old ones that became them.
fn known() -> BTreeSet<&'static str> {
    let current = [ContentEvent::NAMES, DownloadEvent::NAMES, ImportEvent::NAMES].concat();
    let families: BTreeSet<_> = current.iter().filter_map(|name| name.split('.').next()).collect();
    let old = upcast::released().into_keys();
    let old = old.filter(|name| {
        name.split('.')
            .next()
            .is_some_and(|family| families.contains(family))
    });
    current.iter().copied().chain(old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_wanted_by_its_name_or_its_beginning() {
        let types = Types::parse(Some("content.published.v1, download.*,import.started.*")).unwrap();
        for (name, wanted) in [
            ("content.published.v1", true),
            ("content.published.v2", false),
            ("content.drafted.v1", false),
            ("download.queued.v7", true),
            ("import.started.v1", true),
            ("import.completed.v1", false),
        ] {
            assert_eq!(types.want(name), wanted, "{name}");
            assert!(Types::All.want(name));
        }
    }

    #[test]
    fn what_is_no_type_of_the_ledger_is_named() {
        for wrong in [
            "",
            "content",
            "content.",
            "*",
            "content*",
            "visit.*",
            "key.issued.v1",
            "content.published.v9",
            ",",
            "content.*,",
        ] {
            let Err(Error::Invalid(errors)) = Types::parse(Some(wrong)) else {
                panic!("{wrong:?} is taken")
            };
            assert_eq!(errors[0].pointer, "/types");
            assert!(
                errors[0].detail.contains("content.published.v1"),
                "{}",
                errors[0].detail
            );
        }
        let many = vec!["content.*"; MOST + 1].join(",");
        assert!(Types::parse(Some(&many)).is_err());
    }
}
