//! What determines the result of a stage, and the key derived from it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    canonical::{CanonicalError, canonical, canonical_entries, object},
    digest::{Digest, Fingerprint, is_lower_hex},
};

/// How many hex digits of the SHA-256 are in a key: 128 bits.
const DIGITS: usize = 32;

/// The name of a stage's folder: its kind, a hyphen and 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key(String);

/// A key that cannot be computed or parsed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A text is no key.
    #[error(
        "`{0}` is not the key of a stage; keys are a kind, a hyphen and 32 lower-case hex digits"
    )]
    Text(String),
    /// The name of a kind cannot be part of a file name everywhere.
    #[error("`{0}` cannot be a kind of stage; use lower-case letters, digits, `_` and `-`")]
    Kind(String),
    /// The document has a number without a canonical text.
    #[error("cannot compute the key of a stage: {0}")]
    Number(#[from] CanonicalError),
    /// The document cannot be written as JSON.
    #[error("cannot compute the key of a stage: {0}")]
    Json(#[from] serde_json::Error),
}

/// Everything that determines the result of a stage. Equal documents have equal keys, whatever the order of their
/// entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the form of the document.
    pub format: Format,
    /// The kind of stage, such as `train`.
    pub kind: String,
    /// Every setting that the kind reads, with defaults filled in, by its key in the recipe.
    pub settings: Map<String, Value>,
    /// The stages that it reads, by the role that each has.
    pub inputs: BTreeMap<String, Key>,
    /// The content of the files that it reads.
    pub data: Fingerprint,
    /// The seed, if the kind draws random numbers. In JSON it is a decimal string, because a JSON number does not hold
    /// 64 bits exactly.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub seed: Option<u64>,
    /// A constant of the kind, raised by each commit that changes its results.
    pub result_version: u32,
}

/// The version of the form of [`Document`]; there is only version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Format;

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        1
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, String> {
        match format {
            1 => Ok(Self),
            other => Err(format!("format {other} is unknown; expected 1")),
        }
    }
}

impl Document {
    /// The canonical text by RFC 8785.
    ///
    /// # Errors
    ///
    /// If a setting is an integer above 2^53 or not finite.
    pub fn canonical(&self) -> Result<String, KeyError> {
        let Self {
            format,
            kind,
            settings,
            inputs,
            data,
            seed,
            result_version,
        } = self;
        // The settings are large, and a copy of them would take longer than the rest.
        let settings = canonical_entries("settings", settings)?;
        let rest = json!({
            "format": format,
            "kind": kind,
            "inputs": inputs,
            "data": data,
            "result_version": result_version,
        });
        let mut entries = vec![("settings", settings)];
        for (key, value) in rest.as_object().into_iter().flatten() {
            entries.push((key.as_str(), canonical(value)?));
        }
        if let Some(seed) = seed {
            entries.push(("seed", canonical(&json!(seed.to_string()))?));
        }
        entries.sort_unstable();
        Ok(object(&entries))
    }

    /// The key: the kind and the first 32 hex digits of the SHA-256 of the canonical text.
    ///
    /// # Errors
    ///
    /// If the kind cannot be part of a file name, or as [`canonical`](Self::canonical).
    pub fn key(&self) -> Result<Key, KeyError> {
        if !is_kind(&self.kind) {
            return Err(KeyError::Kind(self.kind.clone()));
        }
        let digest = Digest::of(self.canonical()?).to_string();
        Ok(Key(format!("{}-{}", self.kind, &digest[..DIGITS])))
    }
}

impl Key {
    /// The key as text, which is also the name of the stage's folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of stage.
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(kind, _)| kind)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.rsplit_once('-') {
            Some((kind, digits))
                if is_kind(kind) && digits.len() == DIGITS && is_lower_hex(digits) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(KeyError::Text(text.to_owned())),
        }
    }
}

/// Keys are file names, and some file systems do not tell upper from lower case.
fn is_kind(kind: &str) -> bool {
    kind.starts_with(|first: char| first.is_ascii_lowercase())
        && kind
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// A number as a decimal string.
mod decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    // `with` passes a reference to the field.
    #[expect(clippy::ref_option)]
    pub fn serialize<S: Serializer>(seed: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        seed.map(|seed| seed.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<u64>() {
            // `007` and `+7` would give the same seed another key.
            Ok(seed) if seed.to_string() == text => Ok(Some(seed)),
            _ => Err(D::Error::custom(format!(
                "`{text}` is not a seed in decimal digits"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        document: Value,
        canonical: String,
        key: Key,
    }

    fn cases() -> Vec<Case> {
        let text = include_str!("../../tests/fixtures/stage_keys.json");
        serde_json::from_str::<Fixture>(text).unwrap().cases
    }

    #[test]
    fn the_fixture() {
        let cases = cases();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let document = serde_json::from_value::<Document>(case.document).unwrap();
            assert_eq!(document.canonical().unwrap(), case.canonical);
            assert_eq!(document.key().unwrap(), case.key);
            assert_eq!(case.key.kind(), document.kind);
        }
    }

    #[test]
    fn the_order_of_entries_is_not_in_the_key() {
        for case in cases() {
            let Value::Object(entries) = case.document else {
                panic!("not an object")
            };
            let turned = Value::Object(entries.into_iter().rev().collect());
            let document = serde_json::from_value::<Document>(turned).unwrap();
            assert_eq!(document.key().unwrap(), case.key);
        }
    }

    #[test]
    fn every_part_is_in_the_key() {
        let document = &cases()[0].document;
        let key = |document: Value| {
            let document = serde_json::from_value::<Document>(document).unwrap();
            document.key().unwrap()
        };
        let changes = [
            ("/kind", json!("evaluate")),
            ("/settings/train.epochs", json!(4)),
            (
                "/inputs/start",
                json!("adapt-ffffffffffffffffffffffffffffffff"),
            ),
            ("/data", json!(format!("sha256:{}", "0".repeat(64)))),
            ("/seed", json!("4")),
            ("/result_version", json!(2)),
        ];
        for (pointer, value) in changes {
            let mut changed = document.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_ne!(key(changed), key(document.clone()), "{pointer}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for (pointer, value, problem) in [
            ("/format", json!(2), "format 2 is unknown"),
            ("/seed", json!("007"), "`007` is not a seed"),
            ("/seed", json!("-1"), "`-1` is not a seed"),
            ("/data", json!("md5:0"), "md5:0"),
            (
                "/inputs/start",
                json!("../x"),
                "`../x` is not the key of a stage",
            ),
        ] {
            let mut changed = cases()[0].document.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let error = serde_json::from_value::<Document>(changed).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn a_kind_is_part_of_a_file_name() {
        let mut document = serde_json::from_value::<Document>(cases()[0].document.clone()).unwrap();
        for kind in ["", "Train", "../train", "train.1", "1train"] {
            kind.clone_into(&mut document.kind);
            assert!(
                matches!(document.key(), Err(KeyError::Kind(_))),
                "{kind} is accepted"
            );
        }
    }
}
