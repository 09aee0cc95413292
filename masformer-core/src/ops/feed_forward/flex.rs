//! Feed-forward layers on the flex backend, where nothing is kept.

use burn::backend::{Flex, TensorMetadata};

use super::{FeedForwardOps, FeedForwardOptions, composed};
use crate::ops::{
    flex::{FlexTensor, all_f32, in_order, tensor, zeros},
    streamed::{FeedForward, LayerTensors, streams},
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
        let keeps = options.chunk.is_none();
        if keeps || !is_f32 || is_empty || !streams(tokens, &[&weights[0], &weights[2]]) {
            return composed::<Self>(input, weights, options);
        }
        let input = in_order(input);
        let [inner, inner_bias, outer, outer_bias] = weights;
        let [inner, outer] = [(inner, inner_bias), (outer, outer_bias)]
            .map(|(weight, bias)| LayerTensors::new(weight, bias));
        let layers = FeedForward {
            inner: inner.layer(),
            outer: outer.layer(),
            activation: options.activation,
        };
        let mut output = zeros(tokens * hidden);
        layers.apply(input.storage(), &mut output);
        (tensor(output, [tokens, hidden]), input)
    }
}
