//! `kiln plan`: the stages of a recipe, and which of them are done.

use std::collections::BTreeMap;

use clap::Args;

use super::run::RecipeArgs;
use crate::{
    error::Error,
    recipe::AnyRecipe,
    run::{self, RunOptions, State},
    table::aligned,
};

/// Show the stages of a recipe: how many are done, and what is left to do
///
/// Nothing is started.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print every stage with its key as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
///
/// # Errors
/// The recipe is wrong, model or data cannot be read, or the store cannot be opened.
pub fn run(args: PlanArgs) -> Result<(), Error> {
    let (recipe, options) = args.recipe.open()?;
    show(&recipe, &options, args.json)
}

/// Prints the stages of a recipe, each with its key as JSON or counted as a table.
///
/// # Errors
/// Model or data cannot be read, or the store cannot be opened.
pub(super) fn show(recipe: &AnyRecipe, options: &RunOptions, json: bool) -> Result<(), Error> {
    let planned = run::plan(recipe, options)?;
    if json {
        // Keys and titles are plain text.
        let json = serde_json::to_string_pretty(&planned).unwrap_or_default();
        return super::print(&(json + "\n"));
    }
    let mut kinds: Vec<&str> = vec![];
    let mut counts: BTreeMap<(&str, State), usize> = BTreeMap::new();
    for stage in &planned {
        let kind = stage.key.kind();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        *counts.entry((kind, stage.state)).or_default() += 1;
    }
    let states = [State::Done, State::InWork, State::Failed, State::ToDo];
    let mut cells = vec![
        ["stage", "all", "done", "in work", "failed", "to do"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for kind in kinds {
        let count = |state| counts.get(&(kind, state)).copied().unwrap_or_default();
        let counts = states.map(count);
        let mut line = vec![kind.to_owned(), counts.iter().sum::<usize>().to_string()];
        line.extend(counts.iter().map(usize::to_string));
        cells.push(line);
    }
    let to_do = planned.iter().filter(|stage| stage.state != State::Done);
    let titles = to_do.map(|stage| format!("{}  {}\n", stage.key, stage.title));
    let titles: String = titles.collect();
    let gap = if titles.is_empty() { "" } else { "\n" };
    super::print(&format!("{}{gap}{titles}", aligned(&cells)))
}
