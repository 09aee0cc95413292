//! Layer normalisation (arXiv 1607.06450) with a backward pass of its own.

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
#[cfg(feature = "flex")]
pub(super) use flex::normalize_row;

/// `(x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta` of each row.
///
/// # Shapes
///
/// - input and output: `[N, D]`
/// - gamma, beta: `[D]`
pub fn layer_norm(input: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let output = <Dispatch as LayerNormOps>::layer_norm_rows(
        input.into_dispatch(),
        gamma.unsqueeze::<2>().into_dispatch(),
        beta.unsqueeze::<2>().into_dispatch(),
        epsilon,
    );
    Tensor::from_dispatch(output)
}

/// Layer normalisation on one backend; the default bodies work on all of them. Gamma and beta are
/// `[1, D]`.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait LayerNormOps: Backend {
    /// The normalised rows `[N, D]`.
    #[fusion(default)]
    fn layer_norm_rows(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        plain::<Self>(input, gamma, beta, epsilon)
    }

    /// The gradients of input, gamma and beta.
    #[fusion(default)]
    fn layer_norm_rows_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain_backward::<Self>(input, gamma, gradient, epsilon)
    }
}

#[cfg(feature = "ndarray")]
impl LayerNormOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl LayerNormOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl LayerNormOps for burn::backend::Remote {}

/// The default body.
fn plain<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normal, _) = normalized::<B>(Float(input), epsilon);
    (normal * Float(gamma) + Float(beta)).0
}

/// The default body of the backward pass.
fn plain_backward<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    gradient: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (normal, deviation) = normalized::<B>(Float(input), epsilon);
    let gradient = Float::<B>(gradient);
    let to_gamma = (gradient.clone() * normal.clone()).sum_dim(0);
    let to_beta = gradient.clone().sum_dim(0);
    // What is left once the mean and the scale can no longer change.
    let to_normal = gradient * Float(gamma);
    let along = (to_normal.clone() * normal.clone()).mean_dim(1);
    let mean = to_normal.clone().mean_dim(1);
    let to_input = (to_normal - mean - normal * along) / deviation;
    (to_input.0, to_gamma.0, to_beta.0)
}

/// The rows with mean 0 and variance 1, and what they were divided by.
fn normalized<B: Backend>(input: Float<B>, epsilon: f64) -> (Float<B>, Float<B>) {
    let centred = input.clone() - input.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let deviation = variance.plus(epsilon).sqrt();
    (centred / deviation.clone(), deviation)
}

impl<B: LayerNormOps, C: CheckpointStrategy> LayerNormOps for Autodiff<B, C> {
    fn layer_norm_rows(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), gamma.node(), beta.node()];
        let (input, gamma) = (input.into_primitive(), gamma.into_primitive());
        let beta = beta.into_primitive();
        let output = B::layer_norm_rows(input.clone(), gamma.clone(), beta, epsilon);
        differentiable::<B, C, _, _>(
            nodes,
            output,
            (input, gamma, epsilon),
            |(input, gamma, epsilon), gradient| {
                B::layer_norm_rows_backward(input, gamma, gradient, epsilon).into()
            },
        )
    }

    fn layer_norm_rows_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_same, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rows_and_gradients_are_burns(rows in 0..40_usize, width in 5..70_usize) {
            let device = Device::default().autodiff();
            let inputs = [
                random([rows, width], &device),
                random([1, width], &device),
                random([1, width], &device),
            ];
            let flat = |x: Tensor<2>| x.flatten::<1>(0, 1);
            assert_same(
                &inputs,
                |[input, gamma, beta]| layer_norm(input, flat(gamma), flat(beta), 1e-5),
                |[input, gamma, beta]| {
                    burn::tensor::module::layer_norm(input, flat(gamma), Some(flat(beta)), 1e-5)
                },
            );
        }
    }
}
