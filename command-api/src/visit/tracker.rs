//! The body that Plausible's trackers send to `POST /api/event`: JSON, often declared as text/plain.
//!
//! Names as in Plausible's documented events API and its open trackers: long ones, and the short ones that the
//! script uses. What is not known here is passed over, because trackers add fields of their own.

use std::ops::Deref;

use events::directory::Domain;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use service::{FieldError, Json, Problem, extract::check_depth};

use super::{Borrowed, Hit, Money, Page, Parts, Props};

/// A hit, and the domains of the sites that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracked {
    /// As sites are known by, in the order of the body, each once; at least one.
    pub domains: Vec<String>,
    /// What happened.
    pub hit: Hit,
}

/// Largest body, in bytes: all that a hit may say (30 properties of 2,000 characters), in a script of two bytes a
/// character. It is recorded for each of its sites.
pub const BODY_MAX: usize = 128 * 1024;
/// Most sites that one hit is for.
const DOMAINS_MAX: usize = 20;
/// Most names of sites in it: some may be repeated.
const NAMES_MAX: usize = 100;

/// Fields that have two names.
const NAMES: [(&str, &str); 8] = [
    ("n", "name"),
    ("u", "url"),
    ("d", "domain"),
    ("r", "referrer"),
    ("$", "revenue"),
    ("i", "interactive"),
    ("h", "hashMode"),
    ("h", "hash_mode"),
];

/// `T` is the kind of text: borrowed to be quick, owned where the reader that names fields needs it.
#[derive(Debug, Deserialize)]
struct Body<T> {
    #[serde(alias = "n")]
    name: Option<T>,
    #[serde(alias = "u")]
    url: Option<T>,
    #[serde(alias = "d")]
    domain: Option<T>,
    #[serde(alias = "r")]
    referrer: Option<T>,
    p: Option<Props>,
    props: Option<Props>,
    m: Option<Props>,
    meta: Option<Props>,
    #[serde(alias = "$")]
    revenue: Option<Money>,
    #[serde(alias = "i")]
    interactive: Option<bool>,
    #[serde(alias = "hashMode", alias = "hash_mode")]
    h: Option<Switch>,
    /// Milliseconds of engagement.
    e: Option<f64>,
    /// Scroll depth in percent; 255 when it is not known.
    sd: Option<f64>,
}

/// `1` or `true`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Switch {
    Number(f64),
    Truth(bool),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Switch {
    fn is_on(&self) -> bool {
        match self {
            Self::Number(number) => *number == 1.0,
            Self::Truth(on) => *on,
            Self::Text(text) => matches!(text.as_str(), "1" | "true"),
            Self::Other(_) => false,
        }
    }
}

/// Reads the body of a tracker, whatever content type it was declared with.
///
/// # Errors
/// 400, as trackers know it, naming every wrong field.
pub fn read(body: &[u8]) -> Result<Tracked, Problem> {
    check_depth(body)?;
    // serde takes a list for an object, its items for the fields in their order; we do not.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(invalid(vec![FieldError::new("", "must be an object")]));
    }
    // The plain reader is quick and says little; who failed is read again by the one that names fields.
    if let Ok(read) = serde_json::from_slice::<Body<Borrowed<'_>>>(body) {
        return read.tracked();
    }
    let Some(meant) = forgiven(body) else {
        return Err(refused(body));
    };
    match serde_json::from_str::<Body<String>>(&meant) {
        Ok(read) => read.tracked(),
        Err(_) => Err(refused(meant.as_bytes())),
    }
}

