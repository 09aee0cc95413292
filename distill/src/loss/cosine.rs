//! The angle between hidden states.

use burn::prelude::*;

/// Keeps the product of the norms of two states of zeros apart from zero.
const TINY: f64 = 1e-24;

/// The mean over real tokens of `1 - cos(student, teacher)` `[1]` (`DistilBERT`, arXiv 1910.01108, section 3).
///
/// # Shapes
///
/// - student, teacher: `[B, T, D]`
/// - padding: `[B, T]`, true where a position is padding
pub fn cosine(
    student: Tensor<3>,
    teacher: Tensor<3>,
    padding: Option<&Tensor<2, Bool>>,
) -> Tensor<1> {
    let norm = |state: &Tensor<3>| (state.clone().square().sum_dim(2) + TINY).sqrt();
    let norms = norm(&student) * norm(&teacher);
    let distance = ((student * teacher).sum_dim(2) / norms).neg() + 1.0;
    let distance = distance.squeeze_dim::<2>(2);
    let Some(padding) = padding else {
        return distance.mean();
    };
    let real = padding.clone().bool_not().float().sum().clamp_min(1.0);
    distance.mask_fill(padding.clone(), 0.0).sum() / real
}
