//! What the arms of an ablation show against one of them.

mod factors;
mod interim;

pub use factors::{Effect, FactorWorth};
pub use interim::{Interim, InterimDifference};

use std::collections::{BTreeMap, BTreeSet};

use masformer_core::nearest::hint;
use serde::{Deserialize, Serialize};

use super::{
    arms::Margin,
    statistics::{
        Alpha, ComparisonStatistics, Direction, Groups, Interval, Jackknife, McNemar, MetricValues,
        RESAMPLES, Refusal, StatisticsError, Unit, Verdict, VerdictInput, bits_per_byte,
        compare_family, f1, matthews, mean, nats_per_token, pearson, spearman, verdict,
    },
};
use crate::examples::{Examples, Parts};

/// Arms that cannot be compared.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CompareError {
    /// The examples of an arm have no such metric.
    #[error("`{metric}` is no metric that examples have parts of; {hint}")]
    NoMetric {
        /// The metric.
        metric: String,
        /// The nearest one, or what there is.
        hint: String,
    },
    /// One seed was judged on other examples than the others.
    #[error("the seeds of `{0}` were judged on different examples")]
    Seeds(String),
    /// A number that is none, or a level that cannot be.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
}

/// An arm and, for each seed, the examples that it was judged on, by split.
#[derive(Clone, Debug)]
pub struct JudgedArm {
    /// Its name.
    pub name: String,
    /// By seed, by split.
    pub seeds: BTreeMap<u64, Vec<Examples>>,
    /// The number of seeds with which it failed.
    pub failed: usize,
    /// Whether other seeds than those that are reported decided to leave it out.
    pub is_dropped: bool,
}

impl JudgedArm {
    /// An arm without seeds.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            seeds: BTreeMap::new(),
            failed: 0,
            is_dropped: false,
        }
    }

    /// Whether its examples have parts of a metric.
    pub fn has_metric(&self, metric: &str) -> bool {
        let mut splits = self.seeds.values().flatten();
        splits.any(|split| split.metrics.contains_key(metric))
    }
}

/// What is asked of the comparisons.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The metric that decides.
    pub metric: &'a str,
    /// The difference that does not matter.
    pub margin: Option<Margin>,
    /// The level of tests and intervals.
    pub alpha: f64,
}

/// All arms against one.
#[derive(Clone, Debug)]
pub struct Comparisons {
    /// The difference that does not matter, in the unit of the metric.
    pub margin: Option<f64>,
    /// The other arms in their order.
    pub arms: Vec<Comparison>,
}

/// One arm against the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The arm that it is compared with.
    pub reference: String,
    /// The metric.
    pub metric: String,
    /// In what the metric is told.
    pub unit: Unit,
    /// The number of seeds of the reference.
    pub seeds: usize,
    /// The number of examples of the reference.
    pub examples: usize,
    /// The examples gained and lost with each seed; empty for metrics whose parts are not 0 or 1.
    pub mcnemar: Vec<McNemar>,
    /// The numbers; none where the arms cannot be compared.
    #[serde(flatten)]
    pub statistics: Option<ComparisonStatistics>,
    /// What follows.
    pub verdict: Verdict,
}

impl Comparison {
    /// The mean difference; none where the arms cannot be compared.
    pub fn difference(&self) -> Option<f64> {
        self.statistics.as_ref().map(|found| found.difference)
    }

    /// The interval that holds together with those of the other arms; none if nothing varies.
    pub fn interval(&self) -> Option<Interval> {
        self.statistics.as_ref()?.simultaneous.interval()
    }

    /// The p that decides.
    pub fn p(&self) -> Option<f64> {
        self.statistics.as_ref().map(ComparisonStatistics::p)
    }
}

