//! All arms of an ablation against one of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{CompareError, JudgedArm, Measured, Question, refusal::refusal};
use crate::ablate::statistics::{
    Alpha, ComparisonStatistics, Direction, Interval, McNemar, MetricValues, RESAMPLES, Unit,
    Verdict, VerdictInput, compare_family, verdict,
};

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

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{arm, question},
        *,
    };
    use crate::{
        ablate::{arms::Margin, statistics::VerdictKind},
        examples::Parts,
    };

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
