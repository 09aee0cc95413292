use std::{
    f32::consts::{LN_2, LOG2_E},
    ops::Range,
};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Bounds, Head, Inputs, KEYS, QUERIES, Sizes, rows_of_heads, vectors};
use crate::ops::{
    attention::{FLOOR, HIDDEN, TINY},
    simd::{Rows, accumulate_transposed, dispatch, exp2, multiply},
};

/// Writes the output `[B, T, H, d]` and the logarithms of the denominators `[B, H, T]`.
pub(in super::super) fn forward(inputs: Inputs, output: &mut [f32], denominators: &mut [f32]) {
    let Sizes {
        heads,
        queries,
        width,
        ..
    } = inputs.sizes;
    rows_of_heads(output, [queries, heads, width])
        .into_par_iter()
        .zip(denominators.par_chunks_mut(queries.max(1)))
        .enumerate()
        .for_each(|(index, (mut output, denominators))| {
            let head = inputs.head(index);
            output
                .par_chunks_mut(QUERIES)
                .zip(denominators.par_chunks_mut(QUERIES))
                .enumerate()
                .for_each_init(
                    || Scratch::new(&head),
                    |scratch, (strip, (output, denominators))| {
                        let start = strip * QUERIES;
                        dispatch(Strip {
                            head: &head,
                            rows: start..start + denominators.len(),
                            scratch,
                            output,
                            denominators,
                        });
                    },
                );
        });
}

/// One strip of queries of a head.
struct Strip<'a, 'b> {
    head: &'a Head<'a>,
    rows: Range<usize>,
    scratch: &'a mut Scratch,
    /// `[rows, d]`
    output: &'a mut [&'b mut [f32]],
    /// `[rows]`
    denominators: &'a mut [f32],
}

/// Buffers for one strip after the other.
struct Scratch {
    bounds: Bounds,
    /// `[d, QUERIES]`
    query: Vec<f32>,
    /// Scores, then weights, `[KEYS, QUERIES]`
    weights: Vec<f32>,
    /// `[QUERIES, d]`, in whole vectors
    output: Vec<f32>,
    /// Each query's largest score so far.
    largest: [f32; QUERIES],
    /// The largest score before the current tile; then what shrinks the sums before it.
    decay: [f32; QUERIES],
    /// Each query's sum of weights.
    sum: [f32; QUERIES],
    /// The queries' shares in the draws of dropout.
    draws: [u32; QUERIES],
}

impl Scratch {
    fn new(head: &Head) -> Self {
        Self {
            bounds: Bounds::default(),
            query: vec![0.0; head.query.width * QUERIES],
            weights: vec![0.0; KEYS * QUERIES],
            output: vec![0.0; QUERIES * head.stride],
            largest: [0.0; QUERIES],
            decay: [0.0; QUERIES],
            sum: [0.0; QUERIES],
            draws: [0; QUERIES],
        }
    }
}

impl WithSimd for Strip<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            head,
            rows,
            scratch,
            output,
            denominators,
        } = self;
        let factor = head.scale * LOG2_E;
        head.query.transposed(&rows, factor, &mut scratch.query);
        if let Some(draws) = head.draws {
            for (share, row) in scratch.draws.iter_mut().zip(rows.clone()) {
                *share = draws.query(row);
            }
        }
        scratch.output.fill(0.0);
        scratch.largest.fill(FLOOR as f32);
        scratch.sum.fill(0.0);
        for tile in head.band.tiles(&rows) {
            scratch.bounds.set(head.band, &rows, &tile);
            scratch.add(simd, head, &rows, &tile);
        }
        let results = output.iter_mut().zip(denominators);
        for (row, (output, denominator)) in results.enumerate() {
            let sum = scratch.sum[row].max(TINY as f32);
            let sums = &scratch.output[row * head.stride..];
            for (output, weighted) in output.iter_mut().zip(sums) {
                *output = weighted / sum;
            }
            *denominator = scratch.largest[row] * LN_2 + sum.ln();
        }
    }
}

impl Scratch {
    /// Adds what the keys of a tile give.
    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, head: &Head, rows: &Range<usize>, tile: &Range<usize>) {
        let bounds = &self.bounds;
        let query = Rows {
            data: &self.query,
            stride: QUERIES,
        };
        let sizes = [tile.len(), head.query.width];
        let key = head.rows(&head.key, tile.start);
        multiply(
            simd,
            key,
            query,
            &mut self.weights,
            sizes,
            &bounds.key_panels,
        );

        self.decay = self.largest;
        let (largest, _) = S::as_mut_simd_f32s(&mut self.largest);
        let scores = self.weights.chunks_exact_mut(QUERIES);
        for (key, (scores, seen)) in scores.zip(&bounds.queries).enumerate() {
            let vectors = vectors::<S>(seen);
            scores[vectors.start * S::F32_LANES..seen.start].fill(HIDDEN as f32);
            scores[seen.end..vectors.end * S::F32_LANES].fill(HIDDEN as f32);
            let (scores, _) = S::as_mut_simd_f32s(scores);
            let bias = simd.splat_f32s(head.bias(tile.start + key));
            let scores = scores[vectors.clone()].iter_mut();
            for (score, largest) in scores.zip(&mut largest[vectors]) {
                *score = simd.add_f32s(*score, bias);
                *largest = simd.max_f32s(*largest, *score);
            }
        }

        let (decay, _) = S::as_mut_simd_f32s(&mut self.decay);
        let (sum, _) = S::as_mut_simd_f32s(&mut self.sum);
        for ((decay, sum), largest) in decay.iter_mut().zip(&mut *sum).zip(&*largest) {
            *decay = exp2(simd, simd.sub_f32s(*decay, *largest));
            *sum = simd.mul_f32s(*sum, *decay);
        }

        let scores = self.weights.chunks_exact_mut(QUERIES);
        for (key, (weights, seen)) in scores.zip(&bounds.queries).enumerate() {
            let vectors = vectors::<S>(seen);
            weights[..vectors.start * S::F32_LANES].fill(0.0);
            weights[vectors.end * S::F32_LANES..].fill(0.0);
            let (in_vectors, _) = S::as_mut_simd_f32s(weights);
            let in_vectors = in_vectors[vectors.clone()].iter_mut();
            let sums = sum[vectors.clone()].iter_mut();
            for ((weight, largest), sum) in in_vectors.zip(&largest[vectors]).zip(sums) {
                *weight = exp2(simd, simd.sub_f32s(*weight, *largest));
                *sum = simd.add_f32s(*sum, *weight);
            }
            if let Some(draws) = head.draws {
                let key = draws.key(tile.start + key);
                for (weight, query) in weights.iter_mut().zip(&self.draws) {
                    *weight *= draws.kept(*query, key);
                }
            }
        }

        for (output, decay) in self.output.chunks_exact_mut(head.stride).zip(&self.decay) {
            if *decay < 1.0 {
                let (output, _) = S::as_mut_simd_f32s(output);
                let decay = simd.splat_f32s(*decay);
                for output in output {
                    *output = simd.mul_f32s(*output, decay);
                }
            }
        }
        let weights = Rows {
            data: &self.weights,
            stride: QUERIES,
        };
        let value = head.rows(&head.value, tile.start);
        let (output, panels) = (&mut self.output, &bounds.query_panels);
        accumulate_transposed(simd, weights, value, output, rows.len(), panels);
    }
}
