//! How two recipes differ, key by key.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

/// The beginnings of keys that may change from start to start: those that results do not depend on, and the seeds, as a run
/// can have more of them later.
const MAY_CHANGE: [&str; 2] = ["checkpoint.", "seeds"];

/// One text for each dotted key whose value is not the same in both TOML texts.
///
/// # Errors
/// One of them is no TOML.
pub(super) fn between(there: &str, here: &str) -> Result<Vec<String>, toml::de::Error> {
    let (there, here) = (keys(there)?, keys(here)?);
    let show =
        |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), ToString::to_string);
    let all: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let changed = all
        .into_iter()
        .filter(|key| !MAY_CHANGE.iter().any(|begin| key.starts_with(begin)))
        .filter(|key| there.get(*key) != here.get(*key));
    let texts = changed.map(|key| {
        format!(
            "`{key}` ({} there, {} here)",
            show(there.get(key)),
            show(here.get(key))
        )
    });
    Ok(texts.collect())
}

/// Every value of a TOML text by its dotted key.
fn keys(text: &str) -> Result<BTreeMap<String, Value>, toml::de::Error> {
    fn flatten(path: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        let join = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    flatten(&join(&key), value, into);
                }
            }
            Value::Array(list) if list.iter().any(Value::is_table) => {
                for (index, value) in list.into_iter().enumerate() {
                    flatten(&join(&index.to_string()), value, into);
                }
            }
            value => drop(into.insert(path.to_owned(), value)),
        }
    }
    let mut keys = BTreeMap::new();
    flatten("", Value::Table(toml::from_str(text)?), &mut keys);
    Ok(keys)
}
