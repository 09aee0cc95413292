//! Cross entropy on the flex backend: a row of logits is read once from memory, and its gradient is
//! made in place.

use burn::backend::{Flex, TensorMetadata, tensor::IntTensor};
use rayon::prelude::*;

use super::{
    CrossEntropyOps, by_chunks, chunks, plain, plain_backward, plain_linear, plain_linear_backward,
    plain_linear_mean,
};
use crate::ops::{
    flex::{FlexTensor, all_f32, change, in_order, run_of_rows, tensor},
    math::{exp, max_of, sum_of, vectorize},
    primitive::Float,
};

impl CrossEntropyOps for Flex {
    fn cross_entropy(logits: FlexTensor, targets: IntTensor<Flex>) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&logits]) {
            return plain::<Flex>(logits, targets);
        }
        let [losses, denominators] = losses(logits, &numbers(targets));
        (column(losses), column(denominators))
    }

    fn cross_entropy_backward(
        logits: FlexTensor,
        targets: IntTensor<Flex>,
        denominators: FlexTensor,
        gradient: FlexTensor,
    ) -> FlexTensor {
        if !all_f32(&[&logits, &denominators, &gradient]) {
            return plain_backward::<Flex>(logits, targets, denominators, gradient);
        }
        let (denominators, gradient) = (in_order(denominators), in_order(gradient));
        backward(
            logits,
            &numbers(targets),
            denominators.storage(),
            gradient.storage(),
        )
    }

    fn linear_cross_entropy(
        hidden: FlexTensor,
        head: FlexTensor,
        targets: IntTensor<Flex>,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&hidden, &head]) {
            return plain_linear::<Flex>(hidden, head, targets);
        }
        let (counted, targets) = Counted::of(&numbers(targets));
        let (hidden, head) = (Float::<Flex>(counted.gather(hidden)), Float::<Flex>(head));
        let (mut all_losses, mut all_denominators) = (vec![], vec![]);
        for rows in chunks(&hidden, &head) {
            let logits = hidden.rows(&rows).times(head.clone().transpose());
            let [losses, denominators] = losses(logits.0, &targets[rows]);
            all_losses.extend(losses);
            all_denominators.extend(denominators);
        }
        let scatter = |values| counted.scatter(column(values));
        (scatter(all_losses), scatter(all_denominators))
    }

    fn linear_cross_entropy_backward(
        hidden: FlexTensor,
        head: FlexTensor,
        targets: IntTensor<Flex>,
        denominators: FlexTensor,
        gradient: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&hidden, &head, &denominators, &gradient]) {
            return plain_linear_backward::<Flex>(hidden, head, targets, denominators, gradient);
        }
        let (counted, targets) = Counted::of(&numbers(targets));
        let [denominators, gradient] =
            [denominators, gradient].map(|column| in_order(counted.gather(column)));
        let (denominators, gradient) = (denominators.storage(), gradient.storage());
        let hidden = Float(counted.gather(hidden));
        let (to_hidden, to_head) = by_chunks::<Flex>(hidden, Float(head), |rows, logits| {
            let (targets, rows) = (&targets[rows.clone()], rows.clone());
            Float(backward(
                logits.0,
                targets,
                &denominators[rows.clone()],
                &gradient[rows],
            ))
        });
        (counted.scatter(to_hidden), to_head)
    }

    fn linear_cross_entropy_mean(
        hidden: FlexTensor,
        head: FlexTensor,
        targets: IntTensor<Flex>,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if !all_f32(&[&hidden, &head]) {
            return plain_linear_mean::<Flex>(hidden, head, targets);
        }
        let (counted, targets) = Counted::of(&numbers(targets));
        let hidden = Float(counted.gather(hidden));
        let share = (counted.all as f32).recip();
        let mut sum = 0.0;
        let (to_hidden, to_head) = by_chunks::<Flex>(hidden, Float(head), |rows, logits| {
            let targets = &targets[rows.clone()];
            let [losses, denominators] = losses(logits.0.clone(), targets);
            sum += losses.iter().copied().map(f64::from).sum::<f64>();
            let shares = vec![share; rows.len()];
            Float(backward(logits.0, targets, &denominators, &shares))
        });
        let mean = column(vec![sum as f32 * share]);
        (mean, counted.scatter(to_hidden), to_head)
    }
}

