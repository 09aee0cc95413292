//! What can be wrong with a schedule.

use super::Placement;
use crate::{
    mixer::MixerError,
    span::{Span, SpanError},
};

/// A schedule that cannot be read, or does not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There are no words in a schedule of spans.
    #[error(
        "an empty span schedule: expected a span such as `full` or `window:256`, \
         or a placement and a local span such as `bottom:4 window:256`"
    )]
    Empty,
    /// A word is neither a placement nor a span.
    #[error(
        "unknown word `{0}` in a span schedule: expected a placement (`bottom:N`, `top:N`, \
         `middle:N`, `even:N`, `every:K`, `every:K+S` or `layers:I,J,...`) or a span (`full`, \
         `window:W`, `window:W+SINKS` or `block:W`)"
    )]
    Unknown(String),
    /// The numbers of a placement are missing or make no sense.
    #[error("`{word}` in a schedule: expected {expected}")]
    Numbers {
        /// The placement.
        word: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A span cannot be read.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// Two words say which layers are full.
    #[error("both `{0}` and `{1}` say which layers have full attention: expected one placement")]
    TwoPlacements(Placement, Placement),
    /// Two words are spans.
    #[error("both `{0}` and `{1}` are spans: expected one, for the layers without full attention")]
    TwoSpans(Span, Span),
    /// Full attention is given as the local span.
    #[error(
        "`{0} full` has no local span: expected `full` alone, or `{0}` with `window:W` or `block:W`"
    )]
    NotLocal(Placement),
    /// A layer is listed twice.
    #[error("`{placement}` names layer {layer} more than once: expected each layer once")]
    Repeated {
        /// The list.
        placement: Placement,
        /// The layer.
        layer: usize,
    },
    /// More layers are named than there are.
    #[error("`{placement}` asks for more layers than the model has: expected at most {layers}")]
    TooMany {
        /// What asks for them.
        placement: Placement,
        /// Layers of the model.
        layers: usize,
    },
    /// A listed layer does not exist.
    #[error(
        "`{placement}` names layer {layer} of a model with {layers} layers: \
         expected numbers from 0 and below {layers}"
    )]
    Outside {
        /// The list.
        placement: Placement,
        /// The layer.
        layer: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// Some layers have no span.
    #[error(
        "`{placement}` leaves {local} of {layers} layers without a span: \
         expected a local one too, such as `{placement} window:256`"
    )]
    NoLocal {
        /// Which layers are full.
        placement: Placement,
        /// Number of the others.
        local: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// A part of a schedule of mixers has no mixer, or more words than a placement and a mixer.
    #[error(
        "`{0}` in a schedule of mixers: expected a mixer, or a placement and a mixer such as \
         `bottom:1 NAME`; parts are separated by `;`"
    )]
    MixerPart(String),
    /// A mixer cannot be read.
    #[error(transparent)]
    Mixer(#[from] MixerError),
    /// Two parts of a schedule of mixers name one layer.
    #[error(
        "both `{first}` and `{second}` are the mixer of layer {layer}: expected one mixer per layer"
    )]
    TwoMixers {
        /// The layer.
        layer: usize,
        /// The mixer of the part that comes first.
        first: String,
        /// The mixer of the other part.
        second: String,
    },
}
