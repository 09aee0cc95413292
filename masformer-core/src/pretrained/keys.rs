//! The keys of `config.json`, read with their names in every error.

use std::{fmt::Display, path::Path};

use burn::tensor::DType;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::CONFIG_FILE;
use crate::file::{self, FileError};

/// The keys of one file.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// Its keys.
    pub json: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// Checks keys that have one supported value, which is also what their absence means.
    ///
    /// # Errors
    ///
    /// If one has another value.
    pub fn check_fixed(
        &self,
        fixed: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Result<(), FileError> {
        for (key, supported) in fixed {
            let fits = match self.json.get(key) {
                None | Some(Value::Null) => true,
                Some(value) => *value == supported,
            };
            if !fits {
                return Err(self.wrong(key, format!("{supported}, which alone is supported")));
            }
        }
        Ok(())
    }

    /// A whole number above 0.
    ///
    /// # Errors
    ///
    /// If the key has another value.
    pub fn size(&self, key: &str, default: usize) -> Result<usize, FileError> {
        let expected = "a whole number above 0";
        match self.get(key, default, expected)? {
            0 => Err(self.wrong(key, expected)),
            size => Ok(size),
        }
    }

    /// A probability below 1.
    ///
    /// # Errors
    ///
    /// If the key has another value.
    pub fn probability(&self, key: &str, default: f64) -> Result<f64, FileError> {
        let expected = "a probability from 0 up to, not including, 1";
        let value = self.get(key, default, expected)?;
        if (0.0..1.0).contains(&value) {
            Ok(value)
        } else {
            Err(self.wrong(key, expected))
        }
    }

    /// A number above 0.
    ///
    /// # Errors
    ///
    /// If the key has another value.
    pub fn positive(&self, key: &str, default: f64) -> Result<f64, FileError> {
        let expected = "a number above 0";
        let value = self.get(key, default, expected)?;
        if value > 0.0 {
            Ok(value)
        } else {
            Err(self.wrong(key, expected))
        }
    }

    /// A value of any type; absent and null are the default.
    ///
    /// # Errors
    ///
    /// If the value is not of the type; the message says what was `expected`.
    pub fn get<T: DeserializeOwned>(
        &self,
        key: &str,
        default: T,
        expected: &str,
    ) -> Result<T, FileError> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                serde_json::from_value(value.clone()).map_err(|_| self.wrong(key, expected))
            }
        }
    }

    /// The error about a key that has not the value that was expected.
    pub fn wrong(&self, key: &str, expected: impl Display) -> FileError {
        let found = self
            .json
            .get(key)
            .map_or("absent".to_owned(), Value::to_string);
        FileError::entry(self.path, key, format!("is {found}; expected {expected}"))
    }
}

/// The key that names the architecture.
pub const MODEL_TYPE: &str = "model_type";

/// Reads a configuration file.
///
/// # Errors
///
/// If the file cannot be read or is no JSON object.
pub fn read_config(path: &Path) -> Result<Map<String, Value>, FileError> {
    serde_json::from_slice(&file::read(path)?).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Writes `config.json` of a folder, whole or not at all.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_config(dir: &Path, json: &Map<String, Value>) -> Result<(), FileError> {
    let path = dir.join(CONFIG_FILE);
    match serde_json::to_string_pretty(json) {
        Ok(text) => file::write(&path, (text + "\n").as_bytes()),
        Err(source) => Err(FileError::Json { path, source }),
    }
}

/// Names the type of the weights where a configuration names one: Transformers loads in the type
/// named there, so it has to be the one that is written.
pub fn set_dtype(json: &mut Map<String, Value>, dtype: DType) {
    let name = match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F64 => "float64",
        _ => "float32",
    };
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = json.get_mut(key) {
            *value = name.into();
        }
    }
}
