//! Experts on the flex backend: from gathering tokens to normalised rows without a tensor between.

use std::ops::Range;

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use super::{ExpertFeedForwardOps, ExpertOptions};
use crate::{
    activation::Activation,
    ops::{
        flex::{FlexTensor, all_f32, in_order},
        layer_norm::normalize_row,
        math::{Mac, gelu, gelu_tanh, vectorize},
        primitive::ranges,
        simd::Rows,
        streamed::{Columns, PANELS, Streamed},
    },
};

/// Columns of a task: whole panels for all instructions.
const COLUMNS: usize = 4 * PANELS;
/// Most tokens at a time: a block of their numbers and a task's results fit into the cache of a core.
const TOKENS: usize = 512;
/// Fewest tokens of a task that normalises.
const NORMALIZED: usize = 16;
/// Fewest multiply-adds that are worth waking a core.
const PARALLEL: usize = 1 << 20;

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
        let [hidden, width] = inner.shape().dims();
        let weights = [inner, inner_bias, outer, outer_bias, gamma, beta].map(in_order);
        let [inner, inner_bias, outer, outer_bias, gamma, beta] =
            weights.each_ref().map(FlexTensor::storage::<f32>);
        let expert = Expert {
            inner: Rows {
                data: inner,
                stride: width,
            },
            inner_bias,
            outer: Rows {
                data: outer,
                stride: hidden,
            },
            outer_bias,
            gamma,
            beta,
            options,
        };
        let rows: Vec<usize> = rows.into_data().iter::<i64>().map(|x| x as usize).collect();
        let mut tokens = in_order(tokens);
        let values = tokens.storage_mut::<f32>();
        let parallel = rows.len() * hidden * width >= PARALLEL;
        let mut apply = || {
            // All of about the same size, since each part reads all weights.
            let parts = rows.len().div_ceil(TOKENS).max(1);
            for rows in rows.chunks(rows.len().div_ceil(parts).max(1)) {
                expert.apply(values, rows, parallel);
            }
        };
        if parallel {
            // The thread pool is entered once for all of it.
            rayon::scope(|_| apply());
        } else {
            apply();
        }
        tokens
    }
}

/// The numbers of an expert.
#[derive(Clone, Copy)]
struct Expert<'a> {
    /// `[D, F]`.
    inner: Rows<'a>,
    inner_bias: &'a [f32],
    /// `[F, D]`.
    outer: Rows<'a>,
    outer_bias: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    options: ExpertOptions,
}

impl Expert<'_> {
    /// Puts some rows of all tokens through the expert.
    fn apply(&self, tokens: &mut [f32], rows: &[usize], parallel: bool) {
        let hidden = self.outer.stride;
        let mut input = Vec::with_capacity(rows.len() * hidden);
        for row in rows {
            input.extend_from_slice(&tokens[row * hidden..][..hidden]);
        }
        let left = Rows {
            data: &input,
            stride: hidden,
        };
        let inner = |columns: Range<usize>| {
            let mut part = product(&[(hidden, left)], rows.len(), self.inner, columns.clone());
            self.activate(&mut part, &columns);
            part
        };
        let activated = by_columns(self.inner.stride, parallel, inner);
        let left: Vec<_> = ranges(self.inner.stride, COLUMNS)
            .zip(&activated)
            .map(|(columns, part)| (columns.len(), part.rows()))
            .collect();
        let outer = |columns| product(&left, rows.len(), self.outer, columns);
        let output = by_columns(hidden, parallel, outer);
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
                    for (columns, part) in ranges(hidden, COLUMNS).zip(&output) {
                        let part = &part.data[row * part.stride..];
                        let bias = &self.outer_bias[columns.clone()];
                        let numbers = sum[columns.clone()].iter_mut().zip(&target[columns]);
                        for ((sum, input), (output, bias)) in numbers.zip(part.iter().zip(bias)) {
                            *sum = output + bias + input;
                        }
                    }
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

    /// The activation of some columns, after their bias.
    fn activate(&self, part: &mut Columns, columns: &Range<usize>) {
        let bias = &self.inner_bias[columns.clone()];
        match self.options.feed_forward.activation {
            Activation::Gelu => activate(part, bias, gelu),
            Activation::GeluTanh => activate(part, bias, gelu_tanh),
        }
    }
}

/// Some columns of `left right`.
fn product(left: &[(usize, Rows)], rows: usize, right: Rows, columns: Range<usize>) -> Columns {
    let product = Streamed {
        left,
        rows,
        right,
        columns,
    };
    product.compute()
}

/// All columns of a matrix, a task for some of them.
fn by_columns(
    width: usize,
    parallel: bool,
    task: impl Fn(Range<usize>) -> Columns + Sync + Send,
) -> Vec<Columns> {
    let tasks = ranges(width, COLUMNS);
    if parallel {
        let tasks: Vec<_> = tasks.collect();
        tasks.into_par_iter().map(task).collect()
    } else {
        tasks.map(task).collect()
    }
}

fn activate(part: &mut Columns, bias: &[f32], function: impl Fn(Mac, f32) -> f32 + Copy) {
    vectorize(
        #[inline(always)]
        |mac| {
            for row in part.data.chunks_exact_mut(part.stride) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x = function(mac, *x + bias);
                }
            }
        },
    );
}
