//! Cross entropy from logits, and from hidden states without ever holding their logits.
//!
//! A language model's logits `[N, V]` are its largest tensor by far. Where the last layer is a product
//! with the embedding `[V, D]`, [`linear_cross_entropy`] makes them for a chunk of tokens at a time, and
//! again in the backward pass, from the logarithm of the softmax's denominator of each token. Where all
//! tokens count the same, [`linear_cross_entropy_mean`] makes them once: with the logits of a chunk at
//! hand, it makes their gradients as well (Liger Kernel, arXiv 2410.10989, `FusedLinearCrossEntropy`).

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Backend, Dispatch,
        autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::Slice,
};
use std::ops::Range;

use super::{
    differentiable::differentiable,
    primitive::{Float, pick, ranges},
    product::ProductOps,
};

/// The most logits that exist at a time, as long as a chunk has [`FEWEST_TOKENS`].
const LOGITS: usize = 1 << 22;
/// The shortest chunk of tokens: a product with fewer rows would mostly read the head.
const FEWEST_TOKENS: usize = 256;

/// The negative log-likelihood of each target, `-log softmax(logits)[target]`.
///
/// It is 0 where the target is negative, as `PyTorch`'s `ignore_index` of -100 is.
///
/// # Shapes
///
/// - logits: `[N, V]`
/// - targets: `[N]`, below `V`
/// - output: `[N]`
///
/// # Panics
///
/// If there is not one target a row, or a target is `V` or more.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    assert_targets(rows, &targets);
    let (losses, _) = <Dispatch as CrossEntropyOps>::cross_entropy(
        logits.into_dispatch(),
        targets.reshape([rows, 1]).into_dispatch(),
    );
    Tensor::<2>::from_dispatch(losses).reshape([rows])
}

/// [`cross_entropy`] of the logits `hidden head^T`, which are never held as a whole.
///
/// # Shapes
///
/// - hidden: `[N, D]`
/// - head: `[V, D]`, as an embedding is stored
/// - targets: `[N]`, below `V`
/// - output: `[N]`
///
/// # Panics
///
/// If there is not one target a row, or a target is `V` or more.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    assert_targets(rows, &targets);
    let (losses, _) = <Dispatch as CrossEntropyOps>::linear_cross_entropy(
        hidden.into_dispatch(),
        head.into_dispatch(),
        targets.reshape([rows, 1]).into_dispatch(),
    );
    Tensor::<2>::from_dispatch(losses).reshape([rows])
}

/// The mean of [`linear_cross_entropy`] over all tokens, in training with a quarter less work: its forward
/// pass makes the gradients, too, and its backward pass scales them. They are as large as both inputs.
///
/// # Shapes
///
/// - hidden: `[N, D]`
/// - head: `[V, D]`, as an embedding is stored
/// - targets: `[N]`, below `V`
/// - output: `[1]`; 0 if there are no tokens
///
/// # Panics
///
/// If there is not one target a row, or a target is `V` or more.
pub fn linear_cross_entropy_mean(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    if rows == 0 || !(hidden.is_tracked() || head.is_tracked()) {
        return linear_cross_entropy(hidden, head, targets).sum() / rows.max(1) as f64;
    }
    assert_targets(rows, &targets);
    let (mean, ..) = <Dispatch as CrossEntropyOps>::linear_cross_entropy_mean(
        hidden.into_dispatch(),
        head.into_dispatch(),
        targets.reshape([rows, 1]).into_dispatch(),
    );
    Tensor::<2>::from_dispatch(mean).reshape([1])
}

fn assert_targets(rows: usize, targets: &Tensor<1, Int>) {
    let [count] = targets.dims();
    assert!(count == rows, "{count} targets for {rows} tokens");
}

