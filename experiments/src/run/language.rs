//! The pipeline behind the recipes of language models: for each schedule of spans, train the same
//! model on the same data, and judge it.

mod curves;
mod prepare;
mod seed;

use super::{CHECKPOINT, RunOptions};
use crate::{
    environment::Environment,
    error::Error,
    language_table::{LanguageRow, table},
    recipe::LanguageRecipe,
    record::RunFolder,
};

/// Runs every stage of `recipe` that has no result yet, and prints the table.
///
/// # Errors
///
/// Whatever the stages fail with.
pub fn run_language(recipe: &LanguageRecipe, options: &RunOptions) -> Result<(), Error> {
    let inputs = prepare::read(recipe, options)?;
    let environment = Environment::capture(&options.device_name, &recipe.seeds);
    let folder = RunFolder::open(&options.out, recipe, environment)?;
    let prepared = prepare::prepare(recipe, options, &folder, inputs)?;
    let mut rows: Vec<LanguageRow> = vec![];
    for &seed in &recipe.seeds {
        rows.extend(seed::run(&prepared, seed)?);
    }
    rows.sort_by_key(|row| place(recipe, &row.name));
    folder.gather_metrics()?;
    curves::write(&prepared)?;
    folder.write_results(&rows)?;
    let table = table(&rows, prepared.problem.columns());
    folder.write_text("results.md", &table.to_markdown())?;
    crate::cli::print(&table.to_text())
}

/// Where a model stands in the table: the checkpoint first, then the models as the recipe has them.
fn place(recipe: &LanguageRecipe, name: &str) -> usize {
    let model = recipe.models.iter().position(|model| model.name == name);
    model.map_or(0, |index| index + 1)
}