impl<T: Deref<Target = str>> Body<T> {
    fn tracked(self) -> Result<Tracked, Problem> {
        let mut domains = domains(self.domain.as_deref().unwrap_or_default());
        if domains.is_empty()
            && let Some(Ok(page)) = self.url.as_deref().map(|url| Page::read(url, false))
        {
            // A tracker that names no site means the one that it is on.
            domains.push(Domain::normal(&page.hostname));
        }
        let mut faults = Vec::new();
        match domains.len() {
            0 => faults.push(FieldError::new("/domain", "is missing")),
            1..=DOMAINS_MAX => {}
            _ => faults.push(FieldError::new(
                "/domain",
                "names more than 20 sites, or sites more than 100 times",
            )),
        }
        let parts = Parts {
            name: self.name.as_deref(),
            url: self.url.as_deref(),
            referrer: self.referrer.as_deref(),
            props: self.m.or(self.meta).or(self.p).or(self.props),
            revenue: self.revenue,
            interactive: self.interactive,
            engaged_ms: self.e.map(whole),
            scroll_depth: self.sd.map(depth),
            hash_is_path: self.h.is_some_and(|switch| switch.is_on()),
        };
        match parts.hit() {
            Ok(hit) if faults.is_empty() => Ok(Tracked { domains, hit }),
            Ok(_) => Err(invalid(faults)),
            Err(more) => Err(invalid(faults.into_iter().chain(more).collect())),
        }
    }
}

/// What other trackers than the script say otherwise than it does, as it would say it: a number for a name, texts for
/// numbers and truth values, an empty list for no properties (as PHP writes it), a field by both of its names.
fn forgiven(body: &[u8]) -> Option<String> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut changed = false;
    for (name, value) in &mut fields {
        let meant = match (name.as_str(), &*value) {
            ("n" | "name", Value::Number(number)) => Value::String(number.to_string()),
            ("p" | "props" | "m" | "meta", Value::Array(none)) if none.is_empty() => Value::Null,
            ("e" | "sd", Value::String(text)) => text.trim().parse().map(Value::Number).ok()?,
            ("i" | "interactive", Value::String(text)) => Value::Bool(text.parse().ok()?),
            _ => continue,
        };
        *value = meant;
        changed = true;
    }
    for (short, long) in NAMES {
        if let (Some(value), true) = (fields.get(short), fields.contains_key(long)) {
            fields.remove(if value.is_null() { short } else { long });
            changed = true;
        }
    }
    changed.then(|| Value::Object(fields).to_string())
}

fn refused(body: &[u8]) -> Problem {
    match Json::<Body<String>>::from_bytes(body) {
        Err(problem) if problem.status() != StatusCode::UNPROCESSABLE_ENTITY => problem,
        Err(problem) => invalid(problem.errors().to_vec()),
        Ok(_) => invalid(Vec::new()),
    }
}

/// The refusal of a hit for too many sites.
pub fn too_many(why: &str) -> Problem {
    invalid(vec![FieldError::new("/domain", why)])
}

fn invalid(faults: Vec<FieldError>) -> Problem {
    let what = Problem::invalid(faults);
    let detail = format!("the event is not what a tracker sends: {}", what.detail());
    Problem::unreadable(detail).with_errors(what.errors().to_vec())
}

/// A percentage, or 255, which says that it is not known. Pages may seem to be scrolled further than to their end.
fn depth(number: f64) -> u8 {
    match whole(number) {
        unknown @ 255 => unknown as u8,
        more => more.min(100) as u8,
    }
}

/// A number of a tracker, without its fraction; what is below zero is zero.
fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "such a cast saturates"
    )]
    {
        number as u64
    }
}

