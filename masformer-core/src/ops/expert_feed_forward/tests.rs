use proptest::prelude::*;

use super::*;
use crate::{
    activation::Activation,
    ops::{
        agreement::{ACTIVATIONS, activate, agree, assert_close, assert_same, random, run},
        dropout::dropout,
        feed_forward::feed_forward,
        layer_norm::layer_norm,
    },
};

const EPSILON: f64 = 1e-5;

fn options(activation: Activation, chunk: Option<usize>, is_pre_norm: bool) -> ExpertOptions {
    ExpertOptions {
        feed_forward: FeedForwardOptions { activation, chunk },
        dropout: 0.0,
        epsilon: EPSILON,
        is_pre_norm,
    }
}

/// Each token through the expert that it is assigned to.
fn grouped(input: &Tensor<2>, experts: &[ExpertWeights], assigned: &[usize]) -> Tensor<2> {
    let ids: Vec<i64> = assigned.iter().map(|&expert| expert as i64).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &input.device());
    expert_feed_forward(input.clone(), experts, &Groups::new(ids, experts.len()))
}

fn flat(x: Tensor<2>) -> Tensor<1> {
    x.flatten(0, 1)
}

/// Two experts of six tensors each, from twelve.
fn experts(tensors: &[Tensor<2>], options: ExpertOptions) -> Vec<ExpertWeights> {
    let tensor = |expert: usize, index: usize| tensors[expert * 6 + index].clone();
    let expert = |expert| ExpertWeights {
        feed_forward: FeedForwardWeights {
            inner: tensor(expert, 0),
            inner_bias: flat(tensor(expert, 1)),
            outer: tensor(expert, 2),
            outer_bias: flat(tensor(expert, 3)),
        },
        gamma: flat(tensor(expert, 4)),
        beta: flat(tensor(expert, 5)),
        options,
    };
    (0..tensors.len() / 6).map(expert).collect()
}

/// Every expert on every token, and a mask that keeps the one that the token is assigned to.
fn masked(input: &Tensor<2>, experts: &[ExpertWeights], assigned: &[usize]) -> Tensor<2> {
    let mut output = input.zeros_like();
    for (index, expert) in experts.iter().enumerate() {
        let weights = expert.feed_forward.clone();
        let norm = |input| {
            let (gamma, beta) = (expert.gamma.clone(), expert.beta.clone());
            burn::tensor::module::layer_norm(input, gamma, Some(beta), EPSILON)
        };
        let branch = |input: Tensor<2>| {
            let pre = input.matmul(weights.inner) + weights.inner_bias.unsqueeze::<2>();
            let activated = activate(pre, expert.options.feed_forward.activation);
            activated.matmul(weights.outer) + weights.outer_bias.unsqueeze::<2>()
        };
        let normal = if expert.options.is_pre_norm {
            branch(norm(input.clone())) + input.clone()
        } else {
            norm(branch(input.clone()) + input.clone())
        };
        let mask: Vec<f32> = assigned.iter().map(|&e| f32::from(e == index)).collect();
        let mask = Tensor::<1>::from_data(mask.as_slice(), &input.device());
        output = output + normal * mask.unsqueeze_dim::<2>(1);
    }
    output
}

fn inputs(tokens: usize, hidden: usize, width: usize, device: &Device) -> [Tensor<2>; 13] {
    let expert = [
        [hidden, width],
        [1, width],
        [width, hidden],
        [1, hidden],
        [1, hidden],
        [1, hidden],
    ];
    let mut shapes = [[tokens, hidden]].into_iter().chain(expert).chain(expert);
    std::array::from_fn(|_| random(shapes.next().expect("thirteen shapes"), device) * 0.4)
}

