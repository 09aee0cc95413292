//! How the values of a metric are told.

use crate::{
    ablate::statistics::{Direction, Unit},
    report::number,
    results::Results,
};

/// A metric with what its numbers mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// Its name with the unit, for axes and columns.
    pub title: String,
    /// What its differences are, for axes and columns.
    pub difference: String,
    /// In what its differences are told.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// What values are multiplied with to be told.
    pub scale: f64,
    /// Decimals of all values, where they are told in one column.
    pub decimals: Option<usize>,
    /// The ends that values cannot pass, once told.
    pub limits: (f64, f64),
}

impl Measure {
    /// That of a metric of a run.
    pub fn of(results: &Results, name: &str) -> Self {
        let direction = results.direction(name);
        let means: Vec<f64> = results
            .arms
            .iter()
            .filter_map(|arm| arm.mean(name))
            .collect();
        let is_fraction = means.iter().all(|mean| mean.abs() <= 1.0);
        let compared = results.comparisons.iter();
        let mut compared = compared.filter(|comparison| comparison.metric == name);
        let unit = compared.next().map(|comparison| comparison.unit);
        let unit = unit.unwrap_or(match direction {
            Direction::HigherIsBetter => Unit::Points,
            Direction::LowerIsBetter => Unit::Plain,
        });
        let told = match name {
            "perplexity" => "nats per token",
            name => name,
        };
        let is_percent = unit == Unit::Points && is_fraction;
        let is_correlation = ["matthews", "pearson", "spearman"]
            .iter()
            .any(|correlation| name.contains(correlation));
        let words = name.replace('_', " ");
        Self {
            title: match (is_percent, is_correlation) {
                (true, true) => format!("{words} \u{d7} 100"),
                (true, false) => format!("{words}, %"),
                (false, _) => words,
            },
            difference: format!(
                "difference of {}{}",
                told.replace('_', " "),
                match unit {
                    Unit::Points => ", points",
                    Unit::Plain => "",
                }
            ),
            unit,
            direction,
            scale: if is_percent { 100.0 } else { 1.0 },
            decimals: None,
            limits: match (is_percent, is_correlation) {
                (true, true) => (-100.0, 100.0),
                (true, false) => (0.0, 100.0),
                (false, _) => (f64::NEG_INFINITY, f64::INFINITY),
            },
            name: name.to_owned(),
        }
    }

    /// The same with decimals that suit the estimates of all arms.
    pub fn in_column(self, results: &Results) -> Self {
        let estimates = results
            .arms
            .iter()
            .filter_map(|arm| arm.metrics.get(&self.name));
        let halves = estimates.filter_map(|estimate| {
            let interval = estimate.low.zip(estimate.high);
            let half = interval
                .map(|(low, high)| (high - low) / 2.0)
                .or(estimate.sd)?;
            (half > 0.0).then_some(half)
        });
        let mut halves: Vec<f64> = halves.collect();
        halves.sort_by(f64::total_cmp);
        let middle = halves.get(halves.len() / 2);
        Self {
            decimals: middle.map(|half| number::decimals(half * self.scale)),
            ..self
        }
    }

    /// A value as it is told, with decimals that suit a half-width of this size, in the same unit as the value.
    pub fn value(&self, value: f64, half_width: Option<f64>) -> String {
        let decimals = self.decimals.unwrap_or(match half_width {
            Some(half_width) if half_width > 0.0 => number::decimals(half_width * self.scale),
            _ if (value * self.scale).abs() < 10.0 => 3,
            _ => 2,
        });
        number::fixed(value * self.scale, decimals)
    }

    /// As [`Self::value`], with the interval in brackets.
    pub fn with_interval(&self, value: f64, interval: Option<(f64, f64)>) -> String {
        let Some((low, high)) = interval else {
            return self.value(value, None);
        };
        let half = Some((high - low) / 2.0);
        format!(
            "{} [{}, {}]",
            self.value(value, half),
            self.value(low, half),
            self.value(high, half)
        )
    }

    /// Whether the first value is better.
    pub fn is_better(&self, value: f64, than: f64) -> bool {
        match self.direction {
            Direction::HigherIsBetter => value > than,
            Direction::LowerIsBetter => value < than,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{ArmResults, Estimate};

    fn results(metric: &str, mean: f64) -> Results {
        let estimate = Estimate {
            mean: Some(mean),
            ..Estimate::default()
        };
        Results {
            arms: vec![ArmResults {
                metrics: [(metric.to_owned(), estimate)].into(),
                ..ArmResults::default()
            }],
            ..Results::default()
        }
    }

    #[test]
    fn fractions_are_told_in_percent_and_others_as_they_are() {
        let accuracy = Measure::of(&results("accuracy", 0.9), "accuracy");
        assert_eq!(accuracy.title, "accuracy, %");
        assert_eq!(
            accuracy.with_interval(0.912, Some((0.9, 0.924))),
            "91.2 [90.0, 92.4]"
        );
        assert_eq!(accuracy.value(0.9, None), "90.00");
        let f1 = Measure::of(&results("f1", 88.5), "f1");
        assert_eq!((f1.title.as_str(), f1.scale), ("f1", 1.0));
        let mut results = results("bits_per_byte", 0.9);
        results
            .directions
            .insert("bits_per_byte".to_owned(), Direction::LowerIsBetter);
        let bits = Measure::of(&results, "bits_per_byte");
        assert_eq!((bits.title.as_str(), bits.scale), ("bits per byte", 1.0));
        assert!(bits.is_better(0.8, 0.9));
    }
}
