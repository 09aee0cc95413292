//! Learned gates: the expert with the highest probability, for a token or for a sequence.

use burn::{
    module::{Module, Param},
    nn::Linear,
    prelude::*,
    tensor::Distribution,
};
use masformer_core::{Tokens, ops::softmax, text_form::TextForm};
use serde::{Deserialize, Serialize};

use super::{
    Route, RouteSpec, RouterConfig, RouterError, RouterKind, RouterLoss, RouterShape, Routing,
    chosen, layer_rng,
};

/// Standard deviation that the gates' weights start with, BERT's.
const WEIGHT_STD: f64 = 0.02;

/// The balance loss of a gate over real tokens.
pub const BALANCE: &str = "balance";
/// The balance loss of a gate over all tokens, padding included, as the published code of `MoEBERT` has it.
pub const BALANCE_WITH_PADDING: &str = "balance-with-padding";

/// The balance loss of a gate that decides for tokens, of which padding may count.
pub(super) const TOKEN_BALANCE: RouterLoss = RouterLoss {
    name: BALANCE,
    title: "Balance loss",
    with_padding: Some(BALANCE_WITH_PADDING),
};

/// `gate-token` in texts: a [`GateRouter`] for each token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateToken {}

/// `gate-sentence` in texts: a [`GateRouter`] for each sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSentence {}

/// What a gate decides for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GateLevel {
    /// One expert for each token.
    Token,
    /// One expert for each sequence, from the mean of its tokens that are not padding.
    Sentence,
}

/// How the probability `p` of the chosen expert acts on its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateScale {
    /// By its gradient alone: the factor is `p / p`, the divisor taken as a constant, so outputs are
    /// those of the expert and the starting point is unchanged.
    #[default]
    Unit,
    /// As published: the output, residual connection and normalisation included, is multiplied by
    /// `p`, which scales the starting point by about `1 / E`.
    Probability,
}

impl GateScale {
    /// The factors `[N, 1]` on outputs of experts that were chosen with a probability `[N, 1]`.
    pub(super) fn weights(self, probability: Tensor<2>) -> Option<Tensor<2>> {
        match self {
            Self::Unit if !probability.device().is_autodiff() => None,
            Self::Unit => Some(probability.clone() / probability.detach()),
            Self::Probability => Some(probability),
        }
    }

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Probability => "probability",
        }
    }
}

/// A linear gate without bias, `p = softmax(a Wg)` (`MoEBERT`, section 3.2).
#[derive(Module, Debug)]
pub struct GateRouter {
    /// `Wg`, stored `[D, E]`.
    pub gate: Linear,
    #[module(skip)]
    level: GateLevel,
    #[module(skip)]
    scale: GateScale,
}

/// The weights of a gate without bias, of its own for each layer, drawn from the seed.
pub(super) fn weights(config: &RouterConfig, shape: RouterShape<'_>, device: &Device) -> Linear {
    let weight = TensorData::random::<f32, _, _>(
        [shape.hidden, shape.experts],
        Distribution::Normal(0.0, WEIGHT_STD),
        &mut layer_rng(config.seed, shape.layer),
    );
    Linear {
        weight: Param::from_data(weight, device),
        bias: None,
    }
}

impl GateRouter {
    fn new(
        level: GateLevel,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Self {
        Self {
            gate: weights(config, shape, device),
            level,
            scale: config.gate_scale,
        }
    }
}

impl TextForm for GateToken {
    const NAME: &'static str = "gate-token";
}

impl RouteSpec for GateToken {
    const KIND: RouterKind = RouterKind::gate(Self::NAME, &[TOKEN_BALANCE]);

    type Router = GateRouter;

    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<GateRouter, RouterError> {
        Ok(GateRouter::new(GateLevel::Token, config, shape, device))
    }
}

impl TextForm for GateSentence {
    const NAME: &'static str = "gate-sentence";
}

impl RouteSpec for GateSentence {
    const KIND: RouterKind = RouterKind {
        is_causal: false,
        ..RouterKind::gate(
            Self::NAME,
            &[RouterLoss {
                // A sequence is no padding.
                with_padding: None,
                ..TOKEN_BALANCE
            }],
        )
    };

