//! Low-rank adapters (`LoRA`, arXiv 2106.09685).

use burn::{module::LoraAdapter, prelude::*};

use super::WeightForm;
use crate::ops;

impl WeightForm for LoraAdapter {
    /// `x W + s (x A) B + b` (equation 3): the dense sum `W + s A B` is never built, and neither is its gradient.
    fn apply(&self, input: Tensor<2>, base: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
        // The scale multiplies what is `r` wide, which has fewer numbers than the output.
        let narrow = input.clone().matmul(self.a.val()).mul_scalar(self.scale);
        let change = narrow.matmul(self.b.val());
        ops::linear(input, base, bias) + change
    }

    fn outputs(&self, base: [usize; 2]) -> usize {
        base[1]
    }

    /// Those of the base, into which an adapter is merged when its model is saved.
    fn multiply_adds(&self, base: [usize; 2]) -> usize {
        base[0] * base[1]
    }
}
