//! Metrics that are no means, in numbers by example.

use std::ops::{Add, Sub};

use super::Groups;

/// A metric of one arm with one seed, and its jackknife pseudo-values.
#[derive(Clone, Debug, PartialEq)]
pub struct Jackknife {
    /// The metric of all examples.
    pub value: f64,
    /// `N M - (N - 1) M_(without i)` for each example or group `i`, `[examples]` (Tukey 1958, "Bias and
    /// confidence in not-quite large samples"). For a mean, these are the examples' values.
    pub pseudo_values: Vec<f64>,
}

impl Jackknife {
    /// The pseudo-values of a metric from what it is without each example or group.
    pub fn new(value: f64, left_out: impl IntoIterator<Item = f64>) -> Self {
        let left_out: Vec<f64> = left_out.into_iter().collect();
        let count = left_out.len() as f64;
        // As a step from the metric, which is 0 where leaving the example out changes nothing.
        let pseudo_value = |without| value + (count - 1.0) * (value - without);
        Self {
            value,
            pseudo_values: left_out.into_iter().map(pseudo_value).collect(),
        }
    }
}

/// What examples contribute to a metric that depends on them only by sums.
pub(super) trait Sums: Copy + Default + Add<Output = Self> + Sub<Output = Self> {}

impl<T: Copy + Default + Add<Output = T> + Sub<Output = T>> Sums for T {}

/// Adds up what the examples of each group contribute.
pub(super) fn group_sums<T: Sums>(examples: impl Iterator<Item = T>, groups: &Groups) -> Vec<T> {
    let mut sums = vec![T::default(); groups.count()];
    for (example, &group) in examples.zip(groups.of_example()) {
        sums[group] = sums[group] + example;
    }
    sums
}

/// The jackknife of such a metric, in O(1) for each group: what it contributes is taken from the sum.
pub(super) fn jackknife<T: Sums>(
    examples: impl Iterator<Item = T>,
    groups: &Groups,
    metric: impl Fn(T) -> f64,
) -> Jackknife {
    let sums = group_sums(examples, groups);
    let all = sums.iter().fold(T::default(), |sum, &group| sum + group);
    Jackknife::new(metric(all), sums.iter().map(|&group| metric(all - group)))
}

/// `numerator / denominator`; 0 where that is not defined, as in scikit-learn.
pub(super) fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 {
        0.0
    } else {
        numerator / denominator
    }
}

/// Leaves each group out and computes the metric of the others anew.
#[cfg(test)]
pub(super) fn plainly(groups: &Groups, metric: impl Fn(&[usize]) -> f64) -> Jackknife {
    let all: Vec<usize> = (0..groups.examples()).collect();
    let without = |group| {
        let kept = all
            .iter()
            .copied()
            .filter(|&i| groups.of_example()[i] != group);
        metric(&kept.collect::<Vec<_>>())
    };
    Jackknife::new(metric(&all), (0..groups.count()).map(without))
}

