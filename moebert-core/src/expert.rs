//! Expert layers: feed-forward layers of which each token passes a part.

use burn::{module::Module, prelude::*};
use masformer_core::{
    FeedForward, FeedForwardCost, Flow, Mlp, NormPlacement, RouteTrace, Trace,
    ops::{Groups, expert_feed_forward},
};

use crate::router::{Route, Router, Routing, chosen};

/// A feed-forward layer split into experts.
///
/// An expert is a narrower [`Mlp`], post-norm `LN_e(dropout(W2_e act(W1_e a + b1_e) + b2_e) + a)`: it carries
/// residual connection and normalisation of its own (`MoEBERT`, section 3.3).
#[derive(Module, Debug)]
pub struct ExpertLayer {
    /// `E` experts.
    pub experts: Vec<Mlp>,
    /// Chooses the experts of each token.
    pub router: Router,
}

impl FeedForward for ExpertLayer {
    fn forward(&self, flow: &Flow, trace: &mut Trace) -> Tensor<3> {
        let Flow { hidden, tokens, .. } = flow;
        let [batch, length, width] = hidden.dims();
        let keeps_route = trace.keeps_route();
        let Routing {
            experts,
            weights,
            losses,
            entropy,
        } = self.router.route(hidden, tokens, keeps_route);
        if keeps_route {
            let load = load(&experts, self.experts.len(), tokens.padding.as_ref());
            trace.put_route(RouteTrace {
                tokens: tokens.clone(),
                experts: experts.clone(),
                load,
                losses,
                entropy,
            });
        }
        let rows = hidden.clone().reshape([batch * length, width]);
        self.apply(rows, experts, weights)
            .reshape([batch, length, width])
    }

    /// `k` of the widest experts and the router; the other experts are idle.
    fn cost(&self) -> FeedForwardCost {
        let k = self.router.experts_per_token();
        let products = self
            .experts
            .iter()
            .map(|expert| expert.cost().multiply_adds);
        let sizes = self.experts.iter().map(Module::num_params);
        FeedForwardCost {
            multiply_adds: k * products.max().unwrap_or(0) + self.router.cost(),
            idle_parameters: sizes.clone().sum::<usize>() - k * sizes.max().unwrap_or(0),
        }
    }
}

impl ExpertLayer {
    /// Each of `N` tokens `[N, D]` through its experts `[N, k]`, weighed `[N, k]`: all pairs of a token and
    /// an expert in one dispatch.
    fn apply(
        &self,
        tokens: Tensor<2>,
        experts: Tensor<2, Int>,
        weights: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let [count, width] = tokens.dims();
        let [_, k] = experts.dims();
        let pairs = if k == 1 {
            tokens.clone()
        } else {
            let repeated = tokens.clone().unsqueeze_dim::<3>(1);
            let repeated = repeated.expand([count, k, width]);
            repeated.reshape([count * k, width])
        };
        let groups = Groups::new(experts.flatten(0, 1), self.experts.len());
        let fused: Option<Vec<_>> = self.experts.iter().map(Mlp::as_expert).collect();
        let outputs = match fused {
            Some(experts) => expert_feed_forward(pairs, &experts, &groups),
            None => groups.map(pairs, |expert, rows| {
                self.experts[expert].forward_tokens(rows)
            }),
        };
        match weights {
            None => outputs,
            Some(weights) => self.weighed(tokens, outputs, weights),
        }
    }

    /// The sum of each token's outputs `[N k, D]`, weighed `[N, k]`.
    ///
    /// Where the normalisation does not come last, the weights are for what the experts add to the token: the
    /// residual connection keeps the scale of the layers before.
    fn weighed(&self, tokens: Tensor<2>, outputs: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
        let [count, width] = tokens.dims();
        let [_, k] = weights.dims();
        let sum = if k == 1 {
            outputs * weights.clone()
        } else {
            let outputs = outputs.reshape([count, k, width]);
            let weighed = outputs * weights.clone().unsqueeze_dim::<3>(2);
            weighed.sum_dim(1).squeeze_dim(1)
        };
        let mut placements = self.experts.iter().map(|expert| expert.norm_placement);
        match placements.next() {
            Some(NormPlacement::Pre | NormPlacement::Both | NormPlacement::Parallel) => {
                sum + tokens * (weights.sum_dim(1).neg() + 1.0)
            }
            Some(NormPlacement::Post) | None => sum,
        }
    }
}

