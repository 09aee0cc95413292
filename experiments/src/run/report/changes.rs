//! The keys that arms change.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::recipe::{Recipe, RecipeFamily};

/// The keys that each arm changes, with their values.
pub(super) fn changes<T: RecipeFamily>(recipe: &Recipe<T>) -> BTreeMap<&str, Map<String, Value>> {
    let arms = recipe.arms.iter().filter_map(|arm| {
        let name = arm.get("name")?.as_str()?;
        let mut set = Map::new();
        for (key, value) in arm.iter().filter(|(key, _)| *key != "name") {
            flatten(key, value, &mut set);
        }
        Some((name, set))
    });
    arms.collect()
}

fn flatten(path: &str, value: &toml::Value, set: &mut Map<String, Value>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, set);
            }
        }
        value => {
            // What TOML has, JSON has, but for times, which no recipe has.
            let value = serde_json::to_value(value).unwrap_or_default();
            set.insert(path.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_tables_have_dots() {
        let table: toml::Table = "train = { epochs = 2, teacher = {} }\nspans = [\"full\"]"
            .parse()
            .unwrap();
        let mut set = Map::new();
        for (key, value) in &table {
            flatten(key, value, &mut set);
        }
        let expected = json!({"train.epochs": 2, "train.teacher": {}, "spans": ["full"]});
        assert_eq!(Value::Object(set), expected);
    }
}
