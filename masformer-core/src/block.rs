//! One layer of a transformer: attention, then a feed-forward half of any kind.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig},
    prelude::*,
};

use crate::{
    attention::{SpanAttention, SpanAttentionConfig},
    feed_forward::{FeedForward, Tokens},
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
}

/// A post-norm block (arXiv 1706.03762): `a = LN(x + dropout(attention(x)))`, then the feed-forward
/// half, which carries its own residual connection and normalisation.
#[derive(Module, Debug)]
pub struct TransformerBlock<F: FeedForward> {
    /// The attention layer.
    pub attention: SpanAttention,
    /// Normalisation after the attention's residual connection.
    pub attention_norm: LayerNorm,
    /// Dropout of the attention output.
    pub dropout: Dropout,
    /// The feed-forward half.
    pub feed_forward: F,
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
        let attended = self
            .attention
            .forward(input.clone(), tokens.padding.as_ref());
        let attended = self.dropout.forward(attended);
        let attended = self.attention_norm.forward(attended + input);
        let output = self.feed_forward.forward(attended, tokens, trace);
        trace.push_hidden_state(&output);
        output
    }
}
