//! `kiln run`: a whole recipe, from the initial model to the table.

use std::path::PathBuf;

use clap::Args;
use distill::Ui;

use crate::backend;
use crate::error::Error;
use crate::interrupt::Stop;
use crate::recipe::AnyRecipe;
use crate::run::RunOptions;

/// Run a recipe: compress an encoder, or compare span schedules of a decoder
///
/// The result of every stage is saved in the run folder. To resume a stopped run, run the same command
/// again.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A recipe file, or the name of a built-in recipe: quickstart, sst2, cola, mnli, squad, recall,
    /// gutenberg, summary, continue
    recipe: String,
    /// Keys of the recipe to change, as in `train.epochs=3 model.path=bert-base`
    #[arg(value_name = "KEY.PATH=VALUE")]
    overrides: Vec<String>,
    /// The run folder [default: runs/NAME, by the recipe]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The store of stages, which runs share [default: runs/store]
    #[arg(
        long,
        value_name = "DIR",
        env = "KILN_STORE",
        default_value = "runs/store",
        hide_default_value = true,
        hide_env = true
    )]
    store: PathBuf,
    /// Try stages again that failed in an earlier start
    #[arg(long)]
    retry: bool,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long)]
    device: Option<String>,
    /// How to show progress: tui (Burn's dashboard), plain (lines) or none
    #[arg(long, default_value = "plain", value_parser = ui)]
    ui: Ui,
}

fn ui(name: &str) -> Result<Ui, &'static str> {
    match name {
        "tui" => Ok(Ui::Tui),
        "plain" => Ok(Ui::Plain),
        "none" => Ok(Ui::None),
        _ => Err("expected tui, plain or none"),
    }
}

/// Runs the recipe.
///
/// # Errors
/// The recipe or the device is wrong, or a stage fails.
pub fn run(args: RunArgs) -> Result<(), Error> {
    let recipe = AnyRecipe::load(&args.recipe, &args.overrides)?;
    let options = RunOptions {
        out: args
            .out
            .unwrap_or_else(|| PathBuf::from("runs").join(recipe.name())),
        store: args.store,
        retry: args.retry,
        device: backend::open(args.device.as_deref())?,
        device_name: args
            .device
            .or(backend::default_name().map(str::to_owned))
            .unwrap_or_default(),
        ui: args.ui,
        stop: Stop::on_signals()?,
    };
    crate::run::run(&recipe, &options)
}
