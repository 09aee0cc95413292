//! Span attention in a graph: the inputs, the output and the denominators are kept for the gradients.

use burn::backend::{
    Autodiff, AutodiffBackend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use super::{SpanAttentionOps, SpanAttentionOptions};

impl<B: SpanAttentionOps, C: CheckpointStrategy> SpanAttentionOps for Autodiff<B, C> {
    fn span_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct SpanAttentionBackward;

        impl<B: SpanAttentionOps> Backward<B, 3> for SpanAttentionBackward {
            type State = ([FloatTensor<B>; 6], SpanAttentionOptions);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = grads.consume::<B>(&ops.node);
                let ([query, key, value, bias, output, denominators], options) = ops.state;
                let (query, key, value) = B::span_attention_backward(
                    query,
                    key,
                    value,
                    bias,
                    output,
                    denominators,
                    gradient,
                    options,
                );
                for (node, gradient) in ops.parents.into_iter().zip([query, key, value]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

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
        let tracked = match SpanAttentionBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = [
                    query,
                    key,
                    value,
                    bias,
                    output.clone(),
                    denominators.clone(),
                ];
                prep.finish((saved, options), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (tracked, Self::from_inner(denominators))
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
