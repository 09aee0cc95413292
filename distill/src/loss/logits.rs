//! The distance between the predictions of student and teacher.

use burn::{
    prelude::*,
    tensor::{FloatDType, activation::log_softmax},
};
use serde::{Deserialize, Serialize};

use crate::MethodError;

/// How the logits of student and teacher are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogitsForm {
    /// [`symmetric_kl`].
    #[default]
    SymmetricKl,
    /// [`kl`].
    Kl,
    /// [`mean_squared_error`].
    Mse,
    /// Not at all.
    None,
}

impl LogitsForm {
    /// The loss `[1]` of the student's logits `[B, C]` against the teacher's `[B, C]`. A divergence of one number is 0, so
    /// regression takes the squared error in place of one.
    pub fn loss(
        self,
        student: Tensor<2>,
        teacher: Tensor<2>,
        temperature: f64,
    ) -> Option<Tensor<1>> {
        let [_, classes] = student.dims();
        Some(match self {
            Self::None => return None,
            _ if classes == 1 => mean_squared_error(student, teacher),
            Self::SymmetricKl => symmetric_kl(student, teacher, temperature),
            Self::Kl => kl(student, teacher, temperature),
            Self::Mse => mean_squared_error(student, teacher),
        })
    }
}

/// The mean over all logits, one `[B, C]` or the start and end of a span, of the student's loss against the teacher; `None`
/// where there are no logits or the form is [`LogitsForm::None`].
///
/// # Errors
///
/// If student and teacher have other shapes.
pub fn logits_distance(
    student: &[Tensor<2>],
    teacher: &[Tensor<2>],
    form: LogitsForm,
    temperature: f64,
) -> Result<Option<Tensor<1>>, MethodError> {
    let shapes = |logits: &[Tensor<2>]| logits.iter().map(Tensor::dims).collect::<Vec<_>>();
    if form != LogitsForm::None && shapes(student) != shapes(teacher) {
        return Err(format!(
            "the student's logits are {:?} and the teacher's {:?}; they must have the same shapes",
            shapes(student),
            shapes(teacher)
        )
        .into());
    }
    let sum = student
        .iter()
        .zip(teacher)
        .filter_map(|(output, target)| form.loss(output.clone(), target.clone(), temperature))
        .reduce(|sum, term| sum + term);
    Ok(sum.map(|sum| sum.div_scalar(student.len() as f64)))
}

/// The log probabilities `[B, C]` of logits `[B, C]` at a temperature, in float32: half precision has
/// too few digits for their differences.
fn log_probabilities(logits: Tensor<2>, temperature: f64) -> Tensor<2> {
    log_softmax(logits.cast(FloatDType::F32).div_scalar(temperature), 1)
}

/// `T^2/(2B) sum (p - q)(ln p - ln q)` `[1]`, the symmetric Kullback-Leibler divergence of `MoEBERT`
/// (arXiv 2204.07675, equation 8), which has `T = 1`.
///
/// # Shapes
///
/// - student, teacher: `[B, C]`, finite
pub fn symmetric_kl(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = student.dims();
    let student = log_probabilities(student, temperature);
    let teacher = log_probabilities(teacher, temperature);
    let difference = student.clone().exp() - teacher.clone().exp();
    (difference * (student - teacher))
        .sum()
        .mul_scalar(temperature * temperature / (2.0 * batch.max(1) as f64))
}

/// `T^2/B sum q (ln q - ln p)` `[1]`, the divergence of the student's `p` from the teacher's `q`, both
/// at temperature `T` (Hinton, Vinyals and Dean, arXiv 1503.02531).
///
/// # Shapes
///
/// - student, teacher: `[B, C]`, finite
pub fn kl(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = student.dims();
    let student = log_probabilities(student, temperature);
    let teacher = log_probabilities(teacher, temperature);
    (teacher.clone().exp() * (teacher - student))
        .sum()
        .mul_scalar(temperature * temperature / batch.max(1) as f64)
}

/// The mean squared difference `[1]` of logits `[B, C]`; 0 of none.
pub fn mean_squared_error(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let [batch, classes] = student.dims();
    if batch == 0 {
        return student.sum();
    }
    let difference = student.cast(FloatDType::F32) - teacher.cast(FloatDType::F32);
    difference
        .square()
        .sum()
        .div_scalar((batch * classes) as f64)
}

