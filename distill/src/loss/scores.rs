//! The distance between attention scores.

use burn::prelude::*;
use masformer_core::HeadTrace;

use super::Padding;

/// The scores `[B, H, T, T]` of a layer before mask and softmax, `Q K^T / sqrt(d)`; query heads that share a key head
/// each have their own.
pub fn attention_scores(layer: &HeadTrace) -> Tensor<4> {
    let [batch, length, hidden] = layer.query.dims();
    let width = hidden / layer.heads;
    let [_, _, key_value] = layer.key.dims();
    let groups = key_value / width;
    let split = |vectors: Tensor<3>, heads: usize| {
        let vectors = vectors.reshape([batch, length, heads, width]);
        vectors.swap_dims(1, 2)
    };
    let keys = split(layer.key.clone(), groups);
    let shared = layer.heads / groups;
    let keys = if shared > 1 {
        let keys = keys.unsqueeze_dim::<5>(2).repeat_dim(2, shared);
        keys.reshape([batch, layer.heads, length, width])
    } else {
        keys
    };
    let scores = split(layer.query.clone(), layer.heads).matmul(keys.transpose());
    scores.div_scalar((width as f64).sqrt())
}

/// The mean squared difference `[1]` of attention scores (`TinyBERT`, arXiv 1909.10351, equation 7): over pairs of real
/// tokens, or over all pairs with those of padded keys as 0, as the published code has it.
///
/// # Shapes
///
/// - student, teacher: `[B, H, T, T]`
/// - padding: `[B, T]`, true where a position is padding
pub fn scores(
    student: Tensor<4>,
    teacher: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    which: Padding,
) -> Tensor<1> {
    let shape @ [batch, heads, length, _] = student.dims();
    let difference = student - teacher;
    let Some(padding) = padding else {
        return difference.square().mean();
    };
    let keys = padding.clone().reshape([batch, 1, 1, length]).expand(shape);
    let Padding::Exclude = which else {
        return difference.mask_fill(keys, 0.0).square().mean();
    };
    let queries = padding.clone().reshape([batch, 1, length, 1]).expand(shape);
    let real = padding.clone().bool_not().float().sum_dim(1);
    let pairs = real.square().sum().clamp_min(1.0).mul_scalar(heads as f64);
    let difference = difference.mask_fill(keys.bool_or(queries), 0.0);
    difference.square().sum() / pairs
}
