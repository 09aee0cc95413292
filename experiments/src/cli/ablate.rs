//! `kiln ablate`: a recipe with many arms, compared with one of them.

use std::{
    env,
    ffi::OsString,
    num::NonZero,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    plan,
    run::{RecipeArgs, WorkArgs, option},
};
use crate::{
    ablate::arms::{AblationError, Command, Margin, Reference, parse_alpha, parse_seeds},
    error::Error,
    recipe::AnyRecipe,
    run::{Print, RunOptions},
    submit::ShardArg,
};

/// Run the arms of an ablation: a recipe with some keys changed, each change under the same seeds
///
/// `key=a,b,c` is an axis of the grid of arms, and `key1+key2=a1+a2,b1+b2` changes keys together; `key=value` holds for all
/// arms. Arms of the recipe, `[[arms]]`, and of its table `[ablate]` come first. Stages that arms share are done once, and a
/// stage that is in the store is not done again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln ablate quickstart arms=[] experts.order=importance,random \\\n      experts.shared=0,4 --seeds 6"
)]
pub struct AblateArgs {
    #[command(flatten)]
    arms: ArmsArgs,
    /// Do a share of the arms alone, and what they need: every n-th from the i-th. With `auto`, i is the number that
    /// the engine of `kiln submit` gives this worker
    #[arg(long, value_name = "I/N|auto|auto/N")]
    shard: Option<ShardArg>,
    /// Show the arms and their stages with estimated times, and begin none of them
    #[arg(long)]
    plan: bool,
    /// Print JSON: the results as RUN/results.json has them, or with --plan every stage with its key
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// A recipe, its arms, and what is asked of them.
#[derive(Debug, Args)]
pub(super) struct ArmsArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The seeds that every arm runs: how many, as in `6`, or which, as in `3,5,8` [default: the recipe's]
    #[arg(long)]
    seeds: Option<String>,
    /// The arm that the others are compared with: its name, or the keys that it changes. All arguments up to the next option belong to it; `--reference=NAME` takes one [default: `full` where factors are dropped, else the recipe as it is, else the first]
    #[arg(long, num_args = 1.., value_name = "NAME|KEY=VALUE")]
    reference: Option<Vec<String>>,
    /// The metric that decides [default: the task's first]
    #[arg(long)]
    metric: Option<String>,
    /// The difference that does not matter: "0.5 points", "99 %" of the reference, or a number
    #[arg(long)]
    margin: Option<String>,
    /// The level of the tests, above 0 and below 1 [default: 0.05]
    #[arg(long)]
    alpha: Option<String>,
}

/// What follows the recipe's name in that of the run folder.
const SUFFIX: &str = "-ablation";

impl ArmsArgs {
    /// The recipe with its arms, checked, and how it is run.
    fn open(&self) -> Result<(AnyRecipe, RunOptions), Error> {
        let load = |source: &str, arguments: &[String]| self.recipe_of(source, arguments);
        self.recipe.open_as(SUFFIX, load)
    }

    /// The run folder, once the recipe and its arms are checked.
    ///
    /// # Errors
    /// The recipe or the ablation is wrong.
    pub fn check(&self) -> Result<PathBuf, Error> {
        let load = |source: &str, arguments: &[String]| self.recipe_of(source, arguments);
        Ok(self.recipe.load_as(SUFFIX, load)?.1)
    }

    fn recipe_of(&self, source: &str, arguments: &[String]) -> Result<AnyRecipe, Error> {
        let seeds = self.seeds.as_deref().map(parse_seeds);
        let reference = self.reference.as_deref().map(Reference::parse);
        let margin = self.margin.as_deref().map(Margin::parse);
        let alpha = self.alpha.as_deref().map(parse_alpha);
        let command = Command {
            seeds: seeds.transpose()?,
            reference: reference.transpose()?,
            metric: self.metric.clone(),
            margin: margin.transpose()?,
            alpha: alpha.transpose()?,
            ..Command::parse(arguments)?
        };
        Ok(AnyRecipe::load_ablation(source, &command)?)
    }

    /// The words of a command line that mean the same, as [`RecipeArgs::words`]. More options can go before them.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn words(&self, out: &Path, folder: &Path) -> Result<Vec<String>, Error> {
        let mut words = self.recipe.words(out, folder)?;
        let options = [
            ("seeds", &self.seeds),
            ("metric", &self.metric),
            ("margin", &self.margin),
            ("alpha", &self.alpha),
        ];
        for (name, value) in options {
            words.extend(value.iter().flat_map(|value| option(name, value)));
        }
        // It takes all words after it. Only a name can begin with a dash, and its words are joined by spaces.
        match self.reference.as_deref() {
            Some(reference) if reference[0].starts_with('-') => {
                words.extend(option("reference", &reference.join(" ")));
            }
            Some(reference) => {
                words.push("--reference".to_owned());
                words.extend_from_slice(reference);
            }
            None => {}
        }
        Ok(words)
    }
}

/// Runs the arms.
///
/// # Errors
/// The recipe or the ablation is wrong, or a stage fails.
pub fn run(args: AblateArgs) -> Result<(), Error> {
    let variables = |name: &str| env::var(name).ok();
    let shard = args.shard.map(|shard| shard.resolve(&variables));
    let shard = shard.transpose()?;
    let (recipe, options) = args.arms.open()?;
    if args.plan {
        return plan::show(&recipe, &options, args.work.jobs(), args.json);
    }
    let options = RunOptions {
        shard,
        print: Print::of(args.json),
        ..options
    };
    // An arm for which the memory does not suffice ends a process, and not this one.
    args.work
        .run(&recipe, options, "ablate", Some(NonZero::<usize>::MIN))
}

/// The arguments with `--reference -NAME` as `--reference=-NAME`: arms that leave a factor out have such names.
pub(super) fn with_reference(
    arguments: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut argument = arguments.next()?;
        let is_name = |next: &OsString| {
            let next = next.to_string_lossy();
            let is_short = next.starts_with('-') && !next.starts_with("--");
            is_short && !["-", "-h"].contains(&&*next)
        };
        if argument == "--reference"
            && let Some(name) = arguments.next_if(is_name)
        {
            argument.push("=");
            argument.push(name);
        }
        Some(argument)
    })
}

impl From<AblationError> for Error {
    fn from(error: AblationError) -> Self {
        Self::Usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_may_begin_with_a_hyphen() {
        let joined = |words: &[&str]| -> Vec<OsString> {
            with_reference(words.iter().map(OsString::from)).collect()
        };
        assert_eq!(
            joined(&["--reference", "-distillation", "--plan"]),
            ["--reference=-distillation", "--plan"]
        );
        for words in [
            &["--reference", "a=1", "b=2", "--plan"][..],
            &["--reference", "--plan"],
            &["--reference", "-h"],
            &["--reference=-x", "-y"],
            &["--reference"],
        ] {
            assert_eq!(joined(words), words);
        }
    }
}