#[cfg(test)]
#[track_caller]
pub(super) fn assert_equal(found: &Jackknife, expected: &Jackknife) {
    use super::testing::assert_near;
    assert_near(found.value, expected.value, "value");
    assert_eq!(found.pseudo_values.len(), expected.pseudo_values.len());
    let count = found.pseudo_values.len() as f64;
    let pairs = found.pseudo_values.iter().zip(&expected.pseudo_values);
    for (index, (found, expected)) in pairs.enumerate() {
        // Without the factor by which a pseudo-value magnifies roundings.
        assert_near(
            found / count,
            expected / count,
            &format!("pseudo-value {index}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            MetricValues, SplitMix64, bits_per_byte, f1, matthews, mean, nats_per_token, pearson,
            spearman, two_way,
        },
        *,
    };

    #[test]
    #[expect(clippy::float_cmp, reason = "the metric is taken as it is")]
    fn a_single_example_has_the_metric_as_its_pseudo_value() {
        let jackknife = Jackknife::new(0.7, [0.0]);
        assert_eq!(jackknife.pseudo_values, [0.7]);
        assert_eq!(ratio(3.0, 0.0), 0.0);
    }

    const EXAMPLES: usize = 400;

    /// Of a metric on one seed: from pseudo-values, and from 2,000 plain bootstraps of the metric.
    #[track_caller]
    fn check_standard_error(name: &str, metric: impl Fn(&[usize]) -> Jackknife) {
        let all: Vec<usize> = (0..EXAMPLES).collect();
        let values = MetricValues::from_jackknife(&[metric(&all)]).unwrap();
        let from_pseudo_values = two_way(&values).unwrap().se;
        let mut generator = SplitMix64::default();
        let resampled: Vec<f64> = (0..2000)
            .map(|_| {
                let drawn: Vec<usize> = all.iter().map(|_| generator.draw(EXAMPLES)).collect();
                metric(&drawn).value
            })
            .collect();
        let center = resampled.iter().sum::<f64>() / 2000.0;
        let squares = resampled.iter().map(|value| (value - center).powi(2));
        let from_bootstrap = (squares.sum::<f64>() / 1999.0).sqrt();
        let ratio = from_pseudo_values / from_bootstrap;
        assert!((0.9..1.1).contains(&ratio), "{name}: {ratio}");
    }

    /// What belongs to the drawn examples.
    fn of<T: Copy>(values: &[T], kept: &[usize]) -> Vec<T> {
        kept.iter().map(|&example| values[example]).collect()
    }

    #[test]
    fn standard_errors_are_those_of_the_bootstrap() {
        let mut generator = SplitMix64::new(7);
        let mut uniform = || generator.draw(1_000_000) as f64 / 1e6;
        let labels: Vec<usize> = (0..EXAMPLES)
            .map(|_| usize::from(uniform() < 0.3))
            .collect();
        let predictions: Vec<usize> = labels
            .iter()
            .map(|&label| if uniform() < 0.8 { label } else { 1 - label })
            .collect();
        let truths: Vec<f64> = (0..EXAMPLES).map(|_| (5.0 * uniform()).round()).collect();
        let scores: Vec<f64> = truths.iter().map(|truth| truth + 4.0 * uniform()).collect();
        let tokens: Vec<u64> = (0..EXAMPLES)
            .map(|_| 100 + (900.0 * uniform()) as u64)
            .collect();
        let nats: Vec<f64> = tokens
            .iter()
            .map(|&tokens| tokens as f64 * (3.0 + uniform()))
            .collect();

        // The bootstrap needs values only: all drawn examples are one group, which has one pseudo-value.
        let groups = |kept: &[usize]| {
            let is_all = kept
                .iter()
                .enumerate()
                .all(|(index, &example)| index == example);
            if is_all {
                Groups::single(kept.len())
            } else {
                Groups::from_keys(&vec![0; kept.len()])
            }
        };
        check_standard_error("mean", |kept| {
            mean(&of(&scores, kept), &groups(kept)).unwrap()
        });
        check_standard_error("matthews", |kept| {
            matthews(&of(&predictions, kept), &of(&labels, kept), &groups(kept)).unwrap()
        });
        check_standard_error("f1", |kept| {
            f1(&of(&predictions, kept), &of(&labels, kept), &groups(kept)).unwrap()
        });
        check_standard_error("pearson", |kept| {
            pearson(&of(&scores, kept), &of(&truths, kept), &groups(kept)).unwrap()
        });
        check_standard_error("spearman", |kept| {
            spearman(&of(&scores, kept), &of(&truths, kept), &groups(kept)).unwrap()
        });
        check_standard_error("bits per byte", |kept| {
            bits_per_byte(&of(&nats, kept), &of(&tokens, kept), &groups(kept)).unwrap()
        });
        check_standard_error("nats per token", |kept| {
            nats_per_token(&of(&nats, kept), &of(&tokens, kept), &groups(kept)).unwrap()
        });
    }
}
