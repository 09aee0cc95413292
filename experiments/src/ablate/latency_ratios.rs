//! How much faster models are than the first one.

use std::collections::BTreeMap;

use super::statistics::{Alpha, Interval, PairedLatency};
use crate::results::Latencies;

/// The median ratio of the latency of each model to that of the first, with its interval, by model. Rounds are those of all
/// seeds that both were measured with. A model with too few rounds for the level has none.
pub fn latency_ratios(latencies: &[Latencies], alpha: Alpha) -> BTreeMap<String, (f64, Interval)> {
    let Some(first) = latencies.first() else {
        return BTreeMap::new();
    };
    let of_first = |seed: u64| {
        let mut passes = latencies.iter();
        passes.find(|it| it.arm == first.arm && it.seed == seed)
    };
    let mut rounds: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    for own in latencies.iter().filter(|own| own.arm != first.arm) {
        let Some(base) = of_first(own.seed).filter(|base| base.ms.len() == own.ms.len()) else {
            continue;
        };
        let [arm, reference] = rounds.entry(&own.arm).or_default();
        arm.extend(&own.ms);
        reference.extend(&base.ms);
    }
    let ratios = rounds.into_iter().filter_map(|(arm, [own, base])| {
        let paired = PairedLatency::of(&own, &base, alpha).ok()?;
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
    }
}
