//! Layer normalisation on the flex backend: each row is read once from memory.

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use super::{LayerNormOps, plain, plain_backward};
use crate::ops::{
    flex::{FlexTensor, all_f32, change, in_order, run_of_rows, tensor},
    math::{LANES, sum_of, sums_of, vectorize},
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
        change(
            input,
            run_of_rows(width),
            #[inline(always)]
            |_, _, run| {
                for row in run.chunks_exact_mut(width) {
                    normalize_row(row, gamma, beta, epsilon);
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
            tensor(sum, [1, width])
        });
        (gradient, to_gamma, to_beta)
    }
}

/// Normalises a row.
#[inline(always)]
pub(in crate::ops) fn normalize_row(row: &mut [f32], gamma: &[f32], beta: &[f32], epsilon: f64) {
    let (mean, scale) = moments(row, epsilon);
    for (x, (gamma, beta)) in row.iter_mut().zip(gamma.iter().zip(beta)) {
        *x = (*x - mean) * scale * gamma + beta;
    }
}

/// The mean of a row, and the inverse of its deviation, in one pass over differences from the mean of the
/// first `m` numbers. The square of how far that is from the mean of all `n` is at most `n / m` times the
/// variance, to which those `m` contribute: subtracting it in the end loses one part in 10,000 of 4,096
/// numbers at the most.
#[inline(always)]
fn moments(row: &[f32], epsilon: f64) -> (f32, f32) {
    let count = row.len() as f32;
    let first = &row[..row.len().min(LANES)];
    let near = sum_of(first, |x| x) / first.len() as f32;
    let [sum, squares] = sums_of([row], |[x]| [x - near, (x - near) * (x - near)]);
    let offset = sum / count;
    let variance = match squares / count - offset * offset {
        // Of numbers whose squares are too large, the difference would be none.
        _ if squares == f32::INFINITY => squares,
        variance if variance < 0.0 => 0.0,
        variance => variance,
    };
    (near + offset, (variance + epsilon as f32).sqrt().recip())
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
    let [sum, along] = sums_of([gradient, input], |[gradient, x]| {
        [gradient, gradient * (x - mean)]
    });
    let (offset, along) = (sum / count, along * scale * scale / count);
    for (gradient, x) in gradient.iter_mut().zip(input) {
        *gradient = scale * (*gradient - offset - (x - mean) * along);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn moments_are_those_of_the_definition(
            numbers in prop::collection::vec(-1.0..1.0_f32, 2..2000),
            far in 0..2000_usize,
            distance in -100.0..100.0_f32,
            offset in -1000.0..1000.0_f32,
        ) {
            // The first are of another kind than the others.
            let numbers = numbers.into_iter().enumerate();
            let row: Vec<f32> = numbers
                .map(|(place, x)| x + offset + if place < far { distance } else { 0.0 })
                .collect();
            let count = row.len() as f64;
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let squares = row.iter().map(|&x| (f64::from(x) - mean).powi(2));
            let scale = (squares.sum::<f64>() / count + 1e-5).sqrt().recip();
            let (found_mean, found_scale) = moments(&row, 1e-5);
            // What is near the mean is 1e-4 of a deviation off, or as much as the mean is rounded.
            let rounded = mean.abs() * scale / f64::from(1 << 22);
            let error = (f64::from(found_mean) - mean).abs() * scale;
            prop_assert!(error < 1e-4 + rounded, "mean {found_mean}, not {mean}");
            let error = (f64::from(found_scale) / scale - 1.0).abs();
            prop_assert!(error < 1e-4, "scale {found_scale}, not {scale}");
        }
    }

    #[test]
    fn numbers_whose_squares_are_too_large_are_all_the_mean() {
        let mut row: Vec<f32> = (0..100).map(|place| 1e30 * (place as f32).sin()).collect();
        let ones = vec![1.0; 100];
        normalize_row(&mut row, &ones, &ones, 1e-5);
        assert_eq!(row, ones);
    }

    #[test]
    fn what_is_not_finite_makes_the_row_so() {
        for place in [0, 50] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = vec![1.0; 100];
                row[place] = bad;
                let ones = vec![1.0; 100];
                normalize_row(&mut row, &ones, &ones, 1e-5);
                assert!(row.iter().all(|x| x.is_nan()), "{bad} at {place}");
            }
        }
    }
}
