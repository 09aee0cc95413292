//! `kiln eval --task text`: how well a decoder predicts text.

use std::env;

use super::{EvalArgs, Judged};
use crate::{
    backend, cli,
    data::{DataError, corpus::Corpus},
    error::Error,
    language::text::{TextJudge, tokenize},
    metric::perplexity::SlidingWindows,
};

/// As many windows as recipes take.
const BATCH_SIZE: usize = 8;

/// The scores of the model on a file or folder ([`TextJudge::judge`]).
pub(super) fn judged(args: &EvalArgs) -> Result<Judged, Error> {
    let device = backend::open(args.device.as_deref())?;
    let (folder, length, saved) = args.decoder()?;
    let tokenizer = cli::load_text_tokenizer(&folder)?;
    let saved = saved.of_length(length).and_then(|saved| saved.stride);
    let stride = args.stride.or(saved);
    let stride = stride.unwrap_or_else(|| SlidingWindows::default_stride(length));
    let windows = SlidingWindows::new(length, stride).map_err(DataError::from)?;
    let corpus = Corpus::open(&args.data).map_err(DataError::from)?;
    let watch = args.watch(BATCH_SIZE)?;
    // The text may be longer than memory: its tokens go to a file, as those of a run do.
    let tokens = tempfile::tempdir().map_err(|source| Error::file(&env::temp_dir(), source))?;
    let path = tokens.path().join("text");
    let text = tokenize(&path, &corpus, &tokenizer, watch.progress).map_err(DataError::from)?;
    let model = cli::load_decoder(&folder, &device)?;
    let judge = TextJudge {
        tokenizer,
        text,
        windows,
    };
    Ok(judge.judge(&model, &watch)?.into())
}