    type Router = GateRouter;

    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<GateRouter, RouterError> {
        Ok(GateRouter::new(GateLevel::Sentence, config, shape, device))
    }
}

impl Route for GateRouter {
    fn route(&self, input: &Tensor<3>, tokens: &Tokens, with_losses: bool) -> Routing {
        let [batch, length, hidden] = input.dims();
        let real = tokens.padding.as_ref().map(|padding| {
            let real: Tensor<2> = padding.clone().bool_not().float();
            real
        });
        let (units, weight) = match self.level {
            GateLevel::Token => (
                input.clone().reshape([batch * length, hidden]),
                real.map(|real| real.reshape([batch * length, 1])),
            ),
            GateLevel::Sentence => (sentence_mean(input, real), None),
        };
        let probabilities = softmax(self.gate.forward(units));
        let experts = probabilities.clone().argmax(1);
        let probability = probabilities.clone().gather(1, experts.clone());
        let entropy = with_losses.then(|| mean_entropy(&probabilities, weight.as_ref()));
        let losses = if with_losses {
            balance_losses(&probabilities, &experts, weight)
        } else {
            vec![]
        };
        let weights = self.scale.weights(probability);
        match self.level {
            GateLevel::Token => Routing {
                experts,
                weights,
                losses,
                entropy,
            },
            GateLevel::Sentence => Routing {
                experts: experts.expand([batch, length]).reshape([batch * length, 1]),
                weights: weights
                    .map(|weights| weights.expand([batch, length]).reshape([batch * length, 1])),
                losses,
                entropy,
            },
        }
    }

