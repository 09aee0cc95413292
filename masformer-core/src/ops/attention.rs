//! Attention with a span, tile by tile: no tensor of queries by keys exists, forward or backward.
//!
//! The softmax is taken online, over one tile of keys after the other (Milakov and Gimelshein, arXiv
//! 1805.02867), and the backward pass computes each tile's weights again from the logarithm of the
//! softmax's denominator (Blockwise Parallel Transformer, arXiv 2305.19370; `FlashAttention`, arXiv
//! 2205.14135), so that memory grows linearly with the number of tokens for every span.

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    prelude::*,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::ops::Range;

use super::{primitive::Float, tiles::Tiles};
use crate::span::{Direction, Span};

/// What is added to the score of a hidden pair: its weight is zero in float32 and bfloat16.
const HIDDEN: f64 = -1e30;
/// The least maximum of a row. It is far above [`HIDDEN`], so that a row that sees no key sums to
/// zero, and far below any score.
const FLOOR: f64 = -1e20;
/// The least sum of a row, for those that see no key.
const TINY: f64 = 1e-30;

/// How queries and keys meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanAttentionOptions {
    /// The keys that a query may see.
    pub span: Span,
    /// Whether it may see what comes after it.
    pub direction: Direction,
    /// The factor on the scores.
    pub scale: f64,
    /// Dropout of the attention weights.
    pub dropout: Option<WeightDropout>,
}

/// Dropout whose draws can be repeated, so that the backward pass need not store them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightDropout {
    /// The probability of dropping a weight, from 0 to below 1.
    pub prob: f64,
    /// The seed of the draws.
    pub seed: u64,
}

/// Attention with a span: `softmax(scale Q K^T + M) V`, where `M` hides what the span does not allow.
///
/// The queries are the last `T` of the `S` positions. A query that sees no key gives zeros.
///
/// # Shapes
///
/// - query: `[B, H, T, d]`
/// - key, value: `[B, H, S, d]`, `S` at least `T`
/// - padding: `[B, S]`, true where a key is padding
/// - output: `[B, H, T, d]`
///
/// # Panics
///
/// If there are more queries than keys.
pub fn span_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    options: SpanAttentionOptions,
) -> Tensor<4> {
    let device = query.device();
    let [batch, _, queries, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    assert!(
        queries <= keys,
        "{queries} queries for {keys} keys; there must be a key for each query"
    );
    let bias = match padding {
        Some(padding) => {
            let bias: Tensor<2> = padding.clone().float() * HIDDEN;
            bias.reshape([batch, 1, 1, keys])
        }
        None => Tensor::zeros([1, 1, 1, 1], &device),
    };
    let (output, _) = <Dispatch as SpanAttentionOps>::span_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        bias.into_dispatch(),
        options,
    );
    Tensor::from_dispatch(output)
}

/// Attention with a span on one backend; the default body works on all of them.
///
/// `bias` is `[B, 1, 1, S]`, added to the scores, or `[1, 1, 1, 1]` where there is none.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait SpanAttentionOps: Backend {
    /// The output `[B, H, T, d]`, and the logarithm of each row's denominator `[B, H, T, 1]`.
    #[fusion(default)]
    fn span_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = Inputs::<Self>::new(query, key, value, bias);
        let (output, denominators) = inputs.forward(options);
        (output.0, denominators.0)
    }

    /// The gradients of query, key and value.
    #[allow(clippy::too_many_arguments, reason = "all that the forward pass knew")]
    #[fusion(default)]
    fn span_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        output: FloatTensor<Self>,
        denominators: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = Inputs::<Self>::new(query, key, value, bias);
        let (output, denominators) = (Float(output), Float(denominators));
        let [query, key, value] =
            inputs.backward(&output, &denominators, &Float(gradient), options);
        (query.0, key.0, value.0)
    }
}

#[cfg(feature = "flex")]
impl SpanAttentionOps for burn::backend::Flex {}
#[cfg(feature = "ndarray")]
impl SpanAttentionOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl SpanAttentionOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl SpanAttentionOps for burn::backend::Remote {}

struct Inputs<B: Backend> {
    query: Float<B>,
    key: Float<B>,
    value: Float<B>,
    bias: Option<Float<B>>,
}

