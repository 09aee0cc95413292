//! The distance between the first tokens' states.

use burn::prelude::*;

/// Keeps the norm of a state of zeros apart from zero.
const TINY: f64 = 1e-24;

/// The mean squared difference `[1]` between the first tokens' states of several layers, each of norm 1 if `normalize`
/// (BERT-PKD, arXiv 1908.09355, equation 7). The published code takes this mean; the equation sums over layers and the
/// width, so its weight is smaller by `K D`.
///
/// # Shapes
///
/// - student, teacher: `K` states `[B, T, D]` each
pub fn first_tokens(
    student: &[Tensor<3>],
    teacher: &[Tensor<3>],
    normalize: bool,
) -> Option<Tensor<1>> {
    let first = |state: &Tensor<3>| {
        let [batch, _, hidden] = state.dims();
        let state = state
            .clone()
            .slice([0..batch, 0..1, 0..hidden])
            .squeeze_dim::<2>(1);
        if normalize {
            let norm = (state.clone().square().sum_dim(1) + TINY).sqrt();
            state / norm
        } else {
            state
        }
    };
    let layers = student.iter().zip(teacher);
    let terms = layers.map(|(student, teacher)| (first(student) - first(teacher)).square().mean());
    let sum = terms.reduce(|sum, term| sum + term)?;
    Some(sum.div_scalar(student.len() as f64))
}
