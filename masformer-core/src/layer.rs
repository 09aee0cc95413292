//! One layer of a model: a mixer, then a feed-forward half of any kind.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig},
    prelude::*,
};

use crate::{
    cache::LayerCache,
    dropout::dropout,
    feed_forward::FeedForward,
    flow::Flow,
    mixer::{Mix, SpanAttention, SpanAttentionConfig},
    norm::{LayerNorm, LayerNormConfig, NormPlacement},
    trace::Trace,
};

/// Configuration of a [`Layer`], but for its feed-forward half.
#[derive(Config, Debug)]
pub struct LayerConfig {
    /// The mixer.
    pub mixer: SpanAttentionConfig,
    /// Probability of dropping an element of the mixer's output in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// Added to the variance in the layer normalisation.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// Where the mixer is normalised; the feed-forward half has a placement of its own.
    #[config(default = "NormPlacement::Post")]
    pub norm_placement: NormPlacement,
}

/// A mixer with its residual connection, `a = LN(x + dropout(mixer(x)))` post-norm (arXiv 1706.03762) or
/// `a = x + dropout(mixer(LN(x)))` pre-norm (arXiv 2002.04745), then the feed-forward half, which carries
/// its own residual connection and normalisation.
#[derive(Module, Debug)]
pub struct Layer<F: FeedForward> {
    /// What the layer mixes tokens with.
    pub mixer: SpanAttention,
    /// Normalisation of the mixer: after its residual connection, or of its input.
    pub mixer_norm: LayerNorm,
    /// Dropout of the mixer's output.
    pub dropout: Dropout,
    /// The feed-forward half.
    pub feed_forward: F,
    #[module(skip)]
    norm_placement: NormPlacement,
}

impl LayerConfig {
    /// Makes a layer around a feed-forward half.
    pub fn init<F: FeedForward>(&self, feed_forward: F, device: &Device) -> Layer<F> {
        Layer {
            mixer: self.mixer.init(device),
            mixer_norm: LayerNormConfig::new(self.mixer.hidden)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            feed_forward,
            norm_placement: self.norm_placement,
        }
    }
}

impl<F: FeedForward> Layer<F> {
    /// Applies the layer to whole sequences or, with a cache, to the tokens that follow those in it.
    ///
    /// # Panics
    ///
    /// As [`Mix::forward`].
    pub fn forward(&self, flow: Flow, cache: Option<&mut LayerCache>, trace: &mut Trace) -> Flow {
        let Flow { hidden, tokens } = flow;
        let mixed = self
            .norm_placement
            .residual(&self.mixer_norm, hidden, |hidden| {
                let tokens = tokens.clone();
                let mixed = Mix::forward(&self.mixer, Flow { hidden, tokens }, cache);
                dropout(&self.dropout, mixed)
            });
        let flow = Flow {
            hidden: mixed,
            tokens,
        };
        let hidden = self.feed_forward.forward(&flow, trace);
        Flow { hidden, ..flow }
    }
}
