//! `kiln eval --task recall`: what a decoder recalls in the sequences that a recipe describes.

use super::{EvalArgs, Judged};
use crate::{
    backend, cli,
    cli::decoder_task::{check_vocabulary, recall_problem},
    error::Error,
    language::LanguageProblem,
};

const BATCH_SIZE: usize = 32;

/// The shares recalled.
pub(super) fn judged(args: &EvalArgs) -> Result<Judged, Error> {
    let device = backend::open(args.device.as_deref())?;
    let folder = args.variant.decoder(&args.model)?;
    let (problem, length) = recall_problem(&args.data)?;
    let folder = args.variant.lengthen(folder, length)?;
    check_vocabulary(&args.data, &problem, &folder)?;
    let watch = args.watch(BATCH_SIZE)?;
    let model = cli::load_decoder(&folder, &device)?;
    Ok(problem.judge(&model, &watch)?.into())
}
