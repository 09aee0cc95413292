//! What a layer mixes tokens with and attends to, as costs and pictures need it.

use std::fmt;

use super::{MixerSpec, Reach};
use crate::span::{Direction, Span, SpanCost};

/// A layer's mixer, and its span if the mixer attends to it. Layers with equal ones do the same.
///
/// The text form is that of the span for attention, otherwise the mixer's with the span behind it, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixing {
    /// The mixer.
    pub mixer: MixerSpec,
    /// What its queries attend to; `None` if it has no attention.
    pub span: Option<Span>,
}

impl Mixing {
    /// A layer with a mixer, under a span.
    pub fn new(mixer: MixerSpec, span: Span) -> Self {
        let span = mixer.reach(span).span;
        Self { mixer, span }
    }

    /// The layers of a model with these spans and mixers; without mixers, all are attention.
    ///
    /// # Panics
    ///
    /// If there are mixers, but not one for each span.
    pub fn of_layers(spans: &[Span], mixers: &[MixerSpec]) -> Vec<Self> {
        let (layers, given) = (spans.len(), mixers.len());
        assert!(
            given == 0 || given == layers,
            "{given} mixers for {layers} layers"
        );
        let mixer = |layer: usize| mixers.get(layer).cloned().unwrap_or_default();
        let layers = spans.iter().enumerate();
        layers
            .map(|(layer, span)| Self::new(mixer(layer), *span))
            .collect()
    }

    /// What the attention of such layers costs for a sequence of `length`.
    pub fn cost(layers: &[Self], direction: Direction, length: usize) -> SpanCost {
        let spans: Vec<Span> = layers.iter().filter_map(|layer| layer.span).collect();
        let full = Span::Full.pairs(direction, length);
        SpanCost {
            full_pairs: full.saturating_mul(layers.len() as u64),
            ..SpanCost::of(&spans, direction, length)
        }
    }

    /// Whether all tokens reach a query through a state or another summary of them.
    pub fn is_summarised(&self) -> bool {
        let Reach { is_summarised, .. } = self.mixer.reach(self.span.unwrap_or_default());
        is_summarised
    }
}

impl fmt::Display for Mixing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mixer, self.span) {
            (mixer, Some(span)) if *mixer == MixerSpec::default() => span.fmt(f),
            (mixer, Some(span)) => write!(f, "{mixer} {span}"),
            (mixer, None) => mixer.fmt(f),
        }
    }
}
