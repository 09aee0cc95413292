//! What can be wrong with a mixer.

use crate::text_form::TextFormError;

/// A mixer that cannot be read, or not be that of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixerError {
    /// The text names no mixer.
    #[error(transparent)]
    Text(#[from] TextFormError),
    /// The mixer does not fit the layer.
    #[error("layer {layer} cannot have the mixer `{mixer}`: {problem}")]
    Misfit {
        /// The mixer.
        mixer: &'static str,
        /// The layer.
        layer: usize,
        /// What is wrong.
        problem: String,
    },
}
