//! Values that cannot work, found before any work starts: the parts that all recipes have.

mod experts;
mod stage;

use std::collections::BTreeSet;

use super::{
    Problem, Recipe, RecipeFamily, StageMethods, StageRecipe, StartModel, TrainOverrides,
    TrainRecipe, problems::Problems, stages,
};
use crate::methods;

/// Everything in `recipe`, that of one arm, that cannot work.
pub(super) fn problems<T: RecipeFamily>(recipe: &Recipe<T>) -> Vec<Problem> {
    let mut found = Problems::default();
    run(&mut found, &recipe.name, &recipe.seeds);
    found.extend(T::problems(recipe));
    arrangement(&mut found, recipe);
    train(&mut found, "train", &recipe.train);
    found.at_least("importance.batch_size", recipe.importance.batch_size, 1);
    if let Some(samples) = recipe.importance.samples {
        found.at_least("importance.samples", samples, 1);
    }
    found.extend(methods::problems::<T::Learner>("", &recipe.methods));
    let names = stages::problems(&recipe.stages);
    let is_ordered = names.is_empty();
    found.extend(names);
    if is_ordered {
        for (name, stage) in &recipe.stages {
            stage::problems(&mut found, recipe, name, stage);
        }
    }
    found.into_pairs()
}

/// The name of a run and its seeds.
fn run(found: &mut Problems, name: &str, seeds: &[u64]) {
    found.name("name", name);
    found.require("seeds", !seeds.is_empty(), "must hold at least one seed");
    let distinct: BTreeSet<u64> = seeds.iter().copied().collect();
    let is_distinct = distinct.len() == seeds.len();
    found.require("seeds", is_distinct, "must not repeat a seed");
}

/// What is said of a recipe without a model.
pub(super) const NO_MODEL: &str =
    "is missing: add model.path=FOLDER, a Hugging Face folder, or [model.random]";

/// Exactly one of the keys of `model` must be given.
pub(super) fn one_model(found: &mut Problems, keys: &[(&str, bool)]) {
    let given = keys.iter().filter(|(_, is_given)| *is_given);
    let given: Vec<&str> = given.map(|(key, _)| *key).collect();
    match given.as_slice() {
        [] => found.add("model", NO_MODEL),
        [_] => {}
        [first, .., last] => found.add(
            last,
            &format!("cannot go with `{first}`: give exactly one of them"),
        ),
    }
}

/// Spans and mixers that do not fit the depth of a fresh model.
fn arrangement<T: RecipeFamily>(found: &mut Problems, recipe: &Recipe<T>) {
    let Some(size) = recipe.model.fresh() else {
        return;
    };
    if let Some(Err(error)) = recipe.model.spans().map(|spans| spans.spans(size.layers)) {
        found.add("model.spans", &format!("cannot work: {error}"));
    }
    if let Some(Err(error)) = recipe
        .model
        .mixers()
        .map(|mixers| size.check_mixers(mixers, T::DIRECTION))
    {
        found.add("model.mixers", &format!("cannot work: {error}"));
    }
}

/// The settings of a training.
fn train(found: &mut Problems, table: &str, train: &TrainRecipe) {
    let key = |name: &str| format!("{table}.{name}");
    found.at_least(&key("batch_size"), train.batch_size, 1);
    found.positive(&key("learning_rate"), train.learning_rate);
    found.within(&key("weight_decay"), train.weight_decay, 0.0..f64::INFINITY);
    found.within(&key("warmup"), train.warmup, 0.0..1.0);
    found.within(&key("clip_norm"), train.clip_norm, 0.0..f64::INFINITY);
    found.at_least(&key("accumulate"), train.accumulate, 1);
    if let Some(patience) = train.early_stopping {
        found.at_least(&key("early_stopping"), patience, 1);
    }
}

/// Overrides on top of valid defaults: whatever is wrong is theirs.
fn overrides(found: &mut Problems, table: &str, overrides: &TrainOverrides) {
    train(found, table, &TrainRecipe::default().with(overrides));
}

/// The key that a setting of a method in a stage comes from: the stage's own, or the shared one.
pub(super) fn setting(stage: &StageRecipe, name: &str, method: &str, setting: &str) -> String {
    if let StageMethods::Tables(tables) = &stage.methods
        && tables
            .get(method)
            .is_some_and(|own| own.contains_key(setting))
    {
        return format!("stages.{name}.methods.{method}.{setting}");
    }
    format!("{method}.{setting}")
}
