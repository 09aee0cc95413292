//! The distance between attention scores.

use burn::prelude::*;
use masformer_core::HeadTrace;

use super::{Padding, pairs::Pairs};

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

/// The mean squared difference `[1]` of attention scores (`TinyBERT`, arXiv 1909.10351, equation 7): over the pairs of real
/// tokens that are seen, or over all pairs with those that are not seen as 0, as the published code has it.
///
/// # Shapes
///
/// - student, teacher: `[B, H, T, T]`
pub fn scores(student: Tensor<4>, teacher: Tensor<4>, pairs: &Pairs, padded: Padding) -> Tensor<1> {
    let shape @ [batch, heads, length, _] = student.dims();
    let difference = student - teacher;
    let difference = match &pairs.unseen {
        Some(unseen) => difference.mask_fill(unseen.clone().expand(shape), 0.0),
        None => difference,
    };
    let Padding::Exclude = padded else {
        return difference.square().mean();
    };
    let real = pairs.real.clone().reshape([batch, 1, length, 1]);
    let seen = match &pairs.unseen {
        Some(unseen) => unseen.clone().bool_not().float(),
        None => Tensor::ones([1, 1, length, length], &real.device()),
    };
    let count = (seen * real.clone()).sum().clamp_min(1.0);
    let rows = difference.square().sum_dim(3) * real;
    rows.sum() / count.mul_scalar(heads as f64)
}
