//! One layer of a transformer: attention, then a feed-forward half of any kind.

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
    flow::{Flow, Tokens},
    mixer::{Mix, SpanAttention, SpanAttentionConfig},
    norm::{LayerNorm, LayerNormConfig, NormPlacement},
    trace::Trace,
};

/// Configuration of the attention half of a [`TransformerBlock`].
#[derive(Config, Debug)]
pub struct TransformerBlockConfig {
    /// The attention layer.
    pub attention: SpanAttentionConfig,
    /// Probability of dropping an element of the attention output in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// Added to the variance in the layer normalisation.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// Where the attention is normalised; the feed-forward half has its own place.
    #[config(default = "NormPlacement::Post")]
    pub norm_placement: NormPlacement,
}

/// Attention with its residual connection, `a = LN(x + dropout(attention(x)))` post-norm (arXiv
/// 1706.03762) or `a = x + dropout(attention(LN(x)))` pre-norm (arXiv 2002.04745), then the
/// feed-forward half, which carries its own residual connection and normalisation.
#[derive(Module, Debug)]
pub struct TransformerBlock<F: FeedForward> {
    /// The attention layer.
    pub attention: SpanAttention,
    /// Normalisation of the attention: after its residual connection, or of its input.
    pub attention_norm: LayerNorm,
    /// Dropout of the attention output.
    pub dropout: Dropout,
    /// The feed-forward half.
    pub feed_forward: F,
    #[module(skip)]
    norm_placement: NormPlacement,
}

impl TransformerBlockConfig {
    /// Makes a block around a feed-forward half.
    pub fn init<F: FeedForward>(&self, feed_forward: F, device: &Device) -> TransformerBlock<F> {
        TransformerBlock {
            attention: self.attention.init(device),
            attention_norm: LayerNormConfig::new(self.attention.hidden)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            feed_forward,
            norm_placement: self.norm_placement,
        }
    }
}

impl<F: FeedForward> TransformerBlock<F> {
    /// Applies the block and keeps its output if the trace asks for it.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - output: `[B, T, D]`
    pub fn forward(&self, input: Tensor<3>, tokens: &Tokens, trace: &mut Trace) -> Tensor<3> {
        self.around(input, tokens, None, trace)
    }

    /// [`Self::forward`] of the tokens that follow those in the cache, which takes them in.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`, the new tokens alone, as `tokens`
    /// - output: `[B, T, D]`
    pub fn forward_cached(
        &self,
        input: Tensor<3>,
        tokens: &Tokens,
        cache: &mut LayerCache,
        trace: &mut Trace,
    ) -> Tensor<3> {
        self.around(input, tokens, Some(cache), trace)
    }

    fn around(
        &self,
        input: Tensor<3>,
        tokens: &Tokens,
        cache: Option<&mut LayerCache>,
        trace: &mut Trace,
    ) -> Tensor<3> {
        let attended = self
            .norm_placement
            .residual(&self.attention_norm, input, |hidden| {
                let tokens = tokens.clone();
                let mixed = Mix::forward(&self.attention, Flow { hidden, tokens }, cache);
                dropout(&self.dropout, mixed)
            });
        let flow = Flow {
            hidden: attended,
            tokens: tokens.clone(),
        };
        let output = self.feed_forward.forward(&flow, trace);
        trace.push_hidden_state(&output);
        output
    }
}
