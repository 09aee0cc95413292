//! Feed-forward layers of which each token passes one.
//!
//! An expert takes its tokens out of a matrix of all of them and puts its output in their place. So the
//! matrix passes from expert to expert, or is shared among them, and each token is read and written once.

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{
        Autodiff, Dispatch,
        autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
};

use super::{
    differentiable::differentiable,
    dropout::DropoutOps,
    feed_forward::{FeedForwardOps, FeedForwardOptions, FeedForwardWeights},
    layer_norm::LayerNormOps,
    primitive::Float,
};

/// An expert with the residual connection and the normalisation that it owns,
/// `LN(dropout(W2 activation(W1 a + b1) + b2) + a)` (`MoEBERT`, arXiv 2204.07675, section 3.3).
#[derive(Clone, Debug)]
pub struct ExpertWeights {
    /// `W1`, `b1`, `W2` and `b2`.
    pub feed_forward: FeedForwardWeights,
    /// The scale of the normalisation, `[D]`.
    pub gamma: Tensor<1>,
    /// The offset of the normalisation, `[D]`.
    pub beta: Tensor<1>,
    /// How the expert is computed.
    pub options: ExpertOptions,
}

/// How an expert is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertOptions {
    /// The layer between the residual connection.
    pub feed_forward: FeedForwardOptions,
    /// Probability of dropping a number before the residual connection; 0 where nothing is trained.
    pub dropout: f64,
    /// Added to the variance in the normalisation.
    pub epsilon: f64,
}

/// Each token through its expert.
///
/// An expert without tokens costs nothing and has no gradients.
///
/// # Shapes
///
/// - input and output: `[N, D]`
/// - assigned: the expert of each token, `N` entries
///
/// # Panics
///
/// If there are not `N` entries, or one of them is no index of `experts`.
pub fn expert_feed_forward(
    input: Tensor<2>,
    experts: &[ExpertWeights],
    assigned: &[usize],
) -> Tensor<2> {
    let [tokens, _] = input.dims();
    assert_eq!(assigned.len(), tokens, "each token has an expert");
    let mut rows = vec![vec![]; experts.len()];
    for (token, &expert) in assigned.iter().enumerate() {
        rows[expert].push(token);
    }
    let device = input.device();
    let filled = experts
        .iter()
        .zip(rows)
        .filter(|(_, rows)| !rows.is_empty());
    #[cfg(feature = "flex")]
    if flex::computes(&input, experts) {
        return flex::together(input, filled);
    }
    filled.fold(input, |tokens, (expert, rows)| {
        let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
        let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &device);
        let weights = expert.feed_forward.clone();
        let output = <Dispatch as ExpertFeedForwardOps>::expert_rows(
            tokens.into_dispatch(),
            weights.inner.into_dispatch(),
            weights.inner_bias.unsqueeze::<2>().into_dispatch(),
            weights.outer.into_dispatch(),
            weights.outer_bias.unsqueeze::<2>().into_dispatch(),
            expert.gamma.clone().unsqueeze::<2>().into_dispatch(),
            expert.beta.clone().unsqueeze::<2>().into_dispatch(),
            rows.into_dispatch(),
            expert.options,
        );
        Tensor::from_dispatch(output)
    })
}

