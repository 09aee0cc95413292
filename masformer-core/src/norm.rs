//! Normalisation of rows, and where a layer has it.

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
    prelude::*,
    tensor::{DType, FloatDType},
};
use serde::{Deserialize, Serialize};

use crate::ops::layer_norm;

/// How a row `x` of width `D` is normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Layer normalisation (arXiv 1607.06450, equation 4), `(x - mean(x)) / sqrt(var(x) + epsilon) * gamma +
    /// beta`, as in BERT and GPT-2.
    #[default]
    Layer,
    /// Layer normalisation without `beta`.
    LayerWithoutOffset,
    /// Root mean square normalisation (arXiv 1910.07467, equation 4), `x / sqrt(mean(x^2) + epsilon) * gamma`, as
    /// in Llama.
    Rms,
}

/// Configuration of [`Norm`].
#[derive(Config, Debug)]
pub struct NormConfig {
    /// Width `D` of a row.
    pub width: usize,
    /// How a row is normalised.
    #[config(default = "NormKind::Layer")]
    pub kind: NormKind,
    /// Added to the variance, or to the mean square.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Normalisation of each row, as its [`NormKind`] says; 16-bit numbers are normalised in 32 bits.
///
/// The records are those of `burn::nn::LayerNorm` and `burn::nn::RmsNorm`. Layer normalisation has a faster
/// backward pass than Burn's.
#[derive(Module, Debug)]
pub struct Norm {
    /// The scale `[D]`.
    pub gamma: Param<Tensor<1>>,
    /// The offset `[D]`, of [`NormKind::Layer`] alone.
    pub beta: Option<Param<Tensor<1>>>,
    epsilon: f64,
    #[module(skip)]
    kind: NormKind,
}

impl NormConfig {
    /// Makes the normalisation on a device, with a scale of 1 and an offset of 0.
    pub fn init(&self, device: &Device) -> Norm {
        let has_offset = self.kind == NormKind::Layer;
        Norm {
            gamma: Initializer::Ones.init([self.width], device),
            beta: has_offset.then(|| Initializer::Zeros.init([self.width], device)),
            epsilon: self.epsilon,
            kind: self.kind,
        }
    }
}

impl Norm {
    /// What is added to the variance, or to the mean square.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// How a row is normalised.
    pub fn kind(&self) -> NormKind {
        self.kind
    }

    /// Gamma and beta `[D]` of a layer normalisation, zeros where it has no offset; `None` for another kind.
    pub(crate) fn layer_norm(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        let gamma = self.gamma.val();
        let no_offset = || gamma.zeros_like();
        match self.kind {
            NormKind::Layer | NormKind::LayerWithoutOffset => {
                let beta = self.beta.as_ref().map_or_else(no_offset, Param::val);
                Some((gamma, beta))
            }
            NormKind::Rms => None,
        }
    }

    /// Normalises each row.
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., D]`
    pub fn forward<const N: usize>(&self, input: Tensor<N>) -> Tensor<N> {
        let shape = input.dims();
        let [width] = self.gamma.dims();
        let rows = shape.iter().product::<usize>() / width;
        let dtype = input.dtype();
        let input = widen(input.reshape([rows, width]));
        let output = match self.layer_norm() {
            Some((gamma, beta)) => layer_norm(input, widen(gamma), widen(beta), self.epsilon),
            None => rms_norm(input, widen(self.gamma.val()), self.epsilon),
        };
        let output = if output.dtype() == dtype {
            output
        } else {
            output.cast(FloatDType::from(dtype))
        };
        output.reshape(shape)
    }
}

/// 16-bit numbers as 32-bit ones: sums of squares need more digits.
fn widen<const N: usize>(input: Tensor<N>) -> Tensor<N> {
    match input.dtype() {
        DType::F16 | DType::BF16 => input.cast(FloatDType::F32),
        _ => input,
    }
}

/// `x / sqrt(mean(x^2) + epsilon) * gamma` of each row `[N, D]`. Burn's module divides in 16 bits where the
/// input has them.
fn rms_norm(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let scale = (input.clone().square().mean_dim(1) + epsilon).sqrt();
    input / scale * gamma.unsqueeze()
}

/// Where the normalisation of a half `f` of a layer, mixer or feed-forward, stands around its residual connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// `norm(x + f(x))`, as in BERT and the first transformer (arXiv 1706.03762).
    #[default]
    Post,
    /// `x + f(norm(x))`, as in GPT-2 (arXiv 2002.04745).
    Pre,
    /// `x + norm_out(f(norm(x)))`, as in Gemma 2 (arXiv 2408.00118, section 2).
    Both,
    /// `x + mixer(norm(x)) + feed_forward(norm'(x))`: both halves read the input of the layer, as in GPT-J and
    /// GPT-NeoX (arXiv 2204.06745, section 2.1). The feed-forward half alone is that of [`Self::Pre`].
    Parallel,
}

impl NormPlacement {
    /// The normalisation of the output of `f`, where this placement has one.
    pub fn output_norm(self, config: &NormConfig, device: &Device) -> Option<Norm> {
        (self == Self::Both).then(|| config.init(device))
    }

