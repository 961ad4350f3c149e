//! The batch form, `POST /api/v1/visits`: a JSON array, or one JSON object a line (NDJSON).

use std::net::IpAddr;

use events::{EventId, ImportId, Timestamp, Whole, directory::Domain, visit::ImportLine};
use serde::Deserialize;
use serde_json::value::RawValue;
use service::{FieldError, Json, Problem, extract::check_depth};

use super::{Borrowed, Hit, Money, Parts, Props};

/// Most events of one request.
pub const EVENTS_MAX: usize = 1000;
/// Largest body, in bytes.
pub const BODY_MAX: usize = 1024 * 1024;

/// One event of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The client's, so that the same event sent again counts once.
    pub id: Option<EventId>,
    /// The site's, as sites are known by; empty when there is none.
    pub domain: String,
    /// When it happened; none: now.
    pub time: Option<Timestamp>,
    /// Of the visitor. None: the sender does not know, and nothing is derived from it. `""` and `-`, as
    /// logs write it: the visitor sent none, so it is no browser.
    pub user_agent: Option<String>,
    /// Of the visitor. None: the sender does not know.
    pub address: Option<IpAddr>,
    /// The line that it was imported from.
    pub import: Option<ImportLine>,
    /// What happened.
    pub hit: Hit,
}

/// `T` is the kind of text: borrowed to be quick, owned where the reader that names fields needs it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<T> {
    id: Option<EventId>,
    name: Option<T>,
    url: Option<T>,
    domain: Option<T>,
    referrer: Option<T>,
    timestamp: Option<Timestamp>,
    user_agent: Option<T>,
    ip: Option<IpAddr>,
    props: Option<Props>,
    interactive: Option<bool>,
    revenue: Option<Money>,
    engaged_ms: Option<u64>,
    scroll_depth: Option<u8>,
    import: Option<ImportId>,
    line: Option<u64>,
}

/// Reads a batch; each event is read, or refused with its faults, on its own. `now` is the latest time that an
/// event may have, give or take ten minutes of clocks that are not quite right.
///
/// # Errors
/// 400 when it is empty or neither form; 422 when it has more than 1,000 events.
pub fn read(body: &[u8], now: Timestamp) -> Result<Vec<Result<Item, Vec<FieldError>>>, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::unreadable("the body is not UTF-8"))?;
    if text.trim().is_empty() {
        return Err(Problem::unreadable("the body is empty"));
    }
    let events: Vec<&str> = if text.trim_start().starts_with('[') {
        let raw: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| Problem::unreadable(format!("the body is not a JSON array: {error}")))?;
        raw.into_iter().map(RawValue::get).collect()
    } else {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect()
    };
    if events.len() > EVENTS_MAX {
        let detail = format!(
            "there are {} events, at most {EVENTS_MAX} are taken at once",
            events.len()
        );
        return Err(Problem::invalid(vec![FieldError::new("", detail)]));
    }
    let latest = now.plus_micros(10 * 60 * 1_000_000);
    Ok(events.into_iter().map(|event| item(event, latest)).collect())
}

/// 1990-01-01: there were no pages before.
const EARLIEST: i64 = 631_152_000_000_000;

fn item(event: &str, latest: Timestamp) -> Result<Item, Vec<FieldError>> {
    check_depth(event.as_bytes()).map_err(|problem| problem.errors().to_vec())?;
    // serde takes a list for an object, its items for the fields in their order; we do not.
    if event.starts_with('[') {
        return Err(vec![FieldError::new("", "must be an object")]);
    }
    let Ok(event) = serde_json::from_str::<Event<Borrowed<'_>>>(event) else {
        // Read again by the one that names fields.
        return Err(match Json::<Event<String>>::from_bytes(event.as_bytes()) {
            Err(problem) if !problem.errors().is_empty() => problem.errors().to_vec(),
            Err(problem) => vec![FieldError::new("", problem.detail())],
            Ok(_) => vec![FieldError::new("", "is not an event")],
        });
    };
    let mut faults = Vec::new();
    let domain = Domain::normal(event.domain.as_deref().unwrap_or_default());
    if domain.is_empty() {
        faults.push(FieldError::new("/domain", "is missing"));
    }
    match event.timestamp {
        Some(time) if time > latest => faults.push(FieldError::new("/timestamp", "lies in the future")),
        Some(time) if time.micros() < EARLIEST => {
            faults.push(FieldError::new("/timestamp", "lies before 1990"))
        }
        Some(_) | None => {}
    }
    let import = match (event.import, event.line) {
        (Some(id), Some(line)) => Some(ImportLine {
            id,
            line: Whole(line),
        }),
        (None, None) => None,
        (Some(_), None) => {
            faults.push(FieldError::new("/line", "is missing: an import needs both"));
            None
        }
        (None, Some(_)) => {
            faults.push(FieldError::new(
                "/import",
                "is missing: a line is one of an import",
            ));
            None
        }
    };
    let parts = Parts {
        name: event.name.as_deref(),
        url: event.url.as_deref(),
        referrer: event.referrer.as_deref(),
        props: event.props,
        revenue: event.revenue,
        interactive: event.interactive,
        engaged_ms: event.engaged_ms,
        scroll_depth: event.scroll_depth,
        hash_is_path: false,
    };
    match parts.hit() {
        Ok(hit) if faults.is_empty() => Ok(Item {
            id: event.id,
            domain,
            time: event.timestamp,
            user_agent: event.user_agent.map(Borrowed::into_owned),
            address: event.ip,
            import,
            hit,
        }),
        Ok(_) => Err(faults),
        Err(more) => Err(faults.into_iter().chain(more).collect()),
    }
}

