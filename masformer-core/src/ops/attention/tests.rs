use burn::tensor::{Distribution, activation::softmax};
use proptest::prelude::*;

use super::{draws::Draws, *};
use crate::ops::tiles::tests::{directions, spans};

/// The definition: every score, a mask, a softmax.
fn dense(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    options: SpanAttentionOptions,
) -> Tensor<4> {
    dense_weights(query, key, padding, options).matmul(value)
}

/// The weights `[B, H, T, S]` of the definition.
fn dense_weights(
    query: Tensor<4>,
    key: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    options: SpanAttentionOptions,
) -> Tensor<4> {
    let device = query.device();
    let [batch, heads, queries, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    let hidden: Vec<bool> = (0..queries)
        .flat_map(|row| (0..keys).map(move |key| (row + keys - queries, key)))
        .map(|(row, key)| !options.span.sees(options.direction, row, key))
        .collect();
    let shape = [batch, heads, queries, keys];
    let mut mask = Tensor::<2, Bool>::from_data(TensorData::new(hidden, [queries, keys]), &device)
        .reshape([1, 1, queries, keys])
        .expand(shape);
    if let Some(padding) = padding {
        mask = mask.bool_or(padding.clone().reshape([batch, 1, 1, keys]).expand(shape));
    }
    let scores = query.matmul(key.swap_dims(2, 3)) * options.scale;
    let weights = softmax(scores.mask_fill(mask.clone(), f32::MIN), 3);
    weights.mask_fill(mask, 0.0)
}

fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Output and gradients of query, key and value.
fn run(
    inputs: &[Tensor<4>; 3],
    attend: impl Fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>,
    weights: &Tensor<4>,
) -> [Tensor<4>; 4] {
    let inputs = inputs.clone().map(Tensor::require_grad);
    let [query, key, value] = inputs.clone();
    let output = attend(query, key, value);
    let loss = (output.clone() * Tensor::from_inner(weights.clone())).sum();
    let gradients = loss.backward();
    let [query, key, value] = inputs.each_ref().map(|x| x.grad(&gradients).unwrap());
    [output.inner(), query, key, value]
}

fn largest_difference(left: &Tensor<4>, right: &Tensor<4>) -> f32 {
    (left.clone() - right.clone()).abs().max().into_scalar()
}

fn assert_equals_dense(
    options: SpanAttentionOptions,
    [batch, heads, queries, keys]: [usize; 4],
    padding: Option<Vec<bool>>,
) {
    let device = Device::default().autodiff();
    let width = 4;
    let inputs = [queries, keys, keys].map(|length| random([batch, heads, length, width], &device));
    let padding = padding.map(|padding| {
        Tensor::<2, Bool>::from_data(TensorData::new(padding, [batch, keys]), &device)
    });
    let shape = [batch, heads, queries, width];
    let weights = random(shape, &device.clone().inner());
    let padding = padding.as_ref();
    let tiled = run(
        &inputs,
        |q, k, v| span_attention(q, k, v, padding, options),
        &weights,
    );
    let dense = run(
        &inputs,
        |q, k, v| dense(q, k, v, padding, options),
        &weights,
    );
    for (name, tiled, dense) in ["output", "query", "key", "value"]
        .into_iter()
        .zip(&tiled)
        .zip(&dense)
        .map(|((name, tiled), dense)| (name, tiled, dense))
    {
        let size = dense.clone().abs().max().into_scalar::<f32>().max(1.0);
        let difference = largest_difference(tiled, dense) / size;
        assert!(difference < 1e-5, "{name}: {difference} with {options:?}");
    }
}

fn options(span: Span, direction: Direction) -> SpanAttentionOptions {
    SpanAttentionOptions {
        span,
        direction,
        scale: 0.5,
        dropout: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn tiles_equal_the_dense_definition(
        span in spans(),
        direction in directions(),
        batch in 1..3_usize,
        heads in 1..3_usize,
        keys in 1..700_usize,
        cached in 0..300_usize,
        padded in proptest::option::of(0..701_usize),
        left in any::<bool>(),
    ) {
        let queries = keys - cached.min(keys - 1);
        let padding = padded.map(|padded| {
            // The first sequence is padded on one side, entirely if the draw is longer than it.
            (0..batch * keys)
                .map(|place| place < keys && if left { place < padded } else { place + padded >= keys })
                .collect()
        });
        assert_equals_dense(options(span, direction), [batch, heads, queries, keys], padding);
    }

    #[test]
    fn attention_received_is_the_sum_of_dense_weights(
        span in spans(),
        direction in directions(),
        batch in 1..3_usize,
        heads in 1..3_usize,
        keys in 1..700_usize,
        cached in prop_oneof![Just(0), 0..700_usize],
        padded in proptest::option::of(0..701_usize),
        left in any::<bool>(),
    ) {
        let device = Device::default();
        let queries = keys - cached.min(keys - 1);
        let query = random([batch, heads, queries, 4], &device);
        let key = random([batch, heads, keys, 4], &device);
        let padding = padded.map(|padded| {
            // The first sequence is padded on one side, entirely if the draw is longer than it.
            let padding: Vec<bool> = (0..batch * keys)
                .map(|place| place < keys && if left { place < padded } else { place + padded >= keys })
                .collect();
            Tensor::<2, Bool>::from_data(TensorData::new(padding, [batch, keys]), &device)
        });
        let options = options(span, direction);
        let weights = dense_weights(query.clone(), key.clone(), padding.as_ref(), options);
        let mut weights: Tensor<3> = weights.mean_dim(1).squeeze_dim(1);
        if let Some(padding) = &padding {
            let padded = padding.clone().slice_dim(1, keys - queries..keys);
            let padded = padded.unsqueeze_dim::<3>(2).expand([batch, queries, keys]);
            weights = weights.mask_fill(padded, 0.0);
        }
        let expected: Tensor<2> = weights.sum_dim(1).squeeze_dim(1);
        let found = attention_received(query, key, padding.as_ref(), options);
        prop_assert_eq!(found.dims(), [batch, keys]);
        let size = expected.clone().abs().max().into_scalar::<f32>().max(1.0);
        let difference = (found - expected).abs().max().into_scalar::<f32>() / size;
        prop_assert!(difference < 1e-5, "{}", difference);
    }
}

#[test]
fn attention_received_has_no_gradient() {
    let device = Device::default().autodiff();
    let query = random([1, 2, 5, 4], &device).require_grad();
    let options = options(Span::Full, Direction::Bidirectional);
    let received = attention_received(query.clone(), query.clone(), None, options);
    let gradients = (received.sum() + query.clone().sum()).backward();
    // That of the sum alone.
    let gradient = query.grad(&gradients).unwrap();
    gradient
        .into_data()
        .assert_eq(&TensorData::ones::<f32, _>([1, 2, 5, 4]), true);
}

#[test]
fn a_query_that_sees_no_key_gives_zeros_and_takes_no_gradient() {
    let device = Device::default().autodiff();
    let inputs = [(); 3].map(|()| random([1, 1, 5, 4], &device));
    let padding = Tensor::<2, Bool>::from_data([[true, true, false, false, false]], &device);
    let options = options(Span::Full, Direction::Causal);
    let weights = Tensor::ones([1, 1, 5, 4], &device.clone().inner());
    let results = run(
        &inputs,
        |q, k, v| span_attention(q, k, v, Some(&padding), options),
        &weights,
    );
    for (index, result) in results.into_iter().enumerate() {
        let blind = result.clone().slice([0..1, 0..1, 0..2]).abs().max();
        assert!(blind.into_scalar::<f32>() == 0.0, "{index}");
        assert!(!result.is_nan().any().into_scalar::<bool>());
    }
}

#[test]
fn dropout_keeps_the_mean_and_repeats_its_draws_in_the_backward_pass() {
    let device = Device::default().autodiff();
    let inputs = [(); 3].map(|()| random([2, 4, 300, 4], &device));
    let plain = options("window:100".parse().unwrap(), Direction::Causal);
    let dropping = |seed| SpanAttentionOptions {
        dropout: Some(WeightDropout { prob: 0.25, seed }),
        ..plain
    };
    let attend = |options| {
        let [query, key, _] = inputs.clone();
        let ones = Tensor::ones([2, 4, 300, 4], &device);
        span_attention(query, key, ones, None, options)
    };
    // The weights of a row sum to one, and on average so do those that are kept, scaled.
    let mean = attend(dropping(1)).mean().into_scalar::<f32>();
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
    let (first, again, other) = (
        attend(dropping(1)),
        attend(dropping(1)),
        attend(dropping(2)),
    );
    assert!(largest_difference(&first, &again) == 0.0);
    assert!(largest_difference(&first, &other) > 0.1);

    // The output is linear in the values, so the gradient along them is the output itself.
    let weights = random([2, 4, 300, 4], &device.clone().inner());
    let [output, _, _, by_value] = run(
        &inputs,
        |q, k, v| span_attention(q, k, v, None, dropping(3)),
        &weights,
    );
    let along = (by_value * inputs[2].clone().inner())
        .sum()
        .into_scalar::<f32>();
    let loss = (output * weights).sum().into_scalar::<f32>();
    assert!(
        (along - loss).abs() < 1e-3 * loss.abs().max(1.0),
        "{along} {loss}"
    );
}

#[test]
fn gradients_through_dropout_are_slopes() {
    let device = Device::default().autodiff();
    let inputs = [(); 3].map(|()| random([1, 1, 6, 2], &device));
    let options = SpanAttentionOptions {
        dropout: Some(WeightDropout { prob: 0.4, seed: 5 }),
        ..options("window:3+1".parse().unwrap(), Direction::Causal)
    };
    let weights = random([1, 1, 6, 2], &device.clone().inner());
    let attend = |q, k, v| span_attention(q, k, v, None, options);
    let [_, gradients @ ..] = run(&inputs, attend, &weights);
    for (input, gradient) in gradients.into_iter().enumerate() {
        for (place, found) in gradient.into_data().iter::<f32>().enumerate() {
            let shifted = |by: f32| {
                let mut moved = inputs.clone().map(Tensor::inner);
                let mut step = vec![0.0_f32; 12];
                step[place] = by;
                let step = TensorData::new(step, [1, 1, 6, 2]);
                moved[input] = moved[input].clone() + Tensor::from_data(step, &weights.device());
                let [query, key, value] = moved;
                (attend(query, key, value) * weights.clone())
                    .sum()
                    .into_scalar::<f32>()
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!(
                (found - slope).abs() < 2e-3,
                "{input} {place}: {found} {slope}"
            );
        }
    }
}

/// With `BURN_DEVICE=vulkan`, say, these are the draws of that device.
#[test]
fn weights_are_drawn_alike_on_every_device() {
    let device = Device::default();
    let query = Tensor::<4>::zeros([2, 3, 40, 1], &device);
    let dropout = WeightDropout { prob: 0.3, seed: 9 };
    let (rows, keys) = (5..40, 2..23);
    let found = <Dispatch as SpanAttentionOps>::kept_weights(
        query.into_dispatch(),
        dropout,
        rows.clone(),
        keys.clone(),
    );
    let found = Tensor::<4>::from_dispatch(found).into_data();
    let mut expected = vec![];
    for draws in (0..6).map(|head| Draws::new(dropout, head)) {
        for row in rows.clone() {
            let weight = |key| draws.kept(draws.query(row), draws.key(key));
            expected.extend(keys.clone().map(weight));
        }
    }
    let dropped = expected.iter().filter(|&&weight| weight == 0.0).count();
    assert!((0.25..0.35).contains(&(dropped as f64 / expected.len() as f64)));
    found.assert_eq(&TensorData::new(expected, [2, 3, 35, 21]), true);
}