impl Comparisons {
    /// Compares arms with the one at the place `reference`.
    ///
    /// # Errors
    ///
    /// If no example has parts of the metric, the seeds of an arm were judged on different examples, or a number is not
    /// finite.
    pub fn of(
        arms: &[JudgedArm],
        reference: usize,
        question: Question<'_>,
    ) -> Result<Self, CompareError> {
        let alpha = Alpha::new(question.alpha)?;
        let measured: Vec<Option<Measured<'_>>> = arms
            .iter()
            .map(|arm| {
                let is_judged = !arm.seeds.is_empty();
                is_judged
                    .then(|| Measured::of(arm, question.metric))
                    .transpose()
            })
            .collect::<Result<_, _>>()?;
        let seeds: BTreeSet<u64> = arms
            .iter()
            .flat_map(|arm| arm.seeds.keys())
            .copied()
            .collect();
        let base = &arms[reference];
        let of_base = measured[reference].as_ref();
        let margin = question.margin.zip(of_base);
        let margin = margin.map(|(margin, base)| base.margin(margin));
        let mut pairs = vec![];
        for (place, (arm, measured)) in arms.iter().zip(&measured).enumerate() {
            if place != reference {
                let refusal = refusal(arm, measured.as_ref(), base, of_base, seeds.len());
                pairs.push((arm, measured.as_ref().zip(of_base), refusal));
            }
        }
        let mut differences = vec![];
        for (_, pair, refusal) in &pairs {
            if let (Some((measured, base)), None) = (pair, refusal) {
                differences.push(measured.values.difference(&base.values)?);
            }
        }
        let statistics = match differences.as_slice() {
            [] => vec![],
            differences => compare_family(differences, alpha, RESAMPLES)?,
        };
        let mut paired = differences.iter().zip(statistics);
        let compared = pairs.into_iter().map(|(arm, pair, refusal)| {
            let found = match refusal {
                None => paired.next(),
                Some(_) => None,
            };
            let (difference, statistics) = found.unzip();
            let numbers = statistics.as_ref();
            let input = VerdictInput {
                arm: &arm.name,
                reference: &base.name,
                metric: of_base.map_or(question.metric, |base| base.told),
                unit: of_base.map_or(Unit::Plain, |base| base.unit),
                direction: of_base.map_or(Direction::HigherIsBetter, |base| base.direction),
                seeds: base.seeds.len(),
                examples: of_base.map_or(0, |base| base.ids.len()),
                alpha,
                margin,
                difference: numbers.map_or(0.0, |numbers| numbers.difference),
                interval: numbers.and_then(|numbers| numbers.simultaneous.interval()),
                p: numbers.map_or(1.0, ComparisonStatistics::p),
                identical: difference.is_some_and(MetricValues::is_zero),
                needs: numbers.and_then(|numbers| numbers.needs.seeds),
                refusal,
            };
            Comparison {
                arm: arm.name.clone(),
                reference: base.name.clone(),
                metric: question.metric.to_owned(),
                unit: input.unit,
                seeds: input.seeds,
                examples: input.examples,
                mcnemar: match (numbers, pair) {
                    (Some(_), Some((measured, base))) => measured.changed(base),
                    _ => vec![],
                },
                verdict: verdict(&input),
                statistics,
            }
        });
        Ok(Self {
            arms: compared.collect(),
            margin,
        })
    }

    /// The sentences of all verdicts, one per line.
    pub fn sentences(&self) -> String {
        let sentences = self.arms.iter();
        let lines = sentences.map(|arm| format!("{}\n", arm.verdict.sentence));
        lines.collect()
    }
}

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

/// Why an arm cannot be compared with the reference, if it cannot; `seeds` is the number of all.
fn refusal(
    arm: &JudgedArm,
    measured: Option<&Measured<'_>>,
    reference: &JudgedArm,
    of_reference: Option<&Measured<'_>>,
    seeds: usize,
) -> Option<Refusal> {
    if arm.is_dropped {
        return Some(Refusal::SeedsThatChose);
    }
    let is_paired = arm.seeds.keys().eq(reference.seeds.keys());
    if let (true, Some(measured), Some(base)) = (is_paired, measured, of_reference) {
        return (!measured.is_paired(base)).then_some(Refusal::DifferentExamples);
    }
    // The arm that lacks seeds, or the one that lacks more of them.
    let lacks = |arm: &JudgedArm| seeds - arm.seeds.len();
    let of = if lacks(arm) >= lacks(reference) {
        arm
    } else {
        reference
    };
    let seeds = seeds.max(of.failed + of.seeds.len());
    Some(match of.failed {
        0 => Refusal::MissingSeeds {
            arm: of.name.clone(),
            missing: seeds - of.seeds.len(),
            seeds,
        },
        failed => Refusal::FailedSeeds {
            arm: of.name.clone(),
            failed,
            seeds,
        },
    })
}

