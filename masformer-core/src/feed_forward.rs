//! The feed-forward half of a layer.

use burn::{
    config::Config,
    module::{Module, ModuleDisplay},
    nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig},
    prelude::*,
    tensor::DType,
};

use crate::{
    activation::Activation,
    dropout::{active_prob, dropout},
    flow::Flow,
    linear::{apply_linear, bias, is_plain, multiply_adds, outputs, zero_bias},
    norm::{Norm, NormConfig, NormKind, NormPlacement},
    ops::{ExpertOptions, ExpertWeights, FeedForwardOptions, FeedForwardWeights, feed_forward},
    trace::{NeuronProbe, Trace},
};

/// The feed-forward half of a layer, residual connection and normalisation included: experts own
/// their output normalisation (`MoEBERT`, arXiv 2204.07675), so the layer cannot.
pub trait FeedForward: Module + ModuleDisplay {
    /// Maps hidden states to hidden states.
    ///
    /// # Shapes
    ///
    /// - hidden states and output: `[B, T, D]`
    fn forward(&self, flow: &Flow, trace: &mut Trace) -> Tensor<3>;

    /// What the half costs.
    fn cost(&self) -> FeedForwardCost;
}

/// What a feed-forward half costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedForwardCost {
    /// Multiply-adds of the matrix products for one token.
    pub multiply_adds: usize,
    /// Parameters that one token does not pass through.
    pub idle_parameters: usize,
}

/// Configuration of a dense feed-forward layer.
#[derive(Config, Debug)]
pub struct MlpConfig {
    /// Hidden width `D`.
    pub hidden: usize,
    /// Feed-forward width `F`.
    pub width: usize,
    /// Probability of dropping an output element in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// How the layer is normalised.
    #[config(default = "NormKind::Layer")]
    pub norm: NormKind,
    /// Added to the variance in the normalisation.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// Where the layer is normalised.
    #[config(default = "NormPlacement::Post")]
    pub norm_placement: NormPlacement,
    /// The function between the matrices.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Whether a gate multiplies the neurons: `act(Wg a + bg) * (W1 a + b1)` instead of `act(W1 a + b1)`.
    #[config(default = false)]
    pub gated: bool,
    /// Whether the matrices have biases.
    #[config(default = true)]
    pub bias: bool,
    /// Tokens in a chunk, whose activations the backward pass computes again, so that memory grows by
    /// `D` and not by `F` a token; `None` to keep them, which is faster. A gated layer keeps them.
    #[config(default = "None")]
    pub chunk: Option<usize>,
    /// How the weights start.
    #[config(default = "Initializer::Normal { mean: 0.0, std: 0.02 }")]
    pub initializer: Initializer,
}

/// `f(a) = dropout(W2 act(W1 a + b1) + b2)` with its residual connection and normalisation: `norm(a + f(a))` post-norm,
/// as in BERT (arXiv 1810.04805), `a + f(norm(a))` pre-norm, as in GPT-2, and as a [`NormPlacement`] says.
///
/// With a gate, `f(a) = dropout(W2 (act(Wg a + bg) * (W1 a + b1)) + b2)` (GLU Variants, arXiv 2002.05202, equation 6):
/// `SwiGLU` where the activation is silu, `GeGLU` where it is gelu.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `W1`, stored `[D, F]`, and `b1`.
    pub inner: Linear,
    /// `W2`, stored `[F, D]`, and `b2`.
    pub outer: Linear,
    /// `Wg`, stored `[D, F]`, and `bg`; `None` without a gate.
    pub gate: Option<Linear>,
    /// Normalisation: after the residual connection, or of the input.
    pub norm: Norm,
    /// Normalisation of the output, with [`NormPlacement::Both`].
    pub output_norm: Option<Norm>,
    /// Dropout before the residual connection.
    pub dropout: Dropout,
    /// The place of the normalisation.
    #[module(skip)]
    pub norm_placement: NormPlacement,
    /// The function between the matrices.
    #[module(skip)]
    pub activation: Activation,
    /// Tokens in a chunk whose activations are not kept.
    #[module(skip)]
    pub chunk: Option<usize>,
}

impl MlpConfig {
    /// Makes the layer on a device.
    pub fn init(&self, device: &Device) -> Mlp {
        let linear = |from, to| {
            let linear = LinearConfig::new(from, to)
                .with_bias(self.bias)
                .with_initializer(self.initializer.clone());
            zero_bias(linear.init(device))
        };
        let norm = NormConfig::new(self.hidden)
            .with_kind(self.norm)
            .with_epsilon(self.norm_epsilon);
        Mlp {
            inner: linear(self.hidden, self.width),
            outer: linear(self.width, self.hidden),
            gate: self.gated.then(|| linear(self.hidden, self.width)),
            norm: norm.init(device),
            output_norm: self.norm_placement.output_norm(&norm, device),
            dropout: DropoutConfig::new(self.dropout).init(),
            norm_placement: self.norm_placement,
            activation: self.activation,
            chunk: self.chunk,
        }
    }
}

