//! What language models are trained on and judged by: one file a task.

pub mod recall;
pub mod summary;
pub mod text;

use std::{path::Path, sync::Arc};

use burn::data::dataset::Dataset;
use masformer_core::Decoder;
use moebert_core::half::Half;

use crate::{
    data::language::Sequence, error::Error, interrupt::Stop, predictions::Judgement, run::Progress,
};

/// A task of a language model, its data at hand.
pub trait LanguageProblem {
    /// Number of token ids `V`.
    fn vocabulary(&self) -> usize;

    /// The folder with the tokenizer's files, if text is tokenized.
    fn tokenizer_dir(&self) -> Option<&Path>;

    /// The token that fills shorter sequences of a batch up.
    fn pad_id(&self) -> u32;

    /// The sequences to train on.
    fn train(&self) -> Arc<dyn Dataset<Sequence>>;

    /// The sequences to validate on after each epoch.
    fn dev(&self) -> Arc<dyn Dataset<Sequence>>;

    /// Whether sequences ask for single tokens, each an answer that is right or wrong.
    fn has_answers(&self) -> bool;

    /// The scores of a model on the data to judge by, with its answers.
    ///
    /// # Errors
    ///
    /// If the data cannot be read, a result is not finite, or a stop is asked for.
    fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error>;

    /// The scores that the table shows, in its order.
    fn columns(&self) -> &'static [&'static str];
}

/// How a judgement is watched and stopped.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Windows or sequences a forward pass.
    pub batch_size: usize,
    /// Shows how far it is.
    pub progress: Progress,
    /// Asks for a stop.
    pub stop: Stop,
}
