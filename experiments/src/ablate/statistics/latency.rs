//! How much faster one arm is than another, from rounds in which both were measured.

use serde::{Deserialize, Serialize};

use super::{
    Alpha, Interval, StatisticsError, binomial,
    error::lengths,
    quantile::{median, quantile, sorted},
};

/// The ratio of the times of two arms that were measured in turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedLatency {
    /// The number of rounds.
    pub rounds: usize,
    /// The times of the arm.
    pub arm: Times,
    /// The times of the reference.
    pub reference: Times,
    /// The median ratio of arm to reference: below 1, the arm is faster. It is `exp` of the median of the
    /// logarithms.
    pub ratio: f64,
    /// The interval of the ratio; none with too few rounds for the level (fewer than 6 for 0.05).
    pub interval: Option<RankInterval>,
}

/// The middle and the spread of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The median.
    pub median: f64,
    /// The 5 % quantile.
    pub low: f64,
    /// The 95 % quantile.
    pub high: f64,
}

/// An interval of a median that ends at two of the observed numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankInterval {
    /// It ends at the numbers of this rank, from 1, counted from both ends.
    pub rank: usize,
    /// The probability with which such an interval holds, at least `1 - alpha`.
    pub coverage: f64,
    /// The ends.
    #[serde(flatten)]
    pub ends: Interval,
}

impl PairedLatency {
    /// From the milliseconds of an arm and of its reference, `[rounds]` both, in the order of the rounds.
    ///
    /// The interval is that of the sign test (Hollander, Wolfe and Chicken 2014, "Nonparametric statistical
    /// methods", 3.6): exact for any distribution of the ratios, also with bursts. With the ratios in
    /// rising order it goes from number `k` to number `rounds + 1 - k`, where `k` is the largest with
    /// `P(Bin(rounds, 1/2) <= k - 1) <= alpha / 2`.
    ///
    /// # Errors
    ///
    /// If there are no rounds, the lengths differ, or a time is not finite and above 0.
    pub fn of(arm: &[f64], reference: &[f64], alpha: Alpha) -> Result<Self, StatisticsError> {
        lengths("times of the reference", reference.len(), arm.len())?;
        let arm_times = Times::of(arm)?;
        let reference_times = Times::of(reference)?;
        let pairs = arm.iter().zip(reference);
        let logarithms = sorted(pairs.map(|(arm, reference)| (arm / reference).ln()));
        let rounds = arm.len();
        let ratio = median(&logarithms).map_or(f64::NAN, f64::exp);
        Ok(Self {
            rounds,
            arm: arm_times,
            reference: reference_times,
            ratio,
            interval: rank(rounds, alpha).map(|rank| RankInterval {
                rank,
                coverage: 1.0 - 2.0 * below(rounds, rank),
                ends: Interval {
                    low: logarithms[rank - 1].exp(),
                    high: logarithms[rounds - rank].exp(),
                },
            }),
        })
    }
}

impl Times {
    fn of(milliseconds: &[f64]) -> Result<Self, StatisticsError> {
        let is_time = |time: &f64| time.is_finite() && *time > 0.0;
        if let Some(index) = milliseconds.iter().position(|time| !is_time(time)) {
            return Err(StatisticsError::Value {
                what: "time",
                index,
                value: milliseconds[index],
                expected: "a number of milliseconds above 0",
            });
        }
        let times = sorted(milliseconds.iter().copied());
        let at = |share| quantile(&times, share).ok_or(StatisticsError::NoExamples);
        Ok(Self {
            median: median(&times).ok_or(StatisticsError::NoExamples)?,
            low: at(0.05)?,
            high: at(0.95)?,
        })
    }
}

/// How likely fewer than `rank` of the rounds lie below the true median.
fn below(rounds: usize, rank: usize) -> f64 {
    binomial::lower_tail(rounds as u64, rank as u64 - 1)
}

/// The largest rank with at most `alpha / 2` below it.
fn rank(rounds: usize, alpha: Alpha) -> Option<usize> {
    let fits = |rank: &usize| below(rounds, *rank) <= alpha.value() / 2.0;
    (1..=rounds.div_ceil(2)).take_while(fits).last()
}

