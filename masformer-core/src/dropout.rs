//! Dropout of hidden states.

use burn::{nn::Dropout, prelude::*};

use crate::ops;

/// [`Dropout::forward`] in a single pass: on devices with autodiff, while the layer trains.
///
/// # Shapes
///
/// - input and output: `[.., D]`
pub fn dropout<const N: usize>(layer: &Dropout, input: Tensor<N>) -> Tensor<N> {
    let drops = layer.training.is_enabled() && input.device().is_autodiff();
    if !drops || layer.prob == 0.0 {
        return input;
    }
    let shape = input.dims();
    let width = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / width.max(1);
    ops::dropout(input.reshape([rows, width]), layer.prob).reshape(shape)
}
