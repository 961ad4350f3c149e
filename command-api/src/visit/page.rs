//! A page's URL: hostname, path, and the campaign that led there.

use std::collections::BTreeMap;

use events::visit::plain_path;
use url::Url;

use super::referrer;

/// What is kept of a page's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Lower case, in ASCII.
    pub hostname: String,
    /// From the first slash on, percent-decoded where that gives plain text; without query and fragment.
    pub pathname: String,
    /// Parameters that begin with `utm_`, without it: source, medium, campaign, content, term.
    pub utm: BTreeMap<String, String>,
    /// What `utm_source`, `source` or `ref` says, by its usual name.
    pub source: Option<String>,
}

/// As trackers have it: longest URL, in characters.
pub const URL_MAX: usize = 2000;

/// And in bytes, so that two for each character are enough.
const URL_BYTES: usize = 2 * URL_MAX;

/// Longest value of a campaign parameter that is kept; the rest is cut off.
const VALUE_MAX: usize = 300;

impl Page {
    /// Reads a URL. With `hash_is_path`, what follows `#` belongs to the path, for pages that route by it.
    ///
    /// # Errors
    /// A text that says what would be right.
    pub fn read(text: &str, hash_is_path: bool) -> Result<Self, &'static str> {
        if text.chars().count() > URL_MAX {
            return Err("has more than 2000 characters");
        }
        if text.len() > URL_BYTES {
            return Err("has more than 4000 bytes");
        }
        let url =
            Url::parse(text.trim()).map_err(|_| "is not an absolute URL, as in https://example.org/page")?;
        let hostname = match url.host_str() {
            Some(host) if !host.is_empty() && url.scheme() != "data" => host.to_ascii_lowercase(),
            Some(_) | None => return Err("has no hostname"),
        };
        let path = if url.path().is_empty() { "/" } else { url.path() };
        let mut pathname = plain_path(path).into_owned();
        if let Some(fragment) = url
            .fragment()
            .filter(|fragment| hash_is_path && !fragment.is_empty())
        {
            pathname.push('#');
            pathname.push_str(&plain_path(fragment));
        }
        let mut page = Self {
            hostname,
            pathname,
            utm: BTreeMap::new(),
            source: None,
        };
        if url.query().is_some() {
            page.read_query(&url);
        }
        Ok(page)
    }

    fn read_query(&mut self, url: &Url) {
        let (mut source, mut reference) = (None, None);
        for (name, value) in url.query_pairs() {
            let value: String = value
                .trim()
                .chars()
                .filter(|c| !c.is_control())
                .take(VALUE_MAX)
                .collect();
            if value.is_empty() {
                continue;
            }
            match &*name {
                "utm_source" | "utm_medium" | "utm_campaign" | "utm_content" | "utm_term" => {
                    self.utm.entry(name["utm_".len()..].to_owned()).or_insert(value);
                }
                "source" => source = source.or(Some(value)),
                "ref" => reference = reference.or(Some(value)),
                _ => {}
            }
        }
        let told = self.utm.get("source").cloned().or(source).or(reference);
        self.source = told.map(|name| referrer::usual_name(&name));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(text: &str) -> Page {
        Page::read(text, false).unwrap()
    }

    #[test]
    fn a_page_is_its_hostname_and_its_path() {
        let read = page("HTTPS://WWW.Example.org:8443/Post/%C3%BCber/?q=1#x");
        assert_eq!(
            (read.hostname.as_str(), read.pathname.as_str()),
            ("www.example.org", "/Post/über/")
        );
        assert_eq!(page("https://bücher.example").hostname, "xn--bcher-kva.example");
        assert_eq!(page("https://example.org").pathname, "/");
        assert_eq!(page("https://example.org/a/../b//c").pathname, "/b//c");
        assert_eq!(page("app://localhost/screen").pathname, "/screen");
    }

    #[test]
    fn what_decodes_to_no_plain_text_stays_as_it_is() {
        for path in ["/%00", "/%0a", "/%ff", "/%", "/%2", "/%zz", "/%+1"] {
            assert_eq!(page(&format!("https://example.org{path}")).pathname, path);
        }
    }

    #[test]
    fn a_hash_belongs_to_the_path_where_pages_route_by_it() {
        let read = |hash_is_path| {
            Page::read("https://example.org/app#/inbox", hash_is_path)
                .unwrap()
                .pathname
        };
        assert_eq!(
            (read(false).as_str(), read(true).as_str()),
            ("/app", "/app#/inbox")
        );
    }

    #[test]
    fn campaigns_are_kept_and_name_the_source() {
        let read =
            page("https://example.org/?utm_source=hn&utm_medium=link&utm_campaign=a%20b&utm_nonsense=x&x=y");
        assert_eq!(read.source.as_deref(), Some("Hacker News"));
        let utm: Vec<_> = read
            .utm
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(utm, [("campaign", "a b"), ("medium", "link"), ("source", "hn")]);
        assert_eq!(
            page("https://example.org/?ref=Newsletter").source.as_deref(),
            Some("Newsletter")
        );
        assert_eq!(
            page("https://example.org/?ref=b&source=a").source.as_deref(),
            Some("a")
        );
        assert_eq!(page("https://example.org/?ref=&utm_source=%20").source, None);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let long = format!("https://example.org/{}", "x".repeat(2000));
        for text in [
            "",
            "/page",
            "example.org",
            "https://",
            "data:text/html,x",
            "file:///a",
            "mailto:a@b.c",
            "javascript:1",
            &long,
        ] {
            assert!(Page::read(text, false).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_holds_control_characters(text in "\\PC{0,200}", path in any::<String>()) {
            for url in [text, format!("https://example.org/{path}"), format!("https://a.b/?utm_source={path}#{path}")] {
                if let Ok(read) = Page::read(&url, true) {
                    prop_assert!(!read.pathname.chars().any(char::is_control));
                    prop_assert!(!read.hostname.is_empty());
                }
            }
        }
    }
}