/// How many real tokens went to each expert, `[E]`: a token counts once for each of its experts `[N, k]`.
fn load(routed: &Tensor<2, Int>, experts: usize, padding: Option<&Tensor<2, Bool>>) -> Tensor<1> {
    let [count, k] = routed.dims();
    let chosen = chosen(routed.clone(), experts);
    let real = match padding {
        Some(padding) => {
            let real: Tensor<2> = padding.clone().bool_not().float();
            let real = real.reshape([count, 1]).repeat_dim(1, k);
            chosen * real.reshape([count * k, 1])
        }
        None => chosen,
    };
    real.sum_dim(0).squeeze_dim(0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use masformer_core::{Keep, Layers, MlpConfig, NormKind, Tokens};
    use proptest::prelude::*;

    use super::*;
    use crate::router::{
        GateScale, GateSentence, GateToken, HashRouter, RouterConfig, RouterShape, RouterSpec, TopK,
    };

    const HIDDEN: usize = 6;

    /// The definition that grouped dispatch must equal: every expert works on every token, and a weight that is
    /// 0 for all but the experts of the token sums them up.
    fn masked(layer: &ExpertLayer, input: Tensor<3>, tokens: &Tokens) -> Tensor<3> {
        let [batch, length, hidden] = input.dims();
        let routing = layer.router.route(&input, tokens, false);
        let rows = input.reshape([batch * length, hidden]);
        let [count, k] = routing.experts.dims();
        let all = layer.experts.len();
        let each = chosen(routing.experts, all).reshape([count, k, all]);
        let weighed = match routing.weights {
            Some(weights) => each * weights.unsqueeze_dim::<3>(2),
            None => each,
        };
        let gate = weighed.sum_dim(1).squeeze_dim::<2>(1);
        let mut output = rows.zeros_like();
        let is_pre = layer.experts[0].norm_placement != NormPlacement::Post;
        for (index, expert) in layer.experts.iter().enumerate() {
            let weight = gate.clone().slice_dim(1, index..=index);
            let result = expert.forward_tokens(rows.clone());
            let result = if is_pre {
                result - rows.clone()
            } else {
                result
            };
            output = output + result * weight;
        }
        let output = if is_pre { output + rows } else { output };
        output.reshape([batch, length, hidden])
    }

    fn mlp() -> MlpConfig {
        MlpConfig::new(HIDDEN, 5)
            .with_dropout(0.0)
            .with_initializer(burn::nn::Initializer::Normal {
                mean: 0.0,
                std: 0.5,
            })
    }

    fn layer(
        router: Router,
        experts: usize,
        placement: NormPlacement,
        device: &Device,
    ) -> ExpertLayer {
        let config = mlp().with_norm_placement(placement);
        layer_of(&config, router, experts, device)
    }

    fn layer_of(
        config: &MlpConfig,
        router: Router,
        experts: usize,
        device: &Device,
    ) -> ExpertLayer {
        ExpertLayer {
            experts: (0..experts).map(|_| config.init(device)).collect(),
            router,
        }
    }

    fn flow(hidden: Tensor<3>, tokens: &Tokens) -> Flow {
        let tokens = tokens.clone();
        Flow::new(hidden, tokens)
    }

    fn close(left: Tensor<3>, right: Tensor<3>) -> bool {
        (left - right).abs().max().into_scalar::<f32>() < 1e-5
    }

    /// Gradients of the input and of every parameter of the layer, flattened, missing ones as zeros;
    /// the loss is the sum of the output, weighted.
    fn gradients(
        layer: &ExpertLayer,
        input: &Tensor<3>,
        output: Tensor<3>,
        weights: &Tensor<3>,
    ) -> Vec<f32> {
        let gradients = (output * weights.clone()).sum().backward();
        let mut values: Vec<f32> = vec![];
        let mut push = |gradient: Option<TensorData>, count: usize| match gradient {
            Some(data) => values.extend(data.iter::<f32>()),
            None => values.extend(std::iter::repeat_n(0.0, count)),
        };
        push(
            input.grad(&gradients).map(Tensor::into_data),
            input.shape().num_elements(),
        );
        for expert in &layer.experts {
            for linear in [&expert.inner, &expert.outer]
                .into_iter()
                .chain(&expert.gate)
            {
                let weight = linear.weight.val();
                push(
                    weight.grad(&gradients).map(Tensor::into_data),
                    weight.shape().num_elements(),
                );
                let bias = linear.bias.as_ref().unwrap().val();
                push(
                    bias.grad(&gradients).map(Tensor::into_data),
                    bias.shape().num_elements(),
                );
            }
            let gamma = expert.norm.gamma.val();
            push(gamma.grad(&gradients).map(Tensor::into_data), HIDDEN);
        }
        let gate = match &layer.router {
            Router::GateToken(router) | Router::GateSentence(router) => Some(&router.gate),
            Router::TopK(router) => Some(&router.gate),
            Router::HashRandom(_) | Router::HashBalance(_) => None,
        };
        if let Some(gate) = gate {
            let weight = gate.weight.val();
            push(
                weight.grad(&gradients).map(Tensor::into_data),
                weight.shape().num_elements(),
            );
        }
        values
    }

    fn assert_grouped_equals_masked(layer: &ExpertLayer, input: Tensor<3>, tokens: &Tokens) {
        let device = input.device();
        let input = input.detach().require_grad();
        let weights = Tensor::random(input.dims(), Distribution::Normal(0.0, 1.0), &device);
        let run = |output: Tensor<3>| {
            let gradients = gradients(layer, &input, output.clone(), &weights);
            (output.inner(), gradients)
        };
        let (grouped, grouped_gradients) =
            run(layer.forward(&flow(input.clone(), tokens), &mut Trace::nothing()));
        let (masked, masked_gradients) = run(masked(layer, input.clone(), tokens));
        assert!(close(grouped, masked));
        assert_eq!(grouped_gradients.len(), masked_gradients.len());
        // Sums of terms of that size, in another order.
        let largest = masked_gradients
            .iter()
            .fold(1.0, |most: f32, x| most.max(x.abs()));
        for (grouped, masked) in grouped_gradients.iter().zip(&masked_gradients) {
            let difference = (grouped - masked).abs();
            assert!(difference < 1e-5 * largest, "{grouped} != {masked}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn grouped_dispatch_equals_the_masked_definition(
            routing in prop::collection::vec(0_usize..4, 1..24),
            seed in any::<u64>(),
            is_pre in any::<bool>(),
        ) {
            // Four of six experts at most have tokens: empty experts are in every case.
            let device = Device::default().autodiff();
            device.seed(seed);
            let tokens = Tokens {
                ids: Tensor::<1, Int>::arange(0..routing.len() as i64, &device).unsqueeze(),
                padding: None,
            };
            let router = Router::HashRandom(HashRouter::new(&routing, &device));
            let placement = if is_pre { NormPlacement::Pre } else { NormPlacement::Post };
            let layer = layer(router, 6, placement, &device);
            let shape = [1, routing.len(), HIDDEN];
            let input = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
            assert_grouped_equals_masked(&layer, input, &tokens);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn pairs_equal_the_masked_sum_of_all_experts(
            experts in 1_usize..7,
            k in 1_usize..4,
            count in 1_usize..20,
            seed in any::<u64>(),
            is_pre in any::<bool>(),
        ) {
            // Of few tokens some experts have none.
            let k = k.min(experts);
            let device = Device::default().autodiff();
            device.seed(seed);
            let config = RouterConfig {
                spec: RouterSpec::TopK(TopK {}),
                k,
                seed,
                ..RouterConfig::default()
            };
            let shape = RouterShape {
                experts,
                hidden: HIDDEN,
                vocabulary: 4,
                layer: 0,
                token_counts: None,
            };
            let placement = if is_pre { NormPlacement::Pre } else { NormPlacement::Post };
            let router = config.init(shape, &device).unwrap();
            let layer = layer(router, experts, placement, &device);
            let tokens = Tokens::new(Tensor::zeros([1, count], &device), None);
            let normal = Distribution::Normal(0.0, 1.0);
            let input = Tensor::random([1, count, HIDDEN], normal, &device);
            assert_grouped_equals_masked(&layer, input, &tokens);
        }
    }

    #[test]
    fn gates_have_the_same_gradients_grouped_and_masked() {
        let device = Device::default().autodiff();
        device.seed(5);
        for (spec, k) in [
            (RouterSpec::GateToken(GateToken {}), 1),
            (RouterSpec::GateSentence(GateSentence {}), 1),
            (RouterSpec::TopK(TopK {}), 1),
            (RouterSpec::TopK(TopK {}), 2),
            (RouterSpec::TopK(TopK {}), 3),
        ] {
            for gate_scale in [GateScale::Unit, GateScale::Probability] {
                let config = RouterConfig {
                    spec: spec.clone(),
                    k,
                    gate_scale,
                    seed: 1,
                };
                let shape = RouterShape {
                    experts: 3,
                    hidden: HIDDEN,
                    vocabulary: 4,
                    layer: 0,
                    token_counts: None,
                };
                for placement in [NormPlacement::Pre, NormPlacement::Post] {
                    let router = config.init(shape, &device).unwrap();
                    let layer = layer(router, 3, placement, &device);
                    let tokens = Tokens::new(Tensor::zeros([3, 4], &device), None);
                    let normal = Distribution::Normal(0.0, 1.0);
                    let input = Tensor::random([3, 4, HIDDEN], normal, &device);
                    assert_grouped_equals_masked(&layer, input, &tokens);
                }
            }
        }
    }

    #[test]
    fn experts_of_any_form_are_weighed_as_the_masked_definition() {
        let device = Device::default().autodiff();
        device.seed(6);
        let config = RouterConfig {
            spec: RouterSpec::TopK(TopK {}),
            k: 2,
            gate_scale: GateScale::Probability,
            seed: 1,
        };
        let tokens = Tokens::new(Tensor::zeros([3, 4], &device), None);
        let pre = mlp().with_norm_placement(NormPlacement::Pre);
        for (expert, is_fused) in [
            (pre.clone(), true),
            (pre.clone().with_norm(NormKind::LayerWithoutOffset), true),
            (pre.with_norm(NormKind::Rms), false),
            (mlp().with_norm_placement(NormPlacement::Both), false),
            (mlp().with_norm_placement(NormPlacement::Parallel), true),
            (mlp().with_norm(NormKind::Rms), false),
            (mlp().with_gated(true), false),
        ] {
            let shape = RouterShape {
                experts: 3,
                hidden: HIDDEN,
                vocabulary: 4,
                layer: 0,
                token_counts: None,
            };
            let router = config.init(shape, &device).unwrap();
            let layer = layer_of(&expert, router, 3, &device);
            assert_eq!(layer.experts[0].as_expert().is_some(), is_fused);
            let input = Tensor::random([3, 4, HIDDEN], Distribution::Normal(0.0, 1.0), &device);
            assert_grouped_equals_masked(&layer, input, &tokens);
        }
    }

    #[test]
    fn output_does_not_depend_on_the_rest_of_the_batch() {
        let device = Device::default();
        let layer = layer(
            Router::HashRandom(HashRouter::new(&[0, 1, 2, 1], &device)),
            3,
            NormPlacement::Post,
            &device,
        );
        let input = Tensor::random([3, 4, HIDDEN], Distribution::Normal(0.0, 1.0), &device);
        let ids = Tensor::<2, Int>::from_data([[0, 1, 2, 3], [3, 3, 3, 3], [2, 0, 1, 0]], &device);
        let forward = |input, ids| {
            let tokens = Tokens::new(ids, None);
            layer.forward(&flow(input, &tokens), &mut Trace::nothing())
        };
        let together = forward(input.clone(), ids.clone());
        for row in 0..3 {
            let alone = forward(
                input.clone().slice([row..=row]),
                ids.clone().slice([row..=row]),
            );
            assert!(close(together.clone().slice([row..=row]), alone));
        }
    }

    #[test]
    fn load_counts_real_tokens() {
        let device = Device::default();
        let router = Router::HashRandom(HashRouter::new(&[1, 0], &device));
        let layer = layer(router, 3, NormPlacement::Post, &device);
        let tokens = Tokens::new(
            Tensor::from_data([[0, 1, 1]], &device),
            Some(Tensor::from_data([[false, false, true]], &device)),
        );
        let mut trace = Trace::new(Keep {
            routes: Layers::All,
            ..Keep::default()
        });
        let input = Tensor::ones([1, 3, HIDDEN], &device);
        layer.forward(&flow(input, &tokens), &mut trace);
        let load: Vec<f32> = trace.routes[&0].load.to_data().iter().collect();
        assert_eq!(load, [1.0, 1.0, 0.0]);
        let route = &trace.routes[&0];
        assert!(route.losses.is_empty() && route.entropy.is_none());
        let experts: Vec<i64> = route.experts.to_data().iter().collect();
        assert_eq!(experts, [1, 0, 0]);
    }
}
