//! The optimiser of a stage.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamGroup, ParamId},
    optim::{AdamWState, AdaptiveMomentumState, ModuleOptimizer, Optimizer},
    prelude::*,
};
use masformer_core::{
    module_path::ModulePath,
    ops::{AdamStep, adam_step},
};
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay (arXiv 1711.05101).
///
/// Weight decay applies to the weights of linear layers and embeddings (the matrices called `weight`) and to the factors
/// of low-rank adapters. It does not apply to biases and normalisation weights, as in the training of BERT, or to the
/// matrices of state spaces, as in S4 (arXiv 2111.00396, appendix D).
///
/// A step leaves a parameter without a gradient unchanged, together with its running means and its count of steps. So an
/// expert that received no token in a step stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the running mean of gradients.
    pub beta_1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta_2: f32,
    /// Added to the root of the squared gradients.
    pub epsilon: f32,
    /// Weight decay, in units of the learning rate.
    pub weight_decay: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Adam {
    /// The optimiser for a model; it goes by parameter ids, so load the model's parameters first.
    pub fn init<M: Module>(&self, model: &M) -> ModuleOptimizer {
        let mut visitor = NotWeights::default();
        model.visit(&mut visitor);
        let without_decay = Self {
            weight_decay: 0.0,
            ..self.clone()
        };
        let others = ParamGroup::from_ids(visitor.ids);
        ModuleOptimizer::from(self.clone()).with_group(others, without_decay, None)
    }
}

/// Burn's `AdamW` in one pass over the numbers, with the same state.
impl Optimizer for Adam {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (time, moments) = match state {
            Some(AdamWState { momentum }) => {
                (momentum.time + 1, [momentum.moment_1, momentum.moment_2])
            }
            None => (1, [(); 2].map(|()| gradient.zeros_like())),
        };
        let step = AdamStep {
            rate,
            beta_1: self.beta_1.into(),
            beta_2: self.beta_2.into(),
            epsilon: self.epsilon.into(),
            weight_decay: self.weight_decay.into(),
            time: i32::try_from(time).unwrap_or(i32::MAX),
        };
        let (parameter, [first, second]) = adam_step(parameter, gradient, moments, step);
        let momentum = AdaptiveMomentumState::new(time, first, second);
        (parameter, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(mut state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}

/// The ids of the parameters that are no matrices called `weight`.
#[derive(Default)]
struct NotWeights {
    path: ModulePath,
    ids: Vec<ParamId>,
}

impl ModuleVisitor for NotWeights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_weight = match self.path.parts() {
            [.., adapter, _] if adapter == "lora" => true,
            [.., name] => name == "weight",
            [] => false,
        };
        if D == 1 || !is_weight {
            self.ids.push(param.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::LinearConfig, optim::GradientsParams};
    use masformer_core::{FeedForward, Flow, MlpConfig, Tokens, Trace};
    use moebert_core::{
        expert::ExpertLayer,
        router::{HashRouter, Router},
    };

    use super::*;
    use crate::toy::serial;

    #[test]
    fn only_matrices_decay() {
        let _turn = serial();
        let device = Device::flex().autodiff();
        let model = LinearConfig::new(2, 2).init(&device);
        let inner = device.inner();
        let mut gradients = GradientsParams::new();
        gradients.register(model.weight.id, Tensor::<2>::zeros([2, 2], &inner));
        let bias = model.bias.as_ref().unwrap();
        gradients.register(bias.id, Tensor::<1>::zeros([2], &inner));

        let adam = Adam {
            weight_decay: 0.5,
            ..Adam::default()
        };
        let after = adam.init(&model).step(0.1, model.clone(), gradients);

        let expected = model.weight.val().mul_scalar(1.0 - 0.1 * 0.5);
        let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-7);
        let weight = after.weight.val().into_data();
        weight.assert_approx_eq(&expected.into_data(), tolerance);
        let same = bias.val().into_data();
        after.bias.unwrap().val().into_data().assert_eq(&same, true);
    }

    /// Three experts; the token `e` goes to expert `e`.
    fn experts() -> ExpertLayer {
        let device = Device::flex().autodiff();
        let experts = MlpConfig::new(4, 3).with_dropout(0.0);
        ExpertLayer {
            experts: (0..3).map(|_| experts.init(&device)).collect(),
            router: Router::HashRandom(HashRouter::new(&[0, 1, 2], &device)),
        }
    }

    /// The experts' weights after a step for each list of token ids.
    fn experts_after(start: &ExpertLayer, steps: &[&[i64]]) -> Vec<Vec<u32>> {
        let device = Device::flex().autodiff();
        let mut layer = start.clone();
        let adam = Adam {
            weight_decay: 0.1,
            ..Adam::default()
        };
        let mut optimizer = adam.init(&layer);
        for ids in steps {
            let ids =
                Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &device);
            let input = ids.clone().float().unsqueeze_dim::<3>(2);
            let column = Tensor::<1>::from_data([0.3, -1.0, 2.0, 0.7], &device).unsqueeze::<3>();
            let flow = Flow::new((input + 1.0) * column.clone(), Tokens::new(ids, None));
            let output = layer.forward(&flow, &mut Trace::nothing());
            let gradients = (output * column).sum().backward();
            let gradients = GradientsParams::from_grads(gradients, &layer);
            layer = optimizer.step(0.01, layer, gradients);
        }
        let bits = |weight: Tensor<2>| weight.into_data().iter::<f32>().map(f32::to_bits).collect();
        let experts = layer.experts.iter();
        experts
            .map(|expert| bits(expert.inner.weight.val()))
            .collect()
    }

    #[test]
    fn an_expert_without_tokens_stays_as_it_is_with_its_running_means() {
        let _turn = serial();
        let (all, but_2): (&[i64], &[i64]) = (&[0, 1, 2], &[0, 1]);
        let start = experts();
        let [before, without, after] = [
            experts_after(&start, &[all]),
            experts_after(&start, &[all, but_2]),
            experts_after(&start, &[all, but_2, all]),
        ];
        assert_eq!(without[2], before[2]);
        assert_ne!(without[0], before[0]);
        // The next step is as if there had been none between.
        let twice = experts_after(&start, &[all, all]);
        assert_eq!(after[2], twice[2]);
        assert_ne!(after[0], twice[0]);
        assert_ne!(after[2], before[2]);
    }
}