    /// A half of a layer with its residual connection and normalisation; `output_norm` is that of
    /// [`Self::output_norm`].
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., D]`, as those of `half`
    pub fn residual<const N: usize>(
        self,
        norm: &Norm,
        output_norm: Option<&Norm>,
        input: Tensor<N>,
        half: impl FnOnce(Tensor<N>) -> Tensor<N>,
    ) -> Tensor<N> {
        match self {
            Self::Post => norm.forward(half(input.clone()) + input),
            Self::Pre | Self::Both | Self::Parallel => {
                let output = half(norm.forward(input.clone()));
                let output = match output_norm {
                    Some(norm) => norm.forward(output),
                    None => output,
                };
                output + input
            }
        }
    }
}

/// Each kind.
#[cfg(test)]
pub(crate) const KINDS: [NormKind; 3] =
    [NormKind::Layer, NormKind::LayerWithoutOffset, NormKind::Rms];

/// Each placement.
#[cfg(test)]
pub(crate) const PLACEMENTS: [NormPlacement; 4] = [
    NormPlacement::Post,
    NormPlacement::Pre,
    NormPlacement::Both,
    NormPlacement::Parallel,
];

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    #[test]
    fn each_placement_is_its_equation() {
        let device = Device::default();
        let config = NormConfig::new(2).with_epsilon(1e-12);
        let norm = config.init(&device);
        let residual = |placement: NormPlacement| {
            let input = Tensor::<2>::from_data([[1.0, 3.0]], &device);
            let output_norm = placement.output_norm(&config, &device);
            let half = |input| input * 4.0;
            let output = placement.residual(&norm, output_norm.as_ref(), input, half);
            output.into_data()
        };
        // Normalised, [1, 3], [5, 15] and [-4, 4] are all [-1, 1].
        for (placement, expected) in [
            (NormPlacement::Post, [[-1.0_f32, 1.0]]),
            (NormPlacement::Pre, [[-3.0, 7.0]]),
            (NormPlacement::Both, [[0.0, 4.0]]),
            (NormPlacement::Parallel, [[-3.0, 7.0]]),
        ] {
            let expected = TensorData::from(expected);
            residual(placement).assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-5));
        }
    }

    /// A norm with a scale, and an offset if its kind has one, that are not those of the start.
    fn norm(kind: NormKind, width: usize, device: &Device) -> Norm {
        let config = NormConfig::new(width).with_kind(kind).with_epsilon(1e-3);
        let mut norm = config.init(device);
        let draw = || {
            let values = Tensor::random([width], Distribution::Normal(0.5, 1.0), device);
            Param::from_tensor(values)
        };
        norm.gamma = draw();
        norm.beta = norm.beta.map(|_| draw());
        norm
    }

    #[test]
    fn each_kind_is_its_definition() {
        let device = Device::default();
        let width = 7;
        let input = Tensor::<2>::random([5, width], Distribution::Normal(1.0, 2.0), &device);
        for kind in KINDS {
            let norm = norm(kind, width, &device);
            let found: Vec<f64> = norm.forward(input.clone()).into_data().iter().collect();
            let gamma: Vec<f64> = norm.gamma.val().into_data().iter().collect();
            let beta = norm.beta.as_ref().map(|beta| beta.val().into_data());
            let beta = beta.map_or(vec![0.0; width], |beta| beta.iter().collect());
            assert_eq!(kind == NormKind::Layer, norm.beta.is_some());
            let values: Vec<f64> = input.clone().into_data().iter().collect();
            let rows = values.chunks(width).flat_map(|row| {
                let count = row.len() as f64;
                let mean = match kind {
                    NormKind::Rms => 0.0,
                    _ => row.iter().sum::<f64>() / count,
                };
                let squares = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
                let scale = (squares / count + 1e-3).sqrt();
                let places = row.iter().zip(gamma.iter().zip(&beta));
                places.map(move |(x, (gamma, beta))| (x - mean) / scale * gamma + beta)
            });
            for (found, expected) in found.iter().zip(rows) {
                assert!(
                    (found - expected).abs() < 2e-6,
                    "{kind:?} {found} {expected}"
                );
            }
        }
    }

    /// With `s = sqrt(mean(x^2) + epsilon)`, `n = x / s` and `g = gamma dL/dy`, `dL/dx = (g - n mean(g n)) / s`
    /// and `dL/dgamma` is the sum of `n dL/dy` over the rows.
    #[test]
    fn the_gradients_of_rms_norm_are_those_of_its_definition() {
        let device = Device::default().autodiff();
        let norm = norm(NormKind::Rms, 6, &device);
        let normal = Distribution::Normal(0.0, 1.0);
        let input = Tensor::<2>::random([4, 6], normal, &device).require_grad();
        let to_output = Tensor::<2>::random([4, 6], normal, &device);
        let loss = (norm.forward(input.clone()) * to_output.clone()).sum();
        let gradients = loss.backward();

        let plain = input.clone().inner();
        let to_output = to_output.inner();
        let scale = (plain.clone().square().mean_dim(1) + 1e-3).sqrt();
        let normal = plain / scale.clone();
        let to_normal = to_output.clone() * norm.gamma.val().inner().unsqueeze();
        let along = (to_normal.clone() * normal.clone()).mean_dim(1);
        let to_input = (to_normal - normal.clone() * along) / scale;
        let to_gamma = (to_output * normal).sum_dim(0).flatten::<1>(0, 1);
        let close = |found: TensorData, expected: TensorData| {
            found.assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-5));
        };
        close(
            input.grad(&gradients).unwrap().into_data(),
            to_input.into_data(),
        );
        let found = norm.gamma.val().grad(&gradients).unwrap();
        close(found.into_data(), to_gamma.into_data());
    }
}