impl<B: Backend> Inputs<B> {
    fn new(
        query: FloatTensor<B>,
        key: FloatTensor<B>,
        value: FloatTensor<B>,
        bias: FloatTensor<B>,
    ) -> Self {
        let (key, bias) = (Float::<B>(key), Float::<B>(bias));
        let [_, _, keys, _] = key.dims();
        let [_, _, _, biased] = bias.dims();
        Self {
            query: Float(query),
            key,
            value: Float(value),
            // A single key may have a bias of one number, which is then as good as any.
            bias: (biased == keys).then_some(bias),
        }
    }

    fn tiles(&self, options: SpanAttentionOptions) -> Tiles {
        let [_, _, queries, _] = self.query.dims();
        let [_, _, keys, _] = self.key.dims();
        Tiles::new(options.span, options.direction, queries, keys)
    }

    fn forward(&self, options: SpanAttentionOptions) -> (Float<B>, Float<B>) {
        let tiles = self.tiles(options);
        let query = self.query.clone().scale(options.scale);
        let (mut outputs, mut denominators) = (vec![], vec![]);
        for rows in tiles.rows() {
            let query = query.range(2, &rows);
            let mut state: Option<[Float<B>; 3]> = None;
            for keys in tiles.keys(&rows) {
                let scores = self.scores(query.clone(), &tiles, &rows, &keys);
                let tile_max = scores.clone().max_dim(3);
                let max = match &state {
                    None => tile_max.at_least(FLOOR),
                    Some([max, ..]) => Float::cat(vec![max.clone(), tile_max], 3).max_dim(3),
                };
                let weights = (scores - max.clone()).exp();
                let tile_sum = weights.clone().sum_dim(3);
                let dropped = match self.kept(options.dropout, &rows, &keys) {
                    Some(kept) => weights * kept,
                    None => weights,
                };
                let tile_output = dropped.matmul(self.value.range(2, &keys));
                state = Some(match state {
                    None => [max, tile_sum, tile_output],
                    Some([before, sum, output]) => {
                        let decay = (before - max.clone()).exp();
                        let output = output * decay.clone() + tile_output;
                        [max, sum * decay + tile_sum, output]
                    }
                });
            }
            // Every tile of rows meets a cell: that of its own position at least.
            if let Some([max, sum, output]) = state {
                let sum = sum.at_least(TINY);
                outputs.push(output / sum.clone());
                denominators.push(max + sum.log());
            }
        }
        (Float::cat(outputs, 2), Float::cat(denominators, 2))
    }

    fn backward(
        &self,
        output: &Float<B>,
        denominators: &Float<B>,
        gradient: &Float<B>,
        options: SpanAttentionOptions,
    ) -> [Float<B>; 3] {
        let tiles = self.tiles(options);
        let query = self.query.clone().scale(options.scale);
        // sum_j weight_j * d_weight_j of each row is the product of output and gradient, dropout
        // included.
        let product = (output.clone() * gradient.clone()).sum_dim(3);
        let mut queries = vec![];
        let cells = tiles.cells().count();
        let mut keys_and_values: Vec<Option<[Float<B>; 2]>> = (0..cells).map(|_| None).collect();
        for rows in tiles.rows() {
            let row_query = query.range(2, &rows);
            let row_gradient = gradient.range(2, &rows);
            let mut query_gradient: Option<Float<B>> = None;
            for keys in tiles.keys(&rows) {
                let scores = self.scores(row_query.clone(), &tiles, &rows, &keys);
                let weights = (scores - denominators.range(2, &rows)).exp();
                let d_weights = row_gradient
                    .clone()
                    .matmul(self.value.range(2, &keys).transpose());
                let (dropped, d_weights) = match self.kept(options.dropout, &rows, &keys) {
                    Some(kept) => (weights.clone() * kept.clone(), d_weights * kept),
                    None => (weights.clone(), d_weights),
                };
                let d_scores = weights * (d_weights - product.range(2, &rows));
                let to_query = d_scores.clone().matmul(self.key.range(2, &keys));
                query_gradient = Some(match query_gradient {
                    None => to_query,
                    Some(sum) => sum + to_query,
                });
                let to_key = d_scores.transpose().matmul(row_query.clone());
                let to_value = dropped.transpose().matmul(row_gradient.clone());
                let first = keys.start / tiles.cell();
                for (index, start) in (0..keys.len()).step_by(tiles.cell()).enumerate() {
                    let part = start..(start + tiles.cell()).min(keys.len());
                    let [key, value] = [to_key.range(2, &part), to_value.range(2, &part)];
                    let cell = &mut keys_and_values[first + index];
                    *cell = Some(match cell.take() {
                        None => [key, value],
                        Some([keys, values]) => [keys + key, values + value],
                    });
                }
            }
            queries.extend(query_gradient);
        }
        let (keys, values) = tiles
            .cells()
            .zip(keys_and_values)
            .map(|(cell, sums)| {
                // Keys before a window that nothing sees any more.
                let [keys, values] = sums.unwrap_or_else(|| {
                    [&self.key, &self.value].map(|x| x.range(2, &cell).scale(0.0))
                });
                (keys, values)
            })
            .unzip();
        [
            Float::cat(queries, 2).scale(options.scale),
            Float::cat(keys, 2),
            Float::cat(values, 2),
        ]
    }

