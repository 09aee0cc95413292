//! What the tests of operations compare: outputs, and the gradients of every input.

use burn::{
    prelude::*,
    tensor::{
        Distribution,
        activation::{gelu_approximate, relu, sigmoid, silu},
    },
};

use crate::activation::Activation;

/// Each activation.
pub(super) const ACTIVATIONS: [Activation; 5] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Silu,
    Activation::QuickGelu,
];

pub(super) fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.5), device)
}

/// Whole numbers that look random, whose sums of products have no rounding errors.
#[cfg(feature = "flex")]
pub(super) fn whole_numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |index: usize| ((index * 7919 + seed) % 17) as f32 - 8.0;
    (0..count).map(number).collect()
}

/// The exact form of gelu (arXiv 1606.08415, section 2), of operations that autodiff knows: Burn's own has
/// on some backends the gradient of the other form.
fn gelu(input: Tensor<2>) -> Tensor<2> {
    let error = (input.clone() * std::f64::consts::FRAC_1_SQRT_2).erf();
    input * (error + 1.0) * 0.5
}

/// The definition of an activation.
pub(super) fn activate(input: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Gelu => gelu(input),
        Activation::GeluTanh => gelu_approximate(input),
        Activation::Relu => relu(input),
        Activation::Silu => silu(input),
        Activation::QuickGelu => input.clone() * sigmoid(input * 1.702),
    }
}

/// Whether a device multiplies matrices without rows. Burn's ndarray backend divides by their number.
#[cfg(feature = "ndarray")]
pub(super) fn multiplies_empty(device: &Device) -> bool {
    device.clone().inner() != Device::ndarray()
}

/// Whether a device multiplies matrices without rows, as all of these do.
#[cfg(not(feature = "ndarray"))]
pub(super) fn multiplies_empty(_: &Device) -> bool {
    true
}

/// The output of an operation, and the gradient of each input where the gradient of the output is
/// `weights`.
pub(super) fn run<const N: usize>(
    inputs: &[Tensor<2>; N],
    weights: &Tensor<2>,
    operation: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<TensorData> {
    let inputs = inputs.clone().map(Tensor::require_grad);
    let output = operation(inputs.clone());
    let gradients = (output.clone() * weights.clone()).sum().backward();
    let mut results = vec![output.inner().into_data()];
    results.extend(inputs.map(|input| input.grad(&gradients).unwrap().into_data()));
    results
}

/// Each within `tolerance` of the largest number expected, or of 1.
pub(super) fn assert_close(found: &[TensorData], expected: &[TensorData], tolerance: f32) {
    if let Err(difference) = agree(found, expected, tolerance) {
        panic!("{difference}");
    }
}

/// The first difference that [`assert_close`] does not allow.
pub(super) fn agree(
    found: &[TensorData],
    expected: &[TensorData],
    tolerance: f32,
) -> Result<(), String> {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.shape(), expected.shape(), "result {index}");
        let size = expected.iter::<f32>().map(f32::abs).fold(1.0, f32::max);
        for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
            let is_close = (found - expected).abs() / size < tolerance;
            if !is_close {
                return Err(format!("result {index}: {found}, not {expected}"));
            }
        }
    }
    Ok(())
}

/// Both forms of an operation give the same, outputs and gradients.
pub(super) fn assert_same<const N: usize>(
    inputs: &[Tensor<2>; N],
    operation: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    definition: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let device = inputs[0].device();
    let shape = definition(inputs.clone()).dims();
    // From -1 to 1, as gradients grow with them and the tolerance does not.
    let weights = Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
    let found = run(inputs, &weights, operation);
    assert_close(&found, &run(inputs, &weights, definition), 1e-5);
}