    fn cost(&self) -> usize {
        self.gate.weight.shape().num_elements()
    }
}

/// Mean of the tokens of each sequence that are not padding.
///
/// # Shapes
///
/// - input: `[B, T, D]`; real: `[B, T]`, 1 for a token and 0 for padding
/// - output: `[B, D]`
fn sentence_mean(input: &Tensor<3>, real: Option<Tensor<2>>) -> Tensor<2> {
    match real {
        None => input.clone().mean_dim(1).squeeze_dim(1),
        Some(real) => {
            let count = real.clone().sum_dim(1).clamp_min(1.0);
            let sum = (input.clone() * real.unsqueeze_dim(2)).sum_dim(1);
            sum.squeeze_dim::<2>(1) / count
        }
    }
}

/// The mean entropy `[1]` of a gate's probabilities in nats: 0 where it always is certain, `ln E` where it never prefers an
/// expert. Nothing learns from it.
///
/// # Shapes
///
/// - probabilities: `[N, E]`
/// - weight: `[N, 1]`, 0 for units that do not count
pub(super) fn mean_entropy(probabilities: &Tensor<2>, weight: Option<&Tensor<2>>) -> Tensor<1> {
    let probabilities = probabilities.clone().without_autodiff();
    // Of what is less, `p ln p` is 0.
    let logs = probabilities.clone().clamp_min(1e-7).log();
    let entropies = (probabilities * logs).sum_dim(1).neg();
    match weight {
        Some(weight) => {
            let weight = weight.clone().without_autodiff();
            (entropies * weight.clone()).sum() / weight.sum().clamp_min(1.0)
        }
        None => entropies.mean(),
    }
}

/// The balance losses of a gate: of the units that count, and of all of them.
///
/// # Shapes
///
/// - probabilities: `[N, E]`; experts: `[N, k]`
/// - weight: `[N, 1]`, 0 for units that do not count
pub(super) fn balance_losses(
    probabilities: &Tensor<2>,
    experts: &Tensor<2, Int>,
    weight: Option<Tensor<2>>,
) -> Vec<(&'static str, Tensor<1>)> {
    let loss = |weight| balance_loss(probabilities.clone(), experts, weight);
    let of_all = loss(None);
    let of_real = weight.map_or_else(|| of_all.clone(), |weight| loss(Some(weight)));
    vec![(BALANCE, of_real), (BALANCE_WITH_PADDING, of_all)]
}

/// `E * sum_e P_e f_e`: `P` the mean probability and `f` the share of units routed to expert `e`
/// (Switch Transformers, arXiv 2101.03961, equation 4). It is 1 for a perfect balance.
///
/// # Shapes
///
/// - probabilities: `[N, E]`; experts: `[N, k]`
/// - weight: `[N, 1]`, 0 for units that do not count
fn balance_loss(
    probabilities: Tensor<2>,
    experts: &Tensor<2, Int>,
    weight: Option<Tensor<2>>,
) -> Tensor<1> {
    let [units, count] = probabilities.dims();
    let [_, k] = experts.dims();
    let routed = chosen(experts.clone(), count);
    let routed = if k == 1 {
        routed
    } else {
        let of_units = routed.reshape([units, k, count]).mean_dim(1);
        of_units.squeeze_dim(1)
    };
    let weight = match weight {
        Some(weight) => weight.clone() / weight.sum().clamp_min(1.0).unsqueeze(),
        None => Tensor::ones([units, 1], &probabilities.device()) / units as f64,
    };
    let mean_probability = (probabilities * weight.clone()).sum_dim(0);
    let share = (routed * weight).sum_dim(0);
    (mean_probability * share).sum() * count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape<'a>(layer: usize) -> RouterShape<'a> {
        RouterShape {
            experts: 3,
            hidden: 4,
            vocabulary: 10,
            layer,
            token_counts: None,
        }
    }

    fn gate(level: GateLevel, gate_scale: GateScale, device: &Device) -> GateRouter {
        let config = RouterConfig {
            gate_scale,
            ..RouterConfig::default()
        };
        GateRouter::new(level, &config, shape(0), device)
    }

    #[test]
    fn layers_draw_weights_of_their_own_and_the_seed_repeats_them() {
        let device = Device::default();
        let weights = |seed, layer| {
            let config = RouterConfig {
                seed,
                ..RouterConfig::default()
            };
            weights(&config, shape(layer), &device).weight.to_data()
        };
        assert_eq!(weights(1, 0), weights(1, 0));
        assert_ne!(weights(1, 0), weights(1, 1));
        assert_ne!(weights(1, 0), weights(2, 0));
    }

    fn random_input(device: &Device) -> (Tensor<3>, Tokens) {
        let distribution = burn::tensor::Distribution::Normal(0.0, 30.0);
        let input = Tensor::random([2, 5, 4], distribution, device);
        let tokens = Tokens::new(
            Tensor::zeros([2, 5], device),
            Some(Tensor::from_data(
                [[false, false, true, true, true], [false; 5]],
                device,
            )),
        );
        (input, tokens)
    }

    #[test]
    fn unit_scale_is_one_and_still_teaches_the_gate() {
        let device = Device::default().autodiff();
        let (input, tokens) = random_input(&device);
        let gate = gate(GateLevel::Token, GateScale::Unit, &device);
        let scale = gate.route(&input, &tokens, false).weights.unwrap();
        let values = scale.clone().inner().into_data();
        assert!(
            values
                .iter::<f32>()
                .all(|factor| (factor - 1.0).abs() < 1e-6)
        );
        let weighted = scale * Tensor::<2>::from_data([[1.0], [-2.0]], &device).repeat_dim(0, 5);
        let gradients = weighted.sum().backward();
        let gradient = gate.gate.weight.val().grad(&gradients).unwrap();
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn probability_scale_is_the_highest_probability_at_every_batch_size() {
        let device = Device::default();
        let (input, tokens) = random_input(&device);
        for level in [GateLevel::Token, GateLevel::Sentence] {
            let gate = gate(level, GateScale::Probability, &device);
            let both = gate.route(&input, &tokens, false).weights.unwrap();
            let first = Tokens {
                ids: tokens.ids.clone().slice([0..1]),
                padding: tokens.padding.clone().map(|padding| padding.slice([0..1])),
            };
            let alone = gate.route(&input.clone().slice([0..1]), &first, false);
            let alone = alone.weights.unwrap();
            let difference = (both.slice([0..5]) - alone.clone()).abs().max();
            assert!(difference.into_scalar::<f32>() < 1e-6);
            assert!(alone.min().into_scalar::<f32>() > 1.0 / 3.0);
        }
    }

    #[test]
    fn a_sentence_goes_to_one_expert_whatever_its_padding_holds() {
        let device = Device::default();
        let (input, tokens) = random_input(&device);
        let gate = gate(GateLevel::Sentence, GateScale::Unit, &device);
        let route = |input: &Tensor<3>| -> Vec<i64> {
            let experts = gate.route(input, &tokens, false).experts;
            experts.into_data().iter().collect()
        };
        let experts = route(&input);
        assert!(experts[..5].iter().all(|expert| *expert == experts[0]));
        let noise = Tensor::ones([1, 3, 4], &device) * 1e3;
        let changed = input.slice_assign([0..1, 2..5, 0..4], noise);
        assert_eq!(route(&changed)[0], experts[0]);
    }

    #[test]
    fn entropy_is_that_of_real_tokens_and_between_certain_and_undecided() {
        let device = Device::default();
        let probabilities = Tensor::<2>::from_data([[0.5, 0.5], [1.0, 0.0]], &device);
        let of = |weight: Option<Tensor<2>>| -> f32 {
            mean_entropy(&probabilities, weight.as_ref()).into_scalar()
        };
        let undecided = std::f32::consts::LN_2;
        assert!((of(None) - undecided / 2.0).abs() < 1e-6);
        let first = Tensor::from_data([[1.0], [0.0]], &device);
        assert!((of(Some(first.clone())) - undecided).abs() < 1e-6);
        assert!(of(Some(first.neg() + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn a_single_expert_is_balanced() {
        let device = Device::default();
        let chosen = Tensor::<2, Int>::zeros([3, 1], &device);
        let loss = balance_loss(Tensor::ones([3, 1], &device), &chosen, None);
        assert!((loss.into_scalar::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn balance_loss_is_one_when_balanced_and_counts_real_tokens_only() {
        let device = Device::default();
        let even = Tensor::<2>::from_data([[0.5, 0.5], [0.5, 0.5]], &device);
        let chosen = Tensor::<2, Int>::from_data([[0], [1]], &device);
        let loss = balance_loss(even.clone(), &chosen, None).into_scalar::<f32>();
        assert!((loss - 1.0).abs() < 1e-6);
        // With the second token out, P = (0.9, 0.1), f = (1, 0): 2 * 0.9.
        let skewed = Tensor::<2>::from_data([[0.9, 0.1], [0.2, 0.8]], &device);
        let weight = Tensor::<2>::from_data([[1.0], [0.0]], &device);
        let loss = balance_loss(skewed, &chosen, Some(weight)).into_scalar::<f32>();
        assert!((loss - 1.8).abs() < 1e-6);
    }

    #[test]
    fn padding_counts_in_the_balance_loss_where_it_is_asked_for() {
        let device = Device::default();
        let (input, tokens) = random_input(&device);
        let loss = |level, input: &Tensor<3>, tokens: &Tokens, with_padding| {
            let routing = gate(level, GateScale::Unit, &device).route(input, tokens, true);
            let [without, with] = routing.losses.try_into().unwrap();
            assert_eq!((without.0, with.0), (BALANCE, BALANCE_WITH_PADDING));
            let (_, loss) = if with_padding { with } else { without };
            loss.into_scalar::<f32>()
        };
        // Counting padding is the same as not knowing of it.
        let unpadded = Tokens {
            padding: None,
            ..tokens.clone()
        };
        let token = GateLevel::Token;
        let expected = loss(token, &input, &unpadded, false);
        let padded = loss(token, &input, &tokens, true);
        assert!((padded - expected).abs() < 1e-6, "{padded} {expected}");
        assert!((padded - loss(token, &input, &tokens, false)).abs() > 1e-4);
        // A gate for sequences counts sequences.
        let [with, without] =
            [true, false].map(|padded| loss(GateLevel::Sentence, &input, &tokens, padded));
        assert_eq!(with.to_bits(), without.to_bits());
    }
}
