//! A dense feed-forward layer as one operation, `activation(x W1 + b1) W2 + b2`.
//!
//! Of the two tensors `[N, F]` between the matrices, the backward pass needs the one before the
//! activation. It is either kept, or computed again for a chunk of tokens at a time (Blockwise Parallel
//! Transformer, arXiv 2305.19370, section 3), so that memory grows by `D` and not by `F` a token.

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Dispatch, autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension, tensor::FloatTensor,
    },
    prelude::*,
};

use super::{
    activation::ActivationOps,
    differentiable::differentiable,
    primitive::{Float, ranges},
    product::ProductOps,
};
use crate::activation::Activation;

/// The chunk where nothing has to be kept and none is asked for.
const CHUNK: usize = 1024;

/// The weights of a feed-forward layer.
#[derive(Clone, Debug)]
pub struct FeedForwardWeights {
    /// `W1`, `[D, F]`.
    pub inner: Tensor<2>,
    /// `b1`, `[F]`.
    pub inner_bias: Tensor<1>,
    /// `W2`, `[F, D]`.
    pub outer: Tensor<2>,
    /// `b2`, `[D]`.
    pub outer_bias: Tensor<1>,
}

/// How a feed-forward layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedForwardOptions {
    /// The function between the two matrices.
    pub activation: Activation,
    /// Tokens in a chunk, whose activations are computed again in the backward pass; `None` to keep
    /// those of all.
    pub chunk: Option<usize>,
}

/// `activation(input W1 + b1) W2 + b2`.
///
/// # Shapes
///
/// - input and output: `[N, D]`
pub fn feed_forward(
    input: Tensor<2>,
    weights: FeedForwardWeights,
    options: FeedForwardOptions,
) -> Tensor<2> {
    let options = FeedForwardOptions {
        chunk: match options.chunk {
            // Nobody comes back for what would be kept.
            None if !input.device().is_autodiff() => Some(CHUNK),
            chunk => chunk,
        },
        ..options
    };
    let (output, _) = <Dispatch as FeedForwardOps>::feed_forward(
        input.into_dispatch(),
        weights.inner.into_dispatch(),
        weights.inner_bias.unsqueeze::<2>().into_dispatch(),
        weights.outer.into_dispatch(),
        weights.outer_bias.unsqueeze::<2>().into_dispatch(),
        options,
    );
    Tensor::from_dispatch(output)
}

/// Feed-forward layers on one backend; the default bodies work on all of them. Biases are `[1, F]` and
/// `[1, D]`.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait FeedForwardOps: ActivationOps + ProductOps {
    /// The output, and `input W1` `[N, F]` if the options keep it; otherwise the input again.
    #[fusion(default)]
    fn feed_forward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        options: FeedForwardOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::<Self>(input, [inner, inner_bias, outer, outer_bias], options)
    }

    /// The gradients of input, `W1`, `b1`, `W2` and `b2`, from that of the output and what was kept.
    #[allow(clippy::too_many_arguments, reason = "all that the forward pass knew")]
    #[allow(clippy::type_complexity, reason = "a gradient for each of them")]
    #[fusion(default)]
    fn feed_forward_backward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: FeedForwardOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let (input, inner) = (Float::<Self>(input), Float::<Self>(inner));
        let (outer, gradient) = (Float::<Self>(outer), Float::<Self>(gradient));
        let [tokens, _] = input.dims();
        let mut kept = options.chunk.is_none().then_some(Float::<Self>(kept));
        let mut to_input = vec![];
        let mut to_weights: Option<[Float<Self>; 3]> = None;
        for rows in ranges(tokens, options.chunk.unwrap_or(tokens)) {
            let (input, gradient) = (input.rows(&rows), gradient.rows(&rows));
            let pre = kept.take();
            let pre = pre.unwrap_or_else(|| input.clone().times(inner.clone()));
            let to_activated = gradient.clone().times(outer.clone().transpose());
            let (activated, to_pre) = Self::bias_activation_again(
                pre.0,
                inner_bias.clone(),
                to_activated.0,
                options.activation,
            );
            let (activated, to_pre) = (Float::<Self>(activated), Float::<Self>(to_pre));
            let (activated, input) = (activated.transpose(), input.transpose());
            let bias = to_pre.clone().sum_dim(0);
            to_weights = Some(match to_weights {
                None => [input.times(to_pre.clone()), bias, activated.times(gradient)],
                Some([to_inner, to_bias, to_outer]) => [
                    to_inner.plus_product(input, to_pre.clone()),
                    to_bias + bias,
                    to_outer.plus_product(activated, gradient),
                ],
            });
            to_input.push(to_pre.times(inner.clone().transpose()));
        }
        let [to_inner, to_bias, to_outer] = to_weights.expect("there is one range at least");
        (
            Float::cat(to_input, 0).0,
            to_inner.0,
            to_bias.0,
            to_outer.0,
            gradient.sum_dim(0).0,
        )
    }
}

