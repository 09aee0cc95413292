//! Metrics of two classes.

use std::ops::{Add, Sub};

use super::{
    Groups, Jackknife, StatisticsError,
    jackknife::{jackknife, ratio},
};

/// Matthews correlation of two classes, class 1 against all others (Matthews 1975, "Comparison of the
/// predicted and observed secondary structure of T4 phage lysozyme"):
/// `(TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))`, 0 if one side is constant.
///
/// `predictions` and `labels` are `[examples]`; the pseudo-values are `[groups]`, each in O(1).
///
/// # Errors
///
/// If there are no examples or the lengths differ.
pub fn matthews(
    predictions: &[usize],
    labels: &[usize],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    let counts = counts(predictions, labels, groups)?;
    Ok(jackknife(counts, groups, Confusion::matthews))
}

/// F1 of class 1: `2 TP / (2 TP + FP + FN)`, 0 if class 1 is neither there nor predicted.
///
/// Shapes and cost as those of [`matthews`].
///
/// # Errors
///
/// If there are no examples or the lengths differ.
pub fn f1(
    predictions: &[usize],
    labels: &[usize],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    let counts = counts(predictions, labels, groups)?;
    Ok(jackknife(counts, groups, Confusion::f1))
}

fn counts<'a>(
    predictions: &'a [usize],
    labels: &'a [usize],
    groups: &Groups,
) -> Result<impl Iterator<Item = Confusion> + use<'a>, StatisticsError> {
    groups.check("predictions", predictions.len())?;
    groups.check("labels", labels.len())?;
    let pairs = predictions.iter().zip(labels);
    Ok(pairs.map(|(&prediction, &label)| Confusion::of(prediction, label)))
}

/// How many examples there are of each prediction and label: floats, in which such counts are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Confusion {
    true_positive: f64,
    true_negative: f64,
    false_positive: f64,
    false_negative: f64,
}

impl Confusion {
    fn of(prediction: usize, label: usize) -> Self {
        let mut counts = Self::default();
        match (prediction == 1, label == 1) {
            (true, true) => counts.true_positive = 1.0,
            (false, false) => counts.true_negative = 1.0,
            (true, false) => counts.false_positive = 1.0,
            (false, true) => counts.false_negative = 1.0,
        }
        counts
    }

    fn matthews(self) -> f64 {
        let Self {
            true_positive: tp,
            true_negative: tn,
            false_positive: fp,
            false_negative: fn_,
        } = self;
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        ratio(tp * tn - fp * fn_, product.sqrt())
    }

    fn f1(self) -> f64 {
        let twice = 2.0 * self.true_positive;
        ratio(twice, twice + self.false_positive + self.false_negative)
    }

    fn zip(self, other: Self, operation: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            true_positive: operation(self.true_positive, other.true_positive),
            true_negative: operation(self.true_negative, other.true_negative),
            false_positive: operation(self.false_positive, other.false_positive),
            false_negative: operation(self.false_negative, other.false_negative),
        }
    }
}

impl Add for Confusion {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, |own, other| own + other)
    }
}

impl Sub for Confusion {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, |own, other| own - other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            jackknife::{assert_equal, plainly},
            testing::metric_cases,
        },
        *,
    };

    fn classes(values: &[f64]) -> Vec<usize> {
        values.iter().map(|&value| value as usize).collect()
    }

    #[test]
    fn matthews_and_f1_agree_with_the_reference() {
        for (name, metric) in [("matthews", matthews as fn(&_, &_, &_) -> _), ("f1", f1)] {
            metric_cases(name, |predictions, labels| {
                let groups = Groups::single(labels.len());
                metric(&classes(predictions), &classes(labels), &groups).unwrap()
            });
        }
    }

    #[test]
    fn lists_of_two_lengths_are_an_error() {
        let error = f1(&[1, 0], &[1], &Groups::single(2)).unwrap_err();
        assert_eq!(error.to_string(), "1 labels do not match 2");
        let nothing = matthews(&[], &[], &Groups::single(0));
        assert_eq!(nothing, Err(StatisticsError::NoExamples));
    }

    /// All but class 1 counts as one class.
    #[test]
    fn classes_are_class_1_and_the_others() {
        let groups = Groups::single(4);
        let two = matthews(&[1, 0, 0, 1], &[1, 0, 1, 0], &groups);
        assert_eq!(matthews(&[1, 2, 0, 1], &[1, 0, 1, 7], &groups), two);
    }

    proptest! {
        #[test]
        fn leaving_out_by_counts_equals_counting_anew(
            examples in prop::collection::vec((0_usize..2, 0_usize..2, 0_u8..9), 1..30),
            is_grouped: bool,
        ) {
            let predictions: Vec<_> = examples.iter().map(|example| example.0).collect();
            let labels: Vec<_> = examples.iter().map(|example| example.1).collect();
            let keys: Vec<_> = examples.iter().map(|example| example.2).collect();
            let groups = if is_grouped { Groups::from_keys(&keys) } else { Groups::single(keys.len()) };
            let of = |kept: &[usize]| {
                kept.iter().fold(Confusion::default(), |sum, &i| {
                    sum + Confusion::of(predictions[i], labels[i])
                })
            };
            let found = matthews(&predictions, &labels, &groups).unwrap();
            prop_assert!((-1.0..=1.0).contains(&found.value));
            assert_equal(&found, &plainly(&groups, |kept| of(kept).matthews()));
            let found = f1(&predictions, &labels, &groups).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.value));
            assert_equal(&found, &plainly(&groups, |kept| of(kept).f1()));
        }
    }
}
