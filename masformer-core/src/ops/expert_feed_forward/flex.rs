//! Experts on the flex backend: from gathering tokens to normalised rows without a tensor between.

use burn::backend::Flex;
use rayon::prelude::*;

use super::{ExpertFeedForwardOps, ExpertOptions};
use crate::ops::{
    flex::{FlexTensor, all_f32, in_order},
    layer_norm::normalize_row,
    math::vectorize,
    simd::Rows,
    streamed::{FEW, FeedForward, Layer, in_pool},
};

/// Fewest tokens of a task that normalises.
const NORMALIZED: usize = 16;

impl ExpertFeedForwardOps for Flex {
    fn expert_rows(
        tokens: FlexTensor,
        inner: FlexTensor,
        inner_bias: FlexTensor,
        outer: FlexTensor,
        outer_bias: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        rows: FlexTensor,
        options: ExpertOptions,
    ) -> FlexTensor {
        let weights = [&inner, &inner_bias, &outer, &outer_bias, &gamma, &beta];
        if !all_f32(&weights) || !all_f32(&[&tokens]) || options.dropout > 0.0 {
            let (output, ..) = Self::expert_rows_kept(
                tokens, inner, inner_bias, outer, outer_bias, gamma, beta, rows, options,
            );
            return output;
        }
        let weights = [inner, inner_bias, outer, outer_bias, gamma, beta].map(in_order);
        let [inner, inner_bias, outer, outer_bias, gamma, beta] =
            weights.each_ref().map(FlexTensor::storage::<f32>);
        let expert = Expert {
            layers: FeedForward {
                inner: Layer::new(inner, inner_bias),
                outer: Layer::new(outer, outer_bias),
                activation: options.feed_forward.activation,
            },
            gamma,
            beta,
            options,
        };
        let rows: Vec<usize> = rows.into_data().iter::<i64>().map(|x| x as usize).collect();
        let mut tokens = in_order(tokens);
        let values = tokens.storage_mut::<f32>();
        let parallel = expert.layers.is_parallel(rows.len());
        in_pool(parallel, || {
            // All of about the same size, since each part reads all weights.
            let parts = rows.len().div_ceil(FEW).max(1);
            for rows in rows.chunks(rows.len().div_ceil(parts).max(1)) {
                expert.apply(values, rows, parallel);
            }
        });
        tokens
    }
}

/// The numbers of an expert.
#[derive(Clone, Copy)]
struct Expert<'a> {
    layers: FeedForward<'a>,
    gamma: &'a [f32],
    beta: &'a [f32],
    options: ExpertOptions,
}

impl Expert<'_> {
    /// Puts some rows of all tokens through the expert.
    fn apply(&self, tokens: &mut [f32], rows: &[usize], parallel: bool) {
        let bias = self.layers.outer.bias;
        let hidden = bias.len();
        let mut input = Vec::with_capacity(rows.len() * hidden);
        for row in rows {
            input.extend_from_slice(&tokens[row * hidden..][..hidden]);
        }
        let left = Rows {
            data: &input,
            stride: hidden,
        };
        let output = self.layers.product(left, rows.len(), parallel);
        let mut all = tokens.chunks_exact_mut(hidden);
        let mut next = 0;
        let targets = rows.iter().map(|row| {
            let target = all.nth(row - next).expect("rows rise");
            next = row + 1;
            target
        });
        let finish = |(row, target): (usize, &mut [f32])| {
            let sum = &mut vec![0.0; hidden];
            vectorize(
                #[inline(always)]
                |_| {
                    output.each(row, |columns, part| {
                        let bias = &bias[columns.clone()];
                        let numbers = sum[columns.clone()].iter_mut().zip(&target[columns]);
                        for ((sum, input), (output, bias)) in numbers.zip(part.iter().zip(bias)) {
                            *sum = output + bias + input;
                        }
                    });
                    normalize_row(sum, self.gamma, self.beta, self.options.epsilon, target);
                },
            );
        };
        if parallel {
            let targets: Vec<_> = targets.enumerate().collect();
            let targets = targets.into_par_iter().with_min_len(NORMALIZED);
            targets.for_each(finish);
        } else {
            targets.enumerate().for_each(finish);
        }
    }
}