/// [`FeedForwardOps::feed_forward`] of a backend's own products.
fn composed<B: FeedForwardOps>(
    input: FloatTensor<B>,
    [inner, inner_bias, outer, outer_bias]: [FloatTensor<B>; 4],
    options: FeedForwardOptions,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (input, inner) = (Float::<B>(input), Float::<B>(inner));
    let (outer, outer_bias) = (Float::<B>(outer), Float::<B>(outer_bias));
    let after = |pre: Float<B>| {
        let activated = B::bias_activation(pre.0, inner_bias.clone(), options.activation);
        outer_bias
            .clone()
            .plus_product(Float(activated), outer.clone())
    };
    let Some(chunk) = options.chunk else {
        let pre = input.times(inner);
        return (after(pre.clone()).0, pre.0);
    };
    let [tokens, _] = input.dims();
    let outputs = ranges(tokens, chunk)
        .map(|rows| after(input.rows(&rows).times(inner.clone())))
        .collect();
    (Float::cat(outputs, 0).0, input.0)
}

#[cfg(feature = "ndarray")]
impl FeedForwardOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl FeedForwardOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl FeedForwardOps for burn::backend::Remote {}

impl<B: FeedForwardOps, C: CheckpointStrategy> FeedForwardOps for Autodiff<B, C> {
    fn feed_forward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        options: FeedForwardOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [
            input.node(),
            inner.node(),
            inner_bias.node(),
            outer.node(),
            outer_bias.node(),
        ];
        let (input, inner) = (input.into_primitive(), inner.into_primitive());
        let (inner_bias, outer) = (inner_bias.into_primitive(), outer.into_primitive());
        let (output, kept) = B::feed_forward(
            input.clone(),
            inner.clone(),
            inner_bias.clone(),
            outer.clone(),
            outer_bias.into_primitive(),
            options,
        );
        let output = differentiable::<B, C, _, _>(
            nodes,
            output,
            ([input, inner, inner_bias, outer, kept.clone()], options),
            |([input, inner, inner_bias, outer, kept], options), gradient| {
                B::feed_forward_backward(input, inner, inner_bias, outer, kept, gradient, options)
                    .into()
            },
        );
        (output, Self::from_inner(kept))
    }

    fn feed_forward_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FeedForwardOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{ACTIVATIONS, activate, assert_same, multiplies_empty, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn kept_and_recomputed_layers_equal_the_definition(
            tokens in 0..40_usize,
            hidden in 1..20_usize,
            width in 1..40_usize,
            chunk in prop::option::of(1..50_usize),
            activation in prop::sample::select(ACTIVATIONS.as_slice()),
        ) {
            let device = Device::default().autodiff();
            prop_assume!(tokens > 0 || multiplies_empty(&device));
            let inputs = [[tokens, hidden], [hidden, width], [1, width], [width, hidden], [1, hidden]]
                .map(|shape| random(shape, &device) * 0.5);
            let options = FeedForwardOptions { activation, chunk };
            assert_same(
                &inputs,
                |[input, inner, inner_bias, outer, outer_bias]| {
                    let weights = FeedForwardWeights {
                        inner,
                        inner_bias: inner_bias.flatten(0, 1),
                        outer,
                        outer_bias: outer_bias.flatten(0, 1),
                    };
                    feed_forward(input, weights, options)
                },
                |[input, inner, inner_bias, outer, outer_bias]| {
                    let pre = input.matmul(inner) + inner_bias;
                    activate(pre, activation).matmul(outer) + outer_bias
                },
            );
        }
    }
}
