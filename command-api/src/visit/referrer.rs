//! Where a visitor came from: the page, and what people call its site.

mod sources;

use std::{collections::HashMap, sync::LazyLock};

use url::Url;

use sources::{ALIASES, BRANDS, SITES};

/// Where a visitor came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameFrom {
    /// Host and path, without `www.`, final slash, query and fragment.
    pub referrer: String,
    /// What it is called, such as `Google`; else the host.
    pub source: String,
}

/// Longest referrer that is kept, in characters.
const MAX: usize = 2000;

static NAMES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| SITES.iter().copied().collect());
static FAMILIES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| BRANDS.iter().copied().collect());
static USUAL: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| ALIASES.iter().copied().collect());

/// Reads a referrer. None for what is no address, and for the site itself: its own pages are no source.
pub fn read(text: &str, page_host: &str, site: &str) -> Option<CameFrom> {
    if text.len() > 4 * MAX {
        return None;
    }
    let url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "http" | "https" | "android-app" | "ios-app") {
        return None;
    }
    let host = url.host_str()?.to_ascii_lowercase();
    let host = plain(&host);
    if host.is_empty() || host == plain(page_host) || host == plain(site) {
        return None;
    }
    let path = url.path().trim_end_matches('/');
    let referrer: String = host.chars().chain(path.chars()).take(MAX).collect();
    Some(CameFrom {
        referrer,
        source: name(host).unwrap_or(host).to_owned(),
    })
}

fn plain(host: &str) -> &str {
    host.strip_prefix("www.").unwrap_or(host)
}

/// What a host is called, by its longest known ending.
fn name(host: &str) -> Option<&'static str> {
    let mut ending = host;
    loop {
        if let Some(name) = NAMES.get(ending) {
            return Some(name);
        }
        let (label, rest) = ending.split_once('.')?;
        if let Some(name) = FAMILIES.get(label)
            && is_country(rest)
        {
            return Some(name);
        }
        ending = rest;
    }
}

/// `com`, `de`, `co.uk`: what may follow the name of a house that is known under many endings.
fn is_country(ending: &str) -> bool {
    let mut labels = ending.split('.');
    let fits = |label: &str| (2..=3).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_lowercase());
    labels.next().is_some_and(fits)
        && labels.next().is_none_or(|label| label.len() == 2 && fits(label))
        && labels.next().is_none()
}

/// What a source that a link names itself (`utm_source=fb`, `ref=news.ycombinator.com`) is usually called.
pub fn usual_name(told: &str) -> String {
    let lower = told.to_ascii_lowercase();
    let host = plain(&lower);
    let known = USUAL
        .get(host)
        .copied()
        .or_else(|| if host.contains('.') { name(host) } else { None });
    known.map_or_else(|| told.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> String {
        read(text, "example.org", "example.org").map_or_else(|| "-".to_owned(), |from| from.source)
    }

    #[test]
    fn known_sites_have_names_and_others_their_hosts() {
        for (referrer, expected) in [
            ("https://www.google.com/", "Google"),
            ("https://www.google.co.uk/url?q=x", "Google"),
            ("https://news.google.com/a", "Google News"),
            ("https://duckduckgo.com/", "DuckDuckGo"),
            ("https://r.duckduckgo.com/l/?kh=-1", "DuckDuckGo"),
            ("https://t.co/abc", "Twitter"),
            ("https://old.reddit.com/r/rust", "Reddit"),
            ("https://news.ycombinator.com/item?id=1", "Hacker News"),
            ("https://de.wikipedia.org/wiki/Rust", "Wikipedia"),
            ("android-app://com.google.android.gm/", "Gmail"),
            ("https://kufli.blogspot.de/a", "Blogger"),
            ("https://tuxradar.com/x", "tuxradar.com"),
            ("https://google.com.evil.example/", "google.com.evil.example"),
            ("https://notgoogle.com/", "notgoogle.com"),
        ] {
            assert_eq!(source(referrer), expected, "{referrer}");
        }
    }

    #[test]
    fn a_referrer_is_host_and_path() {
        let from = read(
            "https://WWW.Example.com/A/b/?secret=1#x",
            "example.org",
            "example.org",
        )
        .unwrap();
        assert_eq!(from.referrer, "example.com/A/b");
    }

    #[test]
    fn the_site_itself_is_no_source() {
        assert_eq!(source("https://www.example.org/other"), "-");
        assert_eq!(
            read("https://blog.example.org/", "www.blog.example.org", "example.org"),
            None
        );
        assert_eq!(
            read("https://example.org/", "blog.example.org", "www.example.org"),
            None
        );
        assert_eq!(source("https://blog.example.org/"), "blog.example.org");
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "-",
            "google",
            "about:blank",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://",
            "data:,x",
        ] {
            assert_eq!(source(text), "-", "{text}");
        }
    }

    #[test]
    fn told_sources_get_their_usual_names() {
        for (told, expected) in [
            ("fb", "Facebook"),
            ("Twitter", "Twitter"),
            ("www.google.de", "Google"),
            ("newsletter", "newsletter"),
            ("HN", "Hacker News"),
        ] {
            assert_eq!(usual_name(told), expected);
        }
    }

    #[test]
    fn every_known_name_stands_once() {
        assert_eq!(NAMES.len(), SITES.len());
        assert_eq!(FAMILIES.len(), BRANDS.len());
        assert_eq!(USUAL.len(), ALIASES.len());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = read(&text, "example.org", "example.org");
            let _ = read(&format!("https://{text}"), &text, &text);
            let _ = usual_name(&text);
        }
    }
}
