//! Values as words: how the command line reads them, and how names of arms show them.

use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeValue, ValueDeserializer},
};

use super::canonical::canonical;

/// A value of the command line: TOML, or else a bare word, which is a string. The error is the reason.
pub(super) fn read(text: &str) -> Result<Value, String> {
    match DeValue::parse(text) {
        Ok(value) => own(value),
        Err(_) => Ok(Value::from(text)),
    }
}

/// The value without its place. The error is the reason, such as an integer that is too large.
pub(super) fn own(value: Spanned<DeValue<'_>>) -> Result<Value, String> {
    let reason = |error: toml::de::Error| {
        error
            .message()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    Value::deserialize(ValueDeserializer::from(value)).map_err(reason)
}

/// The value in the name of an arm: a string is a bare word if the command line reads that as the same string and it has
/// no white space, commas, quotes, brackets or braces; anything else is shown by its canonical text.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(string) if is_bare(string) => string.clone(),
        value => canonical(value),
    }
}

fn is_bare(string: &str) -> bool {
    let is_plain =
        |char: char| !(char.is_whitespace() || char.is_control() || ",\"'[]{}".contains(char));
    !string.is_empty() && string.chars().all(is_plain) && DeValue::parse(string).is_err()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_toml_is_a_string() {
        assert_eq!(read("4"), Ok(Value::from(4)));
        assert_eq!(read("1e-3"), Ok(Value::from(1e-3)));
        assert_eq!(read("'4'"), Ok(Value::from("4")));
        assert_eq!(read("SST-2/dev"), Ok(Value::from("SST-2/dev")));
        assert_eq!(
            read("[1, 'a']"),
            Ok(Value::Array(vec![1.into(), "a".into()]))
        );
        assert!(read("9223372036854775808").is_err());
    }

    #[test]
    fn strings_are_quoted_where_a_bare_word_would_be_something_else() {
        for (value, expected) in [
            (Value::from("importance"), "importance"),
            (Value::from("window:64"), "window:64"),
            (Value::from("bottom:1 window:64"), r#""bottom:1 window:64""#),
            (Value::from("4"), r#""4""#),
            (Value::from(4), "4"),
            (Value::from(0.5), "0.5"),
            (Value::from(""), r#""""#),
            (Value::from(true), "true"),
            (Value::Array(vec!["kd".into()]), r#"["kd"]"#),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }

    proptest! {
        #[test]
        fn shown_strings_are_read_back(string in "\\PC{0,20}") {
            let value = Value::from(string);
            prop_assert_eq!(read(&shown(&value)), Ok(value));
        }
    }
}
