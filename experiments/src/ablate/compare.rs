//! What the arms of an ablation show against one of them.

use masformer_core::nearest::hint;
use serde::Serialize;

use super::{
    arms::Margin,
    statistics::{
        Alpha, ComparisonStatistics, Direction, Groups, Jackknife, MetricValues, RESAMPLES,
        Refusal, StatisticsError, Unit, Verdict, VerdictInput, bits_per_byte, compare_family, f1,
        matthews, mean, nats_per_token, pearson, spearman, verdict,
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
    pub seeds: Vec<Vec<Examples>>,
}

impl JudgedArm {
    /// Whether its examples have parts of a metric.
    pub fn has_metric(&self, metric: &str) -> bool {
        let mut splits = self.seeds.iter().flatten();
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
#[derive(Clone, Debug, Serialize)]
pub struct Comparisons {
    /// The metric.
    pub metric: String,
    /// The level.
    pub alpha: Alpha,
    /// The arm that the others are compared with.
    pub reference: String,
    /// The number of seeds.
    pub seeds: usize,
    /// The number of examples.
    pub examples: usize,
    /// The other arms in their order.
    pub arms: Vec<Comparison>,
}

/// One arm against the reference.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The numbers; none where the arms were judged on different examples.
    #[serde(flatten)]
    pub statistics: Option<ComparisonStatistics>,
    /// What follows.
    pub verdict: Verdict,
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
        let measured: Vec<Measured<'_>> = arms
            .iter()
            .map(|arm| Measured::of(arm, question.metric))
            .collect::<Result<_, _>>()?;
        let base = &measured[reference];
        let others = || {
            let places = arms.iter().zip(&measured).enumerate();
            places
                .filter(|(place, _)| *place != reference)
                .map(|(_, arm)| arm)
        };
        let mut differences = vec![];
        for (_, measured) in others().filter(|(_, measured)| measured.is_paired(base)) {
            differences.push(measured.values.difference(&base.values)?);
        }
        let statistics = match differences.as_slice() {
            [] => vec![],
            differences => compare_family(differences, alpha, RESAMPLES)?,
        };
        let mut paired = differences.iter().zip(statistics);
        let compared = others().map(|(arm, measured)| {
            let found = if measured.is_paired(base) {
                paired.next()
            } else {
                None
            };
            let (difference, statistics) = found.unzip();
            let input = VerdictInput {
                arm: &arm.name,
                reference: &arms[reference].name,
                metric: base.told,
                unit: base.unit,
                direction: base.direction,
                seeds: base.values.by_seed().len(),
                examples: base.ids.len(),
                alpha,
                margin: question.margin.map(|margin| base.margin(margin)),
                difference: statistics
                    .as_ref()
                    .map_or(0.0, |numbers| numbers.difference),
                interval: statistics
                    .as_ref()
                    .and_then(|numbers| numbers.simultaneous.interval()),
                p: statistics
                    .as_ref()
                    .map_or(1.0, |numbers| numbers.p_adjusted),
                identical: difference.is_some_and(MetricValues::is_zero),
                needs: statistics.as_ref().and_then(|numbers| numbers.needs.seeds),
                refusal: statistics.is_none().then_some(Refusal::DifferentExamples),
            };
            Comparison {
                arm: arm.name.clone(),
                verdict: verdict(&input),
                statistics,
            }
        });
        Ok(Self {
            arms: compared.collect(),
            metric: question.metric.to_owned(),
            alpha,
            reference: arms[reference].name.clone(),
            seeds: base.values.by_seed().len(),
            examples: base.ids.len(),
        })
    }

    /// The sentences of all verdicts, one per line.
    pub fn sentences(&self) -> String {
        let sentences = self.arms.iter();
        let lines = sentences.map(|arm| format!("{}\n", arm.verdict.sentence));
        lines.collect()
    }
}

/// A metric of an arm, by seed and by example.
struct Measured<'a> {
    values: MetricValues,
    /// The examples that count.
    ids: Vec<&'a str>,
    /// What the metric is called in sentences.
    told: &'a str,
    unit: Unit,
    direction: Direction,
    /// By what a difference of scores is divided to be one of values.
    scale: f64,
    /// What the examples are.
    content: &'a str,
}

impl<'a> Measured<'a> {
    fn of(arm: &'a JudgedArm, metric: &'a str) -> Result<Self, CompareError> {
        let first = arm.seeds.first().ok_or(StatisticsError::NoSeeds)?;
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
        let mut seeds = vec![];
        for splits in &arm.seeds {
            let split = splits.get(place);
            let found = split.and_then(|split| Some((split, split.metrics.get(metric)?)));
            let (split, parts) = found.ok_or_else(|| CompareError::Seeds(arm.name.clone()))?;
            if split.ids != first[place].ids
                || counted(split, parts) != counted(&first[place], &first[place].metrics[metric])
            {
                return Err(CompareError::Seeds(arm.name.clone()));
            }
            seeds.push(jackknife(split, parts)?);
        }
        let split = &first[place];
        let parts = &split.metrics[metric];
        let (told, unit, direction) = match parts {
            Parts::BitsPerByte { .. } => ("bits per byte", Unit::Plain, Direction::LowerIsBetter),
            Parts::Perplexity { .. } => ("nats per token", Unit::Plain, Direction::LowerIsBetter),
            _ => (metric, Unit::Points, Direction::HigherIsBetter),
        };
        let ids = counted(split, parts).into_iter();
        Ok(Self {
            values: MetricValues::from_jackknife(&seeds)?,
            ids: ids.map(|index| split.ids[index].as_str()).collect(),
            told,
            unit,
            direction,
            scale: match parts {
                Parts::Percent(_) => 100.0,
                _ => 1.0,
            },
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
        self.ids == other.ids
            && self.content == other.content
            && self.values.by_seed().len() == other.values.by_seed().len()
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
    fn arm(name: &str, seeds: usize, is_wrong: impl Fn(usize, usize) -> bool) -> JudgedArm {
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
            seeds: (0..seeds).map(|seed| vec![examples(seed)]).collect(),
        }
    }

    fn question(metric: &str) -> Question<'_> {
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
            assert_eq!((found.seeds, found.examples), (6, 200));
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
                seeds: arm.seeds[..3].to_vec(),
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
        for seed in &mut other.seeds {
            seed[0].ids[0] = "new".to_owned();
        }
        let mut data = arm("data", 6, |_, example| example == 5);
        for seed in &mut data.seeds {
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
    fn a_plain_margin_is_in_the_unit_of_the_scores() {
        let in_percent = |mut arm: JudgedArm| {
            for seed in &mut arm.seeds {
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
            for seed in &mut arm.seeds {
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
        assert_eq!(found.examples, 160);
        assert!(found.arms[0].statistics.as_ref().unwrap().difference.abs() < 0.05);
    }
}
