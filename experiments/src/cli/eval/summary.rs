//! `kiln eval --task summary`: how good the summaries of a decoder are.

use super::{EvalArgs, EvalSplit, Judged, predictions::PredictionFile};
use crate::{
    backend, cli,
    data::{
        DataError,
        summary::{SummaryConfig, SummaryExample, SummarySplit},
    },
    error::Error,
    language::summary::SummaryJudge,
};

/// Summaries take much more memory than the inputs of other tasks.
const BATCH_SIZE: usize = 4;

impl From<EvalSplit> for SummarySplit {
    fn from(split: EvalSplit) -> Self {
        match split {
            EvalSplit::Train => Self::Train,
            EvalSplit::Dev => Self::Validation,
            EvalSplit::Test => Self::Test,
        }
    }
}

/// The scores of the model on a split ([`SummaryJudge::judge`]).
pub(super) fn judged(args: &EvalArgs) -> Result<Judged, Error> {
    let device = backend::open(args.device.as_deref())?;
    let (folder, length, saved) = args.decoder()?;
    let tokenizer = cli::load_text_tokenizer(&folder)?;
    let mut config = SummaryConfig::new(length);
    if let Some(tokens) = args.max_new_tokens.or(saved.max_new_tokens) {
        config.max_new_tokens = tokens;
    }
    if let Some(separator) = args.separator.as_ref().or(saved.separator.as_ref()) {
        config.separator.clone_from(separator);
    }
    let format = config.init(&tokenizer).map_err(DataError::from)?;
    let file = PredictionFile::new(args, "")?;
    let split = SummarySplit::from(args.split());
    let examples = match file {
        Some(_) => split.read(&args.data),
        None => split.read_answered(&args.data),
    };
    let examples = examples.map_err(DataError::from)?;
    let watch = args.watch(BATCH_SIZE)?;
    let judge = SummaryJudge {
        format,
        examples,
        beams: args.beams.or(saved.beams).unwrap_or(1),
    };
    let model = cli::load_decoder(&folder, &device)?;
    let Some(file) = file else {
        return Ok(judge.judge(&model, &watch)?.into());
    };
    let summaries = judge.summaries(&model, &watch)?;
    let ids: Vec<&str> = judge
        .examples
        .iter()
        .map(|example| example.id.as_str())
        .collect();
    file.write_summaries(&summaries, &ids)?;
    // Of texts without a summary to compare with, those that were written are what there is to say.
    if judge.examples.iter().any(SummaryExample::has_reference) {
        Ok(judge.judge_summaries(summaries, &model, &watch)?.into())
    } else {
        Ok(Judged::default())
    }
}
