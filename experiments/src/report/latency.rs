//! Times of passes, and how fast models are against one of them.

use crate::{
    ablate::{
        latency_ratios::LatencyRatio,
        statistics::{Alpha, median},
    },
    results::{Latencies, Results, Timings},
};

/// The times of all models.
#[derive(Clone, Debug)]
pub struct Speeds<'a> {
    latencies: &'a [Latencies],
    reference: Option<&'a str>,
    alpha: Alpha,
}

impl<'a> Speeds<'a> {
    /// The measured times of a run. The reference is that of the comparisons, else the first that was measured.
    pub fn of(results: &'a Results, timings: Option<&'a Timings>) -> Self {
        let latencies = timings.map_or(&[][..], |timings| &timings.latencies);
        let is_measured = |arm: &&str| {
            latencies
                .iter()
                .any(|it| it.arm == *arm && !it.ms.is_empty())
        };
        let reference = results.reference.as_deref().filter(is_measured);
        let first = || latencies.first().map(|times| times.arm.as_str());
        Self {
            reference: reference.or_else(first),
            latencies,
            alpha: Alpha::new(results.alpha).unwrap_or_default(),
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.latencies.iter().all(|times| times.ms.is_empty())
    }

    /// The arm that the others are compared with.
    pub fn reference(&self) -> Option<&'a str> {
        self.reference
    }

    /// All times of an arm, rising.
    pub fn times(&self, arm: &str) -> Vec<f64> {
        let own = self.latencies.iter().filter(|times| times.arm == arm);
        let mut times: Vec<f64> = own.flat_map(|times| &times.ms).copied().collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// The median time of an arm.
    pub fn median(&self, arm: &str) -> Option<f64> {
        median(&self.times(arm))
    }

    /// An arm against the reference.
    pub fn ratio(&self, arm: &str) -> Option<LatencyRatio> {
        LatencyRatio::of(self.latencies, arm, self.reference?, self.alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_told_against_the_reference_or_the_first_that_was_measured() {
        let times = |arm: &str, factor: f64| Latencies {
            arm: arm.to_owned(),
            seed: 1,
            ms: (1..=10).map(|round| f64::from(round) * factor).collect(),
        };
        let timings = Timings {
            latencies: vec![times("a", 1.0), times("b", 0.5)],
            ..Timings::default()
        };
        let mut results = Results {
            alpha: 0.05,
            ..Results::default()
        };
        let speeds = Speeds::of(&results, Some(&timings));
        assert_eq!(speeds.reference(), Some("a"));
        assert!((speeds.ratio("b").unwrap().paired.ratio - 0.5).abs() < 1e-12);
        assert!((speeds.median("a").unwrap() - 5.5).abs() < 1e-12);
        assert!(speeds.ratio("c").is_none() && !speeds.is_empty());
        results.reference = Some("b".to_owned());
        let speeds = Speeds::of(&results, Some(&timings));
        assert_eq!(speeds.reference(), Some("b"));
        assert!(Speeds::of(&results, None).is_empty());
    }
}
