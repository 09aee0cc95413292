//! The summaries that a decoder writes.

use std::ops::ControlFlow;

use masformer_core::{
    BeamConfig, Decoder, GenerateConfig, Generator, Limits, Strategy, ops::prepack,
};
use moebert_core::half::Half;

use crate::{
    data::{DataError, loader::LoaderError, summary::SummaryFormat},
    error::Error,
    interrupt::Stop,
};

/// How summaries are written.
#[derive(Clone, Copy, Debug)]
pub struct SummarySearch {
    /// The hypotheses of a beam search; with 1 the likeliest token follows.
    pub beams: usize,
    /// Texts that are read together; no effect on their summaries, up to rounding.
    pub batch_size: usize,
}

impl SummarySearch {
    fn config(self, format: &SummaryFormat, vocabulary: usize) -> GenerateConfig {
        let strategy = match self.beams {
            1 => Strategy::Greedy,
            beams => Strategy::Beam(BeamConfig::new().with_beams(beams)),
        };
        // Summaries end as those do that models are trained on here, or as the model's folder says.
        let mut stops = format.tokenizer().stop_ids(vocabulary);
        let end = format.tokenizer().end_id();
        if !stops.contains(&end) {
            stops.push(end);
        }
        GenerateConfig::new()
            .with_max_new_tokens(format.config().max_new_tokens)
            .with_strategy(strategy)
            .with_stop_tokens(stops)
    }
}

/// Lets a model summarise texts; `progress` hears how many are done.
///
/// # Errors
///
/// If the format asks for more positions or token ids than the model has, a number of the search is 0,
/// the model fails, or a stop is asked for.
pub fn summaries<S: AsRef<str>>(
    model: &Decoder<Half>,
    texts: &[S],
    format: &SummaryFormat,
    search: SummarySearch,
    stop: &Stop,
    mut progress: impl FnMut(usize),
) -> Result<Vec<String>, Error> {
    if search.batch_size == 0 {
        return Err(DataError::from(LoaderError::BatchSize).into());
    }
    let prompts = format.prompts(texts).map_err(DataError::from)?;
    let config = search.config(format, model.vocabulary());
    config.check(&prompts, &Limits::from(model))?;
    let _prepacked = prepack(model);
    let generator = Generator::new(model, &config);
    // Texts of like length are read together, the longest first, so that memory shows what it takes.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].len()));
    let mut summaries = vec![String::new(); prompts.len()];
    let mut done = 0;
    for batch in order.chunks(search.batch_size) {
        let rows: Vec<Vec<u32>> = batch.iter().map(|index| prompts[*index].clone()).collect();
        let generated = generator.generate(&rows, |_| {
            if stop.requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        stop.check()?;
        for (index, generated) in batch.iter().zip(generated) {
            summaries[*index] = format.summary(&generated.tokens);
        }
        done += batch.len();
        progress(done);
    }
    Ok(summaries)
}
