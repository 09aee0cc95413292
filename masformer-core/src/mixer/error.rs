//! What can be wrong with a mixer.

use crate::text_form::TextFormError;

/// A mixer that cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixerError {
    /// The text names no mixer.
    #[error(transparent)]
    Text(#[from] TextFormError),
    /// The mixer cannot be that of a decoder.
    #[error(
        "the mixer `{mixer}` of layer {layer} cannot decode: its tokens see later ones, or it has no \
         steps; decoders cannot have it"
    )]
    Decoder {
        /// The mixer.
        mixer: &'static str,
        /// The layer.
        layer: usize,
    },
}
