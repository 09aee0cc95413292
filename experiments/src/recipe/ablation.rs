//! The ablation of a recipe.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{RecipeError, RecipeFamily, arms, source::Source};
use crate::ablate::arms::{
    AblateTable, Ablation, AblationError, Command, Place, RecipeKeys, Settings, Variant, expand,
};

impl Source<'_> {
    /// The ablation of a recipe: its arms, those of its table `[ablate]` and those of the command line.
    pub(super) fn ablation<T: RecipeFamily>(
        &self,
        table: &Spanned<DeTable<'_>>,
        ablate: &AblateTable,
        command: &Command,
    ) -> Result<Ablation, RecipeError> {
        self.check_keys::<T>(table.get_ref())?;
        let named = arms::written(table.get_ref()).into_iter();
        let named: Vec<Variant> = named
            .map(|(arm, span)| self.variant(arm, span))
            .collect::<Result<_, _>>()?;
        let mut base = table.clone();
        base.get_mut().remove(arms::ARMS);
        let mut recipe = self.deserialize::<T>(&base)?;
        T::complete(&mut recipe);
        let own = recipe.with_defaults();
        let keys = leaves_of(&own);
        let recipe = RecipeKeys {
            keys: &keys,
            own: &|key| value_at(&own, key),
            seeds: &recipe.seeds,
        };
        expand(&named, ablate, command, &recipe).map_err(|error| self.refused(&error))
    }

    /// A mistake of an ablation, with its place.
    pub(super) fn refused(&self, error: &AblationError) -> RecipeError {
        let place = match &error.place {
            Place::Table(span) => self.place(Some(span.clone())),
            Place::Argument(argument) => format!("`{argument}`"),
            Place::Whole => self.place(None),
        };
        RecipeError::Schema {
            place,
            reason: error.to_string(),
        }
    }

    /// An arm of the text.
    fn variant(&self, arm: &DeTable<'_>, span: Range<usize>) -> Result<Variant, RecipeError> {
        let name = arm.get(arms::NAME).and_then(|name| name.get_ref().as_str());
        let mut set = Settings::new();
        self.settings(&arms::changes(arm), "", &mut set)?;
        Ok(Variant {
            name: name.unwrap_or_default().to_owned(),
            set,
            place: Place::Table(span),
        })
    }

    /// The settings of a table, in the order in which they are written. Tables that are written as a whole are one value,
    /// as they replace those of the recipe.
    fn settings(
        &self,
        table: &DeTable<'_>,
        above: &str,
        settings: &mut Settings,
    ) -> Result<(), RecipeError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let key = format!("{above}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if !self.is_whole(&value.span()) => {
                    self.settings(inner, &format!("{key}."), settings)?;
                }
                _ => {
                    let value = Value::deserialize(ValueDeserializer::from(value.clone()));
                    settings.push((key, value.map_err(|error| self.error(&error))?));
                }
            }
        }
        Ok(())
    }
}

/// The dotted keys of all values of a table that are no tables themselves.
fn leaves_of(table: &toml::Table) -> Vec<String> {
    let mut keys = vec![];
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                let inner = leaves_of(inner).into_iter();
                keys.extend(inner.map(|below| format!("{key}.{below}")));
            }
            _ => keys.push(key.clone()),
        }
    }
    keys
}

/// The value of a dotted key.
fn value_at(table: &toml::Table, key: &str) -> Option<toml::Value> {
    let (first, below) = match key.split_once('.') {
        Some((first, below)) => (first, Some(below)),
        None => (key, None),
    };
    match (table.get(first)?, below) {
        (value, None) => Some(value.clone()),
        (toml::Value::Table(inner), Some(below)) => value_at(inner, below),
        _ => None,
    }
}
