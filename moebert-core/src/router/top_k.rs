//! A learned gate that sends each token to its `k` likeliest experts.

use burn::{
    module::{Module, Param},
    nn::Linear,
    prelude::*,
};
use masformer_core::{Tokens, ops::softmax, text_form::TextForm};
use serde::{Deserialize, Serialize};

use super::{
    GateScale, Route, RouteSpec, RouterConfig, RouterError, RouterKind, RouterLoss, RouterShape,
    Routing,
    gate::{self, TOKEN_BALANCE, balance_losses, mean_entropy},
};

/// The mean square of the logarithm of the scores' sum (ST-MoE, arXiv 2202.08906, equation 5), which keeps
/// scores small.
pub const Z: &str = "z";

/// `top-k` in texts: a [`TopKRouter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK {}

/// `z = x W + b`, and a softmax over the `k` largest of the scores (arXiv 1701.06538, equations 3 to 5,
/// without noise). Of equal scores the one of the lower expert counts as larger.
///
/// With `k = 1` that softmax would be 1 and would teach the gate nothing; the weight is then the expert's
/// probability among all, as [`GateScale`] says.
#[derive(Module, Debug)]
pub struct TopKRouter {
    /// `W`, stored `[D, E]`, and `b`.
    pub gate: Linear,
    k: usize,
    #[module(skip)]
    scale: GateScale,
}

impl TextForm for TopK {
    const NAME: &'static str = "top-k";
}

impl RouteSpec for TopK {
    const KIND: RouterKind = RouterKind {
        takes_several: true,
        ..RouterKind::gate(
            Self::NAME,
            &[
                TOKEN_BALANCE,
                RouterLoss {
                    name: Z,
                    title: "Router z-loss",
                    with_padding: None,
                },
            ],
        )
    };

    type Router = TopKRouter;

    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<TopKRouter, RouterError> {
        let mut gate = gate::weights(config, shape, device);
        let bias = Tensor::zeros([shape.experts], device);
        gate.bias = Some(Param::from_tensor(bias));
        Ok(TopKRouter {
            gate,
            k: config.k,
            scale: config.gate_scale,
        })
    }
}

impl Route for TopKRouter {
    fn route(&self, input: &Tensor<3>, tokens: &Tokens, with_losses: bool) -> Routing {
        let [batch, length, hidden] = input.dims();
        let count = batch * length;
        let scores = self.gate.forward(input.clone().reshape([count, hidden]));
        let experts = largest(scores.clone().detach(), self.k);
        let chosen = scores.clone().gather(1, experts.clone());
        let probabilities = softmax(scores.clone());
        let weights = if self.k == 1 {
            let probability = probabilities.clone().gather(1, experts.clone());
            self.scale.weights(probability)
        } else {
            Some(softmax(chosen))
        };
        let (losses, entropy) = if with_losses {
            let real = tokens.padding.clone().map(|padding| {
                let real: Tensor<2> = padding.bool_not().float();
                real.reshape([count, 1])
            });
            let z = z_loss(scores, real.clone());
            let entropy = mean_entropy(&probabilities, real.as_ref());
            let mut losses = balance_losses(&probabilities, &experts, real);
            losses.push((Z, z));
            (losses, Some(entropy))
        } else {
            (vec![], None)
        };
        Routing {
            experts,
            weights,
            losses,
            entropy,
        }
    }

    fn experts_per_token(&self) -> usize {
        self.k
    }

    fn cost(&self) -> usize {
        self.gate.weight.shape().num_elements()
    }
}

/// The columns of the `k` largest numbers of each row, `[N, k]`, the largest first.
fn largest(mut rows: Tensor<2>, k: usize) -> Tensor<2, Int> {
    let [count, columns] = rows.dims();
    let ids = Tensor::<1, Int>::arange(0..columns as i64, &rows.device()).unsqueeze::<2>();
    let ids = ids.expand([count, columns]);
    let mut found = Vec::with_capacity(k);
    for _ in 0..k {
        let best = rows.clone().argmax(1);
        let is_best = ids.clone().equal(best.clone().expand([count, columns]));
        rows = rows.mask_fill(is_best, f64::NEG_INFINITY);
        found.push(best);
    }
    Tensor::cat(found, 1)
}

