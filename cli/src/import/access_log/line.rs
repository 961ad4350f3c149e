//! One line of an access log in the common or the combined format.
//!
//! `host ident user [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "referrer" "user agent"`, as the
//! documentation of Apache's `mod_log_config` describes it; nginx writes the same. Whatever follows is passed over.

use std::{borrow::Cow, net::IpAddr};

use chrono::{DateTime, FixedOffset};

/// What statistics need of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The visitor's address, or a name where the server looked it up.
    pub(crate) host: &'a str,
    pub(crate) time: DateTime<FixedOffset>,
    pub(crate) method: Cow<'a, str>,
    /// As it was requested: a path with its query, or a whole URL from clients of proxies.
    pub(crate) target: Cow<'a, str>,
    pub(crate) status: u16,
    /// None in the common format, and where the client sent none.
    pub(crate) referrer: Option<Cow<'a, str>>,
    /// None in the common format, which has no place for it; empty where the client sent none.
    pub(crate) user_agent: Option<Cow<'a, str>>,
}

/// Why a line is not of these formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no {0} where the common or combined format has it")]
pub(crate) struct LineError(&'static str);

impl<'a> Line<'a> {
    /// Reads a line, without its line end. A last field that breaks off counts as far as it goes.
    pub(crate) fn parse(line: &'a str) -> Result<Self, LineError> {
        let mut rest = Rest(line.trim_end_matches(['\r', '\n']));
        let host = host(rest.word().ok_or(LineError("address"))?)?;
        rest.word().ok_or(LineError("identity"))?;
        let time = rest.until_bracket().ok_or(LineError("time in brackets"))?;
        let time = parse_time(time).ok_or(LineError("time such as 10/Oct/2000:13:55:36 -0700"))?;
        let (method, target) = rest
            .quoted()
            .and_then(split_request)
            .ok_or(LineError("request in quotes"))?;
        let status = rest
            .word()
            .filter(|word| word.len() == 3)
            .and_then(|word| word.parse().ok());
        let status = status.ok_or(LineError("status of three digits"))?;
        rest.word().ok_or(LineError("size"))?;
        let said = |text: Cow<'a, str>| if text == "-" { Cow::Borrowed("") } else { text };
        let referrer = rest.quoted().map(said).filter(|text| !text.is_empty());
        let user_agent = rest.quoted().map(said);
        Ok(Self {
            host,
            time,
            method,
            target,
            status,
            referrer,
            user_agent,
        })
    }
}

/// An address or a name. One with a port is a client's behind some proxies; a name with a port is the server's own, and
/// every visitor would seem to come from there.
fn host(word: &str) -> Result<&str, LineError> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(bracketed) = word.strip_prefix('[')
        && let Some((address, rest)) = bracketed.split_once(']')
    {
        let plain = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return Ok(if plain { address } else { word });
    }
    match word.rsplit_once(':') {
        Some((before, port)) if is_port(port) && word.parse::<IpAddr>().is_err() => {
            let address = Some(before).filter(|before| before.parse::<IpAddr>().is_ok());
            address.ok_or(LineError(
                "client's address (vhost_combined begins with the virtual host: take the lines of one host, without their first word)",
            ))
        }
        Some(_) | None => Ok(word),
    }
}

