//! Canonical JSON text by RFC 8785 (JCS): equal values have equal bytes.

use std::fmt::Write;

use serde_json::{Map, Number, Value};

/// The largest integer up to which every integer is a number of ECMAScript: 2^53.
const LARGEST: u64 = 1 << 53;

/// A number without a canonical text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{name}` is {number}, {problem}")]
pub struct CanonicalError {
    /// The keys that lead to the number, joined by dots.
    pub name: String,
    /// The number.
    pub number: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The canonical text of a value: no white space, keys in the order of their UTF-16 code units, numbers as
/// ECMAScript prints them, strings with the fewest escapes.
///
/// `serde_json` serialises NaN and infinities as `null`, so whoever builds a value must refuse them before.
///
/// # Errors
///
/// If an integer is above 2^53 in magnitude or a number is not finite: readers would disagree about its value.
pub fn canonical(value: &Value) -> Result<String, CanonicalError> {
    let mut text = String::new();
    let mut place = vec![];
    write_value(&mut text, value, &mut place)?;
    Ok(text)
}

/// The canonical text of an object of which the value of each entry is given as its canonical text; keys are ASCII and in
/// their order.
pub(super) fn object(entries: &[(&str, String)]) -> String {
    let mut text = "{".to_owned();
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(&mut text, key);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// The canonical text of the entries of an object that is called `name` in messages.
///
/// # Errors
///
/// As [`canonical`].
pub(super) fn canonical_entries(
    name: &str,
    entries: &Map<String, Value>,
) -> Result<String, CanonicalError> {
    let mut text = String::new();
    write_object(&mut text, entries, &mut vec![name])?;
    Ok(text)
}

fn write_value<'a>(
    text: &mut String,
    value: &'a Value,
    place: &mut Vec<&'a str>,
) -> Result<(), CanonicalError> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => match write_number(text, number) {
            Ok(()) => {}
            Err(problem) => {
                return Err(CanonicalError {
                    name: place.join("."),
                    number: number.to_string(),
                    problem,
                });
            }
        },
        Value::String(string) => write_string(text, string),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, value, place)?;
            }
            text.push(']');
        }
        Value::Object(entries) => write_object(text, entries, place)?,
    }
    Ok(())
}

fn write_object<'a>(
    text: &mut String,
    entries: &'a Map<String, Value>,
    place: &mut Vec<&'a str>,
) -> Result<(), CanonicalError> {
    let mut entries = entries.iter().collect::<Vec<_>>();
    entries.sort_by(|(a, _), (b, _)| {
        if a.is_ascii() && b.is_ascii() {
            a.cmp(b)
        } else {
            a.encode_utf16().cmp(b.encode_utf16())
        }
    });
    text.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        place.push(key);
        write_value(text, value, place)?;
        place.pop();
    }
    text.push('}');
    Ok(())
}

fn write_number(text: &mut String, number: &Number) -> Result<(), &'static str> {
    let magnitude = number
        .as_u64()
        .or_else(|| number.as_i64().map(i64::unsigned_abs));
    if magnitude.is_some_and(|magnitude| magnitude > LARGEST) {
        return Err("an integer above 2^53, which JSON numbers do not hold exactly; use a string");
    }
    let Some(value) = number.as_f64().filter(|value| value.is_finite()) else {
        return Err("which is not finite");
    };
    text.push_str(&ecmascript(value));
    Ok(())
}

/// `Number::toString` of ECMAScript (ECMA-262, 6.1.6.1.20).
///
/// Rust and ECMAScript both print the fewest digits that read back to the same number, and of these the nearest. They
/// differ in how they break ties, in when they print an exponent and in its sign.
fn ecmascript(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&magnitude) {
        let shortest = format!("{value}");
        return match shortest.split_once('.') {
            Some((_, decimals)) => {
                let even = format!("{value:.*}", decimals.len());
                choose(value, even, shortest)
            }
            None => shortest,
        };
    }
    let shortest = format!("{value:e}");
    let mantissa = shortest.bytes().take_while(|byte| *byte != b'e');
    let digits = mantissa.filter(u8::is_ascii_digit).count();
    let even = format!("{value:.*e}", digits.saturating_sub(1));
    let text = choose(value, even, shortest);
    if magnitude < 1.0 {
        text
    } else {
        text.replace('e', "e+")
    }
}

/// The text that is rounded to even digits from the exact value, as ECMA-262 recommends and RFC 8785 requires, unless
/// it reads back to a neighbour: below a power of two, numbers are closer than above.
fn choose(value: f64, even: String, shortest: String) -> String {
    if even.parse() == Ok(value) {
        even
    } else {
        shortest
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for char in string.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            _ => text.push(char),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_the_rfc() {
        // RFC 8785, appendix B.
        let cases = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
            // 2^-24: the even neighbour ends in 2, and reads back to another number.
            (0x3e70_0000_0000_0000, "5.960464477539063e-8"),
        ];
        for (bits, expected) in cases {
            assert_eq!(ecmascript(f64::from_bits(bits)), expected);
        }
    }

    #[test]
    fn keys_of_the_rfc() {
        // RFC 8785, section 3.2.3: by UTF-16 code units the smiley goes before U+FB33.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let text = canonical(&value).unwrap();
        let expected = [
            "\\r",
            "1",
            "\u{80}",
            "\u{f6}",
            "\u{20ac}",
            "\u{1f600}",
            "\u{fb33}",
        ];
        let places = expected.map(|key| text.find(&format!("\"{key}\":")).unwrap());
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn strings_have_the_fewest_escapes() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}\u{8}\t\u{c}\r");
        let expected = "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\\b\\t\\f\\r\"";
        assert_eq!(canonical(&value).unwrap(), expected);
    }

    #[test]
    fn integers_that_others_would_round_are_refused() {
        assert_eq!(
            canonical(&json!([1_u64 << 53, -(1_i64 << 53), 1e300])).unwrap(),
            "[9007199254740992,-9007199254740992,1e+300]"
        );
        for integer in [
            json!((1_u64 << 53) + 1),
            json!(-(1_i64 << 53) - 1),
            json!(u64::MAX),
        ] {
            let error = canonical(&json!({ "train": { "steps": [0, integer] } })).unwrap_err();
            assert_eq!(error.name, "train.steps");
            assert_eq!(error.number, integer.to_string());
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_canonical_text_reads_back_and_is_its_own(value in values()) {
            let text = canonical(&value).unwrap();
            let read = serde_json::from_str::<Value>(&text).unwrap();
            // Integers in floats read back as integers, which may be large only if they were floats.
            if let Ok(again) = canonical(&read) {
                prop_assert_eq!(again, text);
            } else {
                prop_assert!(text.len() > 16);
            }
        }

        #[test]
        fn numbers_read_back_to_the_bit(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(ecmascript(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
