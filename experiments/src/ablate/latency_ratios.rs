//! How fast models are against another one.

use std::collections::{BTreeMap, BTreeSet};

use super::statistics::{Alpha, Interval, PairedLatency, varies_by_start};
use crate::results::Latencies;

/// The latency of a model against that of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyRatio {
    /// Over the rounds of all seeds that both were measured with.
    pub paired: PairedLatency,
    /// Whether the ratios of seeds, each measured on its own, differ by more than the widest of their intervals.
    pub varies: bool,
}

impl LatencyRatio {
    /// Pairs the rounds of a model and of its reference by seed; none without a seed that both were measured with in as many
    /// rounds, or where a time is not above 0.
    pub fn of(latencies: &[Latencies], arm: &str, reference: &str, alpha: Alpha) -> Option<Self> {
        let (mut own, mut base, mut starts) = (vec![], vec![], vec![]);
        for passes in latencies.iter().filter(|passes| passes.arm == arm) {
            let mut others = latencies.iter();
            let other = others.find(|it| it.arm == reference && it.seed == passes.seed);
            let Some(other) = other.filter(|it| it.ms.len() == passes.ms.len()) else {
                continue;
            };
            starts.push(PairedLatency::of(&passes.ms, &other.ms, alpha).ok()?);
            own.extend(&passes.ms);
            base.extend(&other.ms);
        }
        Some(Self {
            paired: PairedLatency::of(&own, &base, alpha).ok()?,
            varies: varies_by_start(&starts) == Some(true),
        })
    }
}

/// The median ratio of the latency of each model to that of the first, with its interval, by model. Rounds are those of all
/// seeds that both were measured with. A model with too few rounds for the level has none.
pub fn latency_ratios(latencies: &[Latencies], alpha: Alpha) -> BTreeMap<String, (f64, Interval)> {
    let Some(first) = latencies.first() else {
        return BTreeMap::new();
    };
    let arms: BTreeSet<&str> = latencies.iter().map(|passes| passes.arm.as_str()).collect();
    let others = arms.into_iter().filter(|arm| *arm != first.arm);
    let ratios = others.filter_map(|arm| {
        let paired = LatencyRatio::of(latencies, arm, &first.arm, alpha)?.paired;
        Some((arm.to_owned(), (paired.ratio, paired.interval?.ends)))
    });
    ratios.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_the_same_seed_are_paired() {
        let passes = |arm: &str, seed, ms: &[f64]| Latencies {
            arm: arm.to_owned(),
            seed,
            ms: ms.to_vec(),
        };
        let first = [10.0, 20.0, 10.0, 20.0];
        let half = first.map(|ms| ms / 2.0);
        let latencies = [
            passes("teacher", 1, &first),
            passes("teacher", 2, &first),
            passes("student", 1, &half),
            passes("student", 2, &half),
            passes("once", 1, &half),
            passes("other", 3, &half),
        ];
        let found = latency_ratios(&latencies, Alpha::default());
        // Four rounds are too few.
        assert_eq!(found.keys().collect::<Vec<_>>(), ["student"]);
        let (ratio, ends) = found["student"];
        assert!(
            (ratio - 0.5).abs() < 1e-12 && ends.contains(ratio),
            "{ratio} {ends:?}"
        );
        assert!(latency_ratios(&[], Alpha::default()).is_empty());
        // Against a model that is not the first.
        let back = LatencyRatio::of(&latencies, "teacher", "student", Alpha::default()).unwrap();
        assert!((back.paired.ratio - 2.0).abs() < 1e-12 && !back.varies);
        assert!(LatencyRatio::of(&latencies, "other", "teacher", Alpha::default()).is_none());
    }

    #[test]
    fn seeds_that_differ_by_more_than_their_intervals_are_told() {
        let passes = |arm: &str, seed, factor: f64| Latencies {
            arm: arm.to_owned(),
            seed,
            ms: (0..20)
                .map(|round| factor * (1.0 + f64::from(round % 5) / 100.0))
                .collect(),
        };
        let one = |seed| Latencies {
            ms: vec![1.0; 20],
            ..passes("reference", seed, 1.0)
        };
        let varies = |factor| {
            let latencies = [
                one(1),
                one(2),
                passes("arm", 1, 1.0),
                passes("arm", 2, factor),
            ];
            LatencyRatio::of(&latencies, "arm", "reference", Alpha::default())
                .unwrap()
                .varies
        };
        assert!(varies(1.2) && !varies(1.001));
    }
}
