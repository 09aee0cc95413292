//! Full attention: every query sees every key that is not padding.

use burn::{
    nn::Dropout,
    prelude::*,
    tensor::{activation::softmax, module::attention, ops::AttentionModuleOptions},
};

/// `softmax(Q K^T / sqrt(d)) V`; a query whose keys are all padding gets zeros.
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
    let padding = padding.map(|padding| padding.clone().reshape([batch, 1, 1, length]));
    // Weights over padding alone are uniform in one path and undefined in the other; values of zero
    // make both give zeros.
    let value = match &padding {
        Some(padding) => {
            let mask = padding.clone().swap_dims(2, 3);
            value.mask_fill(mask.expand([batch, heads, length, width]), 0.0)
        }
        None => value,
    };
    let mask = padding.map(|padding| padding.expand([batch, heads, length, length]));
    let drops = dropout.prob > 0.0 && dropout.training.is_enabled();
    if query.device().is_autodiff() && drops {
        let scores = query.matmul(key.swap_dims(2, 3)) / (width as f64).sqrt();
        let scores = match mask {
            Some(mask) => scores.mask_fill(mask, f32::MIN),
            None => scores,
        };
        dropout.forward(softmax(scores, 3)).matmul(value)
    } else {
        attention(
            query,
            key,
            value,
            mask,
            None,
            AttentionModuleOptions::default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::DropoutConfig, tensor::Distribution};

    use super::*;

    fn random(device: &Device) -> Tensor<4> {
        Tensor::random([2, 3, 5, 4], Distribution::Normal(0.0, 1.0), device)
    }

    /// The two paths, with a dropout too small to drop anything.
    fn both(padding: &Tensor<2, Bool>, device: &Device) -> [Tensor<4>; 2] {
        let (query, key, value) = (random(device), random(device), random(device));
        [0.0, 1e-30].map(|prob| {
            let dropout = DropoutConfig::new(prob).init();
            attend(
                query.clone(),
                key.clone(),
                value.clone(),
                Some(padding),
                &dropout,
            )
            .inner()
        })
    }

    #[test]
    fn paths_with_and_without_dropout_agree() {
        let device = Device::default().autodiff();
        let padding = [[false, false, true, false, true], [false; 5]];
        let [fused, composed] = both(&Tensor::from_data(padding, &device), &device);
        assert!((fused - composed).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn a_query_that_sees_no_key_gives_zeros() {
        let device = Device::default().autodiff();
        let padding = [[true; 5], [false; 5]];
        for context in both(&Tensor::from_data(padding, &device), &device) {
            let blind = context.clone().slice([0..1]).abs().max();
            assert!(blind.into_scalar::<f32>() == 0.0);
            let seeing = context.slice([1..2]).abs().min();
            assert!(seeing.into_scalar::<f32>() > 0.0);
        }
    }
}
