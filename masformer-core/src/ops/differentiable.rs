//! An operation's place in the graph of autodiff, which is the same for all of them.

use burn::backend::{
    Autodiff, Backend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, NodeGuard, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use std::fmt::Debug;

/// The output of an operation on `nodes` as a tensor that knows its gradients: those of the nodes, from
/// what was kept and the gradient of the output.
pub(super) fn differentiable<B, C, Kept, const N: usize>(
    nodes: [NodeGuard; N],
    output: FloatTensor<B>,
    kept: Kept,
    backward: fn(Kept, FloatTensor<B>) -> [FloatTensor<B>; N],
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    Kept: Clone + Debug + Send + 'static,
{
    match Step(backward)
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(kept, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct Step<B: Backend, Kept, const N: usize>(fn(Kept, FloatTensor<B>) -> [FloatTensor<B>; N]);

impl<B, Kept, const N: usize> Backward<B, N> for Step<B, Kept, N>
where
    B: Backend,
    Kept: Clone + Debug + Send + 'static,
{
    type State = Kept;

    fn backward(self, ops: Ops<Kept, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = (self.0)(ops.state, gradient);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
