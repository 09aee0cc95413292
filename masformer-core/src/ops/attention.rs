//! Attention with a span, tile by tile: no tensor of queries by keys exists, forward or backward.
//!
//! The softmax is taken online, over one tile of keys after the other (Milakov and Gimelshein, arXiv
//! 1805.02867), and the backward pass computes each tile's weights again from the logarithm of the
//! softmax's denominator (Blockwise Parallel Transformer, arXiv 2305.19370; `FlashAttention`, arXiv
//! 2205.14135), so that memory grows linearly with the number of tokens for every span.

mod autodiff;
mod composed;
mod draws;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod kernel;
mod received;

use std::ops::Range;

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    prelude::*,
};

pub use received::attention_received;

use super::tiles::Tiles;
use crate::span::{Direction, Span};

/// What is added to the score of a hidden pair: its weight is zero in float32 and bfloat16.
const HIDDEN: f64 = -1e30;
/// The least maximum of a row. It is far above [`HIDDEN`], so that a row that sees no key sums to
/// zero, and far below any score.
const FLOOR: f64 = -1e20;
/// The least sum of a row, for those that see no key.
const TINY: f64 = 1e-30;

/// How queries and keys meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanAttentionOptions {
    /// The keys that a query may see.
    pub span: Span,
    /// Whether it may see what comes after it.
    pub direction: Direction,
    /// The factor on the scores.
    pub scale: f64,
    /// Dropout of the attention weights.
    pub dropout: Option<WeightDropout>,
}

/// Dropout whose draws can be repeated, so that the backward pass need not store them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightDropout {
    /// The probability of dropping a weight, from 0 to below 1.
    pub prob: f64,
    /// The seed of the draws.
    pub seed: u64,
}

/// Attention with a span: `softmax(scale Q K^T + M) V`, where `M` hides what the span does not allow.
///
/// The queries are the last `T` of the `S` positions. A query that sees no key gives zeros.
///
/// # Shapes
///
/// - query: `[B, H, T, d]`
/// - key, value: `[B, H, S, d]`, `S` at least `T`
/// - padding: `[B, S]`, true where a key is padding
/// - output: `[B, H, T, d]`
///
/// # Panics
///
/// If there are more queries than keys.
pub fn span_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    options: SpanAttentionOptions,
) -> Tensor<4> {
    let device = query.device();
    let [batch, _, queries, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    assert!(
        queries <= keys,
        "{queries} queries for {keys} keys; there must be a key for each query"
    );
    let bias = match padding {
        Some(padding) => {
            let bias: Tensor<2> = padding.clone().float() * HIDDEN;
            bias.reshape([batch, 1, 1, keys])
        }
        None => Tensor::zeros([1, 1, 1, 1], &device),
    };
    let output = <Dispatch as SpanAttentionOps>::span_attention_output(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        bias.into_dispatch(),
        options,
    );
    Tensor::from_dispatch(output)
}

/// Number of pairs of a query and a key whose scores [`span_attention`] computes on a device, for one head
/// of a sequence: those of [`Span::pairs`] and what tiles have at their edges besides.
///
/// On Burn's flex backend, these are at most 100 pairs per query, depending on the width of the machine's vectors. On other backends, a
/// window of `W` has at most three cells more, and a block at most `W` and three cells; a cell has 256 keys, or `W` if that
/// is less, but at least 32.
pub fn computed_pairs(span: Span, direction: Direction, length: usize, device: &Device) -> u64 {
    #[cfg(feature = "flex")]
    {
        let device = device.clone().without_autodiff();
        if matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_)) {
            return kernel::computed_pairs(span, direction, length);
        }
    }
    #[cfg(not(feature = "flex"))]
    let _ = device;
    Tiles::new(span, direction, length, length).pairs()
}

/// Attention with a span on one backend; the default body works on all of them.
///
/// `bias` is `[B, 1, 1, S]`, added to the scores, or `[1, 1, 1, 1]` where there is none.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait SpanAttentionOps: Backend {
    /// The output `[B, H, T, d]`, and the logarithm of each row's denominator `[B, H, T, 1]`.
    #[fusion(default)]
    fn span_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::forward::<Self>([query, key, value, bias], options)
    }

    /// The output alone.
    #[fusion(default)]
    fn span_attention_output(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> FloatTensor<Self> {
        composed::output::<Self>([query, key, value, bias], options)
    }

    /// The gradients of query, key and value.
    #[allow(clippy::too_many_arguments, reason = "all that the forward pass knew")]
    #[fusion(default)]
    fn span_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        denominators: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = [query, key, value, bias];
        composed::backward::<Self>(inputs, [output, denominators, gradient], options)
    }

    /// What dropout multiplies the weights of some `rows` of queries and some `keys` by,
    /// `[B, H, rows, keys]`: 0, or the inverse of the kept share. Of the query `[B, H, T, d]` only batch,
    /// heads, type and device count.
    #[fusion(default)]
    fn kept_weights(
        query: FloatTensor<Self>,
        dropout: WeightDropout,
        rows: Range<usize>,
        keys: Range<usize>,
    ) -> FloatTensor<Self> {
        draws::kept::<Self>(query, dropout, &rows, &keys)
    }
}

#[cfg(feature = "ndarray")]
impl SpanAttentionOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl SpanAttentionOps for burn::backend::Cube {
    fn kept_weights(
        query: FloatTensor<Self>,
        dropout: WeightDropout,
        rows: Range<usize>,
        keys: Range<usize>,
    ) -> FloatTensor<Self> {
        draws::kept_on_device::<Self>(query, dropout, &rows, &keys)
    }
}
#[cfg(feature = "remote")]
impl SpanAttentionOps for burn::backend::Remote {}

#[cfg(test)]
mod tests;
