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
    groups::Groups,
    layer_norm::LayerNormOps,
    primitive::Float,
};

/// An expert with the residual connection and the normalisation that it owns (`MoEBERT`, arXiv 2204.07675,
/// section 3.3): `LN(dropout(W2 activation(W1 a + b1) + b2) + a)` post-norm, or
/// `dropout(W2 activation(W1 LN(a) + b1) + b2) + a` pre-norm.
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
    /// Whether the normalisation comes first, of the expert's input, and not last.
    pub is_pre_norm: bool,
}

/// Each token through its expert.
///
/// An expert without tokens costs nothing and has no gradients.
///
/// # Shapes
///
/// - input and output: `[N, D]`
/// - groups: the `N` tokens by their expert
///
/// # Panics
///
/// If there are not `N` tokens in the groups, or not as many groups as experts.
pub fn expert_feed_forward(
    input: Tensor<2>,
    experts: &[ExpertWeights],
    groups: &Groups,
) -> Tensor<2> {
    let [tokens, _] = input.dims();
    let counts = groups.counts();
    assert_eq!(counts.len(), experts.len(), "a group for each expert");
    assert_eq!(
        counts.iter().sum::<usize>(),
        tokens,
        "each token has an expert"
    );
    #[cfg(feature = "flex")]
    if flex::computes(&input, experts)
        && let Some(filled) = groups.filled_on_host()
    {
        return flex::together(input, filled.map(|(group, rows)| (&experts[group], rows)));
    }
    groups.filled().fold(input, |tokens, (group, rows)| {
        let expert = &experts[group];
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

    /// The same, and what the backward pass needs of the `n` tokens of the expert: the input of the feed-forward
    /// layer `[n, D]`, what that layer keeps, the draws of dropout, and what is normalised, `[n, D]`.
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
        let residual = tokens.take(rows.clone());
        let input = if options.is_pre_norm {
            let (gamma, beta) = (gamma.clone(), beta.clone());
            let normal = Self::layer_norm_rows(residual.0.clone(), gamma, beta, options.epsilon);
            Float(normal)
        } else {
            residual.clone()
        };
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
        let sum = Float::<Self>(output) + residual.clone();
        let (result, normalized) = if options.is_pre_norm {
            (sum, residual)
        } else {
            let normal = Self::layer_norm_rows(sum.0.clone(), gamma, beta, options.epsilon);
            (Float(normal), sum)
        };
        let output = tokens.put(rows, result);
        (output.0, input.0, kept, draws, normalized.0)
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
        normalized: FloatTensor<Self>,
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
        let to_result = gradient.take(rows.clone()).0;
        let norm_backward = |normalized, to_normal| {
            Self::layer_norm_rows_backward(normalized, gamma.clone(), to_normal, options.epsilon)
        };
        let (to_sum, post_norm) = if options.is_pre_norm {
            (to_result, None)
        } else {
            let (to_sum, to_gamma, to_beta) = norm_backward(normalized.clone(), to_result);
            (to_sum, Some((to_gamma, to_beta)))
        };
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
        let (to_input, to_gamma, to_beta) = match post_norm {
            Some((to_gamma, to_beta)) => (to_input, to_gamma, to_beta),
            None => norm_backward(normalized, to_input),
        };
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