/// Experts on one backend; the default bodies work on all of them. Biases, gamma and beta are `[1, F]`
/// and `[1, D]`, and `rows` are the places of an expert's tokens, in rising order and each once.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait ExpertFeedForwardOps: FeedForwardOps + DropoutOps + LayerNormOps {
    /// The tokens `[N, D]`, with those of the expert through it.
    #[allow(clippy::too_many_arguments, reason = "an expert has six tensors")]
    #[fusion(default)]
    fn expert_rows(
        tokens: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        rows: IntTensor<Self>,
        options: ExpertOptions,
    ) -> FloatTensor<Self> {
        let (output, ..) = Self::expert_rows_kept(
            tokens, inner, inner_bias, outer, outer_bias, gamma, beta, rows, options,
        );
        output
    }

    /// The same, and what the backward pass needs of the `n` tokens of the expert: themselves `[n, D]`,
    /// what the feed-forward layer keeps, the draws of dropout, and what is normalised, `[n, D]`.
    #[allow(clippy::too_many_arguments, reason = "an expert has six tensors")]
    #[allow(clippy::type_complexity, reason = "an output and four that are kept")]
    #[fusion(default)]
    fn expert_rows_kept(
        tokens: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        rows: IntTensor<Self>,
        options: ExpertOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let tokens = Float::<Self>(tokens);
        let input = tokens.take(rows.clone());
        let (output, kept) = Self::feed_forward(
            input.0.clone(),
            inner,
            inner_bias,
            outer,
            outer_bias,
            options.feed_forward,
        );
        let (output, draws) = if options.dropout > 0.0 {
            Self::dropout(output, options.dropout)
        } else {
            (output, input.0.clone())
        };
        let sum = Float::<Self>(output) + input.clone();
        let normal = Self::layer_norm_rows(sum.0.clone(), gamma, beta, options.epsilon);
        let output = tokens.put(rows, Float(normal));
        (output.0, input.0, kept, draws, sum.0)
    }

    /// The gradients of the tokens, `W1`, `b1`, `W2`, `b2`, gamma and beta, from that of the output and
    /// what was kept.
    #[allow(clippy::too_many_arguments, reason = "all that the forward pass knew")]
    #[allow(clippy::type_complexity, reason = "a gradient for each of them")]
    #[fusion(default)]
    fn expert_rows_backward(
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        input: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        draws: FloatTensor<Self>,
        sum: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        rows: IntTensor<Self>,
        options: ExpertOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let gradient = Float::<Self>(gradient);
        let to_normal = gradient.take(rows.clone());
        let (to_sum, to_gamma, to_beta) =
            Self::layer_norm_rows_backward(sum, gamma, to_normal.0, options.epsilon);
        let to_output = if options.dropout > 0.0 {
            Self::dropout_backward(to_sum.clone(), draws, options.dropout)
        } else {
            to_sum.clone()
        };
        let (to_input, to_inner, to_inner_bias, to_outer, to_outer_bias) =
            Self::feed_forward_backward(
                input,
                inner,
                inner_bias,
                outer,
                kept,
                to_output,
                options.feed_forward,
            );
        // The other tokens have passed unchanged.
        let to_tokens = gradient.put(rows, Float::<Self>(to_input) + Float(to_sum));
        (
            to_tokens.0,
            to_inner,
            to_inner_bias,
            to_outer,
            to_outer_bias,
            to_gamma,
            to_beta,
        )
    }
}

#[cfg(feature = "ndarray")]
impl ExpertFeedForwardOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl ExpertFeedForwardOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl ExpertFeedForwardOps for burn::backend::Remote {}

impl<B: ExpertFeedForwardOps, C: CheckpointStrategy> ExpertFeedForwardOps for Autodiff<B, C> {
    fn expert_rows(
        tokens: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        rows: IntTensor<Self>,
        options: ExpertOptions,
    ) -> FloatTensor<Self> {
        let nodes = [
            tokens.node(),
            inner.node(),
            inner_bias.node(),
            outer.node(),
            outer_bias.node(),
            gamma.node(),
            beta.node(),
        ];
        let (tokens, gamma, beta) = (
            tokens.into_primitive(),
            gamma.into_primitive(),
            beta.into_primitive(),
        );
        let (inner, inner_bias) = (inner.into_primitive(), inner_bias.into_primitive());
        let (outer, outer_bias) = (outer.into_primitive(), outer_bias.into_primitive());
        let (output, input, kept, draws, sum) = B::expert_rows_kept(
            tokens,
            inner.clone(),
            inner_bias.clone(),
            outer.clone(),
            outer_bias,
            gamma.clone(),
            beta,
            rows.clone(),
            options,
        );
        let saved = [inner, inner_bias, outer, gamma, input, kept, draws, sum];
        differentiable::<B, C, _, _>(
            nodes,
            output,
            (saved, rows, options),
            |(saved, rows, options), gradient| {
                let [inner, inner_bias, outer, gamma, input, kept, draws, sum] = saved;
                B::expert_rows_backward(
                    inner, inner_bias, outer, gamma, input, kept, draws, sum, gradient, rows,
                    options,
                )
                .into()
            },
        )
    }

    fn expert_rows_kept(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: ExpertOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        unreachable!("autodiff calls the passes of the backend under it")
    }

    fn expert_rows_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: ExpertOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        unreachable!("autodiff calls the passes of the backend under it")
    }
}

#[cfg(test)]
mod tests;
