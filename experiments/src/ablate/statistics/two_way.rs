//! The interval of a metric or of a difference, where seeds and examples are both drawn at random.

use serde::{Deserialize, Serialize};

use super::{
    Alpha, Interval, MetricValues, StatisticsError, ValueMatrix, student_t, value_matrix::mean,
};

/// The mean squares of a two-way layout with one observation a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanSquares {
    /// Of the seeds' means: `A = N sum_s (r_s - m)^2 / (S - 1)`.
    pub seeds: f64,
    /// Of the examples' means: `B = S sum_i (c_i - m)^2 / (N - 1)`.
    pub examples: f64,
    /// Of what is left: `E = sum_si (D_si - r_s - c_i + m)^2 / ((S - 1)(N - 1))`.
    pub residual: f64,
}

/// A mean over seeds and examples, and how far it may be from the mean over all seeds and examples that
/// there could be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoWay {
    /// The number of seeds.
    pub seeds: usize,
    /// The number of examples or groups.
    pub examples: usize,
    /// The mean of the metric over the seeds.
    pub theta: f64,
    /// None with one seed.
    pub mean_squares: Option<MeanSquares>,
    /// The standard error of `theta`, in its unit.
    pub se: f64,
    /// The degrees of freedom; none if nothing varies, for which there is no interval.
    pub df: Option<f64>,
}

impl TwoWay {
    /// `theta -/+ t(1 - alpha/2; df) se`; none if nothing varies.
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let t = student_t::two_sided_quantile(alpha, self.df?);
        Some(Interval::around(self.theta, t * self.se))
    }

    /// The two-sided p of "the mean is 0" that belongs to the interval; none if nothing varies.
    pub fn p(&self) -> Option<f64> {
        let df = self.df?;
        Some(student_t::two_sided_p(self.theta.abs() / self.se, df))
    }
}

/// The two-way analysis of a metric, or of a difference, by crossed random effects of seeds and examples.
///
/// With one seed it speaks of these models only: the standard error of a mean over examples, with
/// `N - 1` degrees of freedom. Otherwise (Searle and others 1992, "Variance
/// components"; degrees of freedom by Satterthwaite 1946), with the mean squares `A`, `B`, `E`:
///
/// ```text
/// U = A + B - E      se = sqrt(max(U, A, B) / (S N))
/// df = max(S - 1, U^2 / (A^2/(S-1) + B^2/(N-1) + E^2/((S-1)(N-1))))
/// ```
///
/// `max` with `A` and `B` keeps an unlucky `E` from making the interval too short. Values that only
/// differ by roundings count as equal.
///
/// # Errors
///
/// If there is one example only, or if a square is not finite.
pub fn two_way(values: &MetricValues) -> Result<TwoWay, StatisticsError> {
    let matrix = values.by_example();
    let [seeds, examples] = matrix.shape();
    if examples < 2 {
        return Err(StatisticsError::OneExample);
    }
    let is_constant = matrix.is_constant();
    let mean_squares = (seeds > 1).then(|| {
        if is_constant {
            MeanSquares {
                seeds: 0.0,
                examples: 0.0,
                residual: 0.0,
            }
        } else {
            mean_squares(matrix)
        }
    });
    let (se, df) = match &mean_squares {
        _ if is_constant => (0.0, 0.0),
        Some(mean_squares) => standard_error(mean_squares, seeds as f64, examples as f64),
        None => (
            (variance(matrix.values()) / examples as f64).sqrt(),
            (examples - 1) as f64,
        ),
    };
    let theta = values.theta();
    if !(theta.is_finite() && se.is_finite() && df.is_finite()) {
        return Err(StatisticsError::Overflow);
    }
    let largest = matrix.values().iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    Ok(TwoWay {
        seeds,
        examples,
        theta,
        mean_squares,
        se,
        df: (se > 1e-15 * largest).then_some(df),
    })
}

/// The standard error and the degrees of freedom of a mean over `seeds` and `examples`.
pub(super) fn standard_error(squares: &MeanSquares, seeds: f64, examples: f64) -> (f64, f64) {
    let MeanSquares {
        seeds: a,
        examples: b,
        residual: e,
    } = *squares;
    let u = a + b - e;
    let se = (u.max(a).max(b) / (seeds * examples)).sqrt();
    // In shares of the largest, as the squares of very small mean squares would be 0.
    let largest = a.max(b).max(e);
    let [u, a, b, e] =
        [u, a, b, e].map(|square| if largest > 0.0 { square / largest } else { 0.0 });
    let (of_seeds, of_examples) = (seeds - 1.0, examples - 1.0);
    let spread = a * a / of_seeds + b * b / of_examples + e * e / (of_seeds * of_examples);
    // `max` takes the number where the other is 0 / 0.
    (se, of_seeds.max(u * u / spread))
}

fn mean_squares(matrix: &ValueMatrix) -> MeanSquares {
    let [seeds, examples] = matrix.shape();
    let row_means = matrix.seed_means();
    let grand_mean = mean(&row_means);
    let mut column_means = vec![0.0; examples];
    for row in matrix.rows() {
        for (sum, value) in column_means.iter_mut().zip(row) {
            *sum += value;
        }
    }
    for sum in &mut column_means {
        *sum /= seeds as f64;
    }
    let spread = |means: &[f64]| {
        let squares = means.iter().map(|mean| (mean - grand_mean).powi(2));
        squares.sum::<f64>() / (means.len() - 1) as f64
    };
    let mut residual = 0.0;
    for (row, row_mean) in matrix.rows().zip(&row_means) {
        for (value, column_mean) in row.iter().zip(&column_means) {
            residual += (value - row_mean - column_mean + grand_mean).powi(2);
        }
    }
    MeanSquares {
        seeds: examples as f64 * spread(&row_means),
        examples: seeds as f64 * spread(&column_means),
        residual: residual / ((seeds - 1) * (examples - 1)) as f64,
    }
}

