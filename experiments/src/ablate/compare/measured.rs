//! A metric of an arm, in the numbers that statistics work with.

use masformer_core::nearest::hint;

use super::{CompareError, JudgedArm};
use crate::{
    ablate::{
        arms::Margin,
        statistics::{
            Direction, Groups, Jackknife, McNemar, MetricValues, StatisticsError, Unit,
            bits_per_byte, f1, matthews, mean, nats_per_token, pearson, spearman,
        },
    },
    examples::{Examples, Parts},
};

/// The mean of a metric over the seeds of an arm, and which values of it are better.
///
/// # Errors
///
/// If the examples have no parts of the metric, the seeds were judged on different examples, or a number is not finite.
pub fn mean_of(arm: &JudgedArm, metric: &str) -> Result<(f64, Direction), CompareError> {
    let measured = Measured::of(arm, metric)?;
    Ok((measured.values.theta(), measured.direction))
}

/// Which values of a metric of these parts are better.
pub fn direction(parts: &Parts) -> Direction {
    match parts {
        Parts::BitsPerByte { .. } | Parts::Perplexity { .. } => Direction::LowerIsBetter,
        _ => Direction::HigherIsBetter,
    }
}

/// A metric of an arm, by seed and by example.
pub(in crate::ablate) struct Measured<'a> {
    pub(in crate::ablate) values: MetricValues,
    /// What each example got with each seed, for a metric that is a mean.
    right: Vec<Vec<f64>>,
    /// The examples that count.
    pub(super) ids: Vec<&'a str>,
    /// What the metric is called in sentences.
    pub(super) told: &'a str,
    pub(super) unit: Unit,
    pub(super) direction: Direction,
    /// By what a difference of scores is divided to be one of values.
    pub(super) scale: f64,
    /// What the metric is made of, with the first seed.
    pub(in crate::ablate) parts: &'a Parts,
    /// What the examples are.
    content: &'a str,
}

impl<'a> Measured<'a> {
    /// A metric of an arm.
    ///
    /// # Errors
    ///
    /// If its examples have no such metric, its seeds were judged on different examples, or a number is not finite.
    pub(in crate::ablate) fn of(arm: &'a JudgedArm, metric: &'a str) -> Result<Self, CompareError> {
        let first = arm.seeds.values().next().ok_or(StatisticsError::NoSeeds)?;
        let place = first
            .iter()
            .position(|split| split.metrics.contains_key(metric));
        let place = place.ok_or_else(|| {
            let known = first.iter().flat_map(|split| split.metrics.keys());
            let known: Vec<&str> = known.map(String::as_str).collect();
            CompareError::NoMetric {
                metric: metric.to_owned(),
                hint: hint(metric, &known),
            }
        })?;
        let (mut seeds, mut right) = (vec![], vec![]);
        for splits in arm.seeds.values() {
            let split = splits.get(place);
            let found = split.and_then(|split| Some((split, split.metrics.get(metric)?)));
            let (split, parts) = found.ok_or_else(|| CompareError::Seeds(arm.name.clone()))?;
            if split.ids != first[place].ids
                || counted(split, parts) != counted(&first[place], &first[place].metrics[metric])
            {
                return Err(CompareError::Seeds(arm.name.clone()));
            }
            seeds.push(jackknife(split, parts)?);
            if let Parts::Mean(values) | Parts::Percent(values) = parts {
                right.push(values.iter().copied().flatten().collect());
            }
        }
        let split = &first[place];
        let parts = &split.metrics[metric];
        let (told, unit) = match parts {
            Parts::BitsPerByte { .. } => ("bits per byte", Unit::Plain),
            Parts::Perplexity { .. } => ("nats per token", Unit::Plain),
            _ => (metric, Unit::Points),
        };
        let ids = counted(split, parts).into_iter();
        Ok(Self {
            values: MetricValues::from_jackknife(&seeds)?,
            right,
            ids: ids.map(|index| split.ids[index].as_str()).collect(),
            told,
            unit,
            direction: direction(parts),
            scale: match parts {
                Parts::Percent(_) => 100.0,
                _ => 1.0,
            },
            parts,
            content: &split.content,
        })
    }

    /// A difference that does not matter, in the unit of the values; a share that is kept is that of the mean.
    pub(super) fn margin(&self, margin: Margin) -> f64 {
        match margin {
            Margin::Points(points) => points / 100.0,
            Margin::Plain(difference) => difference / self.scale,
            Margin::Keeps(percent) => (1.0 - percent / 100.0) * self.values.theta().abs(),
        }
    }

    /// Whether each example of one is the example of the other at its place.
    pub(super) fn is_paired(&self, other: &Self) -> bool {
        self.ids == other.ids && self.content == other.content
    }

    /// The examples that were gained and lost against another arm with each seed; empty where parts are not 0 or 1.
    pub(super) fn changed(&self, other: &Self) -> Vec<McNemar> {
        let rows = self.right.iter().zip(&other.right);
        let tests = rows.map(|(own, other)| McNemar::of(own, other));
        tests.collect::<Result<_, _>>().unwrap_or_default()
    }
}

/// The places of the examples that count.
fn counted(split: &Examples, parts: &Parts) -> Vec<usize> {
    match parts {
        Parts::Mean(values) | Parts::Percent(values) => {
            let values = values.iter().enumerate();
            let counted = values.filter(|(_, value)| value.is_some());
            counted.map(|(index, _)| index).collect()
        }
        _ => (0..split.ids.len()).collect(),
    }
}

/// The metric of one seed with the pseudo-value of each example or group.
fn jackknife(split: &Examples, parts: &Parts) -> Result<Jackknife, StatisticsError> {
    let counted = counted(split, parts);
    let groups = if split.groups.is_empty() {
        Groups::single(counted.len())
    } else {
        let keys = counted.iter().filter_map(|index| split.groups.get(*index));
        Groups::from_keys(&keys.collect::<Vec<_>>())
    };
    match parts {
        Parts::Mean(values) | Parts::Percent(values) => {
            let values: Vec<f64> = values.iter().copied().flatten().collect();
            mean(&values, &groups)
        }
        Parts::F1(classes) => f1(&classes.predicted, &classes.right, &groups),
        Parts::Matthews(classes) => matthews(&classes.predicted, &classes.right, &groups),
        Parts::Pearson(numbers) => pearson(&numbers.predicted, &numbers.right, &groups),
        Parts::Spearman(numbers) => spearman(&numbers.predicted, &numbers.right, &groups),
        Parts::BitsPerByte { nats, bytes } => bits_per_byte(nats, bytes, &groups),
        Parts::Perplexity { nats, tokens } => nats_per_token(nats, tokens, &groups),
    }
}
