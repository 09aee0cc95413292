//! The pipeline behind `kiln run`: models are made from each other, trained and judged, as stages of a graph.

use std::path::PathBuf;

use burn::tensor::Device;
use distill::Ui;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use self::{
    family::Family,
    identity::Identity,
    jobs::Judged,
    nodes::{Makings, Nodes},
    worker::Worker,
};
use crate::{
    environment::Environment,
    error::Error,
    graph::{Fingerprints, Key, Leases, Store, failure},
    interrupt::Stop,
    recipe::{AnyRecipe, CheckpointRecipe, ImportanceRecipe, ModelPlan},
    record::RunFolder,
    table::{Row, Table},
};

mod curves;
mod decoders;
mod encoders;
mod experts;
mod family;
mod fit;
mod identity;
mod jobs;
mod nodes;
mod progress;
mod worker;

pub use experts::{expert_files, expert_plan, open_dense, open_dense_decoder, score_neurons};
pub use progress::Progress;

/// How a recipe is run; nothing here changes its results.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// The store of stages.
    pub store: PathBuf,
    /// Whether stages that failed before are tried again.
    pub retry: bool,
    /// The device to compute on.
    pub device: Device,
    /// The device's name, for the record.
    pub device_name: String,
    /// How progress is shown.
    pub ui: Ui,
    /// Asks for a stop.
    pub stop: Stop,
}

/// What the stages of a run need.
struct Run<'a, F> {
    family: F,
    plan: &'a [ModelPlan],
    importance: &'a ImportanceRecipe,
    checkpoint: &'a CheckpointRecipe,
    options: &'a RunOptions,
    progress: Progress,
}

/// What is the same for every family of models.
struct Shared<'a, R> {
    recipe: &'a R,
    name: &'a str,
    seeds: &'a [u64],
    plan: Vec<ModelPlan>,
    importance: &'a ImportanceRecipe,
    checkpoint: &'a CheckpointRecipe,
    options: &'a RunOptions,
}

/// Does every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run(recipe: &AnyRecipe, options: &RunOptions) -> Result<(), Error> {
    match recipe {
        AnyRecipe::Experts(recipe) => {
            let inputs = encoders::read(recipe, &options.stop)?;
            let shared = Shared {
                recipe: recipe.as_ref(),
                name: &recipe.name,
                seeds: &recipe.seeds,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                options,
            };
            shared.run(
                inputs,
                |inputs, fingerprints| inputs.identity(recipe, fingerprints),
                |inputs, folder| encoders::prepare(recipe, options, folder, inputs),
            )
        }
        AnyRecipe::Language(recipe) => {
            let inputs = decoders::read(recipe, options)?;
            let shared = Shared {
                recipe: recipe.as_ref(),
                name: &recipe.name,
                seeds: &recipe.seeds,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                options,
            };
            shared.run(
                inputs,
                |inputs, fingerprints| inputs.identity(recipe, fingerprints),
                |inputs, folder| decoders::prepare(recipe, options, folder, inputs),
            )
        }
    }
}