impl Mlp {
    /// Feed-forward width `F`.
    pub fn width(&self) -> usize {
        outputs(&self.inner)
    }

    /// The layer on a flat list of tokens.
    ///
    /// # Shapes
    ///
    /// - input: `[N, D]`
    /// - output: `[N, D]`
    pub fn forward_tokens(&self, input: Tensor<2>) -> Tensor<2> {
        self.residual(input, |input| {
            let output = match &self.gate {
                None if self.is_plain() => feed_forward(input, self.weights(), self.options()),
                None => {
                    let hidden = self.activation.forward(apply_linear(&self.inner, input));
                    apply_linear(&self.outer, hidden)
                }
                Some(gate) => {
                    let gate = self.activation.forward(apply_linear(gate, input.clone()));
                    apply_linear(&self.outer, gate * apply_linear(&self.inner, input))
                }
            };
            dropout(&self.dropout, output)
        })
    }

    fn residual<const N: usize>(
        &self,
        input: Tensor<N>,
        half: impl FnOnce(Tensor<N>) -> Tensor<N>,
    ) -> Tensor<N> {
        let output_norm = self.output_norm.as_ref();
        self.norm_placement
            .residual(&self.norm, output_norm, input, half)
    }

    /// The layer as an expert of [`expert_feed_forward`](crate::ops::expert_feed_forward); `None` where
    /// that cannot compute it: with a gate, with weights that are no plain matrices, in 16 bits, with two normalisations, or with one
    /// that is no layer normalisation.
    pub fn as_expert(&self) -> Option<ExpertWeights> {
        if self.gate.is_some() || !self.is_plain() {
            return None;
        }
        let is_pre_norm = match self.norm_placement {
            NormPlacement::Post => false,
            NormPlacement::Pre | NormPlacement::Parallel => true,
            NormPlacement::Both => return None,
        };
        let (gamma, beta) = self.norm.layer_norm()?;
        let feed_forward = self.weights();
        let half = matches!(feed_forward.inner.dtype(), DType::F16 | DType::BF16);
        (!half).then(|| ExpertWeights {
            options: ExpertOptions {
                feed_forward: self.options(),
                dropout: active_prob(&self.dropout, &feed_forward.inner.device()),
                epsilon: self.norm.epsilon(),
                is_pre_norm,
            },
            feed_forward,
            gamma,
            beta,
        })
    }

    /// Whether operations on plain matrices can compute what is between the gate and the normalisation.
    fn is_plain(&self) -> bool {
        is_plain(&self.inner) && is_plain(&self.outer)
    }

    fn weights(&self) -> FeedForwardWeights {
        FeedForwardWeights {
            inner: self.inner.weight.val(),
            inner_bias: bias(&self.inner),
            outer: self.outer.weight.val(),
            outer_bias: bias(&self.outer),
        }
    }

    fn options(&self) -> FeedForwardOptions {
        FeedForwardOptions {
            activation: self.activation,
            chunk: self.chunk,
        }
    }

    fn forward_probed(&self, input: Tensor<3>) -> (Tensor<3>, NeuronProbe) {
        let mut probe = None;
        let output = self.residual(input, |input| {
            let gate = self.gate.as_ref();
            let gate = gate.map(|gate| probed_linear(gate, input.clone()));
            let (inner, pre) = probed_linear(&self.inner, input);
            let (activated, gate) = match gate {
                None => (self.activation.forward(inner), None),
                Some((outer, gate)) => (self.activation.forward(outer) * inner, Some(gate)),
            };
            let (hidden, leaf) = NeuronProbe::leaf(&activated);
            let seen = (hidden.clone().inner(), leaf);
            probe = Some(NeuronProbe::new(pre, seen, gate));
            dropout(&self.dropout, self.outer.forward(hidden))
        });
        (output, probe.expect("the layer has just been applied"))
    }
}

/// The output of a linear layer with a leaf on it; and the output without its bias, not tracked, and the leaf.
fn probed_linear(linear: &Linear, input: Tensor<3>) -> (Tensor<3>, (Tensor<3>, Tensor<3>)) {
    let pre = linear.forward(input);
    let (probed, leaf) = NeuronProbe::leaf(&pre);
    let without_bias = match &linear.bias {
        Some(bias) => pre.inner() - bias.val().inner().unsqueeze(),
        None => pre.inner(),
    };
    (probed, (without_bias, leaf))
}

impl FeedForward for Mlp {
    fn forward(&self, flow: &Flow, trace: &mut Trace) -> Tensor<3> {
        let input = flow.hidden.clone();
        if trace.keeps_probe() {
            let (output, probe) = self.forward_probed(input);
            trace.put_probe(probe);
            output
        } else {
            let shape = input.dims();
            let flat = input.flatten::<2>(0, 1);
            self.forward_tokens(flat).reshape(shape)
        }
    }

