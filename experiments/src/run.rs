//! The pipeline behind `kiln run`: models are made from each other, trained and judged, as stages of a graph.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use distill::Ui;
use serde_json::json;

use self::{
    family::Family,
    halving::Course,
    identity::Identity,
    ledger::Ledger,
    nodes::{Makings, Nodes},
    phase::Phase,
    rehearsal::Rehearsal,
    report::Report,
    share::Share,
    standing::Standing,
    worker::{Failures, Worker},
};
use crate::{
    environment::Environment,
    error::Error,
    graph::{Fingerprints, Key, Leases, Store},
    interrupt::Stop,
    recipe::{
        AnyRecipe, CheckpointRecipe, ImportanceRecipe, ModelPlan, Recipe, RecipeFamily, Tracking,
        of_any,
    },
    record::{ARMS, Artifacts, HALVING, MODELS, RunFolder, seed_folder},
    results::Status,
    submit::Shard,
};

mod cautions;
mod curves;
mod decoders;
mod encoders;
mod experts;
mod family;
mod fit;
mod halving;
mod identity;
mod jobs;
mod learning;
mod ledger;
mod nodes;
mod phase;
mod plan;
mod progress;
mod rehearsal;
mod report;
mod sample;
mod shapes;
mod share;
mod standing;
#[cfg(test)]
mod tests;
mod worker;

pub use experts::{expert_files, expert_plan, open_dense, open_dense_decoder, score_neurons};
pub use plan::{Basis, Decides, Estimate, Plan, PlanRow, Planned, PlannedArm, State, Total};
pub use progress::Progress;
pub(crate) use sample::Shares;

/// How a recipe is run; nothing here changes its results.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// The store of stages.
    pub store: PathBuf,
    /// The share of the arms that is done; all if none.
    pub shard: Option<Shard>,
    /// Which stages that failed before are tried again.
    pub retry: Option<Retry>,
    /// Whether the run goes on although its first stages failed for one reason.
    pub keep_going: bool,
    /// Whether another process, which started this one, measures and writes the results.
    pub is_worker: bool,
    /// What is printed of the results.
    pub print: Print,
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

/// What is printed of the results of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// The table, with what the arms show.
    Table,
    /// The content of `results.json`.
    Json,
    /// Nothing.
    Nothing,
}

impl Print {
    /// JSON or the table.
    pub fn of(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Table }
    }
}

/// What the stages of arms on one base need.
struct Run<'a, F> {
    family: F,
    plan: &'a [ModelPlan],
    importance: &'a ImportanceRecipe,
    checkpoint: &'a CheckpointRecipe,
    tracking: &'a [Tracking],
    options: &'a RunOptions,
    progress: Progress,
}

/// The arms on one base: their stages in a phase, and what these need.
struct Part<'a, F: Family> {
    run: &'a Run<'a, F>,
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

    /// What is known of models and data before anything is computed.
    fn sizes(inputs: &Self::Inputs<'_>) -> plan::Sizes;

    /// A part of the inputs that suffices to time stages, which may be written into a folder, and its shares of the data.
    ///
    /// # Errors
    ///
    /// If data cannot be read or written.
    fn sampled<'a>(
        recipe: &Recipe<Self>,
        inputs: Self::Inputs<'a>,
        folder: &Path,
    ) -> Result<(Self::Inputs<'a>, Shares), Error>;

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
    of_any!(recipe, recipe => Pipeline::new(recipe.as_ref(), options).begin())
}

/// The stages of `recipe`, which of them are done, and what the others will take, with each of these numbers of workers.
/// Stages like none that this machine has done are timed on a sample of the data, in a folder for temporary files. Nothing
/// else is started or written.
///
/// # Errors
///
/// If model or data cannot be read, or the store cannot be read.
pub fn plan(
    recipe: &AnyRecipe,
    options: &RunOptions,
    workers: &BTreeSet<usize>,
) -> Result<Plan, Error> {
    of_any!(recipe, recipe => Pipeline::new(recipe.as_ref(), options).planned(workers))
}

