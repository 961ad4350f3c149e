//! Visits in the one form that our own writer gives them, read from left to right without looking back.
//!
//! Order of attributes, spaces and ways to write an id are not JSON's but our writer's; what is written otherwise is
//! none, and the domain's decoder looks at it. `serde_json` took three times as long to read the same.

use std::borrow::Cow;

use events::{VisitorId, Whole};
use uuid::Uuid;

use super::{
    Visit, What,
    text::{Pairs, Text},
    time,
};

/// About so many bytes has an event at least.
const SHORTEST: usize = 384;

/// All events of a record, each with its place in it; none when one of them has another form.
pub(super) fn visits(value: &[u8]) -> Option<Vec<(u32, Visit<'_>)>> {
    let mut scan = Scan(std::str::from_utf8(value).ok()?);
    let mut visits = Vec::with_capacity(value.len() / SHORTEST);
    let mut before = "[";
    while scan.take(before) {
        visits.push((u32::try_from(visits.len()).ok()?, scan.visit()?));
        before = ",";
    }
    // A list without events is none of ours.
    (!visits.is_empty() && scan.0 == "]").then_some(visits)
}

/// What is still to be read.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn visit(&mut self) -> Option<Visit<'a>> {
        self.pass(r#"{"specversion":"1.0","id":""#)?;
        let id = self.id()?;
        self.pass(r#","source":""#)?;
        self.text()?;
        self.pass(r#","type":""#)?;
        let name = self.text()?;
        self.pass(r#","subject":""#)?;
        self.text()?;
        self.pass(r#","time":""#)?;
        let time = time::micros(self.text()?.as_ref())?;
        self.pass(r#","tenant":""#)?;
        let tenant = self.id()?;
        self.optional_id(r#","causationid":""#)?;
        self.optional_id(r#","correlationid":""#)?;
        let traceparent = self.optional(r#","traceparent":""#)?;
        self.pass(r#","data":{"visit":{"site":""#)?;
        let site = self.id()?;
        self.pass(r#","visitor":""#)?;
        let visitor = self.text()?.as_ref().parse::<VisitorId>().ok()?.get();
        self.pass(r#","hostname":""#)?;
        let hostname = self.text()?;
        self.pass(r#","pathname":""#)?;
        let pathname = self.text()?;
        // In the order of their reading, as the fields of a struct are.
        let visit = Visit {
            id,
            tenant,
            time,
            what: What::PageView,
            site,
            visitor,
            hostname,
            pathname,
            referrer: self.optional(r#","referrer":""#)?,
            source: self.optional(r#","source":""#)?,
            device: self.optional(r#","device":""#)?,
            browser: self.optional(r#","browser":""#)?,
            os: self.optional(r#","os":""#)?,
            utm: self.pairs(r#","utm":{"#)?,
            content: self.optional_id(r#","content":""#)?,
            props: self.pairs(r#","props":{"#)?,
            import: self.import()?,
            traceparent,
        };
        self.pass("}")?;
        let what = self.what(name.as_ref())?;
        self.pass("}}")?;
        Some(Visit { what, ..visit })
    }

    fn what(&mut self, name: &str) -> Option<What<'a>> {
        match name {
            "visit.page-viewed.v1" => Some(What::PageView),
            "visit.custom-event-recorded.v1" => {
                self.pass(r#","name":""#)?;
                let name = self.text()?;
                self.pass(r#","interactive":"#)?;
                let interactive = self.take("true");
                if !interactive {
                    self.pass("false")?;
                }
                let revenue = if self.take(r#","revenue":{"amount":""#) {
                    let amount = self.text()?;
                    self.pass(r#","currency":""#)?;
                    let currency = self.text()?;
                    self.pass("}")?;
                    Some((amount, currency))
                } else {
                    None
                };
                Some(What::Custom {
                    name,
                    interactive,
                    revenue,
                })
            }
            "visit.engagement-recorded.v1" => {
                self.pass(r#","engaged_ms":"#)?;
                let engaged_ms = self.number()?.try_into().ok()?;
                let scroll_depth = if self.take(r#","scroll_depth":"#) {
                    Some(self.number()?.try_into().ok()?)
                } else {
                    None
                };
                Some(What::Engagement {
                    engaged_ms,
                    scroll_depth,
                })
            }
            _ => None,
        }
    }

    fn import(&mut self) -> Option<Option<(Uuid, u64)>> {
        if !self.take(r#","import":{"id":""#) {
            return Some(None);
        }
        let import = self.id()?;
        self.pass(r#","line":""#)?;
        let Whole(line) = self.text()?.as_ref().parse().ok()?;
        self.pass("}")?;
        Some(Some((import, line)))
    }

    /// Passes over exactly this, if it is there.
    fn take(&mut self, expected: &str) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn pass(&mut self, expected: &str) -> Option<()> {
        self.take(expected).then_some(())
    }

    /// A text up to its closing quote and over it.
    fn text(&mut self) -> Option<Text<'a>> {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
        let end = self.0.bytes().position(|byte| special(&byte))?;
        let (text, rest) = self.0.split_at(end);
        if let Some(rest) = rest.strip_prefix('"') {
            self.0 = rest;
            return Some(Text(Cow::Borrowed(text)));
        }
        self.escaped().map(|text| Text(Cow::Owned(text)))
    }

    /// The same of a text that holds what must be escaped: as rare as quotes in an address.
    #[cold]
    fn escaped(&mut self) -> Option<String> {
        let bytes = self.0.as_bytes();
        let mut end = 0;
        while *bytes.get(end)? != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let text = serde_json::from_str(&format!("\"{}\"", self.0.get(..end)?)).ok()?;
        self.0 = self.0.get(end + 1..)?;
        Some(text)
    }

    /// The text that follows this; empty when it is not there.
    fn optional(&mut self, before: &str) -> Option<Text<'a>> {
        if self.take(before) {
            self.text()
        } else {
            Some(Text::default())
        }
    }

    /// An id with hyphens, and its closing quote.
    fn id(&mut self) -> Option<Uuid> {
        let (id, rest) = self.0.split_at_checked(36)?;
        self.0 = rest.strip_prefix('"')?;
        Uuid::try_parse(id).ok()
    }

    fn optional_id(&mut self, before: &str) -> Option<Option<Uuid>> {
        if self.take(before) {
            self.id().map(Some)
        } else {
            Some(None)
        }
    }

    /// Names and values that follow this, ordered by name; none when it is not there.
    fn pairs(&mut self, before: &str) -> Option<Pairs<'a>> {
        let mut pairs: Vec<(Text<'a>, Text<'a>)> = Vec::new();
        if !self.take(before) {
            return Some(Pairs(pairs));
        }
        loop {
            self.pass("\"")?;
            let name = self.text()?;
            self.pass(":\"")?;
            let value = self.text()?;
            if pairs.last().is_some_and(|(last, _)| *last >= name) {
                return None;
            }
            pairs.push((name, value));
            if self.take("}") {
                return Some(Pairs(pairs));
            }
            self.pass(",")?;
        }
    }

    /// A number without a sign, a point or zeros before it.
    fn number(&mut self) -> Option<u64> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        let plain = digits == "0" || !digits.starts_with('0');
        plain.then(|| digits.parse().ok()).flatten()
    }
}