/// Cross entropy on one backend; the default bodies work on all of them.
///
/// Targets are `[N, 1]`. Losses and denominators, the logarithm of each token's sum of exponentials,
/// are `[N, 1]` as well.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait CrossEntropyOps: ProductOps {
    /// Losses and denominators of the logits `[N, V]`.
    #[fusion(default)]
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::<Self>(logits, targets)
    }

    /// The gradient of the logits, from that of the losses `[N, 1]`.
    #[fusion(default)]
    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        denominators: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain_backward::<Self>(logits, targets, denominators, gradient)
    }

    /// Losses and denominators of `hidden head^T`, of `[N, D]` and `[V, D]`.
    #[fusion(default)]
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain_linear::<Self>(hidden, head, targets)
    }

    /// The gradients of `hidden` and `head`, from that of the losses `[N, 1]`.
    #[fusion(default)]
    fn linear_cross_entropy_backward(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        denominators: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain_linear_backward::<Self>(hidden, head, targets, denominators, gradient)
    }

    /// The mean of the losses of `hidden head^T` `[1, 1]`, and its gradients by `hidden` and `head`.
    #[fusion(default)]
    fn linear_cross_entropy_mean(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain_linear_mean::<Self>(hidden, head, targets)
    }
}

#[cfg(feature = "ndarray")]
impl CrossEntropyOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl CrossEntropyOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl CrossEntropyOps for burn::backend::Remote {}

/// The default body of cross entropy.
fn plain<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (losses, denominators) = Targets::<B>(targets).losses(Float(logits));
    (losses.0, denominators.0)
}

/// The default body of its backward pass.
fn plain_backward<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    denominators: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> FloatTensor<B> {
    let targets = Targets::<B>(targets);
    targets
        .backward(Float(logits), Float(denominators), Float(gradient))
        .0
}

/// The default body of the linear form.
fn plain_linear<B: ProductOps>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (hidden, head, targets) = (Float::<B>(hidden), Float::<B>(head), Targets::<B>(targets));
    let (losses, denominators) = chunks(&hidden, &head)
        .map(|rows| {
            let logits = hidden.rows(&rows).times(head.clone().transpose());
            targets.rows(&rows).losses(logits)
        })
        .unzip();
    (Float::cat(losses, 0).0, Float::cat(denominators, 0).0)
}

/// The default body of its backward pass.
fn plain_linear_backward<B: ProductOps>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    denominators: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let targets = Targets::<B>(targets);
    let (denominators, gradient) = (Float::<B>(denominators), Float::<B>(gradient));
    by_chunks(Float(hidden), Float(head), |rows, logits| {
        targets
            .rows(rows)
            .backward(logits, denominators.rows(rows), gradient.rows(rows))
    })
}

/// The default body of the linear form's mean.
fn plain_linear_mean<B: ProductOps>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let targets = Targets::<B>(targets);
    let (hidden, head) = (Float::<B>(hidden), Float::<B>(head));
    let [rows, _] = hidden.dims();
    // A share of each loss, so that few bits hold their sum.
    let share = |rows, total| TensorData::full([rows, 1], (total as f32).recip());
    let mut mean = head.like(TensorData::zeros::<f32, _>([1, 1]));
    let (to_hidden, to_head) = by_chunks(hidden, head, |part, logits| {
        let targets = targets.rows(part);
        let (losses, denominators) = targets.losses(logits.clone());
        let shares = losses.like(share(part.len(), rows));
        mean = mean.clone() + (losses * shares.clone()).sum_dim(0);
        targets.backward(logits, denominators, shares)
    });
    (mean.0, to_hidden, to_head)
}

/// The gradients of `hidden` and `head`, from a function that makes the gradient of the logits of a
/// chunk of rows out of these logits.
fn by_chunks<B: ProductOps>(
    hidden: Float<B>,
    head: Float<B>,
    mut backward: impl FnMut(&Range<usize>, Float<B>) -> Float<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let mut to_head: Option<Float<B>> = None;
    let to_hidden = chunks(&hidden, &head)
        .map(|rows| {
            let part = hidden.rows(&rows);
            let logits = part.clone().times(head.clone().transpose());
            let to_logits = backward(&rows, logits);
            let columns = to_logits.clone().transpose();
            to_head = Some(match to_head.take() {
                None => columns.times(part),
                Some(sum) => sum.plus_product(columns, part),
            });
            to_logits.times(head.clone())
        })
        .collect();
    let to_head = to_head.unwrap_or_else(|| head.scale(0.0));
    (Float::cat(to_hidden, 0).0, to_head.0)
}

