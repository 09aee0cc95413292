//! JSON as other programs write it.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

use super::byte_order_mark::without_mark;

/// U+FFFD as an escape: as long as that of a surrogate, so that errors name the same columns.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

/// Reads a value from JSON, with or without a byte order mark.
///
/// Half of a surrogate pair, such as `\ud83d` alone, becomes U+FFFD: Python's `json` writes and reads
/// such text where a string was cut within a character.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&without_lone_surrogates(without_mark(json)))
}

/// Replaces the escapes that stand for half of a surrogate pair. A backslash outside of a string is an
/// error before and after, so that strings need not be told from what is around them.
fn without_lone_surrogates(json: &[u8]) -> Cow<'_, [u8]> {
    let mut whole = Cow::Borrowed(json);
    let mut position = 0;
    while let Some(rest) = json.get(position..)
        && let Some(found) = rest.iter().position(|byte| *byte == b'\\')
    {
        let start = position + found;
        let escape = &rest[found..];
        position = start
            + match (escaped_unit(escape), escape.get(6..).and_then(escaped_unit)) {
                // The next byte may be a backslash, which escapes nothing.
                (None, _) => 2,
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
                (Some(0xd800..=0xdfff), _) => {
                    whole.to_mut()[start..start + 6].copy_from_slice(REPLACEMENT);
                    6
                }
                (Some(_), _) => 6,
            };
    }
    whole
}

/// The UTF-16 unit of an escape `\uXXXX` at the beginning of `json`.
fn escaped_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

/// An identifier: a text, or a number as its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) if number.is_u64() || number.is_i64() => {
                Ok(Self(number.to_string()))
            }
            // A whole number beyond 64 bits is read as the nearest float: its digits are lost, and
            // two identifiers could become one.
            Value::Number(number) => Err(D::Error::custom(format!(
                "the id {number} is not a whole number of 64 bits; write it as a text"
            ))),
            _ => Err(D::Error::custom("the id is neither a text nor a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;

    #[test]
    fn halves_of_pairs_are_replaced_and_whole_pairs_stay() {
        let read = |json: &str| parse::<String>(json.as_bytes()).map_err(|error| error.to_string());
        for (json, text) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\uDE00 b""#, "\u{fffd} b"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            // An escaped backslash: what follows it is no escape.
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
        ] {
            assert_eq!(read(json), Ok(text.to_owned()), "{json}");
        }
        for (json, error) in [
            (r#""\ud8"#, "EOF while parsing a string at line 1 column 5"),
            (r#""\u+123""#, "invalid escape at line 1 column 7"),
            ("\"\\", "EOF while parsing a string at line 1 column 2"),
            (r#""\ud83d" 7"#, "trailing characters at line 1 column 10"),
        ] {
            assert_eq!(read(json), Err(error.to_owned()), "{json}");
        }
    }

    #[test]
    fn ids_are_texts_or_whole_numbers() {
        let read = |value: Value| serde_json::from_value::<Id>(value).map(|Id(id)| id);
        assert_eq!(read(json!("7a")).unwrap(), "7a");
        assert_eq!(read(json!(7)).unwrap(), "7");
        assert_eq!(read(json!(-7)).unwrap(), "-7");
        assert_eq!(read(json!(u64::MAX)).unwrap(), u64::MAX.to_string());
        for value in [json!(1e30), json!(0.5)] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.ends_with("write it as a text"), "{error}");
        }
        assert!(read(json!([7])).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "(\\PC|[\\\\\"u\n\u{0}]|d83d){0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                    .prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_it_is_with_and_without_a_mark(value in value()) {
            let json = value.to_string();
            let plain: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(parse::<Value>(json.as_bytes()).unwrap(), plain.clone());
            let marked = format!("\u{feff}{json}");
            prop_assert_eq!(parse::<Value>(marked.as_bytes()).unwrap(), plain);
        }

        #[test]
        fn escapes_are_read_as_utf_16_whose_lone_surrogates_are_replaced(
            units in vec(prop_oneof![any::<u16>(), 0xd800..0xe000_u16], 0..8),
        ) {
            let escapes: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escapes = escapes.concat();
            let text: String = parse(format!("\"{escapes}\"").as_bytes()).unwrap();
            prop_assert_eq!(text, String::from_utf16_lossy(&units));
        }

        #[test]
        fn what_is_no_json_stays_an_error(text in "[\\\\u\"d83 {]{0,12}") {
            let healed = without_lone_surrogates(text.as_bytes());
            prop_assert_eq!(healed.len(), text.len());
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert_eq!(&*healed, text.as_bytes());
            }
        }
    }
}
