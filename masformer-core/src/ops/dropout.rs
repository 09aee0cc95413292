//! Dropout (Srivastava et al., 2014) with its scaling, in one pass.

#[cfg(feature = "flex")]
mod flex;

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    prelude::*,
    tensor::Distribution,
};

use super::{differentiable::differentiable, primitive::Float};

/// Sets each number to zero with a probability `prob` from 0 to below 1, and divides the others by what
/// is left to 1.
///
/// The draws follow from the device's own random numbers, so that whoever seeds the device repeats them.
///
/// # Shapes
///
/// - input and output: `[N, D]`
pub fn dropout(input: Tensor<2>, prob: f64) -> Tensor<2> {
    let (output, _) = <Dispatch as DropoutOps>::dropout(input.into_dispatch(), prob);
    Tensor::from_dispatch(output)
}

/// Dropout on one backend; the default bodies work on all of them.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait DropoutOps: Backend {
    /// The output `[N, D]`, and what the same numbers can be dropped by again.
    #[fusion(default)]
    fn dropout(input: FloatTensor<Self>, prob: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::<Self>(input, prob)
    }

    /// The gradient of the input: dropout again.
    #[fusion(default)]
    fn dropout_backward(
        gradient: FloatTensor<Self>,
        draws: FloatTensor<Self>,
        prob: f64,
    ) -> FloatTensor<Self> {
        plain_again::<Self>(gradient, draws, prob)
    }
}

#[cfg(feature = "ndarray")]
impl DropoutOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl DropoutOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl DropoutOps for burn::backend::Remote {}

/// The default body: it keeps which numbers stay.
fn plain<B: Backend>(input: FloatTensor<B>, prob: f64) -> (FloatTensor<B>, FloatTensor<B>) {
    let kept = B::float_random(
        input.shape(),
        Distribution::Bernoulli(1.0 - prob),
        &input.device(),
        input.dtype().into(),
    );
    (plain_again::<B>(input, kept.clone(), prob), kept)
}

fn plain_again<B: Backend>(
    numbers: FloatTensor<B>,
    kept: FloatTensor<B>,
    prob: f64,
) -> FloatTensor<B> {
    (Float::<B>(numbers) * Float(kept).scale(1.0 / (1.0 - prob))).0
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout(input: FloatTensor<Self>, prob: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [input.node()];
        let (output, draws) = B::dropout(input.into_primitive(), prob);
        let kept = (draws.clone(), prob);
        let output =
            differentiable::<B, C, _, _>(nodes, output, kept, |(draws, prob), gradient| {
                [B::dropout_backward(gradient, draws, prob)]
            });
        (output, Self::from_inner(draws))
    }

    fn dropout_backward(_: FloatTensor<Self>, _: FloatTensor<Self>, _: f64) -> FloatTensor<Self> {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_stays_is_scaled_and_takes_the_gradient() {
        let device = Device::default().autodiff();
        for (shape, prob) in [([300, 70], 0.1), ([1, 30_001], 0.5), ([4000, 5], 0.9)] {
            let input = Tensor::<2>::ones(shape, &device).require_grad();
            let output = dropout(input.clone(), prob);
            let gradients = output.clone().sum().backward();
            let output = output.inner().into_data();
            // Of ones, what stays is its own gradient.
            let gradient = input.grad(&gradients).unwrap().into_data();
            gradient.assert_eq(&output, true);

            let factor = (1.0 / (1.0 - prob)) as f32;
            let kept = output.iter::<f32>().filter(|x| *x != 0.0).count();
            let all_scaled = output
                .iter::<f32>()
                .all(|x| x == 0.0 || (x - factor).abs() < 1e-4);
            assert!(all_scaled);
            let count = f64::from(shape[0] * shape[1]);
            let share = kept as f64 / count;
            // Five standard deviations.
            let slack = 5.0 * (prob * (1.0 - prob) / count).sqrt();
            assert!((share - (1.0 - prob)).abs() < slack, "{share} of {prob}");
        }
    }

    #[test]
    fn neighbours_and_calls_are_drawn_apart() {
        let device = Device::default();
        let ones = Tensor::<2>::ones([400, 100], &device);
        let drop = || dropout(ones.clone(), 0.5) * 0.5;
        let (first, second) = (drop(), drop());
        let share = |both: Tensor<2>| both.mean().into_scalar::<f32>();
        for (name, found) in [
            ("calls", share(first.clone() * second)),
            (
                "columns",
                share(first.clone().slice([0..400, 1..100]) * first.clone().slice([0..400, 0..99])),
            ),
            (
                "rows",
                share(first.clone().slice([1..400, 0..100]) * first.slice([0..399, 0..100])),
            ),
        ] {
            // A quarter of pairs stay if they have nothing to do with each other.
            assert!((found - 0.25).abs() < 0.015, "{name}: {found}");
        }
    }
}
