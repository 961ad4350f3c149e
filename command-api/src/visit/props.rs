//! Custom properties of a hit: at most 30 texts, within the limits that Plausible's trackers know.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use service::extract::check_depth;

/// Properties as they were sent: numbers and truth values as texts, what is empty or null left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Props(BTreeMap<String, String>);

/// Most properties of a hit.
pub const COUNT_MAX: usize = 30;
/// Longest key, in characters.
pub const KEY_MAX: usize = 300;
/// Longest value, in characters.
pub const VALUE_MAX: usize = 2000;

impl Props {
    /// The properties.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Props {
    /// Reads an object, or a text that holds one as JSON, as some trackers send it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PropsVisitor)
    }
}

struct PropsVisitor;

impl<'de> Visitor<'de> for PropsVisitor {
    type Value = Props;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts, numbers and truth values")
    }

    fn visit_unit<E: Error>(self) -> Result<Props, E> {
        Ok(Props::default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Props, E> {
        if text.trim().is_empty() {
            return Ok(Props::default());
        }
        // That of the hit did not look into texts.
        if check_depth(text.as_bytes()).is_err() {
            return Err(E::custom("is a text that is nested deeper than 127 levels"));
        }
        // Never a text within a text: that would be another visitor.
        let object: Object =
            serde_json::from_str(text).map_err(|_| E::custom("is a text that holds no JSON object"))?;
        Ok(object.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Props, A::Error> {
        read(map)
    }
}

struct Object(Props);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Props;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Props, A::Error> {
                read(map)
            }
        }

        deserializer.deserialize_map(ObjectVisitor).map(Self)
    }
}

/// As Plausible does: lists and objects are passed over, and so is what comes after the 30th.
fn read<'de, A: MapAccess<'de>>(mut map: A) -> Result<Props, A::Error> {
    let mut props = BTreeMap::new();
    while let Some(key) = map.next_key::<String>()? {
        let value = map.next_value::<Scalar>()?.0;
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        check(&key, KEY_MAX, "a property's name")?;
        check(&value, VALUE_MAX, "a property's value")?;
        if props.contains_key(&key) {
            // In serde's words, by which the field is found.
            return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
        }
        if props.len() < COUNT_MAX {
            props.insert(key, value);
        }
    }
    Ok(Props(props))
}

fn check<E: Error>(text: &str, max: usize, what: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(E::custom(format_args!(
            "{what} must not hold the character U+0000"
        )));
    }
    // Bytes bound characters, so most texts need no counting.
    if text.len() > max && text.chars().count() > max {
        return Err(E::custom(format_args!("{what} has more than {max} characters")));
    }
    Ok(())
}

/// A text, or a number or truth value as text; none for null, lists and objects.
pub(super) fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Scalar::deserialize(deserializer).map(|scalar| scalar.0)
}

struct Scalar(Option<String>);

impl<'de> Deserialize<'de> for Scalar {
    /// From the value as it was written: a reader of JSON rounds integers of more than 64 bits.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?.get();
        let text = match written.as_bytes().first() {
            Some(b'"') => serde_json::from_str(written).map(Some),
            Some(b'-' | b'0'..=b'9') => number(written).map(Some),
            Some(b't' | b'f') => Ok(Some(written.to_owned())),
            // A list or an object, or null. How deep it may be nested is checked of the whole hit.
            Some(_) | None => Ok(None),
        };
        text.map(Self).map_err(D::Error::custom)
    }
}

/// Integers digit for digit; others in their shortest form.
fn number(written: &str) -> serde_json::Result<String> {
    if written.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return Ok(written.to_owned());
    }
    serde_json::from_str::<f64>(written).map(|number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(json: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
        serde_json::from_str::<Props>(json).map(|props| props.into_map().into_iter().collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn numbers_and_truth_values_become_texts_and_what_is_empty_is_left_out() {
        let read =
            props(r#"{"a":"x","b":1,"c":-1.5,"d":true,"e":null,"f":"","g":[1],"h":{"i":[{}]}}"#).unwrap();
        assert_eq!(
            read,
            [
                pair("a", "x"),
                pair("b", "1"),
                pair("c", "-1.5"),
                pair("d", "true")
            ]
        );
    }

    #[test]
    fn integers_are_kept_digit_for_digit_and_other_numbers_in_their_shortest_form() {
        for (written, kept) in [
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551617", "18446744073709551617"),
            (
                "-123456789012345678901234567890",
                "-123456789012345678901234567890",
            ),
            ("1.50", "1.5"),
            ("1e3", "1000"),
        ] {
            let object = format!(r#"{{"a": {written} }}"#);
            assert_eq!(props(&object).unwrap(), [pair("a", kept)]);
            assert_eq!(
                props(&serde_json::json!(object).to_string()).unwrap(),
                [pair("a", kept)]
            );
        }
        assert!(props(&format!(r#"{{"a":{}}}"#, "1".repeat(VALUE_MAX + 1))).is_err());
        for no_number in ["1e400", "01", "1.", "-", "1-1"] {
            assert!(props(&format!(r#"{{"a":{no_number}}}"#)).is_err(), "{no_number}");
        }
    }

    #[test]
    fn an_object_may_come_as_a_text_but_only_once() {
        assert_eq!(props(r#""{\"a\":1}""#).unwrap(), [pair("a", "1")]);
        assert_eq!(props("null").unwrap(), []);
        assert_eq!(props(r#""""#).unwrap(), []);
        assert!(props(r#""\"{}\"""#).is_err());
        assert!(props("[1]").is_err());
        assert!(props("1").is_err());
        assert!(props(r#"{"a":1,"a":2}"#).is_err());
    }

    #[test]
    fn thirty_are_kept_and_each_has_limits() {
        let many: Vec<_> = (0..40)
            .map(|number| format!(r#""k{number:02}":{number}"#))
            .collect();
        let read = props(&format!("{{{}}}", many.join(","))).unwrap();
        assert_eq!((read.len(), read.last().unwrap().0.as_str()), (30, "k29"));
        let one = |key: usize, value: usize| {
            props(&format!(r#"{{"{}":"{}"}}"#, "é".repeat(key), "é".repeat(value)))
        };
        assert!(one(KEY_MAX, VALUE_MAX).is_ok());
        assert!(one(KEY_MAX + 1, 1).is_err());
        assert!(one(1, VALUE_MAX + 1).is_err());
        assert!(props(r#"{"a":"\u0000"}"#).is_err());
    }
}
