//! Span attention in a graph: the inputs, the output and the denominators are kept for the gradients.

use burn::backend::{
    Autodiff, AutodiffBackend, autodiff::checkpoint::strategy::CheckpointStrategy,
    tensor::FloatTensor,
};

use super::{SpanAttentionOps, SpanAttentionOptions};
use crate::ops::differentiable::differentiable;

impl<B: SpanAttentionOps, C: CheckpointStrategy> SpanAttentionOps for Autodiff<B, C> {
    fn span_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [query.node(), key.node(), value.node()];
        let (query, key) = (query.into_primitive(), key.into_primitive());
        let (value, bias) = (value.into_primitive(), bias.into_primitive());
        let (output, denominators) = B::span_attention(
            query.clone(),
            key.clone(),
            value.clone(),
            bias.clone(),
            options,
        );
        let inputs = [query, key, value, bias];
        let results = [output.clone(), denominators.clone()];
        let output = differentiable::<B, C, _, _>(
            nodes,
            output,
            (inputs, results, options),
            |([query, key, value, bias], [output, denominators], options), gradient| {
                B::span_attention_backward(
                    query,
                    key,
                    value,
                    bias,
                    output,
                    denominators,
                    gradient,
                    options,
                )
                .into()
            },
        );
        (output, Self::from_inner(denominators))
    }

    fn span_attention_output(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> FloatTensor<Self> {
        Self::span_attention(query, key, value, bias, options).0
    }

    fn span_attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}
