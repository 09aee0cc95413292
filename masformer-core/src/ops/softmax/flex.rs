//! The softmax on the flex backend: a row is read once from memory, and changed in place.

use burn::backend::{Flex, TensorMetadata, ops::ActivationOps};

use super::{SoftmaxOps, plain_backward};
use crate::ops::{
    flex::{FlexTensor, all_f32, change, in_order, run_of_rows},
    math::{exp, map_and_sum, max_of, sums_of},
};

impl SoftmaxOps for Flex {
    fn softmax_rows(input: FlexTensor) -> FlexTensor {
        if !all_f32(&[&input]) {
            return Flex::softmax(input, 1);
        }
        let [_, width] = input.shape().dims();
        change(
            input,
            run_of_rows(width),
            #[inline(always)]
            |mac, _, run| {
                for row in run.chunks_exact_mut(width) {
                    let max = max_of(row);
                    let factor = map_and_sum(row, |x| exp(mac, x - max)).recip();
                    for y in row {
                        *y *= factor;
                    }
                }
            },
        )
    }

    fn softmax_rows_backward(output: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        if !all_f32(&[&output, &gradient]) {
            return plain_backward::<Flex>(output, gradient);
        }
        let [_, width] = output.shape().dims();
        let output = in_order(output);
        let output = output.storage::<f32>();
        change(
            gradient,
            run_of_rows(width),
            #[inline(always)]
            |_, first, run| {
                let rows = output[first..].chunks_exact(width);
                for (gradient, output) in run.chunks_exact_mut(width).zip(rows) {
                    let [along] = sums_of([gradient, output], |[gradient, y]| [gradient * y]);
                    for (gradient, y) in gradient.iter_mut().zip(output) {
                        *gradient = y * (*gradient - along);
                    }
                }
            },
        )
    }
}
