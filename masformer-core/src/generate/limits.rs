//! What a model can take.

use crate::{
    decoder::{Decoder, DecoderConfig},
    feed_forward::FeedForward,
    position::PositionEncoding,
    span::Span,
};

/// What a decoder can take, as far as a generation depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of token ids `V`.
    pub vocabulary: usize,
    /// The longest sequence.
    pub positions: usize,
    /// Whether its positions are rotations, not a table.
    pub is_rotary: bool,
    /// What each layer attends to.
    pub spans: Vec<Span>,
}

impl From<&DecoderConfig> for Limits {
    fn from(config: &DecoderConfig) -> Self {
        Self {
            vocabulary: config.vocabulary,
            positions: config.positions,
            is_rotary: matches!(config.position_encoding, PositionEncoding::Rotary { .. }),
            spans: config.spans.clone(),
        }
    }
}

impl<F: FeedForward> From<&Decoder<F>> for Limits {
    fn from(model: &Decoder<F>) -> Self {
        Self {
            vocabulary: model.vocabulary(),
            positions: model.positions(),
            is_rotary: model.position.is_none(),
            spans: model.spans(),
        }
    }
}
