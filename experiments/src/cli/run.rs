//! `kiln run`: a whole recipe, from the initial model to the table.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
};

use clap::Args;
use distill::Ui;

use crate::backend;
use crate::error::Error;
use crate::interrupt::Stop;
use crate::recipe::{AnyRecipe, shipped_names};
use crate::run::{self, Print, Retry, RunOptions};
use crate::submit::submission::text;
use crate::workers;

const EXAMPLES: &str = "\
Examples:
  kiln run quickstart 'seeds=[1]'
  kiln run sst2 model.path=bert-base-uncased data.path=SST-2 --ui tui";

/// Run a recipe: train the models of its stages, and compare its arms
///
/// The result of every stage is kept in the store, where other runs find it. To resume a stopped run, run the same
/// command again; to divide the work, run it in several processes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Print the results as JSON, as RUN/results.json has them
    #[arg(long)]
    json: bool,
}

/// How stages are done.
#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    /// Work in so many processes, each with its share of the cores; one that dies takes one stage with it
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Try stages again that failed in an earlier start: all of them, or the one with this key
    #[arg(long, value_name = "failed|KEY", num_args = 0..=1, default_missing_value = "failed", value_parser = retry)]
    retry: Option<Retry>,
    /// Go on although the first three stages failed for the same reason
    #[arg(long)]
    keep_going: bool,
    /// How to show progress: tui (Burn's dashboard), plain (lines) or none
    #[arg(long, default_value = "plain", value_parser = ui)]
    ui: Ui,
    /// Leave measuring and the results to the process that started this one
    #[arg(long, hide = true)]
    worker: bool,
}

impl WorkArgs {
    /// The processes that were asked for.
    pub fn jobs(&self) -> Option<NonZero<usize>> {
        self.jobs
    }

    /// Does all stages and prints the table: with `--jobs`, or as many processes as `jobs` says, in processes of their own, which
    /// have the arguments of this one, those of `command`.
    ///
    /// # Errors
    /// Whatever the stages fail with.
    pub fn run(
        self,
        recipe: &AnyRecipe,
        options: RunOptions,
        command: &str,
        jobs: Option<NonZero<usize>>,
    ) -> Result<(), Error> {
        let options = RunOptions {
            retry: self.retry.filter(|_| !self.worker),
            keep_going: self.keep_going,
            is_worker: self.worker,
            ui: self.ui,
            ..options
        };
        if self.worker {
            workers::end_with_parent();
            return run::run(recipe, &options);
        }
        let has_dashboard = self.ui == Ui::Tui;
        if has_dashboard && self.jobs.is_some() {
            let problem = "--ui tui shows one training; with --jobs, use plain or none";
            return Err(Error::Usage(problem.to_owned()));
        }
        let Some(jobs) = self.jobs.or(jobs.filter(|_| !has_dashboard)) else {
            return run::run(recipe, &options);
        };
        run::begin(recipe, &options)?;
        workers::work(jobs, command, &options.store, &options.stop)?;
        let options = RunOptions {
            retry: None,
            ..options
        };
        run::run(recipe, &options)
    }
}

/// A recipe with where it is run.
#[derive(Debug, Args)]
pub(super) struct RecipeArgs {
    #[arg(help = recipes())]
    pub recipe: String,
    /// Keys of the recipe to change, as in `train.epochs=3 model.path=bert-base`
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// The run folder [default: runs/NAME, by the recipe; runs/NAME-ablation for an ablation]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    pub device: Option<String>,
}

fn recipes() -> String {
    let names = shipped_names();
    format!(
        "A recipe file, or the name of a recipe that ships, as `kiln recipes` lists them: {names}"
    )
}

/// Where stages are kept.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// The store of stages, which runs share
    #[arg(
        long = "store",
        value_name = "DIR",
        env = "KILN_STORE",
        default_value = "runs/store"
    )]
    pub path: PathBuf,
}

impl RecipeArgs {
    /// The recipe, checked, and how it is run without progress.
    ///
    /// # Errors
    /// The recipe or the device is wrong.
    pub fn open(&self) -> Result<(AnyRecipe, RunOptions), Error> {
        self.open_as("", |source, overrides| {
            Ok(AnyRecipe::load(source, overrides)?)
        })
    }

    /// As [`open`](Self::open), with the recipe that `load` makes of its source and the arguments after it. `suffix` follows
    /// the recipe's name in that of the run folder.
    ///
    /// # Errors
    /// Those of `load`, or the device is wrong.
    pub fn open_as(
        &self,
        suffix: &str,
        load: impl FnOnce(&str, &[String]) -> Result<AnyRecipe, Error>,
    ) -> Result<(AnyRecipe, RunOptions), Error> {
        let (recipe, out) = self.load_as(suffix, load)?;
        let device = self.device.as_deref();
        let options = RunOptions {
            out,
            store: self.store.path.clone(),
            shard: None,
            retry: None,
            keep_going: false,
            is_worker: false,
            print: Print::Table,
            device: backend::open(device)?,
            device_name: device
                .or(backend::default_name())
                .unwrap_or_default()
                .to_owned(),
            ui: Ui::None,
            stop: Stop::on_signals()?,
        };
        Ok((recipe, options))
    }

    /// The recipe and its run folder, as [`open_as`](Self::open_as) has them.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load_as(
        &self,
        suffix: &str,
        load: impl FnOnce(&str, &[String]) -> Result<AnyRecipe, Error>,
    ) -> Result<(AnyRecipe, PathBuf), Error> {
        let recipe = load(&self.recipe, &self.overrides)?;
        let name = || PathBuf::from("runs").join(format!("{}{suffix}", recipe.name()));
        let out = self.out.clone().unwrap_or_else(name);
        Ok((recipe, out))
    }

    /// The words of a command line that mean the same, with this run folder; a relative store is in `folder`.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn words(&self, out: &Path, folder: &Path) -> Result<Vec<String>, Error> {
        // A path that could be taken for an option.
        let dash = if self.recipe.starts_with('-') {
            "./"
        } else {
            ""
        };
        let mut words = vec![format!("{dash}{}", self.recipe)];
        words.extend(self.overrides.iter().cloned());
        let store = folder.join(&self.store.path);
        words.extend(option("out", &text(out)?));
        words.extend(option("store", &text(&store)?));
        words.extend(
            self.device
                .iter()
                .flat_map(|device| option("device", device)),
        );
        Ok(words)
    }
}

/// The words of an option and its value.
pub(super) fn option(name: &str, value: &str) -> Vec<String> {
    if value.starts_with('-') {
        vec![format!("--{name}={value}")]
    } else {
        vec![format!("--{name}"), value.to_owned()]
    }
}

pub(super) fn ui(name: &str) -> Result<Ui, &'static str> {
    match name {
        "tui" => Ok(Ui::Tui),
        "plain" => Ok(Ui::Plain),
        "none" => Ok(Ui::None),
        _ => Err("expected tui, plain or none"),
    }
}

fn retry(text: &str) -> Result<Retry, String> {
    match text {
        "failed" => Ok(Retry::Failed),
        key => match key.parse() {
            Ok(key) => Ok(Retry::Stage(key)),
            Err(_) => Err("write `failed`, or the key of a stage".to_owned()),
        },
    }
}

/// Runs the recipe.
///
/// # Errors
/// The recipe or the device is wrong, or a stage fails.
pub fn run(args: RunArgs) -> Result<(), Error> {
    let (recipe, options) = args.recipe.open()?;
    let options = RunOptions {
        print: Print::of(args.json),
        ..options
    };
    args.work.run(&recipe, options, "run", None)
}
