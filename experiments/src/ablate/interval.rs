//! How sure the metrics of arms are.

use std::collections::BTreeMap;

use super::{
    compare::{CompareError, JudgedArm, Measured},
    statistics::{Alpha, Interval, MetricValues, StatisticsError, share_interval, two_way},
};
use crate::examples::Parts;

/// The interval of a metric of an arm, in the unit of its scores, by the examples that it was judged on with each seed.
///
/// Seeds and examples are both random; with one seed, the interval speaks of these models alone. Shares have
/// [`share_interval`]; metrics that are no means go by pseudo-values ([`two_way`]), and perplexity by nats per token. None where
/// nothing varies and the metric is no share, or where there is one example alone.
///
/// # Errors
///
/// If the examples have no parts of the metric, the seeds were judged on different examples, or a number is not finite.
pub fn interval_of(
    arm: &JudgedArm,
    metric: &str,
    alpha: Alpha,
) -> Result<Option<Interval>, CompareError> {
    let Measured { values, parts, .. } = Measured::of(arm, metric)?;
    let map = |interval: Interval, to: fn(f64) -> f64| Interval {
        low: to(interval.low),
        high: to(interval.high),
    };
    Ok(match parts {
        Parts::Mean(_) => share(&values, alpha)?,
        Parts::Percent(_) => share(&values, alpha)?.map(|it| map(it, |share| 100.0 * share)),
        Parts::Perplexity { .. } => plain(&values, alpha)?.map(|it| map(it, f64::exp)),
        Parts::F1(_)
        | Parts::Matthews(_)
        | Parts::Pearson(_)
        | Parts::Spearman(_)
        | Parts::BitsPerByte { .. } => plain(&values, alpha)?,
    })
}

/// The intervals of all metrics of some arms, by arm and metric. A metric that is not finite has none.
pub fn intervals<'a>(
    arms: impl IntoIterator<Item = &'a JudgedArm>,
    alpha: Alpha,
) -> BTreeMap<(String, String), Interval> {
    let arms = arms.into_iter().filter_map(|arm| {
        let splits = arm.seeds.values().next()?;
        let metrics = splits.iter().flat_map(|split| split.metrics.keys());
        let found = metrics.filter_map(move |metric| {
            let interval = interval_of(arm, metric, alpha).ok()??;
            Some(((arm.name.clone(), metric.clone()), interval))
        });
        Some(found)
    });
    arms.flatten().collect()
}

/// The interval of a mean of values from 0 to 1. Where examples come in groups, pseudo-values may lie outside.
fn share(values: &MetricValues, alpha: Alpha) -> Result<Option<Interval>, StatisticsError> {
    match share_interval(values, alpha) {
        Err(StatisticsError::Value { .. }) => {
            let whole = Interval {
                low: 0.0,
                high: 1.0,
            };
            Ok(plain(values, alpha)?.map(|interval| interval.clamp(whole)))
        }
        // A single example has Wilson's interval, unless there are seeds to be random.
        Err(StatisticsError::OneExample) => Ok(None),
        found => found.map(Some),
    }
}

fn plain(values: &MetricValues, alpha: Alpha) -> Result<Option<Interval>, StatisticsError> {
    match two_way(values) {
        Err(StatisticsError::OneExample) => Ok(None),
        found => Ok(found?.interval(alpha)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::statistics::wilson, *};
    use crate::examples::{Classes, Examples};

    /// An arm of some seeds, judged on 40 examples in groups of `group`, of which a rule says which are right.
    fn arm(seeds: usize, group: usize, is_right: impl Fn(usize, usize) -> bool) -> JudgedArm {
        let examples = |seed: usize| {
            let right: Vec<bool> = (0..40).map(|example| is_right(seed, example)).collect();
            let shares = || right.iter().map(|right| Some(f64::from(u8::from(*right))));
            let groups = (0..40).map(|example| (example / group).to_string());
            Examples {
                ids: (0..40).map(|example| example.to_string()).collect(),
                content: String::new(),
                groups: if group > 1 { groups.collect() } else { vec![] },
                metrics: BTreeMap::from([
                    ("accuracy".to_owned(), Parts::Mean(shares().collect())),
                    ("exact".to_owned(), Parts::Percent(shares().collect())),
                    (
                        "matthews".to_owned(),
                        Parts::Matthews(Classes {
                            predicted: right
                                .iter()
                                .enumerate()
                                .map(|(example, right)| usize::from(*right) ^ (example % 2))
                                .collect(),
                            right: (0..40).map(|example| 1 ^ (example % 2)).collect(),
                        }),
                    ),
                    (
                        "perplexity".to_owned(),
                        Parts::Perplexity {
                            nats: right
                                .iter()
                                .map(|right| if *right { 1.0 } else { 2.0 })
                                .collect(),
                            tokens: vec![1; 40],
                        },
                    ),
                ]),
            }
        };
        JudgedArm {
            seeds: (0..seeds)
                .map(|seed| (seed as u64, vec![examples(seed)]))
                .collect(),
            ..JudgedArm::new("arm")
        }
    }

    fn interval(arm: &JudgedArm, metric: &str) -> Option<Interval> {
        interval_of(arm, metric, Alpha::default()).unwrap()
    }

    #[test]
    fn a_share_of_one_seed_has_wilsons_interval() {
        let arm = arm(1, 1, |_, example| example >= 10);
        let expected = wilson(30.0, 40, Alpha::default()).unwrap();
        assert_eq!(interval(&arm, "accuracy"), Some(expected));
        let found = interval(&arm, "exact").unwrap();
        assert!((found.low - 100.0 * expected.low).abs() < 1e-9, "{found:?}");
        assert!(
            (found.high - 100.0 * expected.high).abs() < 1e-9,
            "{found:?}"
        );
    }

    #[test]
    fn every_metric_lies_in_its_interval() {
        let arm = arm(3, 1, |seed, example| !(example + seed).is_multiple_of(4));
        for (metric, value) in [
            ("accuracy", 0.75),
            ("exact", 75.0),
            ("matthews", 1.0 / 3.0_f64.sqrt()),
            ("perplexity", 1.25_f64.exp()),
        ] {
            let found = interval(&arm, metric).unwrap();
            assert!(found.contains(value), "{metric}: {found:?}");
            assert!(found.half_width() > 0.0, "{metric}: {found:?}");
        }
        assert!(interval_of(&arm, "f1", Alpha::default()).is_err());
        assert_eq!(intervals([&arm], Alpha::default()).len(), 4);
    }

    #[test]
    fn groups_make_an_interval_wider_and_a_share_stays_one() {
        let is_right = |_: usize, example: usize| example >= 4;
        let single = interval(&arm(3, 1, is_right), "accuracy").unwrap();
        let grouped = interval(&arm(3, 4, is_right), "accuracy").unwrap();
        assert!(grouped.half_width() > single.half_width());
        assert!(grouped.high <= 1.0, "{grouped:?}");
    }

    #[test]
    fn what_does_not_vary_has_no_interval_unless_it_is_a_share() {
        let arm = arm(2, 1, |_, _| true);
        assert!(interval(&arm, "accuracy").is_some());
        assert_eq!(interval(&arm, "perplexity"), None);
    }
}
