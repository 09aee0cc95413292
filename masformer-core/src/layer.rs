//! One layer of a model: a mixer, then a feed-forward half of any kind.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig},
    prelude::*,
};

use crate::{
    dropout::dropout,
    feed_forward::FeedForward,
    flow::Flow,
    mixer::{Mix, Mixer, MixerCache, MixerSpec, SpanAttentionConfig},
    norm::{LayerNorm, LayerNormConfig, NormPlacement},
    span::Span,
    trace::Trace,
};

/// Configuration of a [`Layer`], but for its feed-forward half.
#[derive(Config, Debug)]
pub struct LayerConfig {
    /// Span attention as this layer would have it; each mixer takes of it what it needs.
    pub attention: SpanAttentionConfig,
    /// How the mixer is made.
    #[config(default = "MixerSpec::default()")]
    pub mixer: MixerSpec,
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
    pub mixer: Mixer,
    /// Normalisation of the mixer: after its residual connection, or of its input.
    pub mixer_norm: LayerNorm,
    /// Dropout of the mixer's output.
    pub dropout: Dropout,
    /// The feed-forward half.
    pub feed_forward: F,
    #[module(skip)]
    norm_placement: NormPlacement,
    #[module(skip)]
    span: Span,
    #[module(skip)]
    spec: MixerSpec,
}

impl LayerConfig {
    /// Makes a layer around a feed-forward half.
    pub fn init<F: FeedForward>(&self, feed_forward: F, device: &Device) -> Layer<F> {
        Layer {
            mixer: self.mixer.init(&self.attention, device),
            mixer_norm: LayerNormConfig::new(self.attention.hidden)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            feed_forward,
            norm_placement: self.norm_placement,
            span: self.attention.span,
            spec: self.mixer.clone(),
        }
    }
}

impl<F: FeedForward> Layer<F> {
    /// The span that the layer was configured with, whether or not its mixer attends to it.
    pub fn span(&self) -> Span {
        self.span
    }

    /// How its mixer was made.
    pub fn spec(&self) -> &MixerSpec {
        &self.spec
    }

    /// The layer with another feed-forward half.
    ///
    /// # Errors
    ///
    /// Those of `half`.
    pub fn with_half<G: FeedForward, E>(
        self,
        half: impl FnOnce(F) -> Result<G, E>,
    ) -> Result<Layer<G>, E> {
        Ok(Layer {
            mixer: self.mixer,
            mixer_norm: self.mixer_norm,
            dropout: self.dropout,
            feed_forward: half(self.feed_forward)?,
            norm_placement: self.norm_placement,
            span: self.span,
            spec: self.spec,
        })
    }

    /// Applies the layer to whole sequences or, with a cache, to the tokens that follow those in it.
    ///
    /// # Panics
    ///
    /// As [`Mix::forward`].
    pub fn forward(&self, flow: Flow, cache: Option<&mut MixerCache>, trace: &mut Trace) -> Flow {
        let Flow { hidden, tokens } = flow;
        let mixed = self
            .norm_placement
            .residual(&self.mixer_norm, hidden, |hidden| {
                let tokens = tokens.clone();
                let mixed = Mix::forward(&self.mixer, Flow { hidden, tokens }, cache, trace);
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
