//! The functions between the two matrices of a feed-forward layer.

use burn::{
    prelude::*,
    tensor::activation::{gelu, gelu_approximate},
};
use serde::{Deserialize, Serialize};

/// A function of one number, applied to each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x / 2 (1 + erf(x / sqrt(2)))` (arXiv 1606.08415, section 2), `gelu` in Transformers.
    #[default]
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (the same section), `gelu_new` in
    /// Transformers.
    GeluTanh,
}

impl Activation {
    /// Applies the function to each element.
    pub fn forward<const N: usize>(self, input: Tensor<N>) -> Tensor<N> {
        match self {
            Self::Gelu => gelu(input),
            Self::GeluTanh => gelu_approximate(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;

    /// The values are those of `transformers.activations.ACT2FN` in float64.
    #[test]
    fn both_are_those_of_transformers() {
        let device = Device::default();
        let input = Tensor::<1>::from_data([-8.0, -3.0, -1.0, -0.1, 0.0, 0.5, 2.0, 8.0], &device);
        for (activation, expected) in [
            (
                Activation::Gelu,
                [
                    -0.0_f32,
                    -0.00404969,
                    -0.15865525,
                    -0.04601722,
                    0.0,
                    0.34573123,
                    1.95449974,
                    8.0,
                ],
            ),
            (
                Activation::GeluTanh,
                [
                    -0.0_f32,
                    -0.00363739,
                    -0.15880801,
                    -0.04601725,
                    0.0,
                    0.34571401,
                    1.95459769,
                    8.0,
                ],
            ),
        ] {
            let found = activation.forward(input.clone()).into_data();
            found.assert_approx_eq(
                &TensorData::from(expected),
                Tolerance::<f32>::absolute(1e-6),
            );
        }
    }
}