/// What some arms stand on.
struct Base<'a, T: Runnable> {
    recipe: &'a Recipe<T>,
    artifacts: Artifacts,
    inputs: T::Inputs<'a>,
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

    /// Writes down what the run begins with.
    fn begin(&self) -> Result<(), Error> {
        self.check_shard()?;
        let bases = self.read()?;
        let folder = self.folder()?;
        let store = Store::open(&self.options.store)?;
        let makings = self.makings(&bases, Fingerprints::open(&store))?;
        let phase = match self.course() {
            None => Phase::whole(&self.recipe.seeds),
            Some(course) => course.phase(&course.replay()),
        };
        self.ledger(folder, &store)
            .add(&nodes_of(&makings, &phase)?)
    }

    /// Refuses shares of arms that are chosen by the results of others.
    fn check_shard(&self) -> Result<(), Error> {
        if self.options.shard.is_some() && self.course().is_some() {
            let problem = "a halving needs the results of all arms in each rung; leave out --shard";
            return Err(Error::Usage(problem.to_owned()));
        }
        Ok(())
    }

    fn ledger<'s>(&'s self, folder: RunFolder, store: &'s Store) -> Ledger<'s> {
        Ledger {
            folder,
            store,
            grows: self.course().is_some(),
            retry: self.options.retry.as_ref(),
            keys: BTreeSet::new(),
        }
    }

    fn run(&self) -> Result<(), Error> {
        self.check_shard()?;
        let bases = self.read()?;
        let folder = self.folder()?;
        let store = Store::open(&self.options.store)?;
        let makings = self.makings(&bases, Fingerprints::open(&store))?;
        let mut ledger = self.ledger(folder, &store);
        let runs = self.prepare(bases)?;
        let mut failures = Failures::default();
        let phase = match self.course() {
            None => Phase::whole(&self.recipe.seeds),
            Some(mut course) => loop {
                let replay = course.replay();
                if let Some(survivors) = &replay.survivors {
                    ledger.folder.write_json(HALVING, &course.halved(&replay))?;
                    if survivors.is_empty() {
                        failures.into_result()?;
                        return Err(Error::NoSurvivors);
                    }
                    break course.phase(&replay);
                }
                let (parts, failed) =
                    self.work(&course.phase(&replay), &runs, &makings, &mut ledger)?;
                failures.add(failed);
                let stages = parts.iter().map(|part| (part.run.plan, &part.nodes));
                course.read(&replay, &stages.collect::<Vec<_>>(), &store)?;
                if let Some(told) = course.told(&course.replay()) {
                    self.progress.say(&told);
                }
            },
        };
        let (parts, failed) = self.work(&phase, &runs, &makings, &mut ledger)?;
        failures.add(failed);
        if self.options.is_worker {
            return Ok(());
        }
        if self.options.shard.is_some() && !is_over(&parts, &store)? {
            let told =
                "this share of the arms is over; the worker that ends last writes the results";
            self.progress.say(told);
            return failures.into_result();
        }
        // What failed is part of the results.
        let report = Report::of(self.recipe, &phase.seeds, &parts, &store)?;
        report.write(&ledger.folder)?;
        report.print(self.options.print)?;
        failures.into_result()
    }

    /// Does the stages of a phase, and links what is done into the run folder.
    fn work<'r, F: Family>(
        &self,
        phase: &Phase,
        runs: &'r [Run<'_, F>],
        makings: &[Makings<'_>],
        ledger: &mut Ledger<'_>,
    ) -> Result<(Vec<Part<'r, F>>, Failures), Error> {
        let options = self.options;
        let nodes = nodes_of(makings, phase)?;
        ledger.add(&nodes)?;
        let plans = makings.iter().map(|makings| makings.plan);
        let arms = report::arms_file(self.recipe, &phase.seeds, plans.zip(&nodes));
        ledger.folder.write_json(ARMS, &arms)?;
        let parts = runs.iter().zip(nodes);
        let parts: Vec<Part<'_, F>> = parts.map(|(run, nodes)| Part { run, nodes }).collect();
        ledger.folder.release();
        let worker = Worker {
            parts: &parts,
            share: self.share(&parts),
            options,
            progress: self.progress,
            leases: Leases::new(ledger.store),
            environment: json!(self.environment),
        };
        let worked = worker.work();
        ledger.folder.hold(|| options.stop.check())?;
        for part in &parts {
            part.link(ledger.store, &ledger.folder)?;
        }
        let worked = worked?;
        Ok((parts, worked))
    }

    /// The halving of the ablation, if it has one.
    fn course(&self) -> Option<Course<'_>> {
        Course::of(self.recipe.ablation.as_ref())
    }

    /// Makes everything that stages need.
    fn prepare(&self, bases: Vec<Base<'a, T>>) -> Result<Vec<Run<'a, T::Family<'a>>>, Error> {
        let bases = bases.into_iter();
        let runs = bases.map(|base| {
            let Base {
                recipe,
                artifacts,
                inputs,
            } = base;
            Ok(Run {
                family: T::prepare(recipe, self.options, &artifacts, inputs)?,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                tracking: &self.recipe.tracking,
                options: self.options,
                progress: self.progress,
            })
        });
        runs.collect()
    }

    /// The stages of this worker's share; none if it does all.
    fn share<F: Family>(&self, parts: &[Part<'_, F>]) -> Option<Share> {
        let arms = self.recipe.ablation.as_ref().map(|ablation| &ablation.arms);
        let arms = arms.into_iter().flatten().map(|arm| arm.name.as_str());
        let parts = parts.iter().map(|part| (part.run.plan, &part.nodes));
        let shard = self.options.shard?;
        Some(Share::new(shard, arms, &parts.collect::<Vec<_>>()))
    }

    fn planned(&self, workers: &BTreeSet<usize>) -> Result<Plan, Error> {
        let bases = self.read()?;
        let store = Store::open_existing(&self.options.store)?;
        let fingerprints = store
            .as_ref()
            .map_or_else(Fingerprints::without_cache, Fingerprints::open);
        let makings = self.makings(&bases, fingerprints)?;
        let foreseen = self.foreseen(&bases, &makings, store.as_ref())?;
        let parts = bases.iter().zip(foreseen);
        let parts = parts.map(|(base, nodes)| plan::Base {
            plan: base.recipe.plan(),
            nodes,
            sizes: T::sizes(&base.inputs),
        });
        let sketch = plan::Sketch {
            recipe: &self.recipe.name,
            seeds: &self.recipe.seeds,
            arms: self.recipe.arm_names(),
            ablation: self.recipe.ablation.as_ref(),
            bases: parts.collect(),
            environment: &self.environment,
            store,
            workers,
        };
        sketch.plan(|parts, request| Rehearsal::new(self, bases).times(parts, request))
    }

    /// The stages on each base; of a halving, as far as the store decides them.
    fn foreseen(
        &self,
        bases: &[Base<'a, T>],
        makings: &[Makings<'_>],
        store: Option<&Store>,
    ) -> Result<Vec<Nodes>, Error> {
        let Some(mut course) = self.course() else {
            return nodes_of(makings, &Phase::whole(&self.recipe.seeds));
        };
        let mut foreseen: Vec<Nodes> = vec![];
        loop {
            let replay = course.replay();
            let nodes = nodes_of(makings, &course.phase(&replay))?;
            if let Some(store) = store {
                let stages = bases.iter().map(|base| base.recipe.plan()).zip(&nodes);
                course.read(&replay, &stages.collect::<Vec<_>>(), store)?;
            }
            if foreseen.is_empty() {
                foreseen = nodes;
            } else {
                for (all, more) in foreseen.iter_mut().zip(nodes) {
                    all.extend(more);
                }
            }
            if replay.survivors.is_some() || course.replay() == replay {
                return Ok(foreseen);
            }
        }
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

    /// What the stages of the arms on each base are made of.
    fn makings(
        &self,
        bases: &[Base<'a, T>],
        mut fingerprints: Fingerprints,
    ) -> Result<Vec<Makings<'a>>, Error> {
        let Environment {
            device,
            cpus,
            system,
            ..
        } = &self.environment;
        let machine = json!({ "device": device, "cpus": cpus, "system": system });
        let makings = bases.iter().map(|base| {
            let plan = base.recipe.plan();
            Ok(Makings {
                plan,
                importance: &base.recipe.importance,
                identity: T::identity(base.recipe, &base.inputs, &mut fingerprints)?,
                folders: nodes::folders(plan, &mut fingerprints)?,
                machine: machine.clone(),
            })
        });
        let makings = makings.collect::<Result<_, Error>>()?;
        fingerprints.save();
        Ok(makings)
    }
}

/// The stages of a phase, of the arms on each base.
fn nodes_of(makings: &[Makings<'_>], phase: &Phase) -> Result<Vec<Nodes>, Error> {
    let mut keys = BTreeSet::new();
    let makings = makings.iter();
    let nodes = makings.map(|makings| makings.nodes(phase, &mut keys));
    nodes.collect()
}

/// Whether no stage is left to do.
fn is_over<F: Family>(parts: &[Part<'_, F>], store: &Store) -> Result<bool, Error> {
    let standing = Standing::new(parts, store);
    for (node, _) in standing.stages() {
        if standing.of(&node.key)?.status == Status::Open {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<F: Family> Part<'_, F> {
    /// Links what is done into the run folder.
    fn link(&self, store: &Store, folder: &RunFolder) -> Result<(), Error> {
        let link = |path: &Path, key: &Key| -> Result<(), Error> {
            if store.is_done(key)? {
                folder.link(path, &store.stage(key))?;
            }
            Ok(())
        };
        for keys in &self.nodes.seeds {
            let seed = keys.seed;
            if let Some(key) = &keys.start {
                link(&Path::new("start").join(format!("seed-{seed}")), key)?;
            }
            for (plan, model) in self.run.plan.iter().zip(&keys.models) {
                let folder = seed_folder(Path::new(MODELS), &plan.name, seed);
                for (stage, key) in model.stages() {
                    link(&folder.join(stage), key)?;
                }
            }
        }
        Ok(())
    }
}
