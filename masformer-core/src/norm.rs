//! Where a layer is normalised.

use burn::{nn::LayerNorm, prelude::*};
use serde::{Deserialize, Serialize};

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
    use burn::nn::LayerNormConfig;

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
