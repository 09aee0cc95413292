//! The exact test of two models that were judged on the same examples.

use serde::{Deserialize, Serialize};

use super::{StatisticsError, binomial, error::lengths};

/// The examples on which two models differ, for a metric that is 0 or 1, and the exact test of them.
///
/// It decides between two models, never between two methods: it knows one seed of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Examples that the arm gets right and the reference wrong.
    pub gained: usize,
    /// Examples that the arm gets wrong and the reference right.
    pub lost: usize,
    /// How likely the examples divide at least as unevenly where both models are as good.
    pub p: f64,
}

impl McNemar {
    /// `p = min(1, 2 P(Bin(gained + lost, 1/2) <= min(gained, lost)))`, and 1 where the models never differ
    /// (`McNemar` 1947, "Note on the sampling error of the difference between correlated proportions").
    pub fn new(gained: usize, lost: usize) -> Self {
        let tail =
            binomial::lower_tail(gained.saturating_add(lost) as u64, gained.min(lost) as u64);
        Self {
            gained,
            lost,
            p: (2.0 * tail).min(1.0),
        }
    }

    /// The test of what an arm and its reference got right with one seed, `[examples]` both.
    ///
    /// # Errors
    ///
    /// If the lengths differ or a value is neither 0 nor 1.
    pub fn of(arm: &[f64], reference: &[f64]) -> Result<Self, StatisticsError> {
        lengths("values of the reference", reference.len(), arm.len())?;
        for values in [arm, reference] {
            if let Some(index) = values.iter().position(|value| ![0.0, 1.0].contains(value)) {
                return Err(StatisticsError::Value {
                    what: "value",
                    index,
                    value: values[index],
                    expected: "0 or 1",
                });
            }
        }
        let count = |better: &[f64], worse: &[f64]| {
            better
                .iter()
                .zip(worse)
                .filter(|(better, worse)| better > worse)
                .count()
        };
        Ok(Self::new(count(arm, reference), count(reference, arm)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{assert_near, cases},
        *,
    };

    #[test]
    fn mcnemar_agrees_with_the_reference() {
        for expected in cases::<McNemar>("mcnemar") {
            let McNemar { gained, lost, p } = expected;
            assert_near(
                McNemar::new(gained, lost).p,
                p,
                &format!("{gained} and {lost}"),
            );
        }
    }

    #[test]
    fn examples_are_gained_and_lost() {
        let found = McNemar::of(&[1.0, 1.0, 0.0, 1.0, 0.0], &[0.0, 1.0, 1.0, 0.0, 0.0]).unwrap();
        assert_eq!(found, McNemar::new(2, 1));
        assert_eq!(
            McNemar::of(&[1.0, 0.5], &[1.0, 1.0])
                .unwrap_err()
                .to_string(),
            "value number 1 (counted from 0) is 0.5, which is not 0 or 1"
        );
        assert!(McNemar::of(&[1.0], &[]).is_err());
        assert!(McNemar::of(&[f64::NAN], &[1.0]).is_err());
    }

    proptest! {
        #[test]
        fn p_is_a_probability_and_does_not_depend_on_the_side(gained in 0_usize..1500, lost in 0_usize..1500) {
            let p = McNemar::new(gained, lost).p;
            // Of 1,500 against 0, p is near 1e-450, which no float is.
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!(p > 0.0 || gained.abs_diff(lost) > 1000);
            prop_assert_eq!(p.to_bits(), McNemar::new(lost, gained).p.to_bits());
        }
    }
}