/// A metric of an arm, by seed and by example.
pub(super) struct Measured<'a> {
    pub(super) values: MetricValues,
    /// What each example got with each seed, for a metric that is a mean.
    right: Vec<Vec<f64>>,
    /// The examples that count.
    ids: Vec<&'a str>,
    /// What the metric is called in sentences.
    told: &'a str,
    unit: Unit,
    direction: Direction,
    /// By what a difference of scores is divided to be one of values.
    scale: f64,
    /// What the metric is made of, with the first seed.
    pub(super) parts: &'a Parts,
    /// What the examples are.
    content: &'a str,
}

impl<'a> Measured<'a> {
    /// A metric of an arm.
    ///
    /// # Errors
    ///
    /// If its examples have no such metric, its seeds were judged on different examples, or a number is not finite.
    pub(super) fn of(arm: &'a JudgedArm, metric: &'a str) -> Result<Self, CompareError> {
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
    fn margin(&self, margin: Margin) -> f64 {
        match margin {
            Margin::Points(points) => points / 100.0,
            Margin::Plain(difference) => difference / self.scale,
            Margin::Keeps(percent) => (1.0 - percent / 100.0) * self.values.theta().abs(),
        }
    }

    /// Whether each example of one is the example of the other at its place.
    fn is_paired(&self, other: &Self) -> bool {
        self.ids == other.ids && self.content == other.content
    }

    /// The examples that were gained and lost against another arm with each seed; empty where parts are not 0 or 1.
    fn changed(&self, other: &Self) -> Vec<McNemar> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::statistics::VerdictKind, *};
    use crate::examples::Classes;

    /// An arm that is right on all examples but those that a rule names, by seed and example.
    pub(super) fn arm(
        name: &str,
        seeds: usize,
        is_wrong: impl Fn(usize, usize) -> bool,
    ) -> JudgedArm {
        let examples = |seed: usize| {
            let right = |example| Some(crate::examples::share(!is_wrong(seed, example)));
            let right: Vec<Option<f64>> = (0..200).map(right).collect();
            let classes = Classes {
                predicted: right
                    .iter()
                    .map(|right| usize::from(*right == Some(1.0)))
                    .collect(),
                right: vec![1; 200],
            };
            Examples {
                ids: (0..200).map(|example| example.to_string()).collect(),
                content: "200".to_owned(),
                groups: vec![],
                metrics: BTreeMap::from([
                    ("accuracy".to_owned(), Parts::Mean(right)),
                    ("f1".to_owned(), Parts::F1(classes)),
                ]),
            }
        };
        JudgedArm {
            name: name.to_owned(),
            seeds: (0..seeds)
                .map(|seed| (seed as u64, vec![examples(seed)]))
                .collect(),
            failed: 0,
            is_dropped: false,
        }
    }

