//! The distance between hidden states of student and teacher.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// What becomes of padded positions where states of tokens are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// They are left out, so that a loss does not depend on how much a batch is padded.
    #[default]
    Exclude,
    /// They count as all others do, as in the published code of `MoEBERT` (arXiv 2204.07675) and TED (arXiv 2210.01351).
    Include,
}

/// The mean squared error `[1]` between two hidden states.
///
/// # Shapes
///
/// - student, teacher: `[B, T, D]`
/// - padding: `[B, T]`, true where a position is padding
pub fn hidden_error(
    student: Tensor<3>,
    teacher: Tensor<3>,
    padding: Option<&Tensor<2, Bool>>,
    padded: Padding,
) -> Tensor<1> {
    let shape = student.dims();
    let difference = student - teacher;
    let padding = match padded {
        Padding::Exclude => padding,
        Padding::Include => None,
    };
    let Some(padding) = padding else {
        return difference.square().mean();
    };
    let masked = padding.clone().unsqueeze_dim::<3>(2).expand(shape);
    let real = padding.clone().bool_not().float().sum().clamp_min(1.0);
    let sum = difference.mask_fill(masked, 0.0).square().sum();
    sum / real.mul_scalar(shape[2] as f64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;

    fn states(device: &Device) -> (Tensor<3>, Tensor<3>, Tensor<2, Bool>) {
        let student = Tensor::from_data([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]], device);
        let teacher = Tensor::from_data([[[0.0, 4.0], [3.0, 1.0], [0.0, 0.0]]], device);
        let padding = Tensor::from_data([[false, false, true]], device);
        (student, teacher, padding)
    }

    #[test]
    fn padding_counts_only_in_the_plain_mean() {
        let (student, teacher, padding) = states(&Device::flex());
        let loss = |padded: Padding| -> f32 {
            hidden_error(student.clone(), teacher.clone(), Some(&padding), padded).into_scalar()
        };
        // Squares: 1, 4, 0, 9 of real tokens and 81, 81 of padding.
        assert!((loss(Padding::Exclude) - 14.0 / 4.0).abs() < 1e-6);
        assert!((loss(Padding::Include) - 176.0 / 6.0).abs() < 1e-5);
    }

    #[test]
    fn the_gradient_is_twice_the_difference_over_the_count() {
        let device = Device::flex();
        let (student, teacher, padding) = states(&device);
        let student = student.autodiff().require_grad();
        let loss = hidden_error(student.clone(), teacher, Some(&padding), Padding::Exclude);
        let gradient = student.grad(&loss.backward()).unwrap();
        let expected = TensorData::from([[[0.5_f32, -1.0], [0.0, 1.5], [0.0, 0.0]]]);
        gradient
            .into_data()
            .assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-6));
    }

    #[test]
    fn padding_that_is_not_finite_does_not_leak() {
        let device = Device::flex();
        let padding = Tensor::from_data([[false, true]], &device);
        let student = Tensor::<3>::from_data([[[2.0], [f32::NAN]]], &device);
        let student = student.autodiff().require_grad();
        let teacher = Tensor::zeros([1, 2, 1], &device);
        let loss = hidden_error(student.clone(), teacher, Some(&padding), Padding::Exclude);
        let gradient = student.grad(&loss.backward()).unwrap();
        assert!((loss.into_scalar::<f32>() - 4.0).abs() < 1e-6);
        let expected = TensorData::from([[[4.0_f32], [0.0]]]);
        gradient.into_data().assert_eq(&expected, true);
    }
}
