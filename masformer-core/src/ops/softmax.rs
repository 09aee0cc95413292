//! The softmax of rows with a backward pass of its own, from the output alone.

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension, tensor::FloatTensor,
    },
    prelude::*,
};

use super::{differentiable::differentiable, primitive::Float};

/// `exp(x_i) / sum_j exp(x_j)` of each row.
///
/// As in Burn's own, a row that has no finite maximum gives NaN.
///
/// # Shapes
///
/// - input and output: `[N, C]`
pub fn softmax(input: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as SoftmaxOps>::softmax_rows(
        input.into_dispatch(),
    ))
}

/// The softmax on one backend; the default bodies work on all of them.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait SoftmaxOps: Backend {
    /// The softmax of the rows of `[N, C]`.
    #[fusion(default)]
    fn softmax_rows(input: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::softmax(input, 1)
    }

    /// The gradient of the input, from the output `y` and its gradient `g`: `y_i (g_i - sum_j g_j y_j)`.
    #[fusion(default)]
    fn softmax_rows_backward(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain_backward::<Self>(output, gradient)
    }
}

#[cfg(feature = "ndarray")]
impl SoftmaxOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl SoftmaxOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl SoftmaxOps for burn::backend::Remote {}

/// The default body of the backward pass.
fn plain_backward<B: Backend>(output: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let (output, gradient) = (Float::<B>(output), Float::<B>(gradient));
    let along = (gradient.clone() * output.clone()).sum_dim(1);
    (output * (gradient - along)).0
}

impl<B: SoftmaxOps, C: CheckpointStrategy> SoftmaxOps for Autodiff<B, C> {
    fn softmax_rows(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [input.node()];
        let output = B::softmax_rows(input.into_primitive());
        differentiable::<B, C, _, _>(nodes, output.clone(), output, |output, gradient| {
            [B::softmax_rows_backward(output, gradient)]
        })
    }

    fn softmax_rows_backward(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::softmax as burn_softmax;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_same, random};

    fn composed(input: Tensor<2>) -> Tensor<2> {
        let exponentials = input.exp();
        exponentials.clone() / exponentials.sum_dim(1)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_equals_the_definition(rows in 0..40_usize, width in 1..150_usize) {
            let device = Device::default().autodiff();
            let input = [random([rows, width], &device)];
            assert_same(&input, |[input]| softmax(input), |[input]| composed(input));
            // Of a tensor whose numbers are not in order, and with a gradient of such.
            let input = [random([width, rows], &device)];
            assert_same(
                &input,
                |[input]| softmax(input.transpose()).transpose(),
                |[input]| composed(input.transpose()).transpose(),
            );
        }
    }

    #[test]
    fn rows_of_many_runs_equal_the_definition() {
        let device = Device::default().autodiff();
        for shape in [[3, 20_001], [999, 130]] {
            let input = [random(shape, &device)];
            assert_same(&input, |[input]| softmax(input), |[input]| composed(input));
        }
    }

    #[test]
    fn extremes_are_those_of_burn() {
        let device = Device::default();
        let (no, inf) = (f32::NAN, f32::INFINITY);
        let rows = Tensor::<2>::from_data(
            [
                [-inf, -inf, -inf],
                [0.5, no, 1.0],
                [no, -inf, -inf],
                [no, no, no],
                [inf, 0.0, 1.0],
                [-inf, 2.0, 2.0],
                [-1e30, 1e30, 0.0],
                [1000.0, 0.0, 1000.0],
            ],
            &device,
        );
        for repeat in [1, 50] {
            let rows = rows.clone().repeat_dim(1, repeat);
            let expected = burn_softmax(rows.clone(), 1).into_data();
            let found = softmax(rows).into_data();
            for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
                let same = found.is_nan() == expected.is_nan();
                let close = expected.is_nan() || (found - expected).abs() < 1e-6;
                assert!(same && close, "{found}, not {expected}");
            }
        }
    }

    #[test]
    fn whoever_holds_the_input_keeps_it() {
        let device = Device::default();
        let input = random([5, 9], &device);
        let before = input.to_data();
        drop(softmax(input.clone()));
        assert_eq!(input.into_data(), before);
    }
}
