//! Slugs: the last part of a piece's address, and who holds which.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ContentId, SiteId, aggregate::Invalid, content::Kind};

/// Lower-case letters, digits and single hyphens between them; 1 to 200 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slug(Arc<str>);

const MAX: usize = 200;

impl Slug {
    /// The slug that a title makes: written in ASCII, everything else a hyphen, cut at 200 characters.
    /// None for a title without any letter or digit.
    pub fn from_title(title: &str) -> Option<Self> {
        let mut slug = String::new();
        for character in deunicode::deunicode(title).chars() {
            if character.is_ascii_alphanumeric() {
                slug.push(character.to_ascii_lowercase());
            } else if character != '\'' && !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
            if slug.len() == MAX {
                break;
            }
        }
        let slug = slug.trim_end_matches('-');
        (!slug.is_empty()).then(|| Self(slug.into()))
    }

    /// As it stands in the log: checked when it was decided.
    pub(crate) fn recorded(slug: &str) -> Self {
        Self(slug.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with a number behind it, cut to fit: `hello-2`.
    fn numbered(&self, number: u64) -> Self {
        let suffix = format!("-{number}");
        let base = &self.0[..self.0.len().min(MAX - suffix.len())];
        Self(format!("{}{suffix}", base.trim_end_matches('-')).into())
    }
}

impl FromStr for Slug {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let letters = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if text.len() <= MAX && text.split('-').all(letters) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new(match Self::from_title(text) {
            Some(better) => {
                format!("a slug is 1 to {MAX} lower-case letters, digits and single hyphens, as in {better}")
            }
            None => format!(
                "a slug is 1 to {MAX} lower-case letters, digits and single hyphens, as in hello-world"
            ),
        }))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which piece holds which slug, of one tenant. An archived piece holds none; an old slug is free,
/// and leads to its old holder until another piece takes it (the read models' business).
pub trait Slugs {
    /// Who holds this slug.
    fn holder(&self, site: SiteId, kind: Kind, slug: &Slug) -> Option<ContentId>;

    /// A slug like this one that nobody holds.
    fn free(&self, site: SiteId, kind: Kind, slug: &Slug) -> Slug {
        // After twenty neighbours in steps that double: some free one is found in a few dozen looks,
        // however many pieces have the same title.
        let numbers = (2..=20).chain((1..40).map(|exponent| 20_u64 << exponent));
        let mut candidates = std::iter::once(slug.clone()).chain(numbers.map(|number| slug.numbered(number)));
        candidates
            .find(|slug| self.holder(site, kind, slug).is_none())
            .unwrap_or_else(|| slug.clone())
    }
}
