//! Cross entropy from logits, and from hidden states without ever holding their logits.
//!
//! A language model's logits `[N, V]` are its largest tensor by far. Where the last layer is a product
//! with the embedding `[V, D]`, [`linear_cross_entropy`] makes them for a chunk of tokens at a time, and
//! again in the backward pass, from the logarithm of the softmax's denominator of each token. Where all
//! tokens count the same, [`linear_cross_entropy_sum`] makes them once: with the logits of a chunk at
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

/// The sum of [`linear_cross_entropy`] over all tokens, in training with a quarter less work: its forward
/// pass makes the gradients, too, and its backward pass scales them.
///
/// # Shapes
///
/// - hidden: `[N, D]`
/// - head: `[V, D]`, as an embedding is stored
/// - targets: `[N]`, below `V`
/// - output: `[1]`
///
/// # Panics
///
/// If there is not one target a row, or a target is `V` or more.
pub fn linear_cross_entropy_sum(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    if !hidden.device().is_autodiff() {
        return linear_cross_entropy(hidden, head, targets).sum();
    }
    let [rows, _] = hidden.dims();
    assert_targets(rows, &targets);
    let (sum, ..) = <Dispatch as CrossEntropyOps>::linear_cross_entropy_sum(
        hidden.into_dispatch(),
        head.into_dispatch(),
        targets.reshape([rows, 1]).into_dispatch(),
    );
    Tensor::<2>::from_dispatch(sum).reshape([1])
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

    /// The sum of the losses of `hidden head^T` `[1, 1]`, and its gradients by `hidden` and `head`.
    #[fusion(default)]
    fn linear_cross_entropy_sum(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain_linear_sum::<Self>(hidden, head, targets)
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

/// The default body of the linear form's sum.
fn plain_linear_sum<B: ProductOps>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let targets = Targets::<B>(targets);
    let head = Float::<B>(head);
    let mut sum = head.like(TensorData::zeros::<f32, _>([1, 1]));
    let (to_hidden, to_head) = by_chunks(Float(hidden), head, |rows, logits| {
        let targets = targets.rows(rows);
        let (losses, denominators) = targets.losses(logits.clone());
        sum = sum.clone() + losses.clone().sum_dim(0);
        let ones = losses.scale(0.0).plus(1.0);
        targets.backward(logits, denominators, ones)
    });
    (sum.0, to_hidden, to_head)
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

    fn linear_cross_entropy_sum(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [hidden.node(), head.node()];
        let (hidden, head) = (hidden.into_primitive(), head.into_primitive());
        let (sum, to_hidden, to_head) = B::linear_cross_entropy_sum(hidden, head, targets);
        let gradients = [to_hidden, to_head];
        let sum =
            differentiable::<B, C, _, _>(nodes, sum, gradients.clone(), |gradients, gradient| {
                gradients.map(|to_input| B::float_mul(to_input, gradient.clone()))
            });
        let [to_hidden, to_head] = gradients.map(Self::from_inner);
        (sum, to_hidden, to_head)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::log_softmax;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_same, multiplies_empty, random};

    /// The definition, of logits.
    fn composed(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        let [rows, _] = logits.dims();
        let targets = targets.reshape([rows, 1]);
        let losses = log_softmax(logits, 1).gather(1, targets.clone().clamp_min(0));
        losses.neg().mask_fill(targets.lower_elem(0), 0.0)
    }

    fn in_column(losses: Tensor<1>) -> Tensor<2> {
        losses.unsqueeze_dim(1)
    }

    fn ids(targets: &[i64], device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(targets, device)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn both_forms_equal_the_definition(
            targets in prop::collection::vec(prop::option::of(0..64_i64), 0..40),
            vocabulary in 1..64_usize,
            width in 1..20_usize,
        ) {
            let device = Device::default().autodiff();
            let targets: Vec<i64> = targets
                .into_iter()
                .map(|target| target.map_or(-100, |target| target % vocabulary as i64))
                .collect();
            let rows = targets.len();
            prop_assume!(rows > 0 || multiplies_empty(&device));
            let targets = ids(&targets, &device);
            assert_same(
                &[random([rows, vocabulary], &device)],
                |[logits]| in_column(cross_entropy(logits, targets.clone())),
                |[logits]| composed(logits, targets.clone()),
            );
            assert_same(
                &[random([rows, width], &device), random([vocabulary, width], &device)],
                |[hidden, head]| in_column(linear_cross_entropy(hidden, head, targets.clone())),
                |[hidden, head]| composed(hidden.matmul(head.transpose()), targets.clone()),
            );
            assert_same(
                &[random([rows, width], &device), random([vocabulary, width], &device)],
                |[hidden, head]| {
                    linear_cross_entropy_sum(hidden, head, targets.clone()).unsqueeze()
                },
                |[hidden, head]| {
                    composed(hidden.matmul(head.transpose()), targets.clone()).sum().unsqueeze()
                },
            );
        }
    }

    #[test]
    fn chunks_of_tokens_add_up() {
        let device = Device::default().autodiff();
        let rows = 2 * FEWEST_TOKENS + 3;
        let vocabulary = LOGITS / FEWEST_TOKENS;
        let targets: Vec<i64> = (0..rows as i64)
            .map(|row| row * 31 % vocabulary as i64)
            .collect();
        let targets = ids(&targets, &device);
        let inputs = [random([rows, 2], &device), random([vocabulary, 2], &device)];
        let losses = |[hidden, head]: [Tensor<2>; 2]| {
            composed(hidden.matmul(head.transpose()), targets.clone())
        };
        assert_same(
            &inputs,
            |[hidden, head]| in_column(linear_cross_entropy(hidden, head, targets.clone())),
            losses,
        );
        assert_same(
            &inputs,
            |[hidden, head]| linear_cross_entropy_sum(hidden, head, targets.clone()).unsqueeze(),
            |inputs| losses(inputs).sum().unsqueeze(),
        );
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let device = Device::default();
        let logits = Tensor::<2>::from_data([[1000.0, 0.0], [-1000.0, -1000.0]], &device);
        let losses = cross_entropy(logits, ids(&[1, 0], &device));
        let expected = TensorData::from([1000.0_f32, std::f32::consts::LN_2]);
        let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-6);
        losses.into_data().assert_approx_eq(&expected, tolerance);
    }
}
