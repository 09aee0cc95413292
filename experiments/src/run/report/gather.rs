//! What the store has of the models of a run.

use std::{collections::BTreeMap, path::PathBuf};

use super::arms_file::stages_of;
use crate::{
    ablate::compare::JudgedArm,
    error::Error,
    examples::{self, Examples},
    graph::Store,
    latency::median,
    recipe::ModelPlan,
    results::{ArmResults, Estimate, Latencies, ModelCost, SeedResults, Status},
    run::{Part, curves, family::Family, jobs::Judged, standing::Standing},
    table::{Row, summary},
};

/// What the parts of a run give.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    pub(super) rows: Vec<Row>,
    pub(super) arms: Vec<ArmResults>,
    pub(super) latencies: Vec<Latencies>,
    pub(super) trainings: Vec<(String, PathBuf)>,
    pub(super) curves: Vec<(&'a ModelPlan, curves::Curve)>,
    /// By model.
    pub(super) judged: BTreeMap<String, JudgedArm>,
    /// What models were before their training, where they go on from a given one.
    pub(super) before: Vec<JudgedArm>,
}

impl<F: Family> Part<'_, F> {
    /// Adds what the store has of the models.
    pub(super) fn gather<'a>(
        &'a self,
        store: &Store,
        standing: &Standing<'_>,
        gathered: &mut Gathered<'a>,
    ) -> Result<(), Error> {
        let curve = self.run.family.curve();
        // All seeds of a model together, the models in their order.
        for (index, plan) in self.run.plan.iter().enumerate() {
            gathered.curves.push((plan, curve.clone()));
            let mut arm = ArmResults {
                name: plan.name.clone(),
                experts: plan.experts.as_ref().map(ToString::to_string),
                ..ArmResults::default()
            };
            let mut judged = JudgedArm::new(&plan.name);
            let mut judged_before = JudgedArm::new(&plan.name);
            for keys in &self.nodes.seeds {
                let model = &keys.models[index];
                let stand = standing.of_all(model.stages().map(|(_, key)| key))?;
                let mut seed = SeedResults {
                    seed: keys.seed,
                    stages: stages_of(keys, index),
                    status: stand.status,
                    failure: stand.failure,
                    metrics: [].into(),
                    examples: BTreeMap::new(),
                    before: None,
                };
                let trained = model
                    .train
                    .as_ref()
                    .map(|key| Ok::<_, Error>((key, store.read(key)?)));
                let trained = trained.transpose()?;
                if let Some((key, Some(_))) = &trained {
                    let metrics = store.stage(key).join("training/metrics.jsonl");
                    let name = format!("seed-{}/{}", keys.seed, plan.name);
                    gathered.trainings.push((name, metrics));
                }
                let failed = [Status::Failed, Status::Blocked].contains(&stand.status);
                judged.failed += usize::from(failed);
                let Some(evaluate) = &model.evaluate else {
                    continue;
                };
                if stand.status == Status::Done {
                    let found: Judged = store.result(evaluate)?;
                    let before: Option<Judged> = model
                        .before
                        .as_ref()
                        .map(|key| store.result(key))
                        .transpose()?;
                    if let Some(key) = &model.before {
                        let examples = Examples::read(&store.stage(key))?;
                        judged_before.seeds.insert(keys.seed, examples);
                    }
                    let passes = match &keys.measure {
                        Some(key) if store.is_done(key)? => store.result(key)?,
                        _ => Vec::<Vec<f64>>::new(),
                    };
                    let place = keys.judged().take_while(|place| *place < index).count();
                    let passes = passes.into_iter().nth(place);
                    let splits = Examples::read(&store.stage(evaluate))?;
                    seed.examples = examples::counts(&splits);
                    judged.seeds.insert(keys.seed, splits);
                    seed.metrics.clone_from(&found.scores);
                    seed.before = before.map(|judged| judged.scores);
                    gathered.rows.push(Row {
                        name: plan.name.clone(),
                        seed: keys.seed,
                        spans: found.spans.clone(),
                        mixers: found.mixers.clone(),
                        experts: arm.experts.clone(),
                        metrics_before: seed.before.clone(),
                        metrics: found.scores.clone(),
                        parameters: found.parameters,
                        active_parameters: found.active_parameters,
                        multiply_adds_per_token: found.multiply_adds_per_token,
                        attention: found.attention.clone(),
                        latency_ms: passes.clone().map(median),
                    });
                    gathered.latencies.extend(passes.map(|ms| Latencies {
                        arm: plan.name.clone(),
                        seed: keys.seed,
                        ms,
                    }));
                    describe(&mut arm, found);
                }
                arm.seeds.push(seed);
            }
            if plan.is_judged {
                arm.metrics = estimates(&arm.seeds);
                gathered.arms.push(arm);
                gathered.judged.insert(plan.name.clone(), judged);
                gathered.before.push(judged_before);
            }
        }
        Ok(())
    }
}

/// Says what a model is, which is the same with each seed.
fn describe(arm: &mut ArmResults, judged: Judged) {
    arm.layers = Some(summary(&judged.spans, &judged.mixers));
    (arm.spans, arm.mixers) = (judged.spans, judged.mixers);
    arm.cost = Some(ModelCost {
        parameters: judged.parameters,
        active_parameters: judged.active_parameters,
        multiply_adds_per_token: judged.multiply_adds_per_token,
        attention: judged.attention,
    });
}

/// The metrics over the seeds that are done.
fn estimates(seeds: &[SeedResults]) -> BTreeMap<String, Estimate> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (metric, value) in seeds.iter().flat_map(|seed| seed.metrics.iter()) {
        values.entry(metric).or_default().push(*value);
    }
    let estimates = values.into_iter();
    estimates
        .map(|(metric, values)| (metric.to_owned(), Estimate::of(&values)))
        .collect()
}
