//! The keys that an arm changes, and how they compare with the recipe's own values.

use std::collections::BTreeMap;

use toml::Value;

use super::{
    canonical::canonical,
    error::{AblationError, Place, Refusal},
    value::shown,
};

/// Dotted keys with their values, in the order in which they are written.
pub type Settings = Vec<(String, Value)>;

/// What arms cannot change, each with the reason.
const NO_AXES: [(&str, &str); 4] = [
    (
        "seeds",
        "every arm runs every seed; write `--seeds 1,2,3`, or `seeds` in [ablate]",
    ),
    ("arms", "arms have no arms"),
    ("ablate", "arms have no ablation"),
    (
        "name",
        "it is that of the run; an arm has the name of its `variants` or `[[arms]]`, or its keys and values",
    ),
];

/// What an expansion needs to know of the recipe.
pub struct RecipeKeys<'a> {
    /// The dotted keys of all its values.
    pub keys: &'a [String],
    /// Its own value of a dotted key, with overrides and defaults; none if it has none.
    pub own: &'a dyn Fn(&str) -> Option<Value>,
    /// Its own seeds, for an ablation that names none.
    pub seeds: &'a [u64],
}

impl RecipeKeys<'_> {
    /// The settings that differ from the recipe's own values, by key, as canonical texts. A table counts by its keys.
    /// Arms with equal differences are one arm.
    pub(super) fn difference(&self, settings: &[(String, Value)]) -> BTreeMap<String, String> {
        let mut found = leaves(settings);
        found.retain(|key, value| self.own_text(key).as_ref() != Some(value));
        found
    }

    /// Whether an arm has all these values, set by itself or by the recipe.
    pub(super) fn has_all(&self, arm: &[(String, Value)], values: &[(String, Value)]) -> bool {
        let arm = leaves(arm);
        leaves(values).into_iter().all(|(key, value)| {
            arm.get(&key).cloned().or_else(|| self.own_text(&key)) == Some(value)
        })
    }

    fn own_text(&self, key: &str) -> Option<String> {
        (self.own)(key).map(|value| canonical(&value))
    }
}

/// The canonical texts of all values that are no tables, by their dotted keys; an empty table is a value.
fn leaves(settings: &[(String, Value)]) -> BTreeMap<String, String> {
    fn add(found: &mut BTreeMap<String, String>, key: &str, value: &Value) {
        match value {
            Value::Table(table) if !table.is_empty() => {
                for (inner, value) in table {
                    add(found, &format!("{key}.{inner}"), value);
                }
            }
            value => {
                found.insert(key.to_owned(), canonical(value));
            }
        }
    }
    let mut found = BTreeMap::new();
    for (key, value) in settings {
        add(&mut found, key, value);
    }
    found
}

/// The settings in a message.
pub(super) fn listed(settings: &[(String, Value)]) -> String {
    if settings.is_empty() {
        return "the recipe as it is".to_owned();
    }
    let settings = settings
        .iter()
        .map(|(key, value)| format!("{key}={}", shown(value)));
    format!("`{}`", settings.collect::<Vec<_>>().join(" "))
}

/// Refuses keys that no arm may change, and keys that are set twice: the same key, or a key and a table above it.
pub(super) fn check_keys<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    place: &Place,
) -> Result<(), AblationError> {
    let mut keys: Vec<Vec<&str>> = keys
        .into_iter()
        .map(|key| key.split('.').collect())
        .collect();
    for key in &keys {
        if let Some((_, why)) = NO_AXES.iter().find(|(name, _)| *name == key[0]) {
            let key = key.join(".");
            return Err(Refusal::NoAxis { key, why }.at(place));
        }
    }
    // Sorted by words, whatever lies between a key and one that begins with it begins with it, too.
    keys.sort_unstable();
    for pair in keys.windows(2) {
        if pair[1].starts_with(&pair[0]) {
            let by = if pair[0] == pair[1] {
                String::new()
            } else {
                format!(", by itself and as a part of `{}`", pair[0].join("."))
            };
            let key = pair[1].join(".");
            return Err(Refusal::SetTwice { key, by }.at(place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), value.parse().expect("TOML")))
            .collect()
    }

    #[test]
    fn keys_are_set_once() {
        let check = |keys: &[&str]| {
            check_keys(keys.iter().copied(), &Place::Whole).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["a.b", "a.c", "ab", "b"]), Ok(()));
        assert_eq!(
            check(&["a.b", "c", "a.b"]),
            Err("an arm sets `a.b` twice; set it once".to_owned())
        );
        let message = "an arm sets `a.b.c` twice, by itself and as a part of `a.b`; set it once";
        assert_eq!(check(&["a.b.c", "a-b", "a.b"]), Err(message.to_owned()));
        let message = check(&["train.epochs", "seeds"]).expect_err("seeds");
        assert!(
            message.starts_with("an arm cannot change `seeds`: every arm runs every seed"),
            "{message}"
        );
    }

    #[test]
    fn differences_leave_out_own_values_in_any_form() {
        let own = |key: &str| match key {
            "experts.shared" => Some(Value::from(4)),
            "kd.weight" => Some(Value::from(1.0)),
            _ => None,
        };
        let recipe = RecipeKeys {
            keys: &[],
            own: &own,
            seeds: &[1],
        };
        let written = settings(&[
            ("experts.shared", "4.0"),
            ("kd", "{ weight = 1, on = true }"),
        ]);
        let difference = recipe.difference(&written);
        assert_eq!(
            difference.into_iter().collect::<Vec<_>>(),
            [("kd.on".to_owned(), "true".to_owned())]
        );
        assert!(recipe.has_all(&[], &settings(&[("experts.shared", "4")])));
        assert!(!recipe.has_all(
            &settings(&[("experts.shared", "8")]),
            &settings(&[("experts.shared", "4")])
        ));
        assert!(!recipe.has_all(&[], &settings(&[("experts.width", "4")])));
    }
}