/// The domains in a list, each once; more than may be, when there are more.
fn domains(joined: &str) -> Vec<String> {
    let names = joined.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<&str> = names.take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        // Bringing each into its usual form costs more than it tells.
        return names.into_iter().map(str::to_owned).collect();
    }
    let mut domains: Vec<String> = Vec::new();
    for name in names {
        let domain = Domain::normal(name);
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::visit::Deed;

    fn faults(body: &str) -> Vec<String> {
        read(body.as_bytes())
            .unwrap_err()
            .errors()
            .iter()
            .map(|fault| fault.pointer.clone())
            .collect()
    }

    #[test]
    fn the_short_form_says_what_the_long_form_says() {
        let long = r#"{"name":"Signup","url":"https://example.org/a","domain":"example.org","referrer":"https://news.ycombinator.com/",
            "props":{"plan":"pro"},"revenue":{"amount":19.99,"currency":"eur"},"interactive":false}"#;
        let short = r#"{"n":"Signup","u":"https://example.org/a","d":"example.org","r":"https://news.ycombinator.com/",
            "p":{"plan":"pro"},"$":"{\"amount\":\"19.99\",\"currency\":\"EUR\"}","i":false,"v":24,"w":1280}"#;
        let read_long = read(long.as_bytes()).unwrap();
        assert_eq!(read_long, read(short.as_bytes()).unwrap());
        assert_eq!(read_long.domains, ["example.org"]);
        let both = format!("{},{}", &long[..long.len() - 1], &short[1..]);
        assert_eq!(read_long, read(both.as_bytes()).unwrap());
        let one_is_null = short.replace(r#""n":"Signup""#, r#""n":null,"name":"Signup""#);
        assert_eq!(read_long, read(one_is_null.as_bytes()).unwrap());
        let Deed::Custom {
            name,
            interactive,
            revenue,
        } = &read_long.hit.deed
        else {
            panic!("no custom event")
        };
        let revenue = revenue.as_ref().unwrap();
        assert_eq!((name.as_str(), *interactive), ("Signup", false));
        assert_eq!(
            (revenue.amount.as_str(), revenue.currency.as_str()),
            ("19.99", "EUR")
        );
    }

    #[test]
    fn a_site_may_be_named_often_but_not_for_ever() {
        let body = |names: usize| {
            format!(
                r#"{{"n":"a","u":"https://e.org/","d":"{}"}}"#,
                "e.org,".repeat(names)
            )
        };
        assert_eq!(read(body(NAMES_MAX).as_bytes()).unwrap().domains, ["e.org"]);
        assert_eq!(faults(&body(NAMES_MAX + 1)), ["/domain"]);
    }

    #[test]
    fn a_page_view_has_nothing_but_a_page() {
        let tracked = read(br#"{"n":"pageview","u":"https://example.org/a","d":" Example.ORG, b.example,example.org.,B\u00fccher.example,xn--bcher-kva.example ","r":null,"m":"{\"a\":1}"}"#);
        let tracked = tracked.unwrap();
        assert_eq!(
            tracked.domains,
            ["example.org", "b.example", "xn--bcher-kva.example"]
        );
        assert_eq!(tracked.hit.deed, Deed::PageView);
        assert_eq!(tracked.hit.props.get("a").map(String::as_str), Some("1"));
        assert_eq!(tracked.hit.referrer, None);
    }

    #[test]
    fn large_integers_are_what_was_sent_and_what_is_no_number_is_named() {
        let with = |fields: &str| format!(r#"{{"n":"a","u":"https://e.org/","d":"e.org",{fields}}}"#);
        let hit = read(with(r#""p":{"order":123456789012345678901}"#).as_bytes())
            .unwrap()
            .hit;
        assert_eq!(hit.props["order"], "123456789012345678901");
        assert_eq!(faults(&with(r#""p":{"order":1e999}"#)), ["/p/order"]);
    }

    #[test]
    fn an_engagement_tells_time_and_depth() {
        let deed = |fields: &str| {
            let body = format!(r#"{{"n":"engagement","u":"https://e.org/","d":"e.org"{fields}}}"#);
            read(body.as_bytes()).unwrap().hit.deed
        };
        assert_eq!(
            deed(r#","e":1234,"sd":80"#),
            Deed::Engagement {
                engaged_ms: 1234,
                scroll_depth: Some(80)
            }
        );
        assert_eq!(
            deed(r#","e":1e99,"sd":255"#),
            Deed::Engagement {
                engaged_ms: 86_400_000,
                scroll_depth: None
            }
        );
        assert_eq!(
            deed(""),
            Deed::Engagement {
                engaged_ms: 0,
                scroll_depth: None
            }
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(faults("{}"), ["/domain", "/name", "/url"]);
        assert_eq!(faults(r#"{"n":"a","u":"nowhere","d":"e.org"}"#), ["/url"]);
        assert_eq!(faults(r#"{"n":"","u":"https://e.org","d":"e.org"}"#), ["/name"]);
        assert_eq!(
            faults(r#"{"n":"a","u":"https://e.org","d":"e.org","revenue":{"amount":"x","currency":"EUR"}}"#),
            ["/revenue"]
        );
        assert_eq!(faults(r#"{"n":{},"u":"https://e.org","d":"e.org"}"#), ["/n"]);
        assert_eq!(faults(r#"{"n":5,"u":{},"d":"e.org"}"#), ["/u"]);
        assert_eq!(faults(r#"{"n":"a","u":"https://e.org","sd":"deep"}"#), ["/sd"]);
        assert_eq!(
            faults(&format!(
                r#"{{"n":"{}","u":"https://e.org","d":"e.org"}}"#,
                "x".repeat(121)
            )),
            ["/name"]
        );
    }

    #[test]
    fn what_other_trackers_say_in_their_own_way_is_understood() {
        let hit = |fields: &str| {
            let body = format!(r#"{{"n":404,"u":"https://e.org/#/a","d":"e.org",{fields}}}"#);
            read(body.as_bytes()).unwrap().hit
        };
        let named = hit(r#""props":[],"i":"false","h":"1""#);
        let Deed::Custom {
            name, interactive, ..
        } = &named.deed
        else {
            panic!("{named:?}")
        };
        assert_eq!((name.as_str(), *interactive), ("404", false));
        assert!(named.props.is_empty());
        assert_eq!(named.page.pathname, "/#/a");
        let engaged = |fields: &str| {
            let body = format!(r#"{{"n":"engagement","u":"https://e.org/","d":"e.org",{fields}}}"#);
            read(body.as_bytes()).unwrap().hit.deed
        };
        for fields in [r#""e":"1200","sd":"80""#, r#""e":1200,"sd":80"#] {
            let expected = Deed::Engagement {
                engaged_ms: 1200,
                scroll_depth: Some(80),
            };
            assert_eq!(engaged(fields), expected, "{fields}");
        }
        let Deed::Engagement { scroll_depth, .. } = engaged(r#""sd":140"#) else {
            panic!("no engagement")
        };
        assert_eq!(scroll_depth, Some(100));
    }

    #[test]
    fn a_tracker_that_names_no_site_means_the_one_that_it_is_on() {
        for body in [
            r#"{"n":"pageview","u":"https://Example.org/a"}"#,
            r#"{"n":"pageview","u":"https://Example.org/a","d":" "}"#,
        ] {
            assert_eq!(read(body.as_bytes()).unwrap().domains, ["example.org"]);
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for body in ["", "null", "[]", "1", "\"a\"", "{", "{\"n\":\"\u{fffd}"] {
            assert!(read(body.as_bytes()).is_err(), "{body:.40}");
        }
        assert!(read(b"\xff\xfe{}").is_err());
    }

    #[test]
    fn a_hit_that_is_right_but_for_its_depth_is_refused() {
        let body = |field: &str, levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"n":"a","u":"https://e.org","d":"e.org","{field}":{{"a":{open}1{close}}}}}"#)
        };
        for field in ["p", "other"] {
            assert!(read(body(field, 100).as_bytes()).is_ok());
            assert_eq!(faults(&body(field, 1000)), [format!("/{field}")]);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn hostile_texts_are_data(name in any::<String>(), url in any::<String>(), domain in any::<String>(), referrer in any::<String>()) {
            let body = serde_json::json!({"n": name, "u": format!("https://e.org/{url}"), "d": domain, "r": referrer, "p": {name: url}});
            let _ = read(body.to_string().as_bytes());
        }
    }
}
