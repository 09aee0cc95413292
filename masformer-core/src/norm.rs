//! Layer normalisation, and where a layer has it.

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
    prelude::*,
    tensor::{DType, FloatDType},
};
use serde::{Deserialize, Serialize};

use crate::ops::layer_norm;

/// Configuration of [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Width `D` of a row.
    pub width: usize,
    /// Added to the variance.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Layer normalisation (arXiv 1607.06450, equation 4), `(x - mean) / sqrt(var + epsilon) * gamma +
/// beta` of each row.
///
/// It is `burn::nn::LayerNorm` with a faster backward pass, and with the same records.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// The scale `[D]`.
    pub gamma: Param<Tensor<1>>,
    /// The offset `[D]`.
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNormConfig {
    /// Makes the layer on a device, with a scale of 1 and an offset of 0.
    pub fn init(&self, device: &Device) -> LayerNorm {
        LayerNorm {
            gamma: Initializer::Ones.init([self.width], device),
            beta: Initializer::Zeros.init([self.width], device),
            epsilon: self.epsilon,
        }
    }
}

impl LayerNorm {
    /// What is added to the variance.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Normalises each row.
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., D]`
    pub fn forward<const N: usize>(&self, input: Tensor<N>) -> Tensor<N> {
        let shape = input.dims();
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        let [width] = gamma.dims();
        let rows = shape.iter().product::<usize>() / width;
        let dtype = input.dtype();
        let norm = |input: Tensor<2>, gamma, beta| layer_norm(input, gamma, beta, self.epsilon);
        let input = input.reshape([rows, width]);
        let output = if matches!(dtype, DType::F16 | DType::BF16) {
            // Sums of squares need more digits.
            let wide = FloatDType::F32;
            norm(input.cast(wide), gamma.cast(wide), beta.cast(wide)).cast(FloatDType::from(dtype))
        } else {
            norm(input, gamma, beta)
        };
        output.reshape(shape)
    }
}

/// The place of the normalisation around a residual connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// `LN(x + f(x))`, as in BERT and the first transformer (arXiv 1706.03762).
    #[default]
    Post,
    /// `x + f(LN(x))`, as in GPT-2 (arXiv 2002.04745).
    Pre,
}

impl NormPlacement {
    /// A layer with its residual connection and normalisation.
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., D]`, as the layer's
    pub fn residual<const N: usize>(
        self,
        norm: &LayerNorm,
        input: Tensor<N>,
        layer: impl FnOnce(Tensor<N>) -> Tensor<N>,
    ) -> Tensor<N> {
        match self {
            Self::Post => norm.forward(layer(input.clone()) + input),
            Self::Pre => layer(norm.forward(input.clone())) + input,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_residual_goes_around_layer_and_norm_or_the_layer_alone() {
        let device = Device::default();
        let norm = LayerNormConfig::new(2).with_epsilon(1e-12).init(&device);
        let residual = |placement: NormPlacement| {
            let input = Tensor::<2>::from_data([[1.0, 3.0]], &device);
            let output = placement.residual(&norm, input, |input| input * 4.0);
            output.into_data()
        };
        // Normalised, [1, 3] and [5, 15] are both [-1, 1].
        let post = TensorData::from([[-1.0_f32, 1.0]]);
        let pre = TensorData::from([[-3.0_f32, 7.0]]);
        let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-5);
        residual(NormPlacement::Post).assert_approx_eq(&post, tolerance);
        residual(NormPlacement::Pre).assert_approx_eq(&pre, tolerance);
    }
}