/// Refuses a temperature that cannot divide logits.
///
/// # Errors
///
/// If it is not positive and finite.
pub fn check_temperature(temperature: f64) -> Result<(), MethodError> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    Err(format!("`temperature` must be above 0, not {temperature}").into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLASSES: usize = 3;

    fn tensor(values: &[f64]) -> Tensor<2> {
        let rows = values.len() / CLASSES;
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows, CLASSES]), &Device::flex())
    }

    fn value(loss: Tensor<1>) -> f64 {
        f64::from(loss.into_scalar::<f32>())
    }

    fn softmax(row: &[f64]) -> Vec<f64> {
        let total: f64 = row.iter().map(|value| value.exp()).sum();
        row.iter().map(|value| value.exp() / total).collect()
    }

    /// The mean over rows of `sum q ln(q / p)`, in double precision and without log-softmax.
    fn divergence(p: &[f64], q: &[f64]) -> f64 {
        let rows = p.len() / CLASSES;
        let sum: f64 = p
            .chunks(CLASSES)
            .zip(q.chunks(CLASSES))
            .flat_map(|(p, q)| softmax(p).into_iter().zip(softmax(q)))
            .map(|(p, q)| q * (q / p).ln())
            .sum();
        sum / rows as f64
    }

    #[test]
    fn equals_hand_computed_values() {
        let even = tensor(&[0.0, 0.0, 0.0]);
        let student = tensor(&[2.0_f64.ln(), 0.0, 0.0]);
        // p = (1/2, 1/4, 1/4), q = (1/3, 1/3, 1/3).
        let (p, q) = ([0.5, 0.25, 0.25], 1.0_f64 / 3.0);
        let symmetric: f64 = p.iter().map(|p| (p - q) * (p / q).ln()).sum::<f64>() / 2.0;
        let forward: f64 = p.iter().map(|p| q * (q / p).ln()).sum();
        assert!((value(symmetric_kl(student.clone(), even.clone(), 1.0)) - symmetric).abs() < 1e-6);
        assert!((value(kl(student.clone(), even.clone(), 1.0)) - forward).abs() < 1e-6);
        let squares = 2.0_f64.ln().powi(2) / 3.0;
        assert!((value(mean_squared_error(student, even)) - squares).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_of_kl_is_the_difference_of_probabilities() {
        let (student, teacher) = (
            [0.3, -1.0, 2.0, 0.0, 0.5, -0.5],
            [1.0, 0.0, 0.2, 2.0, 0.1, 0.4],
        );
        let temperature = 2.0;
        let logits = tensor(&student).autodiff().require_grad();
        let loss = kl(logits.clone(), tensor(&teacher), temperature);
        let gradient = logits.grad(&loss.backward()).unwrap();
        let scaled = |values: &[f64]| values.iter().map(|v| v / temperature).collect::<Vec<_>>();
        // d/ds of T^2/B KL is T/B (p - q).
        let expected: Vec<f64> = scaled(&student)
            .chunks(CLASSES)
            .zip(scaled(&teacher).chunks(CLASSES))
            .flat_map(|(p, q)| softmax(p).into_iter().zip(softmax(q)))
            .map(|(p, q)| temperature / 2.0 * (p - q))
            .collect();
        for (found, expected) in gradient.into_data().iter::<f64>().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_gradient_of_symmetric_kl_is_its_slope() {
        let (student, teacher) = ([0.3, -1.0, 2.0], [1.0, 0.0, 0.2]);
        let logits = tensor(&student).autodiff().require_grad();
        let loss = symmetric_kl(logits.clone(), tensor(&teacher), 1.0);
        let gradient = logits.grad(&loss.backward()).unwrap();
        let symmetric = |p: &[f64]| f64::midpoint(divergence(p, &teacher), divergence(&teacher, p));
        for (index, found) in gradient.into_data().iter::<f64>().enumerate() {
            let shifted = |by: f64| {
                let mut moved = student;
                moved[index] += by;
                symmetric(&moved)
            };
            let slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((found - slope).abs() < 1e-5, "{found} {slope}");
        }
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let student = tensor(&[1e4, -1e4, 0.0]);
        let teacher = tensor(&[-1e4, 1e4, 0.0]);
        assert!(value(symmetric_kl(student.clone(), teacher.clone(), 1.0)).is_finite());
        assert!(value(kl(student, teacher, 1.0)).is_finite());
    }

    fn logits() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
        (1..4_usize).prop_flat_map(|rows| {
            let values = proptest::collection::vec(-8.0..8.0, rows * CLASSES);
            (values.clone(), values)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn divergences_follow_their_definition((p, q) in logits()) {
            let symmetric = f64::midpoint(divergence(&p, &q), divergence(&q, &p));
            let found = value(symmetric_kl(tensor(&p), tensor(&q), 1.0));
            prop_assert!((found - symmetric).abs() < 1e-3 * (1.0 + symmetric));
            prop_assert!(found >= -1e-6);
            let swapped = value(symmetric_kl(tensor(&q), tensor(&p), 1.0));
            prop_assert!((found - swapped).abs() <= 1e-5 * (1.0 + found));
            // At temperature 2, halved logits and a factor of 4.
            let halved = |v: &[f64]| v.iter().map(|value| value / 2.0).collect::<Vec<_>>();
            let (p2, q2) = (halved(&p), halved(&q));
            let softer = 2.0 * (divergence(&p2, &q2) + divergence(&q2, &p2));
            let warm = value(symmetric_kl(tensor(&p), tensor(&q), 2.0));
            prop_assert!((warm - softer).abs() < 1e-3 * (1.0 + softer));
            let forward = value(kl(tensor(&p), tensor(&q), 1.0));
            prop_assert!((forward - divergence(&p, &q)).abs() < 1e-3 * (1.0 + symmetric));
        }

        #[test]
        fn equal_logits_cost_nothing((p, _) in logits(), shift in -5.0..5.0) {
            // A softmax does not see a shift of all logits.
            let shifted: Vec<f64> = p.iter().map(|value| value + shift).collect();
            prop_assert!(value(symmetric_kl(tensor(&p), tensor(&shifted), 1.0)).abs() < 1e-5);
            prop_assert!(value(kl(tensor(&p), tensor(&shifted), 2.0)).abs() < 1e-5);
            prop_assert!(value(mean_squared_error(tensor(&p), tensor(&p))).abs() < 1e-12);
        }
    }
}
