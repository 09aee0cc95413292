//! Attention with a span: projections and heads, one entry for every span.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig},
    prelude::*,
    tensor::assert_shape,
};

use crate::{feed_forward::zero_bias, span::Span};

mod full;

/// Configuration of [`SpanAttention`].
#[derive(Config, Debug)]
pub struct SpanAttentionConfig {
    /// Hidden width `D`.
    pub hidden: usize,
    /// Number of heads `H`; divides `hidden`.
    pub heads: usize,
    /// The positions that a query attends to.
    #[config(default = "Span::Full")]
    pub span: Span,
    /// Probability of dropping an attention weight in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// How the weights start.
    #[config(default = "Initializer::Normal { mean: 0.0, std: 0.02 }")]
    pub initializer: Initializer,
}

/// Multi-head scaled dot-product attention (arXiv 1706.03762, equation 1) over a [`Span`].
#[derive(Module, Debug)]
pub struct SpanAttention {
    /// Projection to queries, stored `[D, D]`.
    pub query: Linear,
    /// Projection to keys, stored `[D, D]`.
    pub key: Linear,
    /// Projection to values, stored `[D, D]`.
    pub value: Linear,
    /// Projection of the concatenated heads, stored `[D, D]`.
    pub output: Linear,
    /// Dropout of the attention weights.
    pub dropout: Dropout,
    heads: usize,
    #[module(skip)]
    span: Span,
}

impl SpanAttentionConfig {
    /// Makes the layer on a device.
    ///
    /// # Panics
    ///
    /// If `heads` does not divide `hidden`.
    pub fn init(&self, device: &Device) -> SpanAttention {
        assert!(
            self.heads > 0 && self.hidden.is_multiple_of(self.heads),
            "{} heads do not divide a hidden width of {}",
            self.heads,
            self.hidden
        );
        let linear = || {
            let config = LinearConfig::new(self.hidden, self.hidden)
                .with_initializer(self.initializer.clone());
            zero_bias(config.init(device))
        };
        SpanAttention {
            query: linear(),
            key: linear(),
            value: linear(),
            output: linear(),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            span: self.span,
        }
    }
}

impl SpanAttention {
    /// The positions that a query attends to.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Attends; the residual connection and normalisation are the block's.
    ///
    /// A query that sees no key gives zeros (before the output projection).
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - padding: `[B, T]`, true where a key is padding
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If `padding` is not `[B, T]`.
    pub fn forward(&self, input: Tensor<3>, padding: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        let [batch, length, hidden] = input.dims();
        if let Some(padding) = padding {
            assert_shape!(padding, [batch, length]);
        }
        let width = hidden / self.heads;
        let flat = input.flatten::<2>(0, 1);
        let split = |projection: &Linear| {
            projection
                .forward(flat.clone())
                .reshape([batch, length, self.heads, width])
                .swap_dims(1, 2)
        };
        let (query, key, value) = (split(&self.query), split(&self.key), split(&self.value));
        let context = match self.span {
            Span::Full => full::attend(query, key, value, padding, &self.dropout),
        };
        let context = context.swap_dims(1, 2).reshape([batch * length, hidden]);
        self.output
            .forward(context)
            .reshape([batch, length, hidden])
    }
}
