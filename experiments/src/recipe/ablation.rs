//! The ablation of a recipe.

use std::ops::Range;

use masformer_core::nearest::hint;
use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    Recipe, RecipeError, RecipeFamily, arms,
    source::{Source, part_of_key},
    stages,
};
use crate::ablate::arms::{
    AblateTable, Ablation, AblationError, Command, Contest, Place, RecipeKeys, Settings, Variant,
    expand,
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
        let keys = RecipeKeys {
            keys: &leaves_of(&own),
            own: &|key| value_at(&own, key),
            seeds: &recipe.seeds,
        };
        let ablation = expand(&named, ablate, command, &keys);
        let mut ablation = ablation.map_err(|error| self.refused(&error))?;
        let metrics = T::metrics(&recipe);
        if let Some(contest) = &ablation.contest {
            self.check_budget(&contest.plan.over, &recipe.with_stages())?;
            // What chooses arms is what they are reported by.
            ablation.metric = ablation.metric.or(metrics.first().cloned());
        }
        match &ablation.metric {
            Some(metric) if !metrics.contains(metric) => {
                let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
                Err(RecipeError::Schema {
                    place: self.place(None),
                    reason: format!(
                        "arms cannot be compared by `{metric}`; {}",
                        hint(metric, &metrics)
                    ),
                })
            }
            _ => Ok(ablation),
        }
    }

    /// Refuses a halving over another key than the epochs of the last stage, which its rungs stop.
    fn check_budget<T: RecipeFamily>(
        &self,
        over: &str,
        recipe: &Recipe<T>,
    ) -> Result<(), RecipeError> {
        let last = stages::last(&recipe.stages).unwrap_or_default();
        let stage = recipe.stages.get(last);
        let has_own = stage.is_some_and(|stage| stage.train.epochs.is_some());
        let right = if has_own {
            format!("stages.{}.train.epochs", part_of_key(last))
        } else {
            "train.epochs".to_owned()
        };
        if over == right {
            return Ok(());
        }
        Err(RecipeError::Schema {
            place: self.place(None),
            reason: format!(
                "a halving stops the last stage of its arms, `{last}`: its `over` is \"{right}\", not \"{over}\""
            ),
        })
    }

    /// A mistake of an ablation, with its place.
    pub(super) fn refused(&self, error: &AblationError) -> RecipeError {
        RecipeError::Schema {
            place: self.place_of(&error.place),
            reason: error.to_string(),
        }
    }

    /// What is most likely not meant in an ablation, each with its place.
    pub(super) fn warnings(&self, ablation: &Ablation) -> Vec<String> {
        let warnings = ablation.warnings.iter();
        warnings
            .map(|warning| format!("{}: {}", self.place_of(&warning.place), warning.text))
            .collect()
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
            let key = format!("{above}{}", part_of_key(key.get_ref()));
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

/// Refuses an arm of a halving that is trained for another number of epochs than its largest budget.
pub(super) fn check_contest<T: RecipeFamily>(
    ablation: &Ablation,
    recipe: &Recipe<T>,
) -> Result<(), RecipeError> {
    let Some(Contest { plan, arms, .. }) = &ablation.contest else {
        return Ok(());
    };
    for arm in arms {
        let name = &ablation.arms[*arm].name;
        let model = recipe.plan().iter().find(|model| model.name == *name);
        let train = model.and_then(|model| model.train.as_ref());
        let epochs = train.map_or(0, |train| train.epochs) as u64;
        if epochs != plan.max {
            return Err(RecipeError::Schema {
                place: format!("arm `{name}`"),
                reason: format!(
                    "is trained for {epochs} epochs, and its halving is up to `max` = {}: points of a halving do not \
                     change `{}`",
                    plan.max, plan.over
                ),
            });
        }
    }
    Ok(())
}

/// The dotted keys of all values of a table that are no tables themselves.
fn leaves_of(table: &toml::Table) -> Vec<String> {
    let mut keys = vec![];
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                let (key, inner) = (part_of_key(key), leaves_of(inner).into_iter());
                keys.extend(inner.map(|below| format!("{key}.{below}")));
            }
            _ => keys.push(part_of_key(key)),
        }
    }
    keys
}

/// The value of a dotted key.
fn value_at(table: &toml::Table, key: &str) -> Option<Value> {
    table.iter().find_map(|(name, value)| {
        let rest = key.strip_prefix(&part_of_key(name))?;
        match (rest.strip_prefix('.'), value) {
            (None, value) => rest.is_empty().then(|| value.clone()),
            (Some(below), Value::Table(inner)) => value_at(inner, below),
            (Some(_), _) => None,
        }
    })
}
