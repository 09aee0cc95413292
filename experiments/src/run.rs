//! The pipeline behind `kiln run`: fine-tune, importance, partition, distil, evaluate.

use std::path::PathBuf;

use burn::tensor::Device;
use distill::Ui;

use crate::{
    environment::Environment,
    error::Error,
    interrupt::Stop,
    recipe::Recipe,
    record::RunFolder,
    table::{Row, Table},
};

mod experts;
mod fit;
mod language;
mod prepare;
mod progress;
mod seed;
mod stages;

pub use experts::{expert_files, expert_plan, open_dense, open_dense_decoder, score_neurons};
pub use language::run_language;
pub use progress::Progress;

/// The name in the table of the model that a language run begins with.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The dense model's name in the table.
const TEACHER: &str = "teacher";

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

/// Runs every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run(recipe: &Recipe, options: &RunOptions) -> Result<(), Error> {
    let inputs = prepare::read(recipe, &options.stop)?;
    let environment = Environment::capture(&options.device_name, &recipe.seeds);
    let folder = RunFolder::open(&options.out, recipe, environment)?;
    let prepared = prepare::prepare(recipe, options, &folder, inputs)?;
    let mut rows: Vec<Row> = vec![];
    for &seed in &recipe.seeds {
        rows.extend(seed::run(&prepared, seed)?);
    }
    rows.sort_by_key(|row| place(recipe, &row.name));
    folder.gather_metrics()?;
    folder.write_results(&rows)?;
    let table = Table::new(&rows, recipe.data.task.primary_metric(), TEACHER);
    folder.write_text("results.md", &table.to_markdown())?;
    crate::cli::print(&table.to_text())
}

/// Where a model stands in the table: the teacher first, then the students as the recipe has them.
fn place(recipe: &Recipe, name: &str) -> usize {
    let student = recipe
        .students
        .iter()
        .position(|student| student.name == name);
    student.map_or(0, |index| index + 1)
}
