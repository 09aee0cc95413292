//! The pipeline behind `kiln run`: models are made from each other, trained and judged, as stages of a graph.

use std::{collections::BTreeSet, path::PathBuf};

use burn::tensor::Device;
use distill::Ui;
use serde_json::json;

use self::{
    family::Family,
    identity::Identity,
    nodes::{Makings, Nodes},
    report::Report,
    worker::Worker,
};
use crate::{
    environment::Environment,
    error::Error,
    graph::{Fingerprints, Key, Leases, Store, failure},
    interrupt::Stop,
    recipe::{
        AnyRecipe, CheckpointRecipe, ImportanceRecipe, ModelPlan, Recipe, RecipeFamily, of_any,
    },
    record::{ARMS, Artifacts, RunFolder, folder_of},
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
mod report;
mod shapes;
mod standing;
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
    /// Which stages that failed before are tried again.
    pub retry: Option<Retry>,
    /// Whether the run goes on although its first stages failed for one reason.
    pub keep_going: bool,
    /// Whether another process, which started this one, measures and writes the results.
    pub is_worker: bool,
    /// The device to compute on.
    pub device: Device,
    /// The device's name, for the record.
    pub device_name: String,
    /// How progress is shown.
    pub ui: Ui,
    /// Asks for a stop.
    pub stop: Stop,
}

/// Failed stages that are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// All of the run.
    Failed,
    /// One.
    Stage(Key),
}

/// What the stages of arms on one base need.
struct Run<'a, F> {
    family: F,
    plan: &'a [ModelPlan],
    importance: &'a ImportanceRecipe,
    checkpoint: &'a CheckpointRecipe,
    options: &'a RunOptions,
    progress: Progress,
}

/// The arms on one base: their stages, and what these need.
struct Part<'a, F: Family> {
    run: Run<'a, F>,
    nodes: Nodes,
}

/// The recipes of a family of models: how their data become what stages need.
trait Runnable: RecipeFamily {
    /// What is read before anything is left on disk: a mistake in the recipe must not leave a run folder that refuses the
    /// right one.
    type Inputs<'a>;
    /// The models with a task and its data.
    type Family<'a>: Family;

    /// Reads model and data, and checks that they and the recipe go together.
    fn read<'a>(
        recipe: &'a Recipe<Self>,
        options: &RunOptions,
        artifacts: &Artifacts,
    ) -> Result<Self::Inputs<'a>, Error>;

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
        artifacts: &Artifacts,
        inputs: Self::Inputs<'a>,
    ) -> Result<Self::Family<'a>, Error>;
}

/// Does every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run(recipe: &AnyRecipe, options: &RunOptions) -> Result<(), Error> {
    of_any!(recipe, recipe => Pipeline::new(recipe.as_ref(), options).run())
}

/// Opens the run folder and the store for `recipe`, as [`run`] does, and does no stage.
///
/// # Errors
///
/// If model or data cannot be read, or the run folder or the store cannot be opened.
pub fn begin(recipe: &AnyRecipe, options: &RunOptions) -> Result<(), Error> {
    of_any!(recipe, recipe => Pipeline::new(recipe.as_ref(), options).begin().map(drop))
}

/// The stages of `recipe`, and which of them are done. Nothing is started.
///
/// # Errors
///
/// If model or data cannot be read, or the store cannot be opened.
pub fn plan(recipe: &AnyRecipe, options: &RunOptions) -> Result<Vec<Planned>, Error> {
    of_any!(recipe, recipe => Pipeline::new(recipe.as_ref(), options).planned())
}

/// What some arms stand on.
struct Base<'a, T: Runnable> {
    recipe: &'a Recipe<T>,
    artifacts: Artifacts,
    inputs: T::Inputs<'a>,
}

/// A run that has a folder.
struct Begun<'a, T: Runnable> {
    bases: Vec<Base<'a, T>>,
    folder: RunFolder,
    store: Store,
    nodes: Vec<Nodes>,
}

struct Pipeline<'a, T: RecipeFamily> {
    recipe: &'a Recipe<T>,
    options: &'a RunOptions,
    progress: Progress,
    environment: Environment,
}

impl<'a, T: Runnable> Pipeline<'a, T> {
    fn new(recipe: &'a Recipe<T>, options: &'a RunOptions) -> Self {
        Self {
            recipe,
            environment: Environment::capture(&options.device_name, &recipe.seeds),
            options,
            progress: Progress::new(options.ui),
        }
    }

