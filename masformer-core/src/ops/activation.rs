//! An activation with the bias before it.

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
use crate::activation::Activation;

/// `activation(input + bias)`.
///
/// # Shapes
///
/// - input and output: `[N, F]`
/// - bias: `[F]`
pub fn bias_activation(input: Tensor<2>, bias: Tensor<1>, activation: Activation) -> Tensor<2> {
    let output = <Dispatch as ActivationOps>::bias_activation(
        input.into_dispatch(),
        bias.unsqueeze::<2>().into_dispatch(),
        activation,
    );
    Tensor::from_dispatch(output)
}

/// Activations on one backend; the default bodies work on all of them. The bias is `[1, F]`.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait ActivationOps: Backend {
    /// `activation(input + bias)`, `[N, F]`.
    #[fusion(default)]
    fn bias_activation(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        plain::<Self>(input, bias, activation)
    }

    /// The gradient of the input.
    #[fusion(default)]
    fn bias_activation_backward(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        plain_backward::<Self>(input, bias, gradient, activation)
    }

    /// `activation(input + bias)` again, and the gradient of the input.
    #[fusion(default)]
    fn bias_activation_again(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain_again::<Self>(input, bias, gradient, activation)
    }
}

#[cfg(feature = "ndarray")]
impl ActivationOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl ActivationOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl ActivationOps for burn::backend::Remote {}

/// `sqrt(2 / pi)`.
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
/// The factor of the cube in gelu's other form.
const TANH_CUBE: f64 = 0.044_715;
/// The factor of the argument in gelu's roughest form.
const QUICK: f64 = 1.702;

/// The default body.
fn plain<B: Backend>(
    input: FloatTensor<B>,
    bias: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    value(Float::<B>(input) + Float(bias), activation).0
}

/// The default body of the backward pass.
fn plain_backward<B: Backend>(
    input: FloatTensor<B>,
    bias: FloatTensor<B>,
    gradient: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let sum = Float::<B>(input) + Float(bias);
    (slope(sum, activation) * Float(gradient)).0
}

/// The default body of both.
fn plain_again<B: Backend>(
    input: FloatTensor<B>,
    bias: FloatTensor<B>,
    gradient: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sum = Float::<B>(input) + Float(bias);
    let slope = slope(sum.clone(), activation);
    (value(sum, activation).0, (slope * Float(gradient)).0)
}

fn value<B: Backend>(x: Float<B>, activation: Activation) -> Float<B> {
    if activation == Activation::Relu {
        return x.relu();
    }
    let distribution = distribution(x.clone(), activation);
    x * distribution
}

/// What an activation multiplies its argument by.
fn distribution<B: Backend>(x: Float<B>, activation: Activation) -> Float<B> {
    let odd = match activation {
        Activation::Gelu => x.scale(std::f64::consts::FRAC_1_SQRT_2).erf(),
        Activation::GeluTanh => {
            let square = x.clone() * x.clone();
            (x * square.scale(TANH_CUBE).plus(1.0).scale(TANH_SCALE)).tanh()
        }
        Activation::Relu => return x.relu().sign(),
        Activation::Silu => x.scale(0.5).tanh(),
        Activation::QuickGelu => x.scale(QUICK / 2.0).tanh(),
    };
    odd.plus(1.0).scale(0.5)
}

fn slope<B: Backend>(x: Float<B>, activation: Activation) -> Float<B> {
    let distribution = distribution(x.clone(), activation);
    let square = x.clone() * x.clone();
    let rest = || distribution.clone().scale(-1.0).plus(1.0);
    let density = match activation {
        Activation::Gelu => {
            let peak = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 / 2.0;
            square.scale(-0.5).exp().scale(peak)
        }
        Activation::GeluTanh => {
            let slope = square
                .scale(3.0 * TANH_CUBE)
                .plus(1.0)
                .scale(2.0 * TANH_SCALE);
            slope * distribution.clone() * rest()
        }
        Activation::Relu => return distribution,
        Activation::Silu => distribution.clone() * rest(),
        Activation::QuickGelu => (distribution.clone() * rest()).scale(QUICK),
    };
    x * density + distribution
}

impl<B: ActivationOps, C: CheckpointStrategy> ActivationOps for Autodiff<B, C> {
    fn bias_activation(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), bias.node()];
        let (input, bias) = (input.into_primitive(), bias.into_primitive());
        let output = B::bias_activation(input.clone(), bias.clone(), activation);
        differentiable::<B, C, _, _>(
            nodes,
            output,
            (input, bias, activation),
            |(input, bias, activation), gradient| {
                let to_input = B::bias_activation_backward(input, bias, gradient, activation);
                let to_bias = B::float_sum_dim(to_input.clone(), 0);
                [to_input, to_bias]
            },
        )
    }

    fn bias_activation_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> FloatTensor<Self> {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }

    fn bias_activation_again(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{ACTIVATIONS, activate, assert_same, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn each_equals_its_definition(rows in 0..20_usize, width in 1..70_usize) {
            let device = Device::default().autodiff();
            let inputs = [random([rows, width], &device), random([1, width], &device)];
            for activation in ACTIVATIONS {
                assert_same(
                    &inputs,
                    |[input, bias]| bias_activation(input, bias.flatten(0, 1), activation),
                    |[input, bias]| activate(input + bias, activation),
                );
            }
        }
    }

    #[test]
    fn values_and_slopes_hold_at_the_ends_and_in_the_middle() {
        let device = Device::default().autodiff();
        let input = Tensor::<2>::from_data([[-1e4, -0.0, 0.0, 1e4]], &device).require_grad();
        for (activation, middle) in [
            (Activation::Gelu, 0.5),
            (Activation::GeluTanh, 0.5),
            (Activation::Relu, 0.0),
            (Activation::Silu, 0.5),
            (Activation::QuickGelu, 0.5),
        ] {
            let output = bias_activation(input.clone(), Tensor::zeros([4], &device), activation);
            let gradient = input.grad(&output.clone().sum().backward()).unwrap();
            let expected = TensorData::from([[0.0, 0.0, 0.0, 1e4_f32]]);
            output
                .inner()
                .into_data()
                .assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-6));
            let expected = TensorData::from([[0.0, middle, middle, 1.0_f32]]);
            gradient
                .into_data()
                .assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-6));
        }
    }
}
