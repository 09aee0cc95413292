//! The softmax on the flex backend: a row is read once from memory, and its gradient is made in place.

use burn::backend::{Flex, TensorMetadata, ops::ActivationOps};

use super::{SoftmaxOps, plain_backward};
use crate::ops::{
    flex::{FlexTensor, all_f32, change, in_order, make, run_of_rows},
    math::{exp, map_and_sum, max_of, sum_of_pairs},
};

impl SoftmaxOps for Flex {
    fn softmax_rows(input: FlexTensor) -> FlexTensor {
        if !all_f32(&[&input]) {
            return Flex::softmax(input, 1);
        }
        let [_, width] = input.shape().dims();
        make(
            &in_order(input),
            run_of_rows(width),
            #[inline(always)]
            |mac, _, input, output| {
                let rows = output.chunks_exact_mut(width);
                for (output, input) in rows.zip(input.chunks_exact(width)) {
                    let max = max_of(input);
                    let factor = map_and_sum(input, output, |x| exp(mac, x - max)).recip();
                    for y in output {
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
                    let along = sum_of_pairs(gradient, output, |gradient, y| gradient * y);
                    for (gradient, y) in gradient.iter_mut().zip(output) {
                        *gradient = y * (*gradient - along);
                    }
                }
            },
        )
    }
}
