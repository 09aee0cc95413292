//! How much attention each key receives, for choices between tokens.

use burn::prelude::*;

use super::{FLOOR, HIDDEN, SpanAttentionOptions, TINY};
use crate::ops::tiles::Tiles;

/// The most pairs of a query and a key whose weights exist at a time, for one head of a sequence.
const PAIRS: usize = 1 << 18;

/// The attention that each key receives: the mean over the heads and the sum over the queries of the weights
/// `softmax(scale Q K^T + M)` of [`span_attention`](super::span_attention), before dropout.
///
/// The queries are the last `T` of the `S` positions. A padded query counts as none, and one that sees no key
/// gives nothing. A padded key receives nothing. The result has no gradient: it is made to choose by.
///
/// Eviction (arXiv 2306.14048, 2401.06104, 2406.12018) and the dropping of tokens (arXiv 2201.03327, where it is
/// divided by the number of queries) choose by it.
///
/// # Shapes
///
/// - query: `[B, H, T, d]`
/// - key: `[B, H, S, d]`, `S` at least `T`
/// - padding: `[B, S]`, true where a position is padding
/// - output: `[B, S]`
///
/// # Panics
///
/// If there are more queries than keys.
pub fn attention_received(
    query: Tensor<4>,
    key: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    options: SpanAttentionOptions,
) -> Tensor<2> {
    let [batch, _, queries, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    assert!(
        queries <= keys,
        "{queries} queries for {keys} keys; there must be a key for each query"
    );
    let (query, key) = (query.detach() * options.scale, key.detach());
    let dtype = query.dtype();
    let on_device = (&query.device(), dtype);
    let padding = padding.map(|padding| padding.clone().float().cast(dtype));
    let tiles = Tiles::new(options.span, options.direction, queries, keys);
    let mut received = Tensor::<2>::zeros([batch, keys], on_device);
    let size = (PAIRS / keys.max(1)).max(1);
    for start in (0..queries).step_by(size) {
        let rows = start..(start + size).min(queries);
        let parts = tiles.keys(&rows);
        let row_query = query.clone().slice_dim(2, rows.clone());
        let scores = parts.iter().map(|part| {
            let part_key = key.clone().slice_dim(2, part.clone());
            let mut scores = row_query.clone().matmul(part_key.swap_dims(2, 3));
            if let Some(hidden) = tiles.mask(&rows, part) {
                let hidden = hidden.into_iter();
                let mask: Vec<f32> = hidden
                    .map(|hidden| if hidden { HIDDEN as f32 } else { 0.0 })
                    .collect();
                let mask = TensorData::new(mask, [1, 1, rows.len(), part.len()]);
                scores = scores + Tensor::from_data(mask, on_device);
            }
            if let Some(padding) = &padding {
                let padding = padding.clone().slice_dim(1, part.clone());
                scores = scores + padding.reshape([batch, 1, 1, part.len()]) * HIDDEN;
            }
            scores
        });
        let scores = Tensor::cat(scores.collect(), 3);
        let max = scores.clone().max_dim(3).clamp_min(FLOOR);
        let weights = (scores - max).exp();
        let sums = weights.clone().sum_dim(3).clamp_min(TINY);
        let mut weights = (weights / sums).mean_dim(1);
        if let Some(padding) = &padding {
            let first = keys - queries + rows.start;
            let padding = padding.clone().slice_dim(1, first..first + rows.len());
            let real = padding.reshape([batch, 1, rows.len(), 1]).neg() + 1.0;
            weights = weights * real;
        }
        let sums: Tensor<2> = weights.sum_dim(2).squeeze_dims(&[1, 2]);
        let mut before = 0;
        for part in parts {
            let sums = sums.clone().slice_dim(1, before..before + part.len());
            before += part.len();
            let places = [0..batch, part];
            let so_far = received.clone().slice(places.clone());
            received = received.slice_assign(places, so_far + sums);
        }
    }
    received
}
