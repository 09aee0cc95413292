//! The level of tests and intervals.

use serde::{Deserialize, Serialize};

use super::StatisticsError;

/// The probability of error that is accepted: a test decides where p is at most this, and an interval
/// misses with this probability.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Alpha(f64);

impl Alpha {
    /// A level between 0 and 1, both excluded.
    ///
    /// # Errors
    ///
    /// If it is not between them.
    pub fn new(value: f64) -> Result<Self, StatisticsError> {
        if value > 0.0 && value < 1.0 {
            Ok(Self(value))
        } else {
            Err(StatisticsError::Alpha(value))
        }
    }

    /// The level as a number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// `clamp(value, self / comparisons, self)`: from Bonferroni's level, which holds however the
    /// comparisons depend on each other, to that of a single comparison.
    pub(super) fn shared(self, value: f64, comparisons: usize) -> Self {
        let least = self.0 / comparisons.max(1) as f64;
        Self(value.clamp(least, self.0))
    }
}

impl Default for Alpha {
    /// 0.05.
    fn default() -> Self {
        Self(0.05)
    }
}

impl TryFrom<f64> for Alpha {
    type Error = StatisticsError;

    fn try_from(value: f64) -> Result<Self, StatisticsError> {
        Self::new(value)
    }
}

impl From<Alpha> for f64 {
    fn from(alpha: Alpha) -> Self {
        alpha.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lies_between_0_and_1() {
        for wrong in [0.0, 1.0, -0.05, 95.0, f64::NAN, f64::INFINITY] {
            assert!(Alpha::new(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_value::<Alpha>(wrong.into()).is_err());
        }
        let error = Alpha::new(95.0).unwrap_err().to_string();
        assert_eq!(error, "alpha is 95; it must lie between 0 and 1");
        assert_eq!(
            serde_json::from_str::<Alpha>("0.05").unwrap(),
            Alpha::default()
        );
    }

    #[test]
    fn a_shared_level_lies_between_that_of_one_and_that_of_bonferroni() {
        let alpha = Alpha::default();
        assert_eq!(alpha.shared(0.001, 10), Alpha(0.005));
        assert_eq!(alpha.shared(0.02, 10), Alpha(0.02));
        assert_eq!(alpha.shared(0.3, 10), alpha);
    }
}
