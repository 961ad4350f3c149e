//! What a reader of JSON changes in silence, found in a text that is JSON: of a name that stands twice it keeps the
//! last, a number it rounds. And what no table holds: U+0000.

use std::{borrow::Cow, collections::HashSet};

use crate::FieldError;

/// The first place of a text that is JSON where it would not be kept as it stands.
pub(super) fn flaw(json: &[u8]) -> Option<FieldError> {
    let mut walk = Walk {
        json,
        at: 0,
        inside: Vec::new(),
    };
    walk.flaw().map(|detail| FieldError::new(walk.pointer(), detail))
}

/// Where a text is nested deeper than this: the pointer of the outermost field there. It need not be JSON.
pub(super) fn deeper_than(levels: usize, json: &[u8]) -> Option<String> {
    let mut walk = Walk {
        json,
        at: 0,
        inside: Vec::new(),
    };
    while let Some(byte) = json.get(walk.at) {
        match byte {
            b'"' => {
                walk.text();
                continue;
            }
            byte => walk.structure(*byte),
        }
        if walk.inside.len() > levels {
            walk.inside.truncate(1);
            return Some(walk.pointer());
        }
        walk.at += 1;
    }
    None
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
    inside: Vec<Inside<'a>>,
}

/// Where the walk is.
enum Inside<'a> {
    /// At this place of a list.
    List(usize),
    /// In an object, at the name that came last.
    Object {
        names: HashSet<Cow<'a, str>>,
        last: Option<Cow<'a, str>>,
    },
}

impl<'a> Walk<'a> {
    /// Goes on to the first flaw, and stays there.
    fn flaw(&mut self) -> Option<&'static str> {
        while let Some(byte) = self.json.get(self.at) {
            match byte {
                b'"' => {
                    if let Some(flaw) = self.text() {
                        return Some(flaw);
                    }
                    continue;
                }
                b'-' | b'0'..=b'9' => {
                    if !comes_back(self.number()) {
                        return Some("is a number that would come back as another one; send it as a text");
                    }
                    continue;
                }
                byte => self.structure(*byte),
            }
            self.at += 1;
        }
        None
    }

    /// A byte outside of texts and numbers.
    fn structure(&mut self, byte: u8) {
        match byte {
            b'{' => self.inside.push(Inside::Object {
                names: HashSet::new(),
                last: None,
            }),
            b'[' => self.inside.push(Inside::List(0)),
            b'}' | b']' => {
                self.inside.pop();
            }
            b',' => match self.inside.last_mut() {
                Some(Inside::List(index)) => *index += 1,
                Some(Inside::Object { .. }) | None => {}
            },
            _ => {}
        }
    }

    fn text(&mut self) -> Option<&'static str> {
        let begin = self.at;
        let mut escaped = false;
        let mut nul = false;
        self.at += 1;
        while let Some(rest) = self.json.get(self.at..)
            && let Some(found) = memchr::memchr2(b'"', b'\\', rest)
        {
            self.at += found;
            if self.json[self.at] == b'"' {
                break;
            }
            escaped = true;
            nul |= self.json[self.at..].starts_with(b"\\u0000");
            self.at += 2;
        }
        self.at = (self.at + 1).min(self.json.len());
        let text = &self.json[begin..self.at];
        let is_name = self.json[self.at..]
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| *byte == b':');
        let Some(Inside::Object { names, last }) = self.inside.last_mut().filter(|_| is_name) else {
            return nul.then_some("holds the character U+0000, which cannot be stored");
        };
        if nul {
            *last = None;
            return Some("has a name with the character U+0000, which cannot be stored");
        }
        let name: Cow<'a, str> = if escaped {
            serde_json::from_slice::<String>(text).unwrap_or_default().into()
        } else {
            String::from_utf8_lossy(text.get(1..text.len() - 1).unwrap_or_default())
        };
        *last = Some(name.clone());
        (!names.insert(name)).then_some("is there twice")
    }

    fn number(&mut self) -> &'a str {
        let rest = &self.json[self.at..];
        let length = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .count();
        self.at += length;
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for inside in &self.inside {
            match inside {
                Inside::List(index) => super::push(&mut pointer, &index.to_string()),
                Inside::Object { last: Some(name), .. } => super::push(&mut pointer, name),
                Inside::Object { last: None, .. } => {}
            }
        }
        pointer
    }
}

/// Whether a number is the same after it was read and written, if perhaps in other digits: `1.50` is `1.5`. The writer
/// that answers use is asked: of two shortest texts of one float, another writer may choose the other.
fn comes_back(number: &str) -> bool {
    let short = number.len() <= 15 && number.bytes().all(|byte| byte.is_ascii_digit());
    if short || number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok() {
        return true;
    }
    let Ok(read) = serde_json::from_str::<serde_json::Number>(number) else {
        return false;
    };
    decimal(number).is_some_and(|given| decimal(&read.to_string()) == Some(given))
}

/// Sign, digits without zeros at their ends, and the power of ten of the last one.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (negative, mantissa) = mantissa
        .strip_prefix('-')
        .map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let significant = kept.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let power = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(dropped)?;
    Some((negative, significant.to_owned(), power))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointer(json: &str) -> Option<String> {
        flaw(json.as_bytes()).map(|flaw| flaw.pointer)
    }

    #[test]
    fn a_flaw_is_pointed_at() {
        for (json, place) in [
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}"#, None),
            (r#"{"a":1, "b" : [0, {"x":1,"x":2}]}"#, Some("/b/1/x")),
            (r#"{"a":1,"\u0061":1}"#, Some("/a")),
            (r#"["a",1,"b:",{"q\"":":"}]"#, None),
            (r#"["a","\\u0000","\\\u0000"]"#, Some("/2")),
            (r#"{"a":{"\u0000":1}}"#, Some("/a")),
            (r#"{"a":[1,18446744073709551616]}"#, Some("/a/1")),
            ("1e400", Some("")),
            ("563000000000000.2", None),
            ("563000000000000.3", Some("")),
            ("[]", None),
        ] {
            assert_eq!(pointer(json).as_deref(), place, "{json}");
        }
    }

    proptest! {
        #[test]
        fn numbers_of_our_own_come_back(float in any::<f64>(), signed in any::<i64>(), unsigned in any::<u64>()) {
            prop_assume!(float.is_finite());
            for number in [serde_json::json!(float), serde_json::json!(signed), serde_json::json!(unsigned)] {
                prop_assert!(comes_back(&number.to_string()), "{number}");
            }
        }

        #[test]
        fn whatever_comes_back_is_the_same_number(whole in "-?(0|[1-9][0-9]{0,25})", fraction in "(\\.[0-9]{1,25})?", power in "([eE][+-]?[0-9]{1,3})?") {
            let number = format!("{whole}{fraction}{power}");
            if comes_back(&number) {
                let read: serde_json::Value = serde_json::from_str(&number).unwrap();
                prop_assert_eq!(decimal(&number), decimal(&read.to_string()));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[\\[\\]{}\":,\\\\u0 1e-]{0,60}") {
            let _ = flaw(&bytes);
            let _ = flaw(text.as_bytes());
        }
    }
}