    /// Opens the run folder and the store, and says in the folder what the run consists of.
    fn begin(&self) -> Result<Begun<'a, T>, Error> {
        let bases = self.read()?;
        let folder = self.folder()?;
        let store = Store::open(&self.options.store)?;
        let nodes = self.nodes(&bases, &store)?;
        let keys = nodes.iter().flat_map(|nodes| &nodes.nodes);
        let keys: Vec<Key> = keys.map(|node| node.key.clone()).collect();
        folder.write_stages(&keys)?;
        folder.write_json(ARMS, &report::arms_file(self.recipe, &bases, &nodes))?;
        store.register(folder.path())?;
        for key in &keys {
            match &self.options.retry {
                Some(Retry::Stage(only)) if only != key => {}
                Some(_) => drop(failure::retry(&store, key)?),
                None => {}
            }
        }
        Ok(Begun {
            bases,
            folder,
            store,
            nodes,
        })
    }

    fn run(&self) -> Result<(), Error> {
        let options = self.options;
        let Begun {
            bases,
            mut folder,
            store,
            nodes,
        } = self.begin()?;
        let mut parts = vec![];
        for (base, nodes) in bases.into_iter().zip(nodes) {
            let Base {
                recipe,
                artifacts,
                inputs,
            } = base;
            let run = Run {
                family: T::prepare(recipe, options, &artifacts, inputs)?,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                options,
                progress: self.progress,
            };
            parts.push(Part { run, nodes });
        }
        folder.release();
        let worker = Worker {
            parts: &parts,
            options,
            progress: self.progress,
            leases: Leases::new(&store),
            environment: json!(self.environment),
        };
        let worked = worker.work();
        if options.is_worker {
            return match worked {
                Err(Error::Failed { .. }) => Ok(()),
                worked => worked,
            };
        }
        folder.hold(|| options.stop.check())?;
        for part in &parts {
            part.link(&store, &folder)?;
        }
        // What failed is part of the results.
        match worked {
            Ok(()) | Err(Error::Failed { .. }) => {
                Report::of(self.recipe, &parts, &store)?.write(&folder)?;
                worked
            }
            Err(error) => Err(error),
        }
    }

    fn planned(&self) -> Result<Vec<Planned>, Error> {
        let bases = self.read()?;
        let store = Store::open(&self.options.store)?;
        let leases = Leases::new(&store);
        let mut planned = vec![];
        for (base, nodes) in bases.iter().zip(self.nodes(&bases, &store)?) {
            planned.extend(plan::planned(nodes.nodes, base.recipe.plan(), &leases)?);
        }
        Ok(planned)
    }

    /// What the arms stand on, read.
    fn read(&self) -> Result<Vec<Base<'a, T>>, Error> {
        let bases = self.recipe.bases().iter().enumerate();
        let bases = bases.map(|(place, recipe)| {
            let artifacts = Artifacts::new(&self.options.out, place);
            Ok(Base {
                recipe,
                inputs: T::read(recipe, self.options, &artifacts)?,
                artifacts,
            })
        });
        bases.collect()
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

    /// The stages of the arms on each base.
    fn nodes(&self, bases: &[Base<'_, T>], store: &Store) -> Result<Vec<Nodes>, Error> {
        let mut fingerprints = Fingerprints::open(store);
        let Environment {
            device,
            cpus,
            system,
            ..
        } = &self.environment;
        let machine = json!({ "device": device, "cpus": cpus, "system": system });
        let (mut nodes, mut keys) = (vec![], BTreeSet::new());
        for base in bases {
            let plan = base.recipe.plan();
            let makings = Makings {
                plan,
                importance: &base.recipe.importance,
                identity: &T::identity(base.recipe, &base.inputs, &mut fingerprints)?,
                folders: nodes::folders(plan, &mut fingerprints)?,
                machine: machine.clone(),
            };
            nodes.push(makings.nodes(&self.recipe.seeds, &mut keys)?);
        }
        fingerprints.save();
        Ok(nodes)
    }
}

impl<F: Family> Part<'_, F> {
    /// Links what is done into the run folder.
    fn link(&self, store: &Store, folder: &RunFolder) -> Result<(), Error> {
        let link = |path: &str, key: &Key| -> Result<(), Error> {
            if store.is_done(key)? {
                folder.link(path, &store.stage(key))?;
            }
            Ok(())
        };
        for keys in &self.nodes.seeds {
            let seed = keys.seed;
            if let Some(key) = &keys.start {
                link(&format!("start/seed-{seed}"), key)?;
            }
            for (plan, model) in self.run.plan.iter().zip(&keys.models) {
                let arm = folder_of(&plan.name);
                for (stage, key) in model.stages() {
                    link(&format!("arms/{arm}/seed-{seed}/{stage}"), key)?;
                }
            }
        }
        Ok(())
    }
}