/// The loss [`Z`] of scores `[N, E]` over tokens that count, `[N, 1]`.
fn z_loss(scores: Tensor<2>, weight: Option<Tensor<2>>) -> Tensor<1> {
    let most = scores.clone().detach().max_dim(1);
    let sum = (scores - most.clone()).exp().sum_dim(1);
    let squares = (sum.log() + most).square();
    match weight {
        Some(weight) => (squares * weight.clone()).sum() / weight.sum().clamp_min(1.0),
        None => squares.mean(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{router::chosen, tensor_file::TensorFile};

    fn fixture(name: &str) -> TensorFile {
        let path = format!(
            "{}/../tests/fixtures/routers/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        TensorFile::read(path.as_ref()).unwrap()
    }

    fn matrix(file: &TensorFile, name: &str, device: &Device) -> Tensor<2> {
        let (shape, values) = file.f32::<2>(name).unwrap();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn vector(file: &TensorFile, name: &str, device: &Device) -> Tensor<1> {
        let (shape, values) = file.f32::<1>(name).unwrap();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn tokens(count: usize, device: &Device) -> Tokens {
        Tokens {
            ids: Tensor::zeros([1, count], device),
            padding: None,
        }
    }

    /// Reference numbers of an implementation in another language: gate, losses and gradients of the gate's
    /// product with a cotangent and both losses.
    #[test]
    fn gates_losses_and_gradients_are_those_of_the_reference() {
        let device = Device::default().autodiff();
        let file = fixture("topk_e4_k2.safetensors");
        let gate = Linear {
            weight: Param::from_tensor(matrix(&file, "weight", &device).transpose()),
            bias: Some(Param::from_tensor(vector(&file, "bias", &device))),
        };
        let router = TopKRouter {
            gate,
            k: 2,
            scale: GateScale::Unit,
        };
        let input = matrix(&file, "input", &device).require_grad();
        let [count, _] = input.dims();
        let routing = router.route(&input.clone().unsqueeze(), &tokens(count, &device), true);
        let weights = routing.weights.unwrap();
        let pairs = chosen(routing.experts.clone(), 4).reshape([count, 2, 4]);
        let gate = (pairs * weights.unsqueeze_dim::<3>(2)).sum_dim(1);
        let gate = gate.squeeze_dim::<2>(1);
        let [balance, _, z] = routing.losses.try_into().unwrap();
        assert_eq!((balance.0, z.0), ("balance", Z));
        let sum = (gate.clone() * matrix(&file, "cotangent", &device)).sum();
        let gradients = (sum + balance.1.clone() + z.1.clone()).backward();

        let close = |name: &str, found: Tensor<2>| {
            let expected = matrix(&file, name, &device.clone().inner());
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{name}: {difference}");
        };
        close("gate", gate.inner());
        close("grad.input", input.grad(&gradients).unwrap());
        let weight = router.gate.weight.val().grad(&gradients).unwrap();
        close("grad.weight", weight.transpose());
        for (name, found) in [
            ("balance_loss", balance.1.inner()),
            ("z_loss", z.1.inner()),
            (
                "grad.bias",
                router.gate.bias.unwrap().val().grad(&gradients).unwrap(),
            ),
        ] {
            let expected = vector(&file, name, &device.clone().inner());
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{name}: {difference}");
        }
        let sets = |ids: Vec<usize>| -> Vec<BTreeSet<usize>> {
            let pairs = ids.chunks(2);
            pairs.map(|pair| pair.iter().copied().collect()).collect()
        };
        let (_, expected) = file.indices::<2>("experts").unwrap();
        let found = routing.experts.into_data();
        let found = found.iter::<i64>().map(|id| id as usize).collect();
        assert_eq!(sets(found), sets(expected));
    }

    #[test]
    fn of_equal_scores_the_lower_experts_are_taken() {
        let device = Device::default();
        let rows = Tensor::from_data(
            [[1.0, 2.0, 2.0, 0.0], [0.0; 4], [-1.0, -3.0, 5.0, -1.0]],
            &device,
        );
        let found: Vec<i64> = largest(rows, 2).into_data().iter().collect();
        assert_eq!(found, [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn padding_counts_in_no_loss_but_the_one_that_says_so() {
        let device = Device::default();
        let shape = RouterShape {
            experts: 3,
            hidden: 4,
            vocabulary: 10,
            layer: 0,
            token_counts: None,
        };
        let config = RouterConfig {
            k: 2,
            seed: 1,
            ..RouterConfig::default()
        };
        let router = TopK {}.init(&config, shape, &device).unwrap();
        let distribution = burn::tensor::Distribution::Normal(0.0, 30.0);
        let input = Tensor::random([1, 5, 4], distribution, &device);
        let losses = |input: Tensor<3>, padding: Option<Tensor<2, Bool>>| -> Vec<f32> {
            let [_, count, _] = input.dims();
            let tokens = Tokens {
                padding,
                ..tokens(count, &device)
            };
            let losses = router.route(&input, &tokens, true).losses;
            losses
                .into_iter()
                .map(|(_, loss)| loss.into_scalar())
                .collect()
        };
        let padding = Tensor::from_data([[false, false, false, true, true]], &device);
        let padded = losses(input.clone(), Some(padding));
        let alone = losses(input.clone().slice_dim(1, 0..3), None);
        let whole = losses(input, None);
        let close = |left: f32, right: f32| (left - right).abs() < 1e-4 * right.abs().max(1.0);
        assert!(close(padded[0], alone[0]) && close(padded[2], alone[2]));
        assert!(close(padded[1], whole[1]), "{padded:?} {whole:?}");
    }
}