    /// The scores of a tile; `query` has its rows, scaled.
    fn scores(
        &self,
        query: Float<B>,
        tiles: &Tiles,
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) -> Float<B> {
        let mut scores = query.matmul(self.key.range(2, keys).transpose());
        if let Some(mask) = tiles.mask(rows, keys) {
            let mask: Vec<f32> = mask
                .into_iter()
                .map(|hidden| if hidden { HIDDEN as f32 } else { 0.0 })
                .collect();
            let shape = [1, 1, rows.len(), keys.len()];
            let mask = scores.like(TensorData::new(mask, shape));
            scores = scores + mask;
        }
        match &self.bias {
            Some(bias) => scores + bias.range(3, keys),
            None => scores,
        }
    }

    /// What dropout multiplies the weights of a tile by: 0, or the inverse of the kept share.
    fn kept(
        &self,
        dropout: Option<WeightDropout>,
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) -> Option<Float<B>> {
        let WeightDropout { prob, seed } = dropout?;
        let [batch, heads, _, _] = self.query.dims();
        let shape = [batch, heads, rows.len(), keys.len()];
        let place = (rows.start as u64) << 32 | keys.start as u64;
        let mut rng = StdRng::seed_from_u64(seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let limit = (prob * f64::from(u32::MAX)) as u32;
        let factor = (1.0 / (1.0 - prob)) as f32;
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                if rng.random::<u32>() < limit {
                    0.0
                } else {
                    factor
                }
            })
            .collect();
        Some(self.query.like(TensorData::new(values, shape)))
    }
}

impl<B: SpanAttentionOps, C: CheckpointStrategy> SpanAttentionOps for Autodiff<B, C> {
    fn span_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct SpanAttentionBackward;

        impl<B: SpanAttentionOps> Backward<B, 3> for SpanAttentionBackward {
            type State = ([FloatTensor<B>; 6], SpanAttentionOptions);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = grads.consume::<B>(&ops.node);
                let ([query, key, value, bias, output, denominators], options) = ops.state;
                let (query, key, value) = B::span_attention_backward(
                    query,
                    key,
                    value,
                    bias,
                    output,
                    denominators,
                    gradient,
                    options,
                );
                for (node, gradient) in ops.parents.into_iter().zip([query, key, value]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let nodes = [query.node(), key.node(), value.node()];
        let (query, key) = (query.into_primitive(), key.into_primitive());
        let (value, bias) = (value.into_primitive(), bias.into_primitive());
        let (output, denominators) = B::span_attention(
            query.clone(),
            key.clone(),
            value.clone(),
            bias.clone(),
            options,
        );
        let tracked = match SpanAttentionBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = [
                    query,
                    key,
                    value,
                    bias,
                    output.clone(),
                    denominators.clone(),
                ];
                prep.finish((saved, options), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (tracked, Self::from_inner(denominators))
    }

    fn span_attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: SpanAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("autodiff calls the backward pass of the backend under it")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, activation::softmax};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::tiles::tests::{directions, spans};

    /// The definition: every score, a mask, a softmax.
    fn dense(
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
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
        let mut mask =
            Tensor::<2, Bool>::from_data(TensorData::new(hidden, [queries, keys]), &device)
                .reshape([1, 1, queries, keys])
                .expand(shape);
        if let Some(padding) = padding {
            mask = mask.bool_or(padding.clone().reshape([batch, 1, 1, keys]).expand(shape));
        }
        let scores = query.matmul(key.swap_dims(2, 3)) * options.scale;
        let weights = softmax(scores.mask_fill(mask.clone(), f32::MIN), 3);
        weights.mask_fill(mask, 0.0).matmul(value)
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
        let inputs =
            [queries, keys, keys].map(|length| random([batch, heads, length, width], &device));
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
                    moved[input] =
                        moved[input].clone() + Tensor::from_data(step, &weights.device());
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
}