/// The rows whose targets count, among all.
struct Counted {
    rows: Vec<usize>,
    all: usize,
}

impl Counted {
    /// These rows, and their targets.
    fn of(targets: &[Option<usize>]) -> (Self, Vec<Option<usize>>) {
        let rows: Vec<usize> = (0..targets.len())
            .filter(|row| targets[*row].is_some())
            .collect();
        let counted = rows.iter().map(|row| targets[*row]).collect();
        let all = targets.len();
        (Self { rows, all }, counted)
    }

    /// These rows of a matrix.
    fn gather(&self, matrix_of_all: FlexTensor) -> FlexTensor {
        if self.rows.len() == self.all {
            return matrix_of_all;
        }
        let [_, width] = matrix_of_all.shape().dims();
        let all = in_order(matrix_of_all);
        let all = all.storage::<f32>();
        let rows = self.rows.iter().map(|row| &all[row * width..][..width]);
        let values: Vec<f32> = rows.flatten().copied().collect();
        tensor(values, [self.rows.len(), width])
    }

    /// A matrix of all rows that has these, and zeros elsewhere.
    fn scatter(&self, matrix_of_rows: FlexTensor) -> FlexTensor {
        if self.rows.len() == self.all {
            return matrix_of_rows;
        }
        let [_, width] = matrix_of_rows.shape().dims();
        let rows = in_order(matrix_of_rows);
        let mut all = vec![0.0; self.all * width];
        for (row, values) in self
            .rows
            .iter()
            .zip(rows.storage::<f32>().chunks_exact(width))
        {
            all[row * width..][..width].copy_from_slice(values);
        }
        tensor(all, [self.all, width])
    }
}

fn column(values: Vec<f32>) -> FlexTensor {
    let rows = values.len();
    tensor(values, [rows, 1])
}

/// The column of each target; `None` where it does not count.
fn numbers(targets: IntTensor<Flex>) -> Vec<Option<usize>> {
    let numbers = targets.into_data();
    let numbers = numbers.iter::<i64>();
    numbers.map(|target| target.try_into().ok()).collect()
}

/// The losses and denominators of rows of logits.
fn losses(logits: FlexTensor, targets: &[Option<usize>]) -> [Vec<f32>; 2] {
    let [rows, width] = logits.shape().dims();
    let logits = in_order(logits);
    let [mut losses, mut denominators] = [(); 2].map(|()| vec![0.0; rows]);
    let step = run_of_rows(width);
    let rows = step / width;
    let runs = logits.storage::<f32>().par_chunks(step);
    let runs = runs.zip(targets.par_chunks(rows));
    let results = losses
        .par_chunks_mut(rows)
        .zip(denominators.par_chunks_mut(rows));
    runs.zip(results)
        .for_each(|((run, targets), (losses, denominators))| {
            vectorize(
                #[inline(always)]
                |mac| {
                    let rows = run.chunks_exact(width).zip(targets);
                    let results = losses.iter_mut().zip(denominators);
                    for ((row, target), (loss, denominator)) in rows.zip(results) {
                        let max = max_of(row);
                        let sum = sum_of(row, |x| exp(mac, x - max)).ln();
                        *denominator = max + sum;
                        *loss = target.map_or(0.0, |target| sum + (max - row[target]));
                    }
                },
            );
        });
    [losses, denominators]
}

/// Turns logits into their gradient: the softmax less 1 at the target, times that of the loss.
fn backward(
    logits: FlexTensor,
    targets: &[Option<usize>],
    denominators: &[f32],
    gradient: &[f32],
) -> FlexTensor {
    let [_, width] = logits.shape().dims();
    change(
        logits,
        run_of_rows(width),
        #[inline(always)]
        |mac, first, run| {
            for (row, values) in run.chunks_exact_mut(width).enumerate() {
                let row = first / width + row;
                let (denominator, gradient) = (denominators[row], gradient[row]);
                if let Some(target) = targets[row] {
                    for x in values.iter_mut() {
                        *x = exp(mac, *x - denominator) * gradient;
                    }
                    values[target] -= gradient;
                } else {
                    values.fill(0.0);
                }
            }
        },
    )
}
