//! What a run consists of.

use std::collections::BTreeMap;

use super::changes::changes;
use crate::{
    graph::Key,
    recipe::{ModelPlan, Recipe, RecipeFamily},
    results::{ArmStages, ArmsFile, SCHEMA, SeedStages, StageLine},
    run::{
        jobs::title,
        nodes::{Nodes, SeedKeys},
    },
};

/// What a run consists of, or a phase of it: the models of the arms on each base with their stages.
pub(in crate::run) fn arms_file<'a, T: RecipeFamily>(
    recipe: &Recipe<T>,
    seeds: &[u64],
    bases: impl Iterator<Item = (&'a [ModelPlan], &'a Nodes)>,
) -> ArmsFile {
    let changed = changes(recipe);
    let mut arms = vec![];
    let mut stages = vec![];
    for (plan, nodes) in bases {
        for (index, model) in plan.iter().enumerate() {
            let set = changed.get(model.name.as_str());
            let seeds = nodes.seeds.iter().map(|keys| SeedStages {
                seed: keys.seed,
                stages: stages_of(keys, index),
            });
            arms.push(ArmStages {
                name: model.name.clone(),
                is_arm: set.is_some(),
                set: set.cloned().unwrap_or_default(),
                seeds: seeds.collect(),
            });
        }
        stages.extend(nodes.all.iter().map(|node| StageLine {
            title: title(plan, node.seed, node.job),
            seed: node.seed,
            inputs: node.document.inputs.values().cloned().collect(),
            key: node.key.clone(),
        }));
    }
    let models = recipe.plan();
    arms.sort_by_key(|arm| models.iter().position(|model| model.name == arm.name));
    let asked = recipe.ablation.as_ref();
    ArmsFile {
        schema: SCHEMA,
        run: recipe.name.clone(),
        metric: asked.and_then(|ablation| ablation.metric.clone()),
        alpha: asked.map_or(0.05, |ablation| ablation.alpha),
        reference: asked.map(|ablation| ablation.arms[ablation.reference].name.clone()),
        seeds: seeds.to_vec(),
        arms,
        stages,
    }
}

/// The keys of the stages of a model, by what they are in its folder.
pub(super) fn stages_of(keys: &SeedKeys, index: usize) -> BTreeMap<String, Key> {
    let stages = keys.models[index].stages();
    stages.map(|(name, key)| (name, key.clone())).collect()
}
