//! What sites are known by: a domain and a time zone.

use std::{fmt, str::FromStr, sync::Arc};

use crate::aggregate::Invalid;

/// A site's domain: lower case, in ASCII (punycode), without a final dot; at most 253 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Domain {
    /// As it stands in the log: checked when it was decided.
    pub(crate) fn recorded(domain: &str) -> Self {
        Self(domain.into())
    }

    /// The form in which the log and the tables have the domain that somebody names: what is no domain stays as it
    /// is, in lower case, and names no site.
    pub fn normal(text: &str) -> String {
        text.parse()
            .map_or_else(|_| text.trim().to_lowercase(), |domain: Self| domain.to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = Invalid;

    /// Reads a domain as the URL standard does (IDNA): `Bücher.example` is `xn--bcher-kva.example`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new("a domain is a host's name without scheme, port and path, as in blog.example.org")
        };
        if text.len() > 1000 {
            return Err(invalid());
        }
        let host = url::Host::parse(text.trim()).map_err(|_| invalid())?;
        let url::Host::Domain(name) = host else {
            return Err(Invalid::new("a site is known by a name, not by an address"));
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(invalid());
        }
        Ok(Self(name.into()))
    }
}

impl std::borrow::Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An IANA time zone, such as `Europe/Berlin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timezone(chrono_tz::Tz);

impl Timezone {
    /// Where nothing else was said.
    pub const UTC: Self = Self(chrono_tz::UTC);

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl FromStr for Timezone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let zone = text
            .parse()
            .map_err(|_| Invalid::new("a time zone has an IANA name, as in Europe/Berlin or UTC"))?;
        Ok(Self(zone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_lower_case_ascii_without_a_final_dot() {
        for (given, expected) in [
            ("example.org", "example.org"),
            (" WWW.Example.ORG. ", "www.example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
        ] {
            assert_eq!(given.parse::<Domain>().unwrap().as_str(), expected);
            assert_eq!(Domain::normal(given), expected);
        }
        assert_eq!(Domain::normal(" No Domain "), "no domain");
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long = "a.".repeat(127) + "org";
        for refused in [
            "",
            ".",
            "a..b",
            "http://example.org",
            "example.org/a",
            "example.org:80",
            "a b.org",
            "-a.org",
            "a-.org",
            "a@b.org",
            "127.0.0.1",
            "2130706433",
            "[::1]",
            "<script>",
            "a'b.org",
            "a\0b.org",
            "%00.org",
            &long_label,
            &long,
        ] {
            assert!(refused.parse::<Domain>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_time_zone_is_one_that_iana_names() {
        assert_eq!(
            "Europe/Berlin".parse::<Timezone>().unwrap().name(),
            "Europe/Berlin"
        );
        for refused in ["", "Berlin", "Europe/Nowhere", "+02:00"] {
            assert!(refused.parse::<Timezone>().is_err(), "{refused:?}");
        }
    }
}
