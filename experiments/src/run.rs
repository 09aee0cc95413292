//! The pipeline behind `kiln run`: for each seed, models are made from each other, trained and judged.

use std::path::PathBuf;

use burn::tensor::Device;
use distill::Ui;
use serde::{Serialize, de::DeserializeOwned};

use self::family::Family;
use crate::{
    environment::Environment,
    error::Error,
    interrupt::Stop,
    recipe::{AnyRecipe, CheckpointRecipe, ImportanceRecipe, ModelPlan},
    record::RunFolder,
    table::Table,
};

mod curves;
mod decoders;
mod encoders;
mod experts;
mod family;
mod fit;
mod progress;
mod seed;

pub use experts::{expert_files, expert_plan, open_dense, open_dense_decoder, score_neurons};
pub use progress::Progress;

/// How a recipe is run; nothing here changes its results.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// The device to compute on.
    pub device: Device,
    /// The device's name, for the record.
    pub device_name: String,
    /// How progress is shown.
    pub ui: Ui,
    /// Asks for a stop.
    pub stop: Stop,
}

/// Everything that a seed needs.
struct Run<'a, F> {
    name: &'a str,
    family: F,
    plan: Vec<ModelPlan>,
    importance: &'a ImportanceRecipe,
    checkpoint: &'a CheckpointRecipe,
    options: &'a RunOptions,
    folder: &'a RunFolder,
    progress: Progress,
}

/// Does every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run(recipe: &AnyRecipe, options: &RunOptions) -> Result<(), Error> {
    let progress = Progress::new(options.ui);
    match recipe {
        AnyRecipe::Experts(recipe) => {
            let inputs = encoders::read(recipe, &options.stop)?;
            let folder = open(options, recipe.as_ref(), &recipe.seeds)?;
            let run = Run {
                name: &recipe.name,
                family: encoders::prepare(recipe, options, &folder, inputs)?,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                options,
                folder: &folder,
                progress,
            };
            run.seeds(&recipe.seeds)
        }
        AnyRecipe::Language(recipe) => {
            let inputs = decoders::read(recipe, options)?;
            let folder = open(options, recipe.as_ref(), &recipe.seeds)?;
            let run = Run {
                name: &recipe.name,
                family: decoders::prepare(recipe, options, &folder, inputs)?,
                plan: recipe.plan(),
                importance: &recipe.importance,
                checkpoint: &recipe.checkpoint,
                options,
                folder: &folder,
                progress,
            };
            run.seeds(&recipe.seeds)
        }
    }
}

/// The run folder of a recipe.
fn open<R: Serialize + DeserializeOwned>(
    options: &RunOptions,
    recipe: &R,
    seeds: &[u64],
) -> Result<RunFolder, Error> {
    let environment = Environment::capture(&options.device_name, seeds);
    Ok(RunFolder::open(&options.out, recipe, environment)?)
}

impl<F: Family> Run<'_, F> {
    fn seeds(&self, seeds: &[u64]) -> Result<(), Error> {
        let mut rows = vec![];
        for &seed in seeds {
            rows.extend(seed::run(self, seed)?);
        }
        // All seeds of a model together, the models in their order.
        rows.sort_by_key(|row| self.plan.iter().position(|plan| plan.name == row.name));
        self.folder.gather_metrics()?;
        curves::write(self)?;
        self.folder.write_results(&rows)?;
        let table = Table::new(&rows, &self.family.columns(&rows));
        self.folder.write_text("results.md", &table.to_markdown())?;
        crate::cli::print(&table.to_text())
    }
}
