//! The text form of a mixer, `NAME` or `NAME:KEY=VALUE,...`, for settings of any type that serde knows.

use std::fmt;

use serde_json::{Map, Value};

use super::{MixSpec, MixerError};

/// The name and, behind a colon, the settings.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, settings)) => (name, Some(settings)),
        None => (text, None),
    }
}

/// Reads settings over the default ones.
pub(super) fn read<S: MixSpec>(settings: Option<&str>) -> Result<S, MixerError> {
    let wrong = |problem| MixerError::Setting {
        mixer: S::NAME,
        problem,
    };
    let defaults = keys(&S::default());
    let mut values = defaults.clone();
    let mut given = vec![];
    for setting in settings.iter().flat_map(|settings| settings.split(',')) {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| wrong(format!("`{setting}` is no setting, expected KEY=VALUE")))?;
        if !defaults.contains_key(key) {
            let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
            return Err(MixerError::unknown_key(S::NAME, key, &known));
        }
        if given.contains(&key) {
            return Err(wrong(format!("`{key}` is given twice")));
        }
        given.push(key);
        // Each on its own over the defaults, so that the message can name the key.
        let mut one = defaults.clone();
        one.insert(key.to_owned(), parsed(value));
        serde_json::from_value::<S>(Value::Object(one))
            .map_err(|error| wrong(format!("`{key}` cannot be `{value}`: {error}")))?;
        values.insert(key.to_owned(), parsed(value));
    }
    let spec: S =
        serde_json::from_value(Value::Object(values)).map_err(|error| wrong(error.to_string()))?;
    spec.check().map_err(wrong)?;
    Ok(spec)
}

/// Writes the name and the settings that are not the default ones.
pub(super) fn write<S: MixSpec>(spec: &S, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(S::NAME)?;
    let defaults = keys(&S::default());
    let changed = keys(spec)
        .into_iter()
        .filter(|(key, value)| defaults.get(key) != Some(value));
    for (index, (key, value)) in changed.enumerate() {
        let before = if index == 0 { ':' } else { ',' };
        match value {
            Value::String(name) => write!(f, "{before}{key}={name}")?,
            value => write!(f, "{before}{key}={value}")?,
        }
    }
    Ok(())
}

/// The settings by their keys.
fn keys<S: MixSpec>(spec: &S) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(keys)) => keys,
        _ => unreachable!("settings are a struct of numbers, truth values and names"),
    }
}

/// A number or a truth value; anything else is a name.
fn parsed(value: &str) -> Value {
    match serde_json::from_str(value) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_))) => plain,
        _ => value.into(),
    }
}
