use std::{f32::consts::LOG2_E, ops::Range};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Bounds, Head, HeadView, Inputs, KEYS, QUERIES, View, rows_of_heads, strips, vectors};
use crate::ops::simd::{Rows, accumulate, accumulate_transposed, dispatch, exp2, multiply};

/// As many parts as this are worked on at the same time, if there are so many strips.
const PARTS: usize = 32;
/// The most parts of one head: each has sums for the keys that it meets.
const PARTS_OF_HEAD: usize = 8;

/// What the backward pass is given beside the inputs.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Results<'a> {
    pub(in super::super) output: View<'a>,
    /// `[B, H, T]`
    pub(in super::super) denominators: &'a [f32],
    /// The gradient of the output.
    pub(in super::super) gradient: View<'a>,
}

/// Where the gradients go: `[B, T, H, d]`, and `[B, S, H, d]` twice; those of keys and values are
/// zeros.
#[derive(Debug)]
pub(in super::super) struct Gradients<'a> {
    pub(in super::super) query: &'a mut [f32],
    pub(in super::super) key: &'a mut [f32],
    pub(in super::super) value: &'a mut [f32],
}

/// Writes the gradients. Each is the same sum in the same order, whatever the number of threads.
pub(in super::super) fn backward(inputs: Inputs, results: Results, gradients: Gradients) {
    let sizes = inputs.sizes;
    let rows = |result, length| rows_of_heads(result, [length, sizes.heads, sizes.width]);
    let queries = rows(gradients.query, sizes.queries);
    let strips = sizes.queries.div_ceil(QUERIES);
    let parts = PARTS.div_ceil(queries.len().max(1)).min(PARTS_OF_HEAD);
    let rows_of_part = strips.div_ceil(parts) * QUERIES;
    queries
        .into_par_iter()
        .zip(rows(gradients.key, sizes.keys))
        .zip(rows(gradients.value, sizes.keys))
        .enumerate()
        .for_each(|(index, ((mut query, mut key), mut value))| {
            let head = inputs.head(index);
            let (output, gradient) = (
                results.output.head(index, sizes),
                results.gradient.head(index, sizes),
            );
            let denominators = &results.denominators[index * sizes.queries..][..sizes.queries];
            let parts: Vec<Sums> = query
                .par_chunks_mut(rows_of_part)
                .enumerate()
                .map(|(part, query)| {
                    let start = part * rows_of_part;
                    let rows = start..start + query.len();
                    dispatch(Part {
                        head: &head,
                        rows,
                        output,
                        gradient,
                        denominators,
                        query,
                    })
                })
                .collect();
            for part in parts {
                part.add_to(&head, &mut key, &mut value);
            }
        });
}

/// Strips of queries whose gradients of keys and values are summed by one thread.
struct Part<'a, 'b> {
    head: &'a Head<'a>,
    rows: Range<usize>,
    output: HeadView<'a>,
    gradient: HeadView<'a>,
    /// `[T]`
    denominators: &'a [f32],
    /// The gradient of the queries, `[rows, d]`
    query: &'a mut [&'b mut [f32]],
}

/// Gradients of the keys and values that a part meets, in rows of whole vectors.
struct Sums {
    keys: Range<usize>,
    key: Vec<f32>,
    value: Vec<f32>,
}

impl Sums {
    fn add_to<'a>(&self, head: &Head, key: &mut [&'a mut [f32]], value: &mut [&'a mut [f32]]) {
        for (sums, to) in [(&self.key, key), (&self.value, value)] {
            let to = &mut to[self.keys.start..];
            for (sums, to) in sums.chunks_exact(head.stride).zip(to) {
                for (sum, to) in sums.iter().zip(to.iter_mut()) {
                    *to += sum;
                }
            }
        }
    }
}

/// Buffers for one strip after the other.
struct Scratch {
    bounds: Bounds,
    /// `[d, QUERIES]`, scaled
    query_columns: Vec<f32>,
    /// `[QUERIES, d]`, scaled, in whole vectors
    query: Vec<f32>,
    /// `[d, QUERIES]`
    gradient_columns: Vec<f32>,
    /// `[QUERIES, d]`, in whole vectors
    gradient: Vec<f32>,
    /// Scores, then weights, `[KEYS, QUERIES]`
    weights: Vec<f32>,
    /// Gradients of weights, then of scores, `[KEYS, QUERIES]`
    scores: Vec<f32>,
    /// The gradient of the queries, `[QUERIES, d]`, in whole vectors
    to_query: Vec<f32>,
    /// Binary logarithms of the denominators.
    denominators: [f32; QUERIES],
    /// Each query's product of output and gradient: what its weights' gradients sum to, weighted.
    products: [f32; QUERIES],
    /// The queries' shares in the draws of dropout.
    draws: [u32; QUERIES],
}