/// Whether the ratios of several starts of the process differ by more than the widest of their intervals, so
/// that something decided at the start (the placement of memory, the choice of a kernel) matters more
/// than what the rounds show. None if a start has no interval, or if there is none.
pub fn varies_by_start(starts: &[PairedLatency]) -> Option<bool> {
    let mut widest = 0.0_f64;
    for start in starts {
        let ends = start.interval?.ends;
        widest = widest.max(ends.high - ends.low);
    }
    let ratios = sorted(starts.iter().map(|start| start.ratio));
    Some(ratios.last()? - ratios.first()? > widest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{assert_near, assert_option_near, cases},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        a_ms: Vec<f64>,
        b_ms: Vec<f64>,
        median_a: f64,
        median_b: f64,
        a_5_percent: f64,
        a_95_percent: f64,
        expected: Expected,
    }

    #[derive(Deserialize)]
    struct Expected {
        ratio: f64,
        rank: Option<usize>,
        coverage: Option<f64>,
        low: Option<f64>,
        high: Option<f64>,
    }

    #[test]
    fn latencies_agree_with_the_reference() {
        for case in cases::<Case>("latency") {
            let found = PairedLatency::of(&case.a_ms, &case.b_ms, Alpha::default()).unwrap();
            let Expected {
                ratio,
                rank,
                coverage,
                low,
                high,
            } = case.expected;
            let name = &case.name;
            assert_near(found.arm.median, case.median_a, name);
            assert_near(found.arm.low, case.a_5_percent, name);
            assert_near(found.arm.high, case.a_95_percent, name);
            assert_near(found.reference.median, case.median_b, name);
            assert_near(found.ratio, ratio, name);
            let interval = found.interval;
            assert_eq!(interval.map(|interval| interval.rank), rank, "{name}");
            assert_option_near(interval.map(|interval| interval.coverage), coverage, name);
            assert_option_near(interval.map(|interval| interval.ends.low), low, name);
            assert_option_near(interval.map(|interval| interval.ends.high), high, name);
        }
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        let error = |arm: &[f64], reference: &[f64]| {
            PairedLatency::of(arm, reference, Alpha::default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(&[], &[]), "there are no examples to compare");
        assert_eq!(
            error(&[1.0], &[1.0, 2.0]),
            "2 times of the reference do not match 1"
        );
        assert_eq!(
            error(&[1.0, 0.0], &[1.0, 1.0]),
            "time number 1 (counted from 0) is 0, which is not a number of milliseconds above 0"
        );
    }

    /// Each start repeats the same ratios, moved as a whole.
    #[test]
    fn starts_vary_where_they_differ_by_more_than_an_interval() {
        let start = |factor: f64| {
            let arm: Vec<f64> = (0..20)
                .map(|round| factor * (1.0 + f64::from(round % 5) / 100.0))
                .collect();
            PairedLatency::of(&arm, &[1.0; 20], Alpha::default()).unwrap()
        };
        assert_eq!(
            varies_by_start(&[start(1.0), start(1.001), start(0.999)]),
            Some(false)
        );
        assert_eq!(
            varies_by_start(&[start(1.0), start(1.2), start(1.0)]),
            Some(true)
        );
        assert_eq!(varies_by_start(&[]), None);
        let few = PairedLatency::of(&[1.0], &[1.0], Alpha::default()).unwrap();
        assert_eq!(varies_by_start(&[start(1.0), few]), None);
    }

    proptest! {
        #[test]
        fn the_interval_contains_the_ratio_and_turns_with_the_sides(
            rounds in prop::collection::vec((0.1..10.0, 0.1..10.0), 1..60),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
            let forth = PairedLatency::of(&a, &b, Alpha::default()).unwrap();
            let back = PairedLatency::of(&b, &a, Alpha::default()).unwrap();
            prop_assert!((forth.ratio * back.ratio - 1.0).abs() < 1e-9);
            prop_assert_eq!(forth.interval.is_some(), a.len() >= 6);
            if let (Some(forth_interval), Some(back)) = (forth.interval, back.interval) {
                prop_assert!(forth_interval.coverage >= 0.95);
                prop_assert!(forth_interval.ends.contains(forth.ratio));
                prop_assert!((forth_interval.ends.low * back.ends.high - 1.0).abs() < 1e-9);
            }
        }
    }
}