/// What of a line is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Up to the next space.
    fn word(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches(' ');
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// What the brackets before the request hold; a user's name before them may hold spaces and brackets.
    fn until_bracket(&mut self) -> Option<&'a str> {
        let (before, rest) = self.0.split_once("] ")?;
        let (_, inside) = before.rsplit_once('[')?;
        self.0 = rest;
        Some(inside)
    }

    /// What the next quotes hold, with `\"`, `\\` and `\xhh` read as what they stand for.
    fn quoted(&mut self) -> Option<Cow<'a, str>> {
        let inside = self.0.trim_start_matches(' ').strip_prefix('"')?;
        let bytes = inside.as_bytes();
        let mut end = 0;
        let mut escaped = false;
        while end < bytes.len() && bytes[end] != b'"' {
            escaped |= bytes[end] == b'\\';
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        // A backslash may be the last byte, or stand before a character of several bytes.
        let mut end = end.min(bytes.len());
        while !inside.is_char_boundary(end) {
            end += 1;
        }
        self.0 = inside[end..].strip_prefix('"').unwrap_or("");
        let text = &inside[..end];
        Some(if escaped {
            Cow::Owned(unescape(text))
        } else {
            Cow::Borrowed(text)
        })
    }
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at..at + 4)
            .filter(|escape| escape.starts_with(b"\\x"))
            .and_then(|escape| {
                let digits = std::str::from_utf8(&escape[2..]).ok()?;
                u8::from_str_radix(digits, 16).ok()
            });
        match (bytes[at], bytes.get(at + 1), hex) {
            (_, _, Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (b'\\', Some(b't'), None) => {
                out.push(b'\t');
                at += 2;
            }
            (b'\\', Some(b'n'), None) => {
                out.push(b'\n');
                at += 2;
            }
            (b'\\', Some(&next), None) => {
                out.push(next);
                at += 2;
            }
            (byte, _, None) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Method and target of a request line. What is no HTTP, such as the bytes of a TLS handshake, is all target.
fn split_request(request: Cow<'_, str>) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    match request {
        Cow::Borrowed(text) => {
            let (method, target) = request_parts(text);
            Some((Cow::Borrowed(method), Cow::Borrowed(target)))
        }
        Cow::Owned(text) => {
            let (method, target) = request_parts(&text);
            Some((Cow::Owned(method.to_owned()), Cow::Owned(target.to_owned())))
        }
    }
}

/// A target may hold spaces: what stands between the method and the last word, when that is a protocol.
fn request_parts(text: &str) -> (&str, &str) {
    let Some((method, rest)) = text.split_once(' ') else {
        return ("", text);
    };
    match rest.rsplit_once(' ') {
        Some((target, protocol)) if protocol.starts_with("HTTP/") => (method, target),
        Some(_) | None => (method, rest),
    }
}

/// `10/Oct/2000:13:55:36 -0700`; month names are English whatever the machine speaks.
fn parse_time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_str(text, "%d/%b/%Y:%H:%M:%S %z").ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const COMMON: &str =
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;

    #[test]
    fn the_common_format_is_read() {
        let line = Line::parse(COMMON).unwrap();
        assert_eq!(
            (line.host, &*line.method, &*line.target),
            ("127.0.0.1", "GET", "/apache_pb.gif")
        );
        assert_eq!((line.status, line.referrer, line.user_agent), (200, None, None));
        assert_eq!(line.time.to_rfc3339(), "2000-10-10T13:55:36-07:00");
    }

    #[test]
    fn who_came_is_no_virtual_host() {
        let error = Line::parse(&format!("example.org:443 {COMMON}")).unwrap_err();
        assert!(error.to_string().contains("vhost_combined"), "{error}");
        for (first, host) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::5:1]", "2001:db8::5:1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("unix:", "unix:"),
            ("client.example.org", "client.example.org"),
        ] {
            let line = COMMON.replacen("127.0.0.1", first, 1);
            assert_eq!(Line::parse(&line).unwrap().host, host);
        }
    }

    #[test]
    fn the_combined_format_is_read() {
        let text = format!(r#"{COMMON} "http://a.example/?q=\"x\"" "Mozilla/5.0 (\xc3\xa4 \\)" "more" 0.1"#);
        let line = Line::parse(&text).unwrap();
        assert_eq!(line.referrer.as_deref(), Some(r#"http://a.example/?q="x""#));
        assert_eq!(line.user_agent.as_deref(), Some(r"Mozilla/5.0 (ä \)"));
        let line = format!(r#"{COMMON} "-" "-""#);
        let line = Line::parse(&line).unwrap();
        assert_eq!((line.referrer, line.user_agent.as_deref()), (None, Some("")));
    }

    #[test]
    fn a_user_may_be_called_anything() {
        for user in ["John Smith", "a [b", "[", "x\\\"y"] {
            let text = COMMON.replace("frank", user);
            assert_eq!(Line::parse(&text), Line::parse(COMMON), "{user}");
        }
    }

    #[test]
    fn no_offset_is_too_large_to_be_refused() {
        for offset in [
            "+9959597",
            "+99999999999999999999",
            "-9999",
            "+0060",
            "0700",
            "",
            "+07",
        ] {
            let text = COMMON.replace("-0700", offset);
            let reason = Line::parse(&text).unwrap_err().to_string();
            assert!(reason.contains("time such as"), "{offset}: {reason}");
        }
    }

    #[test]
    fn a_last_field_that_breaks_off_counts_as_far_as_it_goes() {
        let text = format!(r#"{COMMON} "-" "Mozilla/5.0 (compatible"#);
        assert_eq!(
            Line::parse(&text).unwrap().user_agent.as_deref(),
            Some("Mozilla/5.0 (compatible")
        );
        let text = format!(r#"{COMMON} "-" "x\"#);
        assert_eq!(Line::parse(&text).unwrap().user_agent.as_deref(), Some(r"x\"));
    }

    #[test]
    fn odd_requests_are_read() {
        for (request, method, target) in [
            ("GET /a b HTTP/1.1", "GET", "/a b"),
            ("GET /a", "GET", "/a"),
            (r"\x16\x03", "", "\u{16}\u{3}"),
            ("-", "", "-"),
            ("", "", ""),
            ("GET http://x.example/ HTTP/1.1", "GET", "http://x.example/"),
        ] {
            let text = COMMON.replace("GET /apache_pb.gif HTTP/1.0", request);
            let line = Line::parse(&text).unwrap();
            assert_eq!((&*line.method, &*line.target), (method, target), "{request}");
        }
    }

    #[test]
    fn what_is_no_line_says_what_is_missing() {
        for (text, missing) in [
            ("", "address"),
            ("hello", "identity"),
            ("a - - no time", "time in brackets"),
            (
                "a - - [10/Okt/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1",
                "time such as",
            ),
            (
                "a - - [10/Oct/2000:13:55:36 -0700] GET / 200 1",
                "request in quotes",
            ),
            (
                "a - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" OK 1",
                "status",
            ),
            (
                "a - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200",
                "size",
            ),
        ] {
            let reason = Line::parse(text).unwrap_err().to_string();
            assert!(reason.contains(missing), "{text}: {reason}");
        }
    }

    #[test]
    fn every_line_of_the_sample_is_read() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/sample/access.log.gz");
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(place).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let lines: Vec<_> = text.lines().map(|line| Line::parse(line).unwrap()).collect();
        assert_eq!(lines.len(), 10_000);
        assert!(
            lines
                .iter()
                .all(|line| line.time.to_rfc3339().starts_with("2015-05-") && !line.target.is_empty())
        );
        assert_eq!(lines.iter().filter(|line| line.status == 200).count(), 9_126);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
            drop(Line::parse(&text));
        }

        #[test]
        fn any_damage_to_a_line_is_read_or_refused(at in 0usize..110, with in "(?s).{0,3}") {
            let mut text = format!(r#"{COMMON} "http://a.example/" "Mozilla/5.0""#);
            let at = at.min(text.len());
            text.replace_range(at..(at + 1).min(text.len()), &with);
            drop(Line::parse(&text));
        }

        #[test]
        fn what_was_escaped_comes_back(agent in "[ -~]{1,60}") {
            prop_assume!(agent != "-");
            let escaped = agent.replace('\\', r"\\").replace('"', "\\\"");
            let text = format!(r#"{COMMON} "-" "{escaped}""#);
            let line = Line::parse(&text).unwrap();
            prop_assert_eq!(line.user_agent.as_deref(), Some(agent.as_str()));
        }
    }
}
