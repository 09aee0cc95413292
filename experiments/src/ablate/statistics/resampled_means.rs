//! What the crossed bootstrap says of each arm.

use super::{
    Alpha, Interval,
    quantile::{quantile, sorted},
    value_matrix::mean,
};

/// A spread that is smaller than this share of the values is one of roundings.
const ROUNDING: f64 = 1e-13;

/// The means of several arms over the same resamples.
#[derive(Clone, Debug, PartialEq)]
pub struct ResampledMeans {
    /// `[arms, resamples]`.
    values: Vec<Vec<f64>>,
}

impl ResampledMeans {
    /// Of at least one arm, `[arms, resamples]`.
    pub(super) fn of(values: Vec<Vec<f64>>) -> Self {
        Self { values }
    }

    /// The number of arms, at least 1.
    pub fn arms(&self) -> usize {
        self.values.len()
    }

    /// The means of one arm, `[resamples]`; nothing if there is no such arm.
    pub fn of_arm(&self, arm: usize) -> impl Iterator<Item = f64> {
        self.values.get(arm).into_iter().flatten().copied()
    }

    /// The mean and the standard deviation (over the resamples, `n` in the denominator) of an arm. The
    /// deviation is 0 where the values differ by roundings only.
    pub fn mean_and_sd(&self, arm: usize) -> (f64, f64) {
        let means: Vec<f64> = self.of_arm(arm).collect();
        let center = mean(&means);
        let squares = means.iter().map(|mean| (mean - center).powi(2));
        let sd = (squares.sum::<f64>() / means.len() as f64).sqrt();
        let largest = means.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        (center, if sd > ROUNDING * largest { sd } else { 0.0 })
    }

    /// The percentile interval of an arm (Efron 1979, "Bootstrap methods"); none if there is no such arm.
    pub fn percentile(&self, arm: usize, alpha: Alpha) -> Option<Interval> {
        let means = sorted(self.of_arm(arm));
        let tail = alpha.value() / 2.0;
        Some(Interval {
            low: quantile(&means, tail)?,
            high: quantile(&means, 1.0 - tail)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roundings_are_no_spread() {
        let means = ResampledMeans::of(vec![vec![0.1, 0.1 + 1e-16], vec![1.0, 3.0]]);
        let (mean, sd) = means.mean_and_sd(0);
        assert!((mean - 0.1).abs() < 1e-15 && sd == 0.0, "{mean}, {sd}");
        assert_eq!(means.mean_and_sd(1), (2.0, 1.0));
    }

    #[test]
    fn an_arm_that_is_not_there_has_no_interval() {
        let means = ResampledMeans::of(vec![vec![0.0, 2.0], vec![1.0, 3.0]]);
        assert_eq!(means.of_arm(2).count(), 0);
        assert_eq!(means.percentile(2, Alpha::default()), None);
        let percentile = means.percentile(1, Alpha::new(0.5).unwrap());
        assert_eq!(
            percentile,
            Some(Interval {
                low: 1.5,
                high: 2.5
            })
        );
    }
}