/// The groups as the operation is defined for any backend: one composed layer on each.
fn composed(input: &Tensor<2>, experts: &[ExpertWeights], assigned: &[usize]) -> Tensor<2> {
    let device = input.device();
    let mut outputs = vec![];
    let mut order = vec![];
    for (index, expert) in experts.iter().enumerate() {
        let rows: Vec<i64> = (0..assigned.len() as i64)
            .filter(|&row| assigned[row as usize] == index)
            .collect();
        if rows.is_empty() {
            continue;
        }
        order.extend_from_slice(&rows);
        let tokens = input
            .clone()
            .select(0, Tensor::from_data(rows.as_slice(), &device));
        let options = expert.options;
        let norm = |input| {
            let (gamma, beta) = (expert.gamma.clone(), expert.beta.clone());
            layer_norm(input, gamma, beta, options.epsilon)
        };
        let branch = |input| {
            let output = feed_forward(input, expert.feed_forward.clone(), options.feed_forward);
            dropout(output, options.dropout)
        };
        outputs.push(if options.is_pre_norm {
            branch(norm(tokens.clone())) + tokens
        } else {
            norm(branch(tokens.clone()) + tokens)
        });
    }
    let mut inverse = vec![0_i64; order.len()];
    for (place, &row) in order.iter().enumerate() {
        inverse[row as usize] = place as i64;
    }
    Tensor::cat(outputs, 0).select(0, Tensor::from_data(inverse.as_slice(), &device))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    // With a single expert in use every other is empty, and groups are of any size from one token.
    #[test]
    fn tokens_and_gradients_are_those_of_masked_experts(
        assigned in prop::collection::vec(0..2_usize, 1..30),
        hidden in 5..40_usize,
        width in 1..70_usize,
        chunk in prop::option::of(1..30_usize),
        activation in prop::sample::select(ACTIVATIONS.as_slice()),
        is_pre_norm in any::<bool>(),
    ) {
        let device = Device::default().autodiff();
        let inputs = inputs(assigned.len(), hidden, width, &device);
        let used = |x: Tensor<2>, all: &[Tensor<2>; 13]| {
            // An expert without tokens has no gradients: the test wants zeros.
            all.iter().skip(1).fold(x, |x, weights| x + weights.clone().sum().unsqueeze::<2>() * 0.0)
        };
        assert_same(
            &inputs,
            |all| {
                let experts = experts(&all[1..], options(activation, chunk, is_pre_norm));
                used(grouped(&all[0], &experts, &assigned), &all)
            },
            |all| masked(&all[0], &experts(&all[1..], options(activation, chunk, is_pre_norm)), &assigned),
        );
    }

    // What is not trained takes another way, in sizes that fill several tasks and panels.
    #[test]
    fn inference_is_the_composed_groups(
        tokens in 1..400_usize,
        hidden in 5..300_usize,
        width in 1..300_usize,
        experts_used in 1..3_usize,
        activation in prop::sample::select(ACTIVATIONS.as_slice()),
        is_pre_norm in any::<bool>(),
    ) {
        let device = Device::default();
        let inputs = inputs(tokens, hidden, width, &device);
        let experts = experts(&inputs[1..], options(activation, None, is_pre_norm));
        let assigned: Vec<usize> = (0..tokens).map(|token| token * token / 3 % experts_used).collect();
        let found = grouped(&inputs[0], &experts, &assigned);
        let expected = composed(&inputs[0], &experts, &assigned);
        assert_close(&[found.into_data()], &[expected.into_data()], 1e-5);
    }
}

#[test]
fn dropped_numbers_are_those_of_the_backward_pass() {
    let device = Device::default().autodiff();
    let inputs = inputs(40, 30, 20, &device);
    let assigned: Vec<usize> = (0..40).map(|token| token % 2).collect();
    let weights = random([40, 30], &device);
    for is_pre_norm in [false, true] {
        let dropped = ExpertOptions {
            dropout: 0.3,
            ..options(Activation::Gelu, None, is_pre_norm)
        };
        let with = |apply: fn(&Tensor<2>, &[ExpertWeights], &[usize]) -> Tensor<2>| {
            device.seed(7);
            run(&inputs, &weights, |all| {
                apply(&all[0], &experts(&all[1..], dropped), &assigned)
            })
        };
        // The same seed, and draws in the same order; other tests draw from the same generator in between.
        let agrees = || agree(&with(grouped), &with(composed), 1e-5);
        let mut result = agrees();
        for _ in 0..50 {
            result = result.or_else(|_| agrees());
        }
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn a_token_is_the_same_to_the_bit_in_any_company() {
    let device = Device::default();
    let inputs = inputs(50, 100, 200, &device);
    for is_pre_norm in [false, true] {
        let experts = experts(&inputs[1..], options(Activation::Gelu, None, is_pre_norm));
        let together = grouped(&inputs[0], &experts, &[1; 50]);
        for row in [0, 17, 49] {
            let alone = inputs[0].clone().slice_dim(0, row..=row);
            let alone = grouped(&alone, &experts, &[1]);
            let same = together.clone().slice_dim(0, row..=row);
            alone.into_data().assert_eq(&same.into_data(), true);
        }
    }
}
