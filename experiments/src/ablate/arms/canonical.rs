//! Canonical text of TOML values: equal values have equal text.

use toml::Value;

use crate::graph;

/// Up to here every integer is a number of JSON.
const LARGEST: i64 = 1 << 53;

/// The canonical text of a value, JSON by RFC 8785: 4 and 4.0 are one. What JSON does not have is written as in TOML, in
/// quotes inside lists and tables: dates, infinities, and integers beyond 2^53.
pub(super) fn canonical(value: &Value) -> String {
    if is_foreign(value) {
        return value.to_string();
    }
    // The values that have no canonical text are foreign ones.
    graph::canonical(&json(value)).unwrap_or_else(|_| value.to_string())
}

/// Whether JSON does not have the value.
fn is_foreign(value: &Value) -> bool {
    match value {
        Value::Datetime(_) => true,
        Value::Integer(integer) => integer.unsigned_abs() > LARGEST.unsigned_abs(),
        Value::Float(float) => !float.is_finite(),
        _ => false,
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        value if is_foreign(value) => value.to_string().into(),
        Value::String(text) => text.as_str().into(),
        Value::Integer(integer) => (*integer).into(),
        Value::Float(float) => (*float).into(),
        Value::Boolean(boolean) => (*boolean).into(),
        Value::Datetime(date) => date.to_string().into(),
        Value::Array(values) => values.iter().map(json).collect::<Vec<_>>().into(),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.clone(), json(value)));
            serde_json::Value::Object(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_text() {
        let value = |text: &str| text.parse::<Value>().expect("TOML");
        assert_eq!(
            canonical(&value("{ b = 4.0, a = [1e-5, 'x\"'] }")),
            r#"{"a":[0.00001,"x\""],"b":4}"#
        );
        for (given, expected) in [
            ("4.0", "4"),
            ("1e21", "1e+21"),
            ("-0.0", "0"),
            ("inf", "inf"),
            ("9007199254740993", "9007199254740993"),
            ("[9007199254740993]", r#"["9007199254740993"]"#),
            ("2026-01-02", "2026-01-02"),
        ] {
            assert_eq!(canonical(&value(given)), expected);
        }
    }
}