/// With `n - 1` in the denominator.
fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean).powi(2));
    squares.sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{ExpectedInterval, assert_near, cases, is_near},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        a: Vec<Vec<f64>>,
        b: Option<Vec<Vec<f64>>>,
        expected: ExpectedInterval,
    }

    fn values(rows: &[Vec<f64>]) -> MetricValues {
        MetricValues::of_means(ValueMatrix::from_rows(rows).unwrap())
    }

    #[test]
    fn intervals_agree_with_the_reference() {
        for Case {
            name,
            a,
            b,
            expected,
        } in cases("two_way")
        {
            let mut difference = values(&a);
            if let Some(b) = b {
                difference = difference.difference(&values(&b)).unwrap();
            }
            expected.check(&difference, &name);
        }
    }

    #[test]
    fn a_single_seed_has_no_seed_variance() {
        let result = two_way(&values(&[vec![1.0, 2.0, 4.0, 5.0]])).unwrap();
        assert_eq!(result.mean_squares, None);
        assert_eq!(result.df, Some(3.0));
        assert_near(result.se, (10.0_f64 / 3.0 / 4.0).sqrt(), "sd / sqrt(N)");
    }

    #[test]
    fn one_example_has_no_interval() {
        assert_eq!(
            two_way(&values(&[vec![1.0], vec![2.0]])),
            Err(StatisticsError::OneExample)
        );
    }

    #[test]
    fn numbers_that_are_too_large_are_an_error() {
        let large = vec![f64::MAX, f64::MAX / 2.0];
        assert_eq!(
            two_way(&values(&[large.clone(), large])),
            Err(StatisticsError::Overflow)
        );
    }

    /// All means are equal, and the formula's standard error is 0 although the values differ.
    #[test]
    fn a_standard_error_of_0_gives_no_interval() {
        let rows: Vec<_> = (0..3)
            .map(|seed| (0..3).map(|i| f64::from(i == seed)).collect())
            .collect();
        let result = two_way(&values(&rows)).unwrap();
        assert_eq!(result.df, None);
        assert_eq!(result.interval(Alpha::default()), None);
    }

    fn matrices() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1_usize..7, 2_usize..20).prop_flat_map(|(seeds, examples)| {
            let row = prop::collection::vec(-10.0..10.0, examples);
            prop::collection::vec(row, seeds)
        })
    }

    proptest! {
        #[test]
        fn an_interval_contains_theta_and_grows_as_alpha_falls(rows in matrices()) {
            let result = two_way(&values(&rows)).unwrap();
            let wide = result.interval(Alpha::new(0.01).unwrap());
            if let (Some(narrow), Some(wide)) = (result.interval(Alpha::default()), wide) {
                prop_assert!(narrow.contains(result.theta));
                prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
                let p = result.p().unwrap();
                prop_assert!((0.0..=1.0).contains(&p));
                prop_assert_eq!(p < 0.05, !narrow.contains(0.0));
            }
        }

        #[test]
        fn the_order_of_examples_and_seeds_changes_nothing(rows in matrices(), turn in 0_usize..20) {
            let mut turned = rows.clone();
            let seeds = turned.len();
            turned.rotate_left(turn % seeds);
            for row in &mut turned {
                let examples = row.len();
                row.rotate_left(turn % examples);
            }
            let (a, b) = (two_way(&values(&rows)).unwrap(), two_way(&values(&turned)).unwrap());
            prop_assert!(is_near(a.theta, b.theta) && is_near(a.se, b.se));
            prop_assert!(is_near(a.df.unwrap_or(0.0), b.df.unwrap_or(0.0)));
        }

        #[test]
        fn a_constant_in_both_arms_changes_nothing(rows in matrices(), constant in -5.0..5.0) {
            let reference: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| x * x).collect()).collect();
            let add = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
                rows.iter().map(|row| row.iter().map(|x| x + constant).collect()).collect()
            };
            let plain = values(&rows).difference(&values(&reference)).unwrap();
            let moved = values(&add(&rows)).difference(&values(&add(&reference))).unwrap();
            let (plain, moved) = (two_way(&plain).unwrap(), two_way(&moved).unwrap());
            prop_assert!((plain.theta - moved.theta).abs() < 1e-9);
            prop_assert!((plain.se - moved.se).abs() < 1e-9);
        }

        #[test]
        fn a_scale_scales_the_interval(rows in matrices(), scale in 1e-150..1e150_f64) {
            let scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| x * scale).collect()).collect();
            let (plain, scaled) = (two_way(&values(&rows)).unwrap(), two_way(&values(&scaled)).unwrap());
            prop_assert!((scaled.se / plain.se / scale - 1.0).abs() < 1e-9 || plain.se == 0.0);
            prop_assert!(is_near(plain.df.unwrap_or(0.0), scaled.df.unwrap_or(0.0)));
        }
    }
}
