//! `kiln ablate`: a recipe with many arms, compared with one of them.

use std::num::NonZero;

use clap::Args;

use super::{
    plan,
    run::{RecipeArgs, WorkArgs},
};
use crate::{
    ablate::arms::{AblationError, Command, Margin, Reference, parse_seeds},
    error::Error,
    recipe::AnyRecipe,
};

/// Run the arms of an ablation: a recipe with some keys changed, each change under the same seeds
///
/// `key=a,b,c` is an axis of the grid of arms, and `key1+key2=a1+a2,b1+b2` changes keys together; `key=value` holds for all
/// arms. Arms of the recipe, `[[arms]]`, and of its table `[ablate]` come first. Stages that arms share are done once, and a
/// stage that is in the store is not done again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln ablate quickstart arms=[] experts.order=importance,random experts.shared=0,4 --seeds 6"
)]
pub struct AblateArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The seeds that every arm runs: how many, as in `6`, or which, as in `3,5,8` [default: the recipe's]
    #[arg(long)]
    seeds: Option<String>,
    /// The arm that the others are compared with: its name, or the keys that it changes, as the last argument [default: `full` where factors are dropped, else the recipe as it is, else the first]
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
    alpha: Option<f64>,
    /// Show the arms and their stages, and start nothing
    #[arg(long)]
    plan: bool,
    /// With --plan: print every stage with its key as JSON
    #[arg(long, requires = "plan")]
    json: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// Runs the arms.
///
/// # Errors
/// The recipe or the ablation is wrong, or a stage fails.
pub fn run(args: AblateArgs) -> Result<(), Error> {
    let AblateArgs {
        recipe,
        seeds,
        reference,
        metric,
        margin,
        alpha,
        ..
    } = args;
    let (recipe, options) = recipe.open_as("-ablation", |source, arguments| {
        let command = Command {
            seeds: seeds.map(|seeds| parse_seeds(&seeds)).transpose()?,
            reference: reference
                .map(|words| Reference::parse(&words))
                .transpose()?,
            metric,
            margin: margin.map(|margin| Margin::parse(&margin)).transpose()?,
            alpha,
            ..Command::parse(arguments)?
        };
        Ok(AnyRecipe::load_ablation(source, &command)?)
    })?;
    if args.plan {
        return plan::show(&recipe, &options, args.json);
    }
    // An arm for which the memory does not suffice ends a process, and not this one.
    args.work
        .run(&recipe, options, "ablate", Some(NonZero::<usize>::MIN))
}

impl From<AblationError> for Error {
    fn from(error: AblationError) -> Self {
        Self::Usage(error.to_string())
    }
}
