//! serde's words, made words for people: what would be right, and nothing of how this is written.

use std::borrow::Cow;

const UUID: &str = "must be a UUID, as in 019aa000-0000-7000-8000-000000000001";
const ADDRESS: &str = "must be an IP address, as in 203.0.113.7 or 2001:db8::7";
const LARGER: &str = "is a larger number than is taken here";

/// What would be right, as far as serde's text says it; other texts are our own and stay.
pub(super) fn for_people(message: &str) -> Cow<'_, str> {
    let wrong = ["invalid type: ", "invalid value: ", "invalid length "];
    if wrong.iter().any(|wrong| message.starts_with(wrong))
        && let Some((_, expected)) = message.rsplit_once(", expected ")
    {
        return this(expected);
    }
    if message.starts_with("unknown variant ")
        && let Some((_, known)) = message.rsplit_once(", expected ")
    {
        return format!("must be {}", known.replace('`', "")).into();
    }
    let words = match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number"
        }
        "invalid float literal" | "cannot parse float from empty string" => "must be a number",
        "number too large to fit in target type" | "number out of range" => LARGER,
        "number too small to fit in target type" => "is a smaller number than is taken here",
        "provided string was not `true` or `false`" => "must be true or false",
        "invalid IP address syntax" => ADDRESS,
        uuid if uuid.starts_with("UUID parsing failed") => UUID,
        ours => return ours.into(),
    };
    words.into()
}

/// What a type of Rust's is to people.
fn this(expected: &str) -> Cow<'_, str> {
    let whole = |least: i128, most: u128| format!("must be a whole number from {least} to {most}").into();
    let words = match expected {
        "i8" => return whole(i8::MIN.into(), i8::MAX.unsigned_abs().into()),
        "i16" => return whole(i16::MIN.into(), i16::MAX.unsigned_abs().into()),
        "i32" => return whole(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        "i64" | "isize" => return whole(i64::MIN.into(), i64::MAX.unsigned_abs().into()),
        "u8" => return whole(0, u8::MAX.into()),
        "u16" => return whole(0, u16::MAX.into()),
        "u32" => return whole(0, u32::MAX.into()),
        "u64" | "usize" => return whole(0, u64::MAX.into()),
        "f32" | "f64" => "must be a number",
        "a string" | "string" | "str" | "a borrowed string" => "must be a text",
        "a boolean" => "must be true or false",
        "a sequence" => "must be a list",
        "a map" => "must be an object",
        "IP address" => ADDRESS,
        structure if structure.starts_with("struct ") => "must be an object",
        tuple if tuple.starts_with("tuple ") || tuple.starts_with("a tuple ") => "must be a list",
        uuid if uuid.contains("UUID") => UUID,
        ours => return format!("must be {ours}").into(),
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_right_is_said_and_nothing_of_what_came() {
        for (message, words) in [
            (
                "invalid type: string \"a, expected b\", expected i32",
                "must be a whole number from -2147483648 to 2147483647",
            ),
            (
                "invalid value: integer `-1`, expected u64",
                "must be a whole number from 0 to 18446744073709551615",
            ),
            (
                "invalid length 0, expected struct DraftBody with 10 elements",
                "must be an object",
            ),
            (
                "unknown variant `x`, expected one of `a`, `b`, `c`",
                "must be one of a, b, c",
            ),
            ("unknown variant `x`, expected `a` or `b`", "must be a or b"),
            (
                "invalid type: null, expected an object of prices",
                "must be an object of prices",
            ),
            (
                "invalid type: integer `5`, expected a formatted UUID string",
                UUID,
            ),
            ("a domain has no spaces", "a domain has no spaces"),
        ] {
            assert_eq!(for_people(message), words, "{message}");
        }
    }
}
