//! Intervals of numbers.

use serde::{Deserialize, Serialize};

/// The numbers from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// The numbers that are at most `half_width` from `center`.
    pub fn around(center: f64, half_width: f64) -> Self {
        Self {
            low: center - half_width,
            high: center + half_width,
        }
    }

    /// Half the distance between the ends.
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether the number lies between the ends or is one of them.
    pub fn contains(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The part that lies in another interval; what lies outside moves to its nearer end.
    #[must_use]
    pub fn clamp(self, within: Self) -> Self {
        let into = |value: f64| value.max(within.low).min(within.high);
        Self {
            low: into(self.low),
            high: into(self.high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_contains_its_ends() {
        let interval = Interval::around(1.0, 0.5);
        assert_eq!(
            interval,
            Interval {
                low: 0.5,
                high: 1.5
            }
        );
        assert!(interval.contains(0.5) && interval.contains(1.5) && !interval.contains(1.6));
        assert!((interval.half_width() - 0.5).abs() < 1e-15);
        let share = Interval {
            low: 0.0,
            high: 1.0,
        };
        assert_eq!(
            interval.clamp(share),
            Interval {
                low: 0.5,
                high: 1.0
            }
        );
    }
}