    pub(super) fn question(metric: &str) -> Question<'_> {
        Question {
            metric,
            margin: None,
            alpha: 0.05,
        }
    }

    #[test]
    fn a_clear_difference_is_decided_and_none_is_not() {
        let arms = [
            arm("worse", 6, |seed, example| {
                (example + seed).is_multiple_of(5)
            }),
            arm("reference", 6, |seed, example| {
                (example * 7 + seed).is_multiple_of(50)
            }),
            arm("same", 6, |seed, example| {
                (example * 7 + seed).is_multiple_of(50)
            }),
        ];
        for metric in ["accuracy", "f1"] {
            let found = Comparisons::of(&arms, 1, question(metric)).unwrap();
            assert_eq!((found.arms[0].seeds, found.arms[0].examples), (6, 200));
            let sentences = found.sentences();
            assert!(
                sentences.starts_with("worse loses to reference: "),
                "{sentences}"
            );
            assert!(
                sentences
                    .ends_with("same and reference agree on all 200 examples in all 6 seeds\n"),
                "{sentences}"
            );
        }
        let few: Vec<JudgedArm> = arms
            .iter()
            .map(|arm| JudgedArm {
                seeds: arm.seeds.clone().into_iter().take(3).collect(),
                ..arm.clone()
            })
            .collect();
        let found = Comparisons::of(&few, 1, question("accuracy")).unwrap();
        let sentence = &found.arms[0].verdict.sentence;
        assert!(sentence.contains("is not decided"), "{sentence}");
        assert!(
            sentence.contains("3 seeds cannot decide, 6 can"),
            "{sentence}"
        );
    }

    #[test]
    fn other_examples_get_no_verdict() {
        let mut other = arm("other", 6, |_, example| example == 3);
        for seed in other.seeds.values_mut() {
            seed[0].ids[0] = "new".to_owned();
        }
        let mut data = arm("data", 6, |_, example| example == 5);
        for seed in data.seeds.values_mut() {
            seed[0].content = "of another file".to_owned();
        }
        let arms = [arm("reference", 6, |_, example| example == 4), other, data];
        let found = Comparisons::of(&arms, 0, question("accuracy")).unwrap();
        let expected =
            "other against reference: no verdict: the arms were judged on different examples";
        assert_eq!(found.arms[0].verdict.sentence, expected);
        for arm in &found.arms {
            assert_eq!(arm.verdict.kind, VerdictKind::Refused);
            assert!(arm.statistics.is_none());
        }
        let error = Comparisons::of(&arms, 0, question("acuracy")).unwrap_err();
        assert!(
            error.to_string().contains("did you mean `accuracy`?"),
            "{error}"
        );
    }

    #[test]
    fn an_arm_with_fewer_seeds_gets_no_verdict() {
        let mut arms = [
            arm("reference", 6, |_, example| example == 4),
            arm("broken", 6, |_, example| example == 3),
            arm("late", 6, |_, example| example == 3),
            arm("gone", 0, |_, _| false),
        ];
        arms[1].seeds.remove(&2);
        arms[1].failed = 1;
        arms[2].seeds.remove(&5);
        arms[3].failed = 6;
        let found = Comparisons::of(&arms, 0, question("accuracy")).unwrap();
        let sentences = found.sentences();
        let mut lines = sentences.lines();
        for expected in [
            "1 of 6 seeds of broken failed; leaving them out would favour it",
            "1 of 6 seeds of late are missing; leaving them out could favour it",
            "6 of 6 seeds of gone failed; leaving them out would favour it",
        ] {
            let line = lines.next().unwrap();
            assert!(line.ends_with(expected), "{line}");
        }
        // Where the reference lacks them, it is the one to blame.
        let found = Comparisons::of(&arms, 1, question("accuracy")).unwrap();
        let sentence = &found.arms[0].verdict.sentence;
        assert!(sentence.contains("seeds of broken failed"), "{sentence}");
    }

    #[test]
    fn a_plain_margin_is_in_the_unit_of_the_scores() {
        let in_percent = |mut arm: JudgedArm| {
            for seed in arm.seeds.values_mut() {
                if let Some(parts) = seed[0].metrics.get_mut("accuracy")
                    && let Parts::Mean(values) = parts
                {
                    *parts = Parts::Percent(values.clone());
                }
            }
            arm
        };
        let arms = [
            arm("reference", 6, |seed, example| {
                (example * 7 + seed).is_multiple_of(10)
            }),
            arm("other", 6, |seed, example| {
                (example * 3 + seed).is_multiple_of(10)
            }),
        ];
        let kind = |arms: &[JudgedArm], margin| {
            let question = Question {
                margin: Some(Margin::Plain(margin)),
                ..question("accuracy")
            };
            let found = Comparisons::of(arms, 0, question).unwrap();
            found.arms[0].verdict.kind
        };
        assert_eq!(kind(&arms, 1.0), VerdictKind::Equivalent);
        let arms = arms.map(in_percent);
        assert_eq!(kind(&arms, 1.0), VerdictKind::Undecided);
        assert_eq!(kind(&arms, 50.0), VerdictKind::Equivalent);
    }

    #[test]
    fn examples_that_do_not_count_and_groups_are_left_to_the_statistics() {
        let with_groups = |name: &str, shift: usize| {
            let mut arm = arm(name, 6, |seed, example| {
                (example + seed + shift).is_multiple_of(9)
            });
            for seed in arm.seeds.values_mut() {
                let split = &mut seed[0];
                split.groups = (0..200).map(|example| (example / 4).to_string()).collect();
                if let Some(Parts::Mean(values)) = split.metrics.get_mut("accuracy") {
                    values[..40].fill(None);
                }
            }
            arm
        };
        let arms = [with_groups("reference", 0), with_groups("other", 3)];
        let found = Comparisons::of(&arms, 0, question("accuracy")).unwrap();
        assert_eq!(found.arms[0].examples, 160);
        assert!(found.arms[0].statistics.as_ref().unwrap().difference.abs() < 0.05);
    }
}
