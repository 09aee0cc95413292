//! Values as words: how the command line reads them, and how names of arms show them.

use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeValue, ValueDeserializer},
};

use super::canonical::canonical;

/// A value of the command line: TOML, or else what [`bare`] makes of it. The error is the reason.
pub(super) fn read(text: &str) -> Result<Value, String> {
    match DeValue::parse(text) {
        Ok(value) => own(value),
        Err(_) => Ok(bare(text)),
    }
}

/// What a text that is no TOML stands for: `[a, b]` a list of bare words, anything else a string.
pub fn bare(text: &str) -> Value {
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let words: Option<Vec<&str>> = inner.map(|inner| inner.split(',').map(str::trim).collect());
    match words {
        Some(words) if words.iter().all(|word| is_word(word)) => words
            .into_iter()
            .map(Value::from)
            .collect::<Vec<_>>()
            .into(),
        _ => text.into(),
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

/// The value in the name of an arm: a string without quotes where the command line reads that as the same string and it is
/// clear where it ends; a list of such words without quotes; anything else by its canonical text.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(string) if is_word(string) || is_phrase(string) => string.clone(),
        Value::Array(values) => match words(values) {
            Some(words) => format!("[{}]", words.join(",")),
            None => canonical(value),
        },
        value => canonical(value),
    }
}

/// The words of a list that has nothing else, and one at least.
fn words(values: &[Value]) -> Option<Vec<&str>> {
    let words = values.iter().map(Value::as_str);
    let words: Option<Vec<&str>> = words
        .map(|word| word.filter(|word| is_word(word)))
        .collect();
    words.filter(|words| !words.is_empty())
}

/// Whether a text is a word that needs no quotes: not TOML, without white space, commas, quotes, brackets or braces.
fn is_word(text: &str) -> bool {
    is_plain(text) && DeValue::parse(text).is_err()
}

/// Whether a text is words between single spaces that need no quotes. None has a `=`, which would begin the next key.
fn is_phrase(text: &str) -> bool {
    let mut words = text.split(' ');
    words.all(|word| is_plain(word) && !word.contains('=')) && DeValue::parse(text).is_err()
}

/// Whether a text is not empty and has no character that splits lists or names.
fn is_plain(text: &str) -> bool {
    let splits =
        |char: char| char.is_whitespace() || char.is_control() || ",\"'[]{}".contains(char);
    !text.is_empty() && !text.contains(splits)
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
        let words = Value::Array(vec!["experts".into(), "layerwise".into()]);
        assert_eq!(read("[experts, layerwise]"), Ok(words));
        for text in ["[experts,]", "[a, 'b', c d]", "[open", "[a b]"] {
            assert_eq!(read(text), Ok(Value::from(text)), "{text}");
        }
        assert!(read("9223372036854775808").is_err());
    }

    #[test]
    fn strings_are_quoted_where_a_bare_word_would_be_something_else() {
        for (value, expected) in [
            (Value::from("importance"), "importance"),
            (Value::from("window:64"), "window:64"),
            (Value::from("bottom:1 window:64"), "bottom:1 window:64"),
            (Value::from("layers:0,1 full"), r#""layers:0,1 full""#),
            (
                Value::from("bottom:1  window:64"),
                r#""bottom:1  window:64""#,
            ),
            (Value::from("a b=c"), r#""a b=c""#),
            (Value::from("[kd]"), r#""[kd]""#),
            (Value::from("4"), r#""4""#),
            (Value::from(4), "4"),
            (Value::from(0.5), "0.5"),
            (Value::from(""), r#""""#),
            (Value::from(true), "true"),
            (Value::Array(vec!["kd".into()]), "[kd]"),
            (
                Value::Array(vec!["experts".into(), "layerwise".into()]),
                "[experts,layerwise]",
            ),
            (Value::Array(vec!["kd".into(), "4".into()]), r#"["kd","4"]"#),
            (Value::Array(vec!["a b".into()]), r#"["a b"]"#),
            (Value::Array(vec![1.into(), "kd".into()]), r#"[1,"kd"]"#),
            (Value::Array(vec![]), "[]"),
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

        #[test]
        fn shown_lists_are_read_back(words in proptest::collection::vec("\\PC{0,6}", 0..4)) {
            let value = Value::Array(words.into_iter().map(Value::from).collect());
            prop_assert_eq!(read(&shown(&value)), Ok(value));
        }

        #[test]
        fn phrases_are_read_back(words in proptest::collection::vec("[a-z0-9:=+.-]{0,4}", 0..4)) {
            let value = Value::from(words.join(" "));
            prop_assert_eq!(read(&shown(&value)), Ok(value));
        }
    }
}
