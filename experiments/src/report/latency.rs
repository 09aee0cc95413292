//! Times of passes, paired by round.

use std::collections::BTreeMap;

use crate::results::{Latencies, Results, Timings};

/// How fast an arm is against another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median ratio: below 1, the arm is faster.
    pub median: f64,
    /// Its interval; none with too few rounds.
    pub interval: Option<(f64, f64)>,
    /// The rounds.
    pub rounds: usize,
    /// Whether seeds, each timed on its own, differ by more than the interval of each is wide.
    pub varies: bool,
}

/// The times of all models.
#[derive(Clone, Debug)]
pub struct Speeds<'a> {
    by_arm: BTreeMap<&'a str, Vec<&'a Latencies>>,
    reference: Option<&'a str>,
    alpha: f64,
}

impl<'a> Speeds<'a> {
    /// The measured times of a run. The reference is that of the comparisons, else the first that was measured.
    pub fn of(results: &'a Results, timings: Option<&'a Timings>) -> Self {
        let latencies = timings.map_or(&[][..], |timings| &timings.latencies);
        let mut by_arm: BTreeMap<&str, Vec<&Latencies>> = BTreeMap::new();
        for times in latencies.iter().filter(|times| !times.ms.is_empty()) {
            by_arm.entry(&times.arm).or_default().push(times);
        }
        let reference = results.reference.as_deref();
        let reference = reference.filter(|arm| by_arm.contains_key(arm));
        let first = || latencies.first().map(|times| times.arm.as_str());
        Self {
            reference: reference.or_else(first),
            by_arm,
            alpha: results.alpha,
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.by_arm.is_empty()
    }

    /// The arm that the others are compared with.
    pub fn reference(&self) -> Option<&'a str> {
        self.reference
    }

    /// All times of an arm, rising.
    pub fn times(&self, arm: &str) -> Vec<f64> {
        let times = self.by_arm.get(arm).into_iter().flatten();
        let mut times: Vec<f64> = times.flat_map(|times| &times.ms).copied().collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// The median time of an arm.
    pub fn median(&self, arm: &str) -> Option<f64> {
        median(&self.times(arm))
    }

    /// An arm against the reference: the median of the ratios of rounds with the interval of the sign test.
    pub fn ratio(&self, arm: &str) -> Option<Ratio> {
        let reference = self.by_arm.get(self.reference?)?;
        let own = self.by_arm.get(arm)?;
        let mut logs = vec![];
        let mut medians = vec![];
        let mut widest = 0.0_f64;
        for times in own {
            let base = reference.iter().find(|base| base.seed == times.seed);
            let Some(base) = base.filter(|base| base.ms.len() == times.ms.len()) else {
                continue;
            };
            let pairs = times.ms.iter().zip(&base.ms);
            let mut of_seed: Vec<f64> = pairs.map(|(own, base)| (own / base).ln()).collect();
            of_seed.sort_by(f64::total_cmp);
            medians.extend(median(&of_seed).map(f64::exp));
            let own = interval(&of_seed, self.alpha);
            widest = own.map_or(widest, |(low, high)| widest.max(high - low));
            logs.extend(of_seed);
        }
        logs.sort_by(f64::total_cmp);
        let ratio = median(&logs)?.exp();
        let interval = interval(&logs, self.alpha);
        let spread = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - medians.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Ratio {
            median: ratio,
            interval,
            rounds: logs.len(),
            varies: widest > 0.0 && spread > widest,
        })
    }
}

/// The median of rising numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The interval of the median ratio, from rising logarithms of ratios; none with too few for the level.
fn interval(logs: &[f64], alpha: f64) -> Option<(f64, f64)> {
    let rank = rank(logs.len(), alpha);
    (rank > 0).then(|| (logs[rank - 1].exp(), logs[logs.len() - rank].exp()))
}

/// The largest `k` with `P(Bin(n, 1/2) <= k - 1) <= alpha / 2`; 0 if there is none.
fn rank(n: usize, alpha: f64) -> usize {
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    let mut k = 0;
    while k < n {
        sum += log.exp();
        if sum > alpha / 2.0 {
            break;
        }
        k += 1;
        log += ((n - k + 1) as f64 / k as f64).ln();
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sign_test() {
        assert_eq!([5, 6, 20].map(|n| rank(n, 0.05)), [0, 1, 6]);
        assert!(rank(2000, 0.05) > 900);
    }

    #[test]
    fn arms_are_paired_by_seed_and_round() {
        let times = |arm: &str, seed, factor: f64| Latencies {
            arm: arm.to_owned(),
            seed,
            ms: (1..=10).map(|round| f64::from(round) * factor).collect(),
        };
        let timings = Timings {
            latencies: vec![times("a", 1, 1.0), times("b", 1, 0.5), times("b", 2, 9.0)],
            ..Timings::default()
        };
        let results = Results {
            alpha: 0.05,
            ..Results::default()
        };
        let speeds = Speeds::of(&results, Some(&timings));
        let found = speeds.ratio("b").unwrap();
        assert!((found.median - 0.5).abs() < 1e-12);
        assert_eq!(found.rounds, 10);
        let (low, high) = found.interval.unwrap();
        assert!((low - 0.5).abs() < 1e-12 && (high - 0.5).abs() < 1e-12);
        assert!(speeds.ratio("c").is_none());
        assert!((speeds.median("a").unwrap() - 5.5).abs() < 1e-12);
    }
}
