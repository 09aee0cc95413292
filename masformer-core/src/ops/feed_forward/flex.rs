//! Feed-forward layers on the flex backend, where nothing is kept.

use burn::backend::{Flex, TensorMetadata};

use super::{FeedForwardOps, FeedForwardOptions, composed};
use crate::ops::{
    flex::{FlexTensor, all_f32, in_order, tensor, zeros},
    streamed::{FEWEST, FeedForward, Layer},
};

impl FeedForwardOps for Flex {
    fn feed_forward(
        input: FlexTensor,
        inner: FlexTensor,
        inner_bias: FlexTensor,
        outer: FlexTensor,
        outer_bias: FlexTensor,
        options: FeedForwardOptions,
    ) -> (FlexTensor, FlexTensor) {
        let [tokens, hidden] = input.shape().dims();
        let weights = [inner, inner_bias, outer, outer_bias];
        let is_f32 = all_f32(&weights.each_ref()) && all_f32(&[&input]);
        let is_empty = weights
            .iter()
            .any(|weight| weight.shape().num_elements() == 0);
        if options.chunk.is_none() || !is_f32 || tokens < FEWEST || is_empty {
            return composed::<Self>(input, weights, options);
        }
        let input = in_order(input);
        let weights = weights.map(in_order);
        let [inner, inner_bias, outer, outer_bias] =
            weights.each_ref().map(FlexTensor::storage::<f32>);
        let layers = FeedForward {
            inner: Layer::new(inner, inner_bias),
            outer: Layer::new(outer, outer_bias),
            activation: options.activation,
        };
        let mut output = zeros(tokens * hidden);
        layers.apply(input.storage(), &mut output);
        (tensor(output, [tokens, hidden]), input)
    }
}
