//! Names of arms.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::value::shown;

/// Keys by their shortest suffix that no other key has.
pub(super) struct ShortKeys {
    /// How many keys have a suffix.
    suffixes: BTreeMap<String, usize>,
}

impl ShortKeys {
    /// Of all dotted keys of the recipe and of arms; one that is there twice counts once.
    pub(super) fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: BTreeSet<&str> = keys.into_iter().collect();
        let mut found = BTreeMap::new();
        for suffix in keys.into_iter().flat_map(suffixes) {
            *found.entry(suffix.to_owned()).or_default() += 1;
        }
        Self { suffixes: found }
    }

    /// The shortest suffix of a key, in whole words, that is no suffix of another key; the key if there is none.
    fn short<'a>(&self, key: &'a str) -> &'a str {
        let is_unique = |suffix: &&str| self.suffixes.get(*suffix).is_some_and(|count| *count == 1);
        suffixes(key).filter(is_unique).last().unwrap_or(key)
    }

    /// The name of an arm that has none: its keys and values in order, as in `order=random shared=0`.
    pub(super) fn name(&self, set: &[(String, Value)]) -> String {
        let settings = set
            .iter()
            .map(|(key, value)| format!("{}={}", self.short(key), shown(value)));
        settings.collect::<Vec<_>>().join(" ")
    }
}

/// The key and what follows each of its dots, longest first.
fn suffixes(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |suffix| {
        suffix.split_once('.').map(|(_, rest)| rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_short_as_is_unique() {
        let keys = [
            "experts.order",
            "model.random.layers",
            "layerwise.layers",
            "train.epochs",
            "stages.a.train.epochs",
        ];
        let short = ShortKeys::new(keys);
        assert_eq!(short.short("experts.order"), "order");
        assert_eq!(short.short("model.random.layers"), "random.layers");
        assert_eq!(short.short("layerwise.layers"), "layerwise.layers");
        assert_eq!(short.short("stages.a.train.epochs"), "a.train.epochs");
        // It is a suffix of the key above.
        assert_eq!(short.short("train.epochs"), "train.epochs");
        let set = [
            ("experts.order".to_owned(), "random".into()),
            ("layerwise.layers".to_owned(), 0.into()),
        ];
        assert_eq!(short.name(&set), "order=random layerwise.layers=0");
    }
}
