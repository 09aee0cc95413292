//! `kiln plan`: the stages of a recipe, and which of them are done.

mod text;

use std::{collections::BTreeSet, num::NonZero};

use clap::Args;

use super::run::RecipeArgs;
use crate::{
    error::Error,
    recipe::AnyRecipe,
    run::{self, RunOptions},
};

/// Show the stages of a recipe: how many are done, what is left to do, and how long it will take
///
/// Times are those of stages that the store has from this machine; where it has none, a few steps are measured on a sample of
/// the data. No stage is begun, and nothing is written into the store or the run folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kiln plan quickstart train.epochs=5")]
pub struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print everything as JSON, each stage with its key
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
///
/// # Errors
/// The recipe is wrong, model or data cannot be read, or the store cannot be opened.
pub fn run(args: PlanArgs) -> Result<(), Error> {
    let (recipe, options) = args.recipe.open()?;
    show(&recipe, &options, None, args.json)
}

/// Prints the plan of a recipe, as text or as JSON; times are told for 1, 2 and so many processes.
///
/// # Errors
/// Model or data cannot be read, or the store cannot be read.
pub(super) fn show(
    recipe: &AnyRecipe,
    options: &RunOptions,
    jobs: Option<NonZero<usize>>,
    json: bool,
) -> Result<(), Error> {
    let workers = [Some(1), Some(2), jobs.map(NonZero::get)];
    let workers: BTreeSet<usize> = workers.into_iter().flatten().collect();
    let plan = run::plan(recipe, options, &workers)?;
    if json {
        return super::print_json(&plan);
    }
    super::print(&text::text(&plan))
}
