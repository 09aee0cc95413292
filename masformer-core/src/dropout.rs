//! Dropout of hidden states.

use burn::{nn::Dropout, prelude::*};

use crate::ops;

/// [`Dropout::forward`] in a single pass: on devices with autodiff, while the layer trains.
///
/// # Shapes
///
/// - input and output: `[.., D]`
pub fn dropout<const N: usize>(layer: &Dropout, input: Tensor<N>) -> Tensor<N> {
    let prob = active_prob(layer, &input.device());
    if prob == 0.0 {
        return input;
    }
    let shape = input.dims();
    let width = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / width.max(1);
    ops::dropout(input.reshape([rows, width]), prob).reshape(shape)
}

/// The probability of dropping a number: 0 where the layer does not train.
pub(crate) fn active_prob(layer: &Dropout, device: &Device) -> f64 {
    let drops = layer.training.is_enabled() && device.is_autodiff();
    if drops { layer.prob } else { 0.0 }
}