impl<R: Serialize + DeserializeOwned> Shared<'_, R> {
    fn run<I, F: Family>(
        &self,
        inputs: I,
        identity: impl FnOnce(&I, &mut Fingerprints) -> Result<Identity, Error>,
        prepare: impl FnOnce(I, &RunFolder) -> Result<F, Error>,
    ) -> Result<(), Error> {
        let options = self.options;
        let progress = Progress::new(options.ui);
        let environment = Environment::capture(&options.device_name, self.seeds);
        let recorded = serde_json::to_value(&environment).unwrap_or_default();
        let machine = json!({ "device": environment.device, "cpus": environment.cpus, "system": environment.system });
        let mut is_told = false;
        let wait = || -> Result<(), Error> {
            if !std::mem::replace(&mut is_told, true) {
                progress.say("waiting for another process that prepares the data of this run");
            }
            options.stop.check()
        };
        let mut folder = RunFolder::open(&options.out, self.recipe, environment, wait)?;
        let store = Store::open(&options.store)?;
        let mut fingerprints = Fingerprints::open(&store);
        let makings = Makings {
            plan: &self.plan,
            importance: self.importance,
            identity: &identity(&inputs, &mut fingerprints)?,
            folders: nodes::folders(&self.plan, &mut fingerprints)?,
            machine,
        };
        let nodes = makings.nodes::<F::Learner>(self.seeds)?;
        fingerprints.save();
        let keys: Vec<Key> = nodes.nodes.iter().map(|node| node.key.clone()).collect();
        folder.write_stages(&keys)?;
        if options.retry {
            for key in &keys {
                failure::retry(&store, key)?;
            }
        }
        let run = Run {
            family: prepare(inputs, &folder)?,
            plan: &self.plan,
            importance: self.importance,
            checkpoint: self.checkpoint,
            options,
            progress,
        };
        folder.release();
        let worker = Worker {
            run: &run,
            nodes: &nodes,
            leases: Leases::new(&store),
            environment: recorded,
        };
        let worked = worker.work();
        self.link(&nodes, &store, &folder)?;
        worked?;
        self.results(&run.family, &nodes, &store, &folder)
    }

    /// Links what is done into the run folder.
    fn link(&self, nodes: &Nodes, store: &Store, folder: &RunFolder) -> Result<(), Error> {
        let link = |path: &str, key: &Key| -> Result<(), Error> {
            if store.is_done(key)? {
                folder.link(path, &store.stage(key))?;
            }
            Ok(())
        };
        for keys in &nodes.seeds {
            let seed = keys.seed;
            if let Some(key) = &keys.start {
                link(&format!("start/seed-{seed}"), key)?;
            }
            for (plan, model) in self.plan.iter().zip(&keys.models) {
                for (stage, key) in model.stages() {
                    link(&format!("arms/{}/seed-{seed}/{stage}", plan.name), key)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the results of a run that is done, from the store alone, and prints the table.
    fn results<F: Family>(
        &self,
        family: &F,
        nodes: &Nodes,
        store: &Store,
        folder: &RunFolder,
    ) -> Result<(), Error> {
        let mut rows = vec![];
        let mut trainings = vec![];
        // All seeds of a model together, the models in their order.
        for (index, plan) in self.plan.iter().enumerate() {
            for keys in &nodes.seeds {
                let model = &keys.models[index];
                let latencies: Option<Vec<f64>> = keys
                    .measure
                    .as_ref()
                    .map(|key| store.result(key))
                    .transpose()?;
                let before: Option<Judged> = model
                    .before
                    .as_ref()
                    .map(|key| store.result(key))
                    .transpose()?;
                let judged: Judged = store.result(&model.evaluate)?;
                let done = model
                    .train
                    .as_ref()
                    .map(|key| store.read(key))
                    .transpose()?;
                rows.push(Row {
                    name: plan.name.clone(),
                    seed: keys.seed,
                    spans: judged.spans,
                    mixers: judged.mixers,
                    experts: plan.experts.as_ref().map(ToString::to_string),
                    metrics_before: before.map(|judged| judged.scores),
                    metrics: judged.scores,
                    parameters: judged.parameters,
                    active_parameters: judged.active_parameters,
                    multiply_adds_per_token: judged.multiply_adds_per_token,
                    attention: judged.attention,
                    latency_ms: latencies.and_then(|latencies| latencies.get(index).copied()),
                    seconds: done.flatten().map(|done| done.seconds),
                });
                if let Some(key) = &model.train {
                    let metrics = store.stage(key).join("training/metrics.jsonl");
                    trainings.push((format!("seed-{}/{}", keys.seed, plan.name), metrics));
                }
            }
        }
        trainings.sort();
        folder.gather_metrics(&trainings)?;
        curves::write(self.name, &self.plan, &family.curve(), folder)?;
        folder.write_results(&rows)?;
        let table = Table::new(&rows, &family.columns(&rows));
        folder.write_text("results.md", &table.to_markdown())?;
        crate::cli::print(&table.to_text())
    }
}
