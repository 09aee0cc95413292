//! The functions between the two matrices of a feed-forward layer.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ops::bias_activation;

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
    /// `max(x, 0)`, whose slope at 0 is 0.
    Relu,
    /// `x sigmoid(x)` (the same section; Ramachandran et al. 2017, arXiv 1710.05941, call it swish).
    Silu,
    /// `x sigmoid(1.702 x)`, the roughest form of gelu (arXiv 1606.08415, section 2).
    QuickGelu,
}

impl Activation {
    /// Applies the function to each element.
    pub fn forward<const N: usize>(self, input: Tensor<N>) -> Tensor<N> {
        let shape = input.dims();
        let width = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / width.max(1);
        let no_bias = Tensor::zeros([width], (&input.device(), input.dtype()));
        bias_activation(input.reshape([rows, width]), no_bias, self).reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of `transformers.activations.ACT2FN` in float64, rounded.
    #[test]
    fn each_is_that_of_transformers() {
        let device = Device::default();
        let input = Tensor::<1>::from_data([-3.0, -1.0, -0.1, 0.0, 0.5, 2.0], &device);
        let gelu = [
            -0.004_050, -0.158_655, -0.046_017, 0.0, 0.345_731, 1.954_500,
        ];
        let gelu_new = [
            -0.003_637, -0.158_808, -0.046_017, 0.0, 0.345_714, 1.954_598,
        ];
        let relu = [0.0, 0.0, 0.0, 0.0, 0.5, 2.0];
        let silu = [
            -0.142_278, -0.268_941, -0.047_502, 0.0, 0.311_230, 1.761_594,
        ];
        let quick_gelu = [
            -0.018_071, -0.154_204, -0.045_755, 0.0, 0.350_388, 1.935_659,
        ];
        for (activation, expected) in [
            (Activation::Gelu, gelu),
            (Activation::GeluTanh, gelu_new),
            (Activation::Relu, relu),
            (Activation::Silu, silu),
            (Activation::QuickGelu, quick_gelu),
        ] {
            let found = activation.forward(input.clone());
            let difference = found - Tensor::from_data(expected, &device);
            assert!(difference.abs().max().into_scalar::<f32>() < 1e-6);
        }
    }
}
