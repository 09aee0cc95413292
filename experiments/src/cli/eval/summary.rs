//! `kiln eval --task summary`: how good the summaries of a decoder are.

use distill::Ui;

use super::EvalArgs;
use crate::{
    backend, cli,
    data::{DataError, summary::SummaryConfig},
    error::Error,
    interrupt::Stop,
    language::{Watch, summary::SummaryJudge},
    metric::Scores,
    run::Progress,
};

/// Summaries take much more memory than the inputs of other tasks.
const BATCH_SIZE: usize = 4;

/// The scores of the model on a split ([`SummaryJudge::scores`]).
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
    let judge = SummaryJudge {
        format,
        examples,
        beams: args.beams.unwrap_or(1),
    };
    judge.scores(
        &model,
        &Watch {
            batch_size: args.batch_size.unwrap_or(BATCH_SIZE),
            progress: Progress::new(Ui::Plain),
            stop,
        },
    )
}
