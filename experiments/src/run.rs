//! The pipeline behind `kiln run`: models are made from each other, trained and judged, as stages of a graph.

use std::path::PathBuf;

use burn::tensor::Device;
use distill::Ui;
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
    recipe::{AnyRecipe, CheckpointRecipe, ImportanceRecipe, ModelPlan, Recipe, RecipeFamily},
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
mod learning;
mod nodes;
mod plan;
mod progress;
mod shapes;
mod worker;

pub use experts::{expert_files, expert_plan, open_dense, open_dense_decoder, score_neurons};
pub use plan::{Planned, State};
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

/// The recipes of a family of models: how their data become what stages need.
trait Runnable: RecipeFamily {
    /// What is read before anything is left on disk: a mistake in the recipe must not leave a run folder that refuses the
    /// right one.
    type Inputs<'a>;
    /// The models with a task and its data.
    type Family<'a>: Family;

    /// Reads model and data, and checks that they and the recipe go together.
    fn read<'a>(recipe: &'a Recipe<Self>, options: &RunOptions) -> Result<Self::Inputs<'a>, Error>;

    /// What the keys of stages must know.
    fn identity(
        recipe: &Recipe<Self>,
        inputs: &Self::Inputs<'_>,
        fingerprints: &mut Fingerprints,
    ) -> Result<Identity, Error>;

    /// Makes everything that stages need of the inputs.
    fn prepare<'a>(
        recipe: &'a Recipe<Self>,
        options: &RunOptions,
        folder: &RunFolder,
        inputs: Self::Inputs<'a>,
    ) -> Result<Self::Family<'a>, Error>;
}

/// Does every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run(recipe: &AnyRecipe, options: &RunOptions) -> Result<(), Error> {
    match recipe {
        AnyRecipe::Encoder(recipe) => Pipeline::new(recipe.as_ref(), options).run(),
        AnyRecipe::Decoder(recipe) => Pipeline::new(recipe.as_ref(), options).run(),
    }
}

/// The stages of `recipe`, and which of them are done. Nothing is started.
///
/// # Errors
///
/// If model or data cannot be read, or the store cannot be opened.
pub fn plan(recipe: &AnyRecipe, options: &RunOptions) -> Result<Vec<Planned>, Error> {
    match recipe {
        AnyRecipe::Encoder(recipe) => Pipeline::new(recipe.as_ref(), options).planned(),
        AnyRecipe::Decoder(recipe) => Pipeline::new(recipe.as_ref(), options).planned(),
    }
}

struct Pipeline<'a, T: RecipeFamily> {
    recipe: &'a Recipe<T>,
    plan: Vec<ModelPlan>,
    options: &'a RunOptions,
    progress: Progress,
    environment: Environment,
}

impl<'a, T: Runnable> Pipeline<'a, T> {
    fn new(recipe: &'a Recipe<T>, options: &'a RunOptions) -> Self {
        Self {
            recipe,
            plan: recipe.plan(),
            environment: Environment::capture(&options.device_name, &recipe.seeds),
            options,
            progress: Progress::new(options.ui),
        }
    }

    fn run(&self) -> Result<(), Error> {
        let options = self.options;
        let inputs = T::read(self.recipe, options)?;
        let mut folder = self.folder()?;
        let store = Store::open(&options.store)?;
        let nodes = self.nodes(&inputs, &store)?;
        let keys: Vec<Key> = nodes.nodes.iter().map(|node| node.key.clone()).collect();
        folder.write_stages(&keys)?;
        store.register(folder.path())?;
        if options.retry {
            for key in &keys {
                failure::retry(&store, key)?;
            }
        }
        let run = Run {
            family: T::prepare(self.recipe, options, &folder, inputs)?,
            plan: &self.plan,
            importance: &self.recipe.importance,
            checkpoint: &self.recipe.checkpoint,
            options,
            progress: self.progress,
        };
        folder.release();
        let worker = Worker {
            run: &run,
            nodes: &nodes,
            leases: Leases::new(&store),
            environment: json!(self.environment),
        };
        let worked = worker.work();
        folder.hold(|| options.stop.check())?;
        self.link(&nodes, &store, &folder)?;
        worked?;
        self.results(&run.family, &nodes, &store, &folder)
    }

    fn planned(&self) -> Result<Vec<Planned>, Error> {
        let inputs = T::read(self.recipe, self.options)?;
        let store = Store::open(&self.options.store)?;
        let nodes = self.nodes(&inputs, &store)?.nodes;
        plan::planned(nodes, &self.plan, &Leases::new(&store))
    }

    /// The run folder, in which this process alone prepares data.
    fn folder(&self) -> Result<RunFolder, Error> {
        let mut is_told = false;
        let wait = || -> Result<(), Error> {
            if !std::mem::replace(&mut is_told, true) {
                let what = "waiting for another process that prepares the data of this run";
                self.progress.say(what);
            }
            self.options.stop.check()
        };
        RunFolder::open(
            &self.options.out,
            self.recipe,
            self.environment.clone(),
            wait,
        )
    }

    fn nodes(&self, inputs: &T::Inputs<'_>, store: &Store) -> Result<Nodes, Error> {
        let mut fingerprints = Fingerprints::open(store);
        let Environment {
            device,
            cpus,
            system,
            ..
        } = &self.environment;
        let makings = Makings {
            plan: &self.plan,
            importance: &self.recipe.importance,
            identity: &T::identity(self.recipe, inputs, &mut fingerprints)?,
            folders: nodes::folders(&self.plan, &mut fingerprints)?,
            machine: json!({ "device": device, "cpus": cpus, "system": system }),
        };
        let nodes = makings.nodes(&self.recipe.seeds)?;
        fingerprints.save();
        Ok(nodes)
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
            let before = self.plan[..index].iter();
            let place = before.filter(|plan| plan.is_judged).count();
            for keys in &nodes.seeds {
                let model = &keys.models[index];
                if let Some(key) = &model.train {
                    let metrics = store.stage(key).join("training/metrics.jsonl");
                    trainings.push((format!("seed-{}/{}", keys.seed, plan.name), metrics));
                }
                let Some(evaluate) = &model.evaluate else {
                    continue;
                };
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
                let judged: Judged = store.result(evaluate)?;
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
                    latency_ms: latencies.and_then(|latencies| latencies.get(place).copied()),
                    seconds: done.flatten().map(|done| done.seconds),
                });
            }
        }
        trainings.sort();
        folder.gather_metrics(&trainings)?;
        curves::write(&self.recipe.name, &self.plan, &family.curve(), folder)?;
        folder.write_results(&rows)?;
        let table = Table::new(&rows, &family.columns(&rows));
        folder.write_text("results.md", &table.to_markdown())?;
        crate::cli::print(&table.to_text())
    }
}
