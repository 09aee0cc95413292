//! `kiln eval --task recall`: what a decoder recalls in the sequences that a recipe describes.

use super::EvalArgs;
use crate::{
    backend, cli,
    data::DataError,
    error::Error,
    language::{LanguageProblem, recall::RecallProblem},
    metric::Scores,
    recipe::{AnyRecipe, LanguageSource},
};

const BATCH_SIZE: usize = 32;

/// The shares recalled ([`RecallProblem::judge`]).
pub(super) fn scores(args: &EvalArgs) -> Result<Scores, Error> {
    let device = backend::open(args.device.as_deref())?;
    let (problem, length) = problem(args)?;
    let folder = args.variant.decoder(&args.model)?;
    let folder = args.variant.lengthen(folder, length)?;
    let (needed, known) = (problem.vocabulary(), folder.config().decoder.vocabulary);
    if needed > known {
        let problem = format!(
            "{} has {needed} tokens, and {} knows {known}: they do not belong together",
            args.data.display(),
            args.model.display()
        );
        return Err(Error::Usage(problem));
    }
    let watch = args.watch(BATCH_SIZE)?;
    problem.judge(&cli::load_decoder(&folder, &device)?, &watch)
}

/// The task of the recipe, and the tokens of its sequences.
fn problem(args: &EvalArgs) -> Result<(RecallProblem, usize), Error> {
    let source = args.data.to_string_lossy();
    if let AnyRecipe::Language(recipe) = AnyRecipe::load(&source, &[])?
        && let LanguageSource::Recall(data) = recipe.data.source()?
    {
        let length = recipe.data.length;
        let problem = RecallProblem::new(&data, length).map_err(DataError::from)?;
        return Ok((problem, length));
    }
    let problem = format!("{source} is a recipe of another task than recall");
    Err(Error::Usage(problem))
}
