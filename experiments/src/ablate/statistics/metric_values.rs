//! A metric of an arm, or of a difference between arms, by seed and by example.

use super::{Jackknife, StatisticsError, ValueMatrix, value_matrix::mean};

/// What one metric says of one arm, or of a combination of arms, with each seed.
///
/// For a metric that is a mean, the values of the examples are its parts. For another one they are its
/// jackknife pseudo-values ([`Jackknife`]), whose mean need not be the metric: so the metric itself is
/// kept beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricValues {
    by_seed: Vec<f64>,
    by_example: ValueMatrix,
}

impl MetricValues {
    /// A metric that is the mean over the examples, with the value of each, `[seeds, examples]`.
    pub fn of_means(by_example: ValueMatrix) -> Self {
        Self {
            by_seed: by_example.seed_means(),
            by_example,
        }
    }

    /// A metric that is no mean, with the jackknife of each seed.
    ///
    /// # Errors
    ///
    /// If there are no seeds or no examples, the seeds differ in their number of examples, or a number
    /// is not finite.
    pub fn from_jackknife(seeds: &[Jackknife]) -> Result<Self, StatisticsError> {
        let rows: Vec<&[f64]> = seeds.iter().map(|seed| &*seed.pseudo_values).collect();
        let by_example = ValueMatrix::from_rows(&rows)?;
        let by_seed: Vec<f64> = seeds.iter().map(|seed| seed.value).collect();
        super::error::finite("metric", &by_seed)?;
        Ok(Self {
            by_seed,
            by_example,
        })
    }

    /// The metric with each seed, `[seeds]`.
    pub fn by_seed(&self) -> &[f64] {
        &self.by_seed
    }

    /// The values or pseudo-values, `[seeds, examples]`.
    pub fn by_example(&self) -> &ValueMatrix {
        &self.by_example
    }

    /// The mean of the metric over the seeds.
    pub fn theta(&self) -> f64 {
        mean(&self.by_seed)
    }

    /// Whether the value is 0 with every seed on every example: two arms that never differ.
    pub fn is_zero(&self) -> bool {
        self.by_example.is_zero() && self.by_seed.iter().all(|&value| value == 0.0)
    }

    /// This arm less the reference, paired by seed and example.
    ///
    /// # Errors
    ///
    /// If the numbers of seeds or examples differ, or a difference is not finite.
    pub fn difference(&self, reference: &Self) -> Result<Self, StatisticsError> {
        self.minus_share(1.0, reference)
    }

    /// This arm less a share of the reference: above 0 where the arm keeps more than that share.
    ///
    /// # Errors
    ///
    /// As [`MetricValues::difference`].
    pub fn minus_share(&self, share: f64, reference: &Self) -> Result<Self, StatisticsError> {
        let by_example = self.by_example.plus(-share, &reference.by_example)?;
        let pairs = self.by_seed.iter().zip(&reference.by_seed);
        let by_seed: Vec<f64> = pairs.map(|(own, other)| own - share * other).collect();
        super::error::finite("metric", &by_seed)?;
        Ok(Self {
            by_seed,
            by_example,
        })
    }

    /// How much more a factor gives beside all others than alone: `(full - without) - (only - base)`.
    ///
    /// # Errors
    ///
    /// As [`MetricValues::difference`].
    pub fn interaction(
        full: &Self,
        without: &Self,
        only: &Self,
        base: &Self,
    ) -> Result<Self, StatisticsError> {
        full.difference(without)?
            .difference(&only.difference(base)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rows: &[[f64; 2]]) -> MetricValues {
        MetricValues::of_means(ValueMatrix::from_rows(rows).unwrap())
    }

    #[test]
    fn a_factor_that_adds_up_has_no_interaction() {
        let base = values(&[[0.0, 1.0], [2.0, 3.0]]);
        let only = values(&[[1.0, 2.0], [3.0, 4.0]]);
        let without = values(&[[5.0, 1.0], [2.0, 9.0]]);
        let full = values(&[[6.0, 2.0], [3.0, 10.0]]);
        let interaction = MetricValues::interaction(&full, &without, &only, &base).unwrap();
        assert!(interaction.is_zero());
        let more = values(&[[8.0, 2.0], [3.0, 10.0]]);
        let interaction = MetricValues::interaction(&more, &without, &only, &base).unwrap();
        assert_eq!(interaction.by_seed(), [1.0, 0.0]);
    }

    #[test]
    fn an_arm_keeps_a_share_of_its_reference() {
        let reference = values(&[[1.0, 1.0], [1.0, 0.0]]);
        let kept = values(&[[1.0, 1.0], [0.5, 0.0]]);
        let difference = kept.minus_share(0.5, &reference).unwrap();
        assert_eq!(difference.by_seed(), [0.5, 0.0]);
        assert!(kept.minus_share(f64::NAN, &reference).is_err());
    }

    #[test]
    fn a_metric_that_is_not_finite_is_an_error() {
        let broken = Jackknife {
            value: f64::NAN,
            pseudo_values: vec![0.0, 1.0],
        };
        assert_eq!(
            MetricValues::from_jackknife(&[broken])
                .unwrap_err()
                .to_string(),
            "metric number 0 (counted from 0) is NaN, which is not finite"
        );
        assert_eq!(
            MetricValues::from_jackknife(&[]),
            Err(StatisticsError::NoSeeds)
        );
    }
}