    /// `2 D F` multiply-adds, `3 D F` with a gate.
    fn cost(&self) -> FeedForwardCost {
        let matrices = [&self.inner, &self.outer].into_iter().chain(&self.gate);
        let products = matrices.map(multiply_adds);
        FeedForwardCost {
            multiply_adds: products.sum(),
            idle_parameters: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Lora, ModuleMapper, Param},
        tensor::Distribution,
    };

    use super::*;
    use crate::{
        flow::Tokens,
        norm::PLACEMENTS,
        trace::{Keep, Layers},
    };

    #[test]
    fn probes_change_no_value() {
        let device = Device::default().autodiff();
        let tokens = Tokens::new(Tensor::zeros([1, 3], &device), None);
        let placements = PLACEMENTS.map(|placement| [(placement, false), (placement, true)]);
        for (placement, gated) in placements.into_iter().flatten() {
            let config = MlpConfig::new(4, 6).with_dropout(0.0).with_gated(gated);
            let mlp = config.with_norm_placement(placement).init(&device);
            let input = Tensor::random([1, 3, 4], Distribution::Default, &device);
            let flow = Flow::new(input, tokens.clone());
            let mut trace = Trace::new(Keep {
                probes: Layers::All,
                ..Keep::default()
            });
            let probed = mlp.forward(&flow, &mut trace);
            let plain = mlp.forward(&flow, &mut Trace::nothing());
            assert_eq!(trace.probes.len(), 1);
            let difference = (probed - plain).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{placement:?} {gated} {difference}");
        }
    }

    #[test]
    fn adapters_in_parts_equal_the_dense_sum() {
        let device = Device::default().autodiff();
        for (gated, bias) in [(false, true), (true, false)] {
            let config = MlpConfig::new(4, 6).with_dropout(0.0).with_gated(gated);
            let mlp = config.with_bias(bias).init(&device);
            // The second factor begins at 0: it is moved, and all others with it.
            let adapted = mlp.apply_lora(Lora::new(2, 4.0)).map(&mut Move);
            let input = Tensor::<2>::random([3, 4], Distribution::Normal(0.0, 1.0), &device);
            let input = input.require_grad();
            let dense = adapted.clone().materialize();
            assert!(adapted.inner.weight.adapter().is_some() && adapted.as_expert().is_none());
            let [(in_parts, gradient), (composed, expected)] = [&adapted, &dense].map(|mlp| {
                let output = mlp.forward_tokens(input.clone());
                let gradients = output.clone().square().sum().backward();
                (output.inner(), input.grad(&gradients).unwrap())
            });
            // A row that hardly varies has large gradients through the normalisation, and their rounding.
            for (found, expected) in [(in_parts, composed), (gradient, expected)] {
                let size = expected.clone().abs().max().clamp_min(1.0);
                let difference = ((found - expected).abs().max() / size).into_scalar::<f32>();
                assert!(difference < 1e-4, "{gated} {difference}");
            }
        }
    }

    /// Adds noise to every matrix.
    struct Move;

    impl ModuleMapper for Move {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| {
                let noise = value.random_like(Distribution::Normal(0.0, 0.5));
                (value + noise).detach()
            })
        }
    }

    #[test]
    fn a_gated_layer_is_its_definition() {
        let device = Device::default();
        for (activation, bias) in [(Activation::Silu, false), (Activation::Gelu, true)] {
            let initializer = Initializer::Normal {
                mean: 0.0,
                std: 0.5,
            };
            let config = MlpConfig::new(4, 6)
                .with_norm_placement(NormPlacement::Pre)
                .with_activation(activation)
                .with_gated(true)
                .with_bias(bias)
                .with_initializer(initializer);
            let mut mlp = config.init(&device);
            assert_eq!(mlp.cost().multiply_adds, 3 * 4 * 6);
            let normal = Distribution::Normal(0.0, 1.0);
            let gate = mlp.gate.as_mut().unwrap();
            for linear in [gate, &mut mlp.inner, &mut mlp.outer] {
                assert_eq!(linear.bias.is_some(), bias);
                let draw = |value: Tensor<1>| Tensor::random(value.dims(), normal, &device);
                linear.bias = linear.bias.take().map(|bias| bias.map(draw));
            }
            let apply = |linear: &Linear, input: Tensor<2>| {
                let output = input.matmul(linear.weight.val());
                match &linear.bias {
                    Some(bias) => output + bias.val().unsqueeze(),
                    None => output,
                }
            };
            let input = Tensor::<2>::random([3, 4], normal, &device);
            let normed = mlp.norm.forward(input.clone());
            let gate = apply(mlp.gate.as_ref().unwrap(), normed.clone());
            let hidden = activation.forward(gate) * apply(&mlp.inner, normed);
            let expected = input.clone() + apply(&mlp.outer, hidden);
            let difference = (mlp.forward_tokens(input) - expected).abs().max();
            assert!(difference.into_scalar::<f32>() < 1e-5, "{activation:?}");
        }
    }
}