/// Faults as the one text that a batch's answer has for each refused event.
pub fn detail(faults: &[FieldError]) -> String {
    let each: Vec<_> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.detail).trim().to_owned())
        .collect();
    each.join("; ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    const GOOD: &str = r#"{"name":"pageview","url":"https://e.org/a","domain":"E.org","timestamp":"2015-05-17T10:05:03Z",
        "user_agent":"-","ip":"83.149.9.216","import":"019aa000-0000-7000-8000-000000000001","line":12}"#;

    fn one(event: &str) -> Result<Item, String> {
        read(format!("[{event}]").as_bytes(), now())
            .unwrap()
            .remove(0)
            .map_err(|faults| detail(&faults))
    }

    #[test]
    fn an_array_and_lines_say_the_same() {
        let line = GOOD.replace('\n', "");
        let array = read(format!(" [{line},{line}]").as_bytes(), now()).unwrap();
        let lines = read(format!("{line}\r\n\n{line}\n").as_bytes(), now()).unwrap();
        assert_eq!(array, lines);
        assert_eq!(array.len(), 2);
        let item = array[0].as_ref().unwrap();
        assert_eq!(
            (item.domain.as_str(), item.user_agent.as_deref()),
            ("e.org", Some("-"))
        );
        assert_eq!(item.import.as_ref().map(|import| import.line), Some(Whole(12)));
        assert_eq!(read(b"[]", now()).unwrap(), []);
    }

    #[test]
    fn a_wrong_event_does_not_hold_up_the_others() {
        let read = read(format!("[{GOOD},{{}},{GOOD}]").as_bytes(), now()).unwrap();
        assert!(read[0].is_ok() && read[1].is_err() && read[2].is_ok());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let told = |event: &str| one(event).unwrap_err();
        assert_eq!(
            told("{}"),
            "/domain is missing; /name is missing; /url is missing"
        );
        assert!(
            told(r#"{"names":1}"#).starts_with("/names is not a field here"),
            "{}",
            told(r#"{"names":1}"#)
        );
        assert!(told(&GOOD.replace("83.149.9.216", "here")).starts_with("/ip "));
        assert!(told(&GOOD.replace("2015-05-17T10:05:03Z", "yesterday")).starts_with("/timestamp "));
        assert_eq!(
            told(&GOOD.replace("2015-05-17", "2027-05-17")),
            "/timestamp lies in the future"
        );
        assert_eq!(
            told(&GOOD.replace("2015-05-17", "1815-05-17")),
            "/timestamp lies before 1990"
        );
        assert!(told(&GOOD.replace(",\"line\":12", "")).starts_with("/line "));
        assert!(told(&GOOD.replace(":12", ":-1")).starts_with("/line "));
        assert!(!told("5").is_empty());
    }

    #[test]
    fn more_than_a_thousand_are_refused() {
        let events = |count| format!("[{}]", vec!["{}"; count].join(","));
        assert!(read(events(1000).as_bytes(), now()).is_ok());
        assert_eq!(
            read(events(1001).as_bytes(), now()).unwrap_err().errors().len(),
            1
        );
    }

    #[test]
    fn what_is_neither_form_is_refused() {
        for body in ["", "\n", "[", "[1", "[{}", "[{}]x"] {
            assert!(read(body.as_bytes(), now()).is_err(), "{body}");
        }
        assert!(read(b"\xff", now()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = read(text.as_bytes(), now());
            let _ = read(format!("[{text}]").as_bytes(), now());
            let _ = one(&serde_json::json!({"name": text, "url": text, "domain": text, "user_agent": text, "props": {text.clone(): text}}).to_string());
        }
    }
}
