//! What the arms of an ablation are compared by, and what they show.

use std::collections::BTreeMap;

use crate::{
    ablate::{
        compare::{Comparisons, FactorWorth, JudgedArm, Question, direction},
        statistics::Direction,
    },
    error::Error,
    recipe::{Recipe, RecipeFamily},
};

/// The metric that decides: the one that was asked for, or the first of the table that examples of the reference have parts of.
pub(super) fn metric<T: RecipeFamily>(
    recipe: &Recipe<T>,
    columns: &[String],
    judged: &BTreeMap<String, JudgedArm>,
) -> Option<String> {
    let ablation = recipe.ablation.as_ref()?;
    let reference = judged.get(&ablation.arms[ablation.reference].name)?;
    let has = |metric: &&String| reference.has_metric(metric);
    let metric = ablation.metric.as_ref().or(columns.iter().find(has));
    metric.cloned()
}

/// What the arms of an ablation show; none if there is nothing to compare.
pub(super) fn comparisons<T: RecipeFamily>(
    recipe: &Recipe<T>,
    metric: Option<&str>,
    judged: &BTreeMap<String, JudgedArm>,
) -> Result<Option<Comparisons>, Error> {
    let (Some(ablation), Some(metric)) = (&recipe.ablation, metric) else {
        return Ok(None);
    };
    let arms = ablation.arms.iter();
    let mut arms: Vec<JudgedArm> = arms
        .filter_map(|arm| judged.get(&arm.name).cloned())
        .collect();
    for arm in ablation.contest.iter().flat_map(|contest| &contest.arms) {
        let name = &ablation.arms[*arm].name;
        let mut arms = arms.iter_mut();
        if let Some(arm) = arms.find(|arm| arm.name == *name && arm.failed == 0) {
            arm.is_dropped = arm.seeds.is_empty();
        }
    }
    let reference = &ablation.arms[ablation.reference].name;
    let Some(reference) = arms.iter().position(|arm| arm.name == *reference) else {
        return Ok(None);
    };
    if arms.len() < 2 {
        return Ok(None);
    }
    let question = Question {
        metric,
        margin: ablation.margin,
        alpha: ablation.alpha,
    };
    Ok(Some(Comparisons::of(&arms, reference, question)?))
}

/// What the factors of an ablation are worth.
pub(super) fn factors<T: RecipeFamily>(
    recipe: &Recipe<T>,
    metric: Option<&str>,
    judged: &BTreeMap<String, JudgedArm>,
) -> Result<Vec<FactorWorth>, Error> {
    let (Some(ablation), Some(metric)) = (&recipe.ablation, metric) else {
        return Ok(vec![]);
    };
    let factors = ablation.blocks.iter().flat_map(|block| &block.factors);
    let arm = |place: usize| judged.get(&ablation.arms.get(place)?.name);
    let question = Question {
        metric,
        margin: None,
        alpha: ablation.alpha,
    };
    Ok(FactorWorth::of(factors, arm, question)?)
}

/// Which values of each metric are better.
pub(super) fn directions(judged: &BTreeMap<String, JudgedArm>) -> BTreeMap<String, Direction> {
    let splits = judged.values().flat_map(|arm| arm.seeds.values().flatten());
    let metrics = splits.flat_map(|split| &split.metrics);
    metrics
        .map(|(metric, parts)| (metric.clone(), direction(parts)))
        .collect()
}
