//! What stages have in common that differ by their seed alone, or by nothing that a step of theirs takes time for.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::Value;

use crate::graph::{Document, Key};

/// A hash of all that determines a stage but for seeds: its kind, settings and data, and the same of the stages that it
/// reads.
pub(in crate::run) type Signature = u64;

/// The signatures of stages by their keys.
pub(in crate::run) struct Signatures {
    known: HashMap<Key, Signature>,
    /// Whether settings count that say how long a training goes on, or what numbers it works with, and not what it does.
    has_all: bool,
}

/// Settings of a model that a step of its training takes no time for.
const TIMELESS: [&str; 14] = [
    "clip_norm",
    "early_stopping",
    "epochs",
    "keep",
    "lambda",
    "learning_rate",
    "order",
    "seed",
    "shared",
    "task",
    "temperature",
    "warmup",
    "weight",
    "weight_decay",
];

impl Signatures {
    /// Those of these stages. A stage that is read and is not among them counts by its kind alone.
    pub fn of<'a>(documents: &HashMap<&'a Key, &'a Document>) -> Self {
        Self::with(documents, true)
    }

    /// Those of these stages by what takes time in them: equal ones have models of the same shape, and take as long for each
    /// epoch.
    pub fn of_likeness<'a>(documents: &HashMap<&'a Key, &'a Document>) -> Self {
        Self::with(documents, false)
    }

    fn with<'a>(documents: &HashMap<&'a Key, &'a Document>, has_all: bool) -> Self {
        let mut found = Self {
            known: HashMap::new(),
            has_all,
        };
        for key in documents.keys() {
            found.add(key, documents);
        }
        found
    }

    /// The signature of a stage.
    pub fn get(&self, key: &Key) -> Option<Signature> {
        self.known.get(key).copied()
    }

    fn add(&mut self, key: &Key, documents: &HashMap<&Key, &Document>) -> Signature {
        if let Some(known) = self.get(key) {
            return known;
        }
        let mut hasher = DefaultHasher::new();
        match documents.get(key) {
            None => key.kind().hash(&mut hasher),
            Some(document) => {
                document.kind.hash(&mut hasher);
                document.result_version.hash(&mut hasher);
                document.data.hash(&mut hasher);
                for (key, value) in sorted(&document.settings) {
                    if !self.has_all && key == "rung" {
                        continue;
                    }
                    key.hash(&mut hasher);
                    let is_model = ["model", "experts"].contains(&key.as_str());
                    feed(value, self.has_all || !is_model, &mut hasher);
                }
                for (role, input) in &document.inputs {
                    // The rung before, of the same training.
                    if !self.has_all && role == "before" {
                        continue;
                    }
                    role.hash(&mut hasher);
                    // Stages are made of finished ones, so there are no circles.
                    self.add(input, documents).hash(&mut hasher);
                }
            }
        }
        let signature = hasher.finish();
        self.known.insert(key.clone(), signature);
        signature
    }
}

/// A hash of a value that does not depend on the order of keys.
pub(super) fn hash_of(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(value, true, &mut hasher);
    hasher.finish()
}

/// Feeds a value, all of it or what takes time.
fn feed(value: &Value, has_all: bool, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0u8.hash(hasher),
        Value::Bool(value) => (1u8, value).hash(hasher),
        // 4 and 4.0 are one number, as in keys.
        Value::Number(number) => (2u8, number.as_f64().map(f64::to_bits)).hash(hasher),
        Value::String(text) => (3u8, text).hash(hasher),
        Value::Array(values) => {
            (4u8, values.len()).hash(hasher);
            for value in values {
                feed(value, has_all, hasher);
            }
        }
        Value::Object(entries) => {
            (5u8, entries.len()).hash(hasher);
            for (key, value) in sorted(entries) {
                if has_all || !TIMELESS.contains(&key.as_str()) {
                    key.hash(hasher);
                    feed(value, has_all, hasher);
                }
            }
        }
    }
}

fn sorted(entries: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(kind: &str, settings: Value, inputs: &[&Key], seed: u64) -> (Key, Document) {
        let inputs = inputs.iter().map(|key| ("from", key.to_string()));
        let document = json!({
            "format": 1, "kind": kind, "settings": settings, "data": format!("sha256:{}", "0".repeat(64)),
            "inputs": inputs.collect::<HashMap<_, _>>(), "seed": seed.to_string(), "result_version": 1,
        });
        let document: Document = serde_json::from_value(document).unwrap();
        (document.key().unwrap(), document)
    }

    #[test]
    fn seeds_do_not_count_and_settings_of_inputs_do() {
        let mut all = vec![];
        for seed in [1, 2] {
            for epochs in [3, 4] {
                let model = json!({ "model": { "epochs": epochs, "a": 1 } });
                let teacher = document("train", model, &[], seed);
                let student = document(
                    "train",
                    json!({ "model": { "a": 1.0, "epochs": 1 } }),
                    &[&teacher.0],
                    seed,
                );
                all.extend([teacher, student]);
            }
        }
        let stages: HashMap<&Key, &Document> = all.iter().map(|(key, it)| (key, it)).collect();
        let found = Signatures::of(&stages);
        let of = |index: usize| found.get(&all[index].0).unwrap();
        // Teachers and students of two seeds, and those of another teacher.
        for index in 0..4 {
            assert_eq!(of(index), of(index + 4));
        }
        assert_ne!(of(0), of(2));
        assert_ne!(of(1), of(3));
        // A step of theirs takes as long.
        let found = Signatures::of_likeness(&stages);
        let of = |index: usize| found.get(&all[index].0).unwrap();
        assert_eq!(of(0), of(2));
        assert_eq!(of(1), of(3));
        assert_ne!(of(0), of(1));
        // Without the teacher, students count by what is known.
        let alone = HashMap::from([(&all[1].0, &all[1].1), (&all[3].0, &all[3].1)]);
        let found = Signatures::of(&alone);
        assert_eq!(found.get(&all[1].0), found.get(&all[3].0));
    }
}