/// The chunks of tokens whose logits exist at a time.
fn chunks<B: Backend>(
    hidden: &Float<B>,
    head: &Float<B>,
) -> impl Iterator<Item = Range<usize>> + use<B> {
    let [rows, _] = hidden.dims();
    let [vocabulary, _] = head.dims();
    ranges(rows, (LOGITS / vocabulary.max(1)).max(FEWEST_TOKENS))
}

/// The targets of some tokens `[N, 1]`.
struct Targets<B: Backend>(IntTensor<B>);

impl<B: Backend> Targets<B> {
    fn rows(&self, rows: &Range<usize>) -> Self {
        let slices = [rows.clone().into(), Slice::full()];
        Self(B::int_slice(self.0.clone(), &slices))
    }

    /// What can be looked up, and 1 where it counts, 0 where it does not.
    fn looked_up(&self, like: &Float<B>) -> (IntTensor<B>, Float<B>) {
        let ids = B::int_clamp_min(self.0.clone(), 0.into());
        let after = B::int_add_scalar(self.0.clone(), 1.into());
        let counted = B::int_clamp(after, 0.into(), 1.into());
        (ids, like.of_ints(counted))
    }

    fn losses(&self, logits: Float<B>) -> (Float<B>, Float<B>) {
        let (ids, counted) = self.looked_up(&logits);
        let max = logits.clone().max_dim(1);
        let sum = (logits.clone() - max.clone()).exp().sum_dim(1).log();
        // In this order large logits cost no digits.
        let losses = sum.clone() + (max.clone() - pick(logits, ids));
        (losses * counted, max + sum)
    }

    /// The gradient of the logits: the softmax less 1 at the target, times that of the loss.
    fn backward(&self, logits: Float<B>, denominators: Float<B>, gradient: Float<B>) -> Float<B> {
        let (ids, counted) = self.looked_up(&logits);
        let gradient = gradient * counted;
        let softmax = (logits - denominators).exp();
        (softmax * gradient.clone()).add_at(ids, gradient.scale(-1.0))
    }
}

impl<B: CrossEntropyOps, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [logits.node()];
        let logits = logits.into_primitive();
        let (losses, denominators) = B::cross_entropy(logits.clone(), targets.clone());
        let losses = differentiable::<B, C, _, _>(
            nodes,
            losses,
            (logits, targets, denominators.clone()),
            |(logits, targets, denominators), gradient| {
                [B::cross_entropy_backward(
                    logits,
                    targets,
                    denominators,
                    gradient,
                )]
            },
        );
        (losses, Self::from_inner(denominators))
    }

    fn cross_entropy_backward(
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }

    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [hidden.node(), head.node()];
        let (hidden, head) = (hidden.into_primitive(), head.into_primitive());
        let (losses, denominators) =
            B::linear_cross_entropy(hidden.clone(), head.clone(), targets.clone());
        let losses = differentiable::<B, C, _, _>(
            nodes,
            losses,
            (hidden, head, targets, denominators.clone()),
            |(hidden, head, targets, denominators), gradient| {
                B::linear_cross_entropy_backward(hidden, head, targets, denominators, gradient)
                    .into()
            },
        );
        (losses, Self::from_inner(denominators))
    }

    fn linear_cross_entropy_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }

    fn linear_cross_entropy_mean(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [hidden.node(), head.node()];
        let (hidden, head) = (hidden.into_primitive(), head.into_primitive());
        let (mean, to_hidden, to_head) = B::linear_cross_entropy_mean(hidden, head, targets);
        let gradients = [to_hidden, to_head];
        let mean =
            differentiable::<B, C, _, _>(nodes, mean, gradients.clone(), |gradients, gradient| {
                gradients.map(|to_input| B::float_mul(to_input, gradient.clone()))
            });
        let [to_hidden, to_head] = gradients.map(Self::from_inner);
        (mean, to_hidden, to_head)
    }
}

#[cfg(test)]
mod tests;
