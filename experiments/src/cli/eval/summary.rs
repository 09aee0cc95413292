//! `kiln eval --task summary`: how good the summaries of a decoder are.

use distill::Ui;

use super::EvalArgs;
use crate::{
    backend, cli,
    data::{DataError, summary::SummaryConfig},
    error::Error,
    interrupt::Stop,
    metric::Scores,
    run::Progress,
    summarize::{SummarySearch, rouge_of},
};

/// Summaries take much more memory than the inputs of other tasks.
const BATCH_SIZE: usize = 4;

/// The ROUGE scores of the model on a split.
pub(super) fn scores(args: &EvalArgs) -> Result<Scores, Error> {
    let device = backend::open(args.device.as_deref())?;
    let folder = cli::open_decoder(&args.model, None)?;
    let tokenizer = cli::load_text_tokenizer(&folder)?;
    let positions = folder.config().decoder.positions;
    let length = args.max_length.unwrap_or(positions);
    if length > positions {
        return Err(Error::Positions {
            key: "--max-length",
            length,
            model: args.model.clone(),
            positions,
        });
    }
    let mut config = SummaryConfig::new(length);
    if let Some(tokens) = args.max_new_tokens {
        config.max_new_tokens = tokens;
    }
    if let Some(separator) = &args.separator {
        config.separator.clone_from(separator);
    }
    let format = config.init(&tokenizer).map_err(DataError::from)?;
    let examples = args.split.of_summaries().read(&args.data);
    let examples = examples.map_err(DataError::from)?;
    let stop = Stop::on_signals()?;
    let model = cli::load_decoder(&folder, &device)?;
    let search = SummarySearch {
        beams: args.beams.unwrap_or(1),
        batch_size: args.batch_size.unwrap_or(BATCH_SIZE),
    };
    let bar = Progress::new(Ui::Plain).bar("summarise", examples.len());
    let scores = rouge_of(&model, &examples, &format, search, &stop, |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(scores)
}
