//! Arms that are collected: equal ones are one, and each name is of one arm.

use std::collections::{BTreeMap, BTreeSet};

use masformer_core::nearest::hint;

use super::{
    error::{AblationError, Place, Refusal},
    name::ShortKeys,
    settings::{RecipeKeys, Settings, listed},
};

/// An arm: the recipe with some keys changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name on one line, which no other arm has.
    pub name: String,
    /// The names of equal arms that were described later.
    pub aliases: Vec<String>,
    /// The keys that it changes, in axis order. A value may equal the recipe's own.
    pub set: Settings,
    /// Where it is described.
    pub place: Place,
    /// Where each key of `set` is, if they are described apart, as axes are; else empty.
    pub places: Vec<Place>,
}

/// An arm before it has a name and a number.
pub(super) struct Draft {
    /// Its name; none if its keys make it.
    pub name: Option<String>,
    pub set: Settings,
    pub place: Place,
    /// As those of the arm.
    pub places: Vec<Place>,
}

impl Draft {
    /// An arm with a name of its own.
    pub(super) fn named(name: &str, set: Settings, place: &Place) -> Self {
        Self {
            name: Some(name.to_owned()),
            set,
            place: place.clone(),
            places: vec![],
        }
    }
}

/// The arms of an ablation, in order of first appearance.
pub(super) struct Merged<'a> {
    recipe: &'a RecipeKeys<'a>,
    keys: BTreeSet<&'a str>,
    short: ShortKeys,
    arms: Vec<Arm>,
    /// By what differs from the recipe.
    by_difference: BTreeMap<BTreeMap<String, String>, usize>,
    /// By all names.
    by_name: BTreeMap<String, usize>,
}

impl<'a> Merged<'a> {
    /// No arms yet; `set` has all keys that arms will set.
    pub(super) fn new(recipe: &'a RecipeKeys<'a>, set: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: BTreeSet<&str> = recipe.keys.iter().map(String::as_str).chain(set).collect();
        Self {
            recipe,
            short: ShortKeys::new(keys.iter().copied()),
            keys,
            arms: vec![],
            by_difference: BTreeMap::new(),
            by_name: BTreeMap::new(),
        }
    }

    pub(super) fn arms(&self) -> &[Arm] {
        &self.arms
    }

    pub(super) fn into_arms(self) -> Vec<Arm> {
        self.arms
    }

    /// Adds an arm, or finds the equal one; the number of either.
    pub(super) fn add(&mut self, draft: Draft) -> Result<usize, AblationError> {
        let Draft {
            name,
            set,
            place,
            places,
        } = draft;
        let name = name.unwrap_or_else(|| self.short.name(&set));
        let difference = self.recipe.difference(&set);
        let equal = self.by_difference.get(&difference).copied();
        match (self.by_name.get(&name).copied(), equal) {
            (Some(named), Some(equal)) if named == equal => {}
            (Some(named), _) => {
                let (first, second) = (listed(&self.arms[named].set), listed(&set));
                return Err(Refusal::NameTwice {
                    name,
                    first,
                    second,
                }
                .at(&place));
            }
            (None, Some(equal)) => {
                self.arms[equal].aliases.push(name.clone());
                self.by_name.insert(name, equal);
            }
            (None, None) => {
                let index = self.arms.len();
                self.by_difference.insert(difference, index);
                self.by_name.insert(name.clone(), index);
                self.arms.push(Arm {
                    name,
                    aliases: vec![],
                    set,
                    place,
                    places,
                });
                return Ok(index);
            }
        }
        Ok(equal.unwrap_or_default())
    }

    /// The arm of a name, or of an alias.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The arm that is the recipe with these settings.
    pub(super) fn equal(&self, settings: &Settings) -> Option<usize> {
        self.by_difference
            .get(&self.recipe.difference(settings))
            .copied()
    }

    /// Refuses settings of keys that neither the recipe nor an arm has, nor a part of.
    pub(super) fn check_known(
        &self,
        settings: &Settings,
        place: &Place,
    ) -> Result<(), AblationError> {
        let is_in = |key: &str, table: &str| {
            key.strip_prefix(table)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        for (key, _) in settings {
            let is_near = |known: &&str| *known == key || is_in(key, known) || is_in(known, key);
            if (self.recipe.own)(key).is_none() && !self.keys.iter().any(is_near) {
                let (key, hint) = (key.clone(), self.hint(key));
                return Err(Refusal::UnknownKey { key, hint }.at(place));
            }
        }
        Ok(())
    }

    /// What is meant by a key that is unknown: a key that ends with it, as the names of arms have them, or the nearest.
    fn hint(&self, key: &str) -> String {
        let is_end = |known: &&&str| {
            let rest = known.strip_suffix(key);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        let known: Vec<&str> = self.keys.iter().copied().collect();
        match known.iter().find(is_end) {
            Some(known) => format!("did you mean `{known}`?"),
            None => hint(key, &known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    fn draft(name: Option<&str>, set: &[(&str, i64)]) -> Draft {
        Draft {
            name: name.map(str::to_owned),
            set: set
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
                .collect(),
            place: Place::Whole,
            places: vec![],
        }
    }

    #[test]
    fn equal_arms_are_one_with_the_first_name() {
        let own = |key: &str| (key == "a.x").then(|| Value::from(1));
        let keys = ["a.x".to_owned()];
        let recipe = RecipeKeys {
            keys: &keys,
            own: &own,
            seeds: &[],
        };
        let mut merged = Merged::new(&recipe, ["b.y"]);
        let mut add = |name, set: &[_]| {
            merged
                .add(draft(name, set))
                .map_err(|error| error.to_string())
        };
        assert_eq!(add(None, &[("b.y", 2), ("a.x", 1)]), Ok(0));
        assert_eq!(add(None, &[("a.x", 1), ("b.y", 2)]), Ok(0));
        assert_eq!(add(None, &[("b.y", 2)]), Ok(0));
        assert_eq!(add(Some("other"), &[("b.y", 3)]), Ok(1));
        assert_eq!(add(Some("same"), &[("b.y", 2)]), Ok(0));
        assert_eq!(
            add(Some("same"), &[("b.y", 4)]),
            Err("the arm name `same` is given twice, for `b.y=2 a.x=1` and for `b.y=4`; name one of them otherwise".to_owned())
        );
        assert_eq!(
            add(Some("other"), &[]),
            Err("the arm name `other` is given twice, for `b.y=3` and for the recipe as it is; name one of them otherwise".to_owned())
        );
        let arms = merged.into_arms();
        assert_eq!(arms[0].name, "y=2 x=1");
        assert_eq!(arms[0].aliases, ["x=1 y=2", "y=2", "same"]);
        assert_eq!(arms.len(), 2);
    }
}
