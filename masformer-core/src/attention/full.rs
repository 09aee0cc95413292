//! Full attention: every query sees every key that is not padding.

use burn::{
    nn::Dropout,
    prelude::*,
    tensor::{activation::softmax, module::attention, ops::AttentionModuleOptions},
};

/// `softmax(Q K^T / sqrt(d)) V`.
///
/// # Shapes
///
/// - query, key, value: `[B, H, T, D / H]`
/// - padding: `[B, T]`
/// - output: `[B, H, T, D / H]`
pub(super) fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    dropout: &Dropout,
) -> Tensor<4> {
    let [batch, heads, length, width] = query.dims();
    let mask = padding.map(|padding| {
        padding
            .clone()
            .reshape([batch, 1, 1, length])
            .expand([batch, heads, length, length])
    });
    let drops = dropout.prob > 0.0 && dropout.training.is_enabled();
    let context = if query.device().is_autodiff() && drops {
        let scores = query.matmul(key.swap_dims(2, 3)) / (width as f64).sqrt();
        let scores = match &mask {
            Some(mask) => scores.mask_fill(mask.clone(), f32::MIN),
            None => scores,
        };
        dropout.forward(softmax(scores, 3)).matmul(value)
    } else {
        attention(query, key, value, mask.clone(), None, AttentionModuleOptions::default())
    };
    context
}
