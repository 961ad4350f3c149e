//! The body that Plausible's trackers send to `POST /api/event`: JSON, often declared as text/plain.
//!
//! Names as in Plausible's documented events API and its open trackers: long ones, and the short ones that the
//! script uses. What is not known here is passed over, because trackers add fields of their own.

use events::directory::Domain;
use http::StatusCode;
use serde::Deserialize;
use service::{FieldError, Json, Problem, extract::check_depth};

use super::{Borrowed, Hit, Money, Parts, Props};

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
    Other(serde::de::IgnoredAny),
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
    let body: Body<Borrowed<'_>> = serde_json::from_slice(body).map_err(|_| refused(body))?;
    let domains = domains(body.domain.as_deref().unwrap_or_default());
    let mut faults = Vec::new();
    match domains.len() {
        0 => faults.push(FieldError::new("/domain", "is missing")),
        1..=DOMAINS_MAX => {}
        _ => faults.push(FieldError::new("/domain", "names more than 20 sites")),
    }
    let parts = Parts {
        name: body.name.as_deref(),
        url: body.url.as_deref(),
        referrer: body.referrer.as_deref(),
        props: body.m.or(body.meta).or(body.p).or(body.props),
        revenue: body.revenue,
        interactive: body.interactive,
        engaged_ms: body.e.map(whole),
        scroll_depth: body.sd.map(|depth| u8::try_from(whole(depth)).unwrap_or(u8::MAX)),
        hash_is_path: match body.h {
            Some(Switch::Number(number)) => number == 1.0,
            Some(Switch::Truth(on)) => on,
            Some(Switch::Other(_)) | None => false,
        },
    };
    match parts.hit() {
        Ok(hit) if faults.is_empty() => Ok(Tracked { domains, hit }),
        Ok(_) => Err(invalid(faults)),
        Err(more) => Err(invalid(faults.into_iter().chain(more).collect())),
    }
}

fn refused(body: &[u8]) -> Problem {
    match Json::<Body<String>>::from_bytes(body) {
        Err(problem) if problem.status() != StatusCode::UNPROCESSABLE_ENTITY => problem,
        Err(problem) => invalid(problem.errors().to_vec()),
        Ok(_) => invalid(Vec::new()),
    }
}

fn invalid(faults: Vec<FieldError>) -> Problem {
    let what = Problem::invalid(faults);
    let detail = format!("the event is not what a tracker sends: {}", what.detail());
    Problem::unreadable(detail).with_errors(what.errors().to_vec())
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

fn domains(joined: &str) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    for domain in joined
        .split(',')
        .map(str::trim)
        .filter(|domain| !domain.is_empty())
    {
        let domain = Domain::normal(domain);
        if !domains.contains(&domain) && domains.len() <= DOMAINS_MAX {
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
            faults(r#"{"n":"a","u":"https://e.org","d":"e.org","sd":140}"#),
            ["/scroll_depth"]
        );
        assert_eq!(
            faults(r#"{"n":"a","u":"https://e.org","d":"e.org","revenue":{"amount":"x","currency":"EUR"}}"#),
            ["/revenue"]
        );
        assert_eq!(faults(r#"{"n":5,"u":"https://e.org","d":"e.org"}"#), ["/n"]);
        assert_eq!(
            faults(&format!(
                r#"{{"n":"{}","u":"https://e.org","d":"e.org"}}"#,
                "x".repeat(121)
            )),
            ["/name"]
        );
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
