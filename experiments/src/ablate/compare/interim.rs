//! What the seeds of an arm say that are done so far. It has intervals and no verdict: to stop an ablation once a verdict looks
//! good would make the verdict wrong.

use std::borrow::Cow;

use super::{CompareError, JudgedArm, Measured};
use crate::{
    ablate::statistics::{Alpha, Interval, MetricValues, Unit, share_interval, two_way},
    examples::Parts,
};

/// A metric of an arm over the seeds that are done.
#[derive(Clone, Debug, PartialEq)]
pub struct Interim {
    /// What the metric is called.
    pub metric: String,
    /// The mean, in the unit of the scores.
    pub mean: f64,
    /// The interval of the mean; none where nothing varies.
    pub interval: Option<Interval>,
    /// By how much more it is than the reference; none where they have no seed in common or were judged on different examples.
    pub difference: Option<InterimDifference>,
}

/// A difference over the seeds that an arm and the reference have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InterimDifference {
    /// The number of these seeds.
    pub seeds: usize,
    /// The difference, times [`Unit::scale`] in what it is told in.
    pub difference: f64,
    /// The interval of the difference by itself, not of all arms at once; none where nothing varies.
    pub interval: Option<Interval>,
    /// In what it is told.
    pub unit: Unit,
}

impl Interim {
    /// A metric of an arm, and its difference from the reference, if that is another arm.
    ///
    /// # Errors
    ///
    /// If no example has parts of the metric, the seeds were judged on different examples, or a number is not finite.
    pub fn of(
        arm: &JudgedArm,
        reference: Option<&JudgedArm>,
        metric: &str,
        alpha: f64,
    ) -> Result<Self, CompareError> {
        let alpha = Alpha::new(alpha)?;
        let measured = Measured::of(arm, metric)?;
        let values = &measured.values;
        let splits = arm.seeds.values().flatten();
        let is_mean = |parts: &Parts| matches!(parts, Parts::Mean(_) | Parts::Percent(_));
        let mut parts = splits.filter_map(|split| split.metrics.get(metric));
        let share = if parts.all(is_mean) {
            share_interval(values, alpha).ok()
        } else {
            None
        };
        let interval = match share {
            Some(interval) => Some(interval),
            None => two_way(values).ok().and_then(|way| way.interval(alpha)),
        };
        let scaled = |value: f64| value * measured.scale;
        let difference = match reference {
            Some(reference) if reference.name != arm.name => {
                difference(arm, reference, metric, alpha)?
            }
            _ => None,
        };
        Ok(Self {
            metric: measured.told.to_owned(),
            mean: scaled(values.theta()),
            interval: interval.map(|interval| Interval {
                low: scaled(interval.low),
                high: scaled(interval.high),
            }),
            difference,
        })
    }
}

/// The difference on the seeds that both arms have.
fn difference(
    arm: &JudgedArm,
    reference: &JudgedArm,
    metric: &str,
    alpha: Alpha,
) -> Result<Option<InterimDifference>, CompareError> {
    let arms = [(arm, reference), (reference, arm)].map(|(arm, other)| in_common(arm, other));
    if arms[0].seeds.is_empty() {
        return Ok(None);
    }
    let [own, base] = [
        Measured::of(&arms[0], metric)?,
        Measured::of(&arms[1], metric)?,
    ];
    if !own.is_paired(&base) {
        return Ok(None);
    }
    let values: MetricValues = own.values.difference(&base.values)?;
    Ok(Some(InterimDifference {
        seeds: arms[0].seeds.len(),
        difference: values.theta(),
        interval: two_way(&values).ok().and_then(|way| way.interval(alpha)),
        unit: base.unit,
    }))
}

/// An arm with the seeds alone that another one has, too.
fn in_common<'a>(arm: &'a JudgedArm, other: &JudgedArm) -> Cow<'a, JudgedArm> {
    let is_common = |seed: &u64| other.seeds.contains_key(seed);
    if arm.seeds.keys().all(is_common) {
        return Cow::Borrowed(arm);
    }
    let mut arm = arm.clone();
    arm.seeds.retain(|seed, _| is_common(seed));
    Cow::Owned(arm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{Examples, share};

    /// An arm with these seeds, which is wrong on every so many of 100 examples.
    fn arm(
        name: &str,
        seeds: &[u64],
        wrong: usize,
        parts: fn(Vec<Option<f64>>) -> Parts,
    ) -> JudgedArm {
        let examples = |seed: u64| {
            let right = (0..100).map(|example| {
                let is_wrong = (example + seed as usize).is_multiple_of(wrong);
                Some(share(!is_wrong))
            });
            Examples {
                ids: (0..100).map(|example| example.to_string()).collect(),
                content: "same".to_owned(),
                groups: vec![],
                metrics: [("accuracy".to_owned(), parts(right.collect()))].into(),
            }
        };
        JudgedArm {
            name: name.to_owned(),
            seeds: seeds
                .iter()
                .map(|seed| (*seed, vec![examples(*seed)]))
                .collect(),
            failed: 0,
            is_dropped: false,
        }
    }

    #[test]
    fn a_difference_is_that_of_the_seeds_in_common() {
        let reference = arm("reference", &[1, 2], 10, Parts::Mean);
        let other = arm("other", &[2, 3, 4], 5, Parts::Mean);
        let found = Interim::of(&other, Some(&reference), "accuracy", 0.05).unwrap();
        assert!((found.mean - 0.8).abs() < 1e-12);
        assert!(found.interval.unwrap().contains(0.8));
        let difference = found.difference.unwrap();
        assert_eq!((difference.seeds, difference.unit), (1, Unit::Points));
        assert!((difference.difference + 0.1).abs() < 1e-12);
        assert!(difference.interval.unwrap().contains(-0.1));
        let later = arm("later", &[3], 5, Parts::Mean);
        let found = Interim::of(&later, Some(&reference), "accuracy", 0.05).unwrap();
        assert_eq!(found.difference, None);
        let found = Interim::of(&reference, Some(&reference), "accuracy", 0.05).unwrap();
        assert_eq!(found.difference, None);
    }

    #[test]
    fn percentages_are_told_as_such_and_other_data_are_not_compared() {
        let reference = arm("reference", &[1, 2], 10, Parts::Percent);
        let mut other = arm("other", &[1, 2], 5, Parts::Percent);
        let found = Interim::of(&other, Some(&reference), "accuracy", 0.05).unwrap();
        assert!((found.mean - 80.0).abs() < 1e-9);
        assert!(found.interval.unwrap().high > 80.0);
        assert!((found.difference.unwrap().difference + 0.1).abs() < 1e-12);
        for splits in other.seeds.values_mut() {
            splits[0].content = "of another file".to_owned();
        }
        let found = Interim::of(&other, Some(&reference), "accuracy", 0.05).unwrap();
        assert_eq!(found.difference, None);
        assert!(Interim::of(&other, None, "f1", 0.05).is_err());
    }
}
