//! Layer normalisation on the flex backend: each row is read once from memory.

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use super::{LayerNormOps, plain, plain_backward};
use crate::ops::{
    flex::{FlexTensor, all_f32, in_order, make, matrix, run_of_rows},
    math::{sum_of, sum_of_pairs, vectorize},
};

/// Fewest rows whose gradients of gamma and beta are summed by themselves: sums of sums are a small part
/// of the work.
const SUMMED_ROWS: usize = 64;

impl LayerNormOps for Flex {
    fn layer_norm_rows(
        input: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        if !all_f32(&[&input, &gamma, &beta]) {
            return plain::<Flex>(input, gamma, beta, epsilon);
        }
        let [_, width] = input.shape().dims();
        let (gamma, beta) = (in_order(gamma), in_order(beta));
        let (gamma, beta) = (gamma.storage::<f32>(), beta.storage::<f32>());
        make(
            &in_order(input),
            run_of_rows(width),
            #[inline(always)]
            |_, _, input, output| {
                let rows = output.chunks_exact_mut(width);
                for (output, input) in rows.zip(input.chunks_exact(width)) {
                    normalize_row(input, gamma, beta, epsilon, output);
                }
            },
        )
    }

    fn layer_norm_rows_backward(
        input: FlexTensor,
        gamma: FlexTensor,
        gradient: FlexTensor,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if !all_f32(&[&input, &gamma, &gradient]) {
            return plain_backward::<Flex>(input, gamma, gradient, epsilon);
        }
        let [_, width] = input.shape().dims();
        let (input, gamma, mut gradient) = (in_order(input), in_order(gamma), in_order(gradient));
        let gamma = gamma.storage::<f32>();
        let step = run_of_rows(width).max(SUMMED_ROWS * width);
        let runs = gradient.storage_mut::<f32>().par_chunks_mut(step);
        let runs = runs.zip(input.storage::<f32>().par_chunks(step));
        let parts: Vec<[Vec<f32>; 2]> = runs
            .map(|(gradient, input)| {
                let mut sums = [vec![0.0; width], vec![0.0; width]];
                vectorize(
                    #[inline(always)]
                    |_| {
                        let rows = gradient.chunks_exact_mut(width);
                        for (gradient, input) in rows.zip(input.chunks_exact(width)) {
                            backward_of_row(gradient, input, gamma, epsilon, &mut sums);
                        }
                    },
                );
                sums
            })
            .collect();
        let [to_gamma, to_beta] = [0, 1].map(|which| {
            let mut sum = vec![0.0; width];
            for part in &parts {
                for (sum, part) in sum.iter_mut().zip(&part[which]) {
                    *sum += part;
                }
            }
            matrix(sum, [1, width])
        });
        (gradient, to_gamma, to_beta)
    }
}

/// The normalised row.
#[inline(always)]
pub(in crate::ops) fn normalize_row(
    input: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f64,
    output: &mut [f32],
) {
    let (mean, scale) = moments(input, epsilon);
    let numbers = output.iter_mut().zip(input);
    for ((y, x), (gamma, beta)) in numbers.zip(gamma.iter().zip(beta)) {
        *y = (x - mean) * scale * gamma + beta;
    }
}

/// The mean of a row, and the inverse of its deviation.
#[inline(always)]
fn moments(row: &[f32], epsilon: f64) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum_of(row, |x| x) / count;
    let variance = sum_of(row, |x| (x - mean) * (x - mean)) / count;
    (mean, (variance + epsilon as f32).sqrt().recip())
}

/// Turns the gradient of a row of the output into that of the input, and adds to those of gamma and
/// beta.
#[inline(always)]
fn backward_of_row(
    gradient: &mut [f32],
    input: &[f32],
    gamma: &[f32],
    epsilon: f64,
    [to_gamma, to_beta]: &mut [Vec<f32>; 2],
) {
    let count = input.len() as f32;
    let (mean, scale) = moments(input, epsilon);
    let numbers = gradient.iter_mut().zip(input).zip(gamma);
    let sums = to_gamma.iter_mut().zip(to_beta);
    for (((gradient, x), gamma), (to_gamma, to_beta)) in numbers.zip(sums) {
        *to_gamma += *gradient * (x - mean) * scale;
        *to_beta += *gradient;
        *gradient *= gamma;
    }
    let offset = sum_of(gradient, |x| x) / count;
    let along = sum_of_pairs(gradient, input, |gradient, x| gradient * (x - mean));
    let along = along * scale * scale / count;
    for (gradient, x) in gradient.iter_mut().zip(input) {
        *gradient = scale * (*gradient - offset - (x - mean) * along);
    }
}
