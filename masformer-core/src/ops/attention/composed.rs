//! Span attention made of a backend's own operations, for every backend: the definition of the kernels.

use std::{collections::HashMap, ops::Range};

use burn::{
    backend::{Backend, tensor::FloatTensor},
    prelude::*,
    tensor::ops::AttentionModuleOptions,
};

use super::{FLOOR, HIDDEN, SpanAttentionOps, SpanAttentionOptions, TINY, WeightDropout};
use crate::{
    ops::{
        primitive::Float,
        tiles::{Pattern, Tiles},
    },
    span::{Direction, Span},
};

/// [`SpanAttentionOps::span_attention`](super::SpanAttentionOps::span_attention) of query, key, value
/// and bias.
pub(super) fn forward<B: SpanAttentionOps>(
    inputs: [FloatTensor<B>; 4],
    options: SpanAttentionOptions,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (output, denominators) = Inputs::<B>::new(inputs).forward(options);
    (output.0, denominators.0)
}

/// [`SpanAttentionOps::span_attention_output`](super::SpanAttentionOps::span_attention_output) of
/// query, key, value and bias.
pub(super) fn output<B: SpanAttentionOps>(
    inputs: [FloatTensor<B>; 4],
    options: SpanAttentionOptions,
) -> FloatTensor<B> {
    let inputs = Inputs::<B>::new(inputs);
    let [_, _, queries, _] = inputs.query.dims();
    let [_, _, keys, _] = inputs.key.dims();
    // Burn's own kernel is faster where nothing has to be kept for a backward pass. It counts queries
    // from the first key.
    let is_causal = options.direction == Direction::Causal && queries > 1;
    let is_plain = options.span == Span::Full
        && inputs.bias.is_none()
        && options.dropout.is_none()
        && (!is_causal || queries == keys);
    if !is_plain {
        return inputs.forward(options).0.0;
    }
    let options = AttentionModuleOptions {
        scale: Some(options.scale),
        softcap: None,
        is_causal,
    };
    let [query, key, value] = [inputs.query, inputs.key, inputs.value].map(|input| input.0);
    B::attention(query, key, value, None, None, options)
}

/// [`SpanAttentionOps::span_attention_backward`](super::SpanAttentionOps::span_attention_backward) of
/// the same inputs; `results` are the output, the denominators and the output's gradient.
pub(super) fn backward<B: SpanAttentionOps>(
    inputs: [FloatTensor<B>; 4],
    results: [FloatTensor<B>; 3],
    options: SpanAttentionOptions,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let [output, denominators, gradient] = results.map(Float);
    let inputs = Inputs::<B>::new(inputs);
    let [query, key, value] = inputs.backward(&output, &denominators, &gradient, options);
    (query.0, key.0, value.0)
}

/// What is added to the scores of tiles with a pattern. Few patterns serve all tiles of a sequence, but for
/// blocks whose width no cell divides.
type Masks<B> = HashMap<Pattern, Option<Float<B>>>;

struct Inputs<B: Backend> {
    query: Float<B>,
    key: Float<B>,
    value: Float<B>,
    bias: Option<Float<B>>,
}

impl<B: SpanAttentionOps> Inputs<B> {
    fn new(inputs: [FloatTensor<B>; 4]) -> Self {
        let [query, key, value, bias] = inputs.map(Float::<B>);
        let [_, _, keys, _] = key.dims();
        let [_, _, _, biased] = bias.dims();
        Self {
            query,
            key,
            value,
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
        let (mut outputs, mut denominators, mut masks) = (vec![], vec![], Masks::new());
        for rows in tiles.rows() {
            let query = query.range(2, &rows);
            let mut state: Option<[Float<B>; 3]> = None;
            for keys in tiles.keys(&rows) {
                let scores = self.scores(query.clone(), &mut masks, &tiles, &rows, &keys);
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
        let (mut queries, mut masks) = (vec![], Masks::new());
        let cells = tiles.cells().count();
        let mut keys_and_values: Vec<Option<[Float<B>; 2]>> = (0..cells).map(|_| None).collect();
        for rows in tiles.rows() {
            let row_query = query.range(2, &rows);
            let row_gradient = gradient.range(2, &rows);
            let mut query_gradient: Option<Float<B>> = None;
            for keys in tiles.keys(&rows) {
                let scores = self.scores(row_query.clone(), &mut masks, &tiles, &rows, &keys);
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
        masks: &mut Masks<B>,
        tiles: &Tiles,
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) -> Float<B> {
        let mut scores = query.matmul(self.key.range(2, keys).transpose());
        let mask = masks.entry(tiles.pattern(rows, keys)).or_insert_with(|| {
            let hidden = tiles.mask(rows, keys)?.into_iter();
            let mask: Vec<f32> = hidden
                .map(|hidden| if hidden { HIDDEN as f32 } else { 0.0 })
                .collect();
            let shape = [1, 1, rows.len(), keys.len()];
            Some(scores.like(TensorData::new(mask, shape)))
        });
        if let Some(mask) = mask.clone() {
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
        let query = self.query.0.clone();
        let kept = B::kept_weights(query, dropout?, rows.clone(), keys.clone());
        Some(Float(kept))
    }
}
