//! The key `kiln` of `config.json`: what an architecture's own keys cannot say.
//!
//! The `model_type` of a folder with this key begins with `kiln-`, because Transformers would take its
//! weights and compute something else.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{FolderError, Keys, MODEL_TYPE};
use crate::file::FileError;

/// The key.
pub const KILN: &str = "kiln";
/// What the `model_type` of a folder begins with that only Kiln reads.
const PREFIX: &str = "kiln-";

/// The `model_type` without what says that only Kiln reads the folder, if anything does.
pub fn without_kiln_prefix(model_type: &str) -> &str {
    model_type.strip_prefix(PREFIX).unwrap_or(model_type)
}

/// The value of the key, the default where it is absent; `expected` is for messages.
///
/// # Errors
///
/// If it is of another form.
pub fn read_kiln<T: DeserializeOwned + Default>(
    keys: Keys<'_>,
    expected: &str,
) -> Result<T, FileError> {
    match keys.json.get(KILN) {
        None => Ok(T::default()),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| keys.wrong(KILN, format!("{expected}: {error}"))),
    }
}

/// Checks that the key has a value for each layer, where it has a list of spans or mixers.
///
/// # Errors
///
/// If it has not; `expected` says what would be right.
pub fn check_kiln_layers<T>(
    keys: Keys<'_>,
    values: Option<&Vec<T>>,
    layers: usize,
    expected: &str,
) -> Result<(), FileError> {
    match values {
        Some(values) if values.len() != layers => Err(keys.wrong(KILN, expected)),
        _ => Ok(()),
    }
}

/// Checks that there is a value for each layer of the model in a folder; `what` they are called.
///
/// # Errors
///
/// If there is not.
pub fn check_layers<T>(
    dir: &Path,
    what: &'static str,
    values: &[T],
    layers: usize,
) -> Result<(), FolderError> {
    if values.len() == layers {
        return Ok(());
    }
    Err(FolderError::Layers {
        dir: dir.to_owned(),
        layers,
        what,
        given: values.len(),
    })
}

/// The `model_type` of an architecture, `name` without the prefix, in a folder with this key.
pub fn kiln_model_type<T: Default + PartialEq>(name: &str, value: &T) -> String {
    let prefix = if *value == T::default() { "" } else { PREFIX };
    format!("{prefix}{name}")
}

/// Writes the key and the [`kiln_model_type`]; a default value is left out.
pub fn write_kiln<T: Serialize + Default + PartialEq>(
    json: &mut Map<String, Value>,
    name: &str,
    value: &T,
) {
    let model_type = kiln_model_type(name, value);
    json.insert(MODEL_TYPE.to_owned(), model_type.into());
    if *value == T::default() {
        json.shift_remove(KILN);
    } else {
        json.insert(KILN.to_owned(), json!(value));
    }
}