impl WithSimd for Part<'_, '_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Sums {
        let head = self.head;
        let (width, stride) = (head.query.width, head.stride);
        let [sinks, others] = head.band.seen(&self.rows);
        let keys = if sinks.is_empty() {
            others
        } else {
            0..others.end
        };
        let mut sums = Sums {
            key: vec![0.0; keys.len() * stride],
            value: vec![0.0; keys.len() * stride],
            keys,
        };
        let mut scratch = Scratch {
            bounds: Bounds::default(),
            query_columns: vec![0.0; width * QUERIES],
            query: vec![0.0; QUERIES * stride],
            gradient_columns: vec![0.0; width * QUERIES],
            gradient: vec![0.0; QUERIES * stride],
            weights: vec![0.0; KEYS * QUERIES],
            scores: vec![0.0; KEYS * QUERIES],
            to_query: vec![0.0; QUERIES * stride],
            denominators: [0.0; QUERIES],
            products: [0.0; QUERIES],
            draws: [0; QUERIES],
        };
        for rows in strips(self.rows.clone()) {
            scratch.load(&self, &rows);
            for tile in head.band.tiles(&rows) {
                scratch.bounds.set(head.band, &rows, &tile);
                scratch.add(simd, head, &rows, &tile, &mut sums);
            }
            let to = &mut self.query[rows.start - self.rows.start..rows.end - self.rows.start];
            for (to, sums) in to.iter_mut().zip(scratch.to_query.chunks_exact(stride)) {
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = sum * head.scale;
                }
            }
        }
        sums
    }
}

impl Scratch {
    #[inline(always)]
    fn load(&mut self, part: &Part, rows: &Range<usize>) {
        let head = part.head;
        let factor = head.scale * LOG2_E;
        head.query.transposed(rows, factor, &mut self.query_columns);
        part.gradient
            .transposed(rows, 1.0, &mut self.gradient_columns);
        for (place, row) in rows.clone().enumerate() {
            let start = place * head.stride;
            let query = self.query[start..].iter_mut().zip(head.query.row(row));
            for (to, number) in query {
                *to = number * head.scale;
            }
            let gradient = part.gradient.row(row);
            self.gradient[start..start + gradient.len()].copy_from_slice(gradient);
            self.products[place] = part
                .output
                .row(row)
                .iter()
                .zip(gradient)
                .map(|(output, gradient)| output * gradient)
                .sum();
            self.denominators[place] = part.denominators[row] * LOG2_E;
            if let Some(draws) = head.draws {
                self.draws[place] = draws.query(row);
            }
        }
        self.to_query.fill(0.0);
    }

    /// Adds what the keys of a tile give and get.
    #[inline(always)]
    fn add<S: Simd>(
        &mut self,
        simd: S,
        head: &Head,
        rows: &Range<usize>,
        tile: &Range<usize>,
        sums: &mut Sums,
    ) {
        let bounds = &self.bounds;
        let columns = |data| Rows {
            data,
            stride: QUERIES,
        };
        let sizes = [tile.len(), head.query.width];
        let key = head.rows(&head.key, tile.start);
        let value = head.rows(&head.value, tile.start);
        let (query, gradient) = (
            columns(&self.query_columns),
            columns(&self.gradient_columns),
        );
        let panels = &bounds.key_panels;
        multiply(simd, key, query, &mut self.weights, sizes, panels);
        multiply(simd, value, gradient, &mut self.scores, sizes, panels);

        let (denominators, _) = S::as_simd_f32s(&self.denominators);
        let (products, _) = S::as_simd_f32s(&self.products);
        let weights = self.weights.chunks_exact_mut(QUERIES);
        let tiles = weights.zip(self.scores.chunks_exact_mut(QUERIES));
        for (key, ((weights, scores), seen)) in tiles.zip(&bounds.queries).enumerate() {
            let vectors = vectors::<S>(seen);
            let bias = simd.splat_f32s(head.bias(tile.start + key));
            let (in_vectors, _) = S::as_mut_simd_f32s(weights);
            for (weight, denominator) in in_vectors[vectors.clone()]
                .iter_mut()
                .zip(&denominators[vectors.clone()])
            {
                let score = simd.add_f32s(*weight, bias);
                *weight = exp2(simd, simd.sub_f32s(score, *denominator));
            }
            weights[..seen.start].fill(0.0);
            weights[seen.end..].fill(0.0);
            if let Some(draws) = head.draws {
                let key = draws.key(tile.start + key);
                let pairs = weights.iter_mut().zip(scores.iter_mut());
                for (place, (weight, score)) in pairs.enumerate() {
                    let kept = draws.kept(self.draws[place], key);
                    *score = *weight * (*score * kept - self.products[place]);
                    *weight *= kept;
                }
            } else {
                let (weights, _) = S::as_simd_f32s(weights);
                let (scores, _) = S::as_mut_simd_f32s(scores);
                for ((score, weight), product) in scores[vectors.clone()]
                    .iter_mut()
                    .zip(&weights[vectors.clone()])
                    .zip(&products[vectors])
                {
                    *score = simd.mul_f32s(*weight, simd.sub_f32s(*score, *product));
                }
            }
            scores[..seen.start].fill(0.0);
            scores[seen.end..].fill(0.0);
        }

        let weights = columns(&self.weights);
        let scores = columns(&self.scores);
        let inner = &bounds.key_panels;
        let from = (tile.start - sums.keys.start) * head.stride;
        let gradient = head.rows(&self.gradient, 0);
        accumulate(
            simd,
            weights,
            gradient,
            &mut sums.value[from..],
            tile.len(),
            inner,
        );
        let query = head.rows(&self.query, 0);
        accumulate(
            simd,
            scores,
            query,
            &mut sums.key[from..],
            tile.len(),
            inner,
        );
        let (inner, to_query) = (&bounds.query_panels, &mut self.to_query);
        accumulate_transposed(simd, scores, key, to_query, rows.len(), inner);
    }
}
