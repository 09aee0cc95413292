//! The names that Transformers has for activations.

use serde_json::{Map, Value};

use super::Keys;
use crate::{activation::Activation, file::FileError};

/// The names in `ACT2FN` of `transformers.activations` whose functions are ours up to rounding; the first
/// of each function is written.
const ACTIVATIONS: [(&str, Activation); 11] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("quick_gelu", Activation::QuickGelu),
];

/// The activation with a name of Transformers; `None` where we have none that computes the same.
pub fn activation_named(name: &str) -> Option<Activation> {
    let mut known = ACTIVATIONS.into_iter();
    known.find_map(|(known, activation)| (known == name).then_some(activation))
}

/// The activation that a key names.
///
/// # Errors
///
/// If the key has another value.
pub fn read_activation(
    keys: Keys<'_>,
    key: &str,
    default: Activation,
) -> Result<Activation, FileError> {
    let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
    let expected = format!("one of {names}");
    match keys.get::<Option<String>>(key, None, &expected)? {
        None => Ok(default),
        Some(name) => activation_named(&name).ok_or_else(|| keys.wrong(key, expected)),
    }
}

/// Names the activation in a key, unless a name of it is there already.
pub fn write_activation(json: &mut Map<String, Value>, key: &str, activation: Activation) {
    let found = json.get(key).and_then(Value::as_str);
    if found.and_then(activation_named) == Some(activation) {
        return;
    }
    let mut known = ACTIVATIONS.into_iter();
    let name = known.find_map(|(name, known)| (known == activation).then_some(name));
    json.insert(key.to_owned(), name.into());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KEY: &str = "hidden_act";

    fn read(value: &Value) -> Result<Activation, FileError> {
        let json = Map::from_iter([(KEY.to_owned(), value.clone())]);
        let path = Path::new("config.json");
        let keys = Keys { path, json: &json };
        read_activation(keys, KEY, Activation::GeluTanh)
    }

    #[test]
    fn a_name_is_read_and_written_again() {
        for (name, activation) in ACTIVATIONS {
            assert_eq!(read(&name.into()).unwrap(), activation);
            let mut json = Map::from_iter([(KEY.to_owned(), name.into())]);
            write_activation(&mut json, KEY, activation);
            assert_eq!(json[KEY], name);
        }
        assert_eq!(read(&Value::Null).unwrap(), Activation::GeluTanh);
    }

    #[test]
    fn another_activation_gets_the_name_of_its_own() {
        let mut json = Map::new();
        for (activation, name) in [
            (Activation::Gelu, "gelu"),
            (Activation::GeluTanh, "gelu_new"),
            (Activation::Relu, "relu"),
            (Activation::Silu, "silu"),
            (Activation::QuickGelu, "quick_gelu"),
        ] {
            write_activation(&mut json, KEY, activation);
            assert_eq!(json[KEY], name);
        }
    }

    #[test]
    fn an_unknown_one_is_told_those_that_there_are() {
        for unknown in [Value::from("gelu_10"), "GELU".into(), 1.into()] {
            let error = read(&unknown).unwrap_err().to_string();
            let expected =
                format!("`hidden_act` is {unknown}; expected one of gelu, gelu_python, ");
            assert!(error.contains(&expected), "{error}");
            assert!(error.ends_with("relu, silu, swish, quick_gelu"), "{error}");
        }
    }
}
